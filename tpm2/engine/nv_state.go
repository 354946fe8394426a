package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// nvStore has the defined NV indices.
type nvStore struct {
	indices    map[tpm2.Handle]*nvIndex
	maxCounter uint64 // no new counter starts at or below it
}

func newNVStore() nvStore { return nvStore{indices: map[tpm2.Handle]*nvIndex{}} }

// index returns a defined index, nil when there is none.
func (s *nvStore) index(h tpm2.Handle) *nvIndex { return s.indices[h] }

// An nvIndex is a defined NV index (Part 2, 13.6; Part 1, 37).
type nvIndex struct {
	public tpm2.NVPublic
	auth   []byte // authValue, without trailing zeros
	data   []byte
	named  []byte // its Name, made when the public area changes
}

func (x *nvIndex) name() []byte      { return x.named }
func (x *nvIndex) authValue() []byte { return x.auth }
func (x *nvIndex) written() bool     { return x.public.Attributes.Has(tpm2.NVWritten) }
func (x *nvIndex) counter() bool     { return x.public.Attributes.Type() == tpm2.NVCounter }

// pin reports whether the index counts the uses of its authValue.
func (x *nvIndex) pin() bool {
	k := x.public.Attributes.Type()
	return k == tpm2.NVPinFail || k == tpm2.NVPinPass
}

// pinCounts returns pinCount and pinLimit of a written PIN index (Part 2, 13.3).
func (x *nvIndex) pinCounts() (count, limit uint32) {
	return binary.BigEndian.Uint32(x.data), binary.BigEndian.Uint32(x.data[4:])
}

// pinUsable reports whether the authValue of the index may be used: of a PIN
// index, when it is written and its count is below its limit.
func (x *nvIndex) pinUsable() bool {
	if !x.pin() {
		return true
	}
	if !x.written() {
		return false
	}
	count, limit := x.pinCounts()
	return count < limit
}

// countPIN counts a use of the authValue of a PIN index: of PIN fail the failures
// since the last success, of PIN pass the successes.
func (t *TPM) countPIN(h tpm2.Handle, ok bool) {
	x := t.permanent.nv.index(h)
	if !x.pin() || !x.written() {
		return
	}
	count, _ := x.pinCounts()
	next := count
	switch x.public.Attributes.Type() {
	case tpm2.NVPinFail:
		next = 0
		if !ok {
			next = count + 1 // below pinLimit, or it would not have been usable
		}
	case tpm2.NVPinPass:
		if ok {
			next = count + 1
		}
	}
	if next != count {
		binary.BigEndian.PutUint32(x.data, next)
		t.touch()
	}
}

// startNV does to each index what a startup does (Part 1, 37.7; NvSetStartupAttributes
// of the reference). Without an orderly shutdown an orderly counter goes on from
// where no value can have been told before.
func (t *TPM) startNV(kind resumption) {
	lost := t.vol.previous == shutdownNone || t.vol.previous == shutdownDAUsed
	for _, x := range t.permanent.nv.indices {
		if lost && x.counter() && x.written() && x.public.Attributes.Has(tpm2.NVOrderly) {
			binary.BigEndian.PutUint64(x.data, binary.BigEndian.Uint64(x.data)|orderlyCount)
		}
		if kind != tpmResume {
			x.restart(kind)
		}
	}
}

// restart is what TPM Reset and TPM Restart do to the attributes of an index: locks
// end, and the content of indices that last until then. A TPM Reset ends that of
// orderly indices, too, whatever shutdown came before; never that of a counter.
func (x *nvIndex) restart(kind resumption) {
	x.unset(tpm2.NVReadLocked)
	a := x.public.Attributes
	if !x.counter() && (a.Has(tpm2.NVClearSTClear) || a.Has(tpm2.NVOrderly) && kind == tpmReset) {
		x.unset(tpm2.NVWritten)
	}
	if !a.Has(tpm2.NVWriteDefine) || !x.written() {
		x.unset(tpm2.NVWriteLocked)
	}
}

// set sets attributes, which changes the Name.
func (x *nvIndex) set(a tpm2.NVAttributes) {
	x.public.Attributes |= a
	x.rename()
}

// unset clears attributes, which changes the Name.
func (x *nvIndex) unset(a tpm2.NVAttributes) {
	if x.public.Attributes&a != 0 {
		x.public.Attributes &^= a
		x.rename()
	}
}

// rename computes the Name (Part 1, 16).
func (x *nvIndex) rename() {
	b, err := wire.Encode(&x.public)
	if err != nil {
		panic(err) // it was decoded by the same layout
	}
	a := x.public.NameAlg // the layout takes only hashes that the profile has
	x.named, _ = a.Sum(binary.BigEndian.AppendUint16(make([]byte, 0, 2+a.DigestSize()), uint16(a)), b)
}

// keepCount remembers the value of a counter that goes.
func (s *nvStore) keepCount(x *nvIndex) {
	if x.counter() && x.written() {
		s.maxCounter = max(s.maxCounter, binary.BigEndian.Uint64(x.data))
	}
}

// highest returns the highest value that any counter has or had: a new one goes
// on from there (Part 3, 31.8).
func (s *nvStore) highest() uint64 {
	n := s.maxCounter
	for _, x := range s.indices {
		if x.counter() && x.written() {
			n = max(n, binary.BigEndian.Uint64(x.data))
		}
	}
	return n
}

// bytes returns how much data all indices hold.
func (s *nvStore) bytes() int {
	n := 0
	for _, x := range s.indices {
		n += len(x.data)
	}
	return n
}

// counters returns how many indices are counters.
func (s *nvStore) counters() uint32 {
	n := uint32(0)
	for _, x := range s.indices {
		if x.counter() {
			n++
		}
	}
	return n
}

// dropOwner removes the indices that the owner defined (Part 3, 24.6).
func (s *nvStore) dropOwner() {
	for h, x := range s.indices {
		if !x.public.Attributes.Has(tpm2.NVPlatformCreate) {
			s.keepCount(x)
			delete(s.indices, h)
		}
	}
}
