package eventlog

import (
	"encoding/binary"

	"github.com/assay-project/assay/eventlog/sipa"
	"github.com/assay-project/assay/evidence"
)

// wbclMarker is the data of the separator that Windows puts into PCR 12, 13 and
// 14 when it has no more to measure.
const wbclMarker = "WBCL"

// sipaContainer is the class SIPAEVENTTYPE_CONTAINER of the outer tags of
// Windows, with the flag 0x40000000 (aggregation) masked out.
const sipaContainer = 0x00010000

// isSIPA reports whether data begins with an outer tag of Windows.
func isSIPA(data []byte) bool {
	return len(data) >= 4 && binary.LittleEndian.Uint32(data)&0xBFFF0000 == sipaContainer
}

// tagged returns the events of Windows that count: proven, and before the WBCL
// separator of their own register.
func (a *analysis) tagged() []sipa.Measured {
	var out []sipa.Measured
	for i := range a.events {
		j := &a.events[i]
		switch {
		case j.Type != EventTag || j.cover != coverWhole || j.closed || !a.trusts(int(j.PCR)):
		case j.PCR >= 12 && j.PCR <= 14, j.PCR >= 19 && j.PCR <= 22:
			out = append(out, sipa.Measured{PCR: int(j.PCR), Event: j.Index, Data: j.Data})
		}
	}
	return out
}

// windowsClaims takes over what the events of Windows say.
func (c *claimant) windowsClaims() {
	if c.log.format != FormatWBCL {
		return
	}
	broken := c.windowsBroken()
	for name, claim := range c.windows.Claims {
		switch {
		case c.weak:
			c.claims.Unknown(name, codeWeakBank, 12, 13, 14)
		case broken != "":
			c.claims.Unknown(name, broken, 12, 13, 14)
		default:
			c.claims[name] = claim
		}
	}
}

// WindowsCounters place a boot of Windows among the others of its installation
// ([sipa.Chain]). The zero Counters say nothing: the log is of another system, or
// its registers prove nothing of Windows.
func (b *boot) WindowsCounters() sipa.Counters {
	if b.a == nil || b.a.log.format != FormatWBCL || b.a.weak || b.a.windowsBroken() != "" {
		return sipa.Counters{}
	}
	return b.a.windows.Counters
}

// windowsBroken says why no event of Windows may be believed, "" when they may:
// a register without its end could have been continued by anybody, and an event
// of another type could be one of Windows in disguise.
func (a *analysis) windowsBroken() evidence.Code {
	// Without these nobody knows that no other system was started.
	for _, pcr := range [...]int{8, 9, 11} {
		if !a.trusts(pcr) {
			return codeNotQuoted
		}
	}
	if a.linuxSigns() {
		return codeAmbiguous
	}
	for _, pcr := range [...]uint32{12, 13, 14} {
		if !a.trusts(int(pcr)) {
			return codeNotQuoted
		}
		ended := false
		for _, j := range a.of(pcr) {
			if !j.closed && !closes(j) && (j.Type != EventTag || j.cover != coverWhole) {
				return codeUnexpected
			}
			ended = ended || closes(j)
		}
		if !ended {
			return codeNoSeparator
		}
	}
	return ""
}
