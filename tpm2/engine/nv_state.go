package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
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

// startNV resets what a startup resets of each index: locks that
// last until TPM Reset or Restart, and the content of indices that do.
func (t *TPM) startNV(kind resumption) {
	if kind == tpmResume {
		return
	}
	for _, x := range t.permanent.nv.indices {
		a := x.public.Attributes &^ tpm2.NVReadLocked
		if a.Has(tpm2.NVClearSTClear) {
			a &^= tpm2.NVWritten
		}
		if !a.Has(tpm2.NVWriteDefine) || !a.Has(tpm2.NVWritten) {
			a &^= tpm2.NVWriteLocked
		}
		x.public.Attributes = a
	}
}

// counters returns how many indices are counters.
func (s *nvStore) counters() uint32 {
	n := uint32(0)
	for _, x := range s.indices {
		if x.public.Attributes.Type() == tpm2.NVCounter {
			n++
		}
	}
	return n
}

// dropOwner removes the indices that the owner defined (Part 3, 24.6).
func (s *nvStore) dropOwner() {
	for h, x := range s.indices {
		if !x.public.Attributes.Has(tpm2.NVPlatformCreate) {
			delete(s.indices, h)
		}
	}
}
