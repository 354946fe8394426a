package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// A route is what the guard must know of an operation.
type route struct {
	pattern   string            // of net/http: "GET /v1/policies/{name}"
	needs     access.Permission // empty: any principal will do
	public    bool              // no credential is asked for or looked at
	strangers bool              // also without a credential, where the operator opened attestation
	unlimited bool              // outside all limits: what must answer when everything is full
	body      int64             // largest request body; 0 for none
}

// A call is a request that was let in.
type call struct {
	who  access.Principal // the zero Principal for nobody in particular
	body []byte
}

type callKey struct{}

// callOf returns what the guard found out. Outside a guarded route it is a call
// of nobody, who may do nothing.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

// anonymous is the actor of what nobody in particular does.
const anonymous = "anonymous"

func actor(ctx context.Context) string {
	if name := callOf(ctx).who.Name; name != "" {
		return name
	}
	return anonymous
}

// guard puts everything that all routes share around one: headers, limits,
// authentication, permission, the body, metrics, and the end of a panic.
func (a *API) guard(rt route, next http.Handler) http.Handler {
	observe := a.metrics.route(rt.pattern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &recorder{ResponseWriter: w}
		began := a.now()
		a.metrics.inFlight.Inc()
		defer func() {
			if v := recover(); v != nil {
				a.panicked(out, r, v)
			}
			a.metrics.inFlight.Dec()
			took := a.now().Sub(began)
			observe(out.status, took)
			a.logRequest(r, rt, out.status, took)
		}()
		harden(w.Header())
		var leave leavers
		defer leave.run()
		admitted, err := a.admit(rt, r, out, &leave)
		if err != nil {
			a.problem(r.Context(), err).write(out)
			return
		}
		next.ServeHTTP(out, admitted)
	})
}

// harden sets the fields that every answer has. Answers are for the caller only:
// a route whose answer may be kept says so itself.
func harden(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
}

func (a *API) logRequest(r *http.Request, rt route, status int, took time.Duration) {
	if a.log.Enabled(r.Context(), slog.LevelDebug) {
		a.log.DebugContext(r.Context(), "request", slog.String("route", rt.pattern), slog.Int("status", status), slog.Duration("took", took))
	}
}

// leavers give back what a request holds, in the opposite order.
type leavers []func()

func (l *leavers) add(f func()) { *l = append(*l, f) }

func (l *leavers) run() {
	for i := len(*l) - 1; i >= 0; i-- {
		(*l)[i]()
	}
}

// admit goes from the cheap to the dear: nothing of the body is read for who may
// not send it, and nothing of it is understood before there is room to. The turn
// at the gate ends when the answer begins, so that who reads slowly holds nothing
// but its own place.
func (a *API) admit(rt route, r *http.Request, out *recorder, leave *leavers) (*http.Request, error) {
	c := &call{}
	if !rt.unlimited {
		var err error
		if c.who, err = a.identify(rt, r); err != nil {
			return nil, err
		}
		if err := a.limit(c.who, r, leave); err != nil {
			return nil, err
		}
		if err := a.authorize(rt, r, c.who); err != nil {
			return nil, err
		}
		if c.body, err = a.readBody(rt, r, leave); err != nil {
			return nil, err
		}
		if !a.gate.enter(r.Context()) {
			a.metrics.limited.WithLabelValues("gate").Inc()
			return nil, overloaded()
		}
		out.begin = sync.OnceFunc(a.gate.leave)
		leave.add(out.begin)
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	return r, nil
}

// identify finds the principal of a request; the zero one where none is needed.
func (a *API) identify(rt route, r *http.Request) (access.Principal, error) {
	if rt.public {
		return access.Principal{}, nil
	}
	who, err := a.authenticate(r)
	if errors.Is(err, errNoCredential) {
		if rt.strangers && a.open {
			return access.Principal{}, nil
		}
		err = noCredential()
	}
	if problem := knownProblem(err); problem != nil && problem.Status == http.StatusUnauthorized {
		// Failures count against the address, so that guessing has a price, and
		// never against good credentials from the same address.
		if wait := a.callers.spend(strangerKey(r.RemoteAddr), false, a.now()); wait > 0 {
			return access.Principal{}, a.tooFast(wait)
		}
	}
	return who, err
}

// errNoCredential is a request that shows none.
var errNoCredential = errors.New("no credential")

func noCredential() *Problem {
	return newProblem(http.StatusUnauthorized, codeNoCredential, "send an API token as Authorization: Bearer, or a client certificate")
}

// authenticate reads the credential: an API token, else a client certificate. A
// bad token is not made good by a certificate.
func (a *API) authenticate(r *http.Request) (access.Principal, error) {
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		// RFC 9110, 11.1: the scheme's name has no case.
		scheme, token, _ := strings.Cut(values[0], " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return access.Principal{}, access.ErrUnauthenticated
		}
		return access.Tokens(r.Context(), a.principals.PrincipalByToken, token, a.now())
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		cert, now := r.TLS.PeerCertificates[0], a.now()
		// The handshake does not look: it was told to ask for a certificate, not to verify one.
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return access.Principal{}, access.ErrUnauthenticated
		}
		return access.Certificates(r.Context(), a.principals.PrincipalByCertificate, cert.Raw, now)
	}
	return access.Principal{}, errNoCredential
}

