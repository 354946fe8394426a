package cli

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/assay-project/assay/internal/disk/disktest"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpmcli"
	"github.com/assay-project/assay/uefi/launch/launchtest"
)

func TestMain(m *testing.M) {
	env := &program.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now, Rand: rand.Reader}
	testscript.Main(m, map[string]func(){
		"assay":      func() { os.Exit(Main(env, os.Args[1:])) },
		"assay-vtpm": func() { os.Exit(vtpmcli.Main(env, os.Args[1:])) },
	})
}

// The scripts hold the command lines, outputs and exit statuses of docs/cli.md.
// "status N CMD" runs a command that must end with that status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// States of swtpm, with what made them in the README there.
			states, err := filepath.Abs("../vtpm/libtpms/testdata")
			if err != nil {
				return err
			}
			e.Setenv("SWTPM_STATES", states)
			return fs.WalkDir(demoFiles, "demodata", func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := demoFiles.ReadFile(name)
				if err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(e.WorkDir, filepath.Base(name)), b, 0o600)
			})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "efidisk": efiDisk},
	})
}

// status runs a command and compares its exit status.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND…")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = "?"
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = strconv.Itoa(exit.ExitCode())
		}
	}
	if got != args[0] {
		ts.Fatalf("%v ends with status %s, want %s", args[1:], got, args[0])
	}
}

// efiDisk writes a disk with an EFI system partition, whose one program nobody signed.
func efiDisk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: efidisk FILE")
	}
	image := disktest.Image(map[string][]byte{`EFI/BOOT/BOOTX64.EFI`: launchtest.UKI("252.39", launchtest.Section{Name: ".linux", Data: launchtest.Kernel("6.1.0")})})
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), image, 0o600))
}
