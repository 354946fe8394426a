package vtpmcli

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
)

// tokenServer answers about a token of an hour, and counts renewals.
func tokenServer(t *testing.T, renewals *atomic.Int64, refuse *atomic.Bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case refuse.Load():
			http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
		case r.URL.Path == "/v1/auth/token/lookup-self":
			io.WriteString(w, `{"data":{"ttl":3600,"renewable":true}}`) //nolint:errcheck // a test
		case r.URL.Path == "/v1/auth/token/renew-self":
			renewals.Add(1)
			io.WriteString(w, `{"auth":{"lease_duration":3600}}`) //nolint:errcheck // a test
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// The daemon renews the tokens of providers that it was not asked for, of such as were
// added since it started, and of none that was removed or logs in by itself.
func TestTokensOfAllConfiguredProvidersAreRenewed(t *testing.T) {
	t.Parallel()
	var renewals atomic.Int64
	var refuse atomic.Bool
	url := tokenServer(t, &renewals, &refuse)
	dir := t.TempDir()
	change := func(do func(*keyprovider.Set) error) {
		t.Helper()
		if err := keyprovider.UpdateSet(filepath.Join(dir, keyprovider.SetFile), do); err != nil {
			t.Fatal(err)
		}
	}
	add := func(name, spec string) {
		t.Helper()
		s, err := keyprovider.ParseSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		change(func(set *keyprovider.Set) error {
			return set.Add(keyprovider.Configured{Name: name, Spec: s, Added: time.Unix(1, 0)})
		})
	}
	add("login", "vault:"+url+"/transit/keys/a?role-id=r&secret-id-env=S")
	add("file", "local:"+dir+"/nowhere")
	synctest.Test(t, func(t *testing.T) {
		log := new(programtest.Buffer)
		env := &program.Env{Stderr: log, Rand: rand.Reader, Now: time.Now, Getenv: func(string) string { return "hvs.secret" }}
		f := &rootFlags{dir: dir}
		stop, err := f.keepTokens(t.Context(), env)
		if err != nil {
			t.Fatal(err)
		}
		during := func(d time.Duration, least, most int64, when string) {
			t.Helper()
			before := renewals.Load()
			time.Sleep(d)
			if n := renewals.Load() - before; n < least || n > most {
				t.Errorf("%s: %d renewals in %s, want %d to %d", when, n, d, least, most)
			}
		}
		during(5*time.Hour, 0, 0, "without a token")
		add("token", "vault:"+url+"/transit/keys/a?token-env=T")
		during(5*time.Hour, 10, 13, "with a token")
		add("same", "vault:"+url+"/transit/keys/a?token-env=T")
		during(5*time.Hour, 10, 13, "with two names of it")
		refuse.Store(true)
		during(time.Hour, 0, 0, "when the server refuses")
		refuse.Store(false)
		change(func(set *keyprovider.Set) error { return errors.Join(set.Remove("token"), set.Remove("same")) })
		time.Sleep(2 * followEvery)
		during(5*time.Hour, 0, 0, "after it was removed")
		add("token", "vault:"+url+"/transit/keys/a?token-env=T")
		during(time.Hour, 2, 4, "after it was added again")
		if err := stop(); err != nil {
			t.Error(err)
		}
		during(5*time.Hour, 0, 0, "after the end")
		if text := log.String(); !strings.Contains(text, "was not renewed") || !strings.Contains(text, "permission denied") || strings.Contains(text, "hvs.secret") {
			t.Errorf("the log is %q", text)
		}
	})
}

func TestAListOfProvidersThatDoesNotReadIsToldOnce(t *testing.T) {
	t.Parallel()
	f := &rootFlags{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(f.dir, keyprovider.SetFile), []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := new(programtest.Buffer)
		stop, err := f.keepTokens(context.Background(), &program.Env{Stderr: log, Rand: rand.Reader, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if err := stop(); err != nil || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%v, the log is %q", err, log)
		}
	})
}
