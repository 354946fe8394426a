package integrity

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

var planBanks = []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384}

// planOf is a plan for a recorded boot, in the registers that a disk determines.
func planOf(b *bench, scenario string, life time.Duration) *Plan {
	b.t.Helper()
	p := &Plan{Made: b.c.Now(), Actor: "bob", Reason: "ticket 4711", Baseline: 1, Registers: map[int][]map[tpm2.Alg][]byte{}}
	p.Expires = p.Made.Add(life)
	for _, pcr := range []uint8{4, 5, 7, 8, 9, 11, 12, 13, 14} {
		p.Registers[int(pcr)] = nil
		for _, r := range of(journalIn(b.t, scenario, planBanks...), pcr) {
			digests := map[tpm2.Alg][]byte{}
			for _, d := range r.Digests {
				digests[d.HashAlg] = d.Digest
			}
			p.Registers[int(pcr)] = append(p.Registers[int(pcr)], digests)
		}
	}
	return p
}

func TestAPlannedBootPassesOnce(t *testing.T) {
	const update = "good-uki-update"
	same := func([]engine.JournalRecord) []engine.JournalRecord { return nil }
	for name, tc := range map[string]struct {
		scenario string
		life     time.Duration
		change   func([]engine.JournalRecord) []engine.JournalRecord // nil: as it is
		plan     func(*Plan)
		want     string
		used     bool
	}{
		"exactly that":          {scenario: update, want: "startup early+ setShieldedVmIntegrityPolicy late+", used: true},
		"nothing new":           {scenario: "good-uki", want: "startup early+ late+"},
		"something else":        {scenario: "bad-uki-cmdline", want: "startup early- late-"},
		"too late":              {scenario: update, life: time.Nanosecond, want: "startup early- late-"},
		"another baseline":      {scenario: update, plan: func(p *Plan) { p.Baseline = 7 }, want: "startup early- late-"},
		"a register of no plan": {scenario: update, plan: func(p *Plan) { delete(p.Registers, 11) }, want: "startup early+ late-"},
		"firmware, too": {scenario: update, change: func(all []engine.JournalRecord) []engine.JournalRecord {
			for i := range of(all, 0)[2].Digests {
				of(all, 0)[2].Digests[i].Digest[0] ^= 1
			}
			return nil
		}, want: "startup early- late-"},
		"one measurement more": {scenario: update, change: func(all []engine.JournalRecord) []engine.JournalRecord {
			i := len(all) - 3
			return slices.Insert(slices.Clone(all), i, *of(all, 11)[0])
		}, want: "startup early+ late-"},
		"one less": {scenario: update, change: func(all []engine.JournalRecord) []engine.JournalRecord {
			last := of(all, 11)
			last[len(last)-1].PCR = 10
			return nil
		}, want: "startup early+ late-"},
		"another bank": {scenario: update, change: func(all []engine.JournalRecord) []engine.JournalRecord {
			of(all, 11)[1].Digests[2].Digest[0] ^= 1
			return nil
		}, want: "startup early+ late-"},
		"a bank of no plan": {scenario: update, plan: func(p *Plan) {
			for _, events := range p.Registers {
				for _, e := range events {
					delete(e, tpm2.AlgSHA384)
				}
			}
		}, want: "startup early- late-"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			b.take(journalIn(t, "good-uki", planBanks...))
			if tc.life == 0 {
				tc.life = time.Hour
			}
			p := planOf(b, update, tc.life)
			if err := b.h.SetPlan(p); err != nil {
				t.Fatal(err)
			}
			if tc.plan != nil {
				tc.plan(p)
			}
			records := journalIn(t, tc.scenario, planBanks...)
			if tc.change == nil {
				tc.change = same
			}
			if changed := tc.change(records); changed != nil {
				records = changed
			}
			got := b.take(records)
			if said(got) != tc.want {
				t.Errorf("events %s, want %s", said(got), tc.want)
			}
			if tc.used != (b.h.Plan == nil) || tc.used != (len(b.h.Versions) == 2) {
				t.Errorf("plan %v, %d baselines", b.h.Plan, len(b.h.Versions))
			}
			if !tc.used {
				return
			}
			if set := got[2]; set.Actor != "bob" || set.Reasons[0].Code != codePlanned || !strings.Contains(set.Reasons[0].Message, "ticket 4711") {
				t.Errorf("event %+v", set)
			}
			if v := b.h.Versions[1]; v.Actor != "bob" || v.Reason != "planned update: ticket 4711" || v.Boot != 2 {
				t.Errorf("baseline %+v", v)
			}
			if r := b.h.Boots[1]; r.Early != Passed || r.Late != Passed || r.Baseline != 2 {
				t.Errorf("boot: early %s, late %s, baseline %d", r.Early, r.Late, r.Baseline)
			}
			if got := said(b.take(journalIn(t, update, planBanks...))); got != "startup early+ late+" {
				t.Errorf("the next boot: %s", got)
			}
			if got := said(b.take(journalIn(t, "good-uki", planBanks...))); got != "startup early- late-" {
				t.Errorf("back to what was before: %s", got)
			}
		})
	}
}

