package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
)

// A roleBody is one role, whoever made it.
type roleBody struct {
	Name        access.Role         `json:"name"`
	Predefined  bool                `json:"predefined"`
	Meaning     string              `json:"meaning,omitempty"`
	Permissions []access.Permission `json:"permissions" nullable:"false"`
	Changed     *time.Time          `json:"changed,omitempty" doc:"Of a custom role"`
	ChangedBy   string              `json:"changedBy,omitempty"`
}

type rolesBody struct {
	Roles []roleBody `json:"roles" doc:"The predefined ones, then custom ones by name" nullable:"false"`
}

type roleInput struct {
	ByName
	Body struct {
		Meaning     string              `json:"meaning,omitempty" maxLength:"256"`
		Permissions []access.Permission `json:"permissions" minItems:"1" maxItems:"64" nullable:"false" doc:"All that the role gives"`
	}
}

// grantBody is what is given to or taken from a principal.
type grantBody struct {
	Role       string            `json:"role,omitempty" maxLength:"64" doc:"Predefined or custom; this or permission"`
	Permission access.Permission `json:"permission,omitempty" maxLength:"64" doc:"One permission, everywhere"`
	Instances  string            `json:"instances,omitempty" maxLength:"64" doc:"Narrows a role: the name of an instance, or a prefix with * at its end"`
	Label      string            `json:"label,omitempty" maxLength:"256" doc:"Narrows a role, in the place of instances: the label of instances, NAME=VALUE"`
}

type grantInput struct {
	ByName
	Body grantBody
}

type principalBody struct {
	Principal access.Principal `json:"principal"`
}

// accessQuery is a question about a permission.
type accessQuery struct {
	Permission access.Permission `query:"permission" required:"true" maxLength:"64"`
	Instance   string            `query:"instance" maxLength:"64" doc:"On this instance; everywhere when absent"`
}

type whoCanBody struct {
	Permission access.Permission `json:"permission"`
	Instance   string            `json:"instance,omitempty"`
	Principals []accessBody      `json:"principals" doc:"Who may, by name" nullable:"false"`
}

// An accessBody says whether somebody may do something, and by which way.
type accessBody struct {
	Principal string         `json:"principal"`
	Allowed   bool           `json:"allowed"`
	Expired   bool           `json:"expired,omitempty" doc:"The credential has ended: whatever the grants are, it may do nothing"`
	By        []access.Grant `json:"by" doc:"Each way by which the grants give it; a grant without a role is the permission itself" nullable:"false"`
	Roles     []access.Role  `json:"roles" doc:"All roles that have the permission" nullable:"false"`
}

type whyInput struct {
	ByName
	Permission access.Permission `query:"permission" required:"true" maxLength:"64"`
	Instance   string            `query:"instance" maxLength:"64" doc:"On this instance; everywhere when absent"`
}

func (a *API) roleRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-roles", Summary: "List roles and what they give", Tag: "principals",
		Route: apiserver.Route{Pattern: "GET /v1/roles", Needs: access.ReadPrincipals},
	}, a.listRoles)
	apiserver.Serve(s, apiserver.Operation{
		ID: "put-role", Summary: "Make a custom role, or give it other permissions", Tag: "principals",
		Route: apiserver.Route{Pattern: "PUT /v1/roles/{name}", Needs: access.SetPrincipals, Body: 16 << 10},
	}, a.putRole)
	apiserver.Serve(s, apiserver.Operation{
		ID: "remove-role", Summary: "Remove a custom role that nobody has", Tag: "principals", Status: http.StatusNoContent,
		Route: apiserver.Route{Pattern: "DELETE /v1/roles/{name}", Needs: access.SetPrincipals},
	}, func(ctx context.Context, in *ByName) (*struct{}, error) {
		return nil, a.principals.RemoveRole(ctx, access.Role(in.Name), a.entry(ctx, "role.remove", in.Name))
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "grant", Summary: "Give a principal a role, everywhere or on some instances", Tag: "principals",
		Route: apiserver.Route{Pattern: "POST /v1/principals/{name}/grant", Needs: access.SetPrincipals, Body: 4 << 10},
	}, func(ctx context.Context, in *grantInput) (*apiserver.Reply[principalBody], error) {
		return a.changeGrants(ctx, in, "principal.grant", func(p *access.Principal, g grantBody) error {
			if err := mayLast(ctx, *p); err != nil {
				return err
			}
			give(p, g)
			return nil
		})
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "revoke", Summary: "Take from a principal what grant gave", Tag: "principals",
		Route: apiserver.Route{Pattern: "POST /v1/principals/{name}/revoke", Needs: access.SetPrincipals, Body: 4 << 10},
	}, func(ctx context.Context, in *grantInput) (*apiserver.Reply[principalBody], error) {
		if in.Name == apiserver.Actor(ctx) {
			return nil, apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, "a principal cannot revoke its own grants: the last administrator would be locked out")
		}
		return a.changeGrants(ctx, in, "principal.revoke", take)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "who-can", Summary: "Say who has a permission", Tag: "principals",
		Route: apiserver.Route{Pattern: "GET /v1/access", Needs: access.ReadPrincipals},
	}, a.whoCan)
	apiserver.Serve(s, apiserver.Operation{
		ID: "why", Summary: "Say by which role and binding a principal may or may not do something", Tag: "principals",
		Route: apiserver.Route{Pattern: "GET /v1/access/{name}", Needs: access.ReadPrincipals},
	}, a.why)
}

