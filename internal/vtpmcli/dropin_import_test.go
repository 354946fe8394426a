package vtpmcli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// swtpmFolder is a state folder as swtpm left it.
func swtpmFolder(t *testing.T, name string) (dir string, text []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../vtpm/libtpms/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	writeIn(t, dir, swtpmPermanent, text)
	return dir, text
}

func writeIn(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hasStorageKey holds that the key which swtpm made persistent is there.
func hasStorageKey(t *testing.T, k *keptSWTPM) {
	t.Helper()
	tpm := startedTPM(t, "unix", k.data)
	out := new(command.ReadPublicOut)
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCReadPublic, Handles: []client.Entity{{Handle: 0x81000001}}, Out: out}); err != nil {
		t.Errorf("the storage key is not there: %v\n%s", err, k.errs)
	}
}

func TestATPMOfSWTPMGoesOnInItsPlace(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("000102030405060708090a0b0c0d0e0f"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		file string
		args []string
	}{
		"in the clear":        {"v4.permall", nil},
		"under a passphrase":  {"pwd256.permall", []string{"--key", "pwdfile=" + password + ",mode=aes-256-cbc"}},
		"under a key":         {"key128.permall", []string{"--key", "file=" + key + ",format=hex,mode=aes-cbc"}},
		"shut down to resume": {"suspended.permall", nil},
	} {
		t.Run(name, func(t *testing.T) {
			vars := keyFileEnv(t)
			dir, text := swtpmFolder(t, tc.file)
			for range 2 { // the second time from the file that is here then
				k := startSWTPM(t, vars, dir, tc.args...)
				k.ioctl("-i")
				hasStorageKey(t, k)
				k.stop()
			}
			kept, err := os.ReadFile(filepath.Join(dir, swtpmPermanent+takenOver))
			if err != nil || !bytes.Equal(kept, text) {
				t.Errorf("what swtpm wrote is not kept: %v", err)
			}
			if _, err := os.Lstat(filepath.Join(dir, swtpmPermanent+takingOver)); err == nil {
				t.Error("the name of a file that is being taken over stays")
			}
		})
	}
}

// A process ended before the new file was there, and one before its last step.
func TestATakingOverThatEndedGoesOn(t *testing.T) {
	t.Parallel()
	vars := keyFileEnv(t)
	dir, text := swtpmFolder(t, "v4.permall")
	if err := os.Rename(filepath.Join(dir, swtpmPermanent), filepath.Join(dir, swtpmPermanent+takingOver)); err != nil {
		t.Fatal(err)
	}
	k := startSWTPM(t, vars, dir)
	k.ioctl("-i")
	hasStorageKey(t, k)
	k.stop()
	if err := os.Rename(filepath.Join(dir, swtpmPermanent+takenOver), filepath.Join(dir, swtpmPermanent+takingOver)); err != nil {
		t.Fatal(err)
	}
	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	hasStorageKey(t, k)
	k.stop()
	if kept, err := os.ReadFile(filepath.Join(dir, swtpmPermanent+takenOver)); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("what swtpm wrote is not kept: %v", err)
	}
}

func TestATPMOfSWTPMStaysWhereItCannotGoOn(t *testing.T) {
	t.Parallel()
	header := []byte{2, 1, 0, 10} // as swtpm's files begin
	for name, tc := range map[string]struct {
		file string
		args []string
		more string // a file beside
		want string
	}{
		"without its key":         {"pwd256.permall", nil, "", "give --key"},
		"with a profile":          {"v4.permall", []string{"--profile", "name=default"}, "", "has its profile already"},
		"of a machine that runs":  {"v4.permall", nil, swtpmVolatile, "shut it down"},
		"beside another of swtpm": {"v4.permall", nil, swtpmPermanent + takingOver, "both of swtpm"},
		"beside an older one":     {"v4.permall", nil, swtpmPermanent + takenOver, "not written over"},
	} {
		t.Run(name, func(t *testing.T) {
			vars := keyFileEnv(t)
			dir, text := swtpmFolder(t, tc.file)
			if tc.more != "" {
				writeIn(t, dir, tc.more, header)
			}
			before := filesOf(t, dir)
			status, _, errs := dropInOutput(vars, "swtpm", append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir + ",lock=false", "--server", "type=unixio,path=" + shortDir(t) + "/d", "--flags", "not-need-init"}, tc.args...)...)
			if status == program.StatusOK || !strings.Contains(errs, tc.want) {
				t.Errorf("status %d, want %q: %s", status, tc.want, errs)
			}
			now, err := os.ReadFile(filepath.Join(dir, swtpmPermanent))
			if err != nil || !bytes.Equal(now, text) || filesOf(t, dir) != before {
				t.Errorf("files are not as they were: %v, %v", filesOf(t, dir), err)
			}
		})
	}
}

func TestAQuestionAboutATPMTakesNothingOver(t *testing.T) {
	t.Parallel()
	vars := keyFileEnv(t)
	dir, _ := swtpmFolder(t, "v4.permall")
	before := filesOf(t, dir)
	if status, _, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--print-info", "1"); status == program.StatusOK || !strings.Contains(errs, "swtpm made it") {
		t.Errorf("--print-info: status %d, %s", status, errs)
	}
	if filesOf(t, dir) != before {
		t.Error("files are not as they were")
	}
}

// A TPM that is on its way here from swtpm is not buried under a new one.
func TestSetupMakesNothingOverATPMThatIsTakenOver(t *testing.T) {
	t.Parallel()
	vars := keyFileEnv(t)
	dir, text := swtpmFolder(t, "v4.permall")
	from, on := filepath.Join(dir, swtpmPermanent), filepath.Join(dir, swtpmPermanent+takingOver)
	if err := os.Rename(from, on); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--not-overwrite"}, {"--overwrite"}, nil} {
		status, said := setUp(vars, append([]string{"--tpm2", "--tpm-state", "dir://" + dir}, args...)...)
		if status == program.StatusOK || !strings.Contains(said, "being taken over") {
			t.Errorf("%v: status %d, %s", args, status, said)
		}
	}
	if kept, err := os.ReadFile(on); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("what swtpm wrote is not there: %v", err)
	}
	if _, err := os.Lstat(from); err == nil {
		t.Error("a new TPM was made")
	}
}

// A take-over that cannot be finished leaves swtpm's file under swtpm's name.
func TestATakingOverThatFailsGivesTheFileItsNameBack(t *testing.T) {
	t.Parallel()
	vars := keyFileEnv(t)
	dir, text := swtpmFolder(t, "v4.permall")
	vars["ASSAY_LEDGER"] = filepath.Join(dir, swtpmPermanent) // no folder
	status, said := setUp(vars, "--tpm2", "--tpm-state", "dir://"+dir, "--reconfigure", "--pcr-banks", "sha256", "--require-ledger")
	if status == program.StatusOK {
		t.Fatalf("status %d, %s", status, said)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, swtpmPermanent)); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("swtpm's file is not there: %v; %s", err, said)
	}
}
