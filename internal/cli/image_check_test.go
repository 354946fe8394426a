package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/disk/disktest"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/launch/launchtest"
	"github.com/assay-project/assay/uefi/varstore"
)

// A disk is judged by a variable store, and the status says how.
func TestImageCheckSaysWhetherADiskBoots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	loader := func(b []byte) []byte { return disktest.Image(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": b}) }
	kernel := loader(launchtest.Kernel("6.1.0"))
	raw, packed := file("kernel.img", kernel), file("kernel.qcow2", disktest.QCOW2(kernel))
	other := file("packed.img", disktest.QCOW2(kernel))
	menu := file("menu.img", loader(launchtest.PE(launchtest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-boot 252 ####")})))
	hostile := file("hostile.img", loader(launchtest.GRUB("\"x\x1b[31m\"\n", launchtest.SBAT("grub,5"))))
	empty, junk := file("empty.img", disktest.Image(nil)), file("junk.img", []byte("junk"))
	vars := file("vars.fd", mustStore(t))
	for name, tc := range map[string]struct {
		args   []string
		status int
		boots  any
		says   string
	}{
		"a kernel":                {[]string{raw, "--vars", vars}, program.StatusOK, true, "PCR 4   sha256 "},
		"the same as qcow2":       {[]string{packed, "--vars", vars}, program.StatusOK, true, "boots; Secure Boot off"},
		"qcow2 of another name":   {[]string{other, "--vars", vars, "--format", "qcow2"}, program.StatusOK, true, "boots; Secure Boot off"},
		"qcow2 taken for raw":     {[]string{other, "--vars", vars}, program.StatusUnusable, nil, "no GUID partition table"},
		"no loader":               {[]string{empty, "--vars", vars}, program.StatusRefused, false, "launch.no-loader"},
		"a menu":                  {[]string{menu, "--vars", vars}, program.StatusUnusable, nil, "whether it boots cannot be known"},
		"what a terminal obeys":   {[]string{hostile, "--vars", vars}, program.StatusUnusable, nil, "launch.grub-script"},
		"no disk":                 {[]string{junk, "--vars", vars}, program.StatusUnusable, nil, "disk is malformed"},
		"no file":                 {[]string{filepath.Join(dir, "gone"), "--vars", vars}, program.StatusUnusable, nil, "no such file"},
		"a folder":                {[]string{dir, "--vars", vars}, program.StatusUnusable, nil, "neither a file nor a disk"},
		"neither keys nor store":  {[]string{raw}, program.StatusUnusable, nil, "name a key set by --keyset"},
		"no such format":          {[]string{raw, "--vars", vars, "--format", "vmdk"}, program.StatusUnusable, nil, `format "vmdk"`},
		"no store":                {[]string{raw, "--vars", junk}, program.StatusUnusable, nil, "junk.img"},
		"Microsoft's is not made": {[]string{raw, "--keyset", "microsoft", "--root", dir}, program.StatusUnusable, nil, "no key set of this name yet: the first machine makes it, or assay keyset create microsoft --kind microsoft"},
		"no such set":             {[]string{raw, "--keyset", "x", "--root", dir}, program.StatusUnusable, nil, "no key set of this name"},
	} {
		run := func(format string) (int, []byte, string) {
			var out, errs bytes.Buffer
			env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
			return Main(env, append([]string{"image", "check", "-o", format}, tc.args...)), out.Bytes(), errs.String()
		}
		status, text, errs := run("table")
		if status != tc.status || !strings.Contains(string(text)+errs, tc.says) || bytes.ContainsRune(text, 0x1b) {
			t.Errorf("%s: status %d, output %q, errors %q, want %d and %q", name, status, text, errs, tc.status, tc.says)
		}
		status, out, _ := run("json")
		v, _ := oneValue(t, out).(map[string]any)
		if boots, there := v["boots"]; status != tc.status || !there || !cmp.Equal(boots, tc.boots) {
			t.Errorf("%s: status %d, boots is %v, want %d and %v", name, status, boots, tc.status, tc.boots)
		}
	}
}

// The JSON of a disk that boots has a value for each register that is known, and a
// reason for the others.
func TestImageCheckGivesARegisterOrItsReason(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "kernel.img")
	b := disktest.Image(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": launchtest.Kernel("6.1.0")})
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	if err := os.WriteFile(filepath.Join(dir, "vars.fd"), mustStore(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := Main(env, []string{"image", "check", "-o", "json", name, "--vars", filepath.Join(dir, "vars.fd")}); status != program.StatusOK {
		t.Fatalf("status %d: %s", status, &errs)
	}
	var r struct {
		PCRs    map[string]map[string]*string `json:"pcrs"`
		Unknown map[string][]struct{ Code string }
		Chain   []struct {
			Path, Kind string
			Digests    map[string]string
		}
		Events []struct {
			PCR  int
			Kind string
		}
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for bank, size := range map[string]int{"sha1": 40, "sha256": 64, "sha384": 96} {
		for pcr, value := range r.PCRs[bank] {
			if (value == nil) != (len(r.Unknown[pcr]) > 0) || value != nil && len(*value) != size {
				t.Errorf("%s, PCR %s: %v, unknown for %v", bank, pcr, value, r.Unknown[pcr])
			}
		}
		if len(r.PCRs[bank]) != 16 || r.PCRs[bank]["4"] == nil {
			t.Errorf("%s has %d registers", bank, len(r.PCRs[bank]))
		}
	}
	if len(r.Chain) != 1 || r.Chain[0].Kind != "linux" || len(r.Chain[0].Digests["sha256"]) != 64 || len(r.Events) == 0 || r.Events[0].Kind != "variable" {
		t.Errorf("chain %+v, events %+v", r.Chain, r.Events)
	}
}

// Under the keys of a set an unsigned kernel is refused, unless Secure Boot is off.
func TestImageCheckJudgesByAKeySet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "kernel.img")
	b := disktest.Image(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": launchtest.Kernel("6.1.0")})
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		line   string
		status int
		says   string
	}{
		{"key-provider add main local:" + filepath.Join(dir, "keys") + " --create", program.StatusOK, ""},
		{"keyset create web --kind microsoft", program.StatusOK, ""},
		{"image check --keyset web " + name, program.StatusRefused, `image.unsigned: \EFI\BOOT\BOOTX64.EFI: `},
		{"image check --keyset web --secure-boot=false " + name, program.StatusOK, "boots; Secure Boot off"},
		{"keyset create open --kind setup-mode", program.StatusOK, ""},
		{"image check --keyset open " + name, program.StatusOK, "boots; Secure Boot off"},
	} {
		var out, errs bytes.Buffer
		env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Rand: rand.Reader}
		if status := Main(env, append(strings.Fields(tc.line), "--root", dir)); status != tc.status || !strings.Contains(out.String(), tc.says) {
			t.Errorf("%s: status %d, output %q, errors %q", tc.line, status, &out, &errs)
		}
	}
}

func mustStore(t *testing.T) []byte {
	t.Helper()
	b, err := varstore.New(varstore.OVMF4M).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
