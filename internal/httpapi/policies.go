package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

type policiesBody struct {
	Policies []attest.PolicyVersion `json:"policies" doc:"The current version of each, by name" nullable:"false"`
}

// ByName is the part of a path that names a thing.
type ByName struct {
	Name string `path:"name" maxLength:"128"`
}

type historyBody struct {
	Versions []attest.PolicyVersion `json:"versions" doc:"Newest first; the first is in force" nullable:"false"`
}

type policyInput struct {
	ByName
	IfMatch string `header:"If-Match" doc:"The version that the author has seen, quoted, in place of replaces"`
	Body    struct {
		Text         string `json:"text" maxLength:"1048576" doc:"The policy"`
		Comment      string `json:"comment,omitempty" maxLength:"1024"`
		Replaces     *int   `json:"replaces,omitempty" minimum:"0" doc:"The version that the author has seen; 0 for a new name"`
		AllowVacuous bool   `json:"allowVacuous,omitempty" doc:"Let a policy in that permits whatever it is given"`
	}
}

type policyBody struct {
	Policy   attest.PolicyVersion `json:"policy"`
	Warnings []string             `json:"warnings" nullable:"false"`
}

type rollbackInput struct {
	ByName
	Body struct {
		Version int `json:"version" minimum:"1" doc:"The version whose text is to be in force again"`
	}
}

// maxPolicy leaves room for a policy of 1 MiB with escapes.
const maxPolicy = 2 << 20

func (a *API) policyRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-policies", Summary: "List policies", Tag: "policies",
		Route: apiserver.Route{Pattern: "GET /v1/policies", Needs: access.ReadPolicies},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[policiesBody], error) {
		all, err := a.service.Policies(ctx)
		return apiserver.Answer(policiesBody{apiserver.OrEmpty(all)}), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-policy", Summary: "Read a policy with its history", Tag: "policies",
		Route: apiserver.Route{Pattern: "GET /v1/policies/{name}", Needs: access.ReadPolicies},
	}, func(ctx context.Context, in *ByName) (*apiserver.Reply[historyBody], error) {
		all, err := a.service.PolicyHistory(ctx, in.Name)
		return apiserver.Answer(historyBody{apiserver.OrEmpty(all)}), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "put-policy", Summary: "Make a new version of a policy", Tag: "policies",
		Route: apiserver.Route{Pattern: "PUT /v1/policies/{name}", Needs: access.SetPolicies, Body: maxPolicy},
	}, a.putPolicy)
	apiserver.Serve(s, apiserver.Operation{
		ID: "roll-back-policy", Summary: "Put the text of an older version in force again, as a new version", Tag: "policies",
		Route: apiserver.Route{Pattern: "POST /v1/policies/{name}/rollback", Needs: access.SetPolicies, Body: 4 << 10},
	}, func(ctx context.Context, in *rollbackInput) (*apiserver.Reply[policyBody], error) {
		v, err := a.service.RollbackPolicy(ctx, apiserver.Actor(ctx), in.Name, in.Body.Version)
		return apiserver.Answer(policyBody{v, []string{}}), err
	})
}

func (a *API) putPolicy(ctx context.Context, in *policyInput) (*apiserver.Reply[policyBody], error) {
	replaces, err := premise(in.IfMatch, in.Body.Replaces)
	if err != nil {
		return nil, err
	}
	v, warnings, err := a.service.PutPolicy(ctx, apiserver.Actor(ctx), attest.PolicyChange{
		Name: in.Name, Text: in.Body.Text, Comment: in.Body.Comment, Replaces: replaces, AllowVacuous: in.Body.AllowVacuous,
	})
	if err != nil {
		return nil, err
	}
	body := policyBody{v, []string{}}
	for _, w := range warnings {
		body.Warnings = append(body.Warnings, w.String())
	}
	return apiserver.Answer(body), nil
}

// premise is the version that a change claims to replace: from the body or from
// If-Match (RFC 9110, 13.1.1), whose entity tag is the version in quotes. One must
// be there, so that nobody overwrites what they have not seen.
func premise(ifMatch string, replaces *int) (int, error) {
	if ifMatch == "" {
		if replaces == nil {
			p := apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, "say which version this replaces: member replaces, 0 for a new name, or If-Match")
			p.Errors = []apiserver.FieldError{{Field: "replaces", Detail: "is missing"}}
			return 0, p
		}
		return *replaces, nil
	}
	text, ok := strings.CutPrefix(ifMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	n, err := strconv.Atoi(text)
	if !ok || !closed || err != nil || n < 0 || replaces != nil && *replaces != n {
		return 0, apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, `If-Match must be one version in quotes, "3", and agree with replaces`)
	}
	return n, nil
}
