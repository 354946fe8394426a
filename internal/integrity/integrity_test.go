package integrity

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

func logOf(t testing.TB, scenario string) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Parse(evidencetest.File(t, scenario+"/eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// journalOf is what a TPM would have recorded of a boot that has this log.
func journalOf(t testing.TB, scenario string) []engine.JournalRecord {
	t.Helper()
	out := []engine.JournalRecord{{Kind: engine.JournalInit}, {Kind: engine.JournalStartup, Time: 1}}
	for e := range logOf(t, scenario).All() {
		if e.Measured() {
			out = append(out, extend(int(e.PCR), e.Digest(Bank)))
		}
	}
	return out
}

func extend(pcr int, digest []byte) engine.JournalRecord {
	return engine.JournalRecord{
		Kind: engine.JournalExtend, PCR: uint8(pcr), Time: 2,
		Digests: []tpm2.HA{{HashAlg: tpm2.AlgSHA1, Digest: make([]byte, 20)}, {HashAlg: Bank, Digest: digest}},
	}
}

func sum(text string) []byte {
	h, _ := Bank.Hash()
	d := h.New()
	d.Write([]byte(text))
	return d.Sum(nil)
}

func text(pcr int, s string) engine.JournalRecord { return extend(pcr, sum(s)) }

var (
	initRecord = engine.JournalRecord{Kind: engine.JournalInit}
	startup    = engine.JournalRecord{Kind: engine.JournalStartup}
	resume     = engine.JournalRecord{Kind: engine.JournalStartup, Detail: 2}
)

func watch(records ...engine.JournalRecord) (*Watch, []MomentKind) {
	w := NewWatch(Bank, nil)
	var kinds []MomentKind
	for _, r := range records {
		for _, m := range w.Take(r) {
			kinds = append(kinds, m.Kind)
		}
	}
	return w, kinds
}

// TestTheJournalLeadsToTheValuesOfTheLog holds the host's view of recorded boots
// against what package eventlog makes of the guest's log of the same boots.
func TestTheJournalLeadsToTheValuesOfTheLog(t *testing.T) {
	for _, scenario := range evidencetest.Scenarios(t) {
		if evidencetest.File(t, scenario+"/eventlog.bin") == nil {
			continue // GRUB without secure boot leaves no log
		}
		t.Run(scenario, func(t *testing.T) {
			w, kinds := watch(journalOf(t, scenario)...)
			if want := []MomentKind{Started, EarlyDone, LateDone}; !slices.Equal(kinds, want) {
				t.Fatalf("moments %v, want %v", kinds, want)
			}
			b := w.Boot()
			want, err := logOf(t, scenario).Inspect(Bank)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want.Early(), b.Early()); d != "" {
				t.Errorf("early values (-log +journal):\n%s", d)
			}
			if d := cmp.Diff(want.Late(), b.Late()); d != "" {
				t.Errorf("late values (-log +journal):\n%s", d)
			}
			for i, c := range b.Components() {
				if !bytes.Equal(c.Digest, b.Events()[i].Digest) || c.Name == "" || c.Kind == "" {
					t.Errorf("event %d: component %+v", i, c)
				}
			}
		})
	}
}

func TestARefusedImageNeverPasses(t *testing.T) {
	for _, scenario := range evidencetest.Denied(t) {
		good, want := "good-uki", "startup bootAttemptFailed early-"
		if scenario == "bad-kernel-byte" { // the boot loader ran, and refused the kernel
			good, want = "good-shim-grub", "startup early+"
		}
		b := newBench(t, nil)
		b.boot(good)
		got := b.boot(scenario)
		if said(got) != want {
			t.Errorf("%s: events %s, want %s", scenario, said(got), want)
		}
		if r := b.h.Boots[1]; r.Late != NotReached {
			t.Errorf("%s: late boot %q, want not reached", scenario, r.Late)
		}
		if want != "startup early+" && got[1].Reasons[0].Code != codeAttemptRefused {
			t.Errorf("%s: reasons %v", scenario, got[1].Reasons)
		}
	}
}

func TestMomentsOfABoot(t *testing.T) {
	separators := func() (out []engine.JournalRecord) {
		for pcr := range 8 {
			out = append(out, text(pcr, "\x00\x00\x00\x00"))
		}
		return out
	}()
	calling, returning, exit, success := text(4, textCalling), text(4, textReturning), text(5, textExit), text(5, textSuccess)
	start := []engine.JournalRecord{initRecord, startup}
	join := slices.Concat[[]engine.JournalRecord]
	one := func(r ...engine.JournalRecord) []engine.JournalRecord { return r }
	for name, tc := range map[string]struct {
		records []engine.JournalRecord
		want    []MomentKind
	}{
		"one attempt":             {join(start, one(calling), separators, one(text(4, "loader"), text(4, "kernel"), exit, success)), []MomentKind{Started, EarlyDone, LateDone}},
		"attempts that came back": {join(start, one(calling), separators, one(text(4, "a"), returning, calling, text(4, "b"), exit, success)), []MomentKind{Started, EarlyDone, Returned, EarlyDone, LateDone}},
		"an attempt refused":      {join(start, one(calling), separators, one(returning, calling, text(4, "b"), exit, success)), []MomentKind{Started, Refused, EarlyDone, LateDone}},
		"a direct kernel":         {join(start, one(text(4, "kernel")), separators, one(exit, success)), []MomentKind{Started, EarlyDone, LateDone}},
		"a failed exit":           {join(start, one(calling), separators, one(text(4, "a"), exit, text(5, textFailed), exit, success)), []MomentKind{Started, EarlyDone, LateDone}},
		"appended afterwards":     {join(start, one(calling), separators, one(text(4, "a"), exit, success, text(4, "b"), text(7, "c"), text(11, "d"))), []MomentKind{Started, EarlyDone, LateDone, Appended}},
		"two boots":               {join(start, separators, one(text(4, "a"), success), start, separators, one(text(4, "a"), success)), []MomentKind{Started, EarlyDone, LateDone, Started, EarlyDone, LateDone}},
		"reset within firmware":   {join(start, one(text(0, "x")), start, separators, one(text(4, "a"), success)), []MomentKind{Started, Started, EarlyDone, LateDone}},
		"suspend":                 {join(start, separators, one(text(4, "a"), success, engine.JournalRecord{Kind: engine.JournalShutdown, Detail: 1}, initRecord, resume)), []MomentKind{Started, EarlyDone, LateDone, Announced, Resumed}},
		"no program":              {join(start, one(success)), []MomentKind{Started, LateDone}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := watch(tc.records...); !slices.Equal(got, tc.want) {
				t.Errorf("moments %v, want %v", got, tc.want)
			}
		})
	}
}

