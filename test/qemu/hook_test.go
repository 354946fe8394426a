package qemu_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A hookscript is the one for Proxmox VE, run as its qm does.
type hookscript struct {
	t       *testing.T
	dir     string
	program string // assay-vtpm
	config  string // of machine 100, which a qm of ours knows
	timeout string // in seconds
}

// run runs a phase of machine 100.
func (h *hookscript) run(phase string) (string, error) {
	h.t.Helper()
	bin := filepath.Join(h.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "qm"), []byte("#!/bin/sh\n[ \"$1 $2\" = 'config 100' ] && cat <<'X'\n"+h.config+"\nX\n"), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink(h.program, filepath.Join(bin, "assay-vtpm")); err != nil && !errors.Is(err, fs.ErrExist) {
		h.t.Fatal(err)
	}
	c := exec.Command("../../packaging/proxmox/assay-vtpm-hook", "100", phase)
	c.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "ASSAY_HOOK_DIR=" + filepath.Join(h.dir, "run"), "ASSAY_VTPM_ROOT=" + filepath.Join(h.dir, "root")}
	if h.timeout != "" {
		c.Env = append(c.Env, "ASSAY_HOOK_TIMEOUT="+h.timeout)
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

// tpm is the number of the process that the hook started last.
func (h *hookscript) tpm() string {
	h.t.Helper()
	b, err := os.ReadFile(filepath.Join(h.dir, "run", "100.pid"))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// asked returns the arguments for QEMU that the hook names when there are none.
func (h *hookscript) asked() string {
	h.t.Helper()
	h.config = "args: -foo"
	said, err := h.run("pre-start")
	_, args, found := strings.Cut(strings.TrimSpace(said), "--args '")
	if err == nil || !found {
		h.t.Fatalf("without arguments: %v, %s", err, said)
	}
	args = strings.TrimSuffix(args, "'")
	h.config = "args: " + args
	return args
}

// assay runs the program over the bench's root.
func (b *bench) assay(arguments ...string) string {
	b.t.Helper()
	c := exec.Command(b.program, arguments...)
	c.Env = []string{"ASSAY_VTPM_ROOT=" + filepath.Join(b.dir, "root")}
	out, err := c.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", arguments, err, out)
	}
	return string(out)
}

// The hook says which arguments the machine's configuration lacks, starts the TPM with
// them, and does not let a machine start whose TPM does not.
func TestAHookscriptStartsTheTPMBeforeQEMU(t *testing.T) {
	needAll(t)
	b := newBench(t)
	h := &hookscript{t: t, dir: b.dir, program: b.program}
	args := h.asked()
	if said, err := h.run("pre-start"); err == nil || !strings.Contains(said, "does not start") || !strings.Contains(said, "no TPM of that name") {
		t.Errorf("without a TPM: %v, %s", err, said)
	}
	b.assay("key-provider", "add", "main", "local:"+filepath.Join(b.dir, "keys"), "--create")
	b.assay("create", "vm-100")
	// A start that did not get to QEMU leaves a TPM, which holds the state.
	if said, err := h.run("pre-start"); err != nil || said != "" {
		t.Fatalf("first start: %v, %s", err, said)
	}
	left := h.tpm()
	for _, phase := range []string{"pre-start", "post-start"} {
		if said, err := h.run(phase); err != nil || said != "" {
			t.Fatalf("%s: %v, %s", phase, err, said)
		}
	}
	if h.tpm() == left {
		t.Errorf("the TPM of the start before, process %s, still serves", left)
	}
	c := exec.Command("qemu-system-x86_64", append(strings.Fields(args), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "tcg", "-S", "-monitor", "stdio")...)
	c.Stdin = strings.NewReader("info tpm\nquit\n")
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "model=tpm-crb") {
		t.Errorf("QEMU: %v\n%s", err, out)
	}
	for _, phase := range []string{"pre-stop", "post-stop"} {
		if said, err := h.run(phase); err != nil || said != "" {
			t.Errorf("%s: %v, %s", phase, err, said)
		}
	}
	// It ended with QEMU: else the state would be in use.
	if out := b.assay("clear", "vm-100", "--yes"); out == "" {
		t.Error("clear says nothing")
	}
}

// A number in the file of the TPM before may be another process's by now: it is left
// alone. A TPM that neither ends nor gets ready is not waited for without end.
func TestAHookscriptEndsOnlyItsOwnTPMAndGivesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &hookscript{t: t, dir: dir, program: filepath.Join(dir, "idle"), timeout: "1"}
	if err := os.WriteFile(h.program, []byte("#!/bin/sh\nwhile :; do sleep 0.1; done\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.asked()
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	t.Cleanup(func() {
		other.Process.Kill()
		<-ended
	})
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run", "100.pid"), fmt.Appendln(nil, other.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := h.run("pre-start"); err == nil || !strings.Contains(said, "the TPM of machine 100 is not ready after 1 seconds") {
		t.Errorf("with a TPM that is never ready: %v, %s", err, said)
	}
	if h.tpm() == strconv.Itoa(other.Process.Pid) {
		t.Error("the hook started no TPM of its own")
	}
	select {
	case err := <-ended:
		t.Errorf("the other process ended: %v", err)
		ended <- err
	default:
	}
}
