package baseline

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/assay-project/assay/eventlog"
)

// The ways in which a boot can differ.
const (
	ChangeChanged     = "changed"         // another digest at the same place
	ChangeAdded       = "added"           // an event that the baseline does not have
	ChangeRemoved     = "removed"         // an event that only the baseline has
	ChangeMoved       = "moved"           // the same event at another place of the sequence
	ChangeValue       = "value"           // only the value of the register is known
	ChangeNotQuoted   = "not-quoted"      // the register is not proven
	ChangeNotCovered  = "not-in-baseline" // the baseline has no value of the register
	ChangeBank        = "bank"            // baseline and boot are of different banks
	ChangeBankAdded   = "bank-added"      // the TPM has a bank that the baseline does not have
	ChangeBankRemoved = "bank-removed"    // the TPM no longer has a bank of the baseline
	ChangeBankUneven  = "bank-uneven"     // a bank does not have what the others have
	ChangeNoJudgement = "no-judgement"    // the profile judges nothing
	phaseEarly        = "early"
	phaseLate         = "late"
	maxDifferences    = 256     // listed of one register; beyond, the boot is another one altogether
	maxAlignment      = 1 << 17 // cells of the table that aligns two sequences
)

// A Side is one side of a difference.
type Side struct {
	Digest string `json:"digest,omitempty"` // lower-case hex; the value when only that is known
	Detail string `json:"detail,omitempty"`
	Signer string `json:"signer,omitempty"`
}

// A Difference is one thing that a boot measured otherwise than the baseline.
type Difference struct {
	PCR       int    `json:"pcr"`
	Phase     string `json:"phase"` // "early" or "late"
	Kind      string `json:"kind"`  // of the component; see eventlog.Component
	Component string `json:"component"`
	Change    string `json:"change"`
	Old       *Side  `json:"old,omitempty"`
	New       *Side  `json:"new,omitempty"`
	// Judged is set when the difference decides; otherwise it informs.
	Judged bool `json:"judged"`
	// Hint is set when the component's name is only what the log says.
	Hint   bool   `json:"hint"`
	Words  string `json:"words"`
	Cause  string `json:"cause"`
	Action string `json:"action"`
}

// A Comparison is the outcome. The zero Comparison has not passed.
type Comparison struct {
	Profile string `json:"profile"`
	Windows bool   `json:"windows"`
	// EarlyPassed and LatePassed are the pair of results of integrity monitoring.
	EarlyPassed bool         `json:"earlyPassed"`
	LatePassed  bool         `json:"latePassed"`
	Differences []Difference `json:"differences"` // in the order of PCRs and events
}

// Passed reports whether nothing that decides differs.
func (c *Comparison) Passed() bool { return c.EarlyPassed && c.LatePassed }

// Judged returns the differences that decide.
func (c *Comparison) Judged() []Difference {
	return slices.DeleteFunc(slices.Clone(c.Differences), func(d Difference) bool { return !d.Judged })
}

// Compare says what boot measured otherwise than b, and which of it decides
// under p. A boot of another bank differs in everything. Of a [Banked] boot all banks
// are judged that the baseline has, and none may be new, gone, or hold something else.
func (b *Baseline) Compare(boot Boot, p Profile) *Comparison {
	c := comparer{
		base: b, boot: boot, profile: p, judgement: p.judgement(b.Windows()),
		out: &Comparison{Profile: p.Name, Windows: b.Windows(), EarlyPassed: true, LatePassed: true, Differences: []Difference{}},
	}
	switch {
	case b.bank != boot.Bank() || b.bank.DigestSize() == 0:
		c.fail(ChangeBank)
	case len(c.judgement.early) == 0 || len(c.judgement.late) == 0:
		c.fail(ChangeNoJudgement)
	default:
		c.run()
		c.banks()
	}
	return c.out
}

type comparer struct {
	base      *Baseline
	boot      Boot
	profile   Profile
	judgement judgement
	late      map[int][]byte
	events    map[int][]event // made when a value differs, see sequence
	out       *Comparison
}

// sequence returns what the boot measured into a register, in order.
func (c *comparer) sequence(pcr int) []event {
	if c.events == nil {
		c.events = sequences(c.boot)
	}
	return c.events[pcr]
}

// fail records that nothing could be compared.
func (c *comparer) fail(change string) {
	c.out.EarlyPassed, c.out.LatePassed = false, false
	d := Difference{Phase: phaseEarly, Kind: eventlog.KindOther, Change: change, Judged: true}
	if change == ChangeBank {
		d.Old, d.New = &Side{Detail: c.base.bank.BankName()}, &Side{Detail: c.boot.Bank().BankName()}
	}
	d.describe()
	c.out.Differences = []Difference{d}
}

