package httpapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/store"
)

func TestRateIsPerCaller(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{Rate: 10, Burst: 3} })
	for i := range 4 {
		got := f.as(access.Viewer, "GET", "/v1/whoami", nil)
		want := 200
		if i == 3 {
			want = 429
		}
		if got.status != want || want == 429 && (got.code() != "limit.rate" || got.header.Get("Retry-After") != "1") {
			t.Errorf("request %d: %d %q %s", i, got.status, got.header.Get("Retry-After"), got.body)
		}
	}
	if got := f.as(access.Auditor, "GET", "/v1/whoami", nil); got.status != 200 {
		t.Errorf("another caller: %d", got.status)
	}
	f.clock.advance(200 * time.Millisecond)
	if got := f.as(access.Viewer, "GET", "/v1/whoami", nil); got.status != 200 {
		t.Errorf("after the wait: %d", got.status)
	}
}

func TestGuessingHasAPriceThatOnlyGuessersPay(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{StrangerRate: 1, StrangerBurst: 5} })
	for i := range 8 {
		want := 401
		if i >= 5 {
			want = 429
		}
		if got := f.do("assay_wrong", "GET", "/v1/whoami", nil); got.status != want {
			t.Errorf("guess %d: %d, want %d", i, got.status, want)
		}
	}
	if got := f.as(access.Viewer, "GET", "/v1/whoami", nil); got.status != 200 {
		t.Errorf("a good credential from the same address: %d", got.status)
	}
	if got := f.do("", "GET", "/healthz", nil); got.status != 200 {
		t.Errorf("health: %d", got.status)
	}
}

func TestDenialsCannotFillTheAuditChain(t *testing.T) {
	const denialBurst = 20 // entries that one caller may make at once
	f := newFixture(t, nil)
	before := len(f.trail())
	for range 3 * denialBurst {
		if got := f.as(access.Attester, "GET", "/v1/audit", nil); got.status != 403 {
			t.Fatalf("%d", got.status)
		}
	}
	if n := len(f.trail()) - before; n != denialBurst {
		t.Errorf("%d entries of %d denials, want %d", n, 3*denialBurst, denialBurst)
	}
}

func TestCallerHasABoundOfRequestsAtOnce(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{PerCaller: 1} })
	entered, release := make(chan struct{}), make(chan struct{})
	f.kind.hold = func(context.Context) { close(entered); <-release }
	challenge := f.challenge()
	done := make(chan answer)
	go func() {
		done <- f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+challenge+`","evidence":`+goodBundle+`}`)
	}()
	<-entered
	if got := f.as(access.Attester, "GET", "/v1/whoami", nil); got.status != 429 || got.code() != "limit.concurrency" {
		t.Errorf("second request: %d %s", got.status, got.body)
	}
	close(release)
	if got := <-done; got.status != 200 {
		t.Errorf("first request: %d %s", got.status, got.body)
	}
	if got := f.as(access.Attester, "GET", "/v1/whoami", nil); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestBodyMemoryIsBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{BodyMemory: 100} })
	if got := f.as(access.Attester, "POST", "/v1/challenges", `{"type":"`+strings.Repeat("a", 100)+`"}`); got.status != 413 || got.code() != "request.too-large" {
		t.Errorf("body beyond the memory: %d %s", got.status, got.body)
	}
	for range 5 { // what was taken is given back
		if got := f.as(access.Attester, "POST", "/v1/challenges", `{"type":"tpm","policy":"default"}`); got.status != 201 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
}

// Overload is told, never a lost write: what got 200 is there, what got 429 is not.
func TestOverloadLosesNothing(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Limits = apiserver.Limits{InFlight: 2, PerCaller: 256, Queue: 2, Wait: 20 * time.Millisecond}
	})
	const n = 60
	challenges := make([]string, n)
	for i := range challenges {
		challenges[i] = f.challenge()
	}
	turns := make(chan struct{}, 4*n) // room for every one that is sent below
	f.kind.hold = func(context.Context) { <-turns }
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			answers[i] = f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+challenges[i]+`","evidence":`+goodBundle+`}`)
			turns <- struct{}{}
		})
	}
	turns <- struct{}{}
	turns <- struct{}{}
	wg.Wait()
	counts := map[int]int{}
	for i, a := range answers {
		counts[a.status]++
		switch a.status {
		case 200:
			var r attest.Result
			a.into(t, &r)
			if got := f.as(access.Viewer, "GET", "/v1/appraisals/"+r.ID, nil); got.status != 200 {
				t.Errorf("acknowledged decision %s: %d", r.ID, got.status)
			}
		case 429:
			if a.code() != "service.overloaded" || a.header.Get("Retry-After") == "" {
				t.Errorf("%s", a.body)
			}
			turns <- struct{}{}
			if got := f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+challenges[i]+`","evidence":`+goodBundle+`}`); got.status != 200 {
				t.Errorf("again after 429: %d %s", got.status, got.body)
			}
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if counts[200] == 0 || counts[429] == 0 {
		t.Errorf("answers by status: %v, want some of 200 and 429", counts)
	}
	f.trail()
}

// fullStore has no room for a decision.
type fullStore struct{ *countingStore }

func (fullStore) Decide(context.Context, attest.Decision) error {
	return fmt.Errorf("decide: %w", store.ErrOverloaded)
}

func TestFullStoreIsOverload(t *testing.T) {
	f := newFixture(t, nil)
	from, err := seed()
	must(t, err)
	service, err := buildService(f.kind, fullStore{f.store}, from.provider, f.clock.now)
	must(t, err)
	h, err := New(t.Context(), Config{Service: service, Principals: f.store, Audit: f.store, Now: f.clock.now, Rand: strings.NewReader("")})
	must(t, err)
	req := httptest.NewRequestWithContext(t.Context(), "POST", "/v1/attest", strings.NewReader(`{"challenge":"`+f.challenge()+`","evidence":`+goodBundle+`}`))
	req.Header.Set("Authorization", "Bearer "+f.tokens[access.Attester])
	req.Header.Set("Content-Type", "application/json")
	got := httptest.NewRecorder()
	h.ServeHTTP(got, req)
	if a := (answer{got.Code, got.Header(), got.Body.Bytes()}); a.status != 429 || a.code() != "service.overloaded" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A client that sends its request byte by byte loses its connection in time.
func TestSlowSendersAreCutOff(t *testing.T) {
	for name, start := range map[string]string{
		"head": "POST /v1/attest HTTP/1.1\r\nHost: x\r\n",
		"body": "POST /v1/challenges HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			s := apiserver.NewServer(f.server.Config.Handler, apiserver.Timeouts{Header: 100 * time.Millisecond, Read: 200 * time.Millisecond}, nil, nil)
			served := make(chan error, 1)
			go func() { served <- s.Serve(ln) }()
			c, err := net.Dial("tcp", ln.Addr().String())
			must(t, err)
			defer c.Close()
			_, err = io.WriteString(c, strings.Replace(start, "TOKEN", f.tokens[access.Attester], 1))
			must(t, err)
			must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			text, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("the connection is still open: %v", err)
			}
			if name == "body" && !strings.Contains(string(text), "408 Request Timeout") {
				t.Errorf("answer %q", text)
			}
			must(t, s.Close())
			<-served
		})
	}
}
