package machine

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/diskcopy"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
)

// A slowBook is a book of findings that waits before it does one thing.
type slowBook struct {
	fakeBook
	slow  string        // what
	waits chan struct{} // closed when it may go on
}

func (b *slowBook) wait(what string) {
	if b.slow == what {
		<-b.waits
	}
}

func (b *slowBook) Pack(ctx context.Context, machine string) ([]byte, error) {
	b.wait("pack")
	return b.fakeBook.Pack(ctx, machine)
}

func (b *slowBook) Check(machine string, parcel []byte) error {
	b.wait("check")
	return b.fakeBook.Check(machine, parcel)
}

func (b *slowBook) Unpack(ctx context.Context, machine string, parcel []byte, since Stay) error {
	b.wait("unpack")
	return b.fakeBook.Unpack(ctx, machine, parcel, since)
}

// A machine that stands still waits minutes for the other host, however long its disks may
// take before that, and goes on.
func TestAHostThatSaysNothingMoreHoldsAMachineForMinutes(t *testing.T) {
	t.Parallel()
	a, b := apartHosts(t)
	a.root.pace.still = 50 * time.Millisecond
	a.keepsFindings("one is open")
	slow := &slowBook{waits: make(chan struct{}), slow: "check"}
	b.root.cfg.Findings = slow
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	err := a.gives(t.Context(), "carol", there.ticket)
	if err == nil || !strings.Contains(err.Error(), "runs on here") || !strings.Contains(err.Error(), "took longer than 50ms") {
		t.Errorf("Migrate = %v", err)
	}
	if status := a.status(); status.State != StateRunning || status.Problem != "" {
		t.Errorf("the status is %+v", status)
	}
	close(slow.waits)
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A source that says nothing more has the other host wait for minutes.
func TestASourceThatSaysNothingMoreIsNotAwaited(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	b.root.pace.still = 50 * time.Millisecond
	slow := &slowBook{waits: make(chan struct{}), slow: "pack"}
	a.root.cfg.Findings = slow
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	gone := make(chan error, 1)
	go func() { gone <- a.gives(t.Context(), "carol", there.ticket) }()
	b.awaitNothing()
	close(slow.waits)
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "runs on here") {
		t.Errorf("Migrate = %v", err)
	}
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A source that connects and says nothing keeps no other from bringing the machine.
func TestASourceThatSaysNothingIsNotAwaited(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.root.pace.memory = 50 * time.Millisecond
	there := h.awaits()
	ticket, err := move.ParseTicket(there.ticket)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		link, err := h.root.dial(t.Context(), ticket)
		if err != nil {
			t.Fatal(err)
		}
		var refused *move.PeerError
		if err := link.Receive(new(accepted)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "took longer than 50ms") {
			t.Errorf("the other host says %v", err)
		}
		link.Close()
	}
	if err := there.over(); err == nil {
		t.Error("a machine came")
	}
}

// awaitNothing waits until a machine has come, and nothing is left of it.
func (h *host) awaitNothing() {
	h.Helper()
	home := filepath.Join(h.dir, "vms", "web-1", definitionFile)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for came, end := false, time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		_, err := os.Lstat(home)
		there := err == nil
		if came && !there {
			return
		}
		came = came || there
	}
	h.Fatal("the other host waits for ever")
}

// A host that was given a machine, and does not say that it runs, is asked for its time. Then
// the home is given back, and the operator says where the machine is.
func TestAMachineWhoseHostDoesNotConfirmIsTheOperators(t *testing.T) {
	t.Parallel()
	a, b := apartHosts(t)
	a.root.pace.settle = 50 * time.Millisecond
	a.keepsFindings("one is open")
	late := &slowBook{waits: make(chan struct{}), slow: "unpack"}
	b.root.cfg.Findings = late
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("print it runs\nawait never\n")
	v, ticket := newValve(t, there.ticket)
	gone := make(chan error, 1)
	go func() { gone <- a.gives(t.Context(), "carol", ticket) }()
	if err := awaitFile(b.file(cardFile)); err != nil {
		t.Fatal(err)
	}
	v.cut()
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "--settle") {
		t.Fatalf("Migrate = %v", err)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the source: %v", err)
	}
	if n := a.event(integrity.EventShutdown); n.Actor != "carol" || n.Reasons[0].Code != codeStopped {
		t.Errorf("the event is %+v", n)
	}
	if err := a.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrGiven) {
		t.Errorf("Run = %v", err)
	}
	if err := a.root.GiveUp(t.Context(), "carol", "web-1"); err != nil {
		t.Errorf("GiveUp = %v", err)
	}
	a.hasNothing()
	close(late.waits)
	b.awaitPrinted("it runs")
	if err := there.over(); err != nil {
		t.Error(err)
	}
}

