package vm_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/test/vm"
)

// another is the same user on another host, which has no machine: its root, its key
// provider and the same key set.
func (u *user) another(name string) *user {
	u.Helper()
	dir := filepath.Join(u.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		u.Fatal(err)
	}
	o := &user{T: u.T, program: u.program, dir: dir}
	o.must("key-provider", "add", "main", "local:"+filepath.Join(dir, "keys"), "--create")
	o.must("keyset", "create", "own", "--kind", "own")
	u.Cleanup(func() {
		exec.Command(u.program, "vm", "stop", "--force", "web-1", "--root", filepath.Join(dir, "root")).Run() //nolint:errcheck // it may have ended
	})
	return o
}

// awaits has a host await the machine, and returns its ticket.
func (u *user) awaits(name string, more ...string) (ticket string, awaiting *exec.Cmd) {
	u.Helper()
	ticket = filepath.Join(u.dir, name)
	args := append([]string{"vm", "receive", "web-1", "--listen", "127.0.0.1:0", "--ticket", ticket}, more...)
	cmd := exec.CommandContext(u.Context(), u.program, args...)
	cmd.Env = append(os.Environ(), "ASSAY_VTPM_ROOT="+filepath.Join(u.dir, "root"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		u.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		u.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		u.Fatalf("the awaiting host says %q, %v", line, err)
	}
	return ticket, cmd
}

// awaitBoot waits until a boot of the machine has passed.
func (u *user) awaitBoot(counter uint64) {
	u.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(vm.Patience); time.Now().Before(end); <-tick.C {
		if s := u.status(); s.Boot != nil && s.Boot.Counter == counter && s.Boot.Late != nil {
			break
		}
	}
	u.inBoot(counter)
}

// none finds no machine on a host.
func (u *user) none() {
	u.Helper()
	if out := u.must("vm", "list", "-o", "json"); strings.Contains(out, "web-1") {
		u.Errorf("the host has %s", out)
	}
	if out := u.must("vtpm", "list", "-o", "json"); strings.Contains(out, "web-1") {
		u.Errorf("the host has the TPM %s", out)
	}
}

// A real machine moves to another host and back, in its own boot, and boots again there
// and here.
func TestARealMachineMovesToAnotherHostAndBack(t *testing.T) {
	needAll(t)
	a := newUser(t)
	b := a.another("b")
	a.boot()

	ticket, awaiting := b.awaits("first")
	a.must("vm", "migrate", "web-1", "--ticket", ticket)
	a.none()
	b.inBoot(1)
	if text := b.must("vm", "console", "web-1", "--text"); !strings.Contains(text, "UEFI Misc Device") {
		t.Errorf("what the console printed on the other host is not here: %q", text)
	}
	b.must("vm", "reset", "web-1")
	b.awaitBoot(2)

	back, home := a.awaits("back")
	b.must("vm", "migrate", "web-1", "--ticket", back)
	b.none()
	if err := awaiting.Wait(); err != nil {
		t.Errorf("the host that gave it back: %v", err)
	}
	a.inBoot(2)
	a.must("vm", "stop", "--force", "web-1")
	if err := home.Wait(); err != nil {
		t.Errorf("the supervisor at home: %v", err)
	}
	a.boots = 2
	a.boot()
	if n := a.events(integrity.EventStartup); n != 3 {
		t.Errorf("%d boots are logged, of 3", n)
	}
	if n := a.events(integrity.EventMigrated); n != 2 {
		t.Errorf("%d events tell of arrivals", n)
	}

	// A destination that was killed awaits nobody, and the machine goes on where it was.
	ticket, awaiting = b.awaits("second")
	b.kill(awaiting.Process.Pid)
	awaiting.Wait() //nolint:errcheck // it was killed
	if status, _ := a.assay("vm", "migrate", "web-1", "--ticket", ticket); status == 0 {
		t.Error("the machine goes to a host that awaits nobody")
	}
	a.inBoot(3)
	a.must("vm", "stop", "--force", "web-1")
}

// home is a file in the machine's home on a host.
func (u *user) home(file string) string {
	return filepath.Join(u.dir, "root", "machines", "web-1", file)
}

// awaitHypervisor waits until a host has started one for the machine, and returns its process.
func (u *user) awaitHypervisor() int {
	u.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(vm.Patience); time.Now().Before(end); <-tick.C {
		var running struct {
			PID int `json:"pid"`
		}
		if text, err := os.ReadFile(u.home("running.json")); err == nil && json.Unmarshal(text, &running) == nil && running.PID > 0 {
			return running.PID
		}
	}
	u.Fatal("no hypervisor is started")
	return 0
}

// awaitFile waits until there is a file.
func (u *user) awaitFile(name string) {
	u.Helper()
	for end := time.Now().Add(vm.Patience); time.Now().Before(end); {
		if _, err := os.Lstat(name); err == nil {
			return
		}
	}
	u.Fatalf("there is no %s", name)
}

// moving has a command give the machine away, and returns how it ended, in time.
func (u *user) moving(ticket string, more ...string) (status chan int) {
	status = make(chan int, 1)
	go func() {
		args := append([]string{"vm", "migrate", "web-1", "--ticket", ticket}, more...)
		cmd := exec.CommandContext(u.Context(), u.program, args...)
		cmd.Env = append(os.Environ(), "ASSAY_VTPM_ROOT="+filepath.Join(u.dir, "root"))
		cmd.Run() //nolint:errcheck // its status says it
		status <- cmd.ProcessState.ExitCode()
	}()
	return status
}

// attestedAfter waits until the agent has attested since a time.
func (u *user) attestedAfter(begun time.Time) {
	u.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var s machine.Status
	for end := time.Now().Add(vm.Patience); time.Now().Before(end); <-tick.C {
		if s = u.status(); s.Health != nil && s.Health.State == health.Healthy && s.Health.Time.After(begun) {
			return
		}
	}
	u.Fatalf("the agent has not attested since %s: %+v", begun, s.Health)
}

// Attestation goes on where the machine is; processes that are killed in the middle leave it on
// one host, which says so.
func TestProcessesThatAreKilledInARealMoveLoseNoMachine(t *testing.T) {
	needAll(t)
	a := newUser(t)
	b := a.another("b")
	_, supervisor := a.boot()
	a.attestedAfter(time.Time{})

	// The hypervisor there is killed while the memory comes.
	ticket, awaiting := b.awaits("first")
	ended := a.moving(ticket)
	b.kill(b.awaitHypervisor())
	if status := <-ended; status == 0 {
		t.Error("the machine moved to a hypervisor that was killed")
	}
	a.inBoot(1)
	b.none()

	// The same host still awaits it. The supervisor here is killed once it has given the
	// machine away.
	ended = a.moving(ticket)
	a.awaitFile(a.home("given.sealed"))
	given := time.Now()
	a.kill(supervisor)
	if status := <-ended; status == 0 {
		t.Error("the command says that all went well, though nobody was left to say so")
	}
	a.await(machine.StateUnsupervised, machine.StateLost)
	if status, _ := a.assay("vm", "start", "web-1"); status == 0 {
		t.Error("a machine that is another host's is started")
	}
	a.must("vm", "stop", "--force", "web-1")
	// The host there may have heard that the machine is its own, or waits for that word.
	a.must("vm", "migrate", "web-1", "--settle")
	a.none()
	b.inBoot(1)
	b.attestedAfter(given)
	b.must("vm", "reset", "web-1")
	b.awaitBoot(2)
	b.must("vm", "stop", "--force", "web-1")
	if err := awaiting.Wait(); err != nil {
		t.Errorf("the supervisor there: %v", err)
	}
}

// sameDisk compares what a guest reads of two raw disks, of which one may be in use.
func (u *user) sameDisk(a, b string) {
	u.Helper()
	if out, err := exec.Command("qemu-img", "compare", "-U", "-f", "raw", "-F", "raw", a, b).CombinedOutput(); err != nil {
		u.Errorf("%s and %s: %v: %s", a, b, err, out)
	}
}

// Two hosts without storage in common: the machine takes its disk along, boots from it there,
// and comes back with it. A hypervisor that is killed while it takes the disk leaves the
// machine where it was, and nothing there.
func TestARealMachineMovesWithItsDisks(t *testing.T) {
	needAll(t)
	a := newUser(t)
	b := a.another("b")
	a.boot()
	const copies = "--copy-disks"
	own, made := filepath.Join(a.dir, "disk.raw"), filepath.Join("disks", "disk0.raw")

	ticket, awaiting := b.awaits("first", copies)
	if out := a.must("vm", "migrate", "web-1", "--ticket", ticket, copies, "--dry-run"); !strings.Contains(out, "would take web-1") || !strings.Contains(out, own) {
		t.Errorf("a dry run says %q", out)
	}
	if status, _ := a.assay("vm", "migrate", "web-1", "--ticket", ticket); status == 0 {
		t.Error("the machine moves without its disks")
	}
	ended := a.moving(ticket, copies)
	b.kill(b.awaitHypervisor())
	if status := <-ended; status == 0 {
		t.Error("the machine moved to a hypervisor that was killed")
	}
	a.inBoot(1)
	b.none()
	if _, err := os.Lstat(b.home("")); !os.IsNotExist(err) {
		t.Errorf("there is a home: %v", err)
	}

	var moved machine.Migration
	if out := a.must("vm", "migrate", "web-1", "--ticket", ticket, copies, "-o", "json"); json.Unmarshal([]byte(out), &moved) != nil {
		t.Errorf("assay vm migrate prints %s", out)
	}
	if len(moved.Disks) != 1 || moved.Disks[0].File != own || !moved.Disks[0].Stays || moved.Disks[0].Copied == 0 {
		t.Errorf("it says %+v", moved)
	}
	a.none()
	b.inBoot(1)
	a.sameDisk(own, b.home(made))
	b.must("vm", "reset", "web-1")
	b.awaitBoot(2)

	back, home := a.awaits("back", copies)
	b.must("vm", "migrate", "web-1", "--ticket", back, copies)
	b.none()
	if _, err := os.Lstat(b.home(made)); !os.IsNotExist(err) {
		t.Errorf("the disk that was made there: %v", err)
	}
	if err := awaiting.Wait(); err != nil {
		t.Errorf("the host that gave it back: %v", err)
	}
	a.inBoot(2)
	a.must("vm", "stop", "--force", "web-1")
	if err := home.Wait(); err != nil {
		t.Errorf("the supervisor at home: %v", err)
	}
	a.boots = 2
	a.boot()
	a.must("vm", "stop", "--force", "web-1")
}
