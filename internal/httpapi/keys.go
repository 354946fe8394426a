package httpapi

import (
	"context"
	"time"

	"github.com/assay-project/assay/internal/access"
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

func (a *API) keyRoutes() {
	serve(a, operation{
		id: "list-keys", summary: "List the keys that sign tokens", tag: "keys",
		route: route{pattern: "GET /v1/keys"},
	}, func(context.Context, *struct{}) (*reply[keysBody], error) {
		return &reply[keysBody]{a.publishedKeys()}, nil
	})
	serve(a, operation{
		id: "rotate-keys", summary: "Make new keys for signing tokens", tag: "keys",
		route: route{pattern: "POST /v1/keys/rotate", needs: access.RotateKeys, body: 4 << 10},
	}, a.rotateKeys)
}

func (a *API) publishedKeys() keysBody {
	body := keysBody{[]publishedKey{}}
	for _, k := range a.service.PublishedKeys() {
		body.Keys = append(body.Keys, publishedKey{k.ID, string(k.Alg), k.Certificates})
	}
	return body
}

func (a *API) rotateKeys(ctx context.Context, in *rotateInput) (*reply[keysBody], error) {
	delay := announce
	if n := in.Body.DelaySeconds; n != nil {
		delay = time.Duration(*n) * time.Second
	}
	err := a.service.RotateKeys(ctx, actor(ctx), delay)
	return &reply[keysBody]{a.publishedKeys()}, err
}

type auditInput struct {
	After uint64 `query:"after" doc:"Only entries above this number"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type auditBody struct {
	Entries []audit.Entry `json:"entries" doc:"In order; docs/formats/audit-chain.md says how to check them" nullable:"false"`
	Next    uint64        `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

func (a *API) auditRoutes() {
	serve(a, operation{
		id: "list-audit", summary: "Read the audit chain in order", tag: "audit",
		route: route{pattern: "GET /v1/audit", needs: access.ReadAudit},
	}, func(ctx context.Context, in *auditInput) (*reply[auditBody], error) {
		found, err := a.service.AuditEntries(ctx, in.After, in.Limit)
		body := auditBody{Entries: orEmpty(found)}
		if err == nil && len(found) == in.Limit {
			body.Next = found[len(found)-1].Seq
		}
		return &reply[auditBody]{body}, err
	})
	serve(a, operation{
		id: "whoami", summary: "Say who is asking, and what they may do", tag: "service",
		route: route{pattern: "GET /v1/whoami"},
	}, func(ctx context.Context, _ *struct{}) (*reply[whoamiBody], error) {
		return &reply[whoamiBody]{whoami(callOf(ctx).who)}, nil
	})
}

type whoamiBody struct {
	Name        string              `json:"name"`
	Roles       []access.Role       `json:"roles" nullable:"false"`
	Permissions []access.Permission `json:"permissions" doc:"All that the roles and grants give" nullable:"false"`
	Expires     *time.Time          `json:"expires,omitempty"`
}

func whoami(p access.Principal) whoamiBody {
	body := whoamiBody{Name: p.Name, Roles: orEmpty(p.Roles), Permissions: []access.Permission{}}
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
