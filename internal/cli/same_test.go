package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	vm "github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/uefi/varstore"
)

// A fleetOfBoth is the machines of a host, by the command line and over HTTP.
type fleetOfBoth struct {
	testing.TB
	root, variables string
	api             *attestClient
}

func newFleetOfBoth(t *testing.T) *fleetOfBoth {
	t.Helper()
	f := &fleetOfBoth{TB: t, root: t.TempDir()}
	template, err := varstore.New(varstore.OVMF4M).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f.variables = filepath.Join(f.root, "vars.fd")
	if err := os.WriteFile(f.variables, template, 0o600); err != nil {
		t.Fatal(err)
	}
	f.run("key-provider", "add", "main", "local:"+filepath.Join(f.root, "keys"), "--create", "--root", f.root)
	firmware := vm.DefaultFirmware()
	firmware.Variables = f.variables
	s := startServing(t, filepath.Join(t.TempDir(), "data"), func(o *serveOptions) {
		o.Machines = machineOptions{root: f.root, accelerator: "tcg", firmware: firmware}
	})
	f.api = &attestClient{url: s.url, http: clientFor(t, s.data), token: strings.TrimSpace(string(mustRead(t, filepath.Join(s.data, tokenFile))))}
	return f
}

func (f *fleetOfBoth) run(args ...string) (out string, status int) {
	var stdout, stderr bytes.Buffer
	status = Main(programtest.Env(&stdout, &stderr), args)
	return stdout.String() + stderr.String(), status
}

// command runs assay vm and returns the JSON that it prints.
func (f *fleetOfBoth) command(args ...string) (out any, text string, status int) {
	f.Helper()
	args = append([]string{"vm"}, args...)
	text, status = f.run(append(args, "--root", f.root, "--accelerator", "tcg", "--firmware-variables", f.variables)...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		out = nil
	}
	return out, text, status
}

