package eventlog

import (
	"fmt"
	"iter"

	"github.com/assay-project/assay/eventlog/sipa"
	"github.com/assay-project/assay/tpm2"
)

// analysis is a log judged in one bank. It is immutable once made.
type analysis struct {
	log      *Log
	regs     Registers
	judge    judge
	reserved *reservedRow
	events   []judged // the measured ones
	chains   [maxPCR]chain
	trusted  uint32 // bit set of registers whose value is believed
	weak     bool   // the bank supports no claim
	shown    bool   // to a person; nothing is proven
	findings []Finding
	refused  bool
	windows  sipa.Result
	cache    *Cache // nil for none

	grub       grubBoot
	secureBoot secureBoot
}

// chain is the events of one register: indices in analysis.events.
type chain struct{ first, last, len int32 }

// trusts reports whether the value of a register is believed.
func (a *analysis) trusts(pcr int) bool {
	return pcr >= 0 && pcr < maxPCR && a.trusted&(1<<pcr) != 0
}

// analyse replays and judges the log in one pass.
func (l *Log) analyse(bank tpm2.Alg) (*analysis, error) {
	regs, err := l.newRegisters(bank)
	if err != nil {
		return nil, err
	}
	a := &analysis{
		log: l, regs: regs, judge: judge{bank, regs.size}, reserved: reservedDigests[bank],
		events: make([]judged, 0, l.count), // Parse has seen that many
	}
	var closed uint32
	for e := range l.All() {
		if err := a.take(&e, &closed); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// take adds one event. closed is the set of registers whose closing marker has passed.
func (a *analysis) take(e *Event, closed *uint32) error {
	if !e.Measured() {
		a.unmeasured(e)
		a.regs.setLocality(e)
		return nil
	}
	if err := a.regs.measure(e); err != nil {
		return err
	}
	bit := uint32(1) << e.PCR
	a.events = append(a.events, judged{Event: *e, digest: e.Digest(a.judge.bank), closed: *closed&bit != 0})
	j := &a.events[len(a.events)-1]
	a.link(j.PCR)
	a.judge.judge(j)
	a.check(j)
	if closes(j) {
		*closed |= bit
	}
	return nil
}

// unmeasured looks at a record that no register covers: only its form counts.
func (a *analysis) unmeasured(e *Event) {
	if !a.room() {
		return
	}
	if e.Index > 0 && isSpecID(e) {
		a.find(codeSecondSpecID, e.Index, "event %d repeats the Spec ID event; only the first record may be one", e.Index)
	}
	if _, ok := startupLocality(e); ok && a.regs.Extended(0) {
		a.find(codeLateLocality, e.Index, "event %d states the startup locality after PCR 0 was extended; it is ignored", e.Index)
	}
}

// closes reports whether j ends what firmware or boot loader measure into its
// register: what follows anybody could have appended.
func closes(j *judged) bool {
	switch {
	case j.PCR <= 3 || j.PCR == 6 || j.PCR == 7:
		return j.is(Separator, separatorZero) || j.is(Separator, separatorOnes)
	case j.PCR == 5:
		return j.is(EFIAction, actionExitDone)
	case j.PCR >= 12 && j.PCR <= 14:
		return j.is(Separator, wbclMarker)
	default:
		return false
	}
}

// check records what is wrong with one event.
func (a *analysis) check(j *judged) {
	if a.log.format == FormatCC {
		a.checkCC(j)
		return
	}
	if r := a.reserved.at(j.PCR, j.digest); r != nil && (j.Type != r.typ || string(j.Data) != r.content) {
		a.find(codeReservedDigest, j.Index, "event %d in PCR %d measured %q and says it is %v", j.Index, j.PCR, r.content, j.Type)
		return
	}
	if j.cover == coverLie {
		a.find(codeDataMismatch, j.Index, "data of event %d (%v) in PCR %d is not what was hashed", j.Index, j.Type, j.PCR)
	}
	if j.is(Separator, separatorError) && j.PCR <= 7 {
		a.find(codeErrorSeparator, j.Index, "event %d: firmware reports an error while it measured into PCR %d", j.Index, j.PCR)
	}
	if !j.Type.Known() && a.room() {
		a.find(codeUnknownType, j.Index, "event %d in PCR %d is of the unknown type %v", j.Index, j.PCR, j.Type)
	}
	if j.closed && (j.PCR <= 3 || j.PCR == 6) && a.room() {
		a.find(codeAfterSeparator, j.Index, "event %d (%v) was measured into PCR %d after its separator", j.Index, j.Type, j.PCR)
	}
}

// checkCC is check for the registers of a confidential machine, each of which
// stands for several PCRs, so that no rule by register applies.
func (a *analysis) checkCC(j *judged) {
	if j.cover == coverLie {
		a.find(codeDataMismatch, j.Index, "data of event %d (%v) in register %d is not what was hashed", j.Index, j.Type, j.PCR)
	}
	if !j.Type.Known() {
		a.find(codeUnknownType, j.Index, "event %d in register %d is of the unknown type %v", j.Index, j.PCR, j.Type)
	}
}

// link appends the last event to the chain of its register.
func (a *analysis) link(pcr uint32) {
	c, i := &a.chains[pcr], int32(len(a.events)-1) // below MaxEvents
	if c.len == 0 {
		c.first = i
	} else {
		a.events[c.last].next = i
	}
	c.last = i
	c.len++
}

// of iterates over the events of a register in the order of their measurement.
func (a *analysis) of(pcr uint32) iter.Seq2[int, *judged] {
	return func(yield func(int, *judged) bool) {
		c := a.chains[pcr]
		for n, i := 0, c.first; n < int(c.len); n, i = n+1, a.events[i].next {
			if !yield(n, &a.events[i]) {
				return
			}
		}
	}
}

// conclude looks at the log as a whole, once it is known which registers are believed.
func (a *analysis) conclude() {
	if a.log.format == FormatCC {
		return
	}
	a.grub = a.readGRUB()
	a.checkSecureBoot()
	a.checkAttempts()
	if a.log.format == FormatWBCL {
		a.windows = sipa.Appraise(a.tagged())
		for _, p := range a.windows.Problems {
			a.find(p.Code, p.Event, "event %d in PCR %d: %s", p.Event, p.PCR, p.Message)
		}
	}
}

// checkAttempts looks for boots that failed, and for images after the operating
// system took over. Where an image stands among the events of PCR 5 is the
// order of the log, which no register covers: it is only shown.
func (a *analysis) checkAttempts() {
	done := false
	for i := range a.events {
		j := &a.events[i]
		switch {
		case a.room() && j.is(EFIAction, actionReturning):
			a.find(codeFailedAttempt, j.Index, "event %d: a boot option gave control back to the firmware", j.Index)
		case j.PCR == 5 && j.is(EFIAction, actionExitDone):
			done = true
		case done && isImage(j) && a.room():
			a.find(codeAfterExit, j.Index, "event %d in PCR %d measures an image after ExitBootServices; it is no boot application", j.Index, j.PCR)
		}
	}
}

func isImage(j *judged) bool {
	return j.Type == EFIBootServicesApplication || j.Type == EFIBootServicesDriver || j.Type == EFIRuntimeServicesDriver
}

// Inspected is a log analysed over its own replay, for a person to read. It
// proves nothing: its claims are what would hold if the registers had these values.
type Inspected struct{ boot }

// Inspect analyses the log over its own replay in bank a. The error is that of
// [Log.Replay]. A SHA-1 bank supports no claim.
func (l *Log) Inspect(a tpm2.Alg) (*Inspected, error) {
	an, err := l.analyse(a)
	if err != nil {
		return nil, fmt.Errorf("inspect log: %w", err)
	}
	if l.format != FormatCC {
		an.trusted = 1<<maxPCR - 1
	}
	an.weak = a == tpm2.AlgSHA1
	an.shown = true
	an.conclude()
	an.compareBanks()
	return &Inspected{boot{an}}, nil
}

// compareBanks looks for events whose digests in the other banks are of other
// data. The verdict rests on one bank; the others are only shown.
func (a *analysis) compareBanks() {
	for _, b := range a.log.algs[:a.log.nAlgs] {
		if _, ok := b.alg.Hash(); !ok || b.alg == a.judge.bank {
			continue
		}
		other := judge{b.alg, b.size}
		for i := range a.events {
			j := &a.events[i]
			d := j.Digest(b.alg)
			if !j.proven() || d == nil {
				continue
			}
			if !other.matches(&judged{digest: d}, j.covered) {
				a.find(codeBankDisagreement, j.Index, "event %d in PCR %d: the %s digest is of other data than the %s digest",
					j.Index, j.PCR, b.alg.BankName(), a.judge.bank.BankName())
			}
		}
	}
}
