package instances

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

func TestLifeOfAMachine(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances?validateOnly=true", plain("web-1")).want("look", 200, `"validateOnly":true`)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("not made", 404, "request.not-found")
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200, `"status":"DONE"`, `"operationType":"create"`, `"user":"admin"`)
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create again", 409, "request.conflict")
	f.do(admin, "POST", "/v1/instances?validateOnly=true", plain("web-1")).want("look again", 409, "request.conflict")
	f.do(admin, "GET", "/v1/instances/web-1", "").want("get", 200, `"state":"stopped"`, `"memoryMiB":1024`, `"baselines":[]`)
	f.do(admin, "GET", "/v1/instances", "").want("list", 200, `"items":[{"name":"web-1"`)
	f.do(admin, "PATCH", "/v1/instances/web-1?validateOnly=true", `{"memoryMiB":2048}`).want("look at a change", 200, `"new":"2048"`, `"pcrs":[0]`)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("unchanged", 200, `"memoryMiB":1024`)
	f.do(admin, "PATCH", "/v1/instances/web-1?reason=more", `{"memoryMiB":2048,"labels":{"a":"1","b":"2"}}`).want("change", 200, `"new":"2048"`)
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"labels":{"a":null}}`).want("take a label away", 200)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("changed", 200, `"memoryMiB":2048`, `"labels":{"b":"2"}`)
	f.do(admin, "POST", "/v1/instances/web-1/start", "").want("start", 200, `"status":"DONE"`)
	f.do(admin, "POST", "/v1/instances/web-1/stop", "").want("stop", 409, "instance.not-running")
	f.do(admin, "POST", "/v1/instances/web-1/reset", "").want("reset", 409, "instance.not-running")
	f.do(admin, "GET", "/v1/instances/web-1/serialPort", "").want("serial port of one that never ran", 200, `"contents":""`, `"next":"0"`)
	f.do(admin, "GET", "/v1/instances/web-1/getShieldedInstanceIdentity", "").want("identity without a TPM", 409, "has no TPM")
	f.do(admin, "GET", "/v1/instances/web-1/boots", "").want("boots", 200, `"items":[]`)
	f.do(admin, "GET", "/v1/instances/web-1/why", "").want("why", 404)
	f.do(admin, "GET", "/v1/instances/web-1/diff", "").want("diff", 404)
	f.do(admin, "GET", "/v1/instances/web-1/check", "").want("check", 409)
	f.do(admin, "GET", "/v1/instances/web-1/events", "").want("events", 200, `"updateShieldedVmConfig"`, `principal admin`)
	f.do(admin, "GET", "/v1/instances/web-1/reports", "").want("reports", 200, `"items":[]`)
	f.do(admin, "DELETE", "/v1/instances/web-1", "").want("delete", 200, `"operationType":"delete"`)
	f.do(admin, "GET", "/v1/instances/web-1", "").want("deleted", 404)
	f.do(admin, "GET", "/v1/instances", "").want("list", 200, `"items":[]`)
	want := []string{
		"instance.create web-1 begun", "instance.create web-1 done", "instance.create web-1 begun", "instance.create web-1 failed",
		"instance.update web-1 begun", "instance.update web-1 done", "instance.update web-1 begun", "instance.update web-1 done",
		"instance.start web-1 begun", "instance.start web-1 done", "instance.stop web-1 begun", "instance.stop web-1 failed",
		"instance.reset web-1 begun", "instance.reset web-1 failed", "instance.delete web-1 begun", "instance.delete web-1 done",
	}
	if diff := cmp.Diff(want, f.actions("admin")); diff != "" {
		t.Errorf("audit chain (-want +got):\n%s", diff)
	}
	told := []string{"changed web-1", "changed web-1", "changed web-1", "start web-1 by principal admin", "deleted web-1"}
	if diff := cmp.Diff(told, f.told); diff != "" {
		t.Errorf("the host was told (-want +got):\n%s", diff)
	}
}

func TestGoogleShapeOfEvents(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.do(admin, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableVtpm":true}`).want("a TPM", 200, `"member":"enableVtpm"`)
	var got struct {
		Items []struct {
			Resource struct {
				Type   string
				Labels map[string]string
			}
			JSONPayload map[string]any
		}
	}
	f.do(admin, "GET", "/v1/instances/web-1/events?format=gce", "").into(&got)
	if len(got.Items) == 0 {
		t.Fatal("no entry")
	}
	last := got.Items[len(got.Items)-1]
	want := map[string]any{
		"@type": "type.googleapis.com/cloud_integrity.IntegrityEvent", "bootCounter": "0", "updateShieldedVmConfig": map[string]any{},
	}
	if diff := cmp.Diff(want, last.JSONPayload); diff != "" || last.Resource.Type != "gce_instance" || last.Resource.Labels["instance_name"] != "web-1" {
		t.Errorf("%+v (-want +got):\n%s", last.Resource, diff)
	}
	card, err := f.root.Card("web-1")
	must(t, err)
	if id := last.Resource.Labels["instance_id"]; id != integrity.GCEInstanceID(card.ID) {
		t.Errorf("instance_id %q", id)
	}
	f.do(admin, "GET", "/v1/instances/web-1/events?format=xml", "").want("no such shape", 422)
	f.do(admin, "GET", "/v1/instances/web-1/getShieldedInstanceIdentity", "").want("identity", 200, `"encryptionKey":{"ekPub":"-----BEGIN`, `"eccP256EncryptionKey"`)
	f.do(admin, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig?validateOnly=true", `{"enableVtpm":false}`).want("look at a loss", 200, `"destroys":true`)
	f.do(admin, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableVtpm":false}`).want("a loss without a yes", 409, "instance.confirm")
	f.do(admin, "GET", "/v1/instances/web-1", "").want("it has its TPM", 200, `"enableVtpm":true`)
	f.do(admin, "POST", "/v1/instances/web-1/clearTPM", "").want("clear", 200, `"operationType":"clearTPM"`)
	f.do(admin, "GET", "/v1/instances/web-1/events", "").want("who cleared it", 200, `"clearTPMEvent"`)
	f.do(admin, "PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig?confirm=true", `{"enableVtpm":false}`).want("a loss with a yes", 200)
}

func TestBaselinesOfAMachineThatNeverBooted(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", `{"profile":"baseline","instance":{"name":"web-1"}}`).want("create", 200)
	const path = "/v1/instances/web-1/setShieldedInstanceIntegrityPolicy"
	f.do(admin, "PATCH", path, `{"updateAutoLearnPolicy":true}`).want("learn", 409, "no whole boot")
	f.do(admin, "PATCH", path+"?validateOnly=true", `{"updateAutoLearnPolicy":true}`).want("look", 409, "no whole boot")
	f.do(admin, "PATCH", path, `{"updateAutoLearnPolicy":false}`).want("nothing to set", 422, "updateAutoLearnPolicy")
	f.do(admin, "POST", "/v1/instances/web-1/restoreBaseline", `{"number":1}`).want("restore", 404)
	f.do(admin, "GET", "/v1/instances/web-1/baselines", "").want("list", 200, `"items":[]`)
}

func TestHostileBodies(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for what, tc := range map[string]struct {
		method, path, body string
		status             int
		words              string
	}{
		"no name":              {"POST", "/v1/instances", `{"instance":{}}`, 422, "name"},
		"a path for a name":    {"POST", "/v1/instances", `{"instance":{"name":"../a"}}`, 422, "name"},
		"an unknown member":    {"POST", "/v1/instances", `{"profile":"off","instance":{"name":"a","root":true}}`, 422, "root"},
		"a member twice":       {"POST", "/v1/instances", `{"instance":{"name":"a","name":"b"}}`, 400, "twice"},
		"another case":         {"POST", "/v1/instances", `{"instance":{"Name":"a"}}`, 422, "ame"},
		"no instance":          {"POST", "/v1/instances", `{}`, 422, "instance"},
		"a text for a number":  {"POST", "/v1/instances", `{"profile":"off","instance":{"name":"a","cpus":"1"}}`, 422, "cpus"},
		"too many processors":  {"POST", "/v1/instances", `{"profile":"off","instance":{"name":"a","cpus":100000}}`, 422, "cpus"},
		"half a processor":     {"POST", "/v1/instances", `{"profile":"off","instance":{"name":"a","cpus":1.5}}`, 422, "cpus"},
		"an unknown profile":   {"POST", "/v1/instances", `{"profile":"weak","instance":{"name":"a"}}`, 422, "profile"},
		"an unknown guest":     {"POST", "/v1/instances", `{"profile":"off","instance":{"name":"a","guestOS":"dos"}}`, 422, "dos"},
		"an unknown provider":  {"POST", "/v1/instances", `{"profile":"off","keyProvider":"other","instance":{"name":"a"}}`, 422, "key provider"},
		"a file for provider":  {"POST", "/v1/instances", `{"profile":"off","keyProvider":"file:/etc/passwd","instance":{"name":"a"}}`, 422, "keyProvider"},
		"an unknown key set":   {"POST", "/v1/instances", `{"instance":{"name":"a","keyset":"mine"}}`, 422, "key set"},
		"nested":               {"POST", "/v1/instances", `{"instance":` + deep + `}`, 400, "nested"},
		"too long":             {"POST", "/v1/instances", `{"instance":{"name":"` + strings.Repeat("a", 65<<10) + `"}}`, 413, "too-large"},
		"no JSON":              {"POST", "/v1/instances", `{`, 400, "malformed"},
		"another name":         {"PATCH", "/v1/instances/web-1", `{"name":"web-2"}`, 422, "keeps its name"},
		"no definition":        {"PATCH", "/v1/instances/web-1", `{"guestOS":null}`, 422, "guestOS"},
		"a list":               {"PATCH", "/v1/instances/web-1", `[]`, 422, "body"},
		"monitoring, no TPM":   {"PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableIntegrityMonitoring":true}`, 422, "ntegrity"},
		"an unknown option":    {"PATCH", "/v1/instances/web-1/updateShieldedInstanceConfig", `{"enableAll":true}`, 422, "enableAll"},
		"of none":              {"PATCH", "/v1/instances/none", `{"cpus":2}`, 404, "not-found"},
		"a path for a machine": {"GET", "/v1/instances/..%2Fvms", "", 422, ""},
		"an unknown query":     {"GET", "/v1/instances/web-1?all=true", "", 422, "all"},
	} {
		got := f.do(admin, tc.method, tc.path, tc.body)
		var p apiserver.Problem
		if json.Unmarshal(got.body, &p) != nil || got.status != tc.status && (got.status != 400 || tc.status != 422) || !strings.Contains(string(got.body), tc.words) || p.Code == "" {
			t.Errorf("%s: %d %.300s, want %d with %q", what, got.status, got.body, tc.status, tc.words)
		}
		if strings.Contains(string(got.body), f.dir) {
			t.Errorf("%s: the answer has a path of the host: %s", what, got.body)
		}
	}
	f.do(admin, "GET", "/v1/instances", "").want("afterwards", 200, `"items":[{"name":"web-1"`)
}

// A definition names files of the host: what a caller may not read it may not boot either.
func TestDisksLieInTheirFolders(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	narrow := f.principal(access.Principal{Name: "web", Bindings: []access.Binding{{Role: access.InstanceAdmin, Instances: "web-*"}}})
	outside, shared, own, other := f.disk("secret.raw"), f.disk("disks/shared.raw"), f.disk("disks/web-1/a.raw"), f.disk("disks/web-1/b.raw")
	link := filepath.Join(f.disks, "web-1", "link.raw")
	must(t, os.Symlink(outside, link))
	must(t, os.Symlink(f.dir, filepath.Join(f.disks, "web-1", "folder")))
	body := func(file string) string {
		return fmt.Sprintf(`{"profile":"off","instance":{"name":"web-1","disks":[{"file":%q,"format":"raw","boot":true}]}}`, file)
	}
	for what, tc := range map[string]struct {
		token, file string
		status      int
	}{
		"outside":                       {admin, outside, 403},
		"outside by dots":               {admin, f.disks + "/../secret.raw", 422},
		"outside by a link":             {admin, link, 403},
		"outside by a linked folder":    {admin, filepath.Join(f.disks, "web-1", "folder", "secret.raw"), 403},
		"a file that is not there":      {admin, filepath.Join(f.disks, "none.raw"), 403},
		"the folder itself":             {admin, f.disks, 403},
		"inside":                        {admin, shared, 200},
		"in its own folder":             {narrow, own, 200},
		"another's, with a narrow role": {narrow, shared, 403},
		"outside, with a narrow role":   {narrow, outside, 403},
		"by a link, with a narrow role": {narrow, link, 403},
	} {
		got := f.do(tc.token, "POST", "/v1/instances?validateOnly=true", body(tc.file))
		if got.status != tc.status || tc.status == 403 && !strings.Contains(string(got.body), "instance.disk-not-allowed") && !strings.Contains(string(got.body), "disk") {
			t.Errorf("%s: %d %s, want %d", what, got.status, got.body, tc.status)
		}
	}
	f.do(admin, "POST", "/v1/instances", body(shared)).want("create", 200)
	f.do(narrow, "PATCH", "/v1/instances/web-1", `{"cpus":2}`).want("what it has it keeps", 200)
	f.do(narrow, "PATCH", "/v1/instances/web-1", fmt.Sprintf(`{"disks":[{"file":%q,"format":"qcow2","boot":true}]}`, shared)).want("in another format", 403, "instance.disk-not-allowed", "disks[0].file")
	f.do(narrow, "PATCH", "/v1/instances/web-1", fmt.Sprintf(`{"disks":[{"file":%q,"format":"raw","boot":true}]}`, other)).want("its own", 200)
	f.do(narrow, "PATCH", "/v1/instances/web-1", `{"networks":[{"kind":"tap","device":"tap0"}]}`).want("the host's network", 403, "networks[0]")
	f.do(admin, "PATCH", "/v1/instances/web-1", `{"networks":[{"kind":"tap","device":"tap0"}]}`).want("the host's network, by an administrator", 200)
}

// A disk that was given from outside the folders may be kept, and used for no more than before.
func TestADiskThatIsKeptIsUsedForNoMore(t *testing.T) {
	f := newFixture(t)
	golden, scratch := f.disk("golden.raw"), f.disk("scratch.raw")
	_, err := f.root.Create(t.Context(), "operator", machine.CreateOptions{Definition: &fleet.Definition{
		Name: "web-1", GuestOS: "linux", CPUs: 1, MemoryMiB: 1024, Keyset: fleet.DefaultKeyset, Policy: "default", MachineType: "q35", TPM: "crb",
		Disks: []fleet.Disk{{File: golden, Format: "raw", Bus: "virtio", ReadOnly: true}, {File: scratch, Format: "raw", Bus: "virtio", Ephemeral: true}},
	}})
	must(t, err)
	narrow := f.principal(access.Principal{Name: "web", Bindings: []access.Binding{{Role: access.InstanceAdmin, Instances: "web-1"}}})
	for _, token := range []string{narrow, f.admin()} {
		for _, tc := range []struct {
			disks  string
			status int
		}{
			{`{"file":"GOLDEN","format":"raw"}`, 403},
			{`{"file":"GOLDEN","format":"raw","readOnly":false}`, 403},
			{`{"file":"GOLDEN","format":"raw","readOnly":true,"shared":true}`, 403},
			{`{"file":"GOLDEN","format":"raw","readOnly":true,"ephemeral":true}`, 403},
			{`{"file":"SCRATCH","format":"raw"}`, 403},
			{`{"file":"SCRATCH","format":"raw","readOnly":true}`, 403},
			{`{"file":"GOLDEN","format":"raw","readOnly":true,"bus":"sata"}`, 200},
			{`{"file":"SCRATCH","format":"raw","ephemeral":true}`, 200},
			{`{"file":"SCRATCH","format":"raw","ephemeral":true,"readOnly":true}`, 200},
		} {
			disks := strings.NewReplacer("GOLDEN", golden, "SCRATCH", scratch).Replace(tc.disks)
			got := f.do(token, "PATCH", "/v1/instances/web-1?validateOnly=true", `{"disks":[`+disks+`]}`)
			if got.status != tc.status || tc.status == 403 && !strings.Contains(string(got.body), "instance.disk-not-allowed") {
				t.Errorf("%s: %d %s, want %d", tc.disks, got.status, got.body, tc.status)
			}
		}
	}
	f.do(narrow, "PATCH", "/v1/instances/web-1?confirm=true", fmt.Sprintf(`{"disks":[{"file":%q,"format":"raw"}]}`, golden)).want("to write to what may be read", 403)
	d, err := f.root.Describe(t.Context(), "web-1")
	must(t, err)
	if disks := d.Definition.Disks; len(disks) != 2 || !disks[0].ReadOnly {
		t.Errorf("after a change that was refused: %+v", disks)
	}
}

func TestAServiceWithoutFoldersGivesNoDisk(t *testing.T) {
	f := newFixture(t)
	f.api.cfg.Disks = nil
	file := f.disk("disks/shared.raw")
	f.do(f.admin(), "POST", "/v1/instances", fmt.Sprintf(`{"profile":"off","instance":{"name":"web-1","disks":[{"file":%q,"format":"raw","boot":true}]}}`, file)).
		want("a disk", 403, "instance.disk-not-allowed")
}

func TestNothingIsDoneThatTheAuditChainDoesNotTake(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	f.do(admin, "POST", "/v1/instances", plain("web-1")).want("create", 200)
	f.auditFault = errors.New("disk full at /secret")
	for _, call := range [][2]string{{"POST", "/v1/instances/web-1/start"}, {"DELETE", "/v1/instances/web-1"}} {
		got := f.do(admin, call[0], call[1], "")
		if got.status != 500 || strings.Contains(string(got.body), "secret") {
			t.Errorf("%v: %d %s", call, got.status, got.body)
		}
	}
	f.auditFault = nil
	f.do(admin, "GET", "/v1/instances/web-1", "").want("it is there", 200)
	if len(f.told) != 1 {
		t.Errorf("the host was told %q", f.told)
	}
	f.do(admin, "POST", "/v1/instances/web-1/start", "").want("afterwards", 200)
}

func TestImagesComeAndGo(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	file := filepath.Join(f.disks, "good.raw")
	must(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	bad := filepath.Join(f.disks, "bad.raw")
	must(t, os.WriteFile(bad, make([]byte, 1<<20), 0o600))
	body := func(file, more string) string {
		return `{"name":"debian","format":"raw","file":"` + file + `"` + more + `}`
	}
	f.do(admin, "GET", "/v1/images", "").want("none yet", 200, `"items":[]`)
	f.do(admin, "POST", "/v1/images", body(file, `,"keyset":"microsoft","labels":{"os":"linux"}`)).want("add", 200, `"imageMade":{"name":"debian","version":"1"`, `"boots":"yes"`, `"by":"principal admin"`, `"image":"debian"`)
	f.do(admin, "POST", "/v1/images", body(file, `,"version":"1"`)).want("add again", 409, "there is an image")
	f.do(admin, "POST", "/v1/images", body(bad, `,"keyset":"microsoft"`)).want("one that does not boot", 409, "instance.image-refused", "it is not signed")
	f.do(admin, "POST", "/v1/images", body(file, `,"keyset":"none"`)).want("no key set", 422, "key set")
	f.do(admin, "POST", "/v1/images", body(f.disk("secret.raw"), "")).want("a file of the host", 403, "instance.disk-not-allowed")
	f.do(admin, "POST", "/v1/images", body(file, `,"version":"../1"`)).want("no version", 422, "not a name for an image")
	f.do(admin, "GET", "/v1/images", "").want("list", 200, `"name":"debian"`, `"sha256"`)
	f.do(admin, "GET", "/v1/images/debian", "").want("the newest", 200, `"version":"1"`, `"machines":[]`)
	f.do(admin, "GET", "/v1/images/none", "").want("none", 404)
	f.do(admin, "POST", "/v1/instances?validateOnly=true", `{"profile":"off","instance":{"name":"web-1","image":"none"}}`).want("of no image", 404, "there is no such image")
	f.do(admin, "DELETE", "/v1/images/debian", "").want("which version", 422, "NAME@VERSION")
	f.do(admin, "DELETE", "/v1/images/debian@1", "").want("delete", 200, `"operationType":"delete"`, `"image":"debian@1"`)
	f.do(admin, "GET", "/v1/images/debian@1", "").want("deleted", 404)
	want := []string{"image.create debian begun", "image.create debian done"}
	if got := f.actions("admin"); !slices.Equal(got[:2], want) || got[len(got)-1] != "image.delete debian@1 done" {
		t.Errorf("audit chain: %q", got)
	}
	viewer := f.principal(access.Principal{Name: "viewer", Roles: []access.Role{access.Viewer}})
	f.do(viewer, "GET", "/v1/images", "").want("list", 200)
	f.do(viewer, "POST", "/v1/images", body(file, "")).want("add", 403, "images.create", "instance-admin")
	f.do(viewer, "DELETE", "/v1/images/debian@1", "").want("delete", 403, "images.delete")
	maker := f.principal(access.Principal{Name: "maker", Permissions: []access.Permission{access.CreateInstance}})
	f.do(maker, "POST", "/v1/instances", `{"profile":"off","instance":{"name":"web-1","image":"debian"}}`).want("use", 403, "images.useReadOnly")
	web := f.principal(access.Principal{Name: "web", Bindings: []access.Binding{{Role: access.InstanceAdmin, Instances: "web-*"}}})
	f.do(web, "GET", "/v1/images", "").want("images are for who has a role everywhere", 403, "images.get")
	f.do(web, "GET", "/v1/operations", "").want("operations of images are not of machines", 200, `"items":[]`)
}
