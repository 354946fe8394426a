package machine

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/move"
)

// What is decided of a machine while it leaves goes along, or is refused: nothing is answered
// as done that the other host does not hear.
func TestADecisionIsNotLostInAMove(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"it goes": false, "it cannot go": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.keepsFindings("one is open")
			slow := &slowBook{waits: make(chan struct{}), slow: "check"}
			b.root.cfg.Findings = slow
			a.guestWrites("old")
			a.create(func(d *fleet.Definition) {
				d.ApproveFirst = true
				d.Disks = []fleet.Disk{{File: a.disks()[0], Format: "qcow2", Bus: "virtio"}}
			})
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			review, err := a.root.Review(t.Context(), "web-1")
			if err != nil {
				t.Fatal(err)
			}
			there := b.awaits()
			b.script("await never\n")
			gone := make(chan error, 1)
			go func() { gone <- a.gives(t.Context(), "carol", there.ticket) }()
			if err := awaitFile(b.file(consoleFile)); err != nil { // all was said
				t.Fatal(err)
			}
			_, approved := a.root.Approve(t.Context(), "erik", "web-1", review.Seen, "it is good")
			_, restored := a.root.Restore(t.Context(), "erik", "web-1", 1, "it was good")
			for what, err := range map[string]error{"Approve": approved, "Restore": restored, "Reset": a.root.Reset(t.Context(), "erik", "web-1")} {
				var state *StateError
				if !errors.As(err, &state) || !strings.Contains(state.Words, "on its way to another host") {
					t.Errorf("%s = %v", what, err)
				}
			}
			if stays {
				slow.refuses("check")
			}
			close(slow.waits)
			if err := <-gone; (err != nil) != stays {
				t.Fatalf("Migrate = %v", err)
			}
			has := b
			if stays {
				has = a
			} else if err := s.wait(); err != nil {
				t.Error(err)
			}
			if _, err := has.root.Approve(t.Context(), "erik", "web-1", review.Seen, "it is good"); err != nil {
				t.Errorf("Approve where it is = %v", err)
			}
			h, err := has.root.History(t.Context(), "web-1")
			if err != nil || len(h.Versions) != 1 || h.Versions[0].Actor != "erik" {
				t.Errorf("the history is %+v, %v", h, err)
			}
			if stays {
				a.put(a.inRun("go"), "")
				if err := s.wait(); err != nil {
					t.Error(err)
				}
			}
			if err := there.over(); (err != nil) != stays {
				t.Error(err)
			}
		})
	}
}

// What the boot had of its time before a move that failed it has after it, and no more: also
// where the move fails when all was to be said, of a log that does not open.
func TestABootsTimeIsNotSpentStandingStill(t *testing.T) {
	t.Parallel()
	for name, damaged := range map[string]bool{"the other host refuses it": false, "its log is damaged": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create(func(d *fleet.Definition) { d.BootDeadline = 3 })
			synctest.Test(t, func(t *testing.T) {
				s := h.supervisor()
				s.armDeadline()
				late := func() bool {
					select {
					case <-s.deadline.C:
						return true
					default:
						return false
					}
				}
				time.Sleep(time.Second)
				if damaged {
					h.writeFile(eventsFile, []byte("damaged"))
				}
				d := &departure{supervisor: s, actor: "carol", ticket: &move.Ticket{Address: "there:1"}}
				s.leaving = d
				last, err := d.lastWords()
				if (err != nil) != damaged {
					t.Errorf("lastWords = %v", err)
				}
				if last.BootLeft == nil || *last.BootLeft != 2*time.Second {
					t.Errorf("the other host hears that the boot has %v left", last.BootLeft)
				}
				time.Sleep(time.Hour)
				if late() {
					t.Error("its time ended while it stood still")
				}
				stays := make(chan struct{})
				go func() { // the machine's loop
					defer close(stays)
					(<-s.todo)()
				}()
				if err := d.stayed(t.Context(), errors.New("refused"), nil); err == nil || !strings.Contains(err.Error(), "runs on here") {
					t.Errorf("stayed = %v", err)
				}
				<-stays
				time.Sleep(2*time.Second - 1)
				if late() {
					t.Error("it had less time than was left")
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if !late() {
					t.Error("it has time without end")
				}
				s.serving.Wait()
			})
		})
	}
}

