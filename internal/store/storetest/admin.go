package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/attest"
)

func policy(version int) attest.PolicyVersion {
	text := fmt.Sprintf("version=1.2;\x00\xff # %d", version)
	return attest.PolicyVersion{
		Name: "default", Version: version, Text: text, Digest: Digest([]byte(text)),
		Author: "operator", Time: later(version), Comment: "because",
	}
}

func policiesAreAppendOnly(t *testing.T, open Opener) {
	s := opened(t, open)
	wantErr(t, "version 0", s.PutPolicy(t.Context(), policy(0), Entry("policy.put", "default")), attest.ErrStale)
	wantErr(t, "version 2 first", s.PutPolicy(t.Context(), policy(2), Entry("policy.put", "default")), attest.ErrStale)
	for v := 1; v <= 3; v++ {
		must(t, s.PutPolicy(t.Context(), policy(v), Entry("policy.put", "default")))
		wantErr(t, "the same version again", s.PutPolicy(t.Context(), policy(v), Entry("policy.put", "default")), attest.ErrStale)
	}
	got, err := s.PolicyHistory(t.Context(), "default")
	must(t, err)
	same(t, "history", got, []attest.PolicyVersion{policy(3), policy(2), policy(1)})
	other := policy(1)
	other.Name = "other"
	must(t, s.PutPolicy(t.Context(), other, Entry("policy.put", "other")))
	c, err := s.Configuration(t.Context())
	must(t, err)
	same(t, "newest policies", c.Policies, map[string]attest.PolicyVersion{"default": policy(3), "other": other})
	if c.Generation != 5 {
		t.Errorf("generation %d after four policies, want 5", c.Generation)
	}
	kept(t, s, 4)
}

func reference(version int) attest.Reference {
	return attest.Reference{Name: "web", Version: version, Baseline: []byte{0, 0xff, byte(version)}, Author: "operator", Time: later(version)}
}

func referencesAreAppendOnly(t *testing.T, open Opener) {
	s := opened(t, open)
	must(t, s.PutReference(t.Context(), reference(1), Entry("reference.put", "web")))
	wantErr(t, "same version", s.PutReference(t.Context(), reference(1), Entry("reference.put", "web")), attest.ErrStale)
	wantErr(t, "version left out", s.PutReference(t.Context(), reference(3), Entry("reference.put", "web")), attest.ErrStale)
	must(t, s.PutReference(t.Context(), reference(2), Entry("reference.put", "web")))
	c, err := s.Configuration(t.Context())
	must(t, err)
	same(t, "newest references", c.References, map[string]attest.Reference{"web": reference(2)})
	if c.Generation != 3 {
		t.Errorf("generation %d, want 3", c.Generation)
	}
	kept(t, s, 2)
}

func anchor(n int) attest.Anchor {
	return attest.Anchor{ID: fmt.Sprint("anchor-", n), Kind: "ek-ca", Name: "Vendor CA", DER: []byte{0x30, byte(n)}, Added: Noon(), AddedBy: "operator"}
}

func anchorsComeAndGo(t *testing.T, open Opener) {
	s := opened(t, open)
	for _, n := range []int{2, 1} {
		must(t, s.PutAnchor(t.Context(), anchor(n), Entry("anchor.put", "")))
	}
	wantErr(t, "taken id", s.PutAnchor(t.Context(), anchor(2), Entry("anchor.put", "")), attest.ErrExists)
	c, err := s.Configuration(t.Context())
	must(t, err)
	same(t, "anchors", c.Anchors, []attest.Anchor{anchor(1), anchor(2)})
	must(t, s.RemoveAnchor(t.Context(), "anchor-1", Entry("anchor.remove", "")))
	wantErr(t, "removed twice", s.RemoveAnchor(t.Context(), "anchor-1", Entry("anchor.remove", "")), attest.ErrNotFound)
	c, err = s.Configuration(t.Context())
	must(t, err)
	same(t, "anchors", c.Anchors, []attest.Anchor{anchor(2)})
	if c.Generation != 4 {
		t.Errorf("generation %d after three changes, want 4", c.Generation)
	}
	kept(t, s, 3)
}

func signingKey(n int) attest.SigningKey {
	return attest.SigningKey{
		ID: fmt.Sprint("key-", n), Alg: "ES256", Sealed: []byte{1, 2, byte(n)}, Certificate: []byte{0x30, byte(n)},
		NotBefore: later(-n), NotAfter: later(1000 - n),
	}
}

