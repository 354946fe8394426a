package machine

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
)

// A fakeBook is the book of findings of a host: what it has of web-1, and what was asked of it.
type fakeBook struct {
	mu     sync.Mutex // guards what follows
	text   string
	asked  []string
	refuse string // what is asked in vain
	since  Stay   // what happened before the findings were taken
}

func (b *fakeBook) do(what string, change func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse == what {
		return errors.New("the book says no")
	}
	b.asked = append(b.asked, what)
	change()
	return nil
}

func (b *fakeBook) Pack(context.Context, string) (out []byte, err error) {
	err = b.do("pack", func() { out = []byte(b.text) })
	return out, err
}

func (b *fakeBook) Check(string, []byte) error { return b.do("check", func() {}) }

func (b *fakeBook) Unpack(_ context.Context, _ string, parcel []byte, since Stay) error {
	return b.do("unpack", func() { b.text, b.since = string(parcel), since })
}

func (b *fakeBook) Depart(context.Context, string) error {
	return b.do("depart", func() { b.text = "" })
}

func (b *fakeBook) is(t *testing.T, text string, asked ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff(asked, b.asked); b.text != text || diff != "" {
		t.Errorf("the book has %q, want %q; asked (-want +got):\n%s", b.text, text, diff)
	}
}

func (b *fakeBook) refuses(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = what
}

// keepsFindings gives a host a book.
func (h *host) keepsFindings(text string) *fakeBook {
	b := &fakeBook{text: text}
	h.root.cfg.Findings = b
	return b
}

