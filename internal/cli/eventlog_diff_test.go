package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog/baseline"
)

func keep(t testing.TB, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// bundleOf makes the least of an evidence bundle that holds a log.
func bundleOf(t testing.TB, log string) string {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"type": "tpm", "eventLog": data})
	if err != nil {
		t.Fatal(err)
	}
	return keep(t, "bundle.json", string(text))
}

func TestEventlogDiff(t *testing.T) {
	good, update := recordedLog(t, "vmboot/good-shim-grub/eventlog.bin"), recordedLog(t, "vmboot/good-uki-update/eventlog.bin")
	cmdline := recordedLog(t, "vmboot/bad-cmdline/eventlog.bin")
	uki := recordedLog(t, "vmboot/good-uki/eventlog.bin")
	sha1 := recordedLog(t, "eventlogs/bios/win-dell-sb-on-sha1.bin")
	cc := recordedLog(t, "eventlogs/ccel/ccel-gdc-tdx.bin")
	ima := unpacked(t, "../../eventlog/ima/testdata/lists.zip", "vmboot/good-uki/ima.bin")
	status, base, stderr := runEventlog(t, nil, good, "--baseline")
	if status != 0 {
		t.Fatalf("eventlog --baseline: status %d: %s", status, stderr)
	}
	baseFile := keep(t, "baseline.json", base)
	sha512 := keep(t, "sha512.json", strings.Replace(base, `"sha256"`, `"sha512"`, 1))
	misspelt := keep(t, "misspelt.json", strings.Replace(base, `"shape"`, `"shapes"`, 1))
	for name, tc := range map[string]struct {
		args   []string
		status int
		want   string // on standard output, or in the error
	}{
		"the same log":                {[]string{good, good}, 0, "Nothing differs."},
		"baseline and its log":        {[]string{baseFile, good}, 0, "Nothing differs."},
		"command line":                {[]string{good, cmdline}, 1, `kernel command line in PCR 8 changed: "/vmlinuz console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1" -> "/vmlinuz console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1 audit=0 apparmor=0"`},
		"command line, from baseline": {[]string{baseFile, cmdline}, 1, "audit=0 apparmor=0"},
		"command line under gce":      {[]string{good, cmdline, "--profile", "gce"}, 0, "For information, not judged by this profile:"},
		"image of another build":      {[]string{uki, update}, 1, "early boot: DIFFERS"},
		"in another bank":             {[]string{good, cmdline, "--bank", "sha384"}, 1, "bank sha384"},
		"bundle as A":                 {[]string{bundleOf(t, good), good}, 0, "Nothing differs."},
		"bundle as B":                 {[]string{baseFile, bundleOf(t, cmdline)}, 1, "audit=0 apparmor=0"},
		"baseline of another bank":    {[]string{baseFile, good, "--bank", "sha1"}, 2, "baseline is of bank sha256, not sha1"},
		"log without baseline's bank": {[]string{baseFile, sha1}, 2, "read"},
		"damaged baseline":            {[]string{sha512, good}, 2, "lower-case hex of the bank's size"},
		"misspelt baseline":           {[]string{misspelt, good}, 2, "unknown field"},
		"baseline as B":               {[]string{good, baseFile}, 2, "neither a boot event log nor an evidence bundle"},
		"log of another kind":         {[]string{good, cc}, 2, "confidential machine"},
		"IMA list":                    {[]string{good, ima}, 2, "IMA list"},
		"bundle without a log":        {[]string{good, keep(t, "b.json", `{"type":"tpm"}`)}, 2, "bundle has no event log"},
		"no file":                     {[]string{good, "does-not-exist"}, 2, "does-not-exist"},
		"unknown profile":             {[]string{good, good, "--profile", "lax"}, 2, `profile "lax" is none of`},
		"unknown bank":                {[]string{good, good, "--bank", "md5"}, 2, `bank "md5" is not known`},
		"one argument":                {[]string{good}, 2, "accepts 2 arg(s)"},
		"standard input twice":        {[]string{"-", "-"}, 2, "only one of the two"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := runEventlog(t, nil, append([]string{"diff"}, tc.args...)...)
			where := stdout
			if tc.status == 2 {
				where = stderr
			}
			if status != tc.status || !strings.Contains(where, tc.want) {
				t.Errorf("diff %s: status %d, want %d and %q; output:\n%s%s", tc.args, status, tc.status, tc.want, stdout, stderr)
			}
			if (stdout == "") != (tc.status == 2) {
				t.Errorf("status %d with %d bytes on standard output", status, len(stdout))
			}
		})
	}
}

func TestEventlogDiffJSON(t *testing.T) {
	good, err := os.ReadFile(recordedLog(t, "vmboot/good-shim-grub/eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := runEventlog(t, good, "diff", "-", recordedLog(t, "vmboot/bad-initrd/eventlog.bin"), "-o", "json")
	var got struct {
		Bank, Profile           string
		EarlyPassed, LatePassed bool
		Differences             []baseline.Difference
		EarlyBootReport         baseline.Report
		LateBootReport          baseline.Report
	}
	d := json.NewDecoder(strings.NewReader(stdout))
	if err := d.Decode(&got); err != nil || d.More() {
		t.Fatalf("output is not one JSON value: %v: %s%s", err, stdout, stderr)
	}
	if status != 1 || got.Bank != "sha256" || got.Profile != "default" || !got.EarlyPassed || got.LatePassed {
		t.Errorf("status %d, %+v", status, got)
	}
	if len(got.Differences) != 1 || got.Differences[0].PCR != 9 || got.Differences[0].Kind != "initrd" || !got.Differences[0].Judged || !got.Differences[0].Hint {
		t.Errorf("differences %+v, want the initrd in PCR 9", got.Differences)
	}
	if !got.EarlyBootReport.PolicyEvaluationPassed || got.LateBootReport.PolicyEvaluationPassed || len(got.LateBootReport.ActualMeasurements) != 4 {
		t.Errorf("reports %+v %+v", got.EarlyBootReport, got.LateBootReport)
	}
}

func TestEventlogBaselineKeepsTheShape(t *testing.T) {
	status, stdout, stderr := runEventlog(t, nil, recordedLog(t, "vmboot/good-uki/eventlog.bin"), "--baseline",
		"--machine", "web", "--firmware", "ovmf", "--vcpus", "2", "--memory", "1024", "--memory-type-information", "0a")
	b, err := baseline.Parse([]byte(stdout))
	if status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, stderr)
	}
	want := baseline.Shape{Machine: "web", Firmware: "ovmf", VCPUs: 2, MemoryMiB: 1024, MemoryTypeInformation: "0a"}
	if b.Shape() != want {
		t.Errorf("shape %+v, want %+v", b.Shape(), want)
	}
}

func TestNoBaselineOfALogThatLies(t *testing.T) {
	status, stdout, stderr := runEventlog(t, nil, recordedLog(t, "vmboot/derived/log-text-lies.bin"), "--baseline")
	if status != 1 || stdout != "" || !strings.Contains(stderr, "no baseline of an inconsistent log") {
		t.Errorf("status %d, output %q, error %q", status, stdout, stderr)
	}
}
