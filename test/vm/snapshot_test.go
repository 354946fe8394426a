package vm_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

// inBoot finds the machine running in a boot that passed.
func (u *user) inBoot(counter uint64) {
	u.Helper()
	s := u.status()
	if s.State != machine.StateRunning || s.Boot == nil || s.Boot.Counter != counter || s.Boot.Late == nil || !*s.Boot.Late || s.Boot.Phase != machine.PhaseSystem {
		u.Fatalf("the status is %+v of boot %+v, want boot %d", s, s.Boot, counter)
	}
}

// events counts what happened to the machine.
func (u *user) events(kind string) int {
	u.Helper()
	return strings.Count(u.must("vm", "events", "web-1"), kind)
}

// A real machine is caught while it runs, goes on, is killed, and comes back where it was:
// in its own boot, with its verdict, and able to boot again.
func TestARealMachineGoesBackToASnapshot(t *testing.T) {
	needAll(t)
	u := newUser(t)
	u.useQcow2()
	u.boot()
	u.must("vm", "snapshot", "create", "web-1", "good")
	u.inBoot(1)
	u.kill(u.status().PID) // the state after the snapshot is lost; the snapshot is not
	u.await(machine.StateStopped)
	u.boot()

	if status, _ := u.assay("vm", "snapshot", "restore", "web-1", "good"); status != 1 {
		t.Errorf("a restore without --yes ends with status %d", status)
	}
	u.inBoot(2)
	u.must("vm", "snapshot", "restore", "web-1", "good", "--yes")
	u.inBoot(1)
	if n := u.events(integrity.EventWentBack); n != 1 {
		t.Errorf("%d events say that the machine went back", n)
	}
	u.must("vm", "stop", "--force", "web-1")
	u.boots = 2
	u.boot()
	if n := u.events(integrity.EventStartup); n != 3 {
		t.Errorf("%d boots are logged, of 3", n)
	}
	u.must("vm", "stop", "--force", "web-1")
	u.must("vm", "snapshot", "restore", "web-1", "good", "--yes", "--without-memory")
	u.boot()
	u.must("vm", "snapshot", "delete", "web-1", "good")
	u.must("vm", "stop", "--force", "web-1")
	if out := u.must("vm", "snapshot", "list", "web-1"); strings.Contains(out, "good") {
		t.Errorf("after its deletion the snapshot is listed: %s", out)
	}
}

// useQcow2 converts the disk of the machine, which is off.
func (u *user) useQcow2() {
	u.Helper()
	raw, qcow2 := filepath.Join(u.dir, "disk.raw"), filepath.Join(u.dir, "disk.qcow2")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, qcow2).CombinedOutput(); err != nil {
		u.Fatalf("%v: %s", err, out)
	}
	u.must("vm", "delete", "web-1", "--yes")
	u.must("vm", "create", "web-1", "--keyset", "own", "--memory", "512", "--secure-boot", "--vtpm", "--integrity-monitoring", "--agent", "--disk", qcow2+",format=qcow2")
}
