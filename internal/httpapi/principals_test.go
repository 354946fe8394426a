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