// A hypervisor that takes long to let a machine go on, which is this host's now, ends neither
// it nor the wait of the host that it came from.
func TestAMachineThatCameWaitsForASlowHypervisor(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	b.root.pace.answer = 50 * time.Millisecond
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("print it runs\nawait off\noff\n")
	b.put(b.inRun(faultFile), "cont: wait\n")
	if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
		t.Errorf("Migrate = %v", err)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the source: %v", err)
	}
	a.hasNothing()
	b.awaitStatus("one that stands still", func(s *Status) bool { return s.State == StateRunning && s.Problem == standsStill })
	b.put(b.inRun(goOnFile), "")
	b.awaitPrinted("it runs")
	b.awaitStatus("one that runs", func(s *Status) bool { return s.State == StateRunning && s.Problem == "" })
	b.put(b.inRun("off"), "")
	if err := <-there.end; err != nil {
		t.Errorf("there: %v", err)
	}
}

// A machine that did not go, and whose hypervisor takes long or refuses, is asked to go on
// until it does. Whoever asked for the move hears so before, and so does the log.
func TestAMachineThatStaysIsAskedToGoOnUntilItDoes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{"it is slow": "migrate_cancel: wait\n", "it refuses": "cont: fail\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.root.pace.answer = 50 * time.Millisecond
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			b.script("await never\n")
			b.put(b.inRun(faultFile), "load: fail\n")
			a.put(a.inRun(faultFile), fault)
			if err := a.gives(t.Context(), "carol", there.ticket); err == nil || !strings.Contains(err.Error(), "stands still until") {
				t.Errorf("Migrate = %v", err)
			}
			a.awaitStatus("one that stands still", func(s *Status) bool { return s.State == StateRunning && s.Problem == standsStill })
			if n := a.awaitEvent(integrity.EventMigrated, 1); n.Reasons[0].Code != codeStayed || !strings.Contains(n.Reasons[0].Message, "stands still") {
				t.Errorf("the event is %+v", n)
			}
			a.put(a.inRun(faultFile), "")
			a.put(a.inRun(goOnFile), "")
			if n := a.awaitEvent(integrity.EventMigrated, 2); n.Reasons[0].Code != codeStayed || !strings.Contains(n.Reasons[0].Message, "runs on here") {
				t.Errorf("the event is %+v", n)
			}
			a.awaitStatus("one that runs", func(s *Status) bool { return s.State == StateRunning && s.Problem == "" })
			if _, err := a.root.Snapshot(t.Context(), "alice", "web-1", "one"); err != nil {
				t.Errorf("Snapshot = %v", err)
			}
			if err := there.over(); err == nil {
				t.Error("the other host has a machine")
			}
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A spoiledBook has the home of a host take no more events from when its findings are packed.
type spoiledBook struct {
	fakeBook
	spoil func() error
}

func (b *spoiledBook) Pack(ctx context.Context, machine string) ([]byte, error) {
	if err := b.spoil(); err != nil {
		return nil, err
	}
	return b.fakeBook.Pack(ctx, machine)
}

// A machine that the other host has is here no more, also where its last events cannot be
// kept.
func TestAMachineThatHasGoneIsNotHereForAFullDisk(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.root.cfg.Findings = &spoiledBook{spoil: func() error {
		return errors.Join(os.RemoveAll(a.file(pendingFile)), os.MkdirAll(filepath.Join(a.file(pendingFile), "x"), 0o700))
	}}
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
		t.Errorf("Migrate = %v", err)
	}
	if err := s.wait(); err == nil {
		t.Error("the supervisor does not say that events were not kept")
	}
	a.hasNothing()
	b.judgedIn(1)
	if err := there.over(); err != nil {
		t.Error(err)
	}
}

// A leavingBook has something done when the machine runs on the other host, before its home here
// is deleted.
type leavingBook struct {
	fakeBook
	then func() error
}

func (b *leavingBook) Depart(ctx context.Context, machine string) error {
	return errors.Join(b.then(), b.fakeBook.Depart(ctx, machine))
}

