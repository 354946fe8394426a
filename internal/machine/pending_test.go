package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/vtpm"
)

// A log that cannot be opened anew takes no more events, and ends no supervisor. What could
// not be logged the next opening finds.
func TestALogThatCannotBeOpenedAnewEndsNoSupervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.supervisor()
	text := h.readFile(eventsFile)
	s.home.log.file = &closedLog{s.home.log.file, func() { os.Remove(h.file(eventsFile)) }}
	if err := s.home.turnLog(); err == nil {
		t.Fatal("a log without a file is open")
	}
	lost := integrity.Notice{Type: integrity.EventLost, Instance: "web-1", Time: time.Now()}
	for n := range uint64(3) {
		lost.BootCounter = n
		if err := s.tell([]integrity.Notice{lost}); err == nil || s.unkept == nil {
			t.Errorf("tell = %v, and %v is said to be wrong", err, s.unkept)
		}
	}
	h.writeFile(eventsFile, text)
	again := &Home{dir: s.home.dir, card: s.home.card, key: s.home.key, random: s.home.random}
	if err := errors.Join(again.openLog(), h.root.settle(t.Context(), again)); err != nil {
		t.Fatal(err)
	}
	defer again.log.close()
	if diff := cmp.Diff([]string{"0 " + lost.Type, "1 " + lost.Type, "2 " + lost.Type}, logged(t, again)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// logged are the events of a log.
func logged(t testing.TB, h *Home) (out []string) {
	t.Helper()
	all, err := h.Events()
	if err != nil {
		t.Error(err)
	}
	for _, n := range all {
		out = append(out, fmt.Sprintf("%d %s", n.BootCounter, n.Type))
	}
	return out
}

// A fullLog takes nothing while it is full.
type fullLog struct {
	logFile
	full bool
}

func (l *fullLog) WriteAt(b []byte, at int64) (int, error) {
	if l.full {
		return 0, syscall.ENOSPC
	}
	return l.logFile.WriteAt(b, at)
}

// What a log does not take waits, in order, and is in it before what happens later: where the
// disk has room again, where the supervisor ends before, and where it ends in between. The other
// host hears of it, too.
func TestWhatALogDoesNotTakeWaits(t *testing.T) {
	t.Parallel()
	want := func(n uint64) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("%d %s", i, integrity.EventLost))
		}
		return out
	}
	for name, tc := range map[string]struct {
		takes uint64 // how many events the log takes when there is room again
	}{"there is room again": {8}, "the supervisor ends before": {0}, "the supervisor ends in between": {2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			s := h.supervisor()
			full := &fullLog{s.home.log.file, false}
			s.home.log.file = full
			number := uint64(0)
			tell := func() error {
				defer func() { number++ }()
				return s.tell([]integrity.Notice{{Type: integrity.EventLost, Instance: "web-1", BootCounter: number, Time: time.Now()}})
			}
			if err := tell(); err != nil {
				t.Fatal(err)
			}
			full.full = true
			for range 4 {
				if err := tell(); err == nil || s.unkept == nil {
					t.Errorf("tell = %v, and %v is said to be wrong", err, s.unkept)
				}
			}
			if diff := cmp.Diff(want(1), logged(t, s.home)); diff != "" {
				t.Errorf("the log while it is full (-want +got):\n%s", diff)
			}
			if told, err := s.home.told(); err != nil || len(told) != 5 || told[4].BootCounter != 4 {
				t.Errorf("another host hears of %d events, %v", len(told), err)
			}
			if tc.takes > 0 {
				full.full = false
				if tc.takes < 8 {
					s.home.log.file = &countedLog{full, int(tc.takes)}
				}
				if err := tell(); (err == nil) != (tc.takes == 8) || (s.unkept == nil) != (tc.takes == 8) {
					t.Errorf("tell = %v, and %v is said to be wrong", err, s.unkept)
				}
			}
			again := &Home{dir: s.home.dir, card: s.home.card, key: s.home.key, random: s.home.random} // killed here
			for range 2 {
				if err := errors.Join(again.openLog(), h.root.settle(t.Context(), again)); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want(number), logged(t, again)); diff != "" {
					t.Errorf("the log at last (-want +got):\n%s", diff)
				}
				if err := again.log.close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A countedLog takes so many writes.
type countedLog struct {
	logFile
	left int
}

func (l *countedLog) WriteAt(b []byte, at int64) (int, error) {
	if l.left--; l.left < 0 {
		return 0, syscall.ENOSPC
	}
	return l.logFile.WriteAt(b, at)
}

// What waits is bounded, and what no longer fits is lost: that is said as long as it runs.
func TestAFullLogHoldsNoMoreThanSoMany(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	for name, n := range map[string]integrity.Notice{
		"many": {Type: integrity.EventLost}, "long": {Type: integrity.EventLost, Actor: strings.Repeat("x", 2<<20)},
	} {
		home := h.home()
		full := &fullLog{home.log.file, true}
		home.log.file = full
		for home.lost == 0 {
			if err := home.logOrWait(n); err == nil {
				t.Fatal("the log takes it")
			}
			if len(home.waiting) > maxWaiting || home.waits > maxWaitingBytes {
				t.Fatalf("%s: %d events of %d bytes wait", name, len(home.waiting), home.waits)
			}
		}
		if len(home.waiting) == 0 {
			t.Errorf("%s: none waits", name)
		}
		full.full = false
		if err := home.logOrWait(n); err == nil || !strings.Contains(err.Error(), "1 events are lost") {
			t.Errorf("%s: logOrWait = %v", name, err)
		}
		if len(home.waiting) != 0 || home.waits != 0 {
			t.Errorf("%s: %d events of %d bytes wait", name, len(home.waiting), home.waits)
		}
		h.close(home)
	}
}

func TestAHomeWithoutALogBeginsNoChange(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	defer h.close(home)
	if err := home.log.close(); err != nil {
		t.Fatal(err)
	}
	home.log = nil
	if err := home.keep(new(integrity.History), []integrity.Notice{{}}); !errors.Is(err, ErrDamaged) {
		t.Errorf("keep = %v", err)
	}
}

// A closedLog has something done when it is closed.
type closedLog struct {
	logFile
	then func()
}

func (l *closedLog) Close() error {
	err := l.logFile.Close()
	l.then()
	return err
}

// Whoever asks, by whatever name: the event is in the log, and the home opens.
func TestAnEventOfALongNameIsInTheLog(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	carol := strings.Repeat("<", 2<<20)
	home := h.home()
	s := newSupervisor(h.root, home)
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.tell([]integrity.Notice{{Type: integrity.EventMigrated, Instance: "web-1", Actor: carol}}); err != nil {
		t.Errorf("tell = %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	// As an older version left it.
	text, err := json.Marshal(pending{Record: digestOf(h.plain(home, integrityFile)), Number: home.log.next, Notices: []integrity.Notice{{Type: integrity.EventLost, Actor: carol}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := home.write(pendingFile, text); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	for range 2 {
		if got := h.found(); !slices.Equal(got, []string{"0 " + integrity.EventMigrated, "0 " + integrity.EventLost}) {
			t.Errorf("the log: %q", got)
		}
	}
}

// found are the events of web-1 once its home was opened, so that what was cut short is found.
func (h *host) found() []string {
	h.Helper()
	h.close(h.home())
	return h.types()
}

// plain is the text of a file of the home.
func (h *host) plain(home *Home, file string) []byte {
	h.Helper()
	text, err := home.read(file)
	if err != nil {
		h.Fatal(err)
	}
	return text.Expose()
}

func (h *host) secrets() vtpm.SecretsID {
	h.Helper()
	rec, err := h.root.cfg.TPMs.Owned(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	return rec.Secrets
}

func TestATPMIsNotClearedWhereItsEventCannotBeKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	before := h.secrets()
	text := h.readFile(integrityFile)
	h.writeFile(integrityFile, []byte("?"))
	if err := h.root.ClearTPM(t.Context(), "eve", "web-1"); err == nil {
		t.Error("no error")
	}
	h.writeFile(integrityFile, text)
	now := h.root.cfg.Now
	h.root.cfg.Now = func() time.Time { // the disk is full
		os.MkdirAll(filepath.Join(h.file(pendingFile), "x"), 0o700)
		return now()
	}
	if err := h.root.ClearTPM(t.Context(), "eve", "web-1"); err == nil {
		t.Error("no error")
	}
	h.root.cfg.Now = now
	if err := os.RemoveAll(h.file(pendingFile)); err != nil {
		t.Fatal(err)
	}
	if h.secrets() != before || len(h.found()) != 0 {
		t.Errorf("it is cleared, and the log has %q", h.types())
	}
	if err := h.root.ClearTPM(t.Context(), "eve", "web-1"); err != nil {
		t.Fatal(err)
	}
	if got := h.event(integrity.EventClearTPM); h.secrets() == before || got.Actor != "eve" || len(got.Reasons) != 1 {
		t.Errorf("the event is %+v", got)
	}
	if _, err := os.Stat(h.file(pendingFile)); err == nil {
		t.Error("it would be logged again")
	}
}

// A clear that was killed is in the log where it took place, and only there; where nobody
// can say so the event says that.
func TestAClearThatWasCutShortIsInTheLog(t *testing.T) {
	t.Parallel()
	tpms := func(h *host) *vtpm.Root { return h.root.cfg.TPMs }
	cleared := func(h *host) error {
		_, err := tpms(h).Clear(h.Context(), "eve", "web-1")
		return err
	}
	for name, tc := range map[string]struct {
		then func(*host) error
		want string // in the event's reasons; empty for no event
	}{
		"before it": {func(*host) error { return nil }, ""},
		"after it":  {cleared, "was cleared"},
		"detached":  {func(h *host) error { return tpms(h).Detach(h.Context(), "eve", "web-1") }, "is not known"},
		"gone":      {func(h *host) error { return tpms(h).DeleteWith(h.Context(), "eve", "web-1", h.card().ID) }, "is not known"},
		"damaged":   {func(h *host) error { return os.WriteFile(tpms(h).StatePath("web-1"), []byte("?"), 0o600) }, "is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			home := h.home()
			if _, err := h.root.beginClear(t.Context(), home, "eve"); err != nil {
				t.Fatal(err)
			}
			h.close(home) // killed here
			if err := tc.then(h); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := h.found(); len(got) > 1 || (len(got) == 1) != (tc.want != "") {
					t.Fatalf("the log: %q", got)
				}
				if tc.want == "" {
					continue
				}
				if n := h.event(integrity.EventClearTPM); n.Actor != "eve" || n.Reasons[0].Code != codeCleared || !strings.Contains(n.Reasons[0].Message, tc.want) {
					t.Errorf("the event is %+v", n)
				}
			}
		})
	}
}

func (h *host) card() *Card {
	h.Helper()
	c, err := h.root.Card("web-1")
	if err != nil {
		h.Fatal(err)
	}
	return c
}

func TestAClearThatWasCutShortWaitsForATPMInUse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	if _, err := h.root.beginClear(t.Context(), home, "eve"); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	if _, err := h.root.cfg.TPMs.Clear(t.Context(), "eve", "web-1"); err != nil {
		t.Fatal(err)
	}
	use, err := h.root.cfg.TPMs.Open(t.Context(), "web-1", "dora")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Open(t.Context(), "web-1"); !errors.Is(err, ErrBusy) {
		t.Errorf("Open = %v", err)
	}
	if err := use.Close(); err != nil {
		t.Fatal(err)
	}
	if got := h.found(); len(got) != 1 {
		t.Errorf("the log: %q", got)
	}
}

// What the list of snapshots says is in the log, once, wherever the power was lost.
func TestASnapshotIsThereWithItsEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	do := map[string]func(*Home) error{
		"made": func(home *Home) error {
			d, err := home.Definition()
			if err == nil {
				_, err = h.root.snapshotOff(t.Context(), home, d, "bob", "one")
			}
			return err
		},
		"deleted": func(home *Home) error {
			n, _, err := h.root.unshelve(home, "bob", "one")
			if err == nil {
				err = h.root.logLast(home, n)
			}
			return err
		},
	}
	for i, what := range []string{"made", "deleted"} {
		keep := func() map[string][]byte {
			out := h.files()
			if b, err := os.ReadFile(h.file(snapshotsFile)); err == nil {
				out[snapshotsFile] = b
			}
			return out
		}
		home := h.home()
		states := []map[string][]byte{keep()}
		home.log.file = &spiedLog{home.log.file, func() { states = append(states, keep()) }}
		if err := do[what](home); err != nil {
			t.Fatal(err)
		}
		h.close(home)
		states = append(states, keep())
		if len(states) != 3 {
			t.Fatalf("%d states, want three", len(states))
		}
		cut := maps.Clone(states[1]) // the event is to be logged, and the list is not written
		delete(cut, snapshotsFile)
		if b, ok := states[0][snapshotsFile]; ok {
			cut[snapshotsFile] = b
		}
		for n, tc := range []struct {
			files map[string][]byte
			took  bool
		}{{states[0], false}, {cut, false}, {states[1], true}, {states[2], true}} {
			os.Remove(h.file(snapshotsFile))
			h.putFiles(tc.files)
			want := i
			if tc.took {
				want++
			}
			for range 2 {
				if got := h.found(); len(got) != want {
					t.Errorf("%s, state %d: the log has %q, want %d events", what, n, got, want)
				}
			}
			list, err := h.root.Snapshots(t.Context(), "web-1")
			if is := (len(list) == 1) == (what == "made"); err != nil || is != tc.took {
				t.Errorf("%s, state %d: %d snapshots, %v", what, n, len(list), err)
			}
		}
	}
}

// The same of a machine that runs, whose supervisor is killed.
func TestASnapshotOfARunningMachineIsThereWithItsEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	s := h.start(boot(t, "good-uki") + "await go\noff\n")
	h.awaitEvent(integrity.EventLateReport, 1)
	for i, do := range []func() error{
		func() error { _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "one"); return err },
		func() error { return h.root.DropSnapshot(t.Context(), "bob", "web-1", "one") },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if n := h.awaitEvent(integrity.EventSnapshot, i+1); n.Actor != "bob" {
			t.Errorf("the event is %+v", n)
		}
		var p pending
		if err := h.root.glance(t.Context(), h.card(), func(home *Home) error { return json.Unmarshal(h.plain(home, pendingFile), &p) }); err != nil {
			t.Fatal(err)
		}
		if p.Shelf == "" || len(p.Notices) != 1 || p.Notices[0].Type != integrity.EventSnapshot {
			t.Errorf("what was to be logged: %+v", p)
		}
	}
	h.put(h.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A machine is taken back with its event, wherever the power was lost.
func TestAMachineIsTakenBackWithItsEvent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		do    func(*host, *Home) error
		taken bool
	}{
		"cut before it": {func(_ *host, home *Home) error {
			return home.pend(&pending{Taken: true, Notices: []integrity.Notice{{Type: integrity.EventMigrated}}})
		}, false},
		"cut after it": {func(_ *host, home *Home) error {
			return errors.Join(home.pend(&pending{Taken: true, Notices: []integrity.Notice{{Type: integrity.EventMigrated}}}), home.take())
		}, true},
		"a disk that is full": {func(h *host, home *Home) error {
			now := h.root.cfg.Now
			defer func() { h.root.cfg.Now = now }()
			h.root.cfg.Now = func() time.Time {
				os.MkdirAll(filepath.Join(h.file(pendingFile), "x"), 0o700)
				return now()
			}
			if err := errors.Join(home.Close(), h.root.TakeBack(context.Background(), "carol", "web-1")); err == nil {
				return errors.New("it is taken back")
			}
			return os.RemoveAll(h.file(pendingFile))
		}, false},
		"a long name": {func(h *host, home *Home) error {
			return errors.Join(home.Close(), h.root.TakeBack(context.Background(), strings.Repeat("x", 2<<20), "web-1"))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			home := h.home()
			if err := (&departure{supervisor: newSupervisor(h.root, home), ticket: &move.Ticket{Address: "there:1"}}).give(); err != nil {
				t.Fatal(err)
			}
			if err := tc.do(h, home); err != nil {
				t.Fatal(err)
			}
			home.Close() //nolint:errcheck // killed here
			for range 2 {
				got := h.found()
				away, err := h.root.givenAway("web-1")
				if err != nil || away == tc.taken || (len(got) == 1) != tc.taken {
					t.Errorf("given away: %v, %v; the log: %q", away, err, got)
				}
			}
		})
	}
}

// failing gives no randomness while a file is there.
type failing struct {
	io.Reader
	file  string
	fails atomic.Bool
}

func (f *failing) Read(b []byte) (int, error) {
	if _, err := os.Lstat(f.file); err == nil && f.fails.Load() {
		return 0, errors.New("the test says so")
	}
	return f.Reader.Read(b)
}

// While a machine that comes waits to be given, which may take half an hour and end in a refusal,
// its findings are none of this host's.
func TestFindingsOfAMachineThatIsNotGivenYetAreNotUnpacked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	book := h.keepsFindings("")
	h.create()
	home := h.home()
	defer h.close(home)
	if err := home.shelve([]byte("one is open"), time.Now()); err != nil {
		t.Fatal(err)
	}
	card := h.readFile(cardFile)
	if err := os.Remove(h.file(cardFile)); err != nil { // as it is until the machine is this host's
		t.Fatal(err)
	}
	h.root.unpack(t.Context(), home) // as the machine's loop does every 30 seconds
	book.is(t, "")
	h.writeFile(cardFile, card)
	h.root.unpack(t.Context(), home)
	book.is(t, "one is open", "unpack")
}
