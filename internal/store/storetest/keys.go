package storetest

import (
	"testing"

	"github.com/assay-project/assay/internal/attest"
)

func attestersAreFoundByKey(t *testing.T, open Opener) {
	s := opened(t, open)
	for n := range 3 {
		must(t, s.AddAttester(t.Context(), Attester(n), Entry("attester.add", "")))
	}
	find := func(what string, public []byte, want ...attest.Attester) {
		t.Helper()
		got, err := s.AttestersByKey(t.Context(), attest.KeyDigest(public))
		must(t, err)
		same(t, what, got, want)
	}
	one := Attester(1)
	one.Revision = 1
	find("a key", one.AKPublic, one)
	find("a key without a record", Attester(9).AKPublic)

	renamed := Attester(8)
	renamed.AKPublic = one.AKPublic
	wantErr(t, "the key under another Name", s.AddAttester(t.Context(), renamed, Entry("attester.add", "")), attest.ErrExists)
	one.Removed = true
	must(t, s.SetAttester(t.Context(), one, Entry("attester.remove", "")))
	one.Revision = 2
	find("a removed key", one.AKPublic, one)
	wantErr(t, "a removed key under another Name", s.AddAttester(t.Context(), renamed, Entry("attester.add", "")), attest.ErrExists)

	changed := one
	changed.AKPublic = []byte("another key")
	must(t, s.SetAttester(t.Context(), changed, Entry("attester.set", "")))
	changed.Revision = 3
	find("the key that the record has now", changed.AKPublic, changed)
	find("the key that it had", one.AKPublic)
	kept(t, s, 5)
}

func decisionRestsOnNoRecord(t *testing.T, open Opener) {
	s := opened(t, open)
	decide := func(n int, key attest.Attester) error {
		d := Decision(n, nil)
		d.Unrecorded = attest.KeyDigest(key.AKPublic)
		g, err := s.Generation(t.Context())
		must(t, err)
		d.Generation = g
		return s.Decide(t.Context(), d)
	}
	must(t, s.AddAttester(t.Context(), Attester(1), Entry("attester.add", "")))
	must(t, decide(1, Attester(2)))
	must(t, s.AddAttester(t.Context(), Attester(2), Entry("attester.add", "")))
	wantErr(t, "a key that was enrolled meanwhile", decide(2, Attester(2)), attest.ErrStale)
	gone := Attester(2)
	gone.Revision, gone.Removed = 1, true
	must(t, s.SetAttester(t.Context(), gone, Entry("attester.remove", "")))
	wantErr(t, "a key that was removed", decide(2, Attester(2)), attest.ErrStale)
	must(t, decide(2, Attester(3)))
	kept(t, s, 5)
}
