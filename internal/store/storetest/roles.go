package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/access"
)

func role(n int, permissions ...access.Permission) access.CustomRole {
	return access.CustomRole{
		Name: access.Role([]string{"night-shift", "patcher"}[n]), Meaning: "who is on call: é",
		Permissions: permissions, Changed: later(n), ChangedBy: "admin",
	}
}

func rolesComeAndGo(t *testing.T, open Opener) {
	s := opened(t, open)
	must(t, s.PutRole(t.Context(), role(1, access.UpdateInstance), nil, Entry("role.put", "")))
	must(t, s.PutRole(t.Context(), role(0, access.GetInstance), nil, Entry("role.put", "")))
	changed := role(0, access.GetInstance, access.StartInstance)
	changed.Meaning, changed.ChangedBy = "", "another"
	must(t, s.PutRole(t.Context(), changed, nil, Entry("role.put", "")))
	got, err := s.CustomRoles(t.Context())
	must(t, err)
	same(t, "roles by name", got, []access.CustomRole{changed, role(1, access.UpdateInstance)})
	for what, bad := range map[string]access.CustomRole{
		"predefined":    {Name: access.Viewer, Permissions: []access.Permission{access.Attest}},
		"no permission": {Name: "nothing"},
		"unknown":       {Name: "bad", Permissions: []access.Permission{"root"}},
		"no name":       {Permissions: []access.Permission{access.Attest}},
	} {
		wantErr(t, what, s.PutRole(t.Context(), bad, nil, Entry("role.put", "")), access.ErrInvalid)
	}
	must(t, s.RemoveRole(t.Context(), "patcher", Entry("role.remove", "")))
	wantErr(t, "removed twice", s.RemoveRole(t.Context(), "patcher", Entry("role.remove", "")), access.ErrNotFound)
	wantErr(t, "predefined removed", s.RemoveRole(t.Context(), access.Viewer, Entry("role.remove", "")), access.ErrNotFound)
	wantErr(t, "no text", s.RemoveRole(t.Context(), "\x00", Entry("role.remove", "")), access.ErrNotFound)
	kept(t, s, 4)
}

func rolesOfPrincipals(t *testing.T, open Opener) {
	s, p := opened(t, open), principal(1)
	p.Roles, p.Permissions = []access.Role{access.Viewer, "night-shift"}, nil
	p.Bindings = []access.Binding{{Role: "patcher", Instances: "web-*"}, {Role: access.InstanceAdmin, Instances: "db-1"}, {Role: access.Viewer, Label: "env=é"}}
	wantErr(t, "roles that nobody made", s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")), access.ErrInvalid)
	must(t, s.PutRole(t.Context(), role(0, access.Attest), nil, Entry("role.put", "")))
	wantErr(t, "one of two roles", s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")), access.ErrInvalid)
	must(t, s.PutRole(t.Context(), role(1, access.UpdateInstance), nil, Entry("role.put", "")))
	must(t, s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")))
	want := p
	want.Custom = []access.CustomRole{role(0, access.Attest), role(1, access.UpdateInstance)}
	for what, find := range map[string]func() (access.Principal, error){
		"by token":       func() (access.Principal, error) { return s.PrincipalByToken(t.Context(), p.TokenHash) },
		"by certificate": func() (access.Principal, error) { return s.PrincipalByCertificate(t.Context(), p.Certificate) },
		"in the list": func() (access.Principal, error) {
			all, err := s.Principals(t.Context())
			return append(all, access.Principal{})[0], err
		},
	} {
		got, err := find()
		must(t, err)
		same(t, what, got, want)
	}
	for _, name := range []access.Role{"night-shift", "patcher"} {
		wantErr(t, "role in use", s.RemoveRole(t.Context(), name, Entry("role.remove", "")), access.ErrInUse)
	}
	must(t, s.PutRole(t.Context(), role(0, access.ReadAudit), nil, Entry("role.put", "")))
	got, err := s.PrincipalByToken(t.Context(), p.TokenHash)
	must(t, err)
	if got.May(access.Attest) || !got.May(access.ReadAudit) || !got.MayOn(access.UpdateInstance, "web-7") || got.MayOn(access.UpdateInstance, "db-2") {
		t.Errorf("after its role was changed: %+v", got)
	}
	kept(t, s, 4)
}

func grantsChange(t *testing.T, open Opener) {
	s, p := opened(t, open), principal(1)
	must(t, s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")))
	change := func(f func(*access.Principal, access.State) error) error {
		return s.ChangeGrants(t.Context(), p.Name, f, Entry("principal.grant", p.Name))
	}
	must(t, change(func(q *access.Principal, _ access.State) error {
		same(t, "before", *q, p)
		q.Roles, q.Permissions = []access.Role{access.Viewer}, nil
		q.Bindings = []access.Binding{{Role: access.InstanceAdmin, Instances: "web-1"}}
		q.AddedBy, q.TokenHash = "somebody else", access.Digest{7} // not kept
		return nil
	}))
	want := p
	want.Roles, want.Permissions, want.Bindings = []access.Role{access.Viewer}, nil, []access.Binding{{Role: access.InstanceAdmin, Instances: "web-1"}}
	got, err := s.PrincipalByToken(t.Context(), p.TokenHash)
	must(t, err)
	same(t, "after", got, want)
	mine := errors.New("mine")
	wantErr(t, "own error", change(func(*access.Principal, access.State) error { return mine }), mine)
	wantErr(t, "unknown role", change(func(q *access.Principal, _ access.State) error { q.Roles = []access.Role{"root"}; return nil }), access.ErrInvalid)
	wantErr(t, "bad binding", change(func(q *access.Principal, _ access.State) error { q.Bindings[0].Instances = "*"; return nil }), access.ErrInvalid)
	must(t, s.PutRole(t.Context(), role(0, access.Attest), nil, Entry("role.put", "")))
	refused := func(st access.State) error {
		same(t, "who there is", st, access.State{Principals: []access.Principal{want}, Custom: []access.CustomRole{role(0, access.Attest)}})
		return mine
	}
	wantErr(t, "a role that is refused", s.PutRole(t.Context(), role(1, access.ReadAudit), refused, Entry("role.put", "")), mine)
	wantErr(t, "a principal that is refused", s.AddPrincipal(t.Context(), principal(2), refused, Entry("principal.add", "")), mine)
	wantErr(t, "a removal that is refused", s.RemovePrincipal(t.Context(), p.Name, refused, Entry("principal.remove", "")), mine)
	wantErr(t, "a grant that is refused", change(func(_ *access.Principal, st access.State) error { return refused(st) }), mine)
	roles, err := s.CustomRoles(t.Context())
	must(t, err)
	same(t, "roles after refused changes", roles, []access.CustomRole{role(0, access.Attest)})
	nobody := func(*access.Principal, access.State) error { t.Error("called for nobody"); return nil }
	for _, name := range []string{"nobody", "\x00"} {
		wantErr(t, "nobody", s.ChangeGrants(context.Background(), name, nobody, Entry("principal.grant", "")), access.ErrNotFound)
	}
	got, err = s.PrincipalByToken(t.Context(), p.TokenHash)
	must(t, err)
	same(t, "after refused changes", got, want)
	kept(t, s, 3)
}
