package httpapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// between is a store in which something else happens after a request was let in, and
// before its change begins.
type between struct {
	access.Store
	happens func() // once
}

func (b *between) first() {
	if f := b.happens; f != nil {
		b.happens = nil
		f()
	}
}

func (b *between) AddPrincipal(ctx context.Context, p access.Principal, c access.Check, e audit.Entry) error {
	b.first()
	return b.Store.AddPrincipal(ctx, p, c, e)
}

func (b *between) RemovePrincipal(ctx context.Context, name string, c access.Check, e audit.Entry) error {
	b.first()
	return b.Store.RemovePrincipal(ctx, name, c, e)
}

func (b *between) ChangeGrants(ctx context.Context, name string, change func(*access.Principal, access.State) error, e audit.Entry) error {
	b.first()
	return b.Store.ChangeGrants(ctx, name, change, e)
}

func (b *between) PutRole(ctx context.Context, r access.CustomRole, c access.Check, e audit.Entry) error {
	b.first()
	return b.Store.PutRole(ctx, r, c, e)
}

// Whether somebody may give or take something is decided by what all have when it is given.
func TestGrantsAreJudgedInTheirTransaction(t *testing.T) {
	const some, role = "/v1/principals/some", "/v1/roles/shift"
	b, n := &between{}, 0
	f := newFixture(t, func(c *Config) { b.Store, c.Principals = c.Principals, b })
	type call struct{ method, path, body string }
	for what, tc := range map[string]struct {
		meanwhile call // by an administrator
		call      call // by who may give roles, and little else
		ends      bool // the giver
		alone     int  // status when nothing happens meanwhile
		then      int
	}{
		"a role gets more than its giver has": {
			call{"PUT", role, `{"permissions":["keys.rotate"]}`}, call{"POST", some + "/grant", `{"role":"shift"}`}, false, 200, 403,
		},
		"a role of a new principal gets more": {
			call{"PUT", role, `{"permissions":["keys.rotate"]}`}, call{"POST", "/v1/principals", `{"name":"new","roles":["shift"]}`}, false, 201, 403,
		},
		"a role that is changed gets more": {
			call{"PUT", role, `{"permissions":["keys.rotate"]}`}, call{"PUT", role, `{"permissions":["attest"]}`}, false, 200, 403,
		},
		"who is removed gets more": {
			call{"POST", some + "/grant", `{"role":"admin"}`}, call{"DELETE", some, ""}, false, 204, 403,
		},
		"the giver loses what it gives": {
			call{"POST", "/v1/principals/giver/revoke", `{"permission":"attest"}`}, call{"POST", some + "/grant", `{"permission":"attest"}`}, false, 200, 403,
		},
		"the giver may give no more": {
			call{"POST", "/v1/principals/giver/revoke", `{"permission":"principals.write"}`}, call{"POST", some + "/grant", `{"permission":"attest"}`}, false, 200, 403,
		},
		"the giver is removed": {
			call{"DELETE", "/v1/principals/giver", ""}, call{"POST", some + "/grant", `{"permission":"attest"}`}, false, 200, 403,
		},
		"a role that gets more is given to who ends later": {
			call{"POST", some + "/grant", `{"role":"shift"}`}, call{"PUT", role, `{"permissions":["attest","principals.write"]}`}, true, 200, 403,
		},
		"the role is removed": {
			call{"DELETE", role, ""}, call{"POST", some + "/grant", `{"role":"shift"}`}, false, 200, 422,
		},
	} {
		for _, happens := range []bool{false, true} {
			n++
			its := strings.NewReplacer("giver", fmt.Sprint("giver", n), "some", fmt.Sprint("some", n), "shift", fmt.Sprint("shift", n), "new", fmt.Sprint("new", n))
			do := func(token string, c call) answer {
				var body any
				if c.body != "" {
					body = its.Replace(c.body)
				}
				return f.do(token, c.method, its.Replace(c.path), body)
			}
			p := access.Principal{Permissions: []access.Permission{access.SetPrincipals, access.Attest}}
			if tc.ends {
				p.Expires = noon().Add(time.Hour)
			}
			giver := f.principal(its.Replace("giver"), p)
			f.principal(its.Replace("some"), access.Principal{Permissions: []access.Permission{access.Attest}})
			do(f.tokens[access.Admin], call{"PUT", role, `{"permissions":["attest"]}`}).want(t, "make the role", 200, "")
			want := tc.alone
			if happens {
				want = tc.then
				b.happens = func() {
					if got := do(f.tokens[access.Admin], tc.meanwhile); got.status >= 300 {
						t.Errorf("%s: meanwhile: %d %s", what, got.status, got.body)
					}
				}
			}
			if got := do(giver, tc.call); got.status != want {
				t.Errorf("%s: it happens meanwhile: %v: %d %s, want %d", what, happens, got.status, got.body, want)
			}
		}
	}
}
