package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
)

// home opens web-1 for this test.
func (h *host) home() *Home {
	h.Helper()
	home, err := h.root.Open(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	return home
}

func (h *host) close(home *Home) {
	h.Helper()
	if err := home.Close(); err != nil {
		h.Error(err)
	}
}

// logged are events with the types 0, 1, 2 and so on.
func (h *host) logged(home *Home, from, to int) {
	h.Helper()
	for n := from; n < to; n++ {
		if err := home.Log(integrity.Notice{Type: strconv.Itoa(n)}); err != nil {
			h.Fatal(err)
		}
	}
}

// numbers are the types of the events that are kept.
func (h *host) numbers() (string, error) {
	h.Helper()
	home := h.home()
	defer h.close(home)
	events, err := home.Events()
	var out []string
	for _, n := range events {
		out = append(out, n.Type)
	}
	return strings.Join(out, " "), err
}

func (h *host) file(name string) string { return filepath.Join(h.dir, "vms", "web-1", name) }

func (h *host) readFile(name string) []byte {
	h.Helper()
	b, err := os.ReadFile(h.file(name))
	if err != nil {
		h.Fatal(err)
	}
	return b
}

func (h *host) writeFile(name string, b []byte) {
	h.Helper()
	if err := os.WriteFile(h.file(name), b, 0o600); err != nil {
		h.Fatal(err)
	}
}

// A badFile fails once, as a full or a broken disk does.
type badFile struct {
	*os.File
	write, sync, truncate bool
}

var errDisk = errors.New("the disk is full")

func (f *badFile) WriteAt(b []byte, at int64) (int, error) {
	if f.write {
		f.write = false
		n, err := f.File.WriteAt(b[:len(b)/2], at)
		return n, errors.Join(err, errDisk)
	}
	return f.File.WriteAt(b, at)
}

func (f *badFile) Sync() error {
	if f.sync {
		f.sync = false
		return errDisk
	}
	return f.File.Sync()
}

func (f *badFile) Truncate(n int64) error {
	if f.truncate {
		f.truncate = false
		return errDisk
	}
	return f.File.Truncate(n)
}

func TestAnEventThatIsNotWrittenLeavesTheLogAsItWas(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]badFile{"write": {write: true}, "sync": {sync: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			home := h.home()
			h.logged(home, 0, 1)
			bad.File = home.log.file.(*os.File)
			home.log.file = &bad
			if err := home.Log(integrity.Notice{Type: "lost"}); !errors.Is(err, errDisk) {
				t.Errorf("Log = %v", err)
			}
			h.logged(home, 1, 3)
			h.close(home)
			if got, err := h.numbers(); got != "0 1 2" || err != nil {
				t.Errorf("events %q, %v", got, err)
			}
		})
	}
}

func TestALogOfUnknownContentTakesNothingUntilItIsOpenedAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 1)
	home.log.file = &badFile{home.log.file.(*os.File), true, false, true}
	for range 2 {
		if err := home.Log(integrity.Notice{Type: "lost"}); !errors.Is(err, errDisk) {
			t.Errorf("Log = %v", err)
		}
	}
	h.close(home)
	home = h.home()
	h.logged(home, 1, 2)
	h.close(home)
	if got, err := h.numbers(); got != "0 1" || err != nil {
		t.Errorf("events %q, %v", got, err)
	}
}

// Of a line whose pages came to the disk in another order the end may be there alone.
func TestALastLineThatDoesNotOpenIsDropped(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 3)
	h.close(home)
	text := h.readFile(eventsFile)
	last := strings.LastIndexByte(string(text[:len(text)-1]), '\n') + 1
	clear(text[last : last+20])
	h.writeFile(eventsFile, text)
	home = h.home()
	h.logged(home, 3, 4)
	h.close(home)
	if got, err := h.numbers(); got != "0 1 3" || err != nil {
		t.Errorf("events %q, %v", got, err)
	}
}

// A line before a torn one was acknowledged: only one can be under way.
func TestADamagedLineInTheMiddleIsSaidWithWhatIsBefore(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]string{"last line whole": "", "last line torn": "AAAA"} {
		h := newHost(t)
		h.create()
		home := h.home()
		h.logged(home, 0, 4)
		h.close(home)
		lines := strings.SplitAfter(string(h.readFile(eventsFile)), "\n")
		at := map[bool]int{true: 3, false: 4}[tail == ""]
		lines[at] = strings.Repeat("A", 8) + lines[at][8:]
		h.writeFile(eventsFile, []byte(strings.Join(lines, "")+tail))
		want := map[bool]string{true: "0 1", false: "0 1 2"}[tail == ""]
		if got, err := h.numbers(); got != want || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: events %q, %v", name, got, err)
		}
	}
}

