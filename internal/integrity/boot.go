package integrity

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// registers is how many PCRs a Boot knows: those that nothing but a new start of
// the TPM resets (PFP 3.3.4).
const registers = 16

// MaxEvents bounds the measurements of one boot. The engine's journal holds some
// 500; the largest real boot known has 203.
const MaxEvents = 4096

// A Boot is one boot as its TPM saw it. Unlike a log it needs no proof: the TPM
// made the values itself, in this order, and no command of the guest reaches the
// record. It is a [baseline.Boot]. The zero Boot confirms nothing.
//
// A Boot is no longer changed once its [Watch] has given it away.
type Boot struct {
	bank   tpm2.Alg
	start  uint8 // last byte of PCR 0 at its start: the locality of TPM2_Startup, 4 after an H-CRTM
	events []Event
	early  int // how many of events came before control passed to the boot loader; 0 is not yet
	late   int // the same of the operating system
	broken bool
	active []tpm2.Alg // the banks of the TPM; empty when they are not known
	uneven []tpm2.Alg // banks that somebody extended otherwise than bank
	names  Namer
	named  []Name // of each event, as it was called when the boot was kept; nil until then
}

// An Event is one measurement.
type Event struct {
	PCR    int
	Digest []byte    // in the bank of the boot
	Time   uint64    // milliseconds since power on
	Others []tpm2.HA // by the same command in the other banks, by number of the algorithm
}

// in is the digest in another bank, nil when the bank was not extended.
func (e *Event) in(bank tpm2.Alg) []byte {
	for _, d := range e.Others {
		if d.HashAlg == bank {
			return d.Digest
		}
	}
	return nil
}

// A Namer says what a digest is, when it knows: from the machine's own disk and
// variables, or from an index of known components.
type Namer func(pcr int, digest []byte) (Name, bool)

// A Name is what a person calls a measured thing.
type Name struct {
	Kind   string // one of the Kind constants of package eventlog
	Name   string
	Detail string
	Signer string
	// Proven is set when the caller computed the digest from the thing itself.
	Proven bool
}

// Bank returns the algorithm of the values.
func (b *Boot) Bank() tpm2.Alg { return b.bank }

// Events returns the measurements up to the end of the boot, in the TPM's order.
func (b *Boot) Events() []Event { return slices.Clone(b.kept()) }

// Ended reports whether firmware handed over to the boot loader, and the boot
// loader to the operating system.
func (b *Boot) Ended() (early, late bool) { return b.early > 0, b.late > 0 }

// Attempts is how many boot options firmware has tried: one, and one more each time that
// a program came back to it.
func (b *Boot) Attempts() int {
	n, m := 1, marksOf(b.bank)
	for _, e := range b.kept() {
		if e.PCR == 4 && m.returning != nil && bytes.Equal(e.Digest, m.returning) {
			n++
		}
	}
	return n
}

// Broken reports that the record is not whole: it was full, or its beginning was
// not seen. Such a boot confirms no register.
func (b *Boot) Broken() bool { return b.broken }

// Confirms reports whether the value of a register is known.
func (b *Boot) Confirms(pcr int) bool {
	return !b.broken && b.bank.DigestSize() != 0 && pcr >= 0 && pcr < registers
}

// kept is the part of the record that belongs to the boot: what comes after the
// operating system took over is another's.
func (b *Boot) kept() []Event {
	if b.late > 0 {
		return b.events[:b.late]
	}
	return b.events
}

// Late returns the value of each register that was extended, when the operating
// system took over; until then, now.
func (b *Boot) Late() map[int][]byte {
	out := map[int][]byte{}
	if b.broken {
		return out
	}
	for pcr := range registers {
		if of := b.of(pcr, len(b.kept())); len(of) > 0 {
			out[pcr] = b.value(pcr, of)
		}
	}
	return out
}

// Early returns the value that each register of the firmware had when control
// passed to the boot loader, by the rules of package eventlog: of PCR 5 and 7 one
// event after the separator belongs to it, the partition table and the authority.
func (b *Boot) Early() map[int][]byte {
	out := map[int][]byte{}
	if b.broken || b.early == 0 {
		return out
	}
	for pcr := range 8 {
		if n := b.earlyEnd(pcr); n > 0 {
			out[pcr] = b.value(pcr, b.of(pcr, n))
		}
	}
	return out
}

// earlyEnd returns how many of the events of the boot were there when the early
// part of a register ended; 0 when the register has no separator.
func (b *Boot) earlyEnd(pcr int) int {
	m := marksOf(b.bank)
	for i, e := range b.events[:b.early] {
		if e.PCR != pcr || !m.separator(e.Digest) {
			continue
		}
		if pcr == 4 {
			return b.early
		}
		for k := i + 1; k < b.early && (pcr == 5 || pcr == 7); k++ {
			if next := b.events[k]; next.PCR == pcr {
				if m.action(next.Digest) {
					break
				}
				return k + 1
			}
		}
		return i + 1
	}
	return 0
}

// of returns the digests of a register among the first n events.
func (b *Boot) of(pcr, n int) [][]byte {
	var out [][]byte
	for _, e := range b.events[:n] {
		if e.PCR == pcr {
			out = append(out, e.Digest)
		}
	}
	return out
}

