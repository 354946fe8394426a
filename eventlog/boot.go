package eventlog

import (
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// boot is what [Inspected] and [Confirmed] share. The zero value has no bank, no
// claims and no components. It is safe for concurrent use.
type boot struct{ a *analysis }

// Bank returns the algorithm of the registers that the analysis rests on.
func (b *boot) Bank() tpm2.Alg {
	if b.a == nil {
		return tpm2.AlgError
	}
	return b.a.judge.bank
}

// Log returns the log that was analysed.
func (b *boot) Log() *Log {
	if b.a == nil {
		return nil
	}
	return b.a.log
}

// Claims returns what the boot record proves, by the names of [ClaimNames]. Each
// call makes a new map.
func (b *boot) Claims() evidence.Claims {
	if b.a == nil {
		return evidence.Claims{}
	}
	return b.a.makeClaims()
}

// Findings returns what a person should see, in log order where it is about an event.
func (b *boot) Findings() []Finding {
	if b.a == nil {
		return nil
	}
	return slices.Clone(b.a.findings)
}

// Confirms reports whether the value of a register is believed: signed by a quote
// and reached by the log. An [Inspected] boot believes its own replay.
func (b *boot) Confirms(pcr int) bool { return b.a != nil && b.a.trusts(pcr) }

// Late returns the value of each believed register that the log extends, at its end: the
// whole boot.
func (b *boot) Late() map[int][]byte {
	out := map[int][]byte{}
	if b.a == nil {
		return out
	}
	for pcr := range maxPCR {
		if b.a.trusts(pcr) && b.a.regs.Extended(pcr) {
			out[pcr] = slices.Clone(b.a.regs.Value(pcr))
		}
	}
	return out
}

// Early returns the value that each believed register of the firmware had when
// control passed to the boot loader. It is a prefix of the register's own
// events, so no order between registers matters. A register without its marker
// has no early value, and none above 7 has one.
func (b *boot) Early() map[int][]byte {
	out := map[int][]byte{}
	if b.a == nil || b.a.log.format == FormatCC {
		return out
	}
	for pcr := range uint32(8) {
		if last := b.a.earlyEnd(pcr); last >= 0 && b.a.trusts(int(pcr)) {
			out[int(pcr)] = b.a.valueAt(pcr, last)
		}
	}
	return out
}

// valueAt replays a register below 8 up to the event with index last.
func (a *analysis) valueAt(pcr uint32, last int) []byte {
	r := Registers{alg: a.regs.alg, size: a.regs.size}
	r.values[0][r.size-1] = a.regs.start
	for _, j := range a.of(pcr) {
		if j.Index > last {
			break
		}
		r.extend(pcr, j.digest)
	}
	return slices.Clone(r.Value(int(pcr)))
}

// earlyEnd returns the index of the last event that is part of the early boot,
// -1 when the register has no marker.
func (a *analysis) earlyEnd(pcr uint32) int {
	separator := -1
	for _, j := range a.of(pcr) {
		if j.is(Separator, separatorZero) || j.is(Separator, separatorOnes) || j.is(Separator, separatorError) {
			separator = j.Index
			break
		}
	}
	if separator < 0 {
		return -1
	}
	switch pcr {
	case 4:
		// Early boot ends once the boot loader of the last attempt is measured; a
		// directly loaded kernel was measured before the separator.
		if j := a.bootLoader(); j != nil {
			return max(separator, j.Index)
		}
		return separator
	case 5:
		if j := a.next(pcr, separator); j != nil && (j.Type == EFIGPTEvent || j.Type == EFIGPTEvent2) {
			return j.Index
		}
	case 7:
		if j := a.next(pcr, separator); j != nil && j.Type == EFIVariableAuthority {
			return j.Index
		}
	}
	return separator
}

// next returns the event of a register that follows the one with the given index.
func (a *analysis) next(pcr uint32, index int) *judged {
	for _, j := range a.of(pcr) {
		if j.Index > index {
			return j
		}
	}
	return nil
}