func (c *comparer) run() {
	c.late = c.boot.Late()
	judged := c.judgement.pcrs()
	for pcr := range 24 {
		if !compared(pcr) {
			continue
		}
		base, covered := c.base.pcrs[pcr]
		switch {
		case covered && c.boot.Confirms(pcr):
			c.register(pcr, base)
		case covered && slices.Contains(judged, pcr):
			c.add(Difference{PCR: pcr, Phase: phaseEarly, Change: ChangeNotQuoted}, nil, nil)
			c.add(Difference{PCR: pcr, Phase: phaseLate, Change: ChangeNotQuoted}, nil, nil)
		case slices.Contains(judged, pcr):
			c.add(Difference{PCR: pcr, Phase: phaseEarly, Change: ChangeNotCovered}, nil, nil)
			c.add(Difference{PCR: pcr, Phase: phaseLate, Change: ChangeNotCovered}, nil, nil)
		}
	}
}

// register compares one register: by its value, then by its events, and where
// the events do not explain the value, by the value alone.
func (c *comparer) register(pcr int, base register) {
	value := lateValue(c.late, pcr, c.base.bank)
	if holds(base.late, value) {
		return
	}
	events := c.sequence(pcr)
	start, explained := replay(c.base.bank, events, [][]byte{value})
	baseStart, baseExplained := replay(c.base.bank, base.events, base.late)
	// A baseline whose events do not lead to its value, as one made without a log,
	// has only the value: no sequence of events stands for it, least of all none.
	if !explained || !baseExplained || start != baseStart {
		c.value(pcr, base, value)
		return
	}
	before := len(c.out.Differences)
	for _, pair := range align(base.events, events) {
		if len(c.out.Differences)-before == maxDifferences {
			c.value(pcr, base, value)
			return
		}
		c.add(Difference{PCR: pcr}, pair.old, pair.new)
	}
	c.exemptVolume(pcr, base.events, events, before)
}

// value adds a difference of which only the register's value is known.
func (c *comparer) value(pcr int, base register, value []byte) {
	d := Difference{PCR: pcr, Phase: phaseEarly, Change: ChangeValue, New: &Side{Digest: hex.EncodeToString(value)}}
	if len(base.late) > 0 {
		d.Old = &Side{Digest: hex.EncodeToString(base.late[0])}
	}
	// Late only when the early part is proven to be the same.
	if v, ok := c.boot.Early()[pcr]; ok && holds(base.early, v) || pcr >= 8 {
		d.Phase = phaseLate
	}
	c.add(d, nil, nil)
}

// add completes a difference, judges it and keeps it. Of the pair either may be nil.
func (c *comparer) add(d Difference, old, new *event) {
	d.Kind = eventlog.KindOther
	if old != nil || new != nil {
		d.sides(old, new)
	}
	early, late := c.judgement.judges(d.PCR, d.Phase == phaseLate)
	if d.Change == ChangeNotQuoted || d.Change == ChangeNotCovered {
		// One difference stands for each part that it keeps from being judged.
		early, late = early && d.Phase == phaseEarly, late && d.Phase == phaseLate
		if !early && !late {
			return
		}
	}
	d.Judged = early || late
	c.out.EarlyPassed = c.out.EarlyPassed && !early
	c.out.LatePassed = c.out.LatePassed && !late
	d.describe()
	c.out.Differences = append(c.out.Differences, d)
}

func (d *Difference) sides(old, new *event) {
	side := func(e *event) *Side {
		return &Side{Digest: hex.EncodeToString(e.digests[0]), Detail: e.detail, Signer: e.signer}
	}
	named := new
	late := true
	d.Change = ChangeChanged
	switch {
	case old == nil:
		d.Change = ChangeAdded
	case new == nil:
		d.Change, named = ChangeRemoved, old
	case bytes.Equal(old.digests[0], new.digests[0]):
		d.Change = ChangeMoved
	}
	for _, e := range []*event{old, new} {
		if e != nil {
			late = late && e.late
			d.Hint = d.Hint || !e.proven
		}
	}
	if old != nil {
		d.Old = side(old)
	}
	if new != nil {
		d.New = side(new)
	}
	if old != nil && new != nil {
		d.modules(old, new)
	}
	d.Kind, d.Component = named.kind, named.component
	d.Phase = phaseEarly
	if late {
		d.Phase = phaseLate
	}
}
