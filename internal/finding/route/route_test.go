package route

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/finding"
)

func TestRoutesAreChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		r    Route
		want string // in the error; empty for a good route
	}{
		"webhook":             {Route{Name: "a", Type: Webhook, URL: "https://example.com/x", SecretFile: "/s", Minimum: finding.Low}, ""},
		"alertmanager":        {Route{Name: "a", Type: Alertmanager, URL: "http://127.0.0.1:9093", Minimum: finding.Medium}, ""},
		"syslog, UDP":         {Route{Name: "a", Type: Syslog, URL: "udp://localhost:514", Minimum: finding.High}, ""},
		"syslog, socket":      {Route{Name: "a", Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Low}, ""},
		"plain, as was said":  {Route{Name: "a", Type: Syslog, URL: "udp://log.example.com:514", AllowPlain: true, Minimum: finding.Low}, ""},
		"no name":             {Route{Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Low}, "name"},
		"longest name":        {Route{Name: strings.Repeat("a", 63), Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Low}, ""},
		"name too long":       {Route{Name: strings.Repeat("a", 64), Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Low}, "name"},
		"name of a path":      {Route{Name: "../a", Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Low}, "name"},
		"other type":          {Route{Name: "a", Type: "mail", URL: "https://example.com", Minimum: finding.Low}, "type"},
		"other scheme":        {Route{Name: "a", Type: Alertmanager, URL: "ftp://example.com", Minimum: finding.Low}, "begins with none"},
		"password in address": {Route{Name: "a", Type: Alertmanager, URL: "https://u:hidden@example.com", Minimum: finding.Low}, "user or password"},
		"no host":             {Route{Name: "a", Type: Alertmanager, URL: "https:///x", Minimum: finding.Low}, "no receiver"},
		"relative socket":     {Route{Name: "a", Type: Syslog, URL: "unix:log", Minimum: finding.Low}, "not absolute"},
		"no port":             {Route{Name: "a", Type: Syslog, URL: "udp://localhost", Minimum: finding.Low}, "no port"},
		"unsigned webhook":    {Route{Name: "a", Type: Webhook, URL: "https://example.com", Minimum: finding.Low}, "secret file"},
		"signed syslog":       {Route{Name: "a", Type: Syslog, URL: "unix:///dev/log", SecretFile: "/s", Minimum: finding.Low}, "secret file"},
		"token for syslog":    {Route{Name: "a", Type: Syslog, URL: "unix:///dev/log", TokenFile: "/s", Minimum: finding.Low}, "no token"},
		"plain on a network":  {Route{Name: "a", Type: Alertmanager, URL: "http://10.0.0.1:9093", Minimum: finding.Low}, "no TLS"},
		"plain syslog":        {Route{Name: "a", Type: Syslog, URL: "tcp://log.example.com:514", Minimum: finding.Low}, "no TLS"},
		"relative file":       {Route{Name: "a", Type: Webhook, URL: "https://example.com", SecretFile: "s", Minimum: finding.Low}, "absolute"},
		"no severity":         {Route{Name: "a", Type: Syslog, URL: "unix:///dev/log"}, "severity"},
		"no URL":              {Route{Name: "a", Type: Alertmanager, URL: "https://hidden\x7f", Minimum: finding.Low}, "no URL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.r.Check()
			switch {
			case (err == nil) != (tc.want == ""), err != nil && !errors.Is(err, ErrRoute):
				t.Errorf("Check = %v, want %q", err, tc.want)
			case err != nil && (!strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden")):
				t.Errorf("Check = %v, want %q and no secret", err, tc.want)
			}
		})
	}
}