func TestABootIsConfirmedOnlyWhenAllOfItWasSeen(t *testing.T) {
	boot := journalOf(t, "good-uki")
	for name, tc := range map[string]struct {
		records []engine.JournalRecord
		broken  bool
	}{
		"whole":             {boot, false},
		"from the middle":   {boot[9:], true},
		"resume of a known": {slices.Concat(boot, []engine.JournalRecord{initRecord, resume}), false},
		"resume of unknown": {[]engine.JournalRecord{initRecord, resume}, true},
		"endless":           {slices.Concat(boot[:2], slices.Repeat([]engine.JournalRecord{text(8, "x")}, MaxEvents+1)), true},
		"without this bank": {slices.Concat(boot[:2], []engine.JournalRecord{{Kind: engine.JournalExtend, PCR: 4, Digests: []tpm2.HA{{HashAlg: tpm2.AlgSHA1, Digest: make([]byte, 20)}}}}), true},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := watch(tc.records...)
			b := w.Boot()
			if b.Broken() != tc.broken || b.Confirms(4) == tc.broken {
				t.Errorf("broken %v, confirms %v, want broken %v", b.Broken(), b.Confirms(4), tc.broken)
			}
			if tc.broken && (len(b.Early()) > 0 || len(b.Late()) > 0) {
				t.Errorf("a broken record has values")
			}
		})
	}
	if new(Boot).Confirms(0) {
		t.Error("the zero Boot confirms a register")
	}
}

