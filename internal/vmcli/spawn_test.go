package vmcli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/program/programtest"
)

// TestMain is the supervisor too, when spawn starts this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && slices.Equal(os.Args[1:3], []string{"vm", "run"}) {
		fmt.Fprintf(os.Stderr, "assay: told %s\n", strings.Join(os.Args[3:], " "))
		if os.Args[3] == "bad" {
			fmt.Println(failedLine + "it is bound to another place")
			fmt.Fprintln(os.Stderr, `time=2026-11-22T23:33:50.357Z level=INFO msg="what the machine boots from is not read"`)
			os.Exit(1)
		}
		fmt.Println(readyLine)
		return
	}
	os.Exit(m.Run())
}

func starter(t *testing.T, name string) *cobra.Command {
	t.Helper()
	var out, errs programtest.Buffer
	cmd := newStartCmd(programtest.Env(&out, &errs))
	if err := cmd.ParseFlags([]string{name, "--root", "/r"}); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestAStartLeavesTheLogOfAnother(t *testing.T) {
	name := filepath.Join(t.TempDir(), "run", "supervisor.log")
	if err := spawn(starter(t, "good"), name); err != nil {
		t.Fatal(err)
	}
	err := spawn(starter(t, "bad"), name)
	if err == nil || err.Error() != "told bad --background --root /r" {
		t.Errorf("its last words: %v", err)
	}
	var said *spawnError
	if !errors.As(err, &said) || said.told != "it is bound to another place" {
		t.Errorf("what may be told of it: %+v", said)
	}
	text, err := os.ReadFile(name)
	if want := "assay: told good --background --root /r\nassay: told bad --background --root /r\ntime=2026-11-22T23:33:50.357Z level=INFO msg=\"what the machine boots from is not read\"\n"; err != nil || string(text) != want {
		t.Errorf("log %q, %v; want %q", text, err, want)
	}
}

func TestASupervisorsLogIsBounded(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := &boundedLog{file: f}
	line := bytes.Repeat([]byte("x"), 999)
	for i := range 2 * maxLog / 1000 {
		if n, err := fmt.Fprintf(l, "%6d %s\n", i, line[:992]); err != nil || n != 1000 {
			t.Fatal(n, err)
		}
		if info, err := f.Stat(); err != nil || info.Size() > maxLog {
			t.Fatalf("%d bytes, %v", info.Size(), err)
		}
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if lines[0] != "[older messages are not kept]" || len(text) < keepLog-2000 {
		t.Errorf("%d bytes, the first line %.40q", len(text), lines[0])
	}
	for i, one := range slices.Backward(lines[1:]) {
		if want := fmt.Sprintf("%6d ", 2*maxLog/1000-(len(lines)-1)+i); !strings.HasPrefix(one, want) || len(one) != 999 {
			t.Fatalf("line %d is %.20q, want %q", i, one, want)
		}
	}
}

func TestAQuietSupervisorPrintsNoEvent(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		var out, errs programtest.Buffer
		h := &hostFlags{env: programtest.Env(&out, &errs), quiet: quiet}
		h.told(integrity.Notice{Type: integrity.EventRefused, Instance: "web-1", Reasons: because("secret\u009b")})
		if got := errs.String(); quiet != (got == "") || strings.Contains(got, "\u009b") || out.String() != "" {
			t.Errorf("quiet %v: %q", quiet, got)
		}
	}
}
