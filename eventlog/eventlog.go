// Package eventlog reads the record of a boot that firmware and boot loaders
// keep beside the PCRs, and says what the PCRs prove of it.
//
// [Parse] checks shape only: a [Log] is a claim by the guest, who may change
// every type, every text and the order between registers. [Log.Confirm] compares
// it with PCR values from a verified quote and is the only maker of a
// [Confirmed], from which claims may be read; [Log.Inspect] shows the same for
// a person to read and proves nothing. No claim rests on anything but data that
// a quoted digest covers. What a log cannot prove: that the programs measured in
// PCR 4 are good ones, and so that they measured honestly what they started.
//
// TCG PC Client Platform Firmware Profile, version 1.06 (PFP), chapters 3 and 10;
// SHA-1 logs: TCG EFI Platform Specification 1.22.
package eventlog

import (
	"encoding/binary"
	"iter"

	"github.com/assay-project/assay/tpm2"
)

// Format is the kind of a log.
type Format uint8

// The formats that [Parse] tells apart.
const (
	FormatUnknown Format = iota
	FormatTCG2           // crypto agile (PFP 10.2.2)
	FormatTCG1           // SHA-1 records only (PFP 10.2.1)
	FormatWBCL           // either of the above, as continued by Windows
	FormatCC             // crypto agile, register index of a confidential-computing machine
)

var formats = [...]string{FormatUnknown: "unknown", FormatTCG2: "tcg2", FormatTCG1: "tcg1", FormatWBCL: "wbcl", FormatCC: "cc"}

func (f Format) String() string {
	if int(f) < len(formats) {
		return formats[f]
	}
	return formats[FormatUnknown]
}

// MarshalText writes the word of the JSON shapes.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Registers of a machine: a PC client TPM has PCR 0 to 23 (PC Client Platform
// TPM Profile 4.7).
const maxPCR = 24

// NoPCR is the register index of records that are not measured into any.
const NoPCR = 0xFFFFFFFF

// maxAlgs is the largest number of banks a log may declare. No TPM has more.
const maxAlgs = 5

// Log is a parsed log. It aliases the bytes it was parsed from, which must not
// change while it is used; it is safe for concurrent use.
type Log struct {
	data   []byte
	start  int // of the first record; a Spec ID record is read as a SHA-1 record before it
	end    int // of the last record; padding follows
	count  int // records
	algs   [maxAlgs]bank
	nAlgs  int
	agile  bool
	format Format
	// results are what was confirmed of the log; nil unless a Cache parsed it.
	results *results
}

// bank is one algorithm of a Spec ID event.
type bank struct {
	alg  tpm2.Alg
	size int
}

// Format returns the kind of the log.
func (l *Log) Format() Format { return l.format }

// Banks returns the algorithms that the log declares, in its order. Not every
// event need have a digest of each.
func (l *Log) Banks() []tpm2.Alg {
	out := make([]tpm2.Alg, l.nAlgs)
	for i := range out {
		out[i] = l.algs[i].alg
	}
	return out
}

// HasBank reports whether the log declares a.
func (l *Log) HasBank(a tpm2.Alg) bool {
	for _, b := range l.algs[:l.nAlgs] {
		if b.alg == a {
			return true
		}
	}
	return false
}

// Len returns the number of events, the Spec ID event included.
func (l *Log) Len() int { return l.count }

// End returns the offset after the last event; what follows is padding.
func (l *Log) End() int { return l.end }

// Event is one record. Only its register's sequence of digests is covered by
// the TPM: Type and Data say what the guest likes unless a digest covers them.
type Event struct {
	Index   int // in the log, from 0; the Spec ID event counts
	PCR     uint32
	Type    Type
	Data    []byte // aliases the log
	digests []byte // as in the log: {algorithm, digest} each, or one SHA-1 digest
	log     *Log
}

// Digest returns the event's digest in bank a, or nil. It aliases the log.
func (e Event) Digest(a tpm2.Alg) []byte {
	if e.log == nil {
		return nil
	}
	if !e.log.agile || (e.Index == 0 && e.log.start > 0) {
		if a != tpm2.AlgSHA1 {
			return nil
		}
		return e.digests
	}
	for d := e.digests; len(d) >= 2; {
		alg := tpm2.Alg(binary.LittleEndian.Uint16(d))
		size := e.log.sizeOf(alg)
		if alg == a {
			return d[2 : 2+size : 2+size]
		}
		d = d[2+size:]
	}
	return nil
}

// Measured reports whether the event is one that extends a register.
func (e Event) Measured() bool { return e.Type != NoAction && e.PCR < maxPCR }

func (l *Log) sizeOf(a tpm2.Alg) int {
	for _, b := range l.algs[:l.nAlgs] {
		if b.alg == a {
			return b.size
		}
	}
	return 0
}

// Events returns all events in log order.
func (l *Log) Events() []Event {
	out := make([]Event, 0, l.count)
	for e := range l.All() {
		out = append(out, e)
	}
	return out
}

// All iterates over the events in log order without allocating.
func (l *Log) All() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		r := reader{log: l, data: l.data[:l.end]}
		var e Event
		for range l.count {
			// Parse has read the same records, so next cannot fail here.
			if r.next(&e) != nil || !yield(e) {
				return
			}
		}
	}
}
