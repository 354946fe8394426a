package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

type principalsBody struct {
	Principals []access.Principal `json:"principals" doc:"By name; credentials are not kept" nullable:"false"`
}

type principalInput struct {
	Body struct {
		Name        string              `json:"name" minLength:"1" maxLength:"128"`
		Roles       []access.Role       `json:"roles,omitempty" maxItems:"16" nullable:"false" doc:"attester, viewer, operator, security-admin, auditor, admin"`
		Permissions []access.Permission `json:"permissions,omitempty" maxItems:"64" nullable:"false" doc:"Granted one by one, beside the roles"`
		Certificate string              `json:"certificate,omitempty" maxLength:"65536" doc:"Client certificate, PEM, in place of an API token"`
		Expires     *time.Time          `json:"expires,omitempty" doc:"When the credential ends; never when absent, and never after that of who adds the principal"`
	}
}

type newPrincipalBody struct {
	Principal access.Principal `json:"principal"`
	Token     string           `json:"token,omitempty" doc:"The API token; shown here and never again"`
}

func (a *API) principalRoutes() {
	serve(a, operation{
		id: "list-principals", summary: "List who may do what", tag: "principals",
		route: route{pattern: "GET /v1/principals", needs: access.ReadPrincipals},
	}, func(ctx context.Context, _ *struct{}) (*reply[principalsBody], error) {
		all, err := a.principals.Principals(ctx)
		for i := range all {
			all[i].Roles = orEmpty(all[i].Roles)
		}
		return &reply[principalsBody]{principalsBody{orEmpty(all)}}, err
	})
	serve(a, operation{
		id: "add-principal", summary: "Let somebody in, with a new API token or a client certificate", tag: "principals", status: http.StatusCreated,
		route: route{pattern: "POST /v1/principals", needs: access.SetPrincipals, body: 128 << 10},
	}, a.addPrincipal)
	serve(a, operation{
		id: "remove-principal", summary: "Revoke a principal's credential at once", tag: "principals", status: http.StatusNoContent,
		route: route{pattern: "DELETE /v1/principals/{name}", needs: access.SetPrincipals},
	}, a.removePrincipal)
}

func (a *API) addPrincipal(ctx context.Context, in *principalInput) (*reply[newPrincipalBody], error) {
	p := access.Principal{
		Name: in.Body.Name, Roles: orEmpty(in.Body.Roles), Permissions: in.Body.Permissions,
		Added: a.now().UTC(), AddedBy: actor(ctx),
	}
	if len(p.Roles) == 0 && len(p.Permissions) == 0 {
		return nil, missingMember("roles", "a principal needs a role or a permission")
	}
	if in.Body.Expires != nil {
		if p.Expires = in.Body.Expires.UTC(); p.Expired(a.now()) {
			return nil, invalidField("expires", "is in the past")
		}
	}
	// Nobody outlives his own end through somebody that he lets in.
	if end := callOf(ctx).who.Expires; !end.IsZero() && (p.Expires.IsZero() || p.Expires.After(end)) {
		p.Expires = end
	}
	if err := a.mayGrant(ctx, p); err != nil {
		return nil, err
	}
	token, err := a.credential(&p, in.Body.Certificate)
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, newProblem(http.StatusUnprocessableEntity, codeInvalid, err.Error())
	}
	e := a.entry(ctx, "principal.add", p.Name)
	e.Detail, _ = json.Marshal(map[string]any{"roles": p.Roles, "permissions": p.Permissions, "tokenTail": p.TokenTail, "expires": endOf(p)})
	if err := a.principals.AddPrincipal(ctx, p, e); err != nil {
		return nil, err
	}
	a.known.learn([]access.Principal{p})
	return &reply[newPrincipalBody]{newPrincipalBody{p, token}}, nil
}

// mayGrant keeps names that mean somebody else in the audit chain free, and keeps
// who may add principals from giving away more than they have.
func (a *API) mayGrant(ctx context.Context, p access.Principal) error {
	if p.Name == anonymous || p.Name == "service" {
		return invalidField("name", "is reserved")
	}
	giver := callOf(ctx).who
	for _, permission := range access.Permissions() {
		if p.May(permission) && !giver.May(permission) {
			return &access.DeniedError{Principal: giver.Name, Permission: permission}
		}
	}
	return nil
}

// endOf is when p's credential ends; nil for never.
func endOf(p access.Principal) *time.Time {
	if p.Expires.IsZero() {
		return nil
	}
	return &p.Expires
}

func missingMember(field, detail string) *Problem {
	p := malformed("%s", detail)
	p.Errors = []FieldError{{field, detail}}
	return p
}

func invalidField(field, detail string) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, codeInvalid, field+" "+detail)
	p.Errors = []FieldError{{field, detail}}
	return p
}

// credential gives p what it will be known by: the certificate, else a new token.
func (a *API) credential(p *access.Principal, certificate string) (token string, err error) {
	if certificate == "" {
		token, p.TokenHash, p.TokenTail, err = access.NewToken(a.rand)
		return token, err
	}
	block, rest := pem.Decode([]byte(certificate))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return "", invalidField("certificate", "is not one certificate in PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", invalidField("certificate", fmt.Sprintf("cannot be read: %v", err))
	}
	p.Certificate = sha256.Sum256(block.Bytes)
	return "", nil
}

func (a *API) removePrincipal(ctx context.Context, in *ByName) (*struct{}, error) {
	if in.Name == actor(ctx) {
		return nil, newProblem(http.StatusConflict, codeConflict, "a principal cannot remove itself: the last administrator would be locked out")
	}
	if err := a.mayRemove(ctx, in.Name); err != nil {
		return nil, err
	}
	return nil, a.principals.RemovePrincipal(ctx, in.Name, a.entry(ctx, "principal.remove", in.Name))
}

// mayRemove keeps who may remove principals from removing one that may do more.
func (a *API) mayRemove(ctx context.Context, name string) error {
	all, err := a.principals.Principals(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(p access.Principal) bool { return p.Name == name })
	if i < 0 {
		return access.ErrNotFound
	}
	return a.mayGrant(ctx, access.Principal{Name: name, Roles: all[i].Roles, Permissions: all[i].Permissions})
}

// entry begins the audit entry of a change that the API itself makes.
func (a *API) entry(ctx context.Context, action, subject string) audit.Entry {
	return audit.Entry{Time: a.now(), Actor: actor(ctx), Action: action, Subject: subject, Outcome: "done"}
}
