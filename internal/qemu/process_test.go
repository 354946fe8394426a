package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fake runs this test's own program as a QEMU of the kind that its name says.
func fake(t *testing.T, kind string) (program string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "fake-"+kind)
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	return program
}

// runFake is a QEMU that listens on "monitor" and answers each command. The kind
// malformed then says what is no message and runs on; parent starts a program that
// keeps its output open, and stray one that is not of its process group, too.
func runFake(kind string) {
	l, err := net.Listen("unix", "monitor")
	if err != nil {
		return
	}
	if kind == "parent" || kind == "stray" {
		child := exec.Command("sleep", "20")
		child.Stdout, child.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setpgid: kind == "stray"}
		if child.Start() != nil || os.WriteFile("child", fmt.Append(nil, child.Process.Pid), 0o600) != nil {
			return
		}
	}
	conn, err := l.Accept()
	if err != nil {
		return
	}
	fmt.Fprintln(conn, `{"QMP": {}}`)
	for s := bufio.NewScanner(conn); s.Scan(); {
		var r struct{ Execute, ID string }
		if json.Unmarshal(s.Bytes(), &r) != nil {
			return
		}
		fmt.Fprintf(conn, "{\"return\": {}, \"id\": %q}\n", r.ID)
		switch {
		case r.Execute == "quit":
			return
		case kind == "malformed":
			fmt.Fprintln(conn, "hello")
		}
	}
	l.Accept() //nolint:errcheck // for ever
}

func startFake(t *testing.T, kind, dir string) *Process {
	t.Helper()
	p, err := Start(t.Context(), Config{Program: fake(t, kind), Dir: dir, Machine: plain()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
	})
	return p
}

func TestAQEMUWithoutItsMonitorIsKilled(t *testing.T) {
	t.Parallel()
	p := startFake(t, "malformed", t.TempDir())
	select {
	case <-p.Done():
	case <-time.After(monitorless + 20*time.Second):
		t.Fatal("it runs on")
	}
	var exit *exec.ExitError
	if e := p.End(); !errors.As(e.Err, &exit) {
		t.Errorf("end %+v, want that of a killed program", e)
	}
}

func TestWhatQEMUStartedHoldsNothingUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startFake(t, "stray", dir)
	var child int
	b, err := os.ReadFile(filepath.Join(dir, "child"))
	if err == nil {
		_, err = fmt.Sscan(string(b), &child)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(child, syscall.SIGKILL) //nolint:errcheck // it has ended then
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Quit(ctx); err != nil {
		t.Error(err)
	}
	if e := p.End(); e.Err != nil {
		t.Errorf("end %+v", e)
	}
}

func TestWhatQEMUStartedIsKilledWithIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startFake(t, "parent", dir)
	child, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	<-p.Done()
	// It is gone, or nobody has asked for its end yet; a machine that is busy kills it later.
	var stat []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err = os.ReadFile("/proc/" + string(child) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") || strings.Contains(string(stat), ") X ") {
			return
		}
	}
	t.Errorf("it runs on: %s", stat)
}

func TestTheMonitorsPathFitsASocket(t *testing.T) {
	m := plain()
	m.Monitor = strings.Repeat("m", 60)
	dir := "/" + strings.Repeat("d", 46)
	if _, err := (&Config{Dir: dir, Machine: m}).monitor(); err == nil || !strings.Contains(err.Error(), "108 bytes") {
		t.Errorf("108 bytes: %v", err)
	}
	var f *FieldError
	if _, err := Start(t.Context(), Config{Dir: dir, Machine: m, Program: "no-such-qemu"}); !errors.As(err, &f) || f.Field != "monitor" {
		t.Errorf("Start = %v, want a fault of the monitor", err)
	}
	if path, err := (&Config{Dir: dir[:46], Machine: m}).monitor(); err != nil || len(path) != maxSocket {
		t.Errorf("107 bytes: %q, %v", path, err)
	}
}

func TestAProbeThatWasGivenUpSaysNothingAboutTheHost(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := Firmware{Code: "/code", Secure: true}
	if got, err := probe(ctx, fake(t, "silent"), f, nil); !errors.Is(err, context.Canceled) || got != (Probe{}) {
		t.Errorf("given up: %+v, %v", got, err)
	}
	if got, err := probe(t.Context(), "no-such-qemu", f, nil); err != nil || got.Accelerator != TCG || got.Why == "" {
		t.Errorf("without QEMU: %+v, %v", got, err)
	}
	f.Code = "/co\nde"
	if got, err := probe(t.Context(), "no-such-qemu", f, nil); err == nil {
		t.Errorf("no machine can have this: %+v", got)
	}
}

func TestAProbeNeedsItsFirmware(t *testing.T) {
	file := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Firmware{{Code: file + "x", Variables: file}, {Code: file, Variables: file + "x"}} {
		if got, err := ProbeKVM(t.Context(), "no-such-qemu", f); !errors.Is(err, os.ErrNotExist) || got != (Probe{}) {
			t.Errorf("%+v: %+v, %v", f, got, err)
		}
	}
}
