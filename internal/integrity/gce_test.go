package integrity

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/tpm2/engine"
)

// samples are logs of machines that others recorded.
var samples = sampletest.Files("../../eventlog/testdata/logs.zip")

// journalOfSample is what a TPM would have recorded of a boot whose log others recorded.
func journalOfSample(t *testing.T, name string) []engine.JournalRecord {
	t.Helper()
	all, err := samples()
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(all["eventlogs/bios/"+name+".bin"])
	if err != nil {
		t.Fatal(err)
	}
	out := []engine.JournalRecord{initRecord, startup}
	for e := range l.All() {
		if e.Measured() {
			out = append(out, extend(int(e.PCR), e.Digest(Bank)))
		}
	}
	return out
}

// values are the registers that a journal leads to, and those of its early boot, found by
// extending alone: early is the number of extensions of a register until then.
func values(records []engine.JournalRecord, early map[int]int) map[int]string {
	h, _ := Bank.Hash()
	state, count := map[int][]byte{}, map[int]int{}
	for _, r := range records {
		pcr := int(r.PCR)
		if r.Kind != engine.JournalExtend || early != nil && count[pcr] == early[pcr] {
			continue
		}
		count[pcr]++
		if state[pcr] == nil {
			state[pcr] = make([]byte, Bank.DigestSize())
		}
		d := h.New()
		d.Write(state[pcr])
		d.Write(r.Digests[1].Digest)
		state[pcr] = d.Sum(nil)
	}
	out := map[int]string{}
	for pcr, v := range state {
		out[pcr] = base64.StdEncoding.EncodeToString(v)
	}
	return out
}

// listed is Google's list of some registers.
func listed(values map[int]string, pcrs ...int) []map[string]string {
	out := []map[string]string{}
	for _, pcr := range pcrs {
		out = append(out, map[string]string{"pcrNum": fmt.Sprintf("PCR_%d", pcr), "value": values[pcr], "hashAlgo": "sha256"})
	}
	return out
}

// A gceBoot is a journal, with how many extensions of each register are its early boot's.
type gceBoot struct {
	records []engine.JournalRecord
	early   map[int]int
}