func TestLocalityOfStartupAndHCRTMAreInPCR0(t *testing.T) {
	v := func(start byte, digests ...[]byte) []byte {
		b := &Boot{bank: Bank, start: start}
		return b.value(0, digests)
	}
	at3, _ := watch(initRecord, engine.JournalRecord{Kind: engine.JournalStartup, Locality: 3}, text(0, "x"))
	if got, want := at3.Boot().Late()[0], v(3, sum("x")); !bytes.Equal(got, want) {
		t.Errorf("PCR 0 after Startup at locality 3: %x, want %x", got, want)
	}
	hash := text(0, "crtm")
	hash.Kind = engine.JournalHashEnd
	hcrtm, _ := watch(initRecord, hash, startup, text(0, "x"))
	if got, want := hcrtm.Boot().Late()[0], v(4, sum("crtm"), sum("x")); !bytes.Equal(got, want) {
		t.Errorf("PCR 0 after an H-CRTM: %x, want %x", got, want)
	}
}

// bench is a monitor under a clock of its own.
type bench struct {
	t testing.TB
	h *History
	m *Monitor
	c Config
}

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := &bench{t: t, h: &History{}, c: Config{
		Instance: "web-1", Profile: baseline.Default(), Shape: baseline.Shape{VCPUs: 1},
		Now: func() time.Time { now = now.Add(time.Second); return now },
	}}
	if change != nil {
		change(&b.c)
	}
	b.restart()
	return b
}

func (b *bench) restart() {
	b.t.Helper()
	m, err := NewMonitor(b.h, b.c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.m = m
}

// approve makes a baseline of what is reviewed at once.
func (b *bench) approve(actor, reason string) ([]Notice, error) {
	b.t.Helper()
	seen, _, none := b.m.Review()
	out, err := b.m.Approve(seen, actor, reason)
	if none != nil && !errors.Is(err, ErrNoBoot) {
		b.t.Errorf("Review = %v, and Approve = %v", none, err)
	}
	return out, err
}

func (b *bench) take(records []engine.JournalRecord) (out []Notice) {
	for _, r := range records {
		out = append(out, b.m.Take(r)...)
	}
	return out
}

func (b *bench) boot(scenario string) (out []Notice) {
	b.t.Helper()
	for _, r := range journalOf(b.t, scenario) {
		out = append(out, b.m.Take(r)...)
	}
	return out
}

// said is the sequence of events in short.
func said(notices []Notice) string {
	var out []string
	for _, n := range notices {
		word := strings.TrimSuffix(strings.TrimSuffix(n.Type, "Event"), "BootReport")
		if n.Report != nil {
			word += map[bool]string{true: "+", false: "-"}[n.Passed()]
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// TestTheSequenceOfAnUpdateIsGooglesOwn is SPEC G10.
func TestTheSequenceOfAnUpdateIsGooglesOwn(t *testing.T) {
	b := newBench(t, nil)
	if got, want := said(b.boot("good-uki")), "startup early+ late+"; got != want {
		t.Fatalf("first boot: %s, want %s", got, want)
	}
	if got := said([]Notice{b.m.Shutdown()}); got != "shutdown" {
		t.Errorf("the end is %s", got)
	}
	update := b.boot("good-uki-update")
	if got, want := said(update), "startup early- late-"; got != want {
		t.Fatalf("update: %s, want %s", got, want)
	}
	for _, n := range update {
		if n.BootCounter != 2 || n.Instance != "web-1" {
			t.Errorf("%s: boot %d of %q, want 2 of web-1", n.Type, n.BootCounter, n.Instance)
		}
	}
	seen, changes, err := b.m.Review()
	if err != nil || len(changes) == 0 || seen.Boot != 2 {
		t.Fatalf("Review() = %v, %v, %v", seen, changes, err)
	}
	approved, err := b.m.Approve(seen, "alice", "kernel update")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := said(approved), "setShieldedVmIntegrityPolicy early+ late+"; got != want {
		t.Errorf("approval: %s, want %s", got, want)
	}
	if approved[0].Actor != "alice" || approved[1].Baseline != 2 {
		t.Errorf("approval by %q gave baseline %d", approved[0].Actor, approved[1].Baseline)
	}
	if got, want := said(b.boot("good-uki-update")), "startup early+ late+"; got != want {
		t.Errorf("the boot after the update: %s, want %s", got, want)
	}
	back, err := b.m.Restore(1, "bob", "it was no update")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := said(back), "setShieldedVmIntegrityPolicy early- late-"; got != want {
		t.Errorf("restored: %s, want %s", got, want)
	}
	if v := b.h.InForce(); v.Number != 3 || v.Actor != "bob" || !strings.Contains(v.Reason, "restored from 1") {
		t.Errorf("version in force: %+v", v)
	}
}

// TestAChangedCommandLineFailsLateAndNotEarly is the heart of the product: the
// report names what changed. Under the profile gce it passes.
func TestWhatChangedIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		good, bad string
		profile   baseline.Profile
		want      string
		component string
	}{
		"kernel command line":   {"good-shim-grub", "bad-cmdline", baseline.Default(), "startup early+ late-", "boot loader command"},
		"initrd":                {"good-shim-grub", "bad-initrd", baseline.Default(), "startup early+ late-", "file that the boot loader read"},
		"initrd under gce":      {"good-shim-grub", "bad-initrd", baseline.GCE(), "startup early+ late+", ""},
		"command line of a UKI": {"good-uki", "bad-uki-cmdline", baseline.Default(), "startup early- late-", "kernel command line"},
		"another key in db":     {"good-uki", "bad-db-extra-key", baseline.GCE(), "startup early- late-", "db"},
		"nothing":               {"good-uki", "good-uki", baseline.Default(), "startup early+ late+", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Profile = tc.profile })
			b.boot(tc.good)
			got := b.boot(tc.bad)
			if said(got) != tc.want {
				t.Fatalf("events %s, want %s", said(got), tc.want)
			}
			var names []string
			for _, d := range got[2].Differences {
				if d.Judged {
					names = append(names, d.Component)
				}
			}
			if tc.component == "" && len(names) > 0 || tc.component != "" && !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, tc.component) }) {
				t.Errorf("components %q, want one that begins with %q", names, tc.component)
			}
		})
	}
}