func signingKeysAreReplacedByID(t *testing.T, open Opener) {
	s := opened(t, open)
	for _, n := range []int{1, 2} {
		must(t, s.PutSigningKey(t.Context(), signingKey(n), Entry("key.put", "")))
	}
	ended := signingKey(1)
	ended.NotAfter = later(5)
	must(t, s.PutSigningKey(t.Context(), ended, Entry("key.end", "")))
	c, err := s.Configuration(t.Context())
	must(t, err)
	same(t, "keys, oldest first", c.SigningKeys, []attest.SigningKey{signingKey(2), ended})
	if c.Generation != 4 {
		t.Errorf("generation %d after three changes, want 4", c.Generation)
	}
}

func configurationIsOneGeneration(t *testing.T, open Opener) {
	s := opened(t, open)
	c, err := s.Configuration(t.Context())
	must(t, err)
	same(t, "empty configuration", c, attest.Configuration{
		Generation: 1, Policies: map[string]attest.PolicyVersion{}, References: map[string]attest.Reference{},
	})
	// Each generation g holds policies up to version g-1 and no more.
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := s.Configuration(t.Context())
			if err != nil || uint64(c.Policies["default"].Version) != c.Generation-1 {
				t.Errorf("generation %d holds version %d, %v", c.Generation, c.Policies["default"].Version, err)
				return
			}
		}
	}()
	for v := 1; v <= 40; v++ {
		must(t, s.PutPolicy(t.Context(), policy(v), Entry("policy.put", "default")))
		if g, err := s.Generation(t.Context()); err != nil || g != uint64(v)+1 {
			t.Errorf("Generation = %d, %v, want %d", g, err, v+1)
		}
	}
	close(stop)
	<-done
	must(t, s.AddAttester(t.Context(), Attester(1), Entry("attester.add", "")))
	must(t, s.PutEnrolment(t.Context(), enrolment(1)))
	must(t, s.Decide(t.Context(), func() attest.Decision { d := Decision(1, nil); d.Generation = 41; return d }()))
	if g, err := s.Generation(t.Context()); err != nil || g != 41 {
		t.Errorf("attesters, enrolments or decisions moved the generation to %d, %v", g, err)
	}
	removed, err := s.Attester(t.Context(), Attester(1).AKName)
	if err != nil {
		t.Fatal(err)
	}
	removed.Removed = true
	must(t, s.SetAttester(t.Context(), removed, Entry("attester.remove", "")))
	if g, err := s.Generation(t.Context()); err != nil || g != 42 {
		t.Errorf("the removal of an attester left the generation at %d, %v, want 42", g, err)
	}
}

func attestersAreUnique(t *testing.T, open Opener) {
	s := opened(t, open)
	add := func(a attest.Attester) error { return s.AddAttester(t.Context(), a, Entry("attester.add", a.Machine)) }
	must(t, add(Attester(1)))
	wantErr(t, "same key", add(func() attest.Attester { a := Attester(1); a.Machine = "new"; return a }()), attest.ErrExists)
	rival := Attester(2)
	rival.Machine = Attester(1).Machine
	wantErr(t, "same machine", add(rival), attest.ErrExists)
	gone := Attester(1)
	gone.Revision, gone.Removed = 1, true
	must(t, s.SetAttester(t.Context(), gone, Entry("attester.remove", "")))
	must(t, add(rival))
	wantErr(t, "a removed key is taken", add(Attester(1)), attest.ErrExists)
	back := gone
	back.Revision, back.Removed = 2, false
	wantErr(t, "the machine has another key now", s.SetAttester(t.Context(), back, Entry("attester.restore", "")), attest.ErrExists)
	back.Machine = "web-1b"
	must(t, s.SetAttester(t.Context(), back, Entry("attester.restore", "")))
	if err := add(attest.Attester{Machine: "nameless"}); err == nil {
		t.Error("attester without a key was added")
	}
	kept(t, s, 4)
}

func attestersChangeByRevision(t *testing.T, open Opener) {
	s := opened(t, open)
	set := func(a attest.Attester) error { return s.SetAttester(t.Context(), a, Entry("attester.set", "")) }
	wantErr(t, "missing", set(Attester(1)), attest.ErrNotFound)
	must(t, s.AddAttester(t.Context(), Attester(1), Entry("attester.add", "")))
	wantErr(t, "revision 0", set(Attester(1)), attest.ErrStale)
	a, err := s.Attester(t.Context(), Attester(1).AKName)
	must(t, err)
	if a.Revision != 1 {
		t.Errorf("revision %d at first, want 1", a.Revision)
	}
	changed := attest.Attester{
		AKName: a.AKName, Machine: "renamed", AKPublic: []byte{9}, Proof: "credential-activation", Baseline: "",
		Added: later(1), AddedBy: "another", Removed: true, Revision: 1, Last: &attest.Counters{Clock: 5, Reset: 6, Restart: 7, Safe: true},
	}
	must(t, set(changed))
	wantErr(t, "same revision again", set(changed), attest.ErrStale)
	got, err := s.Attester(t.Context(), a.AKName)
	must(t, err)
	changed.Revision = 2
	same(t, "attester", got, changed)
	kept(t, s, 2)
}

