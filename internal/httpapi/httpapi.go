// Package httpapi puts the attestation service on HTTP: it decodes a request,
// finds out who asks and whether they may, calls [attest.Service], and encodes
// the answer, or the problem (RFC 9457) that stands for an error.
//
// It decides nothing about evidence, and holds no socket or key: [NewServer] has
// the timeouts that a listener should be served with. Behind a proxy it sees the
// proxy's address only, and limits strangers by that. Start with [New]; the
// routes are in the files of their resources, and in docs/openapi.json.
package httpapi

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
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// AuditLog keeps a decision that changes nothing else: a request denied.
type AuditLog interface {
	RecordAudit(context.Context, audit.Entry) error
}

// Config is what an API is made of. Service, Principals, Audit, Now and Rand are required.
type Config struct {
	Service    *attest.Service
	Principals access.Store
	Audit      AuditLog
	Now        func() time.Time
	Rand       io.Reader    // of request ids and API tokens
	Log        *slog.Logger // nil means none
	// OpenAttestation lets callers without a credential ask for challenges and
	// have evidence appraised, and nothing else.
	OpenAttestation bool
	Limits          Limits
	Metrics         *Metrics // nil means some of its own
}

// An API answers the requests of one service. It is safe for concurrent use.
type API struct {
	service    *attest.Service
	principals access.Store
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
	health     health

	mux     *http.ServeMux
	huma    huma.API
	methods map[string][]string // of a path, for Allow
	openAPI []byte
}

// New makes the handler of the whole API.
func New(ctx context.Context, c Config) (http.Handler, error) {
	if c.Service == nil || c.Principals == nil || c.Audit == nil || c.Now == nil || c.Rand == nil {
		return nil, errors.New("make API: Service, Principals, Audit, Now and Rand are required")
	}
	a := newAPI(c)
	if err := a.routes(); err != nil {
		return nil, err
	}
	principals, err := c.Principals.Principals(ctx)
	if err != nil {
		return nil, fmt.Errorf("make API: %w", err)
	}
	a.known.learn(principals)
	return a.mux, nil
}

func newAPI(c Config) *API {
	limits := c.Limits.withDefaults()
	a := &API{
		service: c.Service, principals: c.Principals, audit: c.Audit, now: c.Now, rand: c.Rand, log: c.Log,
		open: c.OpenAttestation, limits: limits, callers: newCallers(limits), gate: newGate(limits),
		known: newKnownCredentials(), newcomers: newcomersGate(limits),
		bodies: &budget{left: limits.BodyMemory}, metrics: c.Metrics, origins: http.NewCrossOriginProtection(),
		mux: http.NewServeMux(), methods: map[string][]string{},
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.metrics == nil {
		a.metrics = NewMetrics()
	}
	return a
}

// OpenAPI returns the description of the API, indented: docs/openapi.json.
func OpenAPI() ([]byte, error) {
	a := newAPI(Config{Now: func() time.Time { return time.Time{} }})
	if err := a.routes(); err != nil {
		return nil, err
	}
	return a.openAPI, nil
}

// routes registers everything; no route is made elsewhere.
func (a *API) routes() error {
	a.huma = newHuma(a)
	a.attestationRoutes()
	a.appraisalRoutes()
	a.policyRoutes()
	a.anchorRoutes()
	a.referenceRoutes()
	a.attesterRoutes()
	a.enrolmentRoutes()
	a.keyRoutes()
	a.principalRoutes()
	a.auditRoutes()
	a.healthRoutes()
	return a.finishRoutes()
}
