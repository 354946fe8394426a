package fleet

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
)

const good = `{
	"name": "web-1", "guestOS": "linux", "cpus": 2, "memoryMiB": 1024,
	"shieldedInstanceConfig": {"enableSecureBoot": true, "enableVtpm": true, "enableIntegrityMonitoring": true},
	"disks": [{"file": "/images/web.qcow2", "format": "qcow2", "boot": true}],
	"networks": [{"kind": "user"}], "labels": {"team": "web"}
}`

func TestADefinitionIsCompletedAndKept(t *testing.T) {
	d, err := ParseDefinition([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if d.Keyset != DefaultKeyset || d.Policy != "default" || d.MachineType != "q35" || d.TPM != "crb" || d.Disks[0].Bus != "virtio" {
		t.Errorf("completed: %+v", d)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseDefinition(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("written and read (-first +second):\n%s", diff)
	}
	for n := range text {
		if _, err := ParseDefinition(text[:n]); err == nil {
			t.Fatalf("the first %d bytes are a definition", n)
		}
	}
}

func TestADefinitionAtFaultNamesItsMember(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"name":             {`"web-1"`, `"Web_1"`, "name"},
		"long name":        {`"web-1"`, `"` + strings.Repeat("a", 64) + `"`, "name"},
		"guest":            {`"linux"`, `""`, "guestOS"},
		"processors":       {`"cpus": 2`, `"cpus": 0`, "cpus"},
		"memory":           {`"memoryMiB": 1024`, `"memoryMiB": 1`, "memoryMiB"},
		"policy":           {`"cpus"`, `"integrityPolicy": "none", "cpus"`, "integrityPolicy"},
		"keyset":           {`"cpus"`, `"keyset": "../x", "cpus"`, "keyset"},
		"interface":        {`"cpus"`, `"tpmInterface": "spi", "cpus"`, "tpmInterface"},
		"machine":          {`"cpus"`, `"machineType": "q35,accel=x", "cpus"`, "machineType"},
		"site":             {`"cpus"`, `"site": "a b", "cpus"`, "site"},
		"host":             {`"cpus"`, `"host": "a b", "cpus"`, "host"},
		"monitoring alone": {`"enableVtpm": true`, `"enableVtpm": false`, "enableIntegrityMonitoring"},
		"relative disk":    {`/images/web.qcow2`, `web.qcow2`, "disks[0]"},
		"climbing disk":    {`/images/web.qcow2`, `/images/../etc/shadow`, "disks[0]"},
		"guessed format":   {`"format": "qcow2"`, `"format": ""`, "disks[0]"},
		"bus":              {`"boot": true`, `"bus": "floppy"`, "disks[0]"},
		"shared qcow2":     {`"boot": true`, `"shared": true`, "disks[0]"},
		"network":          {`"kind": "user"`, `"kind": "vde"`, "networks[0]"},
		"label":            {`"team"`, `"te am"`, "labels"},
		"unknown":          {`"cpus"`, `"secureBoot": true, "cpus"`, "secureBoot"},
		"twice":            {`"cpus"`, `"guestOS": "linux", "cpus"`, "twice"},
		"more after it":    {`"labels": {"team": "web"}` + "\n}", `"labels": {}}{}`, "byte"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tc.old, tc.new, 1)
			if bad == good {
				t.Fatal("nothing was changed")
			}
			_, err := ParseDefinition([]byte(bad))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ParseDefinition = %v, want an error with %q", err, tc.want)
			}
		})
	}
	var d Definition
	var fault *DefinitionError
	if err := d.Check(); !errors.As(err, &fault) {
		t.Errorf("the zero Definition: %v", err)
	}
}

func machine(change func(*Definition)) *Definition {
	d, err := ParseDefinition([]byte(good))
	if err != nil {
		panic(err) // the test above says why
	}
	if change != nil {
		change(d)
	}
	return d
}