// TestTheOrderOfReportsIsFixed is SPEC G9.
func TestTheOrderOfReportsIsFixed(t *testing.T) {
	b := newBench(t, nil)
	for _, n := range b.boot("good-shim-grub")[1:] {
		var actual, policy []string
		for _, m := range n.Report.ActualMeasurements {
			actual = append(actual, m.PCRNum)
		}
		for _, m := range n.Report.PolicyMeasurements {
			policy = append(policy, m.PCRNum)
		}
		if want := []string{"PCR_0", "PCR_4", "PCR_5", "PCR_7"}; !slices.Equal(actual, want) {
			t.Errorf("%s: actual %v, want %v", n.Type, actual, want)
		}
		if want := []string{"PCR_0", "PCR_4", "PCR_7"}; !slices.Equal(policy, want) {
			t.Errorf("%s: policy %v, want %v", n.Type, policy, want)
		}
		p, ok := n.GCE()
		if !ok || p["bootCounter"] != "1" || p[n.Type] == nil {
			t.Errorf("%s: Google's shape %v", n.Type, p)
		}
	}
}

func TestABrokenRecordNeverPassesAndIsNeverLearned(t *testing.T) {
	b := newBench(t, nil)
	records := journalOf(t, "good-uki")
	var got []Notice
	for i, r := range records {
		if i == len(records)-2 {
			got = append(got, b.m.Lose()...)
		}
		got = append(got, b.m.Take(r)...)
	}
	if said(got) != "startup early+ late-" {
		t.Errorf("events %s", said(got))
	}
	if len(b.h.Versions) != 0 || b.h.Boots[0].Late != Unknown {
		t.Errorf("%d baselines, outcome %q; want none, and unknown", len(b.h.Versions), b.h.Boots[0].Late)
	}
	if _, err := b.approve("alice", ""); err == nil {
		t.Error("a broken record became the baseline")
	}
}

// A machine that goes on in a snapshot is in the boot of the snapshot: the verdict of the
// one before is not its.
func TestASnapshotOfAnotherBootIsJudged(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalOf(t, "good-uki"))
	b.take(journalOf(t, "good-uki"))
	b.restart()
	if got := b.m.Catch(slices.Values(journalOf(t, "good-uki"))); len(got) != 0 {
		t.Errorf("the boot that was judged is told again: %s", said(got))
	}
	b.restart()
	if got := b.m.Catch(slices.Values(journalOf(t, "bad-uki-cmdline"))); said(got) != "early- late-" {
		t.Errorf("a snapshot of a bad boot: %s", said(got))
	}
	if r, err := b.h.Boot(2); err != nil || r.Late != Failed {
		t.Errorf("kept as %+v, %v", r, err)
	}
}

