package vtpmcli

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/tpm2/client"
)

// A keptSWTPM is a running drop-in over a folder.
type keptSWTPM struct {
	t             *testing.T
	vars          variables
	data, control string
	done          <-chan int
	errs          *programtest.Buffer
}

// startSWTPM runs a drop-in that waits for CMD_INIT.
func startSWTPM(t *testing.T, vars variables, dir string, more ...string) *keptSWTPM {
	t.Helper()
	run := shortDir(t)
	k := &keptSWTPM{t: t, vars: vars, data: filepath.Join(run, "d"), control: filepath.Join(run, "c")}
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--server", "type=unixio,path=" + k.data, "--ctrl", "type=unixio,path=" + k.control}, more...)
	k.done, k.errs = runDropIn(t, vars, "swtpm", args...)
	return k
}

// ioctl is a call of swtpm_ioctl that succeeds.
func (k *keptSWTPM) ioctl(args ...string) string {
	k.t.Helper()
	status, out, errs := dropInOutput(nil, "swtpm_ioctl", append([]string{"--unix", k.control}, args...)...)
	if status != program.StatusOK {
		k.t.Fatalf("swtpm_ioctl %v: status %d, %s\n%s", args, status, errs, k.errs)
	}
	return out
}

// stop ends the drop-in in good order.
func (k *keptSWTPM) stop() {
	k.t.Helper()
	k.ioctl("-s")
	if status := <-k.done; status != program.StatusOK {
		k.t.Fatalf("status %d, %s", status, k.errs)
	}
}

func TestSWTPMKeepsItsTPM(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	k := startSWTPM(t, vars, dir)
	if _, err := os.Lstat(filepath.Join(dir, swtpmPermanent)); err == nil {
		t.Error("a TPM was made before CMD_INIT")
	}
	k.ioctl("-i")
	name := primaryName(t, startedTPM(t, "unix", k.data), "")
	k.stop()

	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	if got := primaryName(t, startedTPM(t, "unix", k.data), ""); !bytes.Equal(got, name) {
		t.Errorf("primary key %x, want %x as before", got, name)
	}
	// Another process keeps away, as swtpm itself would by the same lock.
	status, _, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+k.data+"2", "--flags", "not-need-init")
	if status != 1 || !strings.Contains(errs, "in use") && !strings.Contains(errs, "locked") {
		t.Errorf("second process: status %d, %s", status, errs)
	}
	k.stop()
	text, err := os.ReadFile(filepath.Join(dir, swtpmPermanent))
	if err != nil || bytes.Contains(text, name[2:]) {
		t.Errorf("state is not there, or shows what it holds: %v", err)
	}
}

func TestSWTPMGoesOnWithStoredVolatileState(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	file := filepath.Join(dir, swtpmVolatile)
	k := startSWTPM(t, vars, dir)
	k.ioctl("-i")
	startedTPM(t, "unix", k.data)
	k.ioctl("-h", "1234")
	want := pcr17(t, k.data)
	k.ioctl("-v")
	k.stop()
	if _, err := os.Lstat(file); err != nil {
		t.Fatal(err)
	}
	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	if got := pcr17(t, k.data); !bytes.Equal(got, want) {
		t.Errorf("PCR 17 = %x, want %x", got, want)
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("volatile state is still there after it was used")
	}
	k.stop()
}

// pcr17 reads a register over a new connection.
func pcr17(t *testing.T, data string) []byte {
	t.Helper()
	b := exchange(t, data, "\x80\x01\x00\x00\x00\x14\x00\x00\x01\x7e\x00\x00\x00\x01\x00\x0b\x03\x00\x00\x02")
	if len(b) != 62 {
		t.Fatalf("PCR_Read: %x", b)
	}
	return b[30:]
}

