package token

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// site is an issuer's web site whose answers a test changes.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	metadata string // "%s" stands for the site's URL
	keys     string
	status   int
	asked    atomic.Int32 // for keys
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	s := &site{status: http.StatusOK, metadata: `{"issuer":"%s","jwks_uri":"%s/certs"}`}
	mux := http.NewServeMux()
	mux.HandleFunc(metadataPath, func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.WriteHeader(s.status)
		fmt.Fprint(w, strings.ReplaceAll(s.metadata, "%s", s.URL))
	})
	mux.HandleFunc("/certs", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked.Add(1)
		fmt.Fprint(w, s.keys)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/certs", http.StatusFound) })
	s.Server = httptest.NewServer(mux)
	tb.Cleanup(s.Close)
	return s
}

func (s *site) set(change func(*site)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *site) publish(tb testing.TB, kids ...string) {
	tb.Helper()
	var list []map[string]any
	for _, kid := range kids {
		list = append(list, jwk(tb, PublicKey{ID: kid, Alg: ES256, Key: newP256(tb).Public()}, nil))
	}
	text := string(jwks(tb, list...))
	s.set(func(s *site) { s.keys = text })
}

func (s *site) fetcher(tb testing.TB) *Fetcher {
	tb.Helper()
	f, err := NewFetcher(s.URL, s.Client())
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func TestFetcherFollowsRotation(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	s.publish(t, "a")
	f := s.fetcher(t)
	for _, step := range []struct {
		after   time.Duration
		publish []string
		kid     string
		want    error
		asked   int32 // so far
	}{
		{0, nil, "a", nil, 1},
		{time.Second, nil, "a", nil, 1},
		{2 * time.Second, nil, "b", ErrUnknownKey, 1}, // asked a moment ago
		{3 * time.Second, []string{"b", "a"}, "b", ErrUnknownKey, 1},
		{61 * time.Second, nil, "b", nil, 2},
		{62 * time.Second, nil, "a", nil, 2},
		{63 * time.Second, nil, "c", ErrUnknownKey, 2},
		{122 * time.Second, nil, "c", ErrUnknownKey, 3},
		{123 * time.Second, nil, "d", ErrUnknownKey, 3}, // strangers cannot make us ask more
		{124 * time.Second, []string{"b"}, "a", nil, 3}, // withdrawn, and not yet noticed
		{122*time.Second + freshFor, nil, "a", ErrUnknownKey, 4},
		{123*time.Second + freshFor, nil, "b", nil, 4},
		{-time.Hour, nil, "b", nil, 5}, // the clock went back
	} {
		if step.publish != nil {
			s.publish(t, step.publish...)
		}
		k, err := f.Key(ctx, step.kid, noon.Add(step.after))
		if !errors.Is(err, step.want) || (err == nil) != (step.want == nil) || err == nil && k.ID != step.kid {
			t.Errorf("%v: key %q: %v, want %v", step.after, step.kid, err, step.want)
		}
		if got := s.asked.Load(); got != step.asked {
			t.Errorf("%v: asked %d times, want %d", step.after, got, step.asked)
		}
	}
}

func TestFetcherDoesNotUseStaleKeys(t *testing.T) {
	ctx := context.Background()
	s := newSite(t)
	s.publish(t, "a")
	f := s.fetcher(t)
	if _, err := f.Key(ctx, "a", noon); err != nil {
		t.Fatal(err)
	}
	s.set(func(s *site) { s.status = http.StatusInternalServerError })
	if _, err := f.Key(ctx, "a", noon.Add(freshFor-time.Second)); err != nil {
		t.Errorf("within the hour: %v", err)
	}
	if _, err := f.Key(ctx, "a", noon.Add(freshFor)); err == nil || errors.Is(err, ErrUnknownKey) {
		t.Errorf("after the hour: %v, want what went wrong", err)
	}
	s.set(func(s *site) { s.status = http.StatusOK })
	if _, err := f.Key(ctx, "a", noon.Add(freshFor+retryEvery-1)); err == nil {
		t.Error("asked again at once after a failure")
	}
	if _, err := f.Key(ctx, "a", noon.Add(freshFor+retryEvery)); err != nil {
		t.Errorf("when the site is back: %v", err)
	}
}

func TestFetcherRefusesWhatIsNotTheIssuers(t *testing.T) {
	s := newSite(t)
	s.publish(t, "a")
	good := s.metadata
	keys := s.keys
	for name, tc := range map[string]struct {
		metadata, keys string
		want           string // part of the error
	}{
		"another issuer":        {`{"issuer":"https://evil.example.org","jwks_uri":"%s/certs"}`, keys, "keyset.issuer-mismatch"},
		"issuer with a slash":   {`{"issuer":"%s/","jwks_uri":"%s/certs"}`, keys, "keyset.issuer-mismatch"},
		"no issuer":             {`{"jwks_uri":"%s/certs"}`, keys, "keyset.issuer-mismatch"},
		"two issuers":           {`{"issuer":"%s","issuer":"%s","jwks_uri":"%s/certs"}`, keys, "stands twice"},
		"no keys":               {`{"issuer":"%s"}`, keys, "no jwks_uri"},
		"keys at a file":        {`{"issuer":"%s","jwks_uri":"file:///etc/passwd"}`, keys, "want a host"},
		"keys over plain http":  {`{"issuer":"%s","jwks_uri":"http://192.0.2.1/certs"}`, keys, "want https"},
		"keys with a user":      {`{"issuer":"%s","jwks_uri":"https://u:p@example.org/certs"}`, keys, "no user"},
		"keys that have moved":  {`{"issuer":"%s","jwks_uri":"%s/moved"}`, keys, "status 302"},
		"keys that are missing": {`{"issuer":"%s","jwks_uri":"%s/none"}`, keys, "status 404"},
		"metadata no JSON":      {`<html>`, keys, "no JSON object"},
		"metadata too large":    {good + strings.Repeat(" ", maxMetadata), keys, "more than"},
		"keys too large":        {good, keys + strings.Repeat(" ", maxJWKS), "more than"},
		"keys no JSON":          {good, "<html>", "keyset.malformed"},
		"a private key":         {good, `{"keys":[{"kty":"EC","d":"x"}]}`, "keyset.private-key"},
	} {
		t.Run(name, func(t *testing.T) {
			s.set(func(s *site) { s.metadata, s.keys = tc.metadata, tc.keys })
			_, err := s.fetcher(t).Key(context.Background(), "a", noon)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnknownKey) {
				t.Errorf("Key = %v, want %q", err, tc.want)
			}
		})
	}
}

