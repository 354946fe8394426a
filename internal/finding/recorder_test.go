package finding_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/finding"
)

// faults collects what a recorder could not keep.
type faults struct {
	mu  sync.Mutex // guards all
	all []error
}

func (f *faults) add(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.all = append(f.all, err) }

func (f *faults) join() error { f.mu.Lock(); defer f.mu.Unlock(); return errors.Join(f.all...) }

func recorder(s *finding.Store) (*finding.Recorder, *faults) {
	f := new(faults)
	return finding.NewRecorder(s, func() time.Time { return t0 }, f.add), f
}

// While another process has the book, nobody waits, and nothing is lost or exchanged.
func TestARecorderHoldsNobodyUp(t *testing.T) {
	s := openStore(t, true)
	synctest.Test(t, func(t *testing.T) {
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := durable.LockDir(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		r, f := recorder(s)
		for i := range 20 {
			r.Record(raise(finding.LateBootFailed, fmt.Sprint(i)))
			synctest.Wait() // until it waits for the lock
		}
		r.Record(over(finding.LateBootFailed))
		if _, err := os.Stat(filepath.Join(s.Dir, "findings.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the book was written under another's lock: %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		r.Close()
		b, err := s.Load()
		if err := errors.Join(err, f.join()); err != nil {
			t.Fatal(err)
		}
		if all := b.Findings(t0); len(all) != 1 || all[0].Count != 20 || all[0].State != finding.Resolved || all[0].Reasons[0].Message != "19" {
			t.Errorf("findings %+v", all)
		}
	})
}

func TestARecorderTellsWhatItCannotKeep(t *testing.T) {
	s := openStore(t, true)
	r, f := recorder(s)
	r.Record(raise("finding.nothing"), raise(finding.LateBootFailed))
	r.Close()
	b, err := s.Load()
	if err != nil || !b.Lasts(raise(finding.LateBootFailed)) || !errors.Is(f.join(), finding.ErrMust) {
		t.Errorf("a signal that does not fit: %v, %v", f.join(), err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "findings.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Record(raise(finding.EarlyBootFailed))
	r.Close()
	if !errors.Is(f.join(), finding.ErrFormat) {
		t.Errorf("a damaged book: %v", f.join())
	}
}

// What could not be kept for a while, as on a full disk, is kept afterwards, in order and
// without anybody saying it again.
func TestARecorderForgetsNothingThatItCouldNotKeep(t *testing.T) {
	for name, then := range map[string]func(*finding.Recorder){
		"when more comes":    func(r *finding.Recorder) { r.Record(raise(finding.LateBootFailed)) },
		"after a while":      func(*finding.Recorder) { time.Sleep(2 * time.Minute) }, // of the bubble's clock
		"before it is ended": func(*finding.Recorder) {},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, false)
			synctest.Test(t, func(t *testing.T) {
				if err := os.WriteFile(s.Dir, nil, 0o600); err != nil { // where its folder is to be
					t.Fatal(err)
				}
				r, f := recorder(s)
				r.Record(raise(finding.EarlyBootFailed))
				synctest.Wait()
				if f.join() == nil {
					t.Error("nobody was told")
				}
				r.Record(over(finding.EarlyBootFailed))
				synctest.Wait()
				if err := os.Remove(s.Dir); err != nil {
					t.Fatal(err)
				}
				then(r)
				synctest.Wait()
				r.Close()
				b, err := s.Load()
				if err != nil {
					t.Fatal(err)
				}
				if all := b.Findings(t0); len(all) == 0 || b.Lasts(raise(finding.EarlyBootFailed)) {
					t.Errorf("findings %+v", all)
				}
				if len(f.all) != 1 {
					t.Errorf("told %d times: %v", len(f.all), f.all)
				}
			})
		})
	}
}

// Who flushes waits for what was recorded before, and no longer than it may.
func TestAFlushWaitsForWhatWasRecorded(t *testing.T) {
	s := openStore(t, true)
	synctest.Test(t, func(t *testing.T) {
		if err := os.MkdirAll(s.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := durable.LockDir(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		r, f := recorder(s)
		r.Record(raise(finding.LateBootFailed, "kernel"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush under another's lock = %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Flush(t.Context()), f.join()); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Load(); err != nil || len(b.Findings(t0)) != 1 {
			t.Errorf("after it the book is %+v, %v", b, err)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Errorf("Flush of nothing = %v", err)
		}
	})
}