// exchange sends a command over a new connection.
func exchange(t *testing.T, data, command string) []byte {
	t.Helper()
	c, err := net.Dial("unix", data)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := client.NewStream(c).Send([]byte(command))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSWTPMNeverServesAnotherTPMThanTheOneThatIsKept(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	k := startSWTPM(t, vars, dir, "--flags", "not-need-init")
	k.stop()
	phrase := filepath.Join(t.TempDir(), "phrase")
	if err := os.WriteFile(phrase, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs := t.TempDir()
	if err := os.WriteFile(filepath.Join(theirs, swtpmPermanent), []byte("\x02\x01\x00\x0a\x00\x00\x00\x00\x00\x0a and more"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, swtpmPermanent), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		vars variables
		dir  string
		more []string
		want string
	}{
		"ephemeral keys":   {ephemeral(), dir, nil, "holds a TPM"},
		"no key provider":  {nil, dir, nil, "no key provider"},
		"another key":      {keyFileOther(t), dir, nil, "key"},
		"a passphrase":     {vars, dir, []string{"--key", "pwdfile=" + phrase}, "key"},
		"another profile":  {vars, dir, []string{"--profile", "name=fips"}, "profile already"},
		"swtpm's, damaged": {vars, theirs, nil, "nothing was changed"},
		"damaged":          {vars, damaged, nil, swtpmPermanent},
		"no place":         {vars, "", nil, "--tpmstate is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"socket", "--tpm2", "--server", "type=unixio,path=" + filepath.Join(shortDir(t), "d"), "--flags", "not-need-init"}
			if tc.dir != "" {
				args = append(args, "--tpmstate", "dir="+tc.dir)
			}
			before := filesOf(t, tc.dir)
			status, _, errs := dropInOutput(tc.vars, "swtpm", append(args, tc.more...)...)
			if status != 1 || !strings.Contains(errs, tc.want) {
				t.Errorf("status %d, %q, want 1 and %q", status, errs, tc.want)
			}
			if after := filesOf(t, tc.dir); before != after {
				t.Errorf("the state changed from %.100q to %.100q", before, after)
			}
		})
	}
}

func keyFileOther(t *testing.T) variables {
	t.Helper()
	vars := keyFileEnv(t)
	name := strings.TrimPrefix(vars[keyProviderEnv], "local:")
	if err := os.WriteFile(name, []byte("assay-keys 1\nother AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return vars
}

// filesOf is the content of the state in a folder.
func filesOf(t *testing.T, dir string) string {
	t.Helper()
	if dir == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, swtpmPermanent))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeysOfSWTPMsCommandLineAreALocalProvider(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	hex128, hex256 := strings.Repeat("0f", 16), strings.Repeat("a1", 32)
	for name, tc := range map[string]struct{ first, second, want string }{
		"hexadecimal":           {"file=" + file("a", "0x"+hex128+"\n"), "file=" + file("b", hex128), ""},
		"binary of 256 bits":    {"file=" + file("c", strings.Repeat("k", 32)) + ",format=binary,mode=aes-256-cbc", "file=" + file("d", strings.Repeat("6b", 32)) + ",mode=aes-256-cbc", ""},
		"passphrase":            {"pwdfile=" + file("e", "secret\n"), "pwdfile=" + file("f", "secret") + ",kdf=sha512", ""},
		"another key":           {"file=" + file("g", hex128), "file=" + file("h", strings.Repeat("0e", 16)), "does not hold"},
		"another passphrase":    {"pwdfile=" + file("i", "secret"), "pwdfile=" + file("j", "Secret"), "passphrase is wrong"},
		"key for a passphrase":  {"pwdfile=" + file("k", "secret"), "file=" + file("l", hex128), "not held"},
		"passphrase for a key":  {"file=" + file("m", hex128), "pwdfile=" + file("n", "secret"), "not held"},
		"key of another length": {"file=" + file("o", hex128), "file=" + file("p", hex256), "32 bytes"},
		"no key":                {"file=" + file("q", hex128), "file=" + file("r", "xyz"), "hexadecimal"},
		"no passphrase":         {"file=" + file("s", hex128), "pwdfile=" + file("t", "\n"), "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			state, vars := t.TempDir(), variables{ledgerEnv: t.TempDir()}
			startSWTPM(t, vars, state, "--flags", "not-need-init", "--key", tc.first).stop()
			if tc.want == "" {
				startSWTPM(t, vars, state, "--flags", "not-need-init", "--key", tc.second).stop()
				return
			}
			status, _, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+filepath.Join(shortDir(t), "d"), "--flags", "not-need-init", "--key", tc.second)
			if status != 1 || !strings.Contains(errs, tc.want) || strings.Contains(errs, "ecret\"") {
				t.Errorf("status %d, %q, want 1 and %q", status, errs, tc.want)
			}
		})
	}
}

func TestAKeyFileIsRemovedWhenAskedTo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, bytes.Repeat([]byte("ab"), 16), 0o600); err != nil {
		t.Fatal(err)
	}
	startSWTPM(t, variables{ledgerEnv: t.TempDir()}, t.TempDir(), "--flags", "not-need-init", "--key", "file="+name+",remove=true").stop()
	if _, err := os.Lstat(name); err == nil {
		t.Error("the key file is still there")
	}
}

