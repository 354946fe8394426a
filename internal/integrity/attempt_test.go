package integrity

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

var attemptBanks = []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384}

// measured is a text in every bank.
func measured(pcr uint8, s string) engine.JournalRecord {
	r := engine.JournalRecord{Kind: engine.JournalExtend, PCR: pcr}
	for _, bank := range attemptBanks {
		h, _ := bank.Hash()
		d := h.New()
		d.Write([]byte(s))
		r.Digests = append(r.Digests, tpm2.HA{HashAlg: bank, Digest: d.Sum(nil)})
	}
	return r
}

// attempted is a recorded boot whose first boot options started these programs, which came
// back; "" is an option that started none, "a+b" a program that started another. The last option alone reads a disk.
func attempted(t testing.TB, scenario string, programs ...string) []engine.JournalRecord {
	t.Helper()
	return attemptedAt(t, scenario, false, programs...)
}

// attemptedAt has the first option read the disk, too, and its program verified.
func attemptedAt(t testing.TB, scenario string, disk bool, programs ...string) []engine.JournalRecord {
	t.Helper()
	records := journalIn(t, scenario, attemptBanks...)
	separator := measured(4, "\x00\x00\x00\x00").Digests[0].Digest
	closed := slices.IndexFunc(records, func(r engine.JournalRecord) bool {
		return r.PCR == 4 && len(r.Digests) > 0 && slices.Equal(r.Digests[0].Digest, separator)
	})
	// The last of the separators: what firmware measures next is of its first boot option.
	end := closed
	for end+1 < len(records) && slices.Equal(records[end+1].Digests[0].Digest, separator) {
		end++
	}
	for disk && (records[end+1].PCR == 7 || records[end+1].PCR == 5) {
		end++
	}
	var before []engine.JournalRecord
	for _, name := range programs {
		for _, program := range strings.FieldsFunc(name, func(r rune) bool { return r == '+' }) {
			before = append(before, measured(4, program))
		}
		if name == "a loader with commands" {
			before = append(before, measured(8, "set root=hd0"))
		}
		before = append(before, measured(4, textReturning), measured(4, textCalling))
	}
	return slices.Concat(records[:end+1], before, records[end+1:])
}

