package integrity

import (
	"encoding/json"
	"slices"
	"testing"
)

// A machine that goes on in an earlier boot is in that boot, and the next one that begins
// has a counter of its own.
func TestAnEarlierBootGoesOn(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalOf(t, "good-uki"))
	b.take(journalOf(t, "bad-uki-cmdline"))
	b.restart()
	if err := b.m.GoOn(3); err == nil {
		t.Error("a boot that has not been goes on")
	}
	if err := b.m.GoOn(1); err != nil || b.m.BootCounter() != 1 {
		t.Fatalf("GoOn(1) = %v, in boot %d", err, b.m.BootCounter())
	}
	if got := b.m.Catch(slices.Values(journalOf(t, "good-uki"))); len(got) != 0 {
		t.Errorf("what was said of boot 1 is said again: %s", said(got))
	}
	if boot, _, err := b.m.Review(); err != nil || boot != 1 {
		t.Errorf("Review = %d, %v", boot, err)
	}
	got, err := b.m.Approve(1, "alice", "as it is")
	if err != nil || got[0].BootCounter != 1 {
		t.Fatalf("Approve = %s, %v", said(got), err)
	}
	for _, n := range b.take(journalOf(t, "good-uki")) {
		if n.BootCounter != 3 {
			t.Errorf("the next boot has the event %s of boot %d", n.Type, n.BootCounter)
		}
	}
	text, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseHistory(text); err != nil || len(b.h.Boots) != 3 {
		t.Errorf("%d boots, %v", len(b.h.Boots), err)
	}
}
