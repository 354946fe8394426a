package vm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/test/vm"
)

// A user has the program's commands, and one machine called web-1.
type user struct {
	*testing.T
	program, dir string
	boots        uint64
}

// assay runs a command and returns its exit status and what it printed.
func (u *user) assay(args ...string) (int, string) {
	u.Helper()
	cmd := exec.CommandContext(u.Context(), u.program, args...)
	cmd.Env = append(os.Environ(), "ASSAY_VTPM_ROOT="+filepath.Join(u.dir, "root"))
	var said, out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); cmd.ProcessState == nil {
		u.Fatal(err)
	}
	u.Logf("assay %s: %d\n%s%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), said.String(), out.String())
	return cmd.ProcessState.ExitCode(), out.String()
}

func (u *user) must(args ...string) string {
	u.Helper()
	status, out := u.assay(args...)
	if status != 0 {
		u.Fatalf("assay %v ends with status %d", args, status)
	}
	return out
}

// newUser makes keys, a signed guest and a machine.
func newUser(t *testing.T) *user {
	t.Helper()
	b := newBench(t, chain("uki")) // says when QEMU is missing
	dir, err := os.MkdirTemp("", "u")
	b.must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	u := &user{T: t, dir: dir}
	u.program, err = vm.BuildProgram(dir)
	b.must(err)
	u.must("key-provider", "add", "main", "local:"+filepath.Join(dir, "keys"), "--create")
	u.must("keyset", "create", "own", "--kind", "own")
	plain, signed := filepath.Join(dir, "plain.efi"), filepath.Join(dir, "signed.efi")
	b.must(os.WriteFile(plain, b.Guests.Unsigned, 0o600))
	u.must("keyset", "sign", "own", plain, "--out", signed)
	image, err := os.ReadFile(signed)
	b.must(err)
	b.must(demovm.WriteDisk(filepath.Join(dir, "disk.raw"), image))
	u.must("vm", "create", "web-1", "--keyset", "own", "--memory", "512", "--secure-boot", "--vtpm", "--integrity-monitoring", "--agent", "--disk", filepath.Join(dir, "disk.raw"))
	t.Cleanup(func() {
		exec.Command(u.program, "vm", "stop", "--force", "web-1", "--root", filepath.Join(dir, "root")).Run()
	}) //nolint:errcheck // it may have ended
	return u
}

// status is what the program says of the machine.
func (u *user) status() (s machine.Status) {
	u.Helper()
	var list []machine.Status
	if out := u.must("vm", "list", "-o", "json"); json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 {
		u.Fatalf("assay vm list prints %s", out)
	}
	return list[0]
}

// boots starts the machine, which passes, and returns the processes of its hypervisor
// and of its supervisor.
func (u *user) boot() (hypervisor, supervisor int) {
	u.Helper()
	u.must("vm", "start", "web-1", "--wait", "--timeout", vm.Patience.String())
	u.boots++
	s := u.status()
	if s.State != machine.StateRunning || s.Boot == nil || s.Boot.Counter != u.boots || s.Boot.Late == nil || !*s.Boot.Late {
		u.Fatalf("after boot %d the status is %+v", u.boots, s)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		u.Fatal(err)
	}
	// proc(5): the number of the parent follows the state, which follows the name in
	// brackets.
	_, rest, _ := strings.Cut(string(text), ") ")
	if _, err := fmt.Sscanf(rest, "%1s %d", new(string), &supervisor); err != nil || supervisor <= 1 {
		u.Fatalf("the parent of process %d: %v in %q", s.PID, err, text)
	}
	return s.PID, supervisor
}

// kill ends a process as a lack of memory does, and waits until it is gone.
func (u *user) kill(pid int) {
	u.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		u.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(vm.Patience); syscall.Kill(pid, 0) == nil; <-tick.C {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(text), ") Z ") {
			return // nobody waits for it here
		}
		if time.Now().After(end) {
			u.Fatalf("process %d does not end", pid)
		}
	}
}

// await waits for a state of the machine.
func (u *user) await(states ...string) {
	u.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var s machine.Status
	for end := time.Now().Add(vm.Patience); time.Now().Before(end); <-tick.C {
		s = u.status()
		if slices.Contains(states, s.State) {
			return
		}
	}
	u.Fatalf("the state is %q, want one of %q: %+v", s.State, states, s)
}

// Whatever process of a machine is killed, its state is found again or reported, and the
// next boot is one more and passes.
func TestAKilledProcessLosesNothing(t *testing.T) {
	needAll(t)
	u := newUser(t)

	hypervisor, _ := u.boot()
	u.kill(hypervisor)
	u.await(machine.StateStopped)

	hypervisor, supervisor := u.boot()
	u.kill(supervisor)
	u.await(machine.StateUnsupervised, machine.StateLost)
	if syscall.Kill(hypervisor, 0) == nil {
		if status, _ := u.assay("vm", "start", "web-1"); status == 0 {
			t.Error("a second hypervisor is started beside one that nobody supervises")
		}
	}
	u.must("vm", "stop", "--force", "web-1")

	hypervisor, supervisor = u.boot()
	u.kill(supervisor)
	u.kill(hypervisor)
	u.await(machine.StateLost)

	u.boot()
	u.must("vm", "stop", "--force", "web-1")
	events := u.must("vm", "events", "web-1")
	if n := strings.Count(events, integrity.EventStartup); n != int(u.boots) {
		t.Errorf("%d boots are logged, of %d", n, u.boots)
	}
	if strings.Count(events, integrity.EventLost) != 2 || !strings.Contains(events, "the hypervisor failed") {
		t.Errorf("the ends of the boots are not told: %s", events)
	}
	if s := u.status(); s.State != machine.StateStopped {
		t.Errorf("at the end the state is %+v", s)
	}
}
