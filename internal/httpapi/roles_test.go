package httpapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
)

func TestRoleGrantedIsThereAtOnceAndRevokedIsGone(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Principals = CachePrincipals(c.Principals) }) // as assay serve does
	token := f.principal("night", access.Principal{Permissions: []access.Permission{access.Attest}})
	audit := func() int { return f.do(token, "GET", "/v1/audit", nil).status }
	if got := audit(); got != 403 {
		t.Fatalf("before: %d", got)
	}
	f.as(access.Admin, "PUT", "/v1/roles/night-shift", `{"permissions":["audit.read"],"meaning":"who is on call"}`).want(t, "make a role", 200, "")
	f.as(access.Admin, "POST", "/v1/principals/night/grant", `{"role":"night-shift"}`).want(t, "grant", 200, "")
	if got := audit(); got != 200 {
		t.Errorf("with the role: %d", got)
	}
	f.as(access.Admin, "PUT", "/v1/roles/night-shift", `{"permissions":["keys.rotate"]}`).want(t, "change the role", 200, "")
	if got := audit(); got != 403 {
		t.Errorf("after the role lost the permission: %d", got)
	}
	f.as(access.Admin, "DELETE", "/v1/roles/night-shift", nil).want(t, "remove a role in use", 409, "request.conflict")
	f.as(access.Admin, "POST", "/v1/principals/night/revoke", `{"role":"night-shift"}`).want(t, "revoke", 200, "")
	f.as(access.Admin, "POST", "/v1/principals/night/revoke", `{"role":"night-shift"}`).want(t, "revoke twice", 404, "request.not-found")
	f.as(access.Admin, "DELETE", "/v1/roles/night-shift", nil).want(t, "remove the role", 204, "")
	var actions []string
	for _, e := range f.trail() {
		if e.Actor == "admin" {
			actions = append(actions, e.Action+" "+e.Subject+" "+e.Outcome)
		}
	}
	want := []string{
		"role.put night-shift done", "principal.grant night done", "role.put night-shift done",
		"principal.revoke night done", "role.remove night-shift done",
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("audit chain (-want +got):\n%s", diff)
	}
}

func TestBindingHoldsOnItsInstancesOnly(t *testing.T) {
	f := newFixture(t, nil)
	f.principal("web", access.Principal{Permissions: []access.Permission{access.Attest}})
	f.as(access.Admin, "POST", "/v1/principals/web/grant", `{"role":"instanceAdmin","instances":"web-*"}`).want(t, "grant", 200, "")
	ask := func(query string) (got accessBody) {
		f.as(access.Auditor, "GET", "/v1/access/web?permission=instances.start"+query, nil).into(t, &got)
		return got
	}
	want := accessBody{
		Principal: "web", Allowed: true, By: []access.Grant{{Role: access.InstanceAdmin, Instances: "web-*"}},
		Roles: []access.Role{access.Operator, access.InstanceAdmin, access.Admin},
	}
	if diff := cmp.Diff(want, ask("&instance=web-1")); diff != "" {
		t.Errorf("on web-1 (-want +got):\n%s", diff)
	}
	want.Allowed, want.By = false, []access.Grant{}
	for _, query := range []string{"&instance=db-1", "", "&instance=web"} {
		if diff := cmp.Diff(want, ask(query)); diff != "" {
			t.Errorf("on %q (-want +got):\n%s", query, diff)
		}
	}
	var can whoCanBody
	f.as(access.Auditor, "GET", "/v1/access?permission=instances.start&instance=web-1", nil).into(t, &can)
	var names []string
	for _, p := range can.Principals {
		names = append(names, p.Principal)
	}
	if diff := cmp.Diff([]string{"admin", "instance-admin", "operator", "web"}, names); diff != "" {
		t.Errorf("who can (-want +got):\n%s", diff)
	}
}

