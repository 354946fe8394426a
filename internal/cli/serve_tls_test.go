package cli

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
)

// selfMade are the certificates of a new service whose clock the test moves.
func selfMade(t *testing.T) (c *certificates, now *time.Time) {
	t.Helper()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	env := programtest.Env(io.Discard, io.Discard)
	env.Now = func() time.Time { return at }
	data := t.TempDir()
	keys, err := program.KeySource{}.Open(env, data)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := openCA(t.Context(), env, keys, data)
	if err != nil {
		t.Fatal(err)
	}
	return &certificates{env: env, ca: ca, hosts: []string{"localhost"}, file: "ca.pem"}, &at
}

func mustGet(t *testing.T, c *certificates) *tls.Certificate {
	t.Helper()
	cert, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestServerCertificateIsRenewedWhenAThirdOfItsLifeIsLeft(t *testing.T) {
	c, now := selfMade(t)
	first := mustGet(t, c)
	third := first.Leaf.NotAfter.Sub(first.Leaf.NotBefore) / 3
	*now = first.Leaf.NotAfter.Add(-third - time.Second)
	if mustGet(t, c) != first {
		t.Error("the certificate is made anew too early")
	}
	*now = first.Leaf.NotAfter.Add(-third + time.Second)
	second := mustGet(t, c)
	if second == first || !second.Leaf.NotAfter.Equal(now.Add(serverLife)) {
		t.Errorf("with a third left: the same certificate is %v, ends %s", second == first, second.Leaf.NotAfter)
	}
	*now = second.Leaf.NotAfter.Add(time.Hour) // nobody asked for a month
	if third := mustGet(t, c); third == second || now.After(third.Leaf.NotAfter) {
		t.Error("a certificate that has ended is served")
	}
	*now = now.Add(-48 * time.Hour)
	if back := mustGet(t, c); back.Leaf.NotBefore.After(*now) {
		t.Error("a certificate that has not begun is served by a clock that was set back")
	}
}

func TestAuthorityThatEndsSaysSo(t *testing.T) {
	c, now := selfMade(t)
	end := c.ca.NotAfter()
	if life := end.Sub(*now); life < 9*365*24*time.Hour {
		t.Errorf("a new authority lives for %s", life)
	}
	if w := c.ending(); w != "" {
		t.Errorf("a new authority warns: %s", w)
	}
	*now = end.Add(-caWarning)
	if w := c.ending(); !strings.Contains(w, "ca.pem") || !strings.Contains(w, end.Format(time.RFC3339)) {
		t.Errorf("a year before its end the authority says %q", w)
	}
	*now = end.Add(-serverLife / 2)
	last := mustGet(t, c)
	if !last.Leaf.NotAfter.Equal(end) {
		t.Errorf("the last certificate ends at %s, the authority at %s", last.Leaf.NotAfter, end)
	}
	*now = end.Add(-time.Second)
	if mustGet(t, c) != last {
		t.Error("a certificate that cannot live longer is made anew")
	}
	*now = end
	if _, err := c.get(nil); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("after the authority's end: %v, want what to do", err)
	}
}

func TestRunningServiceRenewsItsCertificate(t *testing.T) {
	c, now := selfMade(t)
	first := mustGet(t, c)
	*now = now.Add(serverLife - time.Hour)
	var log programtest.Buffer
	logger, err := newLogger(&log, "text", "info")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.maintain(t.Context(), logger); err != nil || c.current == first {
		t.Errorf("maintenance renewed nothing: %v", err)
	}
	if log.String() != "" {
		t.Errorf("it warns: %s", &log)
	}
	*now = c.ca.NotAfter().Add(-time.Hour)
	if err := c.maintain(t.Context(), logger); err != nil || !strings.Contains(log.String(), "TLS authority ends") {
		t.Errorf("an hour before the authority's end: %v, log %q", err, &log)
	}
}