func (a *API) listRoles(ctx context.Context, _ *struct{}) (*apiserver.Reply[rolesBody], error) {
	custom, err := a.principals.CustomRoles(ctx)
	if err != nil {
		return nil, err
	}
	var body rolesBody
	for _, r := range access.Roles() {
		body.Roles = append(body.Roles, roleBody{Name: r, Predefined: true, Permissions: r.Permissions()})
	}
	for _, r := range custom {
		body.Roles = append(body.Roles, customBody(r))
	}
	return apiserver.Answer(body), nil
}

func customBody(r access.CustomRole) roleBody {
	return roleBody{Name: r.Name, Meaning: r.Meaning, Permissions: r.Permissions, Changed: &r.Changed, ChangedBy: r.ChangedBy}
}

func (a *API) putRole(ctx context.Context, in *roleInput) (*apiserver.Reply[roleBody], error) {
	r := access.CustomRole{
		Name: access.Role(in.Name), Meaning: in.Body.Meaning, Permissions: in.Body.Permissions,
		Changed: a.now().UTC().Truncate(time.Microsecond), ChangedBy: apiserver.Actor(ctx),
	}
	if err := r.Check(); err != nil {
		return nil, apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, err.Error())
	}
	e := a.entry(ctx, "role.put", in.Name)
	e.Detail, _ = json.Marshal(map[string]any{"permissions": r.Permissions, "meaning": r.Meaning})
	return apiserver.Answer(customBody(r)), a.principals.PutRole(ctx, r, func(st access.State) error { return mayPut(ctx, st, r) }, e)
}

