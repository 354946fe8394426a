package qemu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hook runs the hookscript for Proxmox VE as its qm does, with a qm of ours that knows
// one configuration.
func (b *bench) hook(config, phase string) (string, error) {
	b.t.Helper()
	bin := filepath.Join(b.dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "qm"), []byte("#!/bin/sh\n[ \"$1 $2\" = 'config 100' ] && cat <<'X'\n"+config+"\nX\n"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	os.Symlink(b.program, filepath.Join(bin, "assay")) //nolint:errcheck // it is there the second time
	c := exec.Command("../../packaging/proxmox/assay-vtpm-hook", "100", phase)
	c.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "ASSAY_HOOK_DIR=" + filepath.Join(b.dir, "run"), "ASSAY_VTPM_ROOT=" + filepath.Join(b.dir, "root")}
	out, err := c.CombinedOutput()
	return string(out), err
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
	said, err := b.hook("args: -foo", "pre-start")
	_, args, found := strings.Cut(strings.TrimSpace(said), "--args '")
	if err == nil || !found {
		t.Fatalf("without arguments: %v, %s", err, said)
	}
	args = strings.TrimSuffix(args, "'")
	if said, err := b.hook("args: "+args, "pre-start"); err == nil || !strings.Contains(said, "does not start") || !strings.Contains(said, "no TPM of that name") {
		t.Errorf("without a TPM: %v, %s", err, said)
	}
	b.assay("key-provider", "add", "main", "local:"+filepath.Join(b.dir, "keys"), "--create")
	b.assay("vtpm", "create", "vm-100")
	for _, phase := range []string{"pre-start", "post-start"} {
		if said, err := b.hook("args: "+args, phase); err != nil || said != "" {
			t.Fatalf("%s: %v, %s", phase, err, said)
		}
	}
	c := exec.Command("qemu-system-x86_64", append(strings.Fields(args), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "tcg", "-S", "-monitor", "stdio")...)
	c.Stdin = strings.NewReader("info tpm\nquit\n")
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "model=tpm-crb") {
		t.Errorf("QEMU: %v\n%s", err, out)
	}
	for _, phase := range []string{"pre-stop", "post-stop"} {
		if said, err := b.hook("args: "+args, phase); err != nil || said != "" {
			t.Errorf("%s: %v, %s", phase, err, said)
		}
	}
	// It ended with QEMU: else the state would be in use.
	if out := b.assay("vtpm", "clear", "vm-100", "--yes"); out == "" {
		t.Error("clear says nothing")
	}
}
