package vm_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/integrity"
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
func (u *user) awaits(name string) (ticket string, awaiting *exec.Cmd) {
	u.Helper()
	ticket = filepath.Join(u.dir, name)
	cmd := exec.CommandContext(u.Context(), u.program, "vm", "receive", "web-1", "--listen", "127.0.0.1:0", "--ticket", ticket)
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
// and here; a destination whose hypervisor is killed in the middle leaves it where it was.
func TestARealMachineMovesToAnotherHostAndBack(t *testing.T) {
	needAll(t)
	a := newUser(t)
	b := a.another("b")
	a.boot()

	ticket, awaiting := b.awaits("first")
	a.must("vm", "migrate", "web-1", "--ticket", ticket)
	a.none()
	b.inBoot(1)
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

	// A destination that is killed while the machine arrives has nothing, and the machine
	// goes on where it was.
	ticket, awaiting = b.awaits("second")
	b.kill(awaiting.Process.Pid)
	awaiting.Wait() //nolint:errcheck // it was killed
	if status, _ := a.assay("vm", "migrate", "web-1", "--ticket", ticket); status == 0 {
		t.Error("the machine goes to a host that awaits nobody")
	}
	a.inBoot(3)
	a.must("vm", "stop", "--force", "web-1")
}
