package httpapi

import (
	"context"
	"net/http"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
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

func (a *API) appraisalRoutes() {
	serve(a, operation{
		id: "list-appraisals", summary: "List decisions, newest first", tag: "appraisals",
		route: route{pattern: "GET /v1/appraisals", needs: access.ReadAppraisals},
	}, a.listAppraisals)
	serve(a, operation{
		id: "get-appraisal", summary: "Read one decision", tag: "appraisals",
		route: route{pattern: "GET /v1/appraisals/{id}", needs: access.ReadAppraisals},
	}, func(ctx context.Context, in *ByID) (*reply[attest.Appraisal], error) {
		one, err := a.service.Appraisal(ctx, in.ID)
		return &reply[attest.Appraisal]{listed(one)}, err
	})
	serve(a, operation{
		id: "get-evidence", summary: "Read evidence byte for byte as it was received", tag: "appraisals",
		route: route{pattern: "GET /v1/evidence/{digest}", needs: access.ReadAppraisals},
	}, func(ctx context.Context, in *evidenceInput) (*evidenceOutput, error) {
		bundle, err := a.service.Evidence(ctx, in.Digest)
		return &evidenceOutput{"application/json", `attachment; filename="` + in.Digest + `.json"`, bundle}, err
	})
}

func (a *API) listAppraisals(ctx context.Context, in *appraisalsInput) (*reply[appraisalsBody], error) {
	f := attest.AppraisalFilter{Attester: in.Attester, Machine: in.Machine, Before: in.Before, Limit: in.Limit}
	if in.Verdict != "" {
		f.Verdict = new(evidence.Verdict)
		if err := f.Verdict.UnmarshalText([]byte(in.Verdict)); err != nil {
			return nil, newProblem(http.StatusUnprocessableEntity, codeInvalid, err.Error())
		}
	}
	found, err := a.service.Appraisals(ctx, f)
	if err != nil {
		return nil, err
	}
	body := appraisalsBody{Appraisals: orEmpty(found)}
	for i := range body.Appraisals {
		body.Appraisals[i] = listed(body.Appraisals[i])
	}
	if len(found) == in.Limit {
		body.Next = found[len(found)-1].ID
	}
	return &reply[appraisalsBody]{body}, nil
}

// listed gives the lists of an appraisal that are empty the spelling [].
func listed(a attest.Appraisal) attest.Appraisal {
	a.Reasons, a.NotChecked = orEmpty(a.Reasons), orEmpty(a.NotChecked)
	if a.Claims == nil {
		a.Claims = evidence.Claims{}
	}
	return a
}

// orEmpty is s, or an empty list that JSON writes as [].
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
