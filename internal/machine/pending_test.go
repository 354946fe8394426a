package machine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/vtpm"
)

// A log that cannot be opened anew takes no more events, and ends no supervisor. What could
// not be logged last the next opening finds.
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
	for range 2 {
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
	if all, err := again.Events(); err != nil || len(all) != 1 || all[0].Type != integrity.EventLost {
		t.Errorf("the log has %+v, %v", all, err)
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
	h.begins(home, pending{Record: digestOf(h.plain(home, integrityFile)), Number: home.log.next, Notices: []integrity.Notice{{Type: integrity.EventLost, Actor: carol}}})
	h.close(home)
	for range 2 {
		if got := h.found(); !slices.Equal(got, []string{"0 " + integrity.EventMigrated, "0 " + integrity.EventLost}) {
			t.Errorf("the log: %q", got)
		}
	}
}

// begins leaves of the home what is under way, as the text of a pending change says it.
func (h *host) begins(home *Home, change any) {
	h.Helper()
	text, err := json.Marshal(change)
	if err == nil {
		err = home.write(pendingFile, text)
	}
	if err != nil {
		h.Fatal(err)
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
