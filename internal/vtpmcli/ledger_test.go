package vtpmcli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/vtpm/place"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// What serve --state is given in place of its TPM is named, with the command that
// accepts it.
func TestServeSeesWhatIsPutInThePlaceOfItsTPM(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, o *vtpmOptions, file string, old []byte)
		want   error
	}{
		"an older copy": {func(t *testing.T, _ *vtpmOptions, file string, old []byte) { write(t, file, old) }, state.RolledBack},
		"a copy elsewhere": {func(t *testing.T, o *vtpmOptions, file string, _ []byte) {
			now, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			o.state += "2"
			if err := os.Mkdir(o.state, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(o.state, serveStateFile), now)
		}, place.ErrElsewhere},
		"an empty folder": {func(t *testing.T, o *vtpmOptions, file string, _ []byte) {
			o.keys, o.provider = program.KeySource{}, "local:"+o.keys.File
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, errVacant},
		"a ledger that is lost": {func(t *testing.T, o *vtpmOptions, _ string, _ []byte) {
			if err := os.RemoveAll(o.ledger.dir); err != nil {
				t.Fatal(err)
			}
		}, state.Unanchored},
		"a ledger that cannot be used": {func(t *testing.T, o *vtpmOptions, file string, _ []byte) { o.ledger.dir = filepath.Join(file, "x") }, place.ErrLedger},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			o := &vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: filepath.Join(dir, "ledger")}, keys: program.KeySource{File: filepath.Join(dir, "key")}, swtpmUnix: filepath.Join(dir, "s")}
			if err := serveTPM(t, o)(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(o.state, serveStateFile)
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			stop := serveTPM(t, o)
			primaryName(t, startedTPM(t, "unix", o.swtpmUnix), "")
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			tc.change(t, o, file, old)
			errs := new(programtest.Buffer)
			err = o.serve(context.Background(), programtest.Env(errs, errs))
			if !errors.Is(err, tc.want) {
				t.Fatalf("serve = %v, want %v", err, tc.want)
			}
			if errors.Is(err, errVacant) || errors.Is(err, place.ErrLedger) {
				return
			}
			if !strings.Contains(err.Error(), "assay vtpm ledger accept") {
				t.Errorf("serve = %v, and no way to go on", err)
			}
		})
	}
}

func TestWithoutALedgerTheLogSaysSo(t *testing.T) {
	dir := shortDir(t)
	o := &vtpmOptions{state: filepath.Join(dir, "state"), ledger: ledgerFlags{dir: place.NoLedger}, keys: program.KeySource{File: filepath.Join(dir, "key")}, swtpmUnix: filepath.Join(dir, "s")}
	o.ledger.required = true
	if err := o.serve(context.Background(), programtest.Env(new(programtest.Buffer), new(programtest.Buffer))); !errors.Is(err, place.ErrLedger) {
		t.Errorf("serve --require-ledger = %v, want %v", err, place.ErrLedger)
	}
	o.ledger.required, o.create = false, true
	s, err := openVTPMState(t.Context(), programtest.Env(new(programtest.Buffer), new(programtest.Buffer)), o.state, "", o.keys)
	if err != nil {
		t.Fatal(err)
	}
	log := new(programtest.Buffer)
	s.env.Stderr = log
	s.ledger = o.ledger.open()
	if _, err := s.load(t.Context(), "", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"the TPM is unproved") {
		t.Errorf("the log says %q", log)
	}
}

// The ledger is where the command line says, else the environment, else the root.
func TestWhereTheLedgerIs(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		flag, env string
		root      error
		want      string // folder that is made; empty for none
	}{
		"flag":    {flag: "flag", env: "env", want: "flag"},
		"env":     {env: "env", want: "env"},
		"root":    {want: "root/ledger"},
		"nowhere": {root: errors.New("no folder")},
	} {
		t.Run(name, func(t *testing.T) {
			in := filepath.Join(dir, name)
			path := func(s string) string {
				if s == "" {
					return ""
				}
				return filepath.Join(in, s)
			}
			env := programtest.Env(nil, nil)
			env.Getenv = variables{ledgerEnv: path(tc.env)}.get
			f := ledgerFlags{dir: path(tc.flag)}
			f.choose(env, func() (string, error) { return path("root"), tc.root })
			if err := f.open().Close(); err != nil {
				t.Error(err)
			}
			for _, d := range []string{"flag", "env", "root/ledger"} {
				if _, err := os.Stat(path(d)); (err == nil) != (d == tc.want) {
					t.Errorf("%s: %v, want %q alone", d, err, tc.want)
				}
			}
		})
	}
}
