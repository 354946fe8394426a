package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func TestZeroPrincipalMayDoNothing(t *testing.T) {
	for _, p := range Permissions() {
		if err := Authorize(Principal{}, p, noon()); err == nil {
			t.Errorf("zero principal may %s", p)
		}
		if (Principal{Roles: []Role{Admin}}).May(p) {
			t.Errorf("principal without a name may %s", p)
		}
		if (Principal{Name: "a", Roles: []Role{"", "root"}}).May(p) {
			t.Errorf("principal with unknown roles may %s", p)
		}
	}
}

func TestRolesGiveExactlyTheirPermissions(t *testing.T) {
	// One letter for each permission, in the order of Permissions.
	for role, want := range map[Role]string{
		Attester:      "x.............." + "............." + "....." + "..." + "...." + "..",
		Viewer:        ".xx.x.x.x.....x" + "xx........x.." + "....." + "x.." + "x..." + "..",
		Operator:      "xxxxx.x.xx....x" + "xx..xxx...x.." + "....." + "xx." + "x..." + "..",
		InstanceAdmin: "..............." + "xxxxxxxxxxxxx" + "xxxxx" + "xxx" + "xxxx" + "xx",
		SecurityAdmin: ".xx.xxxxxxx..xx" + "xx......xxx.." + "....." + "xxx" + "x..." + "..",
		Auditor:       ".xx.x.x.x..x.xx" + "xx........x.." + "....." + "x.." + "x..." + "x.",
		Admin:         "xxxxxxxxxxxxxxx" + "xxxxxxxxxxxxx" + "xxxxx" + "xxx" + "xxxx" + "xx",
		"unknown":     "..............." + "............." + "....." + "..." + "...." + "..",
	} {
		var got strings.Builder
		for _, p := range Permissions() {
			if err := Authorize(Principal{Name: "a", Roles: []Role{role}}, p, noon()); err == nil {
				got.WriteByte('x')
			} else {
				got.WriteByte('.')
			}
		}
		if got.String() != want {
			t.Errorf("role %q gives\n%s, want\n%s", role, &got, want)
		}
	}
}

func TestListsNameEachOnce(t *testing.T) {
	seen := map[Permission]bool{}
	for _, p := range Permissions() {
		if seen[p] {
			t.Errorf("permission %q twice", p)
		}
		seen[p] = true
	}
	for _, r := range Roles() {
		if r.Permissions() == nil {
			t.Errorf("role %q gives nothing", r)
		}
	}
}

func TestPermissionsAreGrantedOneByOne(t *testing.T) {
	p := Principal{Name: "custom", Roles: []Role{Viewer}, Permissions: []Permission{SetReferences}}
	if err := Authorize(p, SetReferences, noon()); err != nil {
		t.Errorf("granted permission: %v", err)
	}
	var denied *DeniedError
	if err := Authorize(p, SetPolicies, noon()); !errors.As(err, &denied) || *denied != (DeniedError{"custom", SetPolicies, ""}) {
		t.Errorf("other permission: %v", err)
	}
	p.Permissions = []Permission{"everything"}
	if err := Authorize(p, "everything", noon()); err == nil {
		t.Error("a permission that does not exist was granted")
	}
}

func TestExpiryEndsAuthority(t *testing.T) {
	p := Principal{Name: "a", Roles: []Role{Admin}, Expires: noon()}
	if err := Authorize(p, Attest, noon().Add(-time.Nanosecond)); err != nil {
		t.Errorf("before expiry: %v", err)
	}
	if err := Authorize(p, Attest, noon()); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("at expiry: %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	good := Principal{Name: "a b é", Roles: []Role{Viewer}, Permissions: []Permission{Attest}, TokenHash: Digest{1}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Principal){
		"no name":             func(p *Principal) { p.Name = "" },
		"a long name":         func(p *Principal) { p.Name = strings.Repeat("a", maxName+1) },
		"a line end":          func(p *Principal) { p.Name = "a\nb" },
		"a NUL":               func(p *Principal) { p.Name = "a\x00" },
		"invalid UTF-8":       func(p *Principal) { p.Name = "a\xff" },
		"no credential":       func(p *Principal) { p.TokenHash = Digest{} },
		"a role of no name":   func(p *Principal) { p.Roles = append(p.Roles, "Root!") },
		"a bound role":        func(p *Principal) { p.Bindings = []Binding{{Role: "a b", Instances: "web-1"}} },
		"bound everywhere":    func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Instances: "*"}} },
		"bound nowhere":       func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Instances: ""}} },
		"a label of no value": func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Label: "env"}} },
		"a label of no name":  func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Label: "=a"}} },
		"a label with a NUL":  func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Label: "a=\x00"}} },
		"label and instances": func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Instances: "a", Label: "a=b"}} },
		"bound to a path":     func(p *Principal) { p.Bindings = []Binding{{Role: Viewer, Instances: "../web"}} },
		"too many bindings": func(p *Principal) {
			p.Bindings = slices.Repeat([]Binding{{Role: Viewer, Instances: "a"}}, maxBindings+1)
		},
		"unknown permission": func(p *Principal) { p.Permissions = []Permission{"root"} },
	} {
		p := good
		change(&p)
		if err := p.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
}

