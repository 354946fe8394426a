package machine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
)

// A cutter passes connections on, and cuts the first one after so many bytes from one
// side.
type cutter struct {
	testing.TB
	l      net.Listener
	to     string
	limit  int64
	back   bool // what the destination says is cut
	passed atomic.Int64
	first  atomic.Bool
	done   sync.WaitGroup
}

// cut listens in front of a ticket's address, and returns a ticket for itself.
func cut(t testing.TB, ticket []byte, limit int64, back bool) (*cutter, []byte) {
	t.Helper()
	k, err := move.ParseTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{TB: t, l: l, to: k.Address, limit: limit, back: back}
	c.first.Store(true)
	c.done.Go(c.serve)
	t.Cleanup(func() {
		l.Close()
		c.done.Wait()
	})
	k.Address = l.Addr().String()
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	return c, text
}

func (c *cutter) serve() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			in.Close()
			continue
		}
		limited := c.first.Swap(false)
		c.done.Go(func() { c.pass(out, in, limited && !c.back) })
		c.done.Go(func() { c.pass(in, out, limited && c.back) })
	}
}

func (c *cutter) pass(to, from net.Conn, limited bool) {
	defer to.Close()
	defer from.Close()
	if limited {
		n, _ := io.CopyN(to, from, c.limit) //nolint:errcheck // it ended before
		c.passed.Store(n)
		return
	}
	io.Copy(to, from) //nolint:errcheck // it ended
}

// A connection that breaks at whatever point leaves the machine on one host, and says on
// which.
func TestAConnectionThatBreaksAnywhereLosesNothing(t *testing.T) {
	t.Parallel()
	for side, back := range map[string]bool{"what the source says": false, "what the destination says": true} {
		whole := moveCut(t, 1<<40, back)
		limits := []int64{100, whole / 2}
		for near := int64(0); near < 6000; near = near*12 + 60 {
			limits = append(limits, whole-near)
		}
		for _, limit := range limits {
			t.Run(fmt.Sprintf("%s, after %d of %d bytes", side, limit, whole), func(t *testing.T) {
				t.Parallel()
				moveCut(t, limit, back)
			})
		}
	}
}

// moveCut moves a machine over a connection that breaks after so many bytes, and returns
// how many there were.
func moveCut(t *testing.T, limit int64, back bool) int64 {
	t.Helper()
	a, b := newHost(t), newHost(t)
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await go\noff\n")
	c, ticket := cut(t, there.ticket, limit, back)
	err := a.gives(t.Context(), "carol", ticket)
	if err == nil {
		a.hasNothing()
		if status := b.status(); status.State != StateRunning || status.Boot.Counter != 1 || status.Boot.Late == nil || !*status.Boot.Late {
			t.Errorf("cut after %d bytes: the status there is %+v of boot %+v", limit, status, status.Boot)
		}
		if err := s.wait(); err != nil {
			t.Errorf("cut after %d bytes: the source: %v", limit, err)
		}
		if err := there.over(); err != nil {
			t.Errorf("cut after %d bytes: there: %v", limit, err)
		}
		return c.passed.Load()
	}
	if !strings.Contains(err.Error(), "runs on here") {
		t.Errorf("cut after %d bytes: Migrate = %v", limit, err)
	}
	if err := there.over(); err == nil {
		t.Errorf("cut after %d bytes: the other host has a machine", limit)
	}
	b.hasNothing()
	if status := a.status(); status.State != StateRunning || status.Problem != "" {
		t.Errorf("cut after %d bytes: the status is %+v", limit, status)
	}
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Errorf("cut after %d bytes: %v", limit, err)
	}
	return c.passed.Load()
}

// A machine that was given to a host which does not confirm stands still, is not started
// again, and goes on here by that host's or an operator's word alone.
func TestAMachineThatIsInDoubtIsNotStarted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	h.run(boot(t, "good-uki"))
	there := newHost(t).awaits()
	home, err := h.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := move.ParseTicket(there.ticket)
	if err != nil {
		t.Fatal(err)
	}
	give := func(home *Home) {
		t.Helper()
		d := &departure{supervisor: newSupervisor(h.root, home), actor: "carol", ticket: ticket}
		if err := errors.Join(d.give(), home.Close()); err != nil || !d.given.Load() {
			t.Fatal(err)
		}
	}
	give(home)
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrGiven) {
		t.Errorf("Run = %v", err)
	}
	h.isLeftAlone()
	// The other host awaits the machine, and does not have it.
	if at, err := h.root.Settle(t.Context(), "carol", "web-1"); at || err != nil {
		t.Errorf("Settle = %v, %v", at, err)
	}
	if n := h.event(integrity.EventMigrated); n.Actor != "carol" || n.Reasons[0].Code != codeStayed || !strings.Contains(n.Reasons[0].Message, "says that it does not have it") {
		t.Errorf("the event is %+v", n)
	}
	if _, err := os.Lstat(h.file(pendingFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it would be logged again: %v", err)
	}
	h.run(boot(t, "good-uki"))

	if home, err = h.root.openSoon(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	give(home)
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	if at, err := h.root.Settle(t.Context(), "carol", "web-1"); at || err == nil {
		t.Errorf("Settle with nobody there = %v, %v", at, err)
	}
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrGiven) {
		t.Errorf("Run = %v", err)
	}
	if err := h.root.TakeBack(t.Context(), "carol", "web-1"); err != nil {
		t.Fatal(err)
	}
	if n := h.awaitEvent(integrity.EventMigrated, 2); n.Actor != "carol" || n.Reasons[0].Code != codeStayed || !strings.Contains(n.Reasons[0].Message, "by the word of an operator") {
		t.Errorf("the event is %+v", n)
	}
	h.run(boot(t, "good-uki"))
	if _, err := h.root.Settle(t.Context(), "carol", "web-1"); err == nil {
		t.Error("a machine that was not given is settled")
	}
}

// isLeftAlone tries all that changes or copies a machine, which was given to another host:
// it may run there, and what is here may be all that there is of it.
func (h *host) isLeftAlone() {
	h.Helper()
	if s := h.status(); s.State != StateStopped || !strings.Contains(s.Problem, "given to another host") {
		h.Errorf("the status is %+v", s)
	}
	ctx, r := h.Context(), h.root
	for what, do := range map[string]func() error{
		"Depart": func() error {
			d, err := r.Depart(ctx, "web-1")
			if err == nil {
				err = errors.Join(errors.New("departs"), d.Close())
			}
			return err
		},
		"Update": func() error {
			_, err := r.Update(ctx, "a", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error { d.CPUs++; return nil }})
			return err
		},
		"ClearTPM":     func() error { return r.ClearTPM(ctx, "a", "web-1") },
		"Snapshot":     func() error { _, err := r.Snapshot(ctx, "a", "web-1", "x"); return err },
		"DropSnapshot": func() error { return r.DropSnapshot(ctx, "a", "web-1", "x") },
		"GoBack":       func() error { return r.GoBack(ctx, "a", "web-1", "x", false) },
		"PlanNext":     func() error { return r.PlanNext(ctx, "a", "web-1", PlanOptions{}) },
		"DropPlan":     func() error { return r.DropPlan(ctx, "a", "web-1") },
		"Restore":      func() error { _, err := r.Restore(ctx, "a", "web-1", 1, "x"); return err },
		"Delete":       func() error { return r.Delete(ctx, "a", "web-1") },
	} {
		if err := do(); !errors.Is(err, ErrGiven) {
			h.Errorf("%s = %v", what, err)
		}
	}
}
