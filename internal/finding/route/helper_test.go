package route

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A fixture is a store with a deliverer whose clock the test moves.
type fixture struct {
	*Deliverer
	now time.Time
	log bytes.Buffer
	dir string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{now: t0, dir: t.TempDir()}
	f.Deliverer = &Deliverer{
		Store: &finding.Store{Dir: filepath.Join(f.dir, "findings"), Random: rand.Reader}, Host: "host-1",
		Now: func() time.Time { return f.now }, Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	return f
}

// file writes a file with a secret in it.
func (f *fixture) file(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(f.dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (f *fixture) webhook(t *testing.T, name, url string) Route {
	t.Helper()
	secret, err := NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Route{Name: name, Type: Webhook, URL: url, SecretFile: f.file(t, name+".secret", string(secret)), Minimum: finding.Low}
}

func (f *fixture) add(t *testing.T, r Route) {
	t.Helper()
	if err := Add(t.Context(), f.Store, r); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) apply(t *testing.T, signals ...finding.Signal) {
	t.Helper()
	if err := f.Store.Update(t.Context(), f.now, func(b *finding.Book) error { return b.Apply(f.now, signals...) }); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) deliver(t *testing.T) time.Time {
	t.Helper()
	wake, err := f.pass(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return wake
}

func (f *fixture) waiting(t *testing.T) int {
	t.Helper()
	n, err := f.left()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func failed(machine string) finding.Signal {
	return finding.Signal{Kind: finding.LateBootFailed, Machine: machine, Boot: 7, Reasons: []evidence.Reason{{Code: "integrity.late-boot-mismatch", Message: `kernel "a]" -> b`, Component: "kernel"}}}
}

func over(machine string) finding.Signal {
	return finding.Signal{Kind: finding.LateBootFailed, Machine: machine, Ends: true}
}

// A receiver keeps what is posted to it.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex // guards what follows
	status int
	got    []received
}

type received struct {
	path   string
	header http.Header
	text   []byte
	body   body
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		text, err := io.ReadAll(q.Body)
		got := received{q.URL.Path, q.Header, text, body{}}
		if q.Header.Get("Webhook-Id") != "" {
			err = errors.Join(err, json.Unmarshal(text, &got.body))
		}
		if err != nil {
			t.Errorf("what arrives: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, got)
		if r.status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(r.status)
		io.WriteString(w, "the answer has a secret") //nolint:errcheck // a test
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// events are what webhooks were told, as machine and event.
func (r *receiver) events() (out []string) {
	for _, g := range r.all() {
		out = append(out, g.body.Data.Finding.Machine+" "+g.body.Data.Event)
	}
	return out
}

// eventually waits for something that another goroutine or process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("%s: not in 30 seconds", what)
		}
	}
}

func trimmed(b []byte) string { return strings.TrimSpace(string(b)) }
