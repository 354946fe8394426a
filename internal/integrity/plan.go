package integrity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A Plan is what one coming boot may measure, approved before it took place. The boot that
// measures exactly that in the registers of the plan, and otherwise what the baseline has,
// passes and becomes the baseline; the plan is over then. Any other boot is judged as if
// there were no plan.
type Plan struct {
	Made, Expires time.Time
	Actor, Reason string
	Baseline      int // number of the version that it goes on from
	// Registers are the measurements of each register that was predicted, in order, by
	// bank. A register that was not predicted is none of the plan.
	Registers map[int][]map[tpm2.Alg][]byte
}

// MaxPlan is the longest time that a plan can wait for its boot.
const MaxPlan = 30 * 24 * time.Hour

// ErrPlan is a plan that cannot be made.
var ErrPlan = errors.New("cannot be planned")

// SetPlan puts a plan in the place of the one before.
func (h *History) SetPlan(p *Plan) error {
	life := p.Expires.Sub(p.Made)
	switch {
	case p.Actor == "" || len(p.Registers) == 0:
		return fmt.Errorf("a plan without an author or a register: %w", ErrPlan)
	case life <= 0 || life > MaxPlan:
		return fmt.Errorf("a plan for %s, more than nothing and at most %s: %w", life, MaxPlan, ErrPlan)
	}
	for pcr, events := range p.Registers {
		if pcr < 0 || !judgedPCR(pcr) || len(events) > MaxEvents {
			return fmt.Errorf("PCR %d, %d events: %w", pcr, len(events), ErrPlan)
		}
	}
	if _, err := h.Version(p.Baseline); err != nil {
		return err
	}
	h.Plan = p
	return nil
}

// allows reports whether a boot that differs from its baseline, at its early or late end,
// is the one that was planned.
func (p *Plan) allows(b *Boot, c *baseline.Comparison, late bool) bool {
	if p == nil || b.Broken() {
		return false
	}
	for _, d := range c.Differences {
		if !d.Judged || !late && d.Phase != "early" {
			continue
		}
		if _, planned := p.Registers[d.PCR]; !planned || ofBanks(d.Change) {
			return false
		}
	}
	for pcr, want := range p.Registers {
		got := slices.DeleteFunc(slices.Clone(b.kept()), func(e Event) bool { return e.PCR != pcr })
		if len(got) > len(want) || late && len(got) != len(want) || !late && len(got) < p.early(pcr, b.bank) {
			return false
		}
		for i := range got {
			if !got[i].is(b.bank, want[i]) {
				return false
			}
		}
	}
	return true
}

// early is how many of the planned measurements of a register belong to its early part, as
// [Boot.earlyEnd] counts those of a boot.
func (p *Plan) early(pcr int, bank tpm2.Alg) int {
	want, m := p.Registers[pcr], marksOf(bank)
	at := func(i int) []byte {
		if i >= len(want) {
			return nil
		}
		return want[i][bank]
	}
	end := slices.IndexFunc(want, func(e map[tpm2.Alg][]byte) bool { return m.separator(e[bank]) }) + 1
	switch {
	case end == 0 || pcr >= 8:
		return 0
	case pcr == 4:
		for end < len(want) && m.action(at(end)) {
			end++
		}
		return min(end+1, len(want)) // with the boot loader
	case pcr == 5 && end < len(want) && !m.action(at(end)):
		return end + 1 // with the partition table
	case pcr == 7 && end < len(want) && bytes.Equal(at(0), m.secure):
		return end + 1 // with what verified the boot loader
	}
	return end
}

// ofBanks reports whether a change is of a whole bank: its register says nothing.
func ofBanks(change string) bool {
	return slices.Contains([]string{
		baseline.ChangeBank, baseline.ChangeBankAdded, baseline.ChangeBankRemoved, baseline.ChangeBankUneven, baseline.ChangeNoJudgement,
	}, change)
}