// A guest that fills the record of its boot, or tries boot options for ever, gets one
// report that it failed, and no more events.
func TestAGuestThatFillsItsRecordFails(t *testing.T) {
	good := journalOf(t, "good-uki")
	returning := text(4, "Returning from EFI Application from Boot Option")
	var loop []engine.JournalRecord
	for i := range 4 * maxAttempts {
		loop = append(loop, returning, text(4, strconv.Itoa(i)))
	}
	middle := len(good) - 6
	for name, tc := range map[string]struct {
		flood []engine.JournalRecord
		most  int // events
	}{
		"events":   {slices.Repeat([]engine.JournalRecord{text(8, "x")}, MaxEvents), 3},
		"attempts": {loop, 2*maxAttempts + 4},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.take(good)
			got := b.take(slices.Concat(good[:middle], tc.flood, good[middle:]))
			last := got[len(got)-1]
			if last.Type != EventLateReport || last.Passed() || last.Reasons[0].Code != codeIncomplete || len(got) > tc.most {
				t.Errorf("%d events, the last %s %v", len(got), last.Type, last.Reasons)
			}
			if r, err := b.h.Boot(2); err != nil || r.Late != Unknown {
				t.Errorf("kept as %+v, %v", r, err)
			}
		})
	}
}

func TestARecordThatFillsAfterTheBootIsSaidOnce(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalOf(t, "good-uki"))
	got := append(b.m.Lose(), b.m.Lose()...)
	if len(got) != 1 || got[0].Type != EventRecordFull || b.h.Boots[0].Late != Learned {
		t.Errorf("%+v", got)
	}
}

func TestANoticeIsBounded(t *testing.T) {
	good := journalOf(t, "good-uki")
	middle := len(good) - 6
	var flood []engine.JournalRecord
	for i := range 1500 {
		flood = append(flood, text(8+i%7, strconv.Itoa(i)))
	}
	b := newBench(t, nil)
	b.take(good)
	got := b.take(slices.Concat(good[:middle], flood, good[middle:]))
	last := got[len(got)-1]
	if last.Type != EventLateReport || last.Passed() || len(last.Differences) != maxShown || last.More < 1000 || len(last.Reasons) != maxShown+1 {
		t.Errorf("%s, %d differences and %d more, %d reasons", last.Type, len(last.Differences), last.More, len(last.Reasons))
	}
	if text, err := json.Marshal(last); err != nil || len(text) > 256<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestOnlyAWholeBootCanBeApproved(t *testing.T) {
	b := newBench(t, nil)
	if _, err := b.approve("alice", ""); err == nil {
		t.Error("approved before any boot")
	}
	for _, r := range journalOf(t, "good-uki")[:20] {
		b.m.Take(r)
	}
	if _, err := b.approve("alice", ""); err == nil {
		t.Error("approved within a boot")
	}
	if _, err := b.m.Restore(7, "alice", ""); err == nil {
		t.Error("restored a baseline that there never was")
	}
}

// A machine that was given another size is judged by what it was before: else a resize
// would be a way round the baseline.
func TestAnotherShapeIsNoWayRoundTheBaseline(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	b.c.Shape.VCPUs = 2
	b.restart()
	if got := said(b.boot("bad-uki-cmdline")); got != "startup early- late-" {
		t.Errorf("tampered, in another shape: %s", got)
	}
	if got := said(b.boot("good-uki")); got != "startup early+ late+" || len(b.h.Versions) != 1 {
		t.Errorf("the same boot in another shape: %s, %d baselines", got, len(b.h.Versions))
	}
}

// An update that was approved in another size is approved: with the old size the kernel of
// that time does not come back, and the new one raises no alarm.
func TestAnOldSizeBringsNoOldBaselineBack(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	b.c.Shape.VCPUs = 2
	b.restart()
	b.boot("good-uki-update")
	if _, err := b.approve("alice", "another kernel"); err != nil {
		t.Fatal(err)
	}
	b.c.Shape.VCPUs = 1
	b.restart()
	if got := said(b.boot("good-uki")); got != "startup early- late-" {
		t.Errorf("the old kernel, in the old size: %s", got)
	}
	if got := said(b.boot("good-uki-update")); got != "startup early+ late+" {
		t.Errorf("the approved kernel, in the old size: %s", got)
	}
	back, err := b.m.Restore(1, "alice", "back to the old kernel")
	if got := said(back); err != nil || got != "setShieldedVmIntegrityPolicy early- late-" {
		t.Errorf("the old baseline, by an approval: %s, %v", got, err)
	}
}

// TestAnotherVolumeOfTheSameShapeIsJudged: PCR 0's first volume depends on the shape of
// a machine, and on nothing else.
func TestAnotherVolumeOfTheSameShapeIsJudged(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Shape = baseline.Shape{Machine: "q35", Firmware: "ovmf", VCPUs: 1, MemoryMiB: 512, MemoryTypeInformation: "00"}
	})
	b.boot("good-uki")
	records := journalOf(t, "good-uki")
	changed := false
	var got []Notice
	for _, r := range records {
		if r.Kind == engine.JournalExtend && r.PCR == 0 && !changed && bytes.Equal(r.Digests[1].Digest, volumeOf(t, records)) {
			r, changed = extend(0, sum("another volume")), true
		}
		got = append(got, b.m.Take(r)...)
	}
	if want := "startup early- late+"; !changed || said(got) != want {
		t.Errorf("changed %v: events %s, want %s", changed, said(got), want)
	}
}

