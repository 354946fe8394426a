package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
)

func decisionComesBackWhole(t *testing.T, open Opener) {
	s := opened(t, open)
	for n := range 4 {
		d := Decision(n, Bundle(n/2, n))
		must(t, s.Decide(t.Context(), d))
		got, err := s.Appraisal(t.Context(), d.Appraisal.ID)
		must(t, err)
		same(t, "appraisal", got, d.Appraisal)
		bundle, err := s.Evidence(t.Context(), d.Appraisal.Evidence)
		must(t, err)
		if !bytes.Equal(bundle, d.Bundle) {
			t.Errorf("evidence %d came back changed", n)
		}
	}
	for i, e := range Chain(t, s) {
		want := Entry("attest", ID(i))
		if e.Actor != want.Actor || e.Action != want.Action || e.Subject != want.Subject || e.Outcome != want.Outcome || !e.Time.Equal(want.Time) {
			t.Errorf("audit entry %d is %+v", i, e)
		}
	}
	plain := Decision(9, nil)
	plain.Challenge, plain.Appraisal.Reasons, plain.Appraisal.Claims = nil, nil, nil
	must(t, s.Decide(t.Context(), plain))
	got, err := s.Appraisal(t.Context(), ID(9))
	must(t, err)
	same(t, "appraisal without evidence", got, plain.Appraisal)
}

func challengeServesOnce(t *testing.T, open Opener) {
	s := opened(t, open)
	first := Decision(1, nil)
	must(t, s.Decide(t.Context(), first))
	again := Decision(2, Bundle(0, 2))
	again.Challenge = first.Challenge
	wantErr(t, "used challenge", s.Decide(t.Context(), again), attest.ErrChallengeUsed)
	_, err := s.Appraisal(t.Context(), ID(2))
	wantErr(t, "its appraisal", err, attest.ErrNotFound)
	_, err = s.Evidence(t.Context(), again.Appraisal.Evidence)
	wantErr(t, "its evidence", err, attest.ErrNotFound)
	kept(t, s, 1)
	other := Decision(3, nil)
	other.Challenge = nil
	must(t, s.Decide(t.Context(), other))
	other = Decision(4, nil)
	other.Challenge = nil
	must(t, s.Decide(t.Context(), other))
	kept(t, s, 3)
}

func staleDecisionKeepsNothing(t *testing.T, open Opener) {
	s := opened(t, open)
	for _, generation := range []uint64{0, 2, math.MaxUint64} {
		d := Decision(1, Bundle(0, 1))
		d.Generation = generation
		wantErr(t, fmt.Sprint("generation ", generation), s.Decide(t.Context(), d), attest.ErrStale)
		_, err := s.Evidence(t.Context(), d.Appraisal.Evidence)
		wantErr(t, "its evidence", err, attest.ErrNotFound)
	}
	kept(t, s, 0)
	// The challenge of a stale decision is not spent: the service tries again.
	must(t, s.Decide(t.Context(), Decision(1, nil)))
	wantErr(t, "same appraisal again", s.Decide(t.Context(), func() attest.Decision {
		d := Decision(1, nil)
		d.Challenge = nil
		return d
	}()), attest.ErrExists)
	kept(t, s, 1)
}

func invalidDecisionKeepsNothing(t *testing.T, open Opener) {
	s := opened(t, open)
	for what, change := range map[string]func(*attest.Decision){
		"no id":             func(d *attest.Decision) { d.Appraisal.ID = "" },
		"NUL in machine":    func(d *attest.Decision) { d.Appraisal.Machine = "a\x00b" },
		"invalid UTF-8":     func(d *attest.Decision) { d.Appraisal.TokenID = "\xff" },
		"digest not hex":    func(d *attest.Decision) { d.Appraisal.Evidence = "zz" },
		"digest upper case": func(d *attest.Decision) { d.Appraisal.Evidence = strings.ToUpper(d.Appraisal.Evidence) },
		"digest of other":   func(d *attest.Decision) { d.Appraisal.Evidence = Digest([]byte("other")) },
		"no digest":         func(d *attest.Decision) { d.Appraisal.Evidence = "" },
		"empty challenge":   func(d *attest.Decision) { d.Challenge = []byte{} },
		"long challenge":    func(d *attest.Decision) { d.Challenge = make([]byte, 17) },
	} {
		d := Decision(1, Bundle(0, 1))
		change(&d)
		if err := s.Decide(t.Context(), d); err == nil {
			t.Errorf("%s: kept", what)
		}
	}
	kept(t, s, 0)
	list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{})
	if err != nil || len(list) != 0 {
		t.Errorf("appraisals: %v, %v", list, err)
	}
}