// Who gives a machine away waits for its home's end, and not for ever: where it cannot be
// deleted the command says so, with what keeps it, and --settle deletes it when that is mended.
func TestAHomeThatCannotBeDeletedKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(*host) (mend func() error, err error)
		words string
	}{
		"its key provider is down": {func(h *host) (func() error, error) {
			down := filepath.Join(h.dir, downFile)
			return func() error { return os.Remove(down) }, os.WriteFile(down, nil, 0o600)
		}, keyprovider.ErrUnavailable.Error()},
		"its disk is full": {func(h *host) (func() error, error) {
			file := h.file(custodyFile)
			return func() error { return os.RemoveAll(file) }, errors.Join(os.RemoveAll(file), os.MkdirAll(filepath.Join(file, "x"), 0o700))
		}, "its supervisor said why when it ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.root.pace.vacate = 50 * time.Millisecond
			var mend func() error
			a.root.cfg.Findings = &leavingBook{then: sync.OnceValue(func() (err error) {
				mend, err = tc.spoil(a)
				return err
			})}
			a.createWithDisks()
			s := a.start(boot(t, "good-uki"))
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			b.script("await never\n")
			err := a.gives(t.Context(), "carol", there.ticket)
			if err == nil {
				t.Fatalf("Migrate says that nothing of the machine is here; the supervisor ends with %v", s.wait())
			}
			for _, want := range []string{"runs on the other host", "--settle", "--give-up"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Migrate = %v, which does not say %q", err, want)
				}
			}
			if err := s.wait(); err == nil {
				t.Error("the supervisor does not say that the home is here still")
			}
			if why := a.root.whyHere(t.Context(), "web-1"); !strings.Contains(why.Error(), tc.words) {
				t.Errorf("what keeps it here: %v, want %q", why, tc.words)
			}
			b.judgedIn(1)
			if err := mend(); err != nil {
				t.Fatal(err)
			}
			if gone, err := a.root.Settle(t.Context(), "carol", "web-1"); !gone || err != nil {
				t.Errorf("Settle = %v, %v", gone, err)
			}
			a.hasNothing()
			if err := there.over(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who waits for the end of a machine which is deleted at its end, or is another by then, waits
// no more.
func TestTheEndOfAMachineThatIsGoneIsSeen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	card, err := h.root.Card("web-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := h.root.awaitEnd(t.Context(), card); err != nil {
		t.Errorf("of one that is gone: %v", err)
	}
	h.create()
	s := h.start(boot(t, "good-uki") + "await never\n")
	if err := h.root.awaitEnd(t.Context(), card); err != nil {
		t.Errorf("of one that is another: %v", err)
	}
	h.stop(s)
}

// Whoever has the home for a moment, to look or to wait, keeps nothing of a machine here that
// the other host has.
func TestAMachineThatHasGoneIsDeletedAfterALook(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	if err := home.write(givenFile, []byte("given")); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { closed <- home.Close() })
	err := h.root.deleteGiven(t.Context(), "carol", "web-1")
	if err := errors.Join(err, <-closed); err != nil {
		t.Error(err)
	}
	h.hasNothing()
}

// Who waits to delete what was given meets another machine of its name when somebody
// else deleted it first, and made one.
func TestAMachineThatWasNotGivenIsNotDeletedAsOne(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if err := h.root.deleteGiven(t.Context(), "carol", "web-1"); !errors.Is(err, ErrExists) {
		t.Errorf("deleteGiven = %v, want ErrExists", err)
	}
	if err := h.home().Close(); err != nil {
		t.Error(err)
	}
}

// A host that takes connections and says nothing keeps nobody: neither a dry run, nor a move,
// nor who asks it what became of one.
func TestAHostThatCannotBeReachedHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.root.pace.reach = 50 * time.Millisecond
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there := newHost(t).awaits()
	ticket, err := move.ParseTicket(there.ticket)
	if err != nil {
		t.Fatal(err)
	}
	ticket.Address = l.Addr().String()
	text, err := ticket.Text()
	if err != nil {
		t.Fatal(err)
	}
	for what, dry := range map[string]bool{"a dry run": true, "a move": false} {
		_, err := a.root.Migrate(t.Context(), "carol", "web-1", MigrateOptions{Ticket: text, DryRun: dry})
		if err == nil || !strings.Contains(err.Error(), "took longer than 50ms") {
			t.Errorf("%s = %v", what, err)
		}
	}
	if err := a.root.deliver(t.Context(), ticket, "x"); err == nil || !strings.Contains(err.Error(), "took longer than 50ms") {
		t.Errorf("the word that it was given = %v", err)
	}
	if _, err := a.root.Snapshot(t.Context(), "alice", "web-1", "one"); err != nil {
		t.Errorf("Snapshot = %v", err)
	}
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// Who waits for a machine to be gone hears that it is here again, and does not wait for an end
// that cannot be seen.
func TestWhoWaitsForAMachineThatStaysHearsWhereItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		running, given string // the files' contents; empty for none
		want           string
	}{
		"taken back":     {want: "was taken back meanwhile"},
		"given":          {given: "{}", want: "runs on the other host"},
		"an end unknown": {running: "x", given: "{}", want: "runs on the other host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.root.pace.vacate = 50 * time.Millisecond
			card, err := h.root.Card("web-1")
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{runningFile: c.running, givenFile: c.given} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(h.file(file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := h.root.awaitGone(ctx, card); err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("awaitGone = %v, want %q", err, c.want)
			}
		})
	}
}