// call makes a request and returns a member of its answer, or all of it.
func (f *fleetOfBoth) call(method, path, body, member string) (out any, text string, status int) {
	f.Helper()
	status, answer := f.api.do(method, "/v1/instances"+path, []byte(body))
	if err := json.Unmarshal(answer, &out); err != nil {
		f.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	if object, ok := out.(map[string]any); ok && member != "" {
		out = object[member]
	}
	return out, string(answer), status
}

func TestCommandsAndHTTPSayTheSame(t *testing.T) {
	t.Parallel()
	f := newFleetOfBoth(t)
	if _, text, status := f.command("create", "web-1", "--profile", "off", "--label", "env=prod", "-o", "json"); status != 0 {
		t.Fatalf("create: %d %s", status, text)
	}
	if _, text, status := f.call("POST", "", `{"profile":"off","instance":{"name":"web-2","labels":{"env":"prod"}}}`, ""); status != http.StatusOK {
		t.Fatalf("create: %d %s", status, text)
	}
	if _, text, status := f.command("snapshot", "create", "web-1", "good"); status != 0 {
		t.Fatalf("snapshot: %d %s", status, text)
	}
	if _, text, status := f.call("PATCH", "/web-2", `{"memoryMiB":2048}`, ""); status != http.StatusOK {
		t.Fatalf("update: %d %s", status, text)
	}
	one, _, _ := f.command("describe", "web-1", "-o", "json")
	two, _, _ := f.command("describe", "web-2", "-o", "json")
	if diff := cmp.Diff(definition(one, "web-1"), definition(two, "web-1")); !strings.Contains(diff, "2048") || strings.Count(diff, "\n-") != 1 {
		t.Errorf("one that the command made, one that HTTP made with more memory (-command +HTTP):\n%s", diff)
	}
	for _, name := range []string{"web-1", "web-2"} {
		for what, tc := range map[string]struct {
			args                       []string
			method, path, body, member string
		}{
			"list":          {[]string{"list"}, "GET", "", "", "items"},
			"describe":      {[]string{"describe", name}, "GET", "/" + name, "", ""},
			"events":        {[]string{"events", name}, "GET", "/" + name + "/events", "", "items"},
			"boots":         {[]string{"boots", name}, "GET", "/" + name + "/boots", "", "items"},
			"baselines":     {[]string{"baseline", "list", name}, "GET", "/" + name + "/baselines", "", "items"},
			"snapshots":     {[]string{"snapshot", "list", name}, "GET", "/" + name + "/snapshots", "", "items"},
			"update":        {[]string{"update", name, "--dry-run", "--memory", "4096", "--vtpm"}, "PATCH", "/" + name + "?validateOnly=true", `{"memoryMiB":4096,"shieldedInstanceConfig":{"enableVtpm":true}}`, "effects"},
			"empty update":  {[]string{"update", name, "--dry-run"}, "PATCH", "/" + name + "?validateOnly=true", `{}`, "effects"},
			"Google's form": {[]string{"events", name, "-o", "gce"}, "GET", "/" + name + "/events?format=gce", "", "items"},
		} {
			if what != "Google's form" {
				tc.args = append(tc.args, "-o", "json")
			}
			command, text, _ := f.command(tc.args...)
			answer, raw, status := f.call(tc.method, tc.path, tc.body, tc.member)
			if command == nil || status != http.StatusOK {
				t.Errorf("%s of %s: %s; %d %s", what, name, text, status, raw)
				continue
			}
			if what == "snapshots" {
				withoutHardware(t, command)
			}
			if diff := cmp.Diff(command, answer); diff != "" {
				t.Errorf("%s of %s (-command +HTTP):\n%s", what, name, diff)
			}
		}
	}
	f.metrics()
	f.sameImages()
	f.sameRefusals()
	if _, text, status := f.call("DELETE", "/web-2", "", ""); status != http.StatusOK {
		t.Errorf("delete: %d %s", status, text)
	}
	if _, text, status := f.command("describe", "web-2"); status == 0 || !strings.Contains(text, "there is no machine of that name") {
		t.Errorf("describe of what HTTP deleted: %d %s", status, text)
	}
	if _, text, status := f.command("delete", "web-1", "--yes"); status != 0 {
		t.Errorf("delete: %d %s", status, text)
	}
	if _, text, status := f.call("GET", "/web-1", "", ""); status != http.StatusNotFound {
		t.Errorf("what the command deleted: %d %s", status, text)
	}
}

// metrics of the service tell of its machines, to whoever may read its own.
func (f *fleetOfBoth) metrics() {
	f.Helper()
	status, text := f.api.do("GET", "/metrics", nil)
	for _, want := range []string{`assay_machine_state{machine="web-1",state="stopped"} 1`, `assay_machines{state="stopped"} 2`, "assay_http_requests_total"} {
		if status != http.StatusOK || !strings.Contains(string(text), want) {
			f.Errorf("metrics: %d, without %s", status, want)
		}
	}
	stranger := *f.api
	stranger.token = ""
	if status, text := stranger.do("GET", "/metrics", nil); status != http.StatusUnauthorized || strings.Contains(string(text), "web-1") {
		f.Errorf("without a credential: %d %s", status, text)
	}
}

// sameImages makes machines of an image both ways.
func (f *fleetOfBoth) sameImages() {
	f.Helper()
	file := filepath.Join(f.root, "disk.raw")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		f.Fatal(err)
	}
	if out, status := f.run("image", "add", "debian", file, "--root", f.root); status != 0 {
		f.Fatalf("add image: %d %s", status, out)
	}
	if _, text, status := f.command("create", "img-1", "--profile", "off", "--image", "debian"); status != 0 {
		f.Fatalf("create: %d %s", status, text)
	}
	if _, text, status := f.call("POST", "", `{"profile":"off","instance":{"name":"img-2","image":"debian"}}`, ""); status != http.StatusOK {
		f.Fatalf("create: %d %s", status, text)
	}
	one, _, _ := f.command("describe", "img-1", "-o", "json")
	two, _, _ := f.command("describe", "img-2", "-o", "json")
	of := func(description any) string {
		return strings.ReplaceAll(fmt.Sprint(definition(description, "img-1")), "img-2", "img-1")
	}
	if diff := cmp.Diff(of(one), of(two)); diff != "" || !strings.Contains(of(two), "debian@1") || !strings.Contains(of(two), "image.raw") {
		f.Errorf("machines of one image (-command +HTTP):\n%s\n%s", diff, of(two))
	}
	for what, tc := range map[string]struct {
		args         []string
		path, member string
	}{
		"list":     {[]string{"list"}, "/v1/images", "items"},
		"describe": {[]string{"describe", "debian"}, "/v1/images/debian", ""},
	} {
		text, _ := f.run(append(append([]string{"image"}, tc.args...), "--root", f.root, "-o", "json")...)
		_, answer := f.api.do("GET", tc.path, nil)
		var command, over any
		if json.Unmarshal([]byte(text), &command) != nil || json.Unmarshal(answer, &over) != nil {
			f.Fatalf("%s: %s; %s", what, text, answer)
		}
		if tc.member != "" {
			over = over.(map[string]any)[tc.member]
		}
		if diff := cmp.Diff(command, over); diff != "" {
			f.Errorf("image %s (-command +HTTP):\n%s", what, diff)
		}
	}
	if status, answer := f.api.do("DELETE", "/v1/images/debian@1", nil); status != http.StatusConflict || !strings.Contains(string(answer), "2 machines") {
		f.Errorf("delete an image in use: %d %s", status, answer)
	}
}

