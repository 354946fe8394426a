package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
)

// A stuckWriter stands for a client that reads nothing of its answer.
type stuckWriter struct {
	header  http.Header
	stuck   chan struct{} // closed when the answer waits
	release chan struct{}
	once    sync.Once
}

func (w *stuckWriter) Header() http.Header { return w.header }
func (w *stuckWriter) WriteHeader(int)     {}
func (w *stuckWriter) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.stuck) })
	<-w.release
	return len(b), nil
}

func TestSlowReadersKeepNobodyOut(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = Limits{InFlight: 1, Queue: 1, Wait: 20 * time.Millisecond} })
	handler := f.server.Config.Handler
	slow := &stuckWriter{header: http.Header{}, stuck: make(chan struct{}), release: make(chan struct{})}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "/openapi.json", nil)
	must(t, err)
	req.RemoteAddr = "192.0.2.1:1"
	var done sync.WaitGroup
	done.Go(func() { handler.ServeHTTP(slow, req) })
	<-slow.stuck
	if got := f.as(access.Admin, "GET", "/v1/whoami", nil); got.status != 200 {
		t.Errorf("while another reads slowly: %d %s", got.status, got.body)
	}
	close(slow.release)
	done.Wait()
}

func TestAnnouncedBodiesKeepNobodyOut(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits = Limits{BodyMemory: maxEvidence} })
	body, sender := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", f.server.URL+"/v1/attest", body)
	must(t, err)
	req.ContentLength = maxEvidence
	req.Header.Set("Authorization", "Bearer "+f.tokens[access.Attester])
	req.Header.Set("Content-Type", "application/json")
	var done sync.WaitGroup
	done.Go(func() {
		if resp, err := f.client.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	_, err = sender.Write([]byte("{")) // taken when the request is under way
	must(t, err)
	challenge := f.challenge()
	got := f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+challenge+`","evidence":`+goodBundle+`}`)
	if got.status != 200 {
		t.Errorf("while another announces %d bytes and sends none: %d %s", maxEvidence, got.status, got.body)
	}
	sender.CloseWithError(errors.New("gone"))
	done.Wait()
}

func TestBodiesOfEverySizeArriveWhole(t *testing.T) {
	for _, n := range []int{1, firstRead - 1, firstRead, firstRead + 1, 2*firstRead - 1, 2 * firstRead, 2*firstRead + 1, 5 * firstRead} {
		for _, length := range []int64{int64(n), -1} {
			a := &API{bodies: &budget{left: 1 << 20}, metrics: NewMetrics(), callers: newCallers(Limits{}.withDefaults())}
			place, _ := a.callers.enter("a", true)
			var leave leavers
			in := strings.Repeat("x", n)
			got, err := a.receive(&http.Request{Body: io.NopCloser(strings.NewReader(in)), ContentLength: length}, int64(5*firstRead), place, &leave)
			if err != nil || string(got) != in {
				t.Errorf("%d bytes, announced %d: %d bytes, %v", n, length, len(got), err)
			}
			if leave.run(); a.bodies.left != 1<<20 || place.caller.held != 0 {
				t.Errorf("%d bytes, announced %d: %d of the memory left, %d held", n, length, a.bodies.left, place.caller.held)
			}
		}
	}
}

func TestProbesShareTheAnswerOfAServiceThatHangs(t *testing.T) {
	asked, clock, h := 0, &clock{at: noon()}, &health{}
	for range 10 { // probes that waited for the first to get its answer
		err := h.answer(clock.now, func() error { asked++; clock.advance(healthWait); return context.DeadlineExceeded })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("answer = %v", err)
		}
	}
	if asked != 1 {
		t.Errorf("10 probes asked %d times", asked)
	}
}

func TestExpiredClientCertificateIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	cert := certificate(t)
	f.principal("mtls", access.Principal{Roles: []access.Role{access.Viewer}, Certificate: sha256.Sum256(cert.Certificate[0])})
	transport := f.client.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{cert}
	defer transport.CloseIdleConnections()
	for _, want := range []int{200, 401} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", f.server.URL+"/v1/whoami", nil)
		must(t, err)
		resp, err := (&http.Client{Transport: transport}).Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("at %s: %d, want %d", f.clock.now(), resp.StatusCode, want)
		}
		f.clock.advance(2 * time.Hour)
	}
}
