package integrity

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2/engine"
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
	if n := b.m.Shutdown(); n.BootCounter != 1 {
		t.Errorf("the end of a machine that has measured nothing here is of boot %d", n.BootCounter)
	}
	b.m.Take(engine.JournalRecord{Kind: engine.JournalInit})
	if n := b.m.Shutdown(); n.BootCounter != 0 {
		t.Errorf("the end of a machine before TPM2_Startup is of boot %d", n.BootCounter)
	}
	if got := b.m.Catch(slices.Values(journalOf(t, "good-uki"))); len(got) != 0 {
		t.Errorf("what was said of boot 1 is said again: %s", said(got))
	}
	if seen, _, err := b.m.Review(); err != nil || seen.Boot != 1 {
		t.Errorf("Review = %v, %v", seen, err)
	}
	got, err := b.approve("alice", "as it is")
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

// A machine that goes on in an earlier moment of the reviewed boot is another thing to
// approve, and the counter does not tell.
func TestAnApprovalIsOfWhatWasReviewed(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	good := journalOf(t, "good-uki")
	b.take(good)
	seen, changes, err := b.m.Review()
	if err != nil || seen.Boot != 2 || len(changes) != 0 {
		t.Fatal(seen, changes, err)
	}
	b.restart()
	if err := b.m.GoOn(2); err != nil {
		t.Fatal(err)
	}
	b.m.Catch(slices.Values(journalOf(t, "bad-uki-cmdline")))
	if _, err := b.m.Approve(seen, "alice", "seen"); !errors.Is(err, ErrNotSeen) || len(b.h.Versions) != 1 {
		t.Errorf("Approve of a boot that nobody reviewed = %v, %d baselines", err, len(b.h.Versions))
	}
	b.restart()
	b.m.Catch(slices.Values(good))
	for name, other := range map[string]Seen{"nothing": {}, "a counter alone": {Boot: 2}, "a digest alone": {Digest: seen.Digest}} {
		if _, err := b.m.Approve(other, "alice", ""); !errors.Is(err, ErrNotSeen) {
			t.Errorf("%s: Approve = %v", name, err)
		}
	}
	// The same boot is the same, whoever looks: the supervisor, or later a command without one.
	text, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	if b.h, err = ParseHistory(text); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if _, err := b.m.Approve(seen, "alice", "seen"); err != nil || len(b.h.Versions) != 2 {
		t.Errorf("Approve of what was reviewed = %v", err)
	}
	if _, err := b.m.Approve(seen, "alice", "again"); !errors.Is(err, ErrNotSeen) {
		t.Errorf("Approve of what was compared with another baseline = %v", err)
	}
}

// A machine that goes back to a boot is judged by the baseline of today.
func TestAnOldBootIsJudgedByTheBaselineInForce(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	b.boot("good-uki-update")
	if _, err := b.approve("alice", "boot 1's kernel has a hole"); err != nil {
		t.Fatal(err)
	}
	old := slices.Values(journalOf(t, "good-uki"))
	for _, want := range []string{"early- late-", ""} { // and says so once
		b.restart()
		if err := b.m.GoOn(1); err != nil {
			t.Fatal(err)
		}
		if got := said(b.m.Catch(old)); got != want {
			t.Errorf("events %q, want %q", got, want)
		}
	}
	r, err := b.h.Boot(1)
	if err != nil || r.Early != Failed || r.Late != Failed || r.Baseline != 2 {
		t.Errorf("boot 1 is %+v, %v", r, err)
	}
	if _, err := b.m.Restore(1, "bob", "it has none"); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if err := b.m.GoOn(2); err != nil {
		t.Fatal(err)
	}
	if got := said(b.m.Catch(slices.Values(journalOf(t, "good-uki-update")))); got != "early- late-" {
		t.Errorf("boot 2, which passed by baseline 2: events %q", got)
	}
}