// The events of SPEC G10 as Google's log has them, with all their fields (G8) and the
// lists in the order of G9, of a Linux machine and of a Windows machine.
func TestTheEventsOfAnUpdateHaveGooglesFields(t *testing.T) {
	t.Parallel()
	windows := journalOfSample(t, "win-dell-r340-sb-on-a")
	// Windows' own separator closes PCR 12 to 14, and BitLocker's PCR 11: a driver more
	// stands before them.
	more := slices.Clone(windows)
	at := slices.IndexFunc(more, func(r engine.JournalRecord) bool { return r.Kind == engine.JournalExtend && r.PCR == 13 })
	more = slices.Insert(more, at, text(13, "another driver"))
	for name, tc := range map[string]struct {
		profile      baseline.Profile
		first, next  gceBoot
		actual, late []int // of the late report: measured, and of the policy
	}{
		"Linux": {
			baseline.Default(),
			gceBoot{journalOf(t, "good-shim-grub"), map[int]int{0: 4, 4: 3, 5: 2, 7: 7}},
			gceBoot{journalOf(t, "bad-initrd"), map[int]int{0: 4, 4: 3, 5: 2, 7: 7}},
			[]int{0, 4, 5, 7},
			[]int{0, 4, 7},
		},
		"Windows": {
			baseline.GCE(),
			gceBoot{windows, nil},
			gceBoot{more, nil},
			[]int{0, 4, 5, 7, 11, 12, 13, 14},
			[]int{0, 4, 7, 11, 13, 14},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(c *Config) { c.Profile = tc.profile })
			b.take(tc.first.records)
			b.m.Shutdown()
			got := b.take(tc.next.records)
			approved, err := b.approve("alice", "an update")
			if err != nil {
				t.Fatal(err)
			}
			got = append(append(got, approved...), b.m.Shutdown())
			report := func(kind string, passed bool, policy gceBoot) map[string]any {
				was, is := values(policy.records, nil), values(tc.next.records, nil)
				actual, late := tc.actual, tc.late
				if kind == EventEarlyReport {
					was, is = values(policy.records, policy.early), values(tc.next.records, tc.next.early)
					actual, late = []int{0, 4, 5, 7}, []int{0, 4, 7}
				}
				return map[string]any{"policyEvaluationPassed": passed, "policyMeasurements": listed(was, late...), "actualMeasurements": listed(is, actual...)}
			}
			want := []struct {
				kind   string
				fields map[string]any
			}{
				{EventStartup, map[string]any{}},
				{EventEarlyReport, report(EventEarlyReport, true, tc.first)},
				{EventLateReport, report(EventLateReport, false, tc.first)},
				{EventSetPolicy, map[string]any{}},
				{EventEarlyReport, report(EventEarlyReport, true, tc.next)},
				{EventLateReport, report(EventLateReport, true, tc.next)},
				{EventShutdown, map[string]any{}},
			}
			if len(got) != len(want) {
				t.Fatalf("events %s", said(got))
			}
			for i, w := range want {
				payload, ok := got[i].GCE()
				if !ok || got[i].Instance != "web-1" || got[i].BootCounter != 2 || got[i].Time.IsZero() {
					t.Errorf("event %d: %+v", i, got[i])
				}
				whole := map[string]any{"@type": "type.googleapis.com/cloud_integrity.IntegrityEvent", "bootCounter": "2", w.kind: w.fields}
				if tc.first.early == nil && w.kind == EventEarlyReport {
					whole = earlyOrder(t, payload, w.fields["policyEvaluationPassed"].(bool))
				}
				if d := cmp.Diff(whole, payload); d != "" {
					t.Errorf("event %d (-want +got):\n%s", i, d)
				}
			}
		})
	}
}

// earlyOrder is a payload whose lists are in the order of an early report, with its values.
func earlyOrder(t *testing.T, payload map[string]any, passed bool) map[string]any {
	t.Helper()
	r, ok := payload[EventEarlyReport].(map[string]any)
	if !ok {
		t.Fatalf("no early report: %v", payload)
	}
	lists := map[string]any{"policyEvaluationPassed": passed}
	for name, pcrs := range map[string][]int{"policyMeasurements": {0, 4, 7}, "actualMeasurements": {0, 4, 5, 7}} {
		had, ok := r[name].([]map[string]string)
		if !ok || len(had) != len(pcrs) {
			t.Fatalf("%s is %v", name, r[name])
		}
		v := map[int]string{}
		for i, pcr := range pcrs {
			v[pcr] = had[i]["value"]
		}
		lists[name] = listed(v, pcrs...)
	}
	return map[string]any{"@type": payload["@type"], "bootCounter": "2", EventEarlyReport: lists}
}

// Google's instance_id is a number that programs read as one; ours is the same for ever.
func TestTheInstanceOfGooglesLogIsANumber(t *testing.T) {
	const id = "8c2a0a1e-6f0e-4a57-9a30-1d2c3b4a5f60"
	log := GCELog(id, []Notice{{Type: EventStartup, Instance: "web-1", BootCounter: 1}, {Type: EventSnapshot, Instance: "web-1"}})
	if len(log) != 1 {
		t.Fatalf("%d entries, want that of the start", len(log))
	}
	want := map[string]string{"instance_id": "", "instance_name": "web-1"}
	sum := sha256.Sum256([]byte("assay gce instance id\n" + id))
	n := new(big.Int).SetBytes(sum[:8])
	want["instance_id"] = n.SetBit(n, 63, 0).String()
	if diff := cmp.Diff(want, log[0].Resource.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if got := GCEInstanceID(id); got != "7458927345185624027" {
		t.Errorf("GCEInstanceID = %s: the number of a machine never changes", got)
	}
	if GCEInstanceID("other") == GCEInstanceID(id) {
		t.Error("two machines have one number")
	}
}
