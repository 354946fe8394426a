package vtpmcli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/place"
)

// keptIn makes a TPM in a folder, has it go on once, and returns its file before and
// after that.
func keptIn(t *testing.T, vars variables, dir string) (before, after []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, swtpmPermanent)
	startSWTPM(t, vars, dir, "--flags", "not-need-init").stop()
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	startSWTPM(t, vars, dir, "--flags", "not-need-init,startup-clear").stop()
	if after, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	return before, after
}

// What a drop-in finds in the place of its TPM is named, in the log and to whoever
// started it; it is served once it was accepted, and only then.
func TestSWTPMSeesWhatIsPutInThePlaceOfItsTPM(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(t *testing.T, vars variables, dir string, before []byte) (now string)
		want     string
		accepted bool // can be
	}{
		"an older copy": {func(t *testing.T, _ variables, dir string, before []byte) string {
			write(t, filepath.Join(dir, swtpmPermanent), before)
			return dir
		}, "older than what this TPM has told before", true},
		"another TPM's file": {func(t *testing.T, vars variables, dir string, _ []byte) string {
			_, theirs := keptIn(t, vars, dir+"-other")
			write(t, filepath.Join(dir, swtpmPermanent), theirs)
			return dir
		}, "of another TPM", true},
		"a copy of the folder": {func(t *testing.T, _ variables, dir string, _ []byte) string {
			if err := os.CopyFS(dir+"-copy", os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			return dir + "-copy"
		}, "the state belongs to another place", true},
		"a ledger that is lost": {func(t *testing.T, vars variables, dir string, _ []byte) string {
			if err := os.RemoveAll(filepath.Join(vars["ASSAY_VTPM_ROOT"], ledgerDir)); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "the ledger that knew this TPM does not know it any more", true},
		"a ledger that is torn": {func(t *testing.T, vars variables, dir string, _ []byte) string {
			names, err := filepath.Glob(filepath.Join(vars["ASSAY_VTPM_ROOT"], ledgerDir, "*-*"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			write(t, names[0], []byte("ASSAYLED"))
			return dir
		}, "entry of the ledger is damaged", true},
		"a ledger that cannot be used": {func(t *testing.T, vars variables, dir string, before []byte) string {
			vars[ledgerEnv] = filepath.Join(dir, swtpmPermanent, "x")
			return dir
		}, "the ledger that the state is to be proved by cannot be used", false},
		"a state of swtpm's": {func(t *testing.T, _ variables, dir string, _ []byte) string {
			write(t, filepath.Join(dir, swtpmPermanent), []byte("\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x13 and more"))
			return dir
		}, "it is not taken over unasked", false},
	} {
		t.Run(name, func(t *testing.T) {
			vars, dir := keyFileEnv(t), filepath.Join(t.TempDir(), "tpm")
			before, _ := keptIn(t, vars, dir)
			dir = tc.change(t, vars, dir, before)
			start := []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", "type=unixio,path=" + filepath.Join(shortDir(t), "d"), "--flags", "not-need-init"}
			status, _, errs := dropInOutput(vars, "swtpm", start...)
			if status != 1 || !strings.Contains(errs, tc.want) {
				t.Fatalf("status %d, %q, want 1 and %q", status, errs, tc.want)
			}
			if !tc.accepted {
				return
			}
			if !strings.Contains(errs, "assay vtpm ledger accept") {
				t.Errorf("%q, and no way to go on", errs)
			}
			status, _, errs = assayOutput(vars, "vtpm", "ledger", "accept", dir)
			if status != program.StatusRefused || !strings.Contains(errs, tc.want) || !strings.Contains(errs, "--yes accepts it") {
				t.Errorf("accept without --yes: status %d, %q", status, errs)
			}
			status, out, errs := assayOutput(vars, "vtpm", "ledger", "accept", dir, "--yes", "-o", "json")
			var a place.Acceptance
			if err := json.Unmarshal([]byte(out), &a); status != program.StatusOK || err != nil || !strings.Contains(a.Was, tc.want) || a.TPM.IsZero() {
				t.Fatalf("accept: status %d, %q, %q", status, out, errs)
			}
			startSWTPM(t, vars, dir, "--flags", "not-need-init").stop()
			if status, _, errs := assayOutput(vars, "vtpm", "ledger", "accept", dir, "--yes"); status != program.StatusRefused || !strings.Contains(errs, "nothing is wrong") {
				t.Errorf("accept of what is sound: status %d, %q", status, errs)
			}
		})
	}
}

// assayOutput runs a command of assay itself.
func assayOutput(vars variables, args ...string) (status int, out, errs string) {
	return dropInOutput(vars, "assay", args...)
}

func TestSWTPMSaysThatItHasNoLedger(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	k := startSWTPM(t, vars, dir, "--flags", "not-need-init", "--ledger", "none")
	if !strings.Contains(k.errs.String(), "level=WARN msg=\"the TPM is unproved") {
		t.Errorf("the log says %q", k.errs)
	}
	k.stop()
	for name, more := range map[string][]string{"of the command line": {"--ledger", "none", "--require-ledger"}, "of the configuration": nil} {
		if more == nil {
			vars["XDG_CONFIG_HOME"] = t.TempDir()
			if err := os.Mkdir(filepath.Join(vars["XDG_CONFIG_HOME"], "assay"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(vars["XDG_CONFIG_HOME"], "assay", "dropin.json"), []byte(`{"keyProvider": "x:y", "ledger": "none", "requireLedger": true}`))
		}
		args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", "type=unixio,path=" + filepath.Join(shortDir(t), "d"), "--flags", "not-need-init"}, more...)
		if status, _, errs := dropInOutput(vars, "swtpm", args...); status != 1 || !strings.Contains(errs, "cannot be used: a ledger is declined") {
			t.Errorf("%s: status %d, %q", name, status, errs)
		}
		setup := append([]string{"--tpm2", "--tpm-state", t.TempDir()}, more...)
		if status, _, errs := dropInOutput(vars, "swtpm_setup", setup...); status != 1 || !strings.Contains(errs, "cannot be used: a ledger is declined") {
			t.Errorf("%s: swtpm_setup: status %d, %q", name, status, errs)
		}
	}
}

// State that did not come after all does not give power to what it was to replace.
func TestWhatStateThatDidNotComeWasToReplaceIsJudged(t *testing.T) {
	vars, dir, came := keyFileEnv(t), t.TempDir(), filepath.Join(t.TempDir(), "p")
	k := startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init")
	k.ioctl("--save", "permanent", came)
	k.stop()
	before, _ := keptIn(t, vars, dir)
	write(t, filepath.Join(dir, swtpmPermanent), before)
	k = startSWTPM(t, vars, dir, "--migration", "incoming")
	k.ioctl("--load", "permanent", came)
	k.ioctl("--stop") // and it is forgotten
	for range 2 {
		if status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "-i"); status != 1 || !strings.Contains(k.errs.String(), "older than what this TPM has told before") {
			t.Errorf("INIT: status %d, %s, %s", status, errs, k.errs)
		}
	}
	k.ioctl("--load", "permanent", came)
	k.ioctl("-i")
	startedTPM(t, "unix", k.data)
	k.stop()
	k = startSWTPM(t, vars, dir, "--flags", "not-need-init")
	k.stop()
}

func TestAcceptIsForTheOwnerAndItsKeys(t *testing.T) {
	vars, dir := keyFileEnv(t), filepath.Join(t.TempDir(), "tpm")
	before, _ := keptIn(t, vars, dir)
	file := filepath.Join(dir, swtpmPermanent)
	write(t, file, before)
	for name, tc := range map[string]struct {
		vars variables
		args []string
		want string
	}{
		"no state":         {vars, []string{t.TempDir()}, "holds 0 states"},
		"no folder":        {vars, []string{dir + "x"}, "no such file"},
		"no key provider":  {variables{ledgerEnv: t.TempDir()}, []string{dir}, "no key provider"},
		"another provider": {keyFileOther(t), []string{dir, "--yes"}, "key"},
		"no ledger":        {variables{keyProviderEnv: vars[keyProviderEnv], ledgerEnv: filepath.Join(file, "x")}, []string{dir, "--yes"}, "cannot be used"},
		"two providers":    {vars, []string{dir, "--key", "file=x", "--key-provider", "y"}, "none of the others can be"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, errs := assayOutput(tc.vars, append([]string{"vtpm", "ledger", "accept"}, tc.args...)...)
			if status == program.StatusOK || !strings.Contains(errs, tc.want) {
				t.Errorf("status %d, %q, want %q", status, errs, tc.want)
			}
		})
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if status, _, errs := assayOutput(vars, "vtpm", "ledger", "accept", dir, "--yes"); status == program.StatusOK || !strings.Contains(errs, "run this as that user") {
			t.Errorf("another user's: status %d, %q", status, errs)
		}
	}
}
