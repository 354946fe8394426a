package access

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBindingGivesItsRoleOnItsInstancesOnly(t *testing.T) {
	p := Principal{Name: "a", Bindings: []Binding{{Role: InstanceAdmin, Instances: "web-*"}, {Role: Viewer, Instances: "db-1"}, {Role: Admin, Instances: "adm-1"}, {Role: "unknown", Instances: "x"}}}
	for what, tc := range map[string]struct {
		want     Permission
		instance string
		may      bool
	}{
		"of the prefix":                        {StartInstance, "web-1", true},
		"the prefix itself":                    {StartInstance, "web-", true},
		"shorter than the prefix":              {StartInstance, "web", false},
		"another":                              {StartInstance, "db-1", false},
		"what the other role gives":            {GetInstance, "db-1", true},
		"a name is no prefix":                  {GetInstance, "db-12", false},
		"everywhere":                           {GetInstance, "", false},
		"findings of it":                       {MuteFinding, "web-2", true},
		"what is about no instance":            {SetPrincipals, "adm-1", false},
		"what is about no instance, elsewhere": {SetPrincipals, "", false},
		"a role that does not exist":           {GetInstance, "x", false},
		"a star for a name":                    {StartInstance, "*", false},
	} {
		if got := p.MayOn(tc.want, tc.instance); got != tc.may {
			t.Errorf("%s: MayOn(%s, %q) = %v", what, tc.want, tc.instance, got)
		}
		err := AuthorizeOn(p, tc.want, tc.instance, noon())
		var denied *DeniedError
		if (err == nil) != tc.may || err != nil && !errors.As(err, &denied) {
			t.Errorf("%s: AuthorizeOn = %v", what, err)
		}
	}
	if !p.MaySomewhere(StartInstance) || p.MaySomewhere(SetPrincipals) || p.May(StartInstance) {
		t.Errorf("somewhere: start %v, principals %v; everywhere: start %v", p.MaySomewhere(StartInstance), p.MaySomewhere(SetPrincipals), p.May(StartInstance))
	}
}

func TestCustomRoleGivesWhatTheStoreHasOfIt(t *testing.T) {
	p := Principal{Name: "a", Roles: []Role{"night-shift"}, Bindings: []Binding{{Role: "patcher", Instances: "web-1"}, {Role: "gone", Instances: "web-1"}}}
	if p.May(StartInstance) || p.MayOn(UpdateInstance, "web-1") {
		t.Error("roles of which nothing is known give something")
	}
	p.Custom = []CustomRole{{Name: "night-shift", Permissions: []Permission{StartInstance}}, {Name: "patcher", Permissions: []Permission{UpdateInstance}}}
	if !p.May(StartInstance) || !p.MayOn(UpdateInstance, "web-1") || p.MayOn(UpdateInstance, "web-2") || p.May(ReadAudit) {
		t.Errorf("start %v, update web-1 %v", p.May(StartInstance), p.MayOn(UpdateInstance, "web-1"))
	}
	// A custom role that has the name of a predefined one, as a damaged store may say.
	p = Principal{Name: "a", Roles: []Role{Viewer}, Custom: []CustomRole{{Name: Viewer, Permissions: Permissions()}}}
	if p.May(SetPrincipals) {
		t.Error("a custom role replaces a predefined one")
	}
}