// A machine that has come, and that its source does not give, is not kept for it: the source
// hears so, and has it go on.
func TestAMachineThatIsNotGivenIsNotKeptForEver(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	b.root.pace.given = 50 * time.Millisecond
	a.keepsFindings("one is open")
	slow := &slowBook{waits: make(chan struct{}), slow: "check"}
	b.root.cfg.Findings = slow
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	v, ticket := newValve(t, there.ticket)
	gone := make(chan error, 1)
	go func() { gone <- a.gives(t.Context(), "carol", ticket) }()
	if err := awaitFile(b.file(consoleFile)); err != nil {
		t.Fatal(err)
	}
	v.mute.Store(true) // all was said of the machine but that it is given
	close(slow.waits)
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "runs on here") {
		t.Errorf("Migrate = %v", err)
	}
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	b.hasNothing()
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A valve passes one connection on, until it is mute for what the source says, or cut.
type valve struct {
	mute  atomic.Bool
	l     net.Listener
	mu    sync.Mutex // guards conns
	conns []net.Conn
	done  sync.WaitGroup
}

// newValve listens in front of a ticket's address, and returns a ticket for itself.
func newValve(t testing.TB, ticket []byte) (*valve, []byte) {
	t.Helper()
	k, err := move.ParseTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	v := new(valve)
	if v.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	to := k.Address
	k.Address = v.l.Addr().String()
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	v.done.Go(func() { v.serve(to) })
	t.Cleanup(v.cut)
	return v, text
}

func (v *valve) serve(to string) {
	in, err := v.l.Accept()
	if err != nil {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		in.Close()
		return
	}
	v.mu.Lock()
	v.conns = []net.Conn{in, out}
	v.mu.Unlock()
	v.done.Go(func() {
		io.Copy(in, out) //nolint:errcheck // it ended
		in.Close()
	})
	defer out.Close()
	buf := make([]byte, 1<<15)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		if !v.mute.Load() {
			out.Write(buf[:n]) //nolint:errcheck // it ended
		}
	}
}

func (v *valve) cut() {
	v.l.Close()
	v.mu.Lock()
	for _, c := range v.conns {
		c.Close()
	}
	v.mu.Unlock()
	v.done.Wait()
}

// Who has the ticket of a machine that came is heard as long as its source may ask, and no
// longer.
func TestATicketThatWasUsedIsNotHeardForEver(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	b.root.pace.heard = 50 * time.Millisecond
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	ticket, err := move.ParseTicket(there.ticket)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		c, err := net.Dial("tcp", ticket.Address)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(end) {
			t.Fatal("the ticket's address is still served")
		}
	}
	if err := there.over(); err != nil {
		t.Error(err)
	}
}

// A disk that is only read, and was made by the program, comes as a file of its name; a file
// that would be removed before is refused.
func TestADiskThatIsReadIsFoundByTheOperatorsWord(t *testing.T) {
	t.Parallel()
	made := func(name string) string { return filepath.Join("/elsewhere", name, diskFolder, "disk1.raw") }
	for name, tc := range map[string]struct {
		file  string
		known []string
		want  string // none for a disk that is not found
	}{
		"its path":             {"/a/b.iso", []string{"/c/b.iso", "/a/b.iso"}, "/a/b.iso"},
		"its name alone":       {"/a/b.iso", []string{"/c/b.iso"}, ""},
		"made":                 {made("web-1"), []string{"/x/other", "/x/disk1.raw"}, "/x/disk1.raw"},
		"made, of two":         {made("web-1"), []string{"/x/disk1.raw", "/y/disk1.raw"}, ""},
		"made, not named":      {made("web-1"), []string{"/x/disk2.raw"}, ""},
		"made for another":     {made("web-2"), []string{"/x/disk1.raw"}, ""},
		"in no folder of ours": {"/web-1/disk1.raw", []string{"/x/disk1.raw"}, ""},
	} {
		d := &fleet.Disk{File: tc.file, ReadOnly: true}
		found := diskcopy.Find(tc.known, d, ownDisk("web-1", tc.file))
		if found != (tc.want != "") || found && d.File != tc.want || !found && d.File != tc.file {
			t.Errorf("%s: found %v, %q", name, found, d.File)
		}
	}
	h := newHost(t)
	for file, refused := range map[string]bool{
		h.root.DiskPath("web-1", "disk1.raw"): true, filepath.Join(h.dir, "vms", "web-1", "x"): true,
		filepath.Join(h.dir, "vms", "web-10", "x"): false, filepath.Join(h.dir, "x"): false,
	} {
		if err := h.root.checkKnown(&ReceiveOptions{Name: "web-1", Known: []string{file}}); (err != nil) != refused {
			t.Errorf("checkKnown(%q) = %v", file, err)
		}
	}
}