// is reports whether a measurement is the planned one in every bank that was extended.
func (e *Event) is(bank tpm2.Alg, planned map[tpm2.Alg][]byte) bool {
	if len(e.Digest) == 0 || !bytes.Equal(e.Digest, planned[bank]) {
		return false
	}
	return !slices.ContainsFunc(e.Others, func(o tpm2.HA) bool { return !bytes.Equal(o.Digest, planned[o.HashAlg]) })
}

// planned reports whether a boot is the one that was approved before it took place.
func (m *Monitor) planned(at Moment, v *Version, c *baseline.Comparison, late bool) bool {
	p := m.history.Plan
	if p == nil || v.Number != p.Baseline || v.Baseline.Shape() != m.cfg.Shape || !m.cfg.Now().Before(p.Expires) {
		return false // of another shape nobody has seen what its firmware measures
	}
	passed := c.EarlyPassed
	if late {
		passed = c.LatePassed
	}
	return !passed && p.allows(at.Boot, c, late)
}

// consume makes a planned boot, which has ended, the baseline.
func (m *Monitor) consume(at Moment) []Notice {
	p := m.history.Plan
	kept := m.history.add(Version{
		Made: m.cfg.Now(), Actor: p.Actor, Reason: "planned update: " + p.Reason, Boot: m.boot, Baseline: baseline.From(at.Boot, m.cfg.Shape),
	})
	set := m.notice(EventSetPolicy, 0)
	set.Actor, set.Baseline = kept.Actor, kept.Number
	set.Reasons = []evidence.Reason{asPlanned(p)}
	n, c := m.judge(at, kept, true)
	early, whole := m.outcomes(at.Boot, c, true)
	m.keep(early, whole, kept.Number)
	return []Notice{set, n}
}

func asPlanned(p *Plan) evidence.Reason {
	return evidence.Reason{Code: codePlanned, Message: fmt.Sprintf(
		"this is what %s approved on %s before the boot: %s", p.Actor, p.Made.UTC().Format(time.RFC3339), short(p.Reason),
	)}
}

type planV2 struct {
	Made      time.Time                      `json:"made"`
	Expires   time.Time                      `json:"expires"`
	Actor     string                         `json:"actor"`
	Reason    string                         `json:"reason"`
	Baseline  int                            `json:"baseline"`
	Registers map[string][]map[string]string `json:"registers"`
}

func (p *Plan) v2() *planV2 {
	if p == nil {
		return nil
	}
	out := &planV2{p.Made, p.Expires, p.Actor, p.Reason, p.Baseline, map[string][]map[string]string{}}
	for pcr, events := range p.Registers {
		list := make([]map[string]string, 0, len(events))
		for _, e := range events {
			digests := map[string]string{}
			for bank, d := range e {
				digests[bank.BankName()] = hex.EncodeToString(d)
			}
			list = append(list, digests)
		}
		out.Registers[strconv.Itoa(pcr)] = list
	}
	return out
}

// read puts the plan of a file into its history.
func (v *planV2) read(h *History) error {
	if v == nil {
		return nil
	}
	p := &Plan{v.Made, v.Expires, v.Actor, v.Reason, v.Baseline, map[int][]map[tpm2.Alg][]byte{}}
	for name, events := range v.Registers {
		pcr, err := strconv.Atoi(name)
		if err != nil || strconv.Itoa(pcr) != name {
			return fmt.Errorf("plan: PCR %q: %w", name, errWord)
		}
		list := make([]map[tpm2.Alg][]byte, 0, len(events))
		for _, e := range events {
			all, err := (&measuredV1{Others: e}).others()
			if err != nil {
				return fmt.Errorf("plan: PCR %d: %w", pcr, err)
			}
			digests := map[tpm2.Alg][]byte{}
			for _, d := range all {
				digests[d.HashAlg] = d.Digest
			}
			list = append(list, digests)
		}
		p.Registers[pcr] = list
	}
	if err := h.SetPlan(p); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return nil
}
