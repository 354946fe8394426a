package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/access"
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

func (a *API) policyRoutes() {
	serve(a, operation{
		id: "list-policies", summary: "List policies", tag: "policies",
		route: route{pattern: "GET /v1/policies", needs: access.ReadPolicies},
	}, func(ctx context.Context, _ *struct{}) (*reply[policiesBody], error) {
		all, err := a.service.Policies(ctx)
		return &reply[policiesBody]{policiesBody{orEmpty(all)}}, err
	})
	serve(a, operation{
		id: "get-policy", summary: "Read a policy with its history", tag: "policies",
		route: route{pattern: "GET /v1/policies/{name}", needs: access.ReadPolicies},
	}, func(ctx context.Context, in *ByName) (*reply[historyBody], error) {
		all, err := a.service.PolicyHistory(ctx, in.Name)
		return &reply[historyBody]{historyBody{orEmpty(all)}}, err
	})
	serve(a, operation{
		id: "put-policy", summary: "Make a new version of a policy", tag: "policies",
		route: route{pattern: "PUT /v1/policies/{name}", needs: access.SetPolicies, body: maxPolicy},
	}, a.putPolicy)
	serve(a, operation{
		id: "roll-back-policy", summary: "Put the text of an older version in force again, as a new version", tag: "policies",
		route: route{pattern: "POST /v1/policies/{name}/rollback", needs: access.SetPolicies, body: 4 << 10},
	}, func(ctx context.Context, in *rollbackInput) (*reply[policyBody], error) {
		v, err := a.service.RollbackPolicy(ctx, actor(ctx), in.Name, in.Body.Version)
		return &reply[policyBody]{policyBody{v, []string{}}}, err
	})
}

func (a *API) putPolicy(ctx context.Context, in *policyInput) (*reply[policyBody], error) {
	replaces, err := premise(in.IfMatch, in.Body.Replaces)
	if err != nil {
		return nil, err
	}
	v, warnings, err := a.service.PutPolicy(ctx, actor(ctx), attest.PolicyChange{
		Name: in.Name, Text: in.Body.Text, Comment: in.Body.Comment, Replaces: replaces, AllowVacuous: in.Body.AllowVacuous,
	})
	if err != nil {
		return nil, err
	}
	body := policyBody{v, []string{}}
	for _, w := range warnings {
		body.Warnings = append(body.Warnings, w.String())
	}
	return &reply[policyBody]{body}, nil
}

// premise is the version that a change claims to replace: from the body or from
// If-Match (RFC 9110, 13.1.1), whose entity tag is the version in quotes. One must
// be there, so that nobody overwrites what they have not seen.
func premise(ifMatch string, replaces *int) (int, error) {
	if ifMatch == "" {
		if replaces == nil {
			p := newProblem(http.StatusUnprocessableEntity, codeInvalid, "say which version this replaces: member replaces, 0 for a new name, or If-Match")
			p.Errors = []FieldError{{"replaces", "is missing"}}
			return 0, p
		}
		return *replaces, nil
	}
	text, ok := strings.CutPrefix(ifMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	n, err := strconv.Atoi(text)
	if !ok || !closed || err != nil || n < 0 || replaces != nil && *replaces != n {
		return 0, newProblem(http.StatusUnprocessableEntity, codeInvalid, `If-Match must be one version in quotes, "3", and agree with replaces`)
	}
	return n, nil
}
