package integrity

import (
	"bytes"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// A MomentKind says what happened in a boot.
type MomentKind uint8

// What a [Watch] notices.
const (
	Started   MomentKind = iota + 1 // TPM2_Startup: a new boot
	Resumed                         // TPM2_Startup after a suspend: the boot goes on
	EarlyDone                       // firmware handed over to the boot loader
	Returned                        // the boot loader came back: the attempt failed
	Refused                         // firmware gave an attempt up before any program of it was measured
	LateDone                        // the operating system took over
	Appended                        // a register of the firmware changed after that
	Announced                       // TPM2_Shutdown: the guest says that it ends
)

// A Moment is something that a [Watch] noticed.
type Moment struct {
	Kind    MomentKind
	Time    uint64 // milliseconds since power on
	Attempt int    // of the boot, from 1
	PCR     int    // of Appended
	// Boot is the record up to here. It does not change any more.
	Boot *Boot
}

// A Watch follows the journal of one TPM. It is not safe for concurrent use.
//
// Early boot ends when the first program after the separator of PCR 4 is measured.
// A program that firmware was given directly comes before that separator; then the
// next measurement that only a running program can cause ends it. When the program
// comes back, the next one counts. Late boot ends with the text of
// ExitBootServices in PCR 5 (PFP 10.4.4). Unlike in a log, the order between
// registers is the TPM's own here, and can be relied upon.
type Watch struct {
	progress
	marks  *marks
	before *progress // of the boot before, until TPM2_Startup tells whether it goes on
}

// progress is how far one boot has come.
type progress struct {
	boot      *Boot
	attempt   int
	started   bool // TPM2_Startup began it
	direct    bool // a program was measured before the separator of PCR 4
	closed    bool // PCR 4 has its separator
	separator int  // where
	told      bool // that a register was extended after the boot
	over      bool // a limit was reached: nothing more is told of this boot
}

// NewWatch makes a watch over the registers of one bank. Until it sees the TPM
// start, its boot is broken: the beginning was missed. names may be nil.
func NewWatch(bank tpm2.Alg, names Namer) *Watch {
	return &Watch{marks: marksOf(bank), progress: progress{boot: &Boot{bank: bank, names: names, broken: true}, attempt: 1}}
}

// Boot returns the record as it is now.
func (w *Watch) Boot() *Boot {
	b := *w.boot
	b.events = b.events[:len(b.events):len(b.events)]
	b.uneven = slices.Clone(b.uneven)
	return &b
}

// maxAttempts bounds the boot options that one boot may try. Firmware has some ten; a
// boot loader that starts and returns for ever is no boot.
const maxAttempts = 32

// Lose says that records are missing. No register of this boot is confirmed then, and
// nothing more is told of it.
func (w *Watch) Lose() { w.boot.broken, w.over = true, true }

// Take reads the next record.
func (w *Watch) Take(r engine.JournalRecord) []Moment {
	switch r.Kind {
	case engine.JournalInit:
		// The boot so far stays aside until TPM2_Startup tells whether it goes on. One
		// that TPM2_Startup never came to is none.
		if before := w.progress; before.started || w.before == nil {
			w.before = &before
		}
		w.progress = progress{boot: &Boot{bank: w.boot.bank, names: w.boot.names}, attempt: 1}
	case engine.JournalStartup:
		return w.startup(&r)
	case engine.JournalShutdown:
		return []Moment{w.moment(Announced, r.Time)}
	case engine.JournalHashEnd:
		if r.PCR == 0 { // an H-CRTM: PCR 0 starts at 4 (Part 1, 34.3)
			w.boot.start = 4
			return w.measure(&r)
		}
	case engine.JournalExtend, engine.JournalEvent:
		return w.measure(&r)
	}
	return nil
}

// startup begins a boot, or goes on with the one before (Part 3, 9.3).
func (w *Watch) startup(r *engine.JournalRecord) []Moment {
	const resume = 2
	if r.Detail != resume {
		w.before, w.started = nil, true
		if w.boot.start == 0 {
			w.boot.start = r.Locality
		}
		for _, d := range r.Digests {
			w.boot.active = append(w.boot.active, d.HashAlg)
		}
		slices.Sort(w.boot.active)
		return []Moment{w.moment(Started, r.Time)}
	}
	if w.before == nil {
		w.boot.broken = true
	} else {
		w.progress, w.before = *w.before, nil
	}
	return []Moment{w.moment(Resumed, r.Time)}
}

func (w *Watch) moment(kind MomentKind, time uint64) Moment {
	return Moment{Kind: kind, Time: time, Attempt: w.attempt, Boot: w.Boot()}
}

// measure takes one command that extends a PCR.
func (w *Watch) measure(r *engine.JournalRecord) (out []Moment) {
	if int(r.PCR) >= registers {
		return nil
	}
	if w.boot.late > 0 {
		if len(r.Digests) == 0 {
			return nil
		}
		return w.append(int(r.PCR), r.Time)
	}
	digests, others := split(w.boot.bank, r)
	if len(digests) == 0 && w.without(r) {
		w.Lose()
	}
	if len(digests) != 1 || twice(others) {
		w.uneven(int(r.PCR), others)
		others = nil
	}
	for _, digest := range digests {
		out = append(out, w.extend(int(r.PCR), digest, others, r.Time)...)
	}
	return out
}

// without reports whether a command that extends nothing in the boot's bank takes away
// what the boot is known by: firmware extends every bank there is, so this one was
// switched off; or the register is in no bank any more (TPM2_PCR_Allocate), and would be
// taken for one that nobody extended.
func (w *Watch) without(r *engine.JournalRecord) bool {
	if len(w.boot.events) == 0 && len(r.Digests) > 0 {
		return true
	}
	return judgedPCR(int(r.PCR)) && (len(r.Digests) == 0 || len(w.boot.active) == 0)
}

func twice(others []tpm2.HA) bool {
	for i := 1; i < len(others); i++ {
		if others[i].HashAlg == others[i-1].HashAlg {
			return true
		}
	}
	return false
}

// uneven notes the banks of a command that does not extend all banks once, while the boot
// lasts: they no longer tell what the bank of the boot does. A bank that such a command
// leaves out lacks its digest, and is found by that.
func (w *Watch) uneven(pcr int, others []tpm2.HA) {
	if !judgedPCR(pcr) {
		return
	}
	for _, d := range others {
		if !slices.Contains(w.boot.uneven, d.HashAlg) {
			w.boot.uneven = append(w.boot.uneven, d.HashAlg)
		}
	}
}

func (w *Watch) extend(pcr int, digest []byte, others []tpm2.HA, time uint64) []Moment {
	if len(w.boot.events) >= MaxEvents || w.attempt > maxAttempts {
		w.Lose()
	}
	if w.over {
		return nil
	}
	w.boot.events = append(w.boot.events, Event{PCR: pcr, Digest: bytes.Clone(digest), Time: time, Others: others})
	switch {
	case pcr == 4:
		return w.program(digest, time)
	case pcr == 5 && bytes.Equal(digest, w.marks.success):
		return w.handOver(time)
	case w.boot.early == 0 && w.direct && w.closed && (pcr >= 8 || pcr == 5 && bytes.Equal(digest, w.marks.exit)):
		return w.early(w.separator+1, time)
	}
	return nil
}

// program takes an event of PCR 4.
func (w *Watch) program(digest []byte, time uint64) []Moment {
	switch {
	case w.marks.separator(digest):
		if !w.closed {
			w.closed, w.separator = true, len(w.boot.events)-1
		}
	case bytes.Equal(digest, w.marks.returning):
		m := w.moment(Returned, time)
		if w.boot.early == 0 {
			m.Kind = Refused
		}
		w.boot.early = 0
		w.attempt++
		return []Moment{m}
	case bytes.Equal(digest, w.marks.calling):
	case !w.closed:
		w.direct = true
	case w.boot.early == 0:
		return w.early(len(w.boot.events), time)
	}
	return nil
}

// early ends the early boot after the first n events.
func (w *Watch) early(n int, time uint64) []Moment {
	w.boot.early = n
	return []Moment{w.moment(EarlyDone, time)}
}

// handOver ends the boot. Firmware that measured no program and no separator has
// no early boot, and the boot is over all the same.
func (w *Watch) handOver(time uint64) []Moment {
	w.boot.late = len(w.boot.events)
	return []Moment{w.moment(LateDone, time)}
}

// append tells once that a register of the firmware was extended after the
// operating system took over. Firmware does not run then.
func (w *Watch) append(pcr int, time uint64) []Moment {
	if pcr >= 8 || w.told {
		return nil
	}
	w.told = true
	m := w.moment(Appended, time)
	m.PCR = pcr
	return []Moment{m}
}
