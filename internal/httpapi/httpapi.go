// Package httpapi puts the attestation service on HTTP: its routes decode a request,
// call [attest.Service], and encode the answer. Who asks and whether they may, limits
// and problems are of package apiserver.
//
// It decides nothing about evidence. Start with [New]; the routes are in the files of
// their resources, and in docs/openapi.json.
package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

// Config is what an API is made of. Service, Principals, Audit, Now and Rand are required.
type Config struct {
	Service    *attest.Service
	Principals access.Store
	Audit      apiserver.AuditLog
	Now        func() time.Time
	Rand       io.Reader    // of request ids and API tokens
	Log        *slog.Logger // nil means none
	// OpenAttestation lets callers without a credential ask for challenges and
	// have evidence appraised, and nothing else.
	OpenAttestation bool
	Limits          apiserver.Limits
	Metrics         *Metrics // nil means some of its own
}

// An API is the routes of one attestation service. It is safe for concurrent use.
type API struct {
	service    *attest.Service
	principals access.Store
	now        func() time.Time
	rand       io.Reader
	log        *slog.Logger
	metrics    *Metrics
	health     health
	server     *apiserver.Server // which it is registered with
}

// New makes the handler of the whole API, with other sets of routes beside its own.
func New(ctx context.Context, c Config, beside ...apiserver.Routes) (http.Handler, error) {
	if c.Service == nil || c.Principals == nil {
		return nil, errors.New("make API: Service and Principals are required")
	}
	a := newAPI(c)
	return apiserver.New(ctx, apiserver.Config{
		Description: description, Principals: c.Principals, Audit: c.Audit, Now: c.Now, Rand: c.Rand, Log: c.Log,
		Open: c.OpenAttestation, Limits: c.Limits, Metrics: a.metrics.Metrics,
	}, append([]apiserver.Routes{a}, beside...)...)
}

func newAPI(c Config) *API {
	a := &API{service: c.Service, principals: c.Principals, now: c.Now, rand: c.Rand, log: c.Log, metrics: c.Metrics}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.metrics == nil {
		a.metrics = NewMetrics()
	}
	return a
}

const description = "Attestation service: challenges, appraisal of evidence, and what appraisals rest on; with --machines, the machines of its host. Errors are RFC 9457 problems whose code is explained in docs/reasons.md."

// OpenAPI returns the description of the API, indented: docs/openapi.json.
func OpenAPI(beside ...apiserver.Routes) ([]byte, error) {
	return apiserver.Describe(description, append([]apiserver.Routes{newAPI(Config{})}, beside...)...)
}

// Register registers everything; no route is made elsewhere.
func (a *API) Register(s *apiserver.Server) {
	a.server = s
	a.attestationRoutes(s)
	a.appraisalRoutes(s)
	a.policyRoutes(s)
	a.anchorRoutes(s)
	a.referenceRoutes(s)
	a.attesterRoutes(s)
	a.enrolmentRoutes(s)
	a.keyRoutes(s)
	a.principalRoutes(s)
	a.roleRoutes(s)
	a.auditRoutes(s)
	a.healthRoutes(s)
}

// Explain says what a client may know of an error of the attestation service.
func (a *API) Explain(err error) *apiserver.Problem {
	var (
		input    *attest.InputError
		conflict *attest.ConflictError
		refusal  *evidence.Refusal
	)
	switch {
	case errors.As(err, &input):
		p := apiserver.NewProblem(http.StatusUnprocessableEntity, input.Code, input.Error())
		p.Errors = []apiserver.FieldError{{Field: input.Field, Detail: input.Detail}}
		return p
	case errors.As(err, &conflict):
		return apiserver.NewProblem(http.StatusConflict, conflict.Code, conflict.Detail)
	case errors.As(err, &refusal):
		return refusalProblem(refusal)
	case errors.Is(err, access.ErrInUse):
		return apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "somebody has this role: revoke it first; GET /v1/principals says who")
	case errors.Is(err, attest.ErrNotFound):
		return apiserver.NotFound()
	case errors.Is(err, attest.ErrExists):
		return apiserver.Taken()
	case errors.Is(err, attest.ErrStale):
		return apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "it was changed meanwhile: read it again")
	default:
		return nil
	}
}

// refusalProblem answers a challenge that is not accepted.
func refusalProblem(r *evidence.Refusal) *apiserver.Problem {
	status := http.StatusBadRequest
	if r.Code == "challenge.used" {
		status = http.StatusConflict
	}
	p := apiserver.NewProblem(status, r.Code, r.Message)
	if strings.HasPrefix(string(r.Code), "challenge.") {
		p.Errors = []apiserver.FieldError{{Field: "challenge", Detail: r.Message}}
	}
	return p
}
