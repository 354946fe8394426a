package httpapi

import (
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
)

func TestMemberInAnotherCaseIsUnknown(t *testing.T) {
	f := newFixture(t, nil)
	for name, tc := range map[string]struct {
		path, body string
		want       int
	}{
		"Roles":        {"/v1/principals", `{"name":"a","Roles":["viewer"]}`, 422},
		"ROLES beside": {"/v1/principals", `{"name":"b","permissions":["policies.read"],"ROLES":["admin"]}`, 422},
		"Name":         {"/v1/principals", `{"Name":"c","roles":["viewer"]}`, 422},
		"a long s":     {"/v1/principals", `{"name":"d","role` + "\u017f" + `":["viewer"]}`, 422},
		"Type":         {"/v1/challenges", `{"Type":"tpm"}`, 422},
		"as spelled":   {"/v1/principals", `{"name":"e","roles":["viewer"]}`, 201},
	} {
		if got := f.as(access.Admin, "POST", tc.path, tc.body); got.status != tc.want {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, tc.want)
		}
	}
}

func TestPrincipalWithoutRightsIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	for _, body := range []string{`{"name":"a"}`, `{"name":"a","roles":[]}`, `{"name":"a","roles":[],"permissions":[]}`} {
		if got := f.as(access.Admin, "POST", "/v1/principals", body); got.status != 400 || got.code() != "request.malformed" {
			t.Errorf("%s: %d %s, want 400 request.malformed", body, got.status, got.body)
		}
	}
	if all, err := f.store.Principals(t.Context()); err != nil || len(all) != len(access.Roles()) {
		t.Errorf("%d principals, %v, want %d", len(all), err, len(access.Roles()))
	}
}

func TestNoGrantOutlivesItsGiver(t *testing.T) {
	f := newFixture(t, nil)
	end := noon().Add(time.Hour)
	giver := f.principal("giver", access.Principal{Roles: []access.Role{access.Admin}, Expires: end})
	f.as(access.Admin, "PUT", "/v1/roles/night", `{"permissions":["attest","audit.read"]}`).want(t, "make a role", 200, "")
	f.as(access.Admin, "PUT", "/v1/roles/free", `{"permissions":["attest"]}`).want(t, "make a role that nobody has", 200, "")
	night := access.Principal{Roles: []access.Role{"night"}}
	f.principal("forever", night)
	night.Expires = end.Add(time.Minute)
	f.principal("later", night)
	night.Expires = end
	f.principal("together", night)
	for _, tc := range []struct {
		token, method, path, body string
		status                    int
	}{
		{giver, "POST", "/v1/principals/forever/grant", `{"role":"admin"}`, 403},
		{giver, "POST", "/v1/principals/forever/grant", `{"permission":"principals.write"}`, 403},
		{giver, "POST", "/v1/principals/forever/grant", `{"role":"admin","instances":"web-*"}`, 403},
		{giver, "POST", "/v1/principals/later/grant", `{"role":"admin"}`, 403},
		{giver, "POST", "/v1/principals/nobody/grant", `{"role":"admin"}`, 404},
		{giver, "POST", "/v1/principals/together/grant", `{"role":"admin"}`, 200},
		{giver, "POST", "/v1/principals/giver/grant", `{"role":"viewer"}`, 200},
		{giver, "PUT", "/v1/roles/night", `{"permissions":["attest","audit.read","principals.write"]}`, 403},
		{giver, "PUT", "/v1/roles/night", `{"permissions":["principals.write"]}`, 403},
		{giver, "PUT", "/v1/roles/night", `{"permissions":["attest"],"meaning":"fewer"}`, 200},
		{giver, "PUT", "/v1/roles/night", `{"permissions":["attest","audit.read"]}`, 403},
		{giver, "PUT", "/v1/roles/free", `{"permissions":["principals.write"]}`, 200},
		{giver, "PUT", "/v1/roles/new", `{"permissions":["principals.write"]}`, 200},
		{giver, "POST", "/v1/principals/forever/revoke", `{"role":"night"}`, 200},
		{giver, "POST", "/v1/principals/later/revoke", `{"role":"night"}`, 200},
		{giver, "PUT", "/v1/roles/night", `{"permissions":["principals.write"]}`, 200}, // who has it yet ends with the giver
		{f.tokens[access.Admin], "POST", "/v1/principals/forever/grant", `{"role":"admin"}`, 200},
	} {
		if got := f.do(tc.token, tc.method, tc.path, tc.body); got.status != tc.status || tc.status == 403 && got.code() != "access.denied" {
			t.Errorf("%s %s %s: %d %s, want %d", tc.method, tc.path, tc.body, got.status, got.body, tc.status)
		}
	}
}

func TestNobodyOutlivesHisEndThroughAnother(t *testing.T) {
	f := newFixture(t, nil)
	end := noon().Add(time.Hour)
	giver := f.principal("giver", access.Principal{Permissions: []access.Permission{access.SetPrincipals, access.ReadPrincipals}, Expires: end})
	for name, tc := range map[string]struct {
		token string
		asked any
		want  time.Time
	}{
		"without end":    {giver, nil, end},
		"a later end":    {giver, end.Add(time.Hour), end},
		"an earlier end": {giver, end.Add(-time.Minute), end.Add(-time.Minute)},
		"by one forever": {f.tokens[access.Admin], nil, time.Time{}},
	} {
		body := map[string]any{"name": name, "permissions": []string{"principals.read"}}
		if tc.asked != nil {
			body["expires"] = tc.asked
		}
		got := f.do(tc.token, "POST", "/v1/principals", body)
		if got.status != 201 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
			continue
		}
		var added newPrincipalBody
		got.into(t, &added)
		if !added.Principal.Expires.Equal(tc.want) {
			t.Errorf("%s: ends %s, want %s", name, added.Principal.Expires, tc.want)
		}
		stored, err := f.store.Principals(t.Context())
		must(t, err)
		for _, p := range stored {
			if p.Name == name && !p.Expires.Equal(tc.want) {
				t.Errorf("%s: stored with the end %s, want %s", name, p.Expires, tc.want)
			}
		}
	}
}