// limit takes the request off its caller's limits.
func (a *API) limit(who access.Principal, r *http.Request, leave *leavers) error {
	key, known := "principal:"+who.Name, true
	if who.Name == "" {
		key, known = strangerKey(r.RemoteAddr), false
	}
	if wait := a.callers.spend(key, known, a.now()); wait > 0 {
		return a.tooFast(wait)
	}
	done, ok := a.callers.enter(key, known)
	if !ok {
		a.metrics.limited.WithLabelValues("concurrency").Inc()
		p := newProblem(http.StatusTooManyRequests, codeConcurrency, "this caller has too many requests under way at once")
		p.retryAfter = time.Second
		return p
	}
	leave.add(done)
	return nil
}

func (a *API) tooFast(wait time.Duration) *Problem {
	a.metrics.limited.WithLabelValues("rate").Inc()
	p := newProblem(http.StatusTooManyRequests, codeRate, "this caller sends requests faster than its limit")
	p.retryAfter = wait
	return p
}

// authorize holds who asks against what the route needs.
func (a *API) authorize(rt route, r *http.Request, who access.Principal) error {
	if rt.public || who.Name == "" && rt.strangers && a.open {
		return nil
	}
	if who.Name == "" {
		return noCredential()
	}
	// Browsers send client certificates on their own, so a page of another origin
	// must not be able to make them ask.
	if err := a.origins.Check(r); err != nil {
		return newProblem(http.StatusForbidden, codeCrossOrigin, "the request comes from a web page of another origin")
	}
	if rt.needs == "" {
		return nil
	}
	err := access.Authorize(who, rt.needs, a.now())
	var denied *access.DeniedError
	if errors.As(err, &denied) && a.callers.mayRecord("principal:"+who.Name, a.now()) {
		detail, _ := json.Marshal(map[string]any{"permission": denied.Permission, "path": clip(r.URL.Path, 256)})
		entry := audit.Entry{Time: a.now(), Actor: who.Name, Action: "request", Subject: rt.pattern, Outcome: "denied", Detail: detail}
		if err := a.audit.RecordAudit(r.Context(), entry); err != nil {
			return fmt.Errorf("record denial: %w", err)
		}
	}
	return err
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// firstRead is what a body gets before its bytes are there.
const firstRead = 64 << 10

// readBody reads all of the body before the request takes a turn, so that a slow
// sender holds nothing but its own place.
func (a *API) readBody(rt route, r *http.Request, leave *leavers) ([]byte, error) {
	if rt.body == 0 || r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > rt.body {
		return nil, tooLarge(rt.body)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "the body must be sent as Content-Type: application/json")
	}
	buf, err := a.receive(r, rt.body, leave)
	var problem *Problem
	switch {
	case errors.As(err, &problem):
		return nil, problem
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, newProblem(http.StatusRequestTimeout, codeTimeout, "the body did not arrive in time")
	case err != nil:
		return nil, newProblem(http.StatusBadRequest, codeMalformed, "the body ended before its length")
	}
	return buf, nil
}

// receive reads a body of at most limit bytes. Memory is taken for what has come
// and as much again, not for what was announced: who announces a large body and
// sends nothing must not keep others out.
func (a *API) receive(r *http.Request, limit int64, leave *leavers) ([]byte, error) {
	size := r.ContentLength
	if size < 0 {
		size = limit
	}
	var held int64
	leave.add(func() { a.bodies.give(held) })
	var buf bytes.Buffer
	for more := min(size, firstRead); ; more = min(size-held, held) {
		if !a.bodies.take(more) {
			a.metrics.limited.WithLabelValues("memory").Inc()
			return nil, overloaded()
		}
		held += more
		buf.Grow(int(more) + bytes.MinRead)
		_, err := io.CopyN(&buf, r.Body, held-int64(buf.Len()))
		switch {
		case errors.Is(err, io.EOF):
			return buf.Bytes(), nil
		case err != nil:
			return nil, err
		case held < size:
			continue
		}
		// One byte more shows the end.
		if n, err := io.CopyN(&buf, r.Body, 1); n > 0 {
			return nil, tooLarge(limit)
		} else if !errors.Is(err, io.EOF) {
			return nil, err
		}
		return buf.Bytes(), nil
	}
}

func tooLarge(limit int64) *Problem {
	return newProblem(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body may have %d bytes at most", limit))
}

// panicked ends a request that met a bug of ours; the server goes on.
func (a *API) panicked(out *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http's own way to abort
		panic(v)
	}
	id := a.requestID()
	a.log.ErrorContext(r.Context(), "panic in request", slog.String("request", id), slog.String("route", r.Pattern),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	a.metrics.panics.Inc()
	if out.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
	p := newProblem(http.StatusInternalServerError, codeInternal, "the service could not carry out the request; its log tells why under the request id")
	p.RequestID = id
	p.write(out)
}

// A recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	begin  func() // called when the answer begins; nil for none
}

// note keeps the status of an answer that begins.
func (r *recorder) note(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	if r.begin != nil {
		r.begin()
	}
}

// WriteHeader notes the status that is sent.
func (r *recorder) WriteHeader(status int) {
	r.note(status)
	r.ResponseWriter.WriteHeader(status)
}

// Write sends bytes, and the status 200 first when none was sent.
func (r *recorder) Write(b []byte) (int, error) {
	r.note(http.StatusOK)
	return r.ResponseWriter.Write(b)
}