func parallelDecisionsConsumeOnce(t *testing.T, open Opener) {
	s := opened(t, open)
	const challenges, rivals = 40, 5
	won := make([]int, challenges)
	var mu sync.Mutex // guards won
	var wg sync.WaitGroup
	for n := range challenges * rivals {
		wg.Go(func() {
			d := Decision(n, Bundle(n%3, n%7))
			d.Challenge = Challenge(n % challenges)
			switch err := s.Decide(context.Background(), d); {
			case err == nil:
				mu.Lock()
				won[n%challenges]++
				mu.Unlock()
			case !errors.Is(err, attest.ErrChallengeUsed):
				t.Errorf("decision %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	for c, n := range won {
		if n != 1 {
			t.Errorf("challenge %d served %d times", c, n)
		}
	}
	kept(t, s, challenges)
	list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{Limit: 1000})
	if err != nil || len(list) != challenges {
		t.Errorf("%d appraisals, %v, want %d", len(list), err, challenges)
	}
}

func withdrawnDecisionKeepsNothing(t *testing.T, open Opener) {
	s := opened(t, open)
	var kept int
	for n := range 60 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- s.Decide(ctx, Decision(n, nil)) }()
		cancel()
		err := <-done
		_, found := s.Appraisal(context.Background(), ID(n))
		if (err == nil) != (found == nil) {
			t.Errorf("Decide said %v, and the appraisal is there: %v", err, found == nil)
		}
		if err == nil {
			kept++
		}
	}
	if n := len(Chain(t, s)); n != kept {
		t.Errorf("%d audit entries for %d decisions", n, kept)
	}
}

func attesterRevisionsGuardCounters(t *testing.T, open Opener) {
	s := opened(t, open)
	must(t, s.AddAttester(t.Context(), Attester(1), Entry("attester.add", "1")))
	decide := func(n int, revision uint64, last *attest.Counters) error {
		d, a := Decision(n, nil), Attester(1)
		a.Revision, a.Last = revision, last
		a.Machine = "another name" // a decision moves counters only
		d.Attester = &a
		return s.Decide(t.Context(), d)
	}
	one, two := &attest.Counters{Clock: 1000, Reset: 1, Restart: 2, Safe: true}, &attest.Counters{Clock: 2000, Reset: 1, Restart: 3}
	wantErr(t, "revision 0", decide(1, 0, one), attest.ErrStale)
	must(t, decide(1, 1, one))
	wantErr(t, "old revision", decide(2, 1, two), attest.ErrStale)
	must(t, decide(2, 2, two))
	must(t, decide(3, 3, two)) // the same counters: nothing moves
	must(t, decide(4, 3, two))
	got, err := s.Attester(t.Context(), Attester(1).AKName)
	must(t, err)
	want := Attester(1)
	want.Revision, want.Last = 3, two
	same(t, "attester", got, want)
	d, stranger := Decision(5, nil), Attester(2)
	d.Attester = &stranger
	wantErr(t, "unknown attester", s.Decide(t.Context(), d), attest.ErrStale)
	gone := got
	gone.Removed = true
	must(t, s.SetAttester(t.Context(), gone, Entry("attester.remove", "1")))
	wantErr(t, "attester removed meanwhile", decide(6, 3, two), attest.ErrStale)
	kept(t, s, 6)
}

func appraisalsPageNewestFirst(t *testing.T, open Opener) {
	s := opened(t, open)
	const total = 130
	for n := range total {
		must(t, s.Decide(t.Context(), Decision(n, nil)))
	}
	refused := evidence.Refused
	for what, tc := range map[string]struct {
		filter attest.AppraisalFilter
		want   func(n int) bool
		limit  int
	}{
		"all":            {attest.AppraisalFilter{}, func(int) bool { return true }, 100},
		"limit":          {attest.AppraisalFilter{Limit: 7}, func(int) bool { return true }, 7},
		"machine":        {attest.AppraisalFilter{Machine: "machine-3"}, func(n int) bool { return n%5 == 3 }, 100},
		"attester":       {attest.AppraisalFilter{Attester: Decision(2, nil).Appraisal.Attester}, func(n int) bool { return n%7 == 2 }, 100},
		"verdict":        {attest.AppraisalFilter{Verdict: &refused}, func(n int) bool { return n%3 == 0 }, 100},
		"before":         {attest.AppraisalFilter{Before: ID(50)}, func(n int) bool { return n < 50 }, 100},
		"all of them":    {attest.AppraisalFilter{Machine: "machine-3", Attester: Decision(2, nil).Appraisal.Attester, Verdict: &refused, Before: ID(100)}, func(n int) bool { return n%5 == 3 && n%7 == 2 && n%3 == 0 && n < 100 }, 100},
		"nothing":        {attest.AppraisalFilter{Machine: "machine-9"}, func(int) bool { return false }, 100},
		"unstorable":     {attest.AppraisalFilter{Machine: "\x00"}, func(int) bool { return false }, 100},
		"huge limit":     {attest.AppraisalFilter{Limit: math.MaxInt}, func(int) bool { return true }, total},
		"negative limit": {attest.AppraisalFilter{Limit: -1}, func(int) bool { return true }, 100},
	} {
		var want, got []string
		for n := total - 1; n >= 0 && len(want) < tc.limit; n-- {
			if tc.want(n) {
				want = append(want, ID(n))
			}
		}
		list, err := s.Appraisals(t.Context(), tc.filter)
		must(t, err)
		for _, a := range list {
			got = append(got, a.ID)
		}
		same(t, what, got, want)
	}
}

func evidenceComesBackByteForByte(t *testing.T, open Opener) {
	s := opened(t, open)
	long := strings.Repeat("abcdefgh", 300)
	for n, bundle := range []string{
		"", "{}", `"`, `""`, `"` + long, long + `"`, `"` + long + `"`, `"` + long + `"` + long + `"`,
		`{"a":"` + long + `","b":"` + long + `"}`, `{"a":"` + long[:1023] + `"}`, `{"a":"` + long[:1024] + `"}`,
		"\x00\xff" + long + "\"\\\"" + long + "\n", long, strings.Repeat(`"`, 5000), strings.Repeat(long, 800),
	} {
		d := Decision(n, []byte(bundle))
		must(t, s.Decide(t.Context(), d))
		got, err := s.Evidence(t.Context(), d.Appraisal.Evidence)
		if err != nil || string(got) != bundle {
			t.Errorf("bundle %d of %d bytes came back as %d, %v", n, len(bundle), len(got), err)
		}
	}
	// The same bytes under a used challenge must not vanish from the ones that hold.
	d := Decision(1, []byte("{}"))
	d.Appraisal.ID = ID(100)
	wantErr(t, "replay", s.Decide(t.Context(), d), attest.ErrChallengeUsed)
	if got, err := s.Evidence(t.Context(), d.Appraisal.Evidence); err != nil || string(got) != "{}" {
		t.Errorf("evidence after a replay: %q, %v", got, err)
	}
}

func unsignedNumbers(t *testing.T, open Opener) {
	s := opened(t, open)
	a := Attester(1)
	a.Last = &attest.Counters{Clock: math.MaxUint64, Reset: math.MaxUint32, Restart: 1 << 31, Safe: true}
	must(t, s.AddAttester(t.Context(), a, Entry("attester.add", "1")))
	got, err := s.Attester(t.Context(), a.AKName)
	must(t, err)
	a.Revision = 1
	same(t, "attester", got, a)
}

func cancelledContext(t *testing.T, open Opener) {
	s := opened(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.PutAnchor(ctx, anchor(1), Entry("anchor.put", "1")); err == nil {
		t.Error("PutAnchor under a cancelled context said nil")
	}
	if _, err := s.Configuration(ctx); err == nil {
		t.Error("Configuration under a cancelled context said nil")
	}
	c, err := s.Configuration(t.Context())
	must(t, err)
	if len(c.Anchors) != 0 || c.Generation != 1 {
		t.Errorf("configuration after a cancelled write: %+v", c)
	}
	kept(t, s, 0)
}
