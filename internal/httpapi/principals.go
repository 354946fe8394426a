package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/audit"
)

type principalsBody struct {
	Principals []access.Principal `json:"principals" doc:"By name; credentials are not kept" nullable:"false"`
}

type principalInput struct {
	Body struct {
		Name        string              `json:"name" minLength:"1" maxLength:"128"`
		Roles       []string            `json:"roles,omitempty" maxItems:"16" nullable:"false" doc:"Predefined or custom ones; GET /v1/roles lists them"`
		Permissions []access.Permission `json:"permissions,omitempty" maxItems:"64" nullable:"false" doc:"Granted one by one, beside the roles"`
		Certificate string              `json:"certificate,omitempty" maxLength:"65536" doc:"Client certificate, PEM, in place of an API token"`
		Expires     *time.Time          `json:"expires,omitempty" doc:"When the credential ends; never when absent, and never after that of who adds the principal"`
	}
}

type newPrincipalBody struct {
	Principal access.Principal `json:"principal"`
	Token     string           `json:"token,omitempty" doc:"The API token; shown here and never again"`
}

func (a *API) principalRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-principals", Summary: "List who may do what", Tag: "principals",
		Route: apiserver.Route{Pattern: "GET /v1/principals", Needs: access.ReadPrincipals},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[principalsBody], error) {
		all, err := a.principals.Principals(ctx)
		for i := range all {
			all[i].Roles = apiserver.OrEmpty(all[i].Roles)
		}
		return apiserver.Answer(principalsBody{apiserver.OrEmpty(all)}), err
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "add-principal", Summary: "Let somebody in, with a new API token or a client certificate", Tag: "principals", Status: http.StatusCreated,
		Route: apiserver.Route{Pattern: "POST /v1/principals", Needs: access.SetPrincipals, Body: 128 << 10},
	}, a.addPrincipal)
	apiserver.Serve(s, apiserver.Operation{
		ID: "remove-principal", Summary: "Revoke a principal's credential at once", Tag: "principals", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "DELETE /v1/principals/{name}", Needs: access.SetPrincipals},
	}, a.removePrincipal)
}

func (a *API) addPrincipal(ctx context.Context, in *principalInput) (*apiserver.Reply[newPrincipalBody], error) {
	p := access.Principal{
		Name: in.Body.Name, Roles: rolesNamed(in.Body.Roles), Permissions: in.Body.Permissions,
		Added: a.now().UTC(), AddedBy: apiserver.Actor(ctx),
	}
	if len(p.Roles) == 0 && len(p.Permissions) == 0 {
		return nil, apiserver.MissingMember("roles", "a principal needs a role or a permission")
	}
	if in.Body.Expires != nil {
		if p.Expires = in.Body.Expires.UTC(); p.Expired(a.now()) {
			return nil, apiserver.InvalidField("expires", "is in the past")
		}
	}
	// Nobody outlives his own end through somebody that he lets in.
	if end := apiserver.Caller(ctx).Expires; !end.IsZero() && (p.Expires.IsZero() || p.Expires.After(end)) {
		p.Expires = end
	}
	token, err := a.credential(&p, in.Body.Certificate)
	if err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, err.Error())
	}
	e := a.entry(ctx, "principal.add", p.Name)
	e.Detail, _ = json.Marshal(map[string]any{"roles": p.Roles, "permissions": p.Permissions, "tokenTail": p.TokenTail, "expires": endOf(p)})
	err = a.principals.AddPrincipal(ctx, p, func(st access.State) error {
		p.Custom = st.Custom
		if p.CheckRoles(st.Custom) != nil {
			return apiserver.InvalidField("roles", "name a role that does not exist")
		}
		return mayGrant(ctx, st, p)
	}, e)
	if err != nil {
		return nil, err
	}
	a.server.Learn(p)
	return apiserver.Answer(newPrincipalBody{p, token}), nil
}

func rolesNamed(names []string) []access.Role {
	out := []access.Role{}
	for _, name := range names {
		out = append(out, access.RoleNamed(name))
	}
	return out
}

// mayGrant keeps names that mean somebody else in the audit chain free, and keeps
// who may add principals from giving away more than they have: by what they have in the
// transaction that gives it, not by what they had when they asked.
func mayGrant(ctx context.Context, st access.State, p access.Principal) error {
	if p.Name == apiserver.Anonymous || p.Name == "service" {
		return apiserver.InvalidField("name", "is reserved")
	}
	giver, _ := st.Principal(apiserver.Actor(ctx)) // who is there no more may do nothing
	for _, permission := range access.Permissions() {
		needs := permission == access.SetPrincipals || p.MaySomewhere(permission)
		if needs && !giver.May(permission) {
			return &access.DeniedError{Principal: apiserver.Actor(ctx), Permission: permission}
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

// credential gives p what it will be known by: the certificate, else a new token.
func (a *API) credential(p *access.Principal, certificate string) (token string, err error) {
	if certificate == "" {
		token, p.TokenHash, p.TokenTail, err = access.NewToken(a.rand)
		return token, err
	}
	block, rest := pem.Decode([]byte(certificate))
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return "", apiserver.InvalidField("certificate", "is not one certificate in PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", apiserver.InvalidField("certificate", fmt.Sprintf("cannot be read: %v", err))
	}
	p.Certificate = sha256.Sum256(block.Bytes)
	return "", nil
}

func (a *API) removePrincipal(ctx context.Context, in *ByName) (*struct{}, error) {
	if in.Name == apiserver.Actor(ctx) {
		return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "a principal cannot remove itself: the last administrator would be locked out")
	}
	return nil, a.principals.RemovePrincipal(ctx, in.Name, func(st access.State) error {
		// Who may remove principals removes none that may do more.
		p, there := st.Principal(in.Name)
		if !there {
			return access.ErrNotFound
		}
		return mayGrant(ctx, st, p)
	}, a.entry(ctx, "principal.remove", in.Name))
}

// entry begins the audit entry of a change that the API itself makes.
func (a *API) entry(ctx context.Context, action, subject string) audit.Entry {
	return audit.Entry{Time: a.now(), Actor: apiserver.Actor(ctx), Action: action, Subject: subject, Outcome: "done"}
}
