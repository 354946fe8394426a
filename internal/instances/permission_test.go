package instances

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
)

// A described operation of these routes: a new one cannot be forgotten.
type described struct{ method, path, permission string }

func operationsOf(t *testing.T) []described {
	t.Helper()
	text, err := apiserver.Describe("", Undone())
	must(t, err)
	var api struct {
		Paths map[string]map[string]struct {
			Permission string           `json:"x-permission"`
			Security   []map[string]any `json:"security"`
		} `json:"paths"`
	}
	must(t, json.Unmarshal(text, &api))
	var out []described
	for path, methods := range api.Paths {
		for method, o := range methods {
			if len(o.Security) == 0 {
				t.Errorf("%s %s needs no credential", method, path)
			}
			out = append(out, described{strings.ToUpper(method), path, o.Permission})
		}
	}
	if len(out) < 30 {
		t.Fatalf("the description has %d operations", len(out))
	}
	return out
}

// bodies let a request of a route be read, so that what decides is who asks.
var bodies = map[string]string{
	"POST /v1/instances": `{"profile":"off","instance":{"name":"web-9"}}`,
	"PATCH /v1/instances/{instance}/setShieldedInstanceIntegrityPolicy": `{"updateAutoLearnPolicy":true}`,
	"POST /v1/instances/{instance}/restoreBaseline":                     `{"number":1}`,
	"POST /v1/instances/{instance}/suppressFindings":                    `{"kind":"finding.vtpm-off","reason":"a","until":"2026-01-01T00:00:00Z"}`,
	"POST /v1/findings/{finding}/suppress":                              `{"reason":"a","until":"2026-01-01T00:00:00Z"}`,
}

func (d described) request(instance string, finding int) (path, body string) {
	body = bodies[d.method+" "+d.path]
	if body == "" && d.method != "GET" {
		body = "{}"
	}
	return strings.NewReplacer("{instance}", instance, "{finding}", strconv.Itoa(finding), "{operation}", "operation-0", "{backup}", "none.assayvm").Replace(d.path), body
}