func attestersPageByName(t *testing.T, open Opener) {
	s := opened(t, open)
	const total = 120
	var want []string
	for n := range total {
		must(t, s.AddAttester(t.Context(), Attester(n), Entry("attester.add", "")))
		want = append(want, Attester(n).AKName)
	}
	var got []string
	for after, pages := "", 0; ; pages++ {
		page, err := s.Attesters(t.Context(), after, 50)
		must(t, err)
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.AKName)
		}
		after = got[len(got)-1]
	}
	same(t, "names", got, want)
	if page, err := s.Attesters(t.Context(), "", 0); err != nil || len(page) != 100 {
		t.Errorf("default page has %d, %v, want 100", len(page), err)
	}
}

func enrolment(n int) attest.Enrolment {
	return attest.Enrolment{
		ID: fmt.Sprint("enrolment-", n), Machine: fmt.Sprint("web-", n), AKPublic: []byte{1}, EKPublic: []byte{2},
		Baseline: "web", SecretHash: []byte{3, 4}, By: "operator", Expires: later(n),
	}
}

func enrolmentEndsInOneStep(t *testing.T, open Opener) {
	s := opened(t, open)
	must(t, s.PutEnrolment(t.Context(), enrolment(1)))
	wantErr(t, "taken id", s.PutEnrolment(t.Context(), enrolment(1)), attest.ErrExists)
	got, err := s.Enrolment(t.Context(), "enrolment-1")
	must(t, err)
	same(t, "enrolment", got, enrolment(1))
	must(t, s.AddAttester(t.Context(), Attester(2), Entry("attester.add", "")))
	finish := func(a attest.Attester) error {
		return s.FinishEnrolment(t.Context(), "enrolment-1", a, Entry("attester.enrol", ""))
	}
	wantErr(t, "key is taken", finish(Attester(2)), attest.ErrExists)
	if _, err := s.Enrolment(t.Context(), "enrolment-1"); err != nil {
		t.Errorf("a failed finish consumed the enrolment: %v", err)
	}
	must(t, finish(Attester(1)))
	wantErr(t, "finished twice", finish(Attester(3)), attest.ErrNotFound)
	_, err = s.Attester(t.Context(), Attester(3).AKName)
	wantErr(t, "attester of a failed finish", err, attest.ErrNotFound)
	kept(t, s, 2)
}

func pruneDropsOnlyWhatExpired(t *testing.T, open Opener) {
	s := opened(t, open)
	const used = 1500 // more than one step of pruning
	var wg sync.WaitGroup
	for n := range used {
		wg.Go(func() {
			d := Decision(n, nil)
			d.Expires = later(n)
			for errors.Is(s.Decide(t.Context(), d), errOverloaded) {
			}
		})
		if n%500 == 499 {
			wg.Wait()
		}
	}
	for n := range 3 {
		must(t, s.PutEnrolment(t.Context(), enrolment(n)))
	}
	must(t, s.Prune(t.Context(), later(1400)))
	_, err := s.Enrolment(t.Context(), "enrolment-2")
	wantErr(t, "expired enrolment", err, attest.ErrNotFound)
	for n, want := range map[int]error{1399: nil, 1400: attest.ErrChallengeUsed, 1499: attest.ErrChallengeUsed, 0: nil} {
		d := Decision(used+n, nil)
		d.Challenge = Challenge(n)
		if err := s.Decide(t.Context(), d); !errors.Is(err, want) {
			t.Errorf("challenge %d after pruning: %v, want %v", n, err, want)
		}
	}
	kept(t, s, used+2)
}

func parallelAdministrators(t *testing.T, open Opener) {
	s := opened(t, open)
	const each = 15
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range each {
				id := worker*each + n
				if err := s.PutAnchor(t.Context(), anchor(id), Entry("anchor.put", "")); err != nil {
					t.Error(err)
				}
				d := Decision(id, nil)
				for {
					g, err := s.Generation(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					d.Generation = g
					if err = s.Decide(t.Context(), d); !errors.Is(err, attest.ErrStale) {
						if err != nil {
							t.Error(err)
						}
						break
					}
				}
			}
		})
	}
	wg.Wait()
	kept(t, s, 2*4*each)
	if g, err := s.Generation(t.Context()); err != nil || g != 4*each+1 {
		t.Errorf("generation %d, %v, want %d", g, err, 4*each+1)
	}
}
