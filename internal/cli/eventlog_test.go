package cli

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
)

// recordedLog unpacks one log of package eventlog's samples into a file.
func recordedLog(t testing.TB, name string) string {
	t.Helper()
	return unpacked(t, "../../eventlog/testdata/logs.zip", name)
}

// unpacked copies one file of an archive to a folder of the test.
func unpacked(t testing.TB, archive, name string) string {
	t.Helper()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := z.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "log.bin")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// runEventlog runs the command and returns its status and output.
func runEventlog(t testing.TB, stdin []byte, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	env := &program.Env{Stdin: bytes.NewReader(stdin), Stdout: &out, Stderr: &errOut, Getenv: func(string) string { return "" }}
	status = Main(env, append([]string{"eventlog"}, args...))
	return status, out.String(), errOut.String()
}

func TestEventlogExitStatus(t *testing.T) {
	for name, want := range map[string]int{
		"vmboot/good-shim-grub/eventlog.bin":                     0,
		"vmboot/derived/log-zero-padding.bin":                    0,
		"eventlogs/bios/win-latitude-vbs-hvci.bin":               0,
		"eventlogs/bios/linux-bios-27.bin":                       0,
		"eventlogs/adversarial/adv-unknown-type-pcr15.bin":       0,
		"eventlogs/ccel/ccel-gdc-tdx.bin":                        0,
		"vmboot/derived/log-text-lies.bin":                       1,
		"vmboot/derived/log-db-hidden.bin":                       1,
		"eventlogs/adversarial/adv-sbvar-data-swapped.bin":       1,
		"eventlogs/adversarial/adv-pcr4-separator-disguised.bin": 1,
		"eventlogs/adversarial/adv-sha1-disagrees.bin":           1,
		"vmboot/derived/log-truncated.bin":                       2,
		"eventlogs/adversarial/adv-digestcount-max.bin":          2,
		"eventlogs/bios/keylime-bbm-bogus.bin":                   2,
		"eventlogs/MANIFEST.json":                                2,
	} {
		file := recordedLog(t, name)
		for _, format := range []string{"table", "json"} {
			status, stdout, stderr := runEventlog(t, nil, file, "-o", format)
			if status != want {
				t.Errorf("%s -o %s: status %d, want %d: %s", name, format, status, want, stderr)
			}
			if (stdout == "") != (want == 2 && format == "table") || (stderr == "") != (want != 2) {
				t.Errorf("%s -o %s: %d bytes of output, stderr %q", name, format, len(stdout), stderr)
			}
		}
	}
}

func TestEventlogJSONHasTheMembersOfTheContract(t *testing.T) {
	status, stdout, stderr := runEventlog(t, nil, recordedLog(t, "vmboot/good-shim-grub/eventlog.bin"), "-o", "json")
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var got struct {
		Format string
		Banks  []string
		Events []struct {
			Index       int
			PCR         int
			Type        string
			Digests     map[string]string
			Proven      bool
			Description string
		}
		PCRs     map[string]map[string]string
		Claims   map[string]struct{ Value any }
		Findings []struct{ Code string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Format != "tcg2" || strings.Join(got.Banks, " ") != "sha1 sha256 sha384" || len(got.Events) != 50 || got.Findings == nil {
		t.Errorf("format %q, banks %v, %d events, findings %v", got.Format, got.Banks, len(got.Events), got.Findings)
	}
	if e := got.Events[42]; e.Index != 42 || e.PCR != 8 || e.Type != "EV_IPL" || !e.Proven || len(e.Digests) != 3 ||
		e.Description != "kernel command line: /vmlinuz console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1" {
		t.Errorf("event 42 is %+v", e)
	}
	if e := got.Events[41]; e.Proven || e.Description != "kernel" {
		t.Errorf("event 41 is %+v", e)
	}
	if v := got.PCRs["sha256"]["9"]; v != "ffb24f913b34421da17a9c57e7a09c90126251f6e9e0ba2c46e924c334e8bf60" {
		t.Errorf("PCR 9 = %s", v)
	}
	if got.Claims["secureBoot"].Value != true || got.Claims["setupMode"].Value != nil {
		t.Errorf("secureBoot %v, setupMode %v", got.Claims["secureBoot"].Value, got.Claims["setupMode"].Value)
	}
}

func TestEventlogTakesBankAndStandardInput(t *testing.T) {
	data, err := os.ReadFile(recordedLog(t, "vmboot/good-uki/eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for bank, want := range map[string]int{"": 0, "sha256": 0, "sha384": 0, "sha1": 0, "sha512": 2, "md5": 2} {
		status, stdout, stderr := runEventlog(t, data, "-", "--bank", bank)
		if status != want {
			t.Errorf("--bank %q: status %d, want %d: %s", bank, status, want, stderr)
		}
		if want == 0 && bank != "" && !strings.Contains(stdout, "judged by "+bank) {
			t.Errorf("--bank %q: %.80s", bank, stdout)
		}
	}
}

func TestEventlogTableMarksHints(t *testing.T) {
	_, stdout, _ := runEventlog(t, nil, recordedLog(t, "vmboot/good-shim-grub/eventlog.bin"))
	for _, want := range []string{
		"hint        EFI_BOOT_SERVICES_APPLICATION  boot loader (EFI/BOOT/BOOTX64.EFI)",
		"proven      EFI_VARIABLE_DRIVER_CONFIG     SecureBoot: 01",
		"unmeasured  NO_ACTION",
		"by PCR 4, 8",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in the table", want)
		}
	}
}

func TestEventlogReadsIMALists(t *testing.T) {
	for name, want := range map[string]string{
		"vmboot/good-uki/ima.bin":       "boot_aggregate",
		"ima/imaascii-rust-keylime.txt": "boot_aggregate",
		"ima/ima-ibmtss-sha256.bin":     "boot_aggregate",
	} {
		file := unpacked(t, "../../eventlog/ima/testdata/lists.zip", name)
		status, stdout, stderr := runEventlog(t, nil, file, "-o", "json")
		if status != 0 || !strings.Contains(stdout, `"format": "ima"`) || !strings.Contains(stdout, want) {
			t.Errorf("%s: status %d, %.200s, %s", name, status, stdout, stderr)
		}
		if status, stdout, _ := runEventlog(t, nil, file); status != 0 || !strings.Contains(stdout, "runtime measurement list") {
			t.Errorf("%s: status %d, %.200s", name, status, stdout)
		}
	}
}
