package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/token"
)

// maxEvidence is the largest request to attest.
const maxEvidence = apiserver.LargestBody

// defaultType is the kind of evidence of a request that names none.
const defaultType = "tpm"

const (
	maxName   = 128 // more than any name that the service knows
	maxCopied = 512 // of what goes from the request into the token
)

type challengeInput struct {
	Body struct {
		Type   string `json:"type,omitempty" maxLength:"128" doc:"Kind of the evidence that will answer; tpm when absent" example:"tpm"`
		Policy string `json:"policy,omitempty" maxLength:"128" doc:"Name of the policy that will decide; default when absent"`
	}
}

type challengeBody struct {
	Challenge string    `json:"challenge" doc:"Opaque; send it back with the evidence"`
	Nonce     []byte    `json:"nonce" doc:"Qualifying data that the TPM must quote over"`
	Expires   time.Time `json:"expires"`
}

// attestBody describes the request that parseAttest reads by hand.
type attestBody struct {
	Challenge string         `json:"challenge" doc:"As it was issued"`
	Type      string         `json:"type,omitempty" doc:"Kind of evidence; that of the bundle when absent"`
	Policy    string         `json:"policy,omitempty" doc:"As it was asked for with the challenge; default when absent"`
	Profile   string         `json:"profile,omitempty" enum:"assay,azure,ear" doc:"Shape of the token; assay when absent"`
	Nonce     string         `json:"nonce,omitempty" maxLength:"510" doc:"Copied into the token for its relying party; no proof that the evidence is fresh"`
	Audience  string         `json:"audience,omitempty" maxLength:"510" doc:"Who the token is for"`
	Evidence  map[string]any `json:"evidence" doc:"Evidence bundle; docs/formats/evidence-bundle.md. Kept byte for byte"`
}

func (a *API) attestationRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "issue-challenge", Summary: "Ask for a challenge, good for one attestation", Tag: "attestation", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/challenges", Needs: access.Attest, Strangers: true, Body: 4 << 10},
	}, a.issueChallenge)
	a.attestRoute(s)
}

func (a *API) issueChallenge(ctx context.Context, in *challengeInput) (*apiserver.Reply[challengeBody], error) {
	kind := in.Body.Type
	if kind == "" {
		kind = defaultType
	}
	c, err := a.service.NewChallenge(ctx, attest.Purpose{Type: kind, Policy: in.Body.Policy})
	if err != nil {
		return nil, err
	}
	a.metrics.challenges.WithLabelValues("issued").Inc()
	return apiserver.Answer(challengeBody(c)), nil
}

// attestRoute is described like any other but served by hand: the evidence must
// reach the service as the bytes that came, and this is the route that has to be fast.
func (a *API) attestRoute(s *apiserver.Server) {
	o := apiserver.Operation{
		ID: "attest", Summary: "Have evidence appraised", Tag: "attestation",
		Route: apiserver.Route{Pattern: "POST /v1/attest", Needs: access.Attest, Strangers: true, Body: maxEvidence},
	}
	s.Raw(o, apiserver.Shapes{
		In: reflect.TypeFor[attestBody](), InName: "AttestBody", Out: reflect.TypeFor[attest.Result](), OutName: "Result",
		Answer: "The decision; a refusal is one too, and has no token",
	}, a.attest)
}

func (a *API) attest(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := parseAttest(apiserver.Body(ctx))
	var result attest.Result
	if err == nil {
		result, err = a.service.Attest(ctx, apiserver.Actor(ctx), request)
	}
	if err != nil {
		a.metrics.refusedChallenge(err)
		a.server.Fail(ctx, w, err)
		return
	}
	a.metrics.decided(result)
	w.Header().Set("Content-Type", "application/json")
	w.Write(result.JSON()) //nolint:errcheck // the decision is kept; the client may read it later
}

// parseAttest reads the request; the bundle aliases body.
func parseAttest(body []byte) (attest.Request, error) {
	var r attest.Request
	err := members(body, func(name string, value strictjson.Value) error {
		switch name {
		case "challenge":
			return textInto(&r.Challenge, name, value, 1024)
		case "type":
			return textInto(&r.Type, name, value, maxName)
		case "policy":
			return textInto(&r.Policy, name, value, maxName)
		case "profile":
			return profileInto(&r.Profile, value)
		case "nonce":
			return textInto(&r.Nonce, name, value, maxCopied)
		case "audience":
			return textInto(&r.Audience, name, value, maxCopied)
		case "evidence":
			if value[0] != '{' {
				return apiserver.Malformed("evidence is not an object")
			}
			r.Bundle = value
			return nil
		default:
			return apiserver.Malformed("there is no member %q in this request", name)
		}
	})
	switch {
	case err != nil:
		return attest.Request{}, err
	case r.Challenge == "":
		return attest.Request{}, missing("challenge")
	case r.Bundle == nil:
		return attest.Request{}, missing("evidence")
	}
	if r.Type == "" {
		r.Type, err = bundleType(strictjson.Value(r.Bundle))
	}
	return r, err
}

func profileInto(to *token.Profile, value strictjson.Value) error {
	var word string
	if err := textInto(&word, "profile", value, maxName); err != nil {
		return err
	}
	if err := to.UnmarshalText([]byte(word)); err != nil {
		return apiserver.InvalidField("profile", "is none of assay, azure, ear")
	}
	return nil
}

func missing(name string) *apiserver.Problem {
	p := apiserver.Malformed("member %q is missing", name)
	p.Errors = []apiserver.FieldError{{Field: name, Detail: "is missing"}}
	return p
}

// errFound ends a walk that has found what it looks for.
var errFound = errors.New("found")

// bundleType reads the kind that the bundle, which is checked, says it is.
func bundleType(bundle strictjson.Value) (string, error) {
	var kind string
	err := bundle.Object(func(name string, value strictjson.Value) error {
		if name != "type" {
			return nil
		}
		if err := textInto(&kind, "evidence.type", value, maxName); err != nil {
			return err
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	if err == nil && kind == "" {
		err = missing("evidence.type")
	}
	return kind, err
}

// textInto reads a JSON string of at most limit bytes.
func textInto(to *string, name string, value strictjson.Value, limit int) error {
	text, err := value.Text()
	if err != nil || len(value) > limit {
		return apiserver.Malformed("%s is not a string of at most %d bytes", name, limit)
	}
	*to = text
	return nil
}

// refusedChallenge counts how a challenge failed.
func (m *Metrics) refusedChallenge(err error) {
	var refusal *evidence.Refusal
	if errors.As(err, &refusal) {
		m.challenges.WithLabelValues(apiserver.Bounded(refusal.Code)).Inc()
	}
}

// decided counts a decision, the codes it rests on, and the challenge it used up.
func (m *Metrics) decided(r attest.Result) {
	m.challenges.WithLabelValues("used").Inc()
	m.appraisals.WithLabelValues(r.Type, r.Verdict.String()).Inc()
	for _, reason := range r.Reasons {
		m.reasons.WithLabelValues(apiserver.Bounded(reason.Code)).Inc()
	}
}