func TestAddressesAreShownWithoutSecrets(t *testing.T) {
	for url, want := range map[string]string{
		"https://hooks.example.com/services/T00/secret": "https://hooks.example.com/…",
		"https://example.com/?token=secret":             "https://example.com/…",
		"http://127.0.0.1:9093/":                        "http://127.0.0.1:9093",
		"unix:///dev/log":                               "unix:///dev/log",
	} {
		if got := (&Route{URL: url}).Shown(); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}

func TestRoutesAreAddedAndRemoved(t *testing.T) {
	f := newFixture(t)
	b, a := f.webhook(t, "b", "https://example.com/x"), Route{Name: "a", Type: Syslog, URL: "unix:///dev/log", Minimum: finding.Medium}
	f.apply(t, failed("before"))
	f.add(t, b)
	f.add(t, a)
	if err := Add(t.Context(), f.Store, a); !errors.Is(err, ErrExists) {
		t.Errorf("the second of one name: %v", err)
	}
	if got, err := Load(f.Store.Dir); err != nil || cmp.Diff([]Route{a, b}, got) != "" {
		t.Errorf("Load = %v, %v", got, err)
	}
	f.apply(t, failed("after"))
	if n := f.waiting(t); n != 1 {
		t.Errorf("%d changes are queued, want what came after the first route", n)
	}
	text, err := os.ReadFile(filepath.Join(f.Store.Dir, routesFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := range trimmed(text) {
		if _, err := Parse(text[:n]); !errors.Is(err, finding.ErrFormat) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	for _, change := range [][2]string{{`"name"`, `"nam"`}, {`"oldestReader": 1`, `"oldestReader": 2`}, {`"a"`, `"c"`}, {`"medium"`, `"some"`}, {`"syslog"`, `"mail"`}} {
		if _, err := Parse(bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)); !errors.Is(err, finding.ErrFormat) {
			t.Errorf("%s for %s: %v", change[1], change[0], err)
		}
	}
	for _, name := range []string{"a", "b"} {
		if err := Remove(t.Context(), f.Store, name, t0); err != nil {
			t.Fatal(err)
		}
	}
	if err := Remove(t.Context(), f.Store, "a", t0); !errors.Is(err, ErrNone) {
		t.Errorf("removed twice: %v", err)
	}
	f.apply(t, over("before"))
	if n := f.waiting(t); n != 0 {
		t.Errorf("%d changes are queued for nobody", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":"assay finding routes","version":1,"oldestReader":1,"routes":[{"name":"a","type":"syslog","url":"unix:///dev/log","minimum":"low"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		routes, err := Parse(text)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := save(dir, routes); err != nil {
			t.Fatal(err)
		}
		if again, err := Load(dir); err != nil || !cmp.Equal(again, append([]Route{}, routes...)) {
			t.Fatalf("Load = %v, %v, want %v", again, err, routes)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":"7","failures":2,"since":"2026-03-01T12:00:00Z","problem":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCursor(text)
		if err != nil {
			return
		}
		once, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseCursor(once); err != nil || !cmp.Equal(again, c) {
			t.Fatalf("%s is read as %v, %v", once, again, err)
		}
	})
}

// The signature is computed here as a receiver does it by the standard's own words.
func TestWebhooksAreSigned(t *testing.T) {
	f, r := newFixture(t), receive(t)
	hook := f.webhook(t, "hook", r.URL+"/x")
	hook.TokenFile = f.file(t, "token", "abc\n")
	f.add(t, hook)
	f.apply(t, failed("web-1"))
	f.deliver(t)
	got := r.all()
	if len(got) != 1 || f.waiting(t) != 0 {
		t.Fatalf("%d messages came and %d wait", len(got), f.waiting(t))
	}
	h := got[0].header
	text, err := os.ReadFile(hook.SecretFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(trimmed(text), "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "."))
	mac.Write(got[0].text)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", h.Get("webhook-signature"), want)
	}
	if h.Get("webhook-timestamp") != "1772366400" || !strings.HasSuffix(h.Get("webhook-id"), "-1") || h.Get("authorization") != "Bearer abc" || got[0].path != "/x" {
		t.Errorf("header %v of %s", h, got[0].path)
	}
	b := got[0].body
	if b.Type != "finding.open" || b.Host != "host-1" || b.Data.Finding.Kind != finding.LateBootFailed || b.Data.Finding.Reasons[0].Component != "kernel" {
		t.Errorf("body %+v", b)
	}
}

func TestSecretsMustBeStrong(t *testing.T) {
	f := newFixture(t)
	for name, text := range map[string]string{
		"empty": "", "two lines": "whsec_AAAA\nBBBB", "no prefix": base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"short": "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)), "no base64": "whsec_%%%%", "large": strings.Repeat("x", 5000),
	} {
		if key, err := secretOf(f.file(t, "s", text)); err == nil {
			t.Errorf("%s: %d bytes", name, key.Len())
		}
	}
	if _, err := secretOf(filepath.Join(f.dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestAttemptsGoOnWithPauses(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL+"/hidden-path?hidden"))
	f.apply(t, failed("web-1"))
	r.answer(http.StatusInternalServerError)
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		wake := f.deliver(t)
		if got := wake.Sub(f.now); got != want*time.Second {
			t.Fatalf("next attempt in %s, want %s", got, want*time.Second)
		}
		before := len(r.all())
		if f.deliver(t); len(r.all()) != before {
			t.Fatal("an attempt before its time")
		}
		f.now = wake
	}
	f.apply(t, over("web-1"))
	r.answer(http.StatusOK)
	f.deliver(t)
	got := r.all()
	last := got[len(got)-2:]
	if f.waiting(t) != 0 || last[0].body.Data.Event != "open" || last[1].body.Data.Event != "resolved" {
		t.Errorf("%d wait; the last were %v", f.waiting(t), r.events()[len(got)-2:])
	}
	if last[0].header.Get("Webhook-Id") != got[0].header.Get("Webhook-Id") {
		t.Error("another attempt has another identifier")
	}
	if log := f.log.String(); !strings.Contains(log, "500") || strings.Contains(log, "hidden") || strings.Contains(log, "secret") {
		t.Errorf("log: %s", log)
	}
}

func TestWhatIsGivenUpIsKept(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		after  time.Duration
	}{"a day": {http.StatusServiceUnavailable, 24 * time.Hour}, "refused for good": {http.StatusUnprocessableEntity, 0}} {
		t.Run(name, func(t *testing.T) {
			f, r, other := newFixture(t), receive(t), receive(t)
			f.add(t, f.webhook(t, "hook", r.URL))
			f.add(t, f.webhook(t, "other", other.URL))
			f.apply(t, failed("web-1"))
			r.answer(tc.status)
			f.deliver(t)
			f.now = f.now.Add(tc.after)
			f.deliver(t)
			text, err := os.ReadFile(filepath.Join(deliveryDir(f.Store), deadFile))
			if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"route":"hook"`) || !strings.Contains(string(text), `"machine":"web-1"`) {
				t.Fatalf("given up: %q, %v", text, err)
			}
			f.deliver(t)
			b, err := f.Store.Load()
			if err != nil || !b.Lasts(finding.Signal{Kind: finding.DeliveryFailed, Component: "route hook"}) {
				t.Errorf("what was given up is no finding: %v", err)
			}
			if diff := cmp.Diff([]string{"web-1 open", " open"}, other.events()); diff != "" {
				t.Errorf("the other route (-want +got):\n%s", diff)
			}
			r.answer(http.StatusOK)
			f.now = f.now.Add(time.Hour)
			f.apply(t, finding.Signal{Kind: finding.SecureBootOff, Machine: "web-2"})
			f.deliver(t)
			f.deliver(t)
			if diff := cmp.Diff([]string{"web-1 open", " open", "web-2 open", " resolved"}, other.events()); diff != "" {
				t.Errorf("the other route afterwards (-want +got):\n%s", diff)
			}
			if b, err = f.Store.Load(); err != nil || b.Lasts(finding.Signal{Kind: finding.DeliveryFailed, Component: "route hook"}) {
				t.Errorf("a route that works again is still a finding: %v", err)
			}
		})
	}
}

// A receiver that redirects is not followed: what was signed for it is for no other.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL+"/x"))
	f.apply(t, failed("web-1"))
	r.answer(http.StatusFound)
	f.deliver(t)
	if got := r.all(); len(got) != 1 || f.waiting(t) != 1 {
		t.Errorf("%d requests, %d wait; want 1 and 1", len(got), f.waiting(t))
	}
}

func TestASlowRouteHoldsNoOtherUp(t *testing.T) {
	f, good := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "away", "http://127.0.0.1:1/"))
	f.add(t, f.webhook(t, "good", good.URL))
	f.apply(t, failed("web-1"))
	f.deliver(t)
	f.apply(t, over("web-1"))
	f.deliver(t)
	if diff := cmp.Diff([]string{"web-1 open", "web-1 resolved"}, good.events()); diff != "" || f.waiting(t) != 2 {
		t.Errorf("%d wait (-want +got):\n%s", f.waiting(t), diff)
	}
}

func TestSeverityDecidesWhoIsTold(t *testing.T) {
	f, r := newFixture(t), receive(t)
	hook := f.webhook(t, "hook", r.URL)
	hook.Minimum = finding.Medium
	f.add(t, hook)
	f.apply(t, finding.Signal{Kind: finding.SecureBootOff, Machine: "low"}, failed("medium"))
	f.deliver(t)
	f.deliver(t)
	if diff := cmp.Diff([]string{"medium open"}, r.events()); diff != "" || f.waiting(t) != 0 {
		t.Errorf("%d wait (-want +got):\n%s", f.waiting(t), diff)
	}
}

func TestTheEndOfASuppressionIsTold(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	err := f.Store.Update(t.Context(), t0, func(b *finding.Book) error {
		return b.Suppress(finding.Suppression{Kind: finding.LateBootFailed, Machine: "web-1", Reason: "r", Author: "a", Made: t0, Until: t0.Add(time.Hour)})
	})
	if err != nil {
		t.Fatal(err)
	}
	f.apply(t, failed("web-1"))
	if wake := f.deliver(t); !wake.Equal(t0.Add(time.Hour)) || len(r.all()) != 0 {
		t.Fatalf("wakes at %s after %d messages", wake, len(r.all()))
	}
	f.now = t0.Add(time.Hour)
	f.deliver(t)
	if diff := cmp.Diff([]string{"web-1 open"}, r.events()); diff != "" {
		t.Errorf("after the end (-want +got):\n%s", diff)
	}
}

func TestDamageHoldsNothingUp(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	f.apply(t, failed("web-1"), failed("web-2"))
	if err := os.WriteFile(filepath.Join(f.Store.QueueDir(), "00000000000000000001.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cursorFile(f.Store, "hook"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.deliver(t)
	f.deliver(t)
	f.deliver(t)
	if diff := cmp.Diff([]string{"web-2 open"}, r.events()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARouteThatIsRemovedFailsNoMore(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	f.add(t, f.webhook(t, "other", r.URL))
	lost := func(name string) finding.Signal {
		return finding.Signal{Kind: finding.DeliveryFailed, Component: "route " + name}
	}
	f.apply(t, lost("hook"), lost("other"))
	r.answer(http.StatusServiceUnavailable)
	f.deliver(t)
	if err := Remove(t.Context(), f.Store, "hook", t0); err != nil {
		t.Fatal(err)
	}
	b, err := f.Store.Load()
	if err != nil || b.Lasts(lost("hook")) || !b.Lasts(lost("other")) {
		t.Errorf("after the removal of one: %v", err)
	}
	if _, err := os.Stat(cursorFile(f.Store, "hook")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its place in the queue: %v", err)
	}
}

func TestAFullQueueEndsWhenItIsEmpty(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	f.apply(t, finding.QueueFull())
	f.deliver(t)
	f.deliver(t)
	b, err := f.Store.Load()
	if err != nil || b.Lasts(finding.QueueFull()) {
		t.Errorf("an empty queue is full: %v", err)
	}
}

func TestTestAlertsGoStraight(t *testing.T) {
	f, r := newFixture(t), receive(t)
	if _, err := f.Try(t.Context(), ""); !errors.Is(err, ErrNone) {
		t.Errorf("without a route: %v", err)
	}
	f.add(t, f.webhook(t, "away", "http://127.0.0.1:1/hidden"))
	f.add(t, f.webhook(t, "hook", r.URL))
	got, err := f.Try(t.Context(), "")
	if err != nil || len(got) != 2 || got[0].Sent || got[0].Problem == "" || strings.Contains(got[0].Problem, "hidden") || !got[1].Sent {
		t.Errorf("Try = %+v, %v", got, err)
	}
	if all := r.all(); len(all) != 1 || all[0].body.Data.Finding.Kind != finding.Test || all[0].body.Type != "finding.test" || f.waiting(t) != 0 {
		t.Errorf("%d messages", len(all))
	}
	if got, err := f.Try(t.Context(), "hook"); err != nil || len(got) != 1 {
		t.Errorf("Try of one = %v, %v", got, err)
	}
}

func TestDeadLettersAreWholeLinesAndBounded(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, deadFile)
	if err := os.WriteFile(name, []byte(`{"torn`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := appendLine(dir, []byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(name); string(got) != "{\"torn\n{\"a\":1}\n" {
		t.Errorf("after a torn line: %q", got)
	}
	if err := os.Truncate(name, maxDead); err != nil {
		t.Fatal(err)
	}
	if err := appendLine(dir, []byte(`{"b":1}`)); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(name); string(got) != "{\"b\":1}\n" {
		t.Errorf("after a full file: %q", got)
	}
	if info, err := os.Stat(filepath.Join(dir, oldDeadFile)); err != nil || info.Size() != maxDead {
		t.Errorf("the file before: %v, %v", info, err)
	}
}