// A boot is judged at each attempt by what the baseline's boot had measured at the same:
// that an option comes back each time is no alarm, and any other sequence is.
func TestAnAttemptIsJudgedByTheSameOfItsBaseline(t *testing.T) {
	const uki, update = "good-uki", "good-uki-update"
	for name, tc := range map[string]struct {
		scenario    string
		base, boot  []string
		want        string
		early, late Outcome
	}{
		"none comes back":                {uki, nil, nil, "startup early+ late+", Passed, Passed},
		"one comes back each time":       {uki, []string{"a"}, []string{"a"}, "startup early+ bootAttemptFailed early+ late+", Passed, Passed},
		"two do":                         {uki, []string{"a", "b"}, []string{"a", "b"}, "startup early+ bootAttemptFailed early+ bootAttemptFailed early+ late+", Passed, Passed},
		"one that measures":              {uki, []string{"a loader with commands"}, []string{"a loader with commands"}, "startup early+ bootAttemptFailed early+ late+", Passed, Passed},
		"one that starts another":        {uki, []string{"a+b"}, []string{"a+b"}, "startup early+ bootAttemptFailed early+ late+", Passed, Passed},
		"one that starts yet another":    {uki, []string{"a+b"}, []string{"a+x"}, "startup early+ bootAttemptFailed early- late-", Failed, Failed},
		"one starts nothing":             {uki, []string{""}, []string{""}, "startup bootAttemptFailed early+ late+", Passed, Passed},
		"the second starts nothing":      {uki, []string{"a", ""}, []string{"a", ""}, "startup early+ bootAttemptFailed bootAttemptFailed early+ late+", Passed, Passed},
		"another program comes back":     {uki, []string{"a"}, []string{"x"}, "startup early- bootAttemptFailed early- late-", Failed, Failed},
		"the second is another":          {uki, []string{"a", "b"}, []string{"a", "x"}, "startup early+ bootAttemptFailed early- bootAttemptFailed early- late-", Failed, Failed},
		"they change places":             {uki, []string{"a", "b"}, []string{"b", "a"}, "startup early- bootAttemptFailed early- bootAttemptFailed early- late-", Failed, Failed},
		"the attempt is left out":        {uki, []string{"a"}, nil, "startup early- late-", Failed, Failed},
		"one of two is left out":         {uki, []string{"a", "b"}, []string{"b"}, "startup early- bootAttemptFailed early- late-", Failed, Failed},
		"an empty one is left out":       {uki, []string{""}, nil, "startup early- late-", Failed, Failed},
		"an attempt more":                {uki, nil, []string{"a"}, "startup early- bootAttemptFailed early- late-", Failed, Failed},
		"an attempt more after the same": {uki, []string{"a"}, []string{"a", "a"}, "startup early+ bootAttemptFailed early- bootAttemptFailed early- late-", Failed, Failed},
		"an empty one more":              {uki, []string{"a"}, []string{"", "a"}, "startup bootAttemptFailed early- bootAttemptFailed early- late-", Failed, Failed},
		"an empty one that starts":       {uki, []string{""}, []string{"a"}, "startup early- bootAttemptFailed early- late-", Failed, Failed},
		"one that starts is empty":       {uki, []string{"a"}, []string{""}, "startup bootAttemptFailed early- late-", Failed, Failed},
		"another loader after the same":  {update, []string{"a"}, []string{"a"}, "startup early+ bootAttemptFailed early- late-", Failed, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			for _, disk := range []bool{false, true} {
				b := newBench(t, nil)
				b.take(attemptedAt(t, uki, disk, tc.base...))
				if got := said(b.take(attemptedAt(t, tc.scenario, disk, tc.boot...))); got != tc.want {
					t.Errorf("a disk is read first: %v: events %s, want %s", disk, got, tc.want)
				}
			}
			b := newBench(t, nil)
			b.take(attempted(t, uki, tc.base...))
			got := b.take(attempted(t, tc.scenario, tc.boot...))
			if r := b.h.Boots[1]; r.Early != tc.early || r.Late != tc.late {
				t.Errorf("kept: early %s, late %s, want %s, %s", r.Early, r.Late, tc.early, tc.late)
			}
			for _, n := range got {
				if n.Report == nil {
					continue
				}
				if decides := slices.ContainsFunc(n.Differences, func(d baseline.Difference) bool { return d.Judged && d.PCR == 4 }); decides == n.Passed() {
					t.Errorf("%s of attempt %d passed %v, and PCR 4 decides: %v", n.Type, n.Attempt, n.Passed(), decides)
				}
			}
			// A stored baseline says the same, and so does one that was put in force again.
			text, err := json.Marshal(b.h)
			if err != nil {
				t.Fatal(err)
			}
			if b.h, err = ParseHistory(text); err != nil {
				t.Fatal(err)
			}
			b.restart()
			if again := said(b.take(attempted(t, tc.scenario, tc.boot...))); again != tc.want {
				t.Errorf("read again: %s, want %s", again, tc.want)
			}
		})
	}
}

// The report of an attempt has the values of the same attempt, of both boots.
func TestTheReportOfAnAttemptHasItsValues(t *testing.T) {
	b := newBench(t, nil)
	b.take(attempted(t, "good-uki", "a"))
	notices := b.take(attempted(t, "good-uki", "a"))
	var seen []string
	for _, n := range notices {
		if n.Type != EventEarlyReport {
			continue
		}
		actual, policy := "", ""
		for _, m := range n.Report.ActualMeasurements {
			if m.PCRNum == "PCR_4" {
				actual = m.Value
			}
		}
		for _, m := range n.Report.PolicyMeasurements {
			if m.PCRNum == "PCR_4" {
				policy = m.Value
			}
		}
		if actual == "" || actual != policy {
			t.Errorf("attempt %d: PCR 4 is %q, the policy's %q", n.Attempt, actual, policy)
		}
		seen = append(seen, actual)
	}
	first := &Boot{bank: Bank}
	want := hex.EncodeToString(first.value(4, [][]byte{sum(textCalling), sum("\x00\x00\x00\x00"), sum("a")}))
	if len(seen) != 2 || seen[0] != want || seen[1] == want {
		t.Errorf("PCR 4 at the attempts: %q, the first want %s", seen, want)
	}
}