func TestEveryRouteNeedsItsPermissionOnItsMachine(t *testing.T) {
	f := newFixture(t)
	for _, o := range operationsOf(t) {
		if o.permission == "" {
			if !strings.HasPrefix(o.path, "/v1/operations/") {
				t.Errorf("%s %s needs no permission", o.method, o.path)
			}
			continue
		}
		id := f.found(t, "web-1")
		name, want := o.method+" "+o.path, access.Permission(o.permission)
		others := slices.DeleteFunc(access.Permissions(), func(p access.Permission) bool { return p == want })
		custom := []access.CustomRole{{Name: "one", Permissions: []access.Permission{want, access.UpdateShielded, access.ListFindings}}, {Name: "others", Permissions: others}}
		who := func(name string, roles []access.Role, bindings ...access.Binding) string {
			return f.principal(access.Principal{Name: name, Roles: roles, Bindings: bindings, Custom: custom})
		}
		path, body := o.request("web-1", id)
		if o.method+" "+o.path == "POST /v1/instances" {
			body = plain("web-1")
		}
		for what, token := range map[string]string{
			"with all others":                     who("a", []access.Role{"others"}),
			"with it on another machine":          who("b", []access.Role{"others"}, access.Binding{Role: "one", Instances: "db-*"}),
			"with all others and it on another's": who("c", nil, access.Binding{Role: "others", Instances: "web-1"}, access.Binding{Role: "one", Instances: "web-2"}),
		} {
			got := f.do(token, o.method, path, body)
			// A list is of what the caller may see; a finding of another's machine is none.
			listed := got.status == 200 && strings.Contains(string(got.body), `"items":[]`) || got.status == 404 && strings.HasPrefix(o.path, "/v1/findings/")
			if got.status != 403 && !(listed && what != "with all others") {
				t.Errorf("%s %s: %d %s", name, what, got.status, got.body)
			}
		}
		for what, token := range map[string]string{
			"everywhere":          who("d", []access.Role{"one"}),
			"on this one":         who("e", nil, access.Binding{Role: "one", Instances: "web-1"}),
			"on those like these": who("f", nil, access.Binding{Role: "one", Instances: "web-*"}),
		} {
			got, refused := f.do(token, o.method, path, body), what != "everywhere" && !want.Narrows()
			if got.status == 401 || (got.status == 403) != refused {
				t.Errorf("%s %s: %d %s", name, what, got.status, got.body)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	denied := 0
	for _, e := range f.trail {
		if e.Action == "request" && e.Outcome == "denied" {
			denied++
		}
	}
	if denied < 30 {
		t.Errorf("%d denials in the audit chain", denied)
	}
}

// found makes a finding of a machine and returns its number.
func (f *fixture) found(t *testing.T, machine string) (id int) {
	t.Helper()
	now := time.Now()
	must(t, f.find.Update(t.Context(), now, func(b *finding.Book) error {
		if err := b.Apply(now, finding.Signal{Kind: finding.SecureBootOff, Machine: machine, Reasons: []evidence.Reason{{Code: "a.b", Message: "c"}}}); err != nil {
			return err
		}
		for _, one := range b.Findings(now) {
			if one.Machine == machine {
				id = one.ID
			}
		}
		return nil
	}))
	return id
}

func TestListsHaveOnlyWhatTheCallerMaySee(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	for _, name := range []string{"web-1", "web-2", "db-1"} {
		f.do(admin, "POST", "/v1/instances", plain(name)).want("create", 200)
		f.found(t, name)
	}
	web := f.principal(access.Principal{Name: "web", Bindings: []access.Binding{{Role: access.Viewer, Instances: "web-*"}}})
	for path, words := range map[string][]string{
		"/v1/instances": {`"name":"web-1"`, `"name":"web-2"`}, "/v1/findings": {`"machine":"web-1"`, `"machine":"web-2"`},
		"/v1/operations": {`"instance":"web-1"`, `"instance":"web-2"`},
	} {
		got := f.do(web, "GET", path, "").want(path, 200, words...)
		if strings.Contains(string(got.body), "db-1") {
			t.Errorf("%s: %s", path, got.body)
		}
		f.do(admin, "GET", path, "").want(path, 200, "db-1")
	}
	f.do(web, "POST", "/v1/instances/web-1/start", "").want("a viewer starts", 403, "instances.start", `on instance`, "instance-admin")
	f.do(web, "GET", "/v1/instances/web-1/serialPort", "").want("a viewer reads a console", 403, "instances.getSerialPortOutput")
}

func TestShieldedOptionsNeedTheirOwnPermission(t *testing.T) {
	f := newFixture(t)
	f.do(f.admin(), "POST", "/v1/instances", plain("web-1")).want("create", 200)
	patcher := f.principal(access.Principal{Name: "patcher", Permissions: []access.Permission{access.UpdateInstance}})
	f.do(patcher, "PATCH", "/v1/instances/web-1", `{"cpus":2}`).want("cpus", 200)
	for _, body := range []string{
		`{"shieldedInstanceConfig":{"enableVtpm":true}}`, `{"shieldedInstanceConfig":{"enableSecureBoot":true},"cpus":3}`,
		`{"integrityPolicy":"gce"}`, `{"keyset":"own"}`, `{"approveFirstBoot":true}`, `{"bootDeadlineSeconds":60}`,
	} {
		for _, query := range []string{"", "?validateOnly=true"} {
			f.do(patcher, "PATCH", "/v1/instances/web-1"+query, body).want(body, 403, "instances.updateShieldedVmConfig")
		}
	}
	f.do(patcher, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableVtpm":true}`).want("by its own call", 403, "instances.updateShieldedVmConfig")
	shielder := f.principal(access.Principal{Name: "shielder", Permissions: []access.Permission{access.UpdateShielded}})
	f.do(shielder, "PATCH", "/v1/instances/web-1", `{"cpus":1}`).want("cpus", 403, "instances.update")
	f.do(shielder, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableVtpm":true}`).want("options", 200)
}

// How a boot is judged and what follows is integrity policy: who may change machines does
// not turn it off.
func TestIntegrityPolicyNeedsItsOwnPermission(t *testing.T) {
	f := newFixture(t)
	_, err := f.root.Create(t.Context(), "operator", machine.CreateOptions{Definition: &fleet.Definition{
		Name: "web-1", GuestOS: "linux", CPUs: 1, MemoryMiB: 1024, Keyset: fleet.DefaultKeyset, Policy: "default", MachineType: "q35", TPM: "crb",
		Shielded: fleet.Shielded{SecureBoot: true, VTPM: true, IntegrityMonitoring: true},
		Agent:    true, ApproveFirst: true, StopOnFailure: true, BootDeadline: 600,
	}})
	must(t, err)
	patcher := f.principal(access.Principal{Name: "patcher", Permissions: []access.Permission{access.UpdateInstance}})
	both := f.principal(access.Principal{Name: "both", Permissions: []access.Permission{access.UpdateInstance, access.UpdateShielded}})
	for _, body := range []string{
		`{"approveFirstBoot":false}`, `{"stopOnFailure":false}`, `{"bootDeadlineSeconds":0}`, `{"bootDeadlineSeconds":700}`, `{"agent":null}`,
	} {
		f.do(patcher, "PATCH", "/v1/instances/web-1?confirm=true", body).want(body, 403, "instances.updateShieldedVmConfig")
		f.do(patcher, "PATCH", "/v1/instances/web-1?validateOnly=true", body).want(body, 403, "instances.updateShieldedVmConfig")
		f.do(both, "PATCH", "/v1/instances/web-1?validateOnly=true", body).want(body, 200)
	}
	d, err := f.root.Describe(t.Context(), "web-1")
	must(t, err)
	if d := d.Definition; !d.ApproveFirst || !d.StopOnFailure || !d.Agent || d.BootDeadline != 600 {
		t.Errorf("after changes that were refused: %+v", d)
	}
}

// A finding that its caller may not see is none, whatever is asked of it.
func TestFindingsOfOthersAreNone(t *testing.T) {
	f := newFixture(t)
	id := f.found(t, "db-secret")
	path := "/v1/findings/" + strconv.Itoa(id)
	custom := []access.CustomRole{{Name: "blind", Permissions: []access.Permission{access.SetFindingState, access.MuteFinding}}}
	web := access.Binding{Role: access.Admin, Instances: "web-*"}
	soon := `{"reason":"lab","until":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"}`
	for who, token := range map[string]string{
		"of other machines": f.principal(access.Principal{Name: "web", Bindings: []access.Binding{web}}),
		"who may not read":  f.principal(access.Principal{Name: "blind", Bindings: []access.Binding{web, {Role: "blind", Instances: "db-*"}}, Custom: custom}),
	} {
		for _, call := range [][3]string{{"GET", "", ""}, {"POST", "/acknowledge", "{}"}, {"POST", "/suppress", soon}, {"POST", "/unsuppress", ""}} {
			got := f.do(token, call[0], path+call[1], call[2])
			none := f.do(token, call[0], "/v1/findings/999"+call[1], call[2]).want("no finding", 404)
			if like := strings.ReplaceAll(string(none.body), "999", strconv.Itoa(id)); got.status != none.status || string(got.body) != like {
				t.Errorf("%s: %v: %d %s, want %s", who, call, got.status, got.body, like)
			}
		}
	}
	if got := f.actions("blind"); slices.ContainsFunc(got, func(a string) bool { return strings.Contains(a, "db-secret") }) {
		t.Errorf("audit chain: %q", got)
	}
	viewer := f.principal(access.Principal{Name: "viewer", Bindings: []access.Binding{web, {Role: access.Viewer, Instances: "db-*"}}})
	f.do(viewer, "POST", path+"/acknowledge", "{}").want("who may read it", 403, "findings.setState", "db-secret")
}

func TestFindingsArePeoplesToSettle(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	path := "/v1/findings/" + strconv.Itoa(f.found(t, "web-1"))
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	f.do(admin, "GET", path, "").want("show", 200, `"finding.secure-boot-off"`, `"state":"open"`)
	f.do(admin, "GET", "/v1/instances/web-1/findings", "").want("of the machine", 200, `"finding.secure-boot-off"`)
	f.do(admin, "GET", "/v1/instances/none/findings", "").want("of none", 404)
	f.do(admin, "POST", path+"/acknowledge", `{"note":"mine"}`).want("acknowledge", 200, `"state":"acknowledged"`, `"author":"principal admin"`, `"text":"mine"`)
	f.do(admin, "POST", path+"/suppress", `{"reason":"lab","until":"`+soon+`"}`).want("suppress", 200, `"state":"suppressed"`, `"reason":"lab"`)
	f.do(admin, "POST", path+"/suppress", `{"reason":"lab","until":"2001-01-01T00:00:00Z"}`).want("until the past", 422)
	f.do(admin, "POST", path+"/suppress", `{"reason":"","until":"`+soon+`"}`).want("without a reason", 422, "reason")
	f.do(admin, "POST", path+"/unsuppress", "").want("unsuppress", 200)
	f.do(admin, "POST", path+"/unsuppress", "").want("unsuppress again", 409)
	f.do(admin, "POST", "/v1/instances/web-1/suppressFindings", `{"kind":"finding.vtpm-off","reason":"lab","until":"`+soon+`"}`).want("before it is there", 204)
	f.do(admin, "POST", "/v1/instances/web-1/suppressFindings", `{"kind":"finding.nothing","reason":"lab","until":"`+soon+`"}`).want("no kind", 422)
	f.do(admin, "GET", "/v1/findings/999", "").want("none", 404)
	f.do(admin, "GET", "/v1/findings/0", "").want("no number", 422)
	if got := f.actions("admin"); !slices.Contains(got, "instance.acknowledgeFinding web-1 begun") || !slices.Contains(got, "instance.suppressFinding web-1 begun") {
		t.Errorf("audit chain: %q", got)
	}
}
