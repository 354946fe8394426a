package store

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/assay-project/assay/internal/attest"
)

var errAway = errors.New("away")

// A server that takes over may lack the last commits: what they brought must come
// again with the next decision that rests on it.
func TestLostPartsAreStoredAgain(t *testing.T) {
	const lose = "DELETE FROM appraisal; DELETE FROM evidence; DELETE FROM evidence_part"
	bundle := `{"log":"` + strings.Repeat("event ", 1000) + `"}`
	about := func(n int) attest.Decision {
		d := talkative(n, "quiet")
		d.Bundle, d.Appraisal.Evidence = []byte(bundle), decision(n, bundle).Appraisal.Evidence
		return d
	}
	for name, trouble := range map[string]func(s *Store, opened *atomic.Uint64){
		"a read finds it away":     func(s *Store, _ *atomic.Uint64) { s.read.explain(errAway) },
		"a write finds it away":    func(s *Store, _ *atomic.Uint64) { s.write.explain(errAway) },
		"a commit fails":           func(s *Store, _ *atomic.Uint64) { s.write.explain(&commitError{errors.New("lost")}) },
		"a connection is replaced": func(_ *Store, opened *atomic.Uint64) { opened.Add(1) },
	} {
		for _, queued := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " while a decision waits"}[queued], func(t *testing.T) {
				s, file := openStore(t, Config{})
				var opened atomic.Uint64
				s.recent.opened = opened.Load
				away := func(err error) bool { return errors.Is(err, errAway) }
				s.read.away, s.write.away = away, away
				if err := s.Decide(t.Context(), about(1)); err != nil {
					t.Fatal(err)
				}
				db := connect(t, file, 1)
				var second <-chan error
				if queued {
					tx, err := db.Begin()
					if err != nil {
						t.Fatal(err)
					}
					p, err := s.prepare(t.Context(), decision(0, ""))
					if err == nil {
						err = s.enqueue(p)
					}
					if err != nil {
						t.Fatal(err)
					}
					waitForGroup(t, s)
					second = start(t.Context(), t, s, about(2), 1)
					if _, err := tx.Exec(lose); err != nil {
						t.Fatal(err)
					}
					trouble(s, &opened)
					if err := tx.Commit(); err != nil {
						t.Fatal(err)
					}
				} else {
					if _, err := db.Exec(lose); err != nil {
						t.Fatal(err)
					}
					trouble(s, &opened)
					second = start(t.Context(), t, s, about(2), 0)
				}
				if err := <-second; err != nil {
					t.Fatal(err)
				}
				if a, err := s.Appraisal(t.Context(), about(2).Appraisal.ID); err != nil || len(a.Claims) != 1 {
					t.Errorf("Appraisal after the loss: %v, %v", a, err)
				}
				if got, err := s.Evidence(t.Context(), about(2).Appraisal.Evidence); err != nil || string(got) != bundle {
					t.Errorf("Evidence after the loss: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

func TestWhatIsFoundOutInOneEpochIsNotKnownInTheNext(t *testing.T) {
	var r recentDigests
	what := held{true, digest{1}}
	r.add(what, r.epoch())
	if !r.has(what) {
		t.Error("what was added is not known")
	}
	before := r.epoch()
	r.forget()
	if r.has(what) {
		t.Error("what was forgotten is known")
	}
	if r.add(what, before); r.has(what) {
		t.Error("what was found out before is known after")
	}
	n := uint64(0)
	r.opened = func() uint64 { return n }
	if r.add(what, r.epoch()); !r.has(what) {
		t.Error("forgotten with no new connection")
	}
	if n++; r.has(what) {
		t.Error("known over a new connection")
	}
}

func TestADecisionIsNotTriedForEver(t *testing.T) {
	s, _ := openStore(t, Config{})
	var opened atomic.Uint64
	s.recent.opened = func() uint64 { return opened.Add(1) } // never two the same
	if err := s.Decide(t.Context(), decision(1, "")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Decide: %v, want ErrUnavailable", err)
	}
}