// What another bank alone shows of an attempt decides, too.
func TestAnAttemptIsJudgedInEveryBank(t *testing.T) {
	b := newBench(t, nil)
	b.take(attempted(t, "good-uki", "a"))
	records := attempted(t, "good-uki", "a")
	for i := range records {
		if r := &records[i]; len(r.Digests) > 0 && r.PCR == 4 && slices.Equal(r.Digests[0].Digest, sum("a")) {
			r.Digests[1].Digest[0] ^= 1
		}
	}
	got := b.take(records)
	if want := "startup early- bootAttemptFailed early- late-"; said(got) != want {
		t.Errorf("events %s, want %s", said(got), want)
	}
	if r := got[1].Reasons; len(r) != 1 || !strings.Contains(r[0].Message, "bank sha384") {
		t.Errorf("reasons %+v", r)
	}
}

// What verified the program of an attempt, or a partition table, is of no attempt before it;
// another one decides at once.
func TestAnotherAuthorityFailsTheFirstAttempt(t *testing.T) {
	b := newBench(t, nil)
	b.take(attemptedAt(t, "good-uki", true, "a"))
	records := attemptedAt(t, "good-uki", true, "a")
	authority := of(records, 7)
	copy(authority[len(authority)-1].Digests[0].Digest, sum("another"))
	if got, want := said(b.take(records)), "startup early- bootAttemptFailed early- late-"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

// A program that came back in the baseline's boot, and goes on here, is the same until it
// does so. A boot that is over is judged whole, also by a baseline that is put in force later.
func TestABootThatIsOverIsJudgedByAllAttempts(t *testing.T) {
	b := newBench(t, nil)
	b.take(attempted(t, "good-uki", "a"))
	records := attempted(t, "good-uki")
	of(records, 4)[2].Digests = measured(4, "a").Digests
	if got, want := said(b.take(records)), "startup early+ late-"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if r := b.h.Boots[1]; r.Early != Failed || r.Late != Failed {
		t.Errorf("kept: early %s, late %s", r.Early, r.Late)
	}
	if _, err := b.approve("alice", "the first option is what boots now"); err != nil {
		t.Fatal(err)
	}
	back, err := b.m.Restore(1, "bob", "it is not")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := said(back), "setShieldedVmIntegrityPolicy early- late-"; got != want {
		t.Errorf("restored: %s, want %s", got, want)
	}
}

// An update that was approved before it boots passes, whatever options come back first.
func TestAPlannedBootMayHaveAttempts(t *testing.T) {
	b := newBench(t, nil)
	b.take(attempted(t, "good-uki", "a"))
	p := &Plan{Made: b.c.Now(), Actor: "bob", Reason: "update", Baseline: 1, Registers: map[int][]map[tpm2.Alg][]byte{}}
	p.Expires = p.Made.Add(MaxPlan)
	records := attempted(t, "good-uki-update", "a")
	for _, pcr := range []uint8{4, 11} {
		for _, r := range of(records, pcr) {
			digests := map[tpm2.Alg][]byte{}
			for _, d := range r.Digests {
				digests[d.HashAlg] = d.Digest
			}
			p.Registers[int(pcr)] = append(p.Registers[int(pcr)], digests)
		}
	}
	if err := b.h.SetPlan(p); err != nil {
		t.Fatal(err)
	}
	if got, want := said(b.take(records)), "startup early+ bootAttemptFailed early+ setShieldedVmIntegrityPolicy late+"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}