// mayPut keeps who may make roles from giving more by one than they have, to those who
// have it already, too. What the role gave before counts: who may not give it may not take
// it away.
func mayPut(ctx context.Context, st access.State, r access.CustomRole) error {
	before := slices.DeleteFunc(slices.Clone(st.Custom), func(c access.CustomRole) bool { return c.Name != r.Name })
	for _, role := range append(slices.Clip(before), r) {
		if err := mayGrant(ctx, st, access.Principal{Name: "role " + string(r.Name), Permissions: role.Permissions}); err != nil {
			return err
		}
	}
	for _, b := range before {
		if !slices.ContainsFunc(r.Permissions, func(p access.Permission) bool { return !slices.Contains(b.Permissions, p) }) {
			return nil
		}
	}
	// Who has an end gives nothing more to those who have the role and end later.
	for _, p := range st.Principals {
		if !slices.Contains(p.CustomNames(), r.Name) {
			continue
		}
		if err := mayLast(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// mayLast keeps who has an end from giving a principal anything that outlives it.
func mayLast(ctx context.Context, p access.Principal) error {
	end := apiserver.Caller(ctx).Expires
	if end.IsZero() || !p.Expires.IsZero() && !p.Expires.After(end) {
		return nil
	}
	return apiserver.NewProblem(http.StatusForbidden, apiserver.CodeDenied, fmt.Sprintf("principal %q ends later than who gives: what is given would outlive its giver", p.Name))
}

// changeGrants gives or takes.
func (a *API) changeGrants(ctx context.Context, in *grantInput, action string, change func(*access.Principal, grantBody) error) (*apiserver.Reply[principalBody], error) {
	in.Body.Role = string(access.RoleNamed(in.Body.Role))
	if err := in.Body.check(); err != nil {
		return nil, err
	}
	e := a.entry(ctx, action, in.Name)
	e.Detail, _ = json.Marshal(in.Body)
	var after access.Principal
	err := a.principals.ChangeGrants(ctx, in.Name, func(p *access.Principal, st access.State) error {
		if err := mayChange(ctx, st, in); err != nil {
			return err
		}
		err := change(p, in.Body)
		after = *p
		after.Roles = apiserver.OrEmpty(after.Roles)
		return err
	}, e)
	return apiserver.Answer(principalBody{after}), err
}

// mayChange keeps who may give and take grants from those that give more than they have.
func mayChange(ctx context.Context, st access.State, in *grantInput) error {
	given := access.Principal{Name: in.Name, Custom: st.Custom}
	give(&given, in.Body)
	if given.CheckRoles(st.Custom) != nil {
		return apiserver.InvalidField("role", fmt.Sprintf("%q does not exist", in.Body.Role))
	}
	return mayGrant(ctx, st, given)
}

// check refuses what is neither a role nor a permission.
func (g grantBody) check() error {
	switch {
	case (g.Role == "") == (g.Permission == ""):
		return apiserver.MissingMember("role", "name a role or a permission, and not both")
	case g.Permission != "" && g.Instances+g.Label != "":
		return apiserver.InvalidField("instances", "narrow a role, not a permission: make a custom role")
	case g.Permission != "" && !slices.Contains(access.Permissions(), g.Permission):
		return apiserver.InvalidField("permission", fmt.Sprintf("%q does not exist", g.Permission))
	case g.Label != "":
		if (access.Binding{Instances: g.Instances, Label: g.Label}).Check() != nil {
			return apiserver.InvalidField("label", "is not NAME=VALUE, or stands beside instances")
		}
	case g.Instances != "":
		if err := (access.Binding{Instances: g.Instances}).Check(); err != nil {
			return apiserver.InvalidField("instances", "are neither a name nor a prefix with * at its end")
		}
	}
	return nil
}

func (g grantBody) binding() access.Binding {
	return access.Binding{Role: access.Role(g.Role), Instances: g.Instances, Label: g.Label}
}

// give gives p what g says, once.
func give(p *access.Principal, g grantBody) {
	switch {
	case g.Permission != "":
		p.Permissions = once(p.Permissions, g.Permission)
	case g.Instances+g.Label != "":
		p.Bindings = once(p.Bindings, g.binding())
	default:
		p.Roles = once(p.Roles, access.Role(g.Role))
	}
}

func once[T comparable](list []T, one T) []T {
	if slices.Contains(list, one) {
		return list
	}
	return append(slices.Clip(list), one)
}

// take takes from p what g says.
func take(p *access.Principal, g grantBody) error {
	had := false
	switch {
	case g.Permission != "":
		p.Permissions, had = without(p.Permissions, g.Permission)
	case g.Instances+g.Label != "":
		p.Bindings, had = without(p.Bindings, g.binding())
	default:
		p.Roles, had = without(p.Roles, access.Role(g.Role))
	}
	if !had {
		return apiserver.NewProblem(http.StatusNotFound, apiserver.CodeNotFound, "the principal has no such grant; a binding is revoked with the instances or the label that it was granted with")
	}
	return nil
}

func without[T comparable](list []T, one T) (left []T, had bool) {
	left = slices.DeleteFunc(slices.Clone(list), func(v T) bool { return v == one })
	return left, len(left) < len(list)
}

func (a *API) whoCan(ctx context.Context, in *accessQuery) (*apiserver.Reply[whoCanBody], error) {
	all, roles, err := a.asked(ctx, *in)
	if err != nil {
		return nil, err
	}
	body := whoCanBody{Permission: in.Permission, Instance: in.Instance, Principals: []accessBody{}}
	for _, p := range all {
		if one := a.accessOf(p, *in, roles); one.Allowed {
			body.Principals = append(body.Principals, one)
		}
	}
	return apiserver.Answer(body), nil
}

func (a *API) why(ctx context.Context, in *whyInput) (*apiserver.Reply[accessBody], error) {
	q := accessQuery{in.Permission, in.Instance}
	all, roles, err := a.asked(ctx, q)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(p access.Principal) bool { return p.Name == in.Name })
	if i < 0 {
		return nil, access.ErrNotFound
	}
	return apiserver.Answer(a.accessOf(all[i], q, roles)), nil
}

// asked checks a question, and reads what it is answered from.
func (a *API) asked(ctx context.Context, q accessQuery) ([]access.Principal, []access.Role, error) {
	if !slices.Contains(access.Permissions(), q.Permission) {
		return nil, nil, apiserver.InvalidField("permission", fmt.Sprintf("%q does not exist", q.Permission))
	}
	custom, err := a.principals.CustomRoles(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := a.principals.Principals(ctx)
	if err != nil || q.Instance == "" {
		return all, access.RolesWith(q.Permission, custom), err
	}
	labels, err := a.server.Labels(ctx, q.Instance)
	for i := range all {
		all[i].Labels = labels
	}
	return all, access.RolesWith(q.Permission, custom), err
}

func (a *API) accessOf(p access.Principal, q accessQuery, roles []access.Role) accessBody {
	by := p.Grants(q.Permission, q.Instance)
	expired := p.Expired(a.now())
	return accessBody{Principal: p.Name, Allowed: len(by) > 0 && !expired, Expired: expired, By: apiserver.OrEmpty(by), Roles: roles}
}