// volumeOf is the second event of PCR 0: the first firmware volume.
func volumeOf(t *testing.T, records []engine.JournalRecord) []byte {
	t.Helper()
	n := 0
	for _, r := range records {
		if r.Kind == engine.JournalExtend && r.PCR == 0 {
			if n++; n == 2 {
				return r.Digests[1].Digest
			}
		}
	}
	t.Fatal("no second event of PCR 0")
	return nil
}

func TestOnlyTheBootThatWasReviewedIsApproved(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	b.boot("good-uki-update")
	seen, _, err := b.m.Review()
	if err != nil {
		t.Fatal(err)
	}
	b.boot("bad-uki-cmdline") // while a person reads
	if _, err := b.m.Approve(seen, "alice", "update"); err == nil {
		t.Error("a boot that nobody reviewed became the baseline")
	}
}

func TestTheFirstBaselineMayBeLeftToAPerson(t *testing.T) {
	b := newBench(t, func(c *Config) { c.ApproveFirst = true })
	got := b.boot("good-uki")
	if said(got) != "startup early- late-" || got[2].Reasons[0].Code != codeUnapproved || len(b.h.Versions) != 0 {
		t.Fatalf("events %s, reasons %v, %d baselines", said(got), got[2].Reasons, len(b.h.Versions))
	}
	if _, err := b.approve("alice", "looked at"); err != nil {
		t.Fatal(err)
	}
	if got := said(b.boot("good-uki")); got != "startup early+ late+" {
		t.Errorf("after the approval: %s", got)
	}
}

func TestOffCountsBootsAndJudgesNone(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Off = true })
	if got := said(b.boot("good-uki")); got != "startup" || b.h.BootCounter != 1 || len(b.h.Versions) != 0 {
		t.Errorf("events %s, boot %d, %d baselines", got, b.h.BootCounter, len(b.h.Versions))
	}
	if _, _, err := b.m.Review(); err == nil {
		t.Error("reviewed a boot that was not judged")
	}
}

func TestAProcessThatBeginsWithinABootCountsItOnce(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	records := journalOf(t, "good-uki-update")
	var got []Notice
	for _, r := range records[:30] {
		got = append(got, b.m.Take(r)...)
	}
	b.restart()
	got = append(got, b.m.Catch(slices.Values(records[:30]))...)
	for _, r := range records[30:] {
		got = append(got, b.m.Take(r)...)
	}
	if want := "startup early- late-"; said(got) != want || b.h.BootCounter != 2 {
		t.Errorf("events %s of boot %d, want %s of 2", said(got), b.h.BootCounter, want)
	}
}

func TestAPartThatEndedWhileNobodyWatchedIsReported(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	records := journalOf(t, "bad-uki-cmdline")
	for _, r := range records[:3] { // the boot is counted
		b.m.Take(r)
	}
	b.restart()
	if got, want := said(b.m.Catch(slices.Values(records))), "early- late-"; got != want || b.h.BootCounter != 2 {
		t.Errorf("caught %s of boot %d, want %s of 2", got, b.h.BootCounter, want)
	}
	b.restart()
	if got := b.m.Catch(slices.Values(records)); got != nil {
		t.Errorf("said twice: %s", said(got))
	}
}