func TestAPresetSaysWhatItSets(t *testing.T) {
	weakest, err := PresetNamed("off")
	if err != nil || weakest.Shielded != (Shielded{}) {
		t.Errorf("off: %+v, %v", weakest, err)
	}
	for _, p := range Presets() {
		d := machine(func(d *Definition) { d.Shielded, d.Policy = p.Shielded, p.Policy })
		if err := d.Check(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if _, err := PresetNamed("paranoid"); err == nil {
		t.Error("an unknown profile was found")
	}
}

func TestTheMatrixRefusesWithTheReason(t *testing.T) {
	m, err := DefaultMatrix()
	if err != nil {
		t.Fatal(err)
	}
	windows := func(d *Definition) { d.GuestOS = "windows-11" }
	for name, tc := range map[string]struct {
		change      func(*Definition)
		accelerator string
		components  []string
	}{
		"linux":              {nil, "tcg", nil},
		"linux variant":      {func(d *Definition) { d.GuestOS = "linux-debian-12" }, "kvm", nil},
		"windows":            {windows, "kvm", nil},
		"windows emulated":   {windows, "tcg", []string{"accelerator"}},
		"windows 11 without": {func(d *Definition) { windows(d); d.Shielded = Shielded{VTPM: true} }, "kvm", []string{FeatureSecureBoot}},
		"windows 7, secure":  {func(d *Definition) { d.GuestOS = "windows-7" }, "kvm", []string{FeatureSecureBoot, FeatureMonitoring}},
		"linux with VBS":     {func(d *Definition) { d.Virtualization = true }, "kvm", []string{FeatureVirtualization}},
		"another board":      {func(d *Definition) { d.MachineType = "pc" }, "kvm", []string{"machineType"}},
		"another system":     {func(d *Definition) { d.GuestOS = "plan9" }, "kvm", []string{"guestOS"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := machine(tc.change)
			var got []string
			for _, r := range m.Judge(d, tc.accelerator) {
				got = append(got, r.Component)
				if r.Code != codeUnsupported || r.Message == "" {
					t.Errorf("reason %+v", r)
				}
			}
			if !slices.Equal(got, tc.components) {
				t.Errorf("refused for %v, want %v", got, tc.components)
			}
			if rows := m.Supports(d, tc.accelerator); (len(rows) > 0) != (len(tc.components) == 0) {
				t.Errorf("rows %v", rows)
			}
		})
	}
	if got := new(Matrix).Judge(machine(nil), "kvm"); len(got) != 1 {
		t.Errorf("the zero Matrix refuses with %v", got)
	}
}

func TestLimitsAndSitesOfARowCount(t *testing.T) {
	m, err := ParseMatrix([]byte(`{"version": 1, "rows": [{"name": "small", "guestOS": ["*"], "machineTypes": ["q35"], "accelerators": ["*"],
		"sites": ["eu-*"], "maxCpus": 1, "maxMemoryMiB": 512, "features": ["secureBoot", "vtpm", "integrityMonitoring"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range m.Judge(machine(nil), "kvm") {
		got = append(got, r.Component)
	}
	if want := []string{"site", "cpus", "memoryMiB"}; !slices.Equal(got, want) {
		t.Errorf("refused for %v, want %v", got, want)
	}
	if r := m.Judge(machine(func(d *Definition) { d.Site, d.CPUs, d.MemoryMiB = "eu-1", 1, 512 }), "kvm"); r != nil {
		t.Errorf("refused: %v", r)
	}
}

// The list is of all systems: that of one row would say that there are no others.
func TestAnUnknownSystemIsToldAllThatThereAre(t *testing.T) {
	m, err := DefaultMatrix()
	if err != nil {
		t.Fatal(err)
	}
	got := m.Judge(machine(func(d *Definition) { d.GuestOS = "windows-98" }), "tcg")
	if len(got) != 1 || !strings.Contains(got[0].Message, "linux, linux-*, windows-11, ") || !strings.Contains(got[0].Message, "windows-server-2012*") {
		t.Errorf("%+v", got)
	}
}

func TestABadMatrixIsRefused(t *testing.T) {
	const row = `{"name": "x", "guestOS": ["linux"], "machineTypes": ["q35"], "accelerators": ["kvm"], "features": ["vtpm"]}`
	for name, text := range map[string]string{
		"no row":         `{"version": 1, "rows": []}`,
		"version":        `{"version": 2, "rows": [` + row + `]}`,
		"unknown member": `{"version": 1, "rows": [` + row + `], "allowAll": true}`,
		"feature":        `{"version": 1, "rows": [` + strings.Replace(row, "vtpm", "tpm", 1) + `]}`,
		"pattern":        `{"version": 1, "rows": [` + strings.Replace(row, `"linux"`, `"[a"`, 1) + `]}`,
		"says nothing":   `{"version": 1, "rows": [` + strings.Replace(row, `["linux"]`, `[]`, 1) + `]}`,
		"negative":       `{"version": 1, "rows": [` + strings.Replace(row, `"name"`, `"maxCpus": -1, "name"`, 1) + `]}`,
		"cannot be met":  `{"version": 1, "rows": [` + strings.Replace(row, `"features"`, `"requires": ["secureBoot"], "features"`, 1) + `]}`,
	} {
		if _, err := ParseMatrix([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseMatrix([]byte(`{"version": 1, "rows": [` + row + `]}`)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestAChangeSaysWhatItBrings(t *testing.T) {
	before := machine(nil)
	if got := Effects(before, machine(nil)); got != nil {
		t.Errorf("no change has effects: %+v", got)
	}
	for name, tc := range map[string]struct {
		change   func(*Definition)
		pcr      int
		destroys bool
	}{
		"enableSecureBoot":            {func(d *Definition) { d.Shielded.SecureBoot = false }, 0, false},
		"enableVtpm":                  {func(d *Definition) { d.Shielded.VTPM = false }, -1, true},
		"enableIntegrityMonitoring":   {func(d *Definition) { d.Shielded.IntegrityMonitoring = false }, -1, false},
		"integrityPolicy":             {func(d *Definition) { d.Policy = "gce" }, -1, false},
		"keyset":                      {func(d *Definition) { d.Keyset = "own" }, 7, false},
		"cpus":                        {func(d *Definition) { d.CPUs = 4 }, 0, false},
		"memoryMiB":                   {func(d *Definition) { d.MemoryMiB = 4096 }, 0, false},
		"tpmInterface":                {func(d *Definition) { d.TPM = "tis" }, -1, false},
		"machineType":                 {func(d *Definition) { d.MachineType = "pc" }, 0, false},
		"guestOS":                     {func(d *Definition) { d.GuestOS = "windows-11" }, -1, false},
		"virtualizationBasedSecurity": {func(d *Definition) { d.Virtualization = true }, 1, false},
		"disks":                       {func(d *Definition) { d.Disks[0].File = "/images/other.qcow2" }, 5, false},
		"networks":                    {func(d *Definition) { d.Networks = nil }, 1, false},
		"site":                        {func(d *Definition) { d.Site = "north" }, -1, false},
		"host":                        {func(d *Definition) { d.Host = "h7" }, -1, false},
		"image":                       {func(d *Definition) { d.Image = "debian@1" }, -1, false},
		"labels":                      {func(d *Definition) { d.Labels = map[string]string{"team": "db"} }, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := Effects(before, machine(tc.change))
			if len(got) != 1 || got[0].Member != name || got[0].Words == "" || got[0].Destroys != tc.destroys {
				t.Fatalf("effects %+v", got)
			}
			if tc.pcr >= 0 != slices.Contains(got[0].PCRs, max(tc.pcr, 0)) {
				t.Errorf("PCRs %v, want %d among them", got[0].PCRs, tc.pcr)
			}
		})
	}
	on := machine(func(d *Definition) { d.Shielded.VTPM, d.Shielded.IntegrityMonitoring = false, false })
	if got := Effects(on, before); slices.ContainsFunc(got, func(e Effect) bool { return e.Destroys }) {
		t.Errorf("adding a TPM destroys: %+v", got)
	}
}

func TestEveryMemberHasItsEffect(t *testing.T) {
	// A member that Effects does not know cannot be changed: nothing would be said to
	// change.
	known := map[string]bool{"name": true, "shieldedInstanceConfig": true}
	before := &Definition{}
	after := &Definition{
		Shielded: Shielded{true, true, true}, Keyset: "a", Policy: "a", GuestOS: "a", MachineType: "a", CPUs: 1, MemoryMiB: 1, TPM: "a",
		Disks: []Disk{{}}, Networks: []Network{{}}, Agent: true, ApproveFirst: true, BootDeadline: 1, StopOnFailure: true, Site: "a", Host: "a",
		Virtualization: true, Image: "a@1", Labels: map[string]string{"a": "b"},
	}
	for _, e := range Effects(before, after) {
		known[e.Member] = true
	}
	for f := range reflect.TypeFor[Definition]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !known[name] {
			t.Errorf("a change of %s has no effect", name)
		}
	}
}

func TestAChangeOfLabelsListsThem(t *testing.T) {
	got := Effects(machine(nil), machine(func(d *Definition) { d.Labels = map[string]string{"team": "web", "group": "a b"} }))
	want := []Effect{{Member: "labels", Old: `team="web"`, New: `group="a b", team="web"`, Words: "the groups that the machine is in; its boots are as before"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

func TestTheCodeIsInTheTable(t *testing.T) {
	if _, ok := evidence.Describe(codeUnsupported); !ok {
		t.Error("not in the table of reason codes")
	}
}

func FuzzParseDefinition(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseDefinition(in)
		if err != nil {
			return
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDefinition(text); err != nil {
			t.Fatalf("what was written is not read: %v\n%s", err, text)
		}
	})
}

func FuzzParseMatrix(f *testing.F) {
	f.Add(defaultMatrix)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ParseMatrix(in)
		if err == nil {
			m.Judge(machine(nil), "kvm")
		}
	})
}
