package attest

import (
	"context"
	"fmt"
	"testing"
)

// oneStore answers every name, and counts.
type oneStore struct {
	Administration
	reads int
}

func (s *oneStore) Attester(_ context.Context, akName string) (Attester, error) {
	s.reads++
	if akName == "unknown" {
		return Attester{}, ErrNotFound
	}
	return Attester{AKName: akName, Revision: 1}, nil
}

func TestAttesterCacheReadsOnceAndIsBounded(t *testing.T) {
	s := &oneStore{}
	c := newAttesterCache(s)
	get := func(name string) {
		t.Helper()
		if a, err := c.get(context.Background(), name); err != nil || a.AKName != name {
			t.Fatalf("get(%q) = %+v, %v", name, a, err)
		}
	}
	get("a")
	get("a")
	if s.reads != 1 {
		t.Errorf("%d reads of one record, want 1", s.reads)
	}
	c.drop("a")
	get("a")
	if s.reads != 2 {
		t.Errorf("%d reads after the record was dropped, want 2", s.reads)
	}
	for i := range attesterCacheSize + 10 {
		get(fmt.Sprint(i))
	}
	if len(c.byName) != attesterCacheSize || c.recent.Len() != attesterCacheSize {
		t.Errorf("%d records remembered, want %d", len(c.byName), attesterCacheSize)
	}
	before := s.reads
	get("a")
	if s.reads != before+1 {
		t.Error("the record used longest ago is still there")
	}
}

func TestAttesterCacheForgetsWhoIsUnknown(t *testing.T) {
	s := &oneStore{}
	c := newAttesterCache(s)
	for range 2 {
		if _, err := c.get(context.Background(), "unknown"); err == nil {
			t.Fatal("an unknown key has a record")
		}
	}
	if s.reads != 2 {
		t.Errorf("%d reads of an unknown key, want 2: it may be enrolled meanwhile", s.reads)
	}
}

func TestAttesterCacheFollowsTheRevision(t *testing.T) {
	c := newAttesterCache(&oneStore{})
	moved, same := Counters{Clock: 2}, Counters{Clock: 1}
	for _, tc := range []struct {
		before *Counters
		after  *Counters
		want   uint64
	}{{nil, &moved, 6}, {&same, &moved, 6}, {&moved, &moved, 5}} {
		c.decided(tc.before, Attester{AKName: "a", Revision: 5, Last: tc.after})
		if a, _ := c.lookUp("a"); a.Revision != tc.want {
			t.Errorf("after counters went from %v to %v the revision is %d, want %d", tc.before, tc.after, a.Revision, tc.want)
		}
	}
}
