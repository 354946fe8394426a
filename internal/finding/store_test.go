package finding_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/finding"
)

// openStore makes a store; with a queue when somebody is to be told.
func openStore(t testing.TB, queue bool) *finding.Store {
	t.Helper()
	s := &finding.Store{Dir: filepath.Join(t.TempDir(), "findings"), Random: strings.NewReader(strings.Repeat("12345678", 100))}
	if queue {
		if err := os.MkdirAll(s.QueueDir(), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// queued reads the queue.
func queued(t testing.TB, s *finding.Store) (out []finding.Change) {
	t.Helper()
	b, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Queued(b.Changes())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		origin, c, err := s.Change(n)
		if err != nil || origin != b.Origin() {
			t.Fatalf("change %d of %q: %v", n, origin, err)
		}
		out = append(out, c)
	}
	return out
}

func update(t testing.TB, s *finding.Store, at time.Time, signals ...finding.Signal) {
	t.Helper()
	if err := s.Update(t.Context(), at, func(b *finding.Book) error { return b.Apply(at, signals...) }); err != nil {
		t.Fatal(err)
	}
}

func TestStoreKeepsTheBookOfManyWriters(t *testing.T) {
	t.Parallel()
	s := openStore(t, true)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 10 {
				signal := raise(finding.LateBootFailed, "x")
				signal.Machine = fmt.Sprintf("m-%d-%d", i, j)
				update(t, s, t0, signal)
			}
		})
	}
	all.Wait()
	b, err := s.Load()
	if err != nil || len(b.Findings(t0)) != 40 || len(queued(t, s)) != 40 {
		t.Errorf("%d findings and %d changes, %v; want 40 of each", len(b.Findings(t0)), len(queued(t, s)), err)
	}
}

func TestAFailedUpdateChangesNothing(t *testing.T) {
	s := openStore(t, true)
	update(t, s, t0, raise(finding.LateBootFailed, "x"))
	problem := errors.New("no")
	err := s.Update(t.Context(), t0, func(b *finding.Book) error {
		return errors.Join(b.Apply(t0, over(finding.LateBootFailed)), problem)
	})
	b, loadErr := s.Load()
	if !errors.Is(err, problem) || loadErr != nil || b.Findings(t0)[0].State != finding.Open || len(queued(t, s)) != 1 {
		t.Errorf("Update = %v, %v", err, loadErr)
	}
}

// A crash between the queue and the book leaves files that do not count, and that the
// next changes replace.
func TestACrashBetweenQueueAndBookTellsNothing(t *testing.T) {
	s := openStore(t, true)
	update(t, s, t0, raise(finding.LateBootFailed, "x"))
	book := filepath.Join(s.Dir, "findings.json")
	before, err := os.ReadFile(book)
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, later(1), raise(finding.TPMCleared), raise(finding.EarlyBootFailed, "x"))
	if err := os.WriteFile(book, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := queued(t, s); len(got) != 1 {
		t.Errorf("%d changes count, want 1", len(got))
	}
	update(t, s, later(2), over(finding.LateBootFailed))
	if got := queued(t, s); len(got) != 2 || got[1].Event != "resolved" {
		t.Errorf("changes are %v", got)
	}
}

func TestAFullQueueIsAFinding(t *testing.T) {
	s := openStore(t, true)
	s.QueueLimit = 3
	update(t, s, t0, raise(finding.LateBootFailed, "x"))
	update(t, s, t0, raise(finding.LateBootFailed, "y"), raise(finding.VTPMOff))
	for n := 4; n <= 5; n++ { // left by a crash
		if err := os.WriteFile(filepath.Join(s.QueueDir(), fmt.Sprintf("%020d.json", n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	update(t, s, later(1), over(finding.LateBootFailed))
	b, err := s.Load()
	if err != nil || !b.Lasts(finding.QueueFull()) {
		t.Fatalf("a full queue is no finding: %v", err)
	}
	if f, err := b.Finding(1, later(1)); err != nil || f.State != finding.Resolved {
		t.Errorf("what was not queued is not kept: %v, %v", f.State, err)
	}
	if got := queued(t, s); len(got) != 3 {
		t.Errorf("the full queue has %d changes", len(got))
	}
}

// Recommendations are asked for again and again, on every host and machine.
func TestALookAtWhatStandsWritesNothing(t *testing.T) {
	s := openStore(t, false)
	update(t, s, t0, raise(finding.VTPMOff))
	before, err := s.Stamp()
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, later(30), raise(finding.VTPMOff), over(finding.SecureBootOff))
	if after, err := s.Stamp(); err != nil || after != before {
		t.Errorf("the book was written: %q, %q, %v", before, after, err)
	}
	update(t, s, later(61), raise(finding.VTPMOff))
	b, err := s.Load()
	if err != nil || !b.Findings(t0)[0].LastSeen.Equal(later(61)) {
		t.Errorf("last seen %v, %v", b.Findings(t0)[0].LastSeen, err)
	}
}

func TestAChangeInAnothersFileIsDamage(t *testing.T) {
	s := openStore(t, true)
	update(t, s, t0, raise(finding.LateBootFailed, "x"))
	update(t, s, t0, over(finding.LateBootFailed))
	name := func(n int) string { return filepath.Join(s.QueueDir(), fmt.Sprintf("%020d.json", n)) }
	if err := os.Rename(name(1), name(2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Change(2); !errors.Is(err, finding.ErrFormat) {
		t.Errorf("Change = %v", err)
	}
	if _, _, err := s.Change(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Change that is not there = %v", err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	s := openStore(t, false)
	update(t, s, t0, raise(finding.LateBootFailed, "x"))
	book := filepath.Join(s.Dir, "findings.json")
	if err := os.WriteFile(book, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); !errors.Is(err, finding.ErrFormat) || !strings.Contains(err.Error(), book) {
		t.Errorf("Load = %v", err)
	}
	if err := os.Remove(book); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", book); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(); !errors.Is(err, finding.ErrFormat) {
		t.Errorf("Load through a link = %v", err)
	}
}

func FuzzParseChange(f *testing.F) {
	s := openStore(f, true)
	update(f, s, t0, raise(finding.LateBootFailed, "kernel: 1 -> 2"))
	text, err := os.ReadFile(filepath.Join(s.QueueDir(), fmt.Sprintf("%020d.json", 1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		origin, c, err := finding.ParseChange(text)
		if (err == nil) != (origin != "" && c.Number != 0) {
			t.Fatalf("ParseChange = %q, %d, %v", origin, c.Number, err)
		}
		if err != nil && !errors.Is(err, finding.ErrFormat) {
			t.Fatal(err)
		}
	})
}