func TestTheConfigurationFileNamesTheKeyProvider(t *testing.T) {
	vars, home := keyFileEnv(t), t.TempDir()
	spec := vars[keyProviderEnv]
	delete(vars, keyProviderEnv)
	vars["XDG_CONFIG_HOME"] = home
	if err := os.Mkdir(filepath.Join(home, "assay"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(home, "assay", "dropin.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"keyProvider": "` + spec + `"}`)
	startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init").stop()
	for text, want := range map[string]string{`{}`: "keyProvider is missing", `{"provider": "x"}`: "not known", `[]`: "object", `{"keyProvider": "x", "root": "ca"}`: "absolute path"} {
		write(text)
		if status, _, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "-p", "1", "--tpmstate", "dir="+t.TempDir()); status != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: status %d, %q, want %q", text, status, errs, want)
		}
	}
}

// libvirtd of the system sets no HOME for the user that it has swtpm_setup run as.
func TestTheConfigurationFileNamesTheFolderOfTheAuthority(t *testing.T) {
	home := t.TempDir()
	vars := map[string]string{"XDG_CONFIG_HOME": home}
	if err := os.Mkdir(filepath.Join(home, "assay"), 0o700); err != nil {
		t.Fatal(err)
	}
	env := &program.Env{Getenv: func(name string) string { return vars[name] }}
	if _, err := dropInRoot(env); os.Geteuid() != 0 && (err == nil || !strings.Contains(err.Error(), "\"root\" in dropin.json")) {
		t.Errorf("without HOME: %v", err)
	}
	if err := os.WriteFile(filepath.Join(home, "assay", "dropin.json"), []byte(`{"keyProvider": "x", "root": "/srv/ca"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if dir, err := dropInRoot(env); err != nil || dir != "/srv/ca" {
		t.Errorf("dropInRoot = %q, %v", dir, err)
	}
	vars["ASSAY_VTPM_ROOT"] = "/srv/other"
	if dir, err := dropInRoot(env); err != nil || dir != "/srv/other" {
		t.Errorf("with ASSAY_VTPM_ROOT: %q, %v", dir, err)
	}
}

func TestSWTPMTellsItsStates(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	show := func() string {
		t.Helper()
		status, out, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--print-states")
		if status != program.StatusOK {
			t.Fatalf("status %d, %s", status, errs)
		}
		return out
	}
	if got, want := show(), "{ \"type\": \"swtpm\", \"states\": [] }\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	k := startSWTPM(t, vars, dir, "--flags", "not-need-init", "--profile", "name=fips")
	k.ioctl("-v")
	if got := show(); !strings.Contains(got, `"permall"`) || !strings.Contains(got, `"volatile"`) {
		t.Errorf("%q", got)
	}
	if got := k.ioctl("--info", "0x20"); !strings.Contains(got, `"fips"`) {
		t.Errorf("--info of a running TPM: %s", got)
	}
	k.stop()
	status, out, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--print-info", "0x20")
	if status != program.StatusOK || !strings.Contains(out, `"fips"`) {
		t.Errorf("--print-info of a kept TPM: status %d, %s, %s", status, out, errs)
	}
}

func TestSWTPMSeesThatItsStateWasExchangedWhileThePowerWasOff(t *testing.T) {
	vars, dir, other := keyFileEnv(t), t.TempDir(), t.TempDir()
	k := startSWTPM(t, vars, other, "--flags", "not-need-init")
	k.stop()
	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	ours := primaryName(t, startedTPM(t, "unix", k.data), "")
	k.ioctl("--save", "permanent", filepath.Join(dir, "blob"))
	k.ioctl("--stop")
	file := filepath.Join(dir, swtpmPermanent)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	// Gone: no new TPM in its place.
	if status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "-i"); status != 1 || !strings.Contains(k.errs.String(), "went away") {
		t.Errorf("INIT without a file: status %d, %s, %s", status, errs, k.errs)
	}
	// Another's: it is not the TPM of this place.
	if err := os.Rename(filepath.Join(other, swtpmPermanent), file); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "-i"); status != 1 || !strings.Contains(k.errs.String(), "of another TPM") {
		t.Errorf("INIT with another TPM's file: status %d, %s, %s", status, errs, k.errs)
	}
	// Gone, and state comes from elsewhere, as at a migration's end.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	k.ioctl("--load", "permanent", filepath.Join(dir, "blob"))
	k.ioctl("-i")
	if got := primaryName(t, startedTPM(t, "unix", k.data), ""); !bytes.Equal(got, ours) {
		t.Errorf("primary key %x, want %x of the state that came", got, ours)
	}
	k.stop()
	if _, err := os.Lstat(file); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsRemovedUnderARunningTPMIsWrittenAnew(t *testing.T) {
	vars, dir, other := keyFileEnv(t), t.TempDir(), t.TempDir()
	startSWTPM(t, vars, other, "--flags", "not-need-init").stop()
	file := filepath.Join(dir, swtpmPermanent)
	for name, tc := range map[string]struct {
		do   func() error
		lost bool // and the TPM fails
	}{
		"removed":  {func() error { return os.Remove(file) }, false},
		"replaced": {func() error { return os.Rename(filepath.Join(other, swtpmPermanent), file) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := startSWTPM(t, vars, dir, "--flags", "not-need-init")
			defer os.Remove(file)
			before := primaryName(t, startedTPM(t, "unix", k.data), "")
			if err := tc.do(); err != nil {
				t.Fatal(err)
			}
			dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "-s") // which saves
			if status := <-k.done; (status != program.StatusOK) != tc.lost {
				t.Fatalf("status %d, %s", status, k.errs)
			}
			if tc.lost {
				return
			}
			k = startSWTPM(t, vars, dir, "--flags", "not-need-init")
			if got := primaryName(t, startedTPM(t, "unix", k.data), ""); !bytes.Equal(got, before) {
				t.Errorf("primary key %x, want %x as before", got, before)
			}
			k.stop()
		})
	}
}

func TestStateInTransitIsSealed(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	k := startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init")
	primaryName(t, startedTPM(t, "unix", k.data), "")
	permanent, volatile := filepath.Join(dir, "p"), filepath.Join(dir, "v")
	k.ioctl("--save", "permanent", permanent)
	k.ioctl("--save", "volatile", volatile)
	k.stop()
	for name, tc := range map[string]struct {
		vars variables
		want bool
	}{
		"the same provider": {vars, true},
		"another provider":  {keyFileOther(t), false},
	} {
		t.Run(name, func(t *testing.T) {
			k := startSWTPM(t, tc.vars, t.TempDir(), "--migration", "incoming")
			for _, blob := range [][2]string{{"permanent", permanent}, {"volatile", volatile}} {
				status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "--load", blob[0], blob[1])
				if (status == program.StatusOK) != tc.want {
					t.Errorf("--load %s: status %d, %s, want success %v", blob[0], status, errs, tc.want)
				}
			}
			k.ioctl("-i")
			k.stop()
		})
	}
	k = startSWTPM(t, vars, t.TempDir())
	if status, _, _ := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "--load", "permanent", volatile); status == program.StatusOK {
		t.Error("volatile state was taken for permanent state")
	}
	k.stop()
}

// State that came and was forgotten leaves its profile in no record.
func TestStateThatDidNotArriveHasNoRecord(t *testing.T) {
	vars, dir, permanent := keyFileEnv(t), t.TempDir(), filepath.Join(t.TempDir(), "p")
	k := startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init", "--profile", "name=fips")
	k.ioctl("--save", "permanent", permanent)
	k.stop()
	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	k.ioctl("--stop")
	k.ioctl("--load", "permanent", permanent)
	k.ioctl("--stop") // the machine goes off without a start
	k.ioctl("-i")
	startedTPM(t, "unix", k.data)
	k.stop()
	status, out, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--print-info", "0x20")
	if status != program.StatusOK || strings.Contains(out, `"fips"`) {
		t.Errorf("status %d, %s, %s", status, out, errs)
	}
}

// A TPM whose state did not come leaves the place empty.
func TestATPMThatStandsInIsKeptNowhere(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	var states [2][2]string
	for i := range states {
		k := startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init")
		primaryName(t, startedTPM(t, "unix", k.data), "")
		for j, kind := range []string{"permanent", "volatile"} {
			states[i][j] = filepath.Join(t.TempDir(), kind)
			k.ioctl("--save", kind, states[i][j])
		}
		k.stop()
	}
	k := startSWTPM(t, vars, dir)
	k.ioctl("--load", "permanent", states[0][0])
	k.ioctl("--load", "volatile", states[1][1]) // of another TPM
	if status, _, _ := dropInOutput(nil, "swtpm_ioctl", "--unix", k.control, "-i"); status == program.StatusOK {
		t.Error("a TPM goes on with the volatile state of another")
	}
	k.stop()
	if _, err := os.Lstat(filepath.Join(dir, "tpm2-00.permall")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("state that was refused left a TPM behind: %v", err)
	}
	k = startSWTPM(t, vars, dir)
	k.ioctl("--load", "permanent", states[0][0])
	k.ioctl("--load", "volatile", states[0][1])
	k.ioctl("-i")
	k.stop()
	k = startSWTPM(t, vars, dir)
	k.ioctl("-i")
	startedTPM(t, "unix", k.data)
	k.stop()
}