// value extends a register with digests from its start (Part 1, 17.2).
func (b *Boot) value(pcr int, digests [][]byte) []byte {
	h, ok := b.bank.Hash()
	if !ok {
		return nil
	}
	v := make([]byte, b.bank.DigestSize())
	if pcr == 0 {
		v[len(v)-1] = b.start
	}
	sum := h.New()
	for _, d := range digests {
		sum.Reset()
		sum.Write(v)
		sum.Write(d)
		v = sum.Sum(v[:0])
	}
	return v
}

// Components returns every measurement of the boot with its name.
func (b *Boot) Components() []eventlog.Component {
	var ends [8]int
	for pcr := range ends {
		ends[pcr] = b.earlyEnd(pcr)
	}
	p, left := placer{marks: marksOf(b.bank), loader: b.early}, maxTexts
	var out []eventlog.Component
	for i, e := range b.kept() {
		n := b.name(&p, i, e)
		if i >= len(b.named) {
			n = n.bound(&left)
		}
		late := e.PCR >= 8 || ends[e.PCR] > 0 && i >= ends[e.PCR]
		out = append(out, eventlog.Component{
			PCR: e.PCR, Event: i, Kind: n.Kind, Name: n.Name, Digest: e.Digest,
			Detail: n.Detail, Signer: n.Signer, Proven: n.Proven, Late: late,
		})
	}
	return out
}

func (b *Boot) name(p *placer, i int, e Event) Name {
	if i < len(b.named) {
		return b.named[i]
	}
	n := p.place(i, e)
	if b.names == nil {
		return n
	}
	known, ok := b.names(e.PCR, e.Digest)
	switch {
	case !ok || n.Proven && !known.Proven:
		return n
	case !known.Proven && n.Kind != eventlog.KindOther:
		known.Kind = n.Kind // a hint decides nothing, and package baseline looks at kinds
	}
	return known
}

// settled returns the boot as it is kept: without what came after it, and with the
// names of today.
func (b *Boot) settled() *Boot {
	out := *b
	out.events, out.named, out.names = b.kept(), nil, nil
	for _, c := range b.Components() {
		out.named = append(out.named, Name{c.Kind, c.Name, c.Detail, c.Signer, c.Proven})
	}
	return &out
}

// all lists what the boot measured as what a boot that measured nothing does not have.
func (b *Boot) all(p baseline.Profile) []baseline.Difference {
	one := *b
	one.active = nil // the banks say the same of every component
	return baseline.From(&Boot{bank: b.bank, start: b.start}, p.Shape).Compare(&one, p).Differences
}

// partOf reports whether other begins with all measurements of b, and is as whole.
func (b *Boot) partOf(other *Boot) bool {
	return b.broken == other.broken && b.start == other.start && len(b.events) <= len(other.events) &&
		slices.Equal(b.active, other.active) && slices.EqualFunc(b.events, other.events[:len(b.events)], Event.same)
}

func (e Event) same(other Event) bool {
	return e.PCR == other.PCR && bytes.Equal(e.Digest, other.Digest) && slices.EqualFunc(e.Others, other.Others, sameDigest)
}

func sameDigest(a, b tpm2.HA) bool { return a.HashAlg == b.HashAlg && bytes.Equal(a.Digest, b.Digest) }

// Others are the boot in the other banks of the TPM. One that was not extended by every
// command that extended the bank of b, and by no other, or that has something else where
// b has a text that every boot has, is broken.
func (b *Boot) Others() (others []baseline.Boot, known bool) {
	if len(b.active) == 0 {
		return nil, false
	}
	var names []Name
	for _, c := range b.Components() {
		names = append(names, Name{c.Kind, c.Name, c.Detail, c.Signer, c.Proven})
	}
	own := marksOf(b.bank)
	for _, bank := range b.active {
		if bank == b.bank {
			continue
		}
		marks := marksOf(bank)
		o := &Boot{bank: bank, start: b.start, early: b.early, late: b.late, named: names}
		_, usable := bank.Hash()
		o.broken = b.broken || !usable || slices.Contains(b.uneven, bank)
		for _, e := range b.kept() {
			d := e.in(bank)
			if o.broken = o.broken || judgedPCR(e.PCR) && (d == nil || !own.agree(e.Digest, marks, d)); o.broken {
				break
			}
			if d == nil {
				d = make([]byte, bank.DigestSize()) // of a register that nobody compares
			}
			o.events = append(o.events, Event{PCR: e.PCR, Digest: d, Time: e.Time})
		}
		o.broken = o.broken || len(o.events) == 0
		others = append(others, o)
	}
	return others, true
}

// judgedPCR reports whether a register can belong to a baseline: what the operating
// system writes cannot, and some of it into one bank alone.
func judgedPCR(pcr int) bool { return pcr < 15 && pcr != 10 }

var _ baseline.Banked = (*Boot)(nil)

// split sorts the digests of a record: those in a bank, in order, for a command may name
// a bank twice, and extends it twice then; and those in others.
func split(bank tpm2.Alg, r *engine.JournalRecord) (in [][]byte, others []tpm2.HA) {
	for _, d := range r.Digests {
		if d.HashAlg == bank {
			in = append(in, d.Digest)
		} else {
			others = append(others, tpm2.HA{HashAlg: d.HashAlg, Digest: bytes.Clone(d.Digest)})
		}
	}
	slices.SortFunc(others, func(a, b tpm2.HA) int { return cmp.Compare(a.HashAlg, b.HashAlg) })
	return in, others
}