// What the console printed and what was found go with a machine.
func TestAllOfAMachineGoesWithIt(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	here, there := a.keepsFindings("one is open"), b.keepsFindings("")
	a.createWithDisks()
	s := a.start(refusal + "print \x1b[1mhello from here\n" + boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	awaiting := b.awaits()
	b.script("print hello from there\nawait off\noff\n")
	if err := a.gives(t.Context(), "carol", awaiting.ticket); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	here.is(t, "", "pack", "depart")
	there.is(t, "one is open", "check", "unpack")
	b.awaitPrinted("UEFI: Failed to load image", "hello from here", "hello from there")
	if status := b.status(); len(status.Boot.Refused) != 0 || status.Boot.Phase != PhaseSystem {
		t.Errorf("the status there is %+v", status.Boot)
	}
	if _, err := os.Lstat(b.file(parcelFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is in the book is in the home, too: %v", err)
	}
	b.put(b.inRun("off"), "")
	if err := <-awaiting.end; err != nil {
		t.Error(err)
	}
	b.awaitPrinted("hello from here", "hello from there")
}

// awaitPrinted waits until the text of the console has these words, in this order.
func (h *host) awaitPrinted(words ...string) {
	h.Helper()
	var text string
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		var err error
		if text, err = h.root.ConsoleText(h.Context(), "web-1"); err != nil {
			h.Fatal(err)
		}
		rest, all := text, true
		for _, w := range words {
			_, after, ok := strings.Cut(rest, w)
			rest, all = after, all && ok
		}
		if all {
			return
		}
	}
	h.Fatalf("the console has %q, want %q", text, words)
}

// A book that cannot be read, or does not take what comes, keeps the machine where it is: no
// finding is lost.
func TestAMachineWhoseFindingsCannotGoStays(t *testing.T) {
	t.Parallel()
	for _, refuse := range []string{"pack", "check"} {
		t.Run(refuse, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			here, there := a.keepsFindings("one is open"), b.keepsFindings("")
			here.refuses(refuse)
			there.refuses(refuse)
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			awaiting := b.awaits()
			b.script("await never\n")
			if err := a.gives(t.Context(), "carol", awaiting.ticket); err == nil || !strings.Contains(err.Error(), "the book says no") || !strings.Contains(err.Error(), "runs on here") {
				t.Errorf("Migrate = %v", err)
			}
			if status := a.status(); status.State != StateRunning || status.Problem != "" {
				t.Errorf("the status is %+v", status)
			}
			if err := awaiting.over(); err == nil {
				t.Error("the other host has a machine")
			}
			b.hasNothing()
			there.is(t, "")
			if here.text != "one is open" {
				t.Errorf("the book here has %q", here.text)
			}
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// From the point of no return on the findings are in the machine's home, until the book has
// them: neither a book that fails nor a crash loses them. Until then the machine does not
// move on.
func TestFindingsThatCameAreKeptUntilTheBookHasThem(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.keepsFindings("one is open")
	there := b.keepsFindings("")
	there.refuses("unpack")
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	awaiting := b.awaits()
	b.script("await off\noff\n")
	if err := a.gives(t.Context(), "carol", awaiting.ticket); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if status := b.status(); status.State != StateRunning {
		t.Errorf("the status there is %+v", status)
	}
	back := a.awaits()
	if err := b.gives(t.Context(), "carol", back.ticket); err == nil || !strings.Contains(err.Error(), "not in this host's book yet") {
		t.Errorf("Migrate = %v", err)
	}
	if err := back.over(); err == nil {
		t.Error("the machine came back without its findings")
	}
	b.put(b.inRun("off"), "")
	if err := <-awaiting.end; err != nil {
		t.Error(err)
	}
	there.is(t, "", "check")
	there.refuses("")
	b.close(b.home())
	there.is(t, "one is open", "check", "unpack")
	b.close(b.home())
	there.is(t, "one is open", "check", "unpack")
	// What happened meanwhile goes with them, and nothing of what happened elsewhere.
	var since []string
	for _, n := range there.since.Events {
		since = append(since, n.Type)
	}
	if want := []string{integrity.EventMigrated, integrity.EventShutdown}; !slices.Equal(since, want) || there.since.Began.IsZero() {
		t.Errorf("since %s: events %q, want %q", there.since.Began, since, want)
	}
	h := b.home()
	if err := h.write(parcelFile, []byte(`{"format": "of before"}`)); err != nil {
		t.Fatal(err)
	}
	b.close(h)
	b.close(b.home())
	if there.text != `{"format": "of before"}` || len(there.since.Events) != 0 || !there.since.Began.IsZero() {
		t.Errorf("a parcel of an older version: %q, since %+v", there.text, there.since)
	}
}

// after has a host's clock go ahead from now on.
func (h *host) after(d time.Duration) {
	h.clock.Store(int64(d))
}

// A boot that does not get on has no more time on another host than it had left, and what
// was said of it is not said again.
func TestABootsTimeGoesOnAfterAMove(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		deadline int
		passed   time.Duration
		stuck    bool
	}{
		"it ends there":    {600, 600*time.Second - 300*time.Millisecond, false},
		"it was said here": {1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.create(func(d *fleet.Definition) { d.BootDeadline = tc.deadline })
			s := a.start(refusal + "await never\n")
			a.awaitEvent(integrity.EventStartup, 1)
			a.awaitPrinted("Access Denied")
			if tc.stuck {
				a.awaitEvent(integrity.EventStuck, 1)
			}
			a.after(tc.passed)
			awaiting := b.awaits()
			b.script("await never\n")
			if err := a.gives(t.Context(), "carol", awaiting.ticket); err != nil {
				t.Fatal(err)
			}
			if err := s.wait(); err != nil {
				t.Error(err)
			}
			if !tc.stuck {
				if n := b.awaitEvent(integrity.EventStuck, 1); !slices.ContainsFunc(n.Reasons, isRefusal) {
					t.Errorf("the event has not the console's words: %+v", n.Reasons)
				}
			}
			b.saysNoMore(tc.stuck, 1300*time.Millisecond) // than a new deadline would take
			if status := b.status(); status.Boot.Phase != PhaseStuck || status.Boot.Counter != 1 {
				t.Errorf("the status there is %+v", status.Boot)
			}
			if err := awaiting.over(); err != nil {
				t.Error(err)
			}
			want := []string{"1 startupEvent", "1 bootDeadlineEvent", "1 migrationEvent", "1 shutdownEvent"}
			if !tc.stuck {
				want[1], want[2] = want[2], want[1]
			}
			b.want(want...)
		})
	}
}

func isRefusal(r evidence.Reason) bool {
	return r.Code == "serial.secure-boot-refused" || r.Code == "serial.grub-refused"
}

// Words of a refusal that are too new to be believed are believed by the host that has the
// machine then, and by no other.
func TestAMachineMovesWhileWordsOfARefusalWait(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"it goes": false, "it cannot go": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			if stays {
				a.keepsFindings("").refuses("pack")
			}
			a.createWithDisks()
			s := a.start("print error: bad shim signature.\nawait never\n")
			a.awaitEvent(integrity.EventStartup, 1)
			a.awaitPrinted("bad shim signature")
			awaiting := b.awaits()
			b.script("await never\n")
			err := a.gives(t.Context(), "carol", awaiting.ticket)
			has, want := b, []string{"1 bootRefusedEvent", "1 migrationEvent", "1 shutdownEvent", "1 startupEvent"}
			if stays {
				has = a
			} else if err := s.wait(); err != nil {
				t.Error(err)
			}
			if (err != nil) != stays {
				t.Fatalf("Migrate = %v", err)
			}
			n := has.awaitEvent(integrity.EventRefused, 1)
			if status := has.status(); !slices.ContainsFunc(n.Reasons, isRefusal) || status.Boot.Phase != PhaseRefused {
				t.Errorf("the event is %+v, the status %+v", n, status.Boot)
			}
			if stays {
				a.stop(s)
			}
			if err := awaiting.over(); (err != nil) != stays {
				t.Error(err)
			}
			got := has.types() // in any order: a host that is slow believes the words before the move
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
		})
	}
}

