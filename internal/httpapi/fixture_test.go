package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// A fakeKind trusts bundles that say so, and counts how often it is asked.
type fakeKind struct {
	calls atomic.Int64
	hold  func(context.Context) // when set, called while appraising
}

func (k *fakeKind) Type() string { return "tpm" }

func (k *fakeKind) Appraise(ctx context.Context, bundle []byte, in attest.Inputs) (attest.Outcome, error) {
	k.calls.Add(1)
	if k.hold != nil {
		k.hold(ctx)
	}
	out := attest.Outcome{Result: evidence.Result{Claims: evidence.Claims{"secureBoot": {Value: evidence.Bool(true), PCRs: []int{7}}}}}
	switch {
	case bytes.Contains(bundle, []byte("panic")):
		panic("bug of ours in /secret/path")
	case bytes.Contains(bundle, []byte("break")):
		return attest.Outcome{}, fmt.Errorf("open /var/lib/assay/assay.db: SELECT sealed FROM signing_key: disk I/O error")
	case bytes.Contains(bundle, []byte("good")):
		out.Verdict = evidence.Trusted
	default:
		out.Reasons = []evidence.Reason{{Code: "challenge.used", Message: "as a stand-in"}, {Code: "no.such-code", Message: "unregistered"}}
	}
	return out, nil
}

// countingStore counts the calls that reach the store.
type countingStore struct {
	*store.Store
	calls   atomic.Int64
	lookUps atomic.Int64
	onRead  func(access.Digest) // when set, called before a principal is looked up
}

func (c *countingStore) PrincipalByToken(ctx context.Context, d access.Digest) (access.Principal, error) {
	c.lookUps.Add(1)
	if c.onRead != nil {
		c.onRead(d)
	}
	return c.Store.PrincipalByToken(ctx, d)
}

func (c *countingStore) Decide(ctx context.Context, d attest.Decision) error {
	c.calls.Add(1)
	return c.Store.Decide(ctx, d)
}

// A fixture is a whole service on SQLite behind TLS, with a principal per role.
type fixture struct {
	t       testing.TB
	kind    *fakeKind
	store   *countingStore
	service *attest.Service
	metrics *Metrics
	server  *httptest.Server
	client  *http.Client
	tokens  map[access.Role]string
	log     *lockedBuffer
	clock   *clock
}

// A clock stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// made is a database that holds keys already: an RSA key takes long to find.
type made struct {
	provider *keyprovider.Local
	database []byte
}

var seed = sync.OnceValues(func() (made, error) {
	dir, err := os.MkdirTemp("", "httpapi")
	if err != nil {
		return made{}, err
	}
	defer os.RemoveAll(dir)
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		return made{}, err
	}
	provider, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		return made{}, err
	}
	s, err := sqlite.Open(context.Background(), dir, store.Config{})
	if err != nil {
		return made{}, err
	}
	service, err := buildService(&fakeKind{}, s, provider, noon)
	if err == nil {
		err = service.MaintainKeys(context.Background())
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return made{}, err
	}
	database, err := os.ReadFile(filepath.Join(dir, sqlite.FileName))
	return made{provider, database}, err
})

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func buildService(kind attest.Kind, s attest.Store, p keyprovider.Provider, now func() time.Time) (*attest.Service, error) {
	keys, err := attest.NewKeys(attest.KeysConfig{Issuer: "https://assay.test", Provider: p, Now: now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	return attest.New(context.Background(), attest.Config{Store: s, Kinds: []attest.Kind{kind}, Keys: keys, Now: now, Rand: rand.Reader})
}

// seededStore opens a store of its own that holds the keys of seed.
func seededStore(t testing.TB, dir string, cfg store.Config) (*store.Store, keyprovider.Provider) {
	t.Helper()
	from, err := seed()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, sqlite.FileName), from.database, 0o600))
	s, err := sqlite.Open(t.Context(), dir, cfg)
	must(t, err)
	return s, from.provider
}

