package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
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
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{InFlight: 1, Queue: 1, Wait: 20 * time.Millisecond} })
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
	f := newFixture(t, func(c *Config) { c.Limits = apiserver.Limits{BodyMemory: maxEvidence} })
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