func TestTokenIsShownOnceAndFoundByDigest(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	token, hash, tail, err := NewToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(token, "assay_") || !strings.HasSuffix(token, tail) || len(tail) != 4 || len(token) != 49 {
		t.Errorf("token %q, tail %q", token, tail)
	}
	if hash != sha256.Sum256([]byte(token)) {
		t.Errorf("hash %s is not the token's SHA-256", hash)
	}
	if got, err := ParseToken(token); err != nil || got != hash {
		t.Errorf("ParseToken = %s, %v", got, err)
	}
	other, _, _, _ := NewToken(rand.Reader)
	if other == token {
		t.Error("two tokens are equal")
	}
}

func TestTokenNeedsAllItsRandomness(t *testing.T) {
	if token, _, _, err := NewToken(strings.NewReader("31 bytes are not quite enough..")); err == nil {
		t.Errorf("NewToken from a short source gave %q", token)
	}
}

// one is a store of one principal.
func one(p Principal) Lookup {
	return func(_ context.Context, d Digest) (Principal, error) {
		if d == p.TokenHash || d == p.Certificate {
			return p, nil
		}
		return Principal{}, ErrNotFound
	}
}

func TestCredentialsFindTheirPrincipalOnly(t *testing.T) {
	token, hash, tail, _ := NewToken(rand.Reader)
	stranger, _, _, _ := NewToken(rand.Reader)
	der := []byte("a certificate")
	p := Principal{Name: "a", TokenHash: hash, TokenTail: tail, Certificate: sha256.Sum256(der), Expires: noon()}
	nameless, broken := p, errors.New("disk on fire")
	nameless.Name = ""
	wrong := func(context.Context, Digest) (Principal, error) {
		return Principal{Name: "b", TokenHash: Digest{1}}, nil
	}
	before := noon().Add(-1)
	for what, tc := range map[string]struct {
		do   func() (Principal, error)
		want error
	}{
		"token":               {func() (Principal, error) { return Tokens(t.Context(), one(p), token, before) }, nil},
		"certificate":         {func() (Principal, error) { return Certificates(t.Context(), one(p), der, before) }, nil},
		"unknown token":       {func() (Principal, error) { return Tokens(t.Context(), one(p), stranger, before) }, ErrUnauthenticated},
		"malformed token":     {func() (Principal, error) { return Tokens(t.Context(), one(p), token[:48], before) }, ErrUnauthenticated},
		"expired token":       {func() (Principal, error) { return Tokens(t.Context(), one(p), token, noon()) }, ErrUnauthenticated},
		"principal of none":   {func() (Principal, error) { return Tokens(t.Context(), one(nameless), token, before) }, ErrUnauthenticated},
		"another's principal": {func() (Principal, error) { return Tokens(t.Context(), wrong, token, before) }, ErrUnauthenticated},
		"unknown certificate": {func() (Principal, error) { return Certificates(t.Context(), one(p), []byte("other"), before) }, ErrUnauthenticated},
		"no certificate":      {func() (Principal, error) { return Certificates(t.Context(), one(p), nil, before) }, ErrUnauthenticated},
		"expired certificate": {func() (Principal, error) { return Certificates(t.Context(), one(p), der, noon()) }, ErrUnauthenticated},
		"store at fault": {func() (Principal, error) {
			return Tokens(t.Context(), func(context.Context, Digest) (Principal, error) { return Principal{}, broken }, token, before)
		}, broken},
	} {
		got, err := tc.do()
		want := Principal{}
		if tc.want == nil {
			want = p
		}
		if !errors.Is(err, tc.want) || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v, want %v", what, got, err, tc.want)
		}
		if tc.want == broken && errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: our fault is called the client's", what)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token, _, _, _ := NewToken(rand.Reader)
	f.Add(token)
	f.Add("assay_")
	f.Add(token[:48] + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseToken(s)
		if (err == nil) == d.IsZero() {
			t.Errorf("ParseToken(%q) = %s, %v", s, d, err)
		}
		if err == nil && (len(s) != 49 || slices.Contains([]byte(s), '\n')) {
			t.Errorf("ParseToken(%q) accepted", s)
		}
	})
}
