package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/assay-project/assay/internal/access"
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

func (a *API) anchorRoutes() {
	serve(a, operation{
		id: "list-anchors", summary: "List trusted certificate authorities", tag: "anchors",
		route: route{pattern: "GET /v1/anchors", needs: access.ReadAnchors},
	}, func(ctx context.Context, _ *struct{}) (*reply[anchorsBody], error) {
		all, err := a.service.Anchors(ctx)
		return &reply[anchorsBody]{anchorsBody{orEmpty(all)}}, err
	})
	serve(a, operation{
		id: "add-anchors", summary: "Trust certificate authorities", tag: "anchors", status: http.StatusCreated,
		route: route{pattern: "POST /v1/anchors", needs: access.SetAnchors, body: maxAnchors},
	}, func(ctx context.Context, in *anchorsInput) (*reply[anchorsBody], error) {
		added, err := a.service.AddAnchors(ctx, actor(ctx), in.Body.Kind, []byte(in.Body.PEM))
		return &reply[anchorsBody]{anchorsBody{orEmpty(added)}}, err
	})
	serve(a, operation{
		id: "remove-anchor", summary: "Trust a certificate authority no longer", tag: "anchors", status: http.StatusNoContent,
		route: route{pattern: "DELETE /v1/anchors/{id}", needs: access.SetAnchors},
	}, func(ctx context.Context, in *ByID) (*struct{}, error) {
		return nil, a.service.RemoveAnchor(ctx, actor(ctx), in.ID)
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

func (a *API) referenceRoutes() {
	serve(a, operation{
		id: "list-references", summary: "List reference values", tag: "references",
		route: route{pattern: "GET /v1/references", needs: access.ReadReferences},
	}, func(ctx context.Context, _ *struct{}) (*reply[referencesBody], error) {
		all, err := a.service.References(ctx)
		body := referencesBody{[]reference{}}
		for _, r := range all {
			body.References = append(body.References, wireReference(r))
		}
		return &reply[referencesBody]{body}, err
	})
	serve(a, operation{
		id: "put-reference", summary: "Make a new version of a reference value", tag: "references",
		route: route{pattern: "PUT /v1/references/{name}", needs: access.SetReferences, body: maxEvidence},
	}, a.putReference)
}

func (a *API) putReference(ctx context.Context, in *referenceInput) (*reply[reference], error) {
	replaces, err := premise(in.IfMatch, in.Body.Replaces)
	if err != nil {
		return nil, err
	}
	r, err := a.service.PutReference(ctx, actor(ctx), in.Name, in.Body.Baseline, replaces)
	return &reply[reference]{wireReference(r)}, err
}

func wireReference(r attest.Reference) reference {
	return reference{r.Name, r.Version, json.RawMessage(r.Baseline), r.Author, r.Time}
}
