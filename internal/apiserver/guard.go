package apiserver

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

// A Route is what the guard must know of an operation.
type Route struct {
	Pattern   string            // of net/http: "GET /v1/policies/{name}"
	Needs     access.Permission // empty: any principal will do
	Public    bool              // no credential is asked for or looked at
	Strangers bool              // also without a credential, where the operator opened attestation
	Unlimited bool              // outside all limits: what must answer when everything is full
	Body      int64             // largest request body; 0 for none
	// On names the part of the path that is an instance: Needs is wanted on that one.
	On string
	// Somewhere lets in who has Needs on some instance; the operation looks at each.
	Somewhere bool
}

// A call is a request that was let in.
type call struct {
	who   access.Principal // the zero Principal for nobody in particular
	body  []byte
	route Route
	path  string
	on    string // the instance that the route is about; empty for none
	leave *leavers
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

// Caller is the principal who asks; the zero one for nobody in particular.
func Caller(ctx context.Context) access.Principal { return callOf(ctx).who }

// Body is the request's, as it came.
func Body(ctx context.Context) []byte { return callOf(ctx).body }

// Anonymous is the actor of what nobody in particular does.
const Anonymous = "anonymous"

// Actor is the name of who asks, for the audit chain.
func Actor(ctx context.Context) string {
	if name := callOf(ctx).who.Name; name != "" {
		return name
	}
	return Anonymous
}

// guard puts everything that all routes share around one: headers, limits,
// authentication, permission, the body, metrics, and the end of a panic.
func (s *Server) guard(rt Route, next http.Handler) http.Handler {
	observe := s.metrics.route(rt.Pattern)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &recorder{ResponseWriter: w}
		began := s.now()
		s.metrics.inFlight.Inc()
		defer func() {
			if v := recover(); v != nil {
				s.panicked(out, r, v)
			}
			s.metrics.inFlight.Dec()
			took := s.now().Sub(began)
			observe(out.status, took)
			s.logRequest(r, rt, out.status, took)
		}()
		harden(w.Header())
		var leave leavers
		defer leave.run()
		admitted, err := s.admit(rt, r, out, &leave)
		if err != nil {
			s.problem(r.Context(), err).Write(out)
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

func (s *Server) logRequest(r *http.Request, rt Route, status int, took time.Duration) {
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.DebugContext(r.Context(), "request", slog.String("route", rt.Pattern), slog.Int("status", status), slog.Duration("took", took))
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

// AtEnd has f called once the answer to a request is written, or its client has gone: an
// operation that has returned has its answer in memory still. Outside a guarded route that is
// when the context ends.
func AtEnd(ctx context.Context, f func()) {
	if c := callOf(ctx); c.leave != nil {
		c.leave.add(f)
		return
	}
	context.AfterFunc(ctx, f)
}

// admit goes from the cheap to the dear: nothing of the body is read for who may
// not send it, and nothing of it is understood before there is room to. The turn
// at the gate ends when the answer begins, so that who reads slowly holds nothing
// but its own place.
func (s *Server) admit(rt Route, r *http.Request, out *recorder, leave *leavers) (*http.Request, error) {
	c := &call{route: rt, path: r.URL.Path, leave: leave}
	if !rt.Unlimited {
		early, cancel := s.timed(r)
		leave.add(cancel)
		var err error
		if c.who, err = s.identify(rt, early); err != nil {
			return nil, err
		}
		place, err := s.limit(c.who, r, leave)
		if err != nil {
			return nil, err
		}
		if c.who, err = s.labelled(rt, early, c.who); err != nil {
			return nil, err
		}
		if err := s.authorize(rt, early, c.who); err != nil {
			return nil, err
		}
		c.on = instanceOf(rt, early)
		if c.body, err = s.readBody(rt, r, place, leave); err != nil {
			return nil, err
		}
		if !s.gate.enter(r.Context()) {
			s.metrics.limited.WithLabelValues("gate").Inc()
			return nil, overloaded()
		}
		out.begin = sync.OnceFunc(s.gate.leave)
		leave.add(out.begin)
		r, cancel = s.timed(r)
		leave.add(cancel)
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	return r, nil
}

// timed bounds what a request waits for, so that a database that hangs is told
// to the client in time. The wait for the body has a bound of its own.
func (s *Server) timed(r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.Answer)
	return r.WithContext(ctx), cancel
}

// limit takes the request off its caller's limits and gives it a place.
func (s *Server) limit(who access.Principal, r *http.Request, leave *leavers) (*place, error) {
	key, known := "principal:"+who.Name, true
	if who.Name == "" {
		key, known = strangerKey(r.RemoteAddr), false
	}
	if wait := s.callers.spend(key, known, s.now()); wait > 0 {
		return nil, s.tooFast(wait)
	}
	place, ok := s.callers.enter(key, known)
	if !ok {
		s.metrics.limited.WithLabelValues("concurrency").Inc()
		p := NewProblem(http.StatusTooManyRequests, CodeConcurrency, "this caller has too many requests under way at once")
		p.retryAfter = time.Second
		return nil, p
	}
	leave.add(place.leave)
	return place, nil
}

func (s *Server) tooFast(wait time.Duration) *Problem {
	s.metrics.limited.WithLabelValues("rate").Inc()
	p := NewProblem(http.StatusTooManyRequests, CodeRate, "this caller sends requests faster than its limit")
	p.retryAfter = wait
	return p
}

// authorize holds who asks against what the route needs.
func (s *Server) authorize(rt Route, r *http.Request, who access.Principal) error {
	if rt.Public || who.Name == "" && rt.Strangers && s.open {
		return nil
	}
	if who.Name == "" {
		return noCredential()
	}
	// Browsers send client certificates on their own, so a page of another origin
	// must not be able to make them ask.
	if err := s.origins.Check(r); err != nil {
		return NewProblem(http.StatusForbidden, CodeCrossOrigin, "the request comes from a web page of another origin")
	}
	if rt.Needs == "" {
		return nil
	}
	if rt.Somewhere && !who.Expired(s.now()) && who.MaySomewhere(rt.Needs) {
		return nil
	}
	return s.allow(r.Context(), who, rt, want{rt.Needs, instanceOf(rt, r), r.URL.Path})
}

// instanceOf is the instance that a request is about; empty for none.
func instanceOf(rt Route, r *http.Request) string {
	if rt.On == "" {
		return ""
	}
	return clip(r.PathValue(rt.On), maxInstance)
}

// Recheck holds who asks against what the route needs once more, by the labels that its
// instance has now: they may be others than when the request was let in.
func (s *Server) Recheck(ctx context.Context) error {
	c := callOf(ctx)
	if !c.who.ByLabel() || c.on == "" {
		return nil
	}
	labels, err := s.Labels(ctx, c.on)
	if err != nil {
		return err
	}
	c.who.Labels = labels
	return s.allow(ctx, c.who, c.route, want{c.route.Needs, c.on, c.path})
}

// RecheckBy is Recheck by labels that somebody holds still.
func (s *Server) RecheckBy(ctx context.Context, labels map[string]string) error {
	c := callOf(ctx)
	if !c.who.ByLabel() || c.on == "" {
		return nil
	}
	who := c.who
	who.Labels = map[string]map[string]string{c.on: labels}
	return s.allow(ctx, who, c.route, want{c.route.Needs, c.on, c.path})
}

// labelled has a principal with roles by label know the labels that a route needs: of the
// instance that it is about, else of all.
func (s *Server) labelled(rt Route, r *http.Request, who access.Principal) (access.Principal, error) {
	if !who.ByLabel() || rt.On == "" && !rt.Somewhere && rt.Needs != "" {
		return who, nil
	}
	var err error
	who.Labels, err = s.Labels(r.Context(), instanceOf(rt, r))
	return who, err
}

// Labels are those of one instance, or with an empty name of all, by name.
func (s *Server) Labels(ctx context.Context, instance string) (map[string]map[string]string, error) {
	for _, set := range s.sets {
		if l, ok := set.(Labeller); ok {
			return l.Labels(ctx, instance)
		}
	}
	return nil, nil
}

// maxInstance is longer than any name of an instance is.
const maxInstance = 128

// A want is what somebody needs for a request.
type want struct {
	permission     access.Permission
	instance, path string
}

// allow denies what who may not do, and has the audit chain remember it.
func (s *Server) allow(ctx context.Context, who access.Principal, rt Route, w want) error {
	err := access.AuthorizeOn(who, w.permission, w.instance, s.now())
	var denied *access.DeniedError
	if errors.As(err, &denied) && s.callers.mayRecord("principal:"+who.Name, s.now()) {
		detail, _ := json.Marshal(map[string]any{"permission": denied.Permission, "path": clip(w.path, 256)})
		entry := audit.Entry{Time: s.now(), Actor: who.Name, Action: "request", Subject: rt.Pattern, Outcome: "denied", Detail: detail}
		if err := s.audit.RecordAudit(ctx, entry); err != nil {
			return fmt.Errorf("record denial: %w", err)
		}
	}
	return err
}

// Allow denies an operation that its caller may not carry out on an instance, beyond what
// its route asks for. The audit chain remembers a denial.
func (s *Server) Allow(ctx context.Context, permission access.Permission, instance string) error {
	c := callOf(ctx)
	if c.who.Name == "" {
		return noCredential()
	}
	return s.allow(ctx, c.who, c.route, want{permission, clip(instance, maxInstance), c.path})
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// panicked ends a request that met a bug of ours; the server goes on.
func (s *Server) panicked(out *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http's own way to abort
		panic(v)
	}
	id := s.requestID()
	s.log.ErrorContext(r.Context(), "panic in request", slog.String("request", id), slog.String("route", r.Pattern),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	s.metrics.panics.Inc()
	if out.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
	p := NewProblem(http.StatusInternalServerError, CodeInternal, "the service could not carry out the request; its log tells why under the request id")
	p.RequestID = id
	p.Write(out)
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