func TestWhatATPMTakesTwiceIsThereTwice(t *testing.T) {
	twice := text(4, "a")
	twice.Digests = append(twice.Digests, tpm2.HA{HashAlg: Bank, Digest: sum("b")})
	one, _ := watch(initRecord, startup, twice)
	two, _ := watch(initRecord, startup, text(4, "a"), text(4, "b"))
	if d := cmp.Diff(two.Boot().Late(), one.Boot().Late()); d != "" {
		t.Errorf("a bank that is named twice (-two commands +one):\n%s", d)
	}
}

// A reset while the machine wakes starts the TPM without TPM2_Startup; the boot that
// was suspended is still the one that is resumed.
func TestAResetOfAWakingMachineHidesNoBoot(t *testing.T) {
	w, _ := watch(initRecord, startup, text(4, "a"), initRecord, initRecord, resume, text(4, "b"))
	want, _ := watch(initRecord, startup, text(4, "a"), text(4, "b"))
	if d := cmp.Diff(want.Boot().Late(), w.Boot().Late()); d != "" || w.Boot().Broken() {
		t.Errorf("(-whole +resumed):\n%s", d)
	}
}

func TestAHistoryIsReadAsItWasWritten(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	b.boot("good-uki-update")
	if _, err := b.approve("alice", "update"); err != nil {
		t.Fatal(err)
	}
	first, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHistory(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("a history changes when it is read and written")
	}
	b.h = h
	b.restart()
	if got := said(b.boot("good-uki")); got != "startup early- late-" {
		t.Errorf("after reading: %s", got)
	}
	one, err := h.Boot(1)
	if err != nil {
		t.Fatal(err)
	}
	two, err := h.Boot(2)
	if err != nil {
		t.Fatal(err)
	}
	if c := baseline.From(one.Boot, one.Shape).Compare(two.Boot, baseline.Default()); c.Passed() || len(c.Differences) == 0 {
		t.Error("two kept boots compare as equal")
	}
	for n := range first {
		if n%97 == 0 {
			if _, err := ParseHistory(first[:n]); err == nil {
				t.Fatalf("the first %d bytes are a history", n)
			}
		}
	}
}

