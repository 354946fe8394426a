// Package apiserver is what all routes of the service's HTTP API share: who asks and
// whether they may, limits, bodies, strict JSON, problems (RFC 9457), metrics, and the
// description of the API. It knows no resource: a set of [Routes] registers each of its
// operations with [Serve] or [Raw].
//
// It holds no socket or key: [NewServer] has the timeouts that a listener should be
// served with. Behind a proxy it sees the proxy's address only, and limits strangers by
// that. Start with [New].
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// AuditLog keeps a decision that changes nothing else: a request denied.
type AuditLog interface {
	RecordAudit(context.Context, audit.Entry) error
}

// Routes are a set of operations, which stands beside others on one server.
type Routes interface {
	// Register registers the operations, with Serve and Raw.
	Register(*Server)
	// Explain returns what a client may know of an error of these operations; nil for
	// an error that is not theirs.
	Explain(error) *Problem
}

// A Labeller is Routes that know the labels of instances, which bindings are about.
type Labeller interface {
	// Labels are those of one instance, or with an empty name of all, by name. One whose
	// labels are not known is not there.
	Labels(ctx context.Context, instance string) (map[string]map[string]string, error)
}

// Principals find who shows a credential.
type Principals interface {
	Principals(context.Context) ([]access.Principal, error)
	PrincipalByToken(context.Context, access.Digest) (access.Principal, error)
	PrincipalByCertificate(context.Context, access.Digest) (access.Principal, error)
}

// Config is what a Server is made of. Principals, Audit, Now and Rand are required.
type Config struct {
	Description string // of the API, a sentence or two
	Principals  Principals
	Audit       AuditLog
	Now         func() time.Time
	Rand        io.Reader    // of request ids
	Log         *slog.Logger // nil means none
	// Open lets callers without a credential use the routes that have Strangers.
	Open    bool
	Limits  Limits
	Metrics *Metrics // nil means some of its own
}

// A Server answers the requests of all routes. It is safe for concurrent use.
type Server struct {
	principals Principals
	audit      AuditLog
	now        func() time.Time
	rand       io.Reader
	log        *slog.Logger
	open       bool
	limits     Limits
	callers    *callers
	known      *knownCredentials
	newcomers  *gate
	gate       *gate
	bodies     *budget
	metrics    *Metrics
	origins    *http.CrossOriginProtection
	sets       []Routes

	mux     *http.ServeMux
	huma    huma.API
	methods map[string][]string // of a path, for Allow
	openAPI []byte
}

// New makes the handler of the whole API out of its sets of routes. The credentials of
// the principals there are count as seen before.
func New(ctx context.Context, c Config, sets ...Routes) (*Server, error) {
	if c.Principals == nil || c.Audit == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("make API: Principals, Audit, Now and Rand are required")
	}
	s, err := newServer(c, sets)
	if err != nil {
		return nil, err
	}
	principals, err := c.Principals.Principals(ctx)
	if err != nil {
		return nil, fmt.Errorf("make API: %w", err)
	}
	s.Learn(principals...)
	return s, nil
}

func newServer(c Config, sets []Routes) (*Server, error) {
	limits := c.Limits.withDefaults()
	s := &Server{
		principals: c.Principals, audit: c.Audit, now: c.Now, rand: c.Rand, log: c.Log,
		open: c.Open, limits: limits, callers: newCallers(limits), gate: newGate(limits),
		known: newKnownCredentials(), newcomers: newcomersGate(limits),
		bodies: &budget{left: limits.BodyMemory}, metrics: c.Metrics, origins: http.NewCrossOriginProtection(),
		sets: sets, mux: http.NewServeMux(), methods: map[string][]string{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	s.huma = newHuma(s, c.Description)
	for _, set := range sets {
		set.Register(s)
	}
	return s, s.finishRoutes()
}

// Describe returns the description of an API, indented: docs/openapi.json.
func Describe(description string, sets ...Routes) ([]byte, error) {
	s, err := newServer(Config{Description: description, Now: func() time.Time { return time.Time{} }}, sets)
	if err != nil {
		return nil, err
	}
	return s.openAPI, nil
}

// ServeHTTP serves the whole API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Learn has the credentials of principals count as seen before: those of before a
// restart, and those that have just been given out, need not come one by one past who
// floods from their address.
func (s *Server) Learn(principals ...access.Principal) { s.known.learn(principals) }