func TestALogThatTurnsOverKeepsItsEvents(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 3)
	for _, err := range []error{home.turnLog(), home.Log(integrity.Notice{Type: "3"})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.close(home)
	if got, err := h.numbers(); got != "0 1 2 3" || err != nil {
		t.Errorf("events %q, %v", got, err)
	}
}

func TestACrashWhileTheLogTurnsOverShowsNoEventTwice(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 3)
	h.writeFile(oldEventsFile, h.readFile(eventsFile)) // the first of its two writes
	h.logged(home, 3, 4)
	h.close(home)
	if got, err := h.numbers(); got != "0 1 2 3" || err != nil {
		t.Errorf("events %q, %v", got, err)
	}
}

func TestAGapBetweenTheFilesOfTheLogIsDamage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 2)
	older := h.readFile(eventsFile)
	h.logged(home, 2, 4)
	if err := home.turnLog(); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	h.writeFile(oldEventsFile, older)
	if got, err := h.numbers(); got != "0 1" || !errors.Is(err, ErrDamaged) {
		t.Errorf("events %q, %v", got, err)
	}
}

// After a failure of the second write the name may hold the new, empty file.
func TestAnEmptyFileTakesNotThePlaceOfOldEvents(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	h.logged(home, 0, 3)
	before := h.readFile(eventsFile)
	h.writeFile(oldEventsFile, before)
	if err := os.Remove(h.file(eventsFile)); err != nil {
		t.Fatal(err)
	}
	h.writeFile(eventsFile, logHead(3))
	if err := home.turnLog(); !errors.Is(err, ErrDamaged) {
		t.Errorf("turnLog = %v", err)
	}
	h.close(home)
	if !slices.Equal(before, h.readFile(oldEventsFile)) {
		t.Error("the old events are gone")
	}
}

// long is an event that is as long as guests can make one: some 64 KiB.
func long(kind string) integrity.Notice {
	n := integrity.Notice{Type: kind, Instance: "web-1"}
	for range 48 {
		n.Reasons = append(n.Reasons, evidence.Reason{Code: "x.y", Message: strings.Repeat("a", 1024)})
	}
	return n
}

func TestALongLogGoesToAnotherHostWhole(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.createWithDisks()
	home := a.home()
	const many = 300
	for range many {
		if err := home.Log(long("long")); err != nil {
			t.Fatal(err)
		}
	}
	a.close(home)
	if old, now := a.readFile(oldEventsFile), a.readFile(eventsFile); len(old)+len(now) <= maxEventFile {
		t.Fatalf("the log has no more than %d bytes", len(old)+len(now))
	}
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await off\noff\n")
	if err := a.gives(t.Context(), "carol", there.ticket); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the source: %v", err)
	}
	if _, err := b.root.Events(t.Context(), "web-1"); err != nil {
		t.Errorf("Events = %v", err)
	}
	b.put(b.inRun("off"), "")
	if err := <-there.end; err != nil {
		t.Errorf("there: %v", err)
	}
	d, err := b.root.Depart(t.Context(), "web-1") // for a backup
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := len(d.Events); got < many {
		t.Errorf("%d of %d events came", got, many)
	}
}

// What is too long for two files is left out as it is here: with the oldest file.
func TestALogThatIsSetKeepsTheFilesThatWritingItWouldKeep(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	defer h.close(home)
	var all []integrity.Notice
	for n := range 600 {
		all = append(all, long(strconv.Itoa(n)))
	}
	if err := home.setLog(all); err != nil {
		t.Fatal(err)
	}
	h.logged(home, len(all), len(all)+1)
	got, err := home.Events()
	if err != nil || len(got) < 300 || len(got) > 550 {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i, n := range got {
		if want := strconv.Itoa(len(all) + 1 - len(got) + i); n.Type != want {
			t.Fatalf("event %d is %q, want %q", i, n.Type, want)
		}
	}
	if err := home.setLog([]integrity.Notice{{Type: strings.Repeat("a", maxEventLine)}}); err == nil {
		t.Error("an event that no log takes is taken")
	}
}

func TestAHomeWithoutItsLogIsDamaged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home := h.home()
	defer h.close(home)
	if err := os.Remove(h.file(eventsFile)); err != nil {
		t.Fatal(err)
	}
	_, err := home.Events()
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("Events = %v", err)
	}
	again := &Home{dir: home.dir, card: home.card, key: home.key}
	if err := again.openLog(); !errors.Is(err, ErrDamaged) {
		t.Errorf("openLog = %v", err)
	}
}
