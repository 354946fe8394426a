package eventlog

import (
	"encoding/binary"

	"github.com/assay-project/assay/eventlog/sipa"
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
// separator of their own register. ok is false when a register that Windows
// extends holds an event of another kind, which could be one of these in disguise.
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
