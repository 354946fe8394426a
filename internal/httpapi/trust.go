package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
)

type anchorsBody struct {
	Anchors []attest.Anchor `json:"anchors" nullable:"false"`
}

type anchorsInput struct {
	Body struct {
		Kind string `json:"kind" enum:"ek-ca,ak-ca" doc:"What the authority issues: certificates of endorsement keys or of attestation keys"`
		PEM  string `json:"pem" doc:"One or more certificates"`
	}
}

// maxAnchors is room for the largest vendor bundle known, some 1,700 certificates.
const maxAnchors = 8 << 20

func (a *API) anchorRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-anchors", Summary: "List trusted certificate authorities", Tag: "anchors",
		Route: apiserver.Route{Pattern: "GET /v1/anchors", Needs: access.ReadAnchors},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[anchorsBody], error) {
		all, err := a.service.Anchors(ctx)
		return apiserver.Answer(anchorsBody{apiserver.OrEmpty(all)}), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "add-anchors", Summary: "Trust certificate authorities", Tag: "anchors", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/anchors", Needs: access.SetAnchors, Body: maxAnchors},
	}, func(ctx context.Context, in *anchorsInput) (*apiserver.Reply[anchorsBody], error) {
		added, err := a.service.AddAnchors(ctx, apiserver.Actor(ctx), in.Body.Kind, []byte(in.Body.PEM))
		return apiserver.Answer(anchorsBody{apiserver.OrEmpty(added)}), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "remove-anchor", Summary: "Trust a certificate authority no longer", Tag: "anchors", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "DELETE /v1/anchors/{id}", Needs: access.SetAnchors},
	}, func(ctx context.Context, in *ByID) (*struct{}, error) {
		return nil, a.service.RemoveAnchor(ctx, apiserver.Actor(ctx), in.ID)
	})
}

// reference is [attest.Reference] with its baseline as the JSON object it is.
type reference struct {
	Name     string          `json:"name"`
	Version  int             `json:"version"`
	Baseline json.RawMessage `json:"baseline" doc:"docs/formats/baseline.md"`
	Author   string          `json:"author"`
	Time     time.Time       `json:"time"`
}

type referencesBody struct {
	References []reference `json:"references" doc:"The current version of each, by name" nullable:"false"`
}

type referenceInput struct {
	ByName
	IfMatch string `header:"If-Match" doc:"The version that the author has seen, quoted, in place of replaces"`
	Body    struct {
		Baseline json.RawMessage `json:"baseline" doc:"docs/formats/baseline.md"`
		Replaces *int            `json:"replaces,omitempty" minimum:"0" doc:"The version that the author has seen; 0 for a new name"`
	}
}

func (a *API) referenceRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-references", Summary: "List reference values", Tag: "references",
		Route: apiserver.Route{Pattern: "GET /v1/references", Needs: access.ReadReferences},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[referencesBody], error) {
		all, err := a.service.References(ctx)
		body := referencesBody{[]reference{}}
		for _, r := range all {
			body.References = append(body.References, wireReference(r))
		}
		return apiserver.Answer(body), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "put-reference", Summary: "Make a new version of a reference value", Tag: "references",
		Route: apiserver.Route{Pattern: "PUT /v1/references/{name}", Needs: access.SetReferences, Body: maxEvidence},
	}, a.putReference)
}

func (a *API) putReference(ctx context.Context, in *referenceInput) (*apiserver.Reply[reference], error) {
	replaces, err := premise(in.IfMatch, in.Body.Replaces)
	if err != nil {
		return nil, err
	}
	r, err := a.service.PutReference(ctx, apiserver.Actor(ctx), in.Name, in.Body.Baseline, replaces)
	return apiserver.Answer(wireReference(r)), err
}

func wireReference(r attest.Reference) reference {
	return reference{r.Name, r.Version, json.RawMessage(r.Baseline), r.Author, r.Time}
}
