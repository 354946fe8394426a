package vtpmcli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/program"
)

// numberOfFile opens a file, and gives its number to who reads and closes it.
func numberOfFile(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(fd)
}

// A key comes by the number of an open file, too, as libvirt passes it.
func TestAKeyByTheNumberOfAFileIsThatOfTheFile(t *testing.T) {
	const more = ",mode=aes-256-cbc,format=hex"
	file, state, vars := filepath.Join(t.TempDir(), "key"), t.TempDir(), variables{ledgerEnv: t.TempDir(), "HOME": t.TempDir()}
	write(t, file, []byte(strings.Repeat("0f", 32)))
	if status, _, errs := dropInOutput(vars, "swtpm_setup", "--tpm2", "--tpm-state", state, "--keyfile-fd", numberOfFile(t, file), "--cipher", "aes-256-cbc"); status != program.StatusOK {
		t.Fatalf("swtpm_setup: status %d, %s", status, errs)
	}
	startSWTPM(t, vars, state, "--flags", "not-need-init", "--key", "file="+file+more).stop()
	startSWTPM(t, vars, state, "--flags", "not-need-init", "--key", "fd="+numberOfFile(t, file)+more).stop()
	status, _, errs := dropInOutput(vars, "swtpm", "socket", "--tpm2", "-p", "1", "--tpmstate", "dir="+state, "--key", "fd=987")
	if status != 1 || !strings.Contains(errs, "--key") {
		t.Errorf("a number of no file: status %d, %q", status, errs)
	}
}

// What --key names is read as a key or as a passphrase, whichever form names it.
func TestWhatKeyWordsNameIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, []byte("secret\n"))
	for name, tc := range map[string]struct {
		words  words
		phrase bool
		bad    bool
	}{
		"file":          {words: words{"file": file}},
		"fd":            {words: words{"fd": numberOfFile(t, file)}},
		"pwdfile":       {words: words{"pwdfile": file}, phrase: true},
		"pwdfd":         {words: words{"pwdfd": numberOfFile(t, file)}, phrase: true},
		"none":          {words: words{"format": "hex"}, bad: true},
		"no such file":  {words: words{"pwdfile": file + "x"}, bad: true},
		"no such pwdfd": {words: words{"pwdfd": "987"}, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			text, phrase, err := readKeyWords(tc.words)
			if tc.bad {
				if err == nil {
					t.Errorf("readKeyWords(%v) = %q", tc.words, text)
				}
				return
			}
			if string(text) != "secret\n" || phrase != tc.phrase || err != nil {
				t.Errorf("readKeyWords(%v) = %q, %v, %v, want phrase %v", tc.words, text, phrase, err, tc.phrase)
			}
		})
	}
}
