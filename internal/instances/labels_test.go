package instances

import (
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/access"
)

func TestRolesByLabelReachMachinesThatHaveIt(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	for name, labels := range map[string]string{"web-1": `{"env":"prod"}`, "web-2": `{"env":"dev"}`, "web-3": `{}`} {
		f.do(admin, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"`+name+`","labels":`+labels+`}}`).want("create", 200)
		f.found(t, name)
	}
	ann := f.principal(access.Principal{Name: "ann", Bindings: []access.Binding{{Role: access.InstanceAdmin, Label: "env=prod"}}})
	f.do(ann, "GET", "/v1/instances/web-1", "").want("of the label", 200)
	f.do(ann, "POST", "/v1/instances/web-1/start", "").want("start", 200)
	for _, name := range []string{"web-2", "web-3"} {
		f.do(ann, "GET", "/v1/instances/"+name, "").want("of another", 403, "instances.get")
		f.do(ann, "POST", "/v1/instances/"+name+"/start", "").want("start another", 403, "instances.start")
		f.do(ann, "GET", "/v1/instances/"+name+"/findings", "").want("findings of another", 403)
	}
	for _, path := range []string{"/v1/instances", "/v1/findings", "/v1/operations"} {
		got := f.do(ann, "GET", path, "").want(path, 200, "web-1")
		if strings.Contains(string(got.body), "web-2") || strings.Contains(string(got.body), "web-3") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	op := f.api.operations.list()
	i := slices.IndexFunc(op, func(o Operation) bool { return o.Instance == "web-1" && o.User == "admin" })
	f.do(ann, "GET", "/v1/operations/"+op[i].Name, "").want("another's operation on it", 200)
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"env":"dev"}}`).want("the label goes", 200)
	f.do(ann, "GET", "/v1/instances/web-1", "").want("afterwards", 403)
	f.do(admin, "PATCH", "/v1/instances/web-3", `{"labels":{"env":"prod"}}`).want("the label comes", 200)
	f.do(ann, "GET", "/v1/instances/web-3", "").want("afterwards", 200)
	f.do(ann, "DELETE", "/v1/instances/web-3", "").want("delete", 200)
	f.do(ann, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-3","labels":{"env":"prod"}}}`).want("make it again", 403, "instances.create")
}

// A label that somebody may change gives him nothing.
func TestNobodyReachesAMachineByALabelOfHisOwn(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","labels":{"env":"dev"}}}`).want("create", 200)
	dev := access.Binding{Role: access.InstanceAdmin, Label: "env=dev"}
	prod := access.Binding{Role: access.InstanceAdmin, Label: "env=prod"}
	byName := func(role access.Role) access.Binding { return access.Binding{Role: role, Instances: "web-*"} }
	custom := []access.CustomRole{{Name: "maker", Permissions: []access.Permission{access.CreateInstance, access.SetLabels, access.UpdateInstance}}}
	who := func(name string, b ...access.Binding) string {
		return f.principal(access.Principal{Name: name, Bindings: b, Custom: custom})
	}
	const set = `{"labels":{"env":"prod"}}`
	made := func(name string) string {
		return `{"profile":"off","instance":{"name":"` + name + `","labels":{"env":"prod"}}}`
	}
	for what, tc := range map[string]struct {
		token, words string
	}{
		"by a role by label":             {who("a", dev, prod), "instances.setLabels"},
		"by update alone":                {f.principal(access.Principal{Name: "b", Permissions: []access.Permission{access.UpdateInstance, access.CreateInstance}}), "instances.setLabels"},
		"with what the label would give": {who("c", byName("maker"), prod), "somebody else must set them"},
	} {
		for _, query := range []string{"", "?validateOnly=true"} {
			f.do(tc.token, "PATCH", "/v1/instances/web-1"+query, set).want(what, 403, tc.words)
		}
		got := f.do(tc.token, "POST", "/v1/instances", made("web-9"))
		if got.status != 403 {
			t.Errorf("%s, a new machine: %d %s", what, got.status, got.body)
		}
	}
	f.do(admin, "GET", "/v1/instances/web-9", "").want("none was made", 404)
	f.do(who("c", byName("maker"), prod), "POST", "/v1/instances", plain("web-8")).want("one without labels", 200)
	f.do(who("d", byName("maker")), "PATCH", "/v1/instances/web-1", set).want("who gains nothing by it", 200)
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"env":"dev"}}`).want("back", 200)
	both := who("e", byName("maker"), byName(access.InstanceAdmin), prod)
	f.do(both, "PATCH", "/v1/instances/web-1", set).want("who has all of it by name", 403, "somebody else must set them")
	f.do(both, "POST", "/v1/instances", made("web-7")).want("who has all of it by name, a new machine", 403, "somebody else must set them")
	f.do(both, "PATCH", "/v1/instances/web-1", `{"labels":{"more":"1"}}`).want("a label that no role of his is about", 200)
	everywhere := f.principal(access.Principal{Name: "f", Roles: []access.Role{access.InstanceAdmin}, Bindings: []access.Binding{prod}})
	f.do(everywhere, "PATCH", "/v1/instances/web-1", set).want("who has all of it on all machines", 200)
	f.do(both, "PATCH", "/v1/instances/web-1", `{"labels":{"more":"2"}}`).want("one that has the label already", 200)
	f.do(both, "PATCH", "/v1/instances/web-1", `{"labels":{"env":null}}`).want("who takes the label away", 200)
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"env":"dev"}}`).want("back", 200)
	f.do(who("a", dev, prod), "PATCH", "/v1/instances/web-1", `{"cpus":2}`).want("the rest by a role by label", 200)
}