func TestAnApprovalEndsAPlan(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalIn(t, "good-uki", planBanks...))
	if err := b.h.SetPlan(planOf(b, "good-uki-update", time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.approve("alice", "again"); err != nil || b.h.Plan != nil {
		t.Errorf("Approve = %v, plan %v", err, b.h.Plan)
	}
}

func TestPlansAreKept(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalIn(t, "good-uki", planBanks...))
	if err := b.h.SetPlan(planOf(b, "good-uki-update", time.Hour)); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	if b.h, err = ParseHistory(text); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if got := said(b.take(journalIn(t, "good-uki-update", planBanks...))); got != "startup early+ setShieldedVmIntegrityPolicy late+" {
		t.Errorf("events %s", got)
	}
	for name, change := range map[string][2]string{
		"a register of no number": {`"registers":{"11":`, `"registers":{"x":`},
		"of user space":           {`"registers":{"11":`, `"registers":{"15":`},
		"a baseline that is none": {`"reason":"ticket 4711","baseline":1`, `"reason":"ticket 4711","baseline":9`},
		"nobody's":                {`"actor":"bob"`, `"actor":""`},
		"a member of no plan":     {`"reason":"ticket 4711"`, `"trusted":true,"reason":"ticket 4711"`},
	} {
		bad := strings.Replace(string(text), change[0], change[1], 1)
		if _, err := ParseHistory([]byte(bad)); bad == string(text) || err == nil {
			t.Errorf("%s: changed %v, ParseHistory = %v", name, bad != string(text), err)
		}
	}
}

func TestWhatCannotBePlanned(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalIn(t, "good-uki", planBanks...))
	for name, change := range map[string]func(*Plan){
		"for nobody":       func(p *Plan) { p.Actor = "" },
		"of nothing":       func(p *Plan) { p.Registers = nil },
		"over at once":     func(p *Plan) { p.Expires = p.Made },
		"for too long":     func(p *Plan) { p.Expires = p.Made.Add(MaxPlan + 1) },
		"what users write": func(p *Plan) { p.Registers[10] = nil },
		"of no register":   func(p *Plan) { p.Registers[-1] = nil },
		"from no baseline": func(p *Plan) { p.Baseline = 2 },
	} {
		p := planOf(b, "good-uki-update", time.Hour)
		change(p)
		if err := b.h.SetPlan(p); !errors.Is(err, ErrPlan) && !errors.Is(err, ErrNotKept) || b.h.Plan != nil {
			t.Errorf("%s: SetPlan = %v", name, err)
		}
	}
}

// The early part of a planned boot has all that is planned of it: what the firmware leaves
// out by then, it has not measured.
func TestEarlyPartOfAPlannedBootIsWhole(t *testing.T) {
	for pcr, few := range map[uint8][]int{4: {0, 1}, 5: {0}, 7: {0, 3, 5, 6}} {
		for _, most := range few {
			b := newBench(t, nil)
			b.take(journalIn(t, "good-uki", planBanks...))
			p := planOf(b, "good-uki-update", time.Hour)
			if err := b.h.SetPlan(p); err != nil {
				t.Fatal(err)
			}
			if whole := p.early(int(pcr), Bank); most >= whole {
				t.Fatalf("PCR %d has %d early measurements", pcr, whole)
			}
			n := 0
			boot := slices.DeleteFunc(journalIn(t, "good-uki-update", planBanks...), func(r engine.JournalRecord) bool {
				if r.PCR != pcr || r.Kind != engine.JournalExtend && r.Kind != engine.JournalEvent || r.Detail == 1 {
					return false
				}
				n++
				// The end of the boot, and in PCR 4 what starts the boot loader, stay.
				return n > most && n <= p.early(int(pcr), Bank) && !(pcr == 4 && n == p.early(4, Bank))
			})
			for _, notice := range b.take(boot) {
				if notice.Type == EventEarlyReport && notice.Passed() {
					t.Errorf("with %d measurements of PCR %d the early boot passed", most, pcr)
				}
			}
			if b.h.Plan == nil {
				t.Errorf("with %d measurements of PCR %d the plan is used up", most, pcr)
			}
		}
	}
}

func TestAPlanIsOfOneShape(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalIn(t, "good-uki", planBanks...))
	if err := b.h.SetPlan(planOf(b, "good-uki-update", time.Hour)); err != nil {
		t.Fatal(err)
	}
	b.c.Shape.VCPUs += 2
	b.restart()
	if got := said(b.take(journalIn(t, "good-uki-update", planBanks...))); got != "startup early- late-" || len(b.h.Versions) != 1 {
		t.Errorf("events %q, %d baselines", got, len(b.h.Versions))
	}
}
