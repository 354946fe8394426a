package diskcopy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The size of each disk of a test, in bytes.
const size = 16 << 20

// An end is one of two hosts: a hypervisor with its disks.
type end struct {
	testing.TB
	*qemu.Process
	dir      string
	link     *move.Link
	hush     *hush // what it says over the link
	disks    []qemu.Disk
	patience time.Duration
}

// A hush is the end of a link that, from some moment, drops all that is said to those who
// write to disks.
type hush struct {
	net.Conn
	falls atomic.Bool
}

func (h *hush) Write(b []byte) (int, error) {
	if h.falls.Load() && b[0] == 'L' && int(b[5]) < len(both()) {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// machineHere is a machine that runs.
func machineHere(t testing.TB, patience time.Duration) *end {
	t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("ASSAY_REQUIRE_QEMU") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	source := &end{TB: t, dir: t.TempDir(), patience: patience}
	raw, qcow := filepath.Join(source.dir, "own.raw"), filepath.Join(source.dir, "own.qcow2")
	if err := os.WriteFile(raw, content(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", qcow, fmt.Sprint(size)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	source.disks = []qemu.Disk{{File: qcow, Format: "qcow2", Bus: "virtio"}, {File: raw, Format: "raw", Bus: "virtio"}}
	source.start(false)
	return source
}

// another is a hypervisor that awaits the machine on new disks.
func (e *end) another() *end {
	e.Helper()
	a, b := net.Pipe()
	e.Cleanup(func() {
		a.Close()
		b.Close()
	})
	e.link = move.NewLink(a)
	o := &end{TB: e.TB, dir: e.TempDir(), hush: &hush{Conn: b}}
	o.link = move.NewLink(o.hush)
	d := &fleet.Definition{Disks: []fleet.Disk{{Format: "qcow2"}, {Format: "raw"}}}
	if err := Make(e.Context(), qemu.Images{}, d, both(), filepath.Join(o.dir, "disks")); err != nil {
		e.Fatal(err)
	}
	o.disks = []qemu.Disk{{File: d.Disks[0].File, Format: "qcow2", Bus: "virtio"}, {File: d.Disks[1].File, Format: "raw", Bus: "virtio"}}
	o.start(true)
	return o
}

func both() []Disk { return []Disk{{0, size}, {1, size}} }

// content is what a disk has: no two of its sectors are alike.
func content() []byte {
	b := make([]byte, 0, size)
	for i := range uint64(size / 8) {
		b = binary.LittleEndian.AppendUint64(b, (i+1)*0x9e3779b97f4a7c15)
	}
	return b
}

func (e *end) start(waits bool) {
	e.Helper()
	vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		e.Fatal(err)
	}
	fd, err := unix.MemfdCreate("vars", unix.MFD_CLOEXEC)
	if err != nil {
		e.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "vars")
	e.Cleanup(func() { f.Close() })
	if _, err := f.Write(vars); err != nil {
		e.Fatal(err)
	}
	console, err := net.Listen("unix", filepath.Join(e.dir, "console"))
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { console.Close() })
	e.Process, err = qemu.Start(e.Context(), qemu.Config{Dir: e.dir, Files: []*os.File{f}, Patience: e.patience, Machine: qemu.Machine{
		Name: "web-1", Accelerator: qemu.TCG, CPUs: 1, MemoryMiB: 128, Disks: e.disks, Incoming: waits, Paused: waits,
		Firmware: qemu.Firmware{Code: "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables: "/dev/fdset/1"}, Serial: "console", Monitor: "qmp",
	}})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		e.Kill()
		<-e.Done()
	})
}

// write writes to a disk as its guest would: a pattern at an offset, in KiB.
func (e *end) write(disk, at, n int, pattern byte) {
	e.Helper()
	line := fmt.Sprintf(`qemu-io disk%d "write -P %d %dk %dk"`, disk, pattern, at, n)
	var said string
	if err := e.Monitor().Do(e.Context(), "human-monitor-command", map[string]any{"command-line": line}, &said); err != nil || strings.Contains(said, "rror") {
		e.Errorf("%s: %q, %v", line, said, err)
	}
}

// reads gives what a guest would read of a disk. Its hypervisor, if it has one, stands still.
func (e *end) reads(disk int) []byte {
	e.Helper()
	d := e.disks[disk]
	to := filepath.Join(e.TempDir(), "plain")
	if out, err := exec.Command("qemu-img", "convert", "-U", "-f", d.Format, "-O", "raw", d.File, to).CombinedOutput(); err != nil {
		e.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		e.Fatal(err)
	}
	return b
}

func (e *end) leaves(progress func([]qemu.CopyState)) *Source {
	return &Source{Hypervisor: e.Process, Link: e.link, Dir: e.dir, Memory: "move", Disks: both(), Progress: progress}
}

func (e *end) arrives() *Destination {
	return &Destination{Hypervisor: e.Process, Link: e.link, Dir: e.dir, Memory: "move", Disks: both()}
}

// arrive awaits the machine, and says why it does not come.
func (e *end) arrive() <-chan error {
	arrived := make(chan error, 1)
	go func() {
		err := e.arrives().Arrive(e.Context())
		if err != nil {
			e.link.Refuse(err) //nolint:errcheck // the source's error says it
			e.link.Close()
		}
		arrived <- err
	}()
	return arrived
}

// What the guest writes while its disks are copied is there too, and nobody writes here for
// it. When all is there nobody can write there but the machine. A copy that ends before leaves
// a machine that runs on its own disks, with nothing of the copy, and can be moved again.
func TestDisksAndMemoryArriveTogether(t *testing.T) {
	t.Parallel()
	a := machineHere(t, 0)
	a.failsToLeave("the destination dies", func(b *end, _ func(), _ bool) bool { b.Kill(); return true })
	a.failsToLeave("the source calls it off", func(_ *end, cancel func(), _ bool) bool { cancel(); return true })

	b := a.another()
	arrived := b.arrive()
	a.write(0, 0, 1024, 1)
	round := byte(2)
	err := a.leaves(func([]qemu.CopyState) {
		a.write(0, 4096, 2048, round)
		a.write(1, 64, 512, round)
		round++
	}).Leave(t.Context())
	if err != nil {
		t.Fatalf("Leave = %v", err)
	}
	if err := <-arrived; err != nil {
		t.Fatalf("Arrive = %v", err)
	}
	for _, e := range []*end{a, b} {
		if now, err := e.Status(t.Context()); err != nil || now == qemu.Running {
			t.Errorf("a machine that moves is %q, %v", now, err)
		}
	}
	if _, err := net.Dial("unix", filepath.Join(b.dir, copySocket)); err == nil {
		t.Error("its disks are still exported")
	}
	for disk := range 2 {
		if !bytes.Equal(a.reads(disk), b.reads(disk)) {
			t.Errorf("disk %d is another there", disk)
		}
	}
	if got := a.reads(0)[4096<<10]; got != round-1 {
		t.Errorf("the last pattern is %d, of %d", got, round-1)
	}
	if err := b.Continue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, err := b.Status(t.Context()); err != nil || now != qemu.Running {
		t.Errorf("it is %q there, %v", now, err)
	}
	b.write(1, 0, 64, 9)
}

// A destination that takes writes to disks and does not answer them has the hypervisor wait,
// and with it the guest, when it stops or resets that. It is given up soon, and the disks can
// be copied again: the first case comes before others since what it left behind kept them.
func TestASilentDestinationHoldsNoGuestUp(t *testing.T) {
	t.Parallel()
	a := machineHere(t, 300*time.Millisecond)
	for _, tc := range []struct {
		when    string
		happens func(b *end, ready bool) bool
	}{
		{"when the guest is stopped", func(b *end, ready bool) bool {
			b.hush.falls.Store(ready)
			if ready {
				a.write(0, 0, 1024, 6)
			}
			return ready
		}},
		{"while the guest resets", func(b *end, _ bool) bool {
			b.hush.falls.Store(true)
			a.write(0, 0, 1024, 6)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			a.Reset(ctx) //nolint:errcheck // it waits
			return true
		}},
	} {
		err := a.failsToLeave(tc.when, func(b *end, _ func(), ready bool) bool { return tc.happens(b, ready) })
		if !errors.Is(err, qemu.ErrSilent) {
			t.Errorf("%s: Leave = %v", tc.when, err)
		}
	}
}

// A copy that fails makes a pause, and is ended by who asked for it: QEMU ends none while it
// does something else. The failure is told also when the guest was stopped and goes on.
func TestACopyThatFailsPauses(t *testing.T) {
	t.Parallel()
	a := machineHere(t, 0)
	fails := func() bool {
		_, err := a.Copies(a.Context())
		return errors.Is(err, qemu.ErrCopy)
	}
	err := a.failsToLeave("when the other host dies", func(b *end, _ func(), ready bool) bool {
		if !ready {
			return false
		}
		b.Kill()
		<-b.Done()
		a.write(0, 0, 64, 6)
		for deadline := time.Now().Add(20 * time.Second); !fails() && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		}
		if err := errors.Join(a.Pause(a.Context()), a.Continue(a.Context())); err != nil {
			a.Error(err)
		}
		if !fails() {
			a.Error("the failure is not told any more")
		}
		var jobs []struct{ Status string }
		if err := a.Monitor().Do(a.Context(), "query-block-jobs", nil, &jobs); err != nil || len(jobs) != len(both()) {
			a.Errorf("jobs %v, %v", jobs, err)
		}
		if slices.ContainsFunc(jobs, func(j struct{ Status string }) bool { return j.Status == "concluded" }) {
			a.Errorf("QEMU has ended one: %v", jobs)
		}
		return true
	})
	if err == nil {
		t.Error("no error")
	}
}