// sameRefusals asks for what a machine that never ran cannot do.
func (f *fleetOfBoth) sameRefusals() {
	f.Helper()
	for what, tc := range map[string]struct {
		args               []string
		method, path, body string
		words              string // of both
	}{
		"create again":         {[]string{"create", "web-1", "--profile", "off"}, "POST", "", `{"profile":"off","instance":{"name":"web-1"}}`, "there is a machine of that name"},
		"no name":              {[]string{"create", "Web", "--profile", "off"}, "POST", "", `{"profile":"off","instance":{"name":"Web"}}`, "name"},
		"stop":                 {[]string{"stop", "web-1"}, "POST", "/web-1/stop", "", "does not run"},
		"reset":                {[]string{"reset", "web-1"}, "POST", "/web-1/reset", "", "does not run"},
		"why":                  {[]string{"why", "web-1"}, "GET", "/web-1/why", "", "not kept"},
		"diff":                 {[]string{"diff", "web-1"}, "GET", "/web-1/diff", "", "not kept"},
		"check":                {[]string{"check", "web-1"}, "GET", "/web-1/check", "", "no disk that it boots from"},
		"a snapshot again":     {[]string{"snapshot", "create", "web-1", "good"}, "POST", "/web-1/snapshots", `{"name":"good"}`, "there is a snapshot of that name"},
		"no such snapshot":     {[]string{"snapshot", "delete", "web-1", "bad"}, "DELETE", "/web-1/snapshots/bad", "", "there is no snapshot of that name"},
		"learn nothing":        {[]string{"update", "web-1", "--learn-integrity-policy"}, "PATCH", "/web-1/setShieldedInstanceIntegrityPolicy", `{"updateAutoLearnPolicy":true}`, "no whole boot"},
		"no such machine":      {[]string{"describe", "none"}, "GET", "/none", "", "there is no machine of that name"},
		"start of none":        {[]string{"start", "none"}, "POST", "/none/start", "", "there is no machine of that name"},
		"no such baseline":     {[]string{"baseline", "restore", "web-1", "7"}, "POST", "/web-1/restoreBaseline", `{"number":7}`, "kept"},
		"a TPM of none":        {[]string{"clear-tpm", "web-1", "--yes"}, "POST", "/web-1/clearTPM", "", "TPM"},
		"an unsupported guest": {[]string{"update", "web-1", "--guest-os", "beos"}, "PATCH", "/web-1", `{"guestOS":"beos"}`, "beos"},
	} {
		_, text, failed := f.command(tc.args...)
		_, answer, status := f.call(tc.method, tc.path, tc.body, "")
		if failed == 0 || status < 400 || status >= 500 || !strings.Contains(text, tc.words) || !strings.Contains(answer, tc.words) {
			f.Errorf("%s: command %d %s; HTTP %d %s; want %q of both", what, failed, text, status, answer, tc.words)
		}
	}
}

// definition is that of a description, under another name.
func definition(description any, name string) any {
	object, _ := description.(map[string]any)
	d, _ := object["definition"].(map[string]any)
	if d != nil {
		d["name"] = name
	}
	return string(must(json.MarshalIndent(d, "", " ")))
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

// withoutHardware takes from snapshots what HTTP does not tell: with which files of the host
// their machine was built.
func withoutHardware(t *testing.T, snapshots any) {
	t.Helper()
	list, ok := snapshots.([]any)
	if !ok {
		t.Fatalf("snapshots are %T", snapshots)
	}
	for _, s := range list {
		m, ok := s.(map[string]any)
		if _, told := m["hardware"]; !ok || !told {
			t.Errorf("the command tells no hardware of the snapshot %v", s)
		}
		delete(m, "hardware")
	}
}