func TestBadHistoriesAreRefused(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	good, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"version":  {`"version":2,"bootCounter"`, `"version":3,"bootCounter"`, "version"},
		"counter":  {`"version":2,"bootCounter":"1"`, `"version":2,"bootCounter":"0"`, "order"},
		"outcome":  {`"late":"learned"`, `"late":"trusted"`, "outcome"},
		"bank":     {`"bank":"sha256","startLocality"`, `"bank":"md5","startLocality"`, "bank"},
		"end":      {`"lateEvents":`, `"lateEvents":1`, "end of the boot"},
		"register": {`{"pcr":7,`, `{"pcr":99,`, "PCR 99"},
		"digest":   {`"digest":"`, `"digest":"00`, "digest"},
		"unknown":  {`"broken":false`, `"broken":false,"trusted":true`, "trusted"},
		"number":   {`"number":1`, `"number":0`, "baseline 0"},
		"twice":    {`"broken":false`, `"broken":false,"broken":true`, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(good), tc.old, tc.new, 1)
			if bad == string(good) {
				t.Fatal("nothing was changed")
			}
			if _, err := ParseHistory([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ParseHistory = %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestLimitsOfAHistory(t *testing.T) {
	h := &History{}
	for i := range maxBoots + 3 {
		h.keep(BootRecord{Counter: uint64(i + 1), Boot: &Boot{bank: Bank}})
	}
	base := baseline.From(&Boot{bank: Bank}, baseline.Shape{})
	for range maxBaselines + 3 {
		h.add(Version{Baseline: base})
	}
	if len(h.Boots) != maxBoots || h.Boots[0].Counter != 4 || len(h.Versions) != maxBaselines || h.Versions[0].Number != 4 {
		t.Errorf("%d boots from %d, %d baselines from %d", len(h.Boots), h.Boots[0].Counter, len(h.Versions), h.Versions[0].Number)
	}
	if _, err := h.Boot(1); err == nil {
		t.Error("a boot that was dropped is there")
	}
}

func TestEveryCodeIsInTheTable(t *testing.T) {
	for _, code := range []evidence.Code{codeAttemptFailed, codeAttemptRefused, codeAppended, codeLearned, codeIncomplete, codeEarlyMismatch, codeLateMismatch, codeDeadline, codeUnapproved} {
		if _, ok := evidence.Describe(code); !ok {
			t.Errorf("%s is not in the table of reason codes", code)
		}
	}
}

func TestNamesOfTheCallerComeFirst(t *testing.T) {
	records := journalOf(t, "good-uki")
	known := sum("known")
	w := NewWatch(Bank, func(pcr int, digest []byte) (Name, bool) {
		return Name{Kind: eventlog.KindKernel, Name: "vmlinuz", Proven: true}, pcr == 9 && bytes.Equal(digest, known)
	})
	for _, r := range slices.Concat(records[:2], []engine.JournalRecord{extend(9, known), extend(9, sum("other"))}) {
		w.Take(r)
	}
	c := w.Boot().Components()
	if c[0].Name != "vmlinuz" || !c[0].Proven || c[1].Proven {
		t.Errorf("components %+v", c)
	}
}

func FuzzParseHistory(f *testing.F) {
	b := newBench(f, nil)
	b.boot("good-uki")
	good, err := json.Marshal(b.h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"bootCounter":"0","baselines":[],"boots":[]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ParseHistory(in)
		if err != nil {
			return
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHistory(again); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}

func FuzzWatch(f *testing.F) {
	f.Add([]byte{1, 2, 4, 4, 5})
	f.Fuzz(func(t *testing.T, in []byte) {
		words := []string{"\x00\x00\x00\x00", textCalling, textReturning, textExit, textSuccess, "x"}
		w := NewWatch(Bank, nil)
		for i := 0; i+2 < len(in); i += 3 {
			r := text(int(in[i+1]%24), words[int(in[i+2])%len(words)])
			if r.Kind = engine.JournalKind(in[i]%10 + 1); r.Kind == engine.JournalStartup {
				r.Detail = in[i+1] % 3
			}
			for _, m := range w.Take(r) {
				m.Boot.Components()
				m.Boot.Early()
				m.Boot.Late()
			}
		}
	})
}

// A guest's grub.cfg may have a line of 256 KiB, or of characters that JSON writes in six
// bytes each, and have it measured as often as the TPM's journal holds.
func TestRecordOfLongNamesIsReadAgain(t *testing.T) {
	for what, long := range map[string]string{"long": strings.Repeat("x", 200<<10), "escaped": strings.Repeat("<", 4096), "of two bytes": strings.Repeat("é", 4096)} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, func(c *Config) {
				c.Names = func(pcr int, _ []byte) (Name, bool) {
					return Name{Kind: "config", Name: long, Detail: long, Signer: long}, pcr == 8
				}
			})
			boot := journalOf(t, "good-uki")
			for range 350 {
				boot = slices.Insert(boot, len(boot)-1, extend(8, sum("the line")))
			}
			b.take(boot)
			text, err := b.h.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseHistory(text)
			if err != nil {
				t.Fatalf("%d bytes: %v", len(text), err)
			}
			if len(again.Versions) != 1 || len(text) > 2<<20 {
				t.Errorf("%d baselines in %d bytes", len(again.Versions), len(text))
			}
		})
	}
}

func TestRecordThatIsTooLargeLosesItsOldestBootsFirst(t *testing.T) {
	b := newBench(t, nil)
	for range 5 {
		b.boot("good-uki")
	}
	whole, err := b.h.Encode()
	if err != nil || len(b.h.Boots) != 5 {
		t.Fatalf("%d boots, %v", len(b.h.Boots), err)
	}
	text, err := b.h.encode(len(whole) - 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseHistory(text)
	if err != nil || len(again.Versions) != 1 || len(again.Boots) == 0 || again.Boots[len(again.Boots)-1].Counter != 5 || again.BootCounter != 5 {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := b.h.encode(100); !errors.Is(err, errLimit) {
		t.Errorf("a record that cannot be kept: %v", err)
	}
}