// newFixture starts a service; change may alter its configuration.
func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	metrics := NewMetrics()
	opened, provider := seededStore(t, t.TempDir(), store.Config{Committed: metrics.ObserveGroup})
	f := &fixture{
		t: t, kind: &fakeKind{}, store: &countingStore{Store: opened}, metrics: metrics, tokens: map[access.Role]string{},
		log: &lockedBuffer{}, clock: &clock{at: noon()},
	}
	var err error
	f.service, err = buildService(f.kind, f.store, provider, f.clock.now)
	must(t, err)
	for _, role := range access.Roles() {
		f.tokens[role] = f.principal(string(role), access.Principal{Roles: []access.Role{role}})
	}
	c := Config{
		Service: f.service, Principals: f.store, Audit: f.store, Now: f.clock.now, Rand: rand.Reader,
		Log: slog.New(slog.NewTextHandler(f.log, nil)), Metrics: f.metrics,
	}
	if change != nil {
		change(&c)
	}
	h, err := New(t.Context(), c)
	must(t, err)
	f.serve(h)
	t.Cleanup(func() {
		f.client.CloseIdleConnections()
		f.server.Close()
		must(t, opened.Close())
	})
	return f
}

func (f *fixture) serve(h http.Handler) {
	f.server = httptest.NewUnstartedServer(nil)
	f.server.Config = apiserver.NewServer(h, apiserver.Timeouts{}, &tls.Config{}, nil)
	f.server.TLS = f.server.Config.TLSConfig
	f.server.StartTLS()
	f.client = f.server.Client()
}

// principal adds one and returns its API token.
func (f *fixture) principal(name string, p access.Principal) string {
	f.t.Helper()
	token, hash, tail, err := access.NewToken(rand.Reader)
	must(f.t, err)
	p.Name, p.TokenHash, p.TokenTail, p.Added, p.AddedBy = name, hash, tail, f.clock.now(), "test"
	must(f.t, f.store.AddPrincipal(f.t.Context(), p, nil, audit.Entry{Time: f.clock.now(), Actor: "test", Action: "principal.add", Subject: name, Outcome: "done"}))
	return token
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("answer %d %q: %v", a.status, a.body, err)
	}
}

// code is the reason code of a problem, "" for anything else.
func (a answer) code() string {
	var p apiserver.Problem
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil || p.Status != a.status {
		return ""
	}
	return string(p.Code)
}

// do sends a request; a body that is no string is sent as JSON.
func (f *fixture) do(token, method, path string, body any) answer {
	f.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		must(f.t, err)
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+path, reader)
	must(f.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if reader != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return f.send(req)
}

func (f *fixture) send(req *http.Request) answer {
	f.t.Helper()
	resp, err := f.client.Do(req)
	must(f.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(f.t, err)
	return answer{resp.StatusCode, resp.Header, text}
}

// as is do for the principal of a role.
func (f *fixture) as(role access.Role, method, path string, body any) answer {
	f.t.Helper()
	return f.do(f.tokens[role], method, path, body)
}

// attest asks for a challenge and answers it with a bundle.
func (f *fixture) attest(bundle string) answer {
	f.t.Helper()
	return f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+f.challenge()+`","evidence":`+bundle+`}`)
}

func (f *fixture) challenge() string {
	f.t.Helper()
	got := f.as(access.Attester, "POST", "/v1/challenges", "{}")
	if got.status != http.StatusCreated {
		f.t.Fatalf("challenge: %d %s", got.status, got.body)
	}
	var c challengeBody
	got.into(f.t, &c)
	return c.Challenge
}

const goodBundle = `{"type":"tpm","note":"good"}`

// trail is the whole audit chain, checked.
func (f *fixture) trail() []audit.Entry {
	f.t.Helper()
	var v audit.Verifier
	var out []audit.Entry
	for {
		page, err := f.store.AuditEntries(f.t.Context(), v.Head().Seq, 1000)
		must(f.t, err)
		for _, e := range page {
			must(f.t, v.Next(e))
		}
		if out = append(out, page...); len(page) < 1000 {
			return out
		}
	}
}