// saysNoMore looks for a while whether a boot that was told as stuck is told so again.
func (h *host) saysNoMore(look bool, while time.Duration) {
	h.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(while); look && time.Now().Before(end); <-tick.C {
		h.mu.Lock()
		again := slices.ContainsFunc(h.events, func(n integrity.Notice) bool { return n.Type == integrity.EventStuck })
		h.mu.Unlock()
		if again {
			h.Fatal("what was said on the other host is said again")
		}
	}
}

// An agent that does not answer is told by the host that has the machine now, in the time
// that it had left; while the machine is on its way no time passes.
func TestASilentAgentIsToldByTheNewHost(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.create(func(d *fleet.Definition) { d.Agent = true })
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	a.guestPort()
	a.after(4*time.Minute + 55*time.Second) // of the five that an agent has after a start
	a.put(a.inRun(faultFile), "migrate: wait\n")
	awaiting := b.awaits()
	b.script("await never\n")
	gone := make(chan error, 1)
	go func() { gone <- a.gives(context.Background(), "carol", awaiting.ticket) }()
	if err := awaitFile(a.inRun(waitsFile)); err != nil {
		t.Fatal(err)
	}
	port := b.guestPort()
	b.after(20 * time.Minute) // the machine is long on its way
	b.noise(port)
	b.noise(port)
	a.put(a.inRun(goOnFile), "")
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if status := b.status(); status.Health == nil || status.Health.State != health.Unknown {
		t.Errorf("the health is %+v", status.Health)
	}
	b.after(20*time.Minute + 11*time.Second) // ten seconds are the least that it is given
	b.noise(port)
	n := b.awaitEvent(integrity.EventAttestation, 1)
	if n.Health != string(health.Silent) || !strings.Contains(n.Reasons[0].Message, "had left when the machine came from another host") {
		t.Errorf("the event is %+v", n)
	}
	if err := awaiting.over(); err != nil {
		t.Error(err)
	}
}

// guestPort is the guest's end of the agent's port, to which the host has greeted.
func (h *host) guestPort() net.Conn {
	h.Helper()
	if err := awaitFile(h.inRun(agentSocket)); err != nil {
		h.Fatal(err)
	}
	c, err := net.Dial("unix", h.inRun(agentSocket))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { c.Close() })
	if _, err := c.Read(make([]byte, 1)); err != nil {
		h.Fatal(err)
	}
	return c
}

// noise is a line that is no message: who reads it looks at the clock.
func (h *host) noise(c net.Conn) {
	h.Helper()
	if _, err := c.Write([]byte("noise\n")); err != nil {
		h.Fatal(err)
	}
}

// comesTo finds the boot that the machine is in after its start.
func (h *host) comesTo(want uint64) {
	h.Helper()
	if n, err := h.root.NextBoot(h.Context(), "web-1"); err != nil || n != want {
		h.Errorf("NextBoot = %d, %v, want %d", n, err, want)
	}
}

// The words of a console that another host says are no longer than an event's.
func TestWordsOfAnotherHostAreBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	a := &arrival{root: h.root, supervisor: h.supervisor()}
	a.supervisor.boot.Phase = PhaseFirmware
	last := &lastWords{Phase: PhaseRefused}
	for range 100 {
		last.Refused = append(last.Refused, reason("serial.x", strings.Repeat("x", 1<<20)))
	}
	a.goesOnIn(last)
	refused := a.supervisor.boot.Refused
	if len(refused) != maxFindings {
		t.Errorf("%d words are kept, want %d", len(refused), maxFindings)
	}
	for _, r := range refused {
		if n := len(r.Message); n > 2048 {
			t.Errorf("one has %d bytes", n)
		}
	}
}
