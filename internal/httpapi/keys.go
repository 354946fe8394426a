package httpapi

import (
	"context"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/audit"
)

type publishedKey struct {
	ID           string   `json:"id" doc:"kid"`
	Alg          string   `json:"alg"`
	Certificates [][]byte `json:"certificates,omitempty" doc:"x5c: DER, leaf first" nullable:"false"`
}

type keysBody struct {
	Keys []publishedKey `json:"keys" doc:"Newest first; /certs has the keys themselves" nullable:"false"`
}

type rotateInput struct {
	Body struct {
		DelaySeconds *int `json:"delaySeconds,omitempty" minimum:"0" maximum:"31536000" doc:"When the new keys begin to sign; a day when absent, so that relying parties have read of them"`
	}
}

// announce is how long new keys are published before they sign, unless the
// request says otherwise: as long as relying parties may keep a key set.
const announce = 24 * time.Hour

func (a *API) keyRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-keys", Summary: "List the keys that sign tokens", Tag: "keys",
		Route: apiserver.Route{Pattern: "GET /v1/keys"},
	}, func(context.Context, *struct{}) (*apiserver.Reply[keysBody], error) {
		return apiserver.Answer(a.publishedKeys()), nil
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "rotate-keys", Summary: "Make new keys for signing tokens", Tag: "keys",
		Route: apiserver.Route{Pattern: "POST /v1/keys/rotate", Needs: access.RotateKeys, Body: 4 << 10},
	}, a.rotateKeys)
}

func (a *API) publishedKeys() keysBody {
	body := keysBody{[]publishedKey{}}
	for _, k := range a.service.PublishedKeys() {
		body.Keys = append(body.Keys, publishedKey{k.ID, string(k.Alg), k.Certificates})
	}
	return body
}

func (a *API) rotateKeys(ctx context.Context, in *rotateInput) (*apiserver.Reply[keysBody], error) {
	delay := announce
	if n := in.Body.DelaySeconds; n != nil {
		delay = time.Duration(*n) * time.Second
	}
	err := a.service.RotateKeys(ctx, apiserver.Actor(ctx), delay)
	return apiserver.Answer(a.publishedKeys()), err
}

type auditInput struct {
	After uint64 `query:"after" doc:"Only entries above this number"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditBody struct {
	Entries []audit.Entry `json:"entries" doc:"In order; docs/formats/audit-chain.md says how to check them" nullable:"false"`
	Next    uint64        `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

func (a *API) auditRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-audit", Summary: "Read the audit chain in order", Tag: "audit",
		Route: apiserver.Route{Pattern: "GET /v1/audit", Needs: access.ReadAudit},
	}, func(ctx context.Context, in *auditInput) (*apiserver.Reply[auditBody], error) {
		found, err := a.service.AuditEntries(ctx, in.After, in.Limit)
		body := auditBody{Entries: apiserver.OrEmpty(found)}
		if err == nil && len(found) == in.Limit {
			body.Next = found[len(found)-1].Seq
		}
		return apiserver.Answer(body), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "whoami", Summary: "Say who is asking, and what they may do", Tag: "service",
		Route: apiserver.Route{Pattern: "GET /v1/whoami"},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[whoamiBody], error) {
		return apiserver.Answer(whoami(apiserver.Caller(ctx))), nil
	})
}

type whoamiBody struct {
	Name        string              `json:"name"`
	Roles       []access.Role       `json:"roles" nullable:"false"`
	Permissions []access.Permission `json:"permissions" doc:"All that the roles and grants give everywhere" nullable:"false"`
	Bindings    []access.Binding    `json:"bindings,omitempty" nullable:"false" doc:"Roles that hold on some instances only"`
	Expires     *time.Time          `json:"expires,omitempty"`
}

func whoami(p access.Principal) whoamiBody {
	body := whoamiBody{Name: p.Name, Roles: apiserver.OrEmpty(p.Roles), Permissions: []access.Permission{}, Bindings: p.Bindings}
	for _, permission := range access.Permissions() {
		if p.May(permission) {
			body.Permissions = append(body.Permissions, permission)
		}
	}
	if !p.Expires.IsZero() {
		body.Expires = &p.Expires
	}
	return body
}
