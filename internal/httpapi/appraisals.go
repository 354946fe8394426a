package httpapi

import (
	"context"
	"net/http"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

type appraisalsInput struct {
	Attester string `query:"attester" maxLength:"256" doc:"Name of the attestation key, hex"`
	Machine  string `query:"machine" maxLength:"128"`
	Verdict  string `query:"verdict" enum:"trusted,refused,unusable"`
	Before   string `query:"before" maxLength:"64" doc:"Only older ones than this id: next of the page before"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type appraisalsBody struct {
	Appraisals []attest.Appraisal `json:"appraisals" doc:"Newest first" nullable:"false"`
	Next       string             `json:"next,omitempty" doc:"before of the next page; absent on the last"`
}

// ByID is the last part of a path. Like [ByName] and [ByAKName] it is exported
// because the library passes over embedded types that are not.
type ByID struct {
	ID string `path:"id" maxLength:"128"`
}

type evidenceInput struct {
	Digest string `path:"digest" pattern:"^[0-9a-f]{64}$" doc:"SHA-256 of the bundle, hex"`
}

type evidenceOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (a *API) appraisalRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-appraisals", Summary: "List decisions, newest first", Tag: "appraisals",
		Route: apiserver.Route{Pattern: "GET /v1/appraisals", Needs: access.ReadAppraisals},
	}, a.listAppraisals)
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-appraisal", Summary: "Read one decision", Tag: "appraisals",
		Route: apiserver.Route{Pattern: "GET /v1/appraisals/{id}", Needs: access.ReadAppraisals},
	}, func(ctx context.Context, in *ByID) (*apiserver.Reply[attest.Appraisal], error) {
		one, err := a.service.Appraisal(ctx, in.ID)
		return apiserver.Answer(listed(one)), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-evidence", Summary: "Read evidence byte for byte as it was received", Tag: "appraisals",
		Route: apiserver.Route{Pattern: "GET /v1/evidence/{digest}", Needs: access.ReadAppraisals},
	}, func(ctx context.Context, in *evidenceInput) (*evidenceOutput, error) {
		bundle, err := a.service.Evidence(ctx, in.Digest)
		return &evidenceOutput{"application/json", `attachment; filename="` + in.Digest + `.json"`, bundle}, err
	})
}

func (a *API) listAppraisals(ctx context.Context, in *appraisalsInput) (*apiserver.Reply[appraisalsBody], error) {
	f := attest.AppraisalFilter{Attester: in.Attester, Machine: in.Machine, Before: in.Before, Limit: in.Limit}
	if in.Verdict != "" {
		f.Verdict = new(evidence.Verdict)
		if err := f.Verdict.UnmarshalText([]byte(in.Verdict)); err != nil {
			return nil, apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, err.Error())
		}
	}
	found, err := a.service.Appraisals(ctx, f)
	if err != nil {
		return nil, err
	}
	body := appraisalsBody{Appraisals: apiserver.OrEmpty(found)}
	for i := range body.Appraisals {
		body.Appraisals[i] = listed(body.Appraisals[i])
	}
	if len(found) == in.Limit {
		body.Next = found[len(found)-1].ID
	}
	return apiserver.Answer(body), nil
}

// listed gives the lists of an appraisal that are empty the spelling [].
func listed(a attest.Appraisal) attest.Appraisal {
	a.Reasons, a.NotChecked = apiserver.OrEmpty(a.Reasons), apiserver.OrEmpty(a.NotChecked)
	if a.Claims == nil {
		a.Claims = evidence.Claims{}
	}
	return a
}
