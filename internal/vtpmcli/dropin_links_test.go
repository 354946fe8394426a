package vtpmcli

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
)

// endOfDropIn runs a drop-in to its end; one that serves is told to end, by the control
// channel at path.
func endOfDropIn(vars variables, control, name string, args []string) (status int, said string) {
	r, w := io.Pipe()
	errs := new(programtest.Buffer)
	env := programtest.Env(w, errs)
	env.Program, env.Getenv = name, vars.get
	done := make(chan int, 1)
	go func() {
		done <- assay(env, args)
		w.Close()
	}()
	for out := bufio.NewScanner(r); out.Scan(); {
		if out.Text()+"\n" == readyLine {
			dropInOutput(nil, "swtpm_ioctl", "--unix", control, "-s")
		}
	}
	return <-done, errs.String()
}

// CVE-2020-28407: swtpm_setup followed a symbolic link in place of its log file: whoever
// may write to the folder of the logs had root write to any file. No log and no file of a
// process number is written through a link, and none is made behind one.
func TestCVE2020x28407LogsAreNotWrittenThroughLinks(t *testing.T) {
	vars, site := keyFileEnv(t), t.TempDir()
	vars["HOME"] = t.TempDir()
	for name, tc := range map[string]struct {
		program string
		call    func(dir, control, link string) []string
		want    string
	}{
		"swtpm_setup": {"swtpm_setup", func(dir, _, link string) []string {
			return []string{"--tpm2", "--tpm-state", dir, "--logfile", link}
		}, "--logfile"},
		"swtpm_localca": {"swtpm_localca", func(dir, _, link string) []string {
			return []string{"--tpm2", "--type", "ek", "--ek", "x=" + pointX + ",y=" + pointY, "--dir", site, "--vmid", "vm1", "--logfile", link}
		}, "--logfile"},
		"swtpm": {"swtpm", func(dir, control, link string) []string {
			return []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + control, "--log", "file=" + link}
		}, "--log"},
		"swtpm truncating": {"swtpm", func(dir, control, link string) []string {
			return []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + control, "--log", "truncate,file=" + link}
		}, "--log"},
		"swtpm --pid": {"swtpm", func(dir, control, link string) []string {
			return []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + control, "--pid", "file=" + link}
		}, "--pid"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, run := t.TempDir(), shortDir(t)
			control, link, other := filepath.Join(run, "c"), filepath.Join(run, "log"), filepath.Join(t.TempDir(), "other")
			for _, kept := range []string{"kept\n", ""} { // a file, and none, behind the link
				os.Remove(link)
				if err := os.Symlink(other, link); err != nil {
					t.Fatal(err)
				}
				if os.Remove(other); kept != "" {
					if err := os.WriteFile(other, []byte(kept), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				status, said := endOfDropIn(vars, control, tc.program, tc.call(dir, control, link))
				if status == program.StatusOK || !strings.Contains(said, tc.want+":") {
					t.Errorf("status %d, %q, want a refusal of %s", status, said, tc.want)
				}
				if got, err := os.ReadFile(other); string(got) != kept || kept == "" && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the file behind the link is now %q, %v; it was %q", got, err, kept)
				}
			}
		})
	}
}