// failsToLeave has something happen while disks are copied, once: it says when it has.
func (e *end) failsToLeave(what string, happens func(destination *end, cancel func(), ready bool) bool) error {
	e.Helper()
	b := e.another()
	arrived := b.arrive()
	ctx, cancel := context.WithCancel(e.Context())
	defer cancel()
	happened := false
	err := e.leaves(func(list []qemu.CopyState) {
		if !happened {
			ready := len(list) == len(both()) && !slices.ContainsFunc(list, func(c qemu.CopyState) bool { return !c.Ready })
			e.write(1, 64, 512, 7)
			happened = happens(b, cancel, ready)
		}
	}).Leave(ctx)
	if err == nil {
		e.Fatalf("%s: it leaves", what)
	}
	e.link.Close()
	if err := <-arrived; err == nil {
		e.Errorf("%s: it arrives", what)
	}
	b.Kill()
	if now, err := e.Status(e.Context()); err != nil || now != qemu.Running {
		e.Errorf("%s: the machine is %q, %v", what, now, err)
	}
	if list, err := e.Copies(e.Context()); err != nil || len(list) > 0 {
		e.Errorf("%s: there are the copies %+v, %v", what, list, err)
	}
	e.write(0, 0, 64, 8)
	if got := e.reads(1)[64<<10]; got != 7 {
		e.Errorf("%s: the disk has %d", what, got)
	}
	return err
}