func TestExpiredPrincipalMayNothingWhateverItsGrants(t *testing.T) {
	f := newFixture(t, nil)
	f.principal("old", access.Principal{Roles: []access.Role{access.Admin}, Expires: f.clock.now().Add(time.Hour)})
	f.clock.advance(2 * time.Hour)
	var got accessBody
	f.as(access.Auditor, "GET", "/v1/access/old?permission=audit.read", nil).into(t, &got)
	if got.Allowed || !got.Expired || len(got.By) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestGrantsThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	giver := f.principal("giver", access.Principal{Permissions: []access.Permission{access.SetPrincipals, access.ReadPrincipals, access.Attest}})
	f.principal("some", access.Principal{Roles: []access.Role{access.Viewer, access.Auditor}})
	f.as(access.Admin, "PUT", "/v1/roles/strong", `{"permissions":["keys.rotate"]}`).want(t, "make a role", 200, "")
	admin := f.tokens[access.Admin]
	for what, tc := range map[string]struct {
		token, method, path, body string
		status                    int
	}{
		"a role that nobody made":         {admin, "POST", "/v1/principals/some/grant", `{"role":"king"}`, 422},
		"a permission that is none":       {admin, "POST", "/v1/principals/some/grant", `{"permission":"root"}`, 422},
		"neither":                         {admin, "POST", "/v1/principals/some/grant", `{}`, 400},
		"both":                            {admin, "POST", "/v1/principals/some/grant", `{"role":"viewer","permission":"attest"}`, 400},
		"a narrowed permission":           {admin, "POST", "/v1/principals/some/grant", `{"permission":"instances.get","instances":"a"}`, 422},
		"everywhere as a prefix":          {admin, "POST", "/v1/principals/some/grant", `{"role":"viewer","instances":"*"}`, 422},
		"instances with a path":           {admin, "POST", "/v1/principals/some/grant", `{"role":"viewer","instances":"../a"}`, 422},
		"to nobody":                       {admin, "POST", "/v1/principals/nobody/grant", `{"role":"viewer"}`, 404},
		"more than the giver has":         {giver, "POST", "/v1/principals/some/grant", `{"role":"viewer"}`, 403},
		"more on one instance":            {giver, "POST", "/v1/principals/some/grant", `{"role":"viewer","instances":"a"}`, 403},
		"a custom role of more":           {giver, "POST", "/v1/principals/some/grant", `{"role":"strong"}`, 403},
		"taking more than one has":        {giver, "POST", "/v1/principals/some/revoke", `{"role":"viewer"}`, 403},
		"one's own":                       {admin, "POST", "/v1/principals/admin/revoke", `{"role":"admin"}`, 409},
		"a role that the principal lacks": {admin, "POST", "/v1/principals/some/revoke", `{"role":"viewer","instances":"a"}`, 404},
		"a role with more":                {giver, "PUT", "/v1/roles/mine", `{"permissions":["audit.read"]}`, 403},
		"weakening a role of more":        {giver, "PUT", "/v1/roles/strong", `{"permissions":["attest"]}`, 403},
		"a predefined name":               {admin, "PUT", "/v1/roles/viewer", `{"permissions":["attest"]}`, 422},
		"the other name of one":           {admin, "PUT", "/v1/roles/instanceAdmin", `{"permissions":["attest"]}`, 422},
		"a role without permissions":      {admin, "PUT", "/v1/roles/mine", `{"permissions":[]}`, 422},
		"removal of a predefined role":    {admin, "DELETE", "/v1/roles/viewer", "", 404},
		"who can what is nothing":         {admin, "GET", "/v1/access?permission=root", "", 422},
		"who can without a question":      {admin, "GET", "/v1/access", "", 422},
		"why of nobody":                   {admin, "GET", "/v1/access/nobody?permission=attest", "", 404},
	} {
		var body any = tc.body
		if tc.body == "" {
			body = nil
		}
		if got := f.do(tc.token, tc.method, tc.path, body); got.status != tc.status {
			t.Errorf("%s: %d %s, want %d", what, got.status, got.body, tc.status)
		}
	}
	f.do(giver, "POST", "/v1/principals/some/grant", `{"permission":"attest"}`).want(t, "give what one has", 200, "")
	all, err := f.store.Principals(t.Context())
	must(t, err)
	i := slices.IndexFunc(all, func(p access.Principal) bool { return p.Name == "some" })
	if diff := cmp.Diff([]access.Role{access.Viewer, access.Auditor}, all[i].Roles); diff != "" || len(all[i].Bindings) > 0 {
		t.Errorf("after refused changes: %v, %s", all[i].Bindings, diff)
	}
}

func TestDeniedCallSaysWhichRolesHaveThePermission(t *testing.T) {
	f := newFixture(t, nil)
	got := f.as(access.Viewer, "GET", "/v1/audit", nil)
	if got.status != http.StatusForbidden || !strings.Contains(string(got.body), "roles that have it: security-admin, auditor, admin") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// labelled is routes that know the labels of some instances.
type labelled map[string]map[string]string

func (labelled) Register(*apiserver.Server)       {}
func (labelled) Explain(error) *apiserver.Problem { return nil }

func (l labelled) Labels(_ context.Context, instance string) (map[string]map[string]string, error) {
	if instance == "" {
		return l, nil
	}
	return map[string]map[string]string{instance: l[instance]}, nil
}

func TestARoleByLabelIsGivenAndTaken(t *testing.T) {
	f := newFixture(t, nil)
	h, err := New(t.Context(), Config{Service: f.service, Principals: f.store, Audit: f.store, Now: f.clock.now, Rand: rand.Reader}, labelled{"web-1": {"env": "prod"}})
	must(t, err)
	f.server.Config.Handler = h
	f.principal("ann", access.Principal{Permissions: []access.Permission{access.Attest}})
	const body = `{"role":"viewer","label":"env=prod"}`
	f.as(access.Admin, "POST", "/v1/principals/ann/grant", body).want(t, "grant", 200, "")
	for instance, may := range map[string]bool{"web-1": true, "web-2": false} {
		var why accessBody
		f.as(access.Admin, "GET", "/v1/access/ann?permission=instances.get&instance="+instance, nil).into(t, &why)
		if why.Allowed != may || may && (len(why.By) != 1 || why.By[0].Label != "env=prod") {
			t.Errorf("%s: %+v", instance, why)
		}
	}
	if got := f.as(access.Admin, "GET", "/v1/access?permission=instances.get&instance=web-1", nil); !strings.Contains(string(got.body), `"principal":"ann"`) {
		t.Errorf("who can: %d %s", got.status, got.body)
	}
	for _, bad := range []string{
		`{"role":"viewer","label":"env"}`, `{"role":"viewer","label":"=prod"}`, `{"role":"viewer","label":"a=b","instances":"web-1"}`, `{"permission":"instances.get","label":"a=b"}`,
	} {
		f.as(access.Admin, "POST", "/v1/principals/ann/grant", bad).want(t, bad, 422, "request.invalid")
	}
	f.as(access.Admin, "POST", "/v1/principals/ann/revoke", `{"role":"viewer","label":"env=dev"}`).want(t, "what was not granted", 404, "request.not-found")
	f.as(access.Admin, "POST", "/v1/principals/ann/revoke", body).want(t, "revoke", 200, "")
	var why accessBody
	f.as(access.Admin, "GET", "/v1/access/ann?permission=instances.get&instance=web-1", nil).into(t, &why)
	if why.Allowed {
		t.Errorf("after it was revoked: %+v", why)
	}
}
