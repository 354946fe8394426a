package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
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
		early, cancel := a.timed(r)
		leave.add(cancel)
		var err error
		if c.who, err = a.identify(rt, early); err != nil {
			return nil, err
		}
		place, err := a.limit(c.who, r, leave)
		if err != nil {
			return nil, err
		}
		if err := a.authorize(rt, early, c.who); err != nil {
			return nil, err
		}
		if c.body, err = a.readBody(rt, r, place, leave); err != nil {
			return nil, err
		}
		if !a.gate.enter(r.Context()) {
			a.metrics.limited.WithLabelValues("gate").Inc()
			return nil, overloaded()
		}
		out.begin = sync.OnceFunc(a.gate.leave)
		leave.add(out.begin)
		r, cancel = a.timed(r)
		leave.add(cancel)
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	return r, nil
}

// timed bounds what a request waits for, so that a database that hangs is told
// to the client in time. The wait for the body has a bound of its own.
func (a *API) timed(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.Answer)
	return r.WithContext(ctx), cancel
}

// limit takes the request off its caller's limits and gives it a place.
func (a *API) limit(who access.Principal, r *http.Request, leave *leavers) (*place, error) {
	key, known := "principal:"+who.Name, true
	if who.Name == "" {
		key, known = strangerKey(r.RemoteAddr), false
	}
	if wait := a.callers.spend(key, known, a.now()); wait > 0 {
		return nil, a.tooFast(wait)
	}
	place, ok := a.callers.enter(key, known)
	if !ok {
		a.metrics.limited.WithLabelValues("concurrency").Inc()
		p := newProblem(http.StatusTooManyRequests, codeConcurrency, "this caller has too many requests under way at once")
		p.retryAfter = time.Second
		return nil, p
	}
	leave.add(place.leave)
	return place, nil
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