// A public issuer must not make a relying party ask services on its own machine.
func TestFetcherDoesNotTurnToThisMachine(t *testing.T) {
	f, err := NewFetcher(issuerURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for uri, ok := range map[string]bool{
		"https://keys.example.net/certs": true, issuerURL + "/certs": true,
		"https://127.0.0.1/certs": false, "https://localhost:8443/certs": false, "https://[::1]/certs": false,
		"http://attest.example.org/certs": false, "https:///certs": false, "ftp://attest.example.org/certs": false,
	} {
		if err := f.checkKeysURL(uri); (err == nil) != ok {
			t.Errorf("checkKeysURL(%q) = %v", uri, err)
		}
	}
	for _, issuer := range []string{"", "http://attest.example.org", "attest.example.org", issuerURL + "/", "file:///x"} {
		if _, err := NewFetcher(issuer, nil); err == nil {
			t.Errorf("NewFetcher(%q) is made", issuer)
		}
	}
}

func TestFetcherAsksOnceForMany(t *testing.T) {
	s := newSite(t)
	s.publish(t, "a")
	f := s.fetcher(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := f.Key(context.Background(), "a", noon); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := s.asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestFetcherHeedsItsContext(t *testing.T) {
	s := newSite(t)
	s.publish(t, "a")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f := s.fetcher(t)
	if _, err := f.Key(ctx, "a", noon); !errors.Is(err, context.Canceled) {
		t.Errorf("Key = %v", err)
	}
	if _, err := f.Key(context.Background(), "a", noon); err != nil {
		t.Errorf("one caller's end is another's failure: %v", err)
	}
	f = s.fetcher(t)
	f.asking <- struct{}{} // another is asking, and does not come back
	if _, err := f.Key(ctx, "a", noon); !errors.Is(err, context.Canceled) {
		t.Errorf("Key while another asks = %v", err)
	}
}

func TestVerifierWithAFetcher(t *testing.T) {
	s := newSite(t)
	key := newP256(t)
	s.set(func(s *site) {
		s.keys = string(jwks(t, jwk(t, PublicKey{ID: "k1", Alg: ES256, Key: key.Public()}, nil)))
	})
	cfg := goodConfig()
	cfg.Issuer = s.URL
	v := mustVerifier(t, cfg, s.fetcher(t))
	for iss, want := range map[string]string{s.URL: "accepted", issuerURL: "token.issuer-mismatch"} {
		_, err := v.Verify(context.Background(), forge(t, crypto.Signer(key), goodHeader, payload(t, map[string]any{"iss": iss})), noon)
		if codeOf(err) != want {
			t.Errorf("issuer %q: %v, want %s", iss, err, want)
		}
	}
}