func TestGrantsSayByWhichWay(t *testing.T) {
	p := Principal{
		Name: "a", Roles: []Role{Viewer, "night-shift"}, Permissions: []Permission{GetInstance},
		Bindings: []Binding{{Role: InstanceAdmin, Instances: "web-*"}, {Role: InstanceAdmin, Instances: "db-1"}},
		Custom:   []CustomRole{{Name: "night-shift", Permissions: []Permission{GetInstance}}},
	}
	want := []Grant{{}, {Role: Viewer}, {Role: "night-shift", Custom: true}, {Role: InstanceAdmin, Instances: "web-*"}}
	if diff := cmp.Diff(want, p.Grants(GetInstance, "web-1")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := p.Grants(StartInstance, ""); got != nil {
		t.Errorf("everywhere: %v", got)
	}
	if got := (Principal{Roles: []Role{Admin}}).Grants(StartInstance, "web-1"); got != nil {
		t.Errorf("of nobody: %v", got)
	}
}

func TestDenialNamesPermissionAndRoles(t *testing.T) {
	err := AuthorizeOn(Principal{Name: "a"}, SetIntegrityPolicy, "web-1", noon())
	for _, word := range []string{`"a"`, "instances.setShieldedVmIntegrityPolicy", `"web-1"`, "instance-admin, security-admin, admin"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %s", err, word)
		}
	}
	custom := []CustomRole{{Name: "night-shift", Permissions: []Permission{Attest}}, {Name: "other", Permissions: []Permission{ReadAudit}}}
	if diff := cmp.Diff([]Role{Attester, Operator, Admin, "night-shift"}, RolesWith(Attest, custom)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCustomRoleCheckRefuses(t *testing.T) {
	good := CustomRole{Name: "night-shift", Meaning: "on call", Permissions: []Permission{StartInstance}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*CustomRole){
		"no name":          func(r *CustomRole) { r.Name = "" },
		"a long name":      func(r *CustomRole) { r.Name = Role(strings.Repeat("a", maxRole+1)) },
		"capitals":         func(r *CustomRole) { r.Name = "instanceAdmin" },
		"a hyphen first":   func(r *CustomRole) { r.Name = "-a" },
		"predefined":       func(r *CustomRole) { r.Name = Admin },
		"no permission":    func(r *CustomRole) { r.Permissions = nil },
		"unknown":          func(r *CustomRole) { r.Permissions = []Permission{"root"} },
		"a long meaning":   func(r *CustomRole) { r.Meaning = strings.Repeat("a", maxMeaning+1) },
		"a name of a path": func(r *CustomRole) { r.Name = "a/b" },
	} {
		r := good
		change(&r)
		if err := r.Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	if err := (Principal{Roles: []Role{Viewer, "night-shift"}}).CheckRoles(nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a role that nobody made: %v", err)
	}
	if err := (Principal{Roles: []Role{Viewer, "night-shift"}}).CheckRoles([]CustomRole{good}); err != nil {
		t.Errorf("a role that was made: %v", err)
	}
}

func TestRolesHaveTheNamesOfComputeEngineToo(t *testing.T) {
	for name, want := range map[string]Role{"instanceAdmin": InstanceAdmin, "securityAdmin": SecurityAdmin, "viewer": Viewer, "mine": "mine"} {
		if got := RoleNamed(name); got != want {
			t.Errorf("RoleNamed(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestBindingByLabelGivesItsRoleWhereTheLabelIsKnown(t *testing.T) {
	p := Principal{Name: "a", Bindings: []Binding{{Role: InstanceAdmin, Label: "env=prod"}, {Role: Viewer, Label: "empty="}}}
	labels := map[string]map[string]string{"web-1": {"env": "prod", "a": "b"}, "web-2": {"env": "dev"}, "web-3": {"empty": ""}, "web-4": {"prod": "env"}}
	for what, tc := range map[string]struct {
		want     Permission
		instance string
		may      bool
	}{
		"the label":                  {StartInstance, "web-1", true},
		"findings of it":             {MuteFinding, "web-1", true},
		"another value":              {StartInstance, "web-2", false},
		"an empty value":             {GetInstance, "web-3", true},
		"no such label":              {GetInstance, "web-1x", false},
		"a label the other way":      {StartInstance, "web-4", false},
		"everywhere":                 {StartInstance, "", false},
		"labels are not set by it":   {SetLabels, "web-1", false},
		"nothing is made by it":      {CreateInstance, "web-1", false},
		"what is about no instance":  {ReadAudit, "web-1", false},
		"what the role has not":      {Attest, "web-1", false},
		"an empty value is no other": {GetInstance, "web-4", false},
	} {
		known := p
		known.Labels = labels
		if got := known.MayOn(tc.want, tc.instance); got != tc.may {
			t.Errorf("%s: MayOn(%s, %q) = %v", what, tc.want, tc.instance, got)
		}
		if p.MayOn(tc.want, tc.instance) {
			t.Errorf("%s: a label that nobody has looked up gives %s", what, tc.want)
		}
	}
	if !p.ByLabel() || (Principal{Name: "a", Bindings: []Binding{{Role: Viewer, Instances: "a"}}}).ByLabel() {
		t.Error("ByLabel")
	}
}

func TestGainsAreThoseOfTheLabelsAlone(t *testing.T) {
	prod, none := map[string]string{"env": "prod"}, map[string]string(nil)
	byLabel := Binding{Role: SecurityAdmin, Label: "env=prod"}
	for what, tc := range map[string]struct {
		p             Principal
		before, after map[string]string
		gains         bool
	}{
		"a role by label":       {Principal{Name: "a", Bindings: []Binding{byLabel}}, none, prod, true},
		"the label goes":        {Principal{Name: "a", Bindings: []Binding{byLabel}}, prod, none, false},
		"it was there":          {Principal{Name: "a", Bindings: []Binding{byLabel}}, prod, map[string]string{"env": "prod", "a": "b"}, false},
		"all of it before":      {Principal{Name: "a", Roles: []Role{SecurityAdmin}, Bindings: []Binding{byLabel}}, none, prod, false},
		"some of it before":     {Principal{Name: "a", Bindings: []Binding{byLabel, {Role: Viewer, Instances: "web-1"}}}, none, prod, true},
		"all of it by name":     {Principal{Name: "a", Bindings: []Binding{byLabel, {Role: SecurityAdmin, Instances: "web-1"}}}, none, prod, true},
		"by another label too":  {Principal{Name: "a", Bindings: []Binding{byLabel, {Role: SecurityAdmin, Label: "a=b"}}}, map[string]string{"a": "b"}, map[string]string{"a": "b", "env": "prod"}, true},
		"who may give roles":    {Principal{Name: "a", Permissions: []Permission{SetPrincipals}, Bindings: []Binding{byLabel}}, none, prod, false},
		"a role of labels only": {Principal{Name: "a", Bindings: []Binding{{Role: "labeller", Label: "env=prod"}}, Custom: []CustomRole{{Name: "labeller", Permissions: []Permission{SetLabels, CreateInstance, Attest}}}}, none, prod, false},
		"no role by that label": {Principal{Name: "a", Bindings: []Binding{{Role: Viewer, Label: "env=dev"}}}, none, prod, false},
	} {
		if got := tc.p.Gains("web-1", tc.before, tc.after); (got != "") != tc.gains {
			t.Errorf("%s: gains %q", what, got)
		}
	}
}
