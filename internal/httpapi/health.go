package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
)

// health remembers the last answer for a moment, so that probes cost nothing.
type health struct {
	mu   sync.Mutex // guards all below
	at   time.Time
	last error
}

const (
	healthFor  = 500 * time.Millisecond // how long an answer holds
	healthWait = 3 * time.Second        // how long the service may take for one
)

type healthBody struct {
	Status string `json:"status" enum:"ok"`
}

type jsonText struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	Body         []byte
}

func (a *API) healthRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "health", Summary: "Whether the service can do its job", Tag: "service",
		Route: apiserver.Route{Pattern: "GET /healthz", Public: true, Unlimited: true},
	}, a.getHealth)
	apiserver.Serve(s, apiserver.Operation{
		ID: "token-keys", Summary: "Keys that sign tokens, as a JWK Set (RFC 7517)", Tag: "service",
		Route: apiserver.Route{Pattern: "GET /certs", Public: true},
	}, func(context.Context, *struct{}) (*jsonText, error) {
		body, err := a.service.JWKS()
		return &jsonText{"application/json", keysAge, body}, err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "openid-configuration", Summary: "OpenID metadata of the token issuer", Tag: "service",
		Route: apiserver.Route{Pattern: "GET /.well-known/openid-configuration", Public: true},
	}, func(context.Context, *struct{}) (*jsonText, error) {
		body, err := a.service.Metadata()
		return &jsonText{"application/json", keysAge, body}, err
	})
	s.Handle(apiserver.Route{Pattern: "GET /metrics", Needs: access.ReadMeasurement}, a.metrics.Handler())
}

// keysAge is short beside the overlap of a rotation.
const keysAge = "public, max-age=300"

func (a *API) getHealth(ctx context.Context, _ *struct{}) (*apiserver.Reply[healthBody], error) {
	if a.ready(ctx) != nil {
		return nil, apiserver.NewProblem(http.StatusServiceUnavailable, apiserver.CodeUnavailable, "the service cannot reach its database, or has no key to sign with")
	}
	return apiserver.Answer(healthBody{"ok"}), nil
}

// ready asks the service, at most twice a second. The answer does not depend on
// whether the one who asked first still waits.
func (a *API) ready(ctx context.Context) error {
	return a.health.answer(a.now, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthWait)
		defer cancel()
		err := a.service.Ready(ctx)
		if err != nil {
			a.log.ErrorContext(ctx, "service is not ready", slog.Any("error", err))
		}
		return err
	})
}

// answer asks, unless the last answer still holds. An answer holds from when it
// came: those who waited for a slow one share it.
func (h *health) answer(now func() time.Time, ask func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at.IsZero() || now().Sub(h.at) >= healthFor {
		h.last = ask()
		h.at = now()
	}
	return h.last
}
