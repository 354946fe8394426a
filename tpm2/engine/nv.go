package engine

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 31 of Part 3, second part: reading, writing and locking NV indices.

// writable returns the index of the second handle if the first authorizes writing
// it (Part 3, 31.1). TPM_RC_NV_LOCKED comes before all else.
func (c *call) writable() (*nvIndex, error) {
	x := c.t.permanent.nv.index(c.handles[1])
	if err := c.t.checkReadOnly(x); err != nil {
		return x, err
	}
	a := x.public.Attributes
	if a.Has(tpm2.NVWriteLocked) {
		return x, tpm2.RCNVLocked
	}
	return x, c.nvAuthorized(c.handles[0], c.handles[1], a.Has(tpm2.NVOwnerWrite), a.Has(tpm2.NVPPWrite))
}

// checkReadOnly refuses a change of an index in read-only mode, unless the index is
// one that holds nothing beyond the next restart (Part 3, TPM2_ReadOnlyControl).
func (t *TPM) checkReadOnly(x *nvIndex) error {
	if t.clear.readOnly && !x.public.Attributes.Has(tpm2.NVOrderly|tpm2.NVClearSTClear) {
		return tpm2.RCReadOnly
	}
	return nil
}

// readable is writable for reading the index h by the authorization of auth.
// TPM_RC_NV_UNINITIALIZED comes last, so that NV_ReadLock can pass over it.
func (c *call) readable(auth, h tpm2.Handle) (*nvIndex, error) {
	x := c.t.permanent.nv.index(h)
	a := x.public.Attributes
	if a.Has(tpm2.NVReadLocked) {
		return x, tpm2.RCNVLocked
	}
	if err := c.nvAuthorized(auth, h, a.Has(tpm2.NVOwnerRead), a.Has(tpm2.NVPPRead)); err != nil {
		return x, err
	}
	if !a.Has(tpm2.NVWritten) {
		return x, tpm2.RCNVUninitialized
	}
	return x, nil
}

// nvAuthorized says whether auth may act on the index: the index itself, whose
// authorization was checked, or a hierarchy that its attributes allow.
func (c *call) nvAuthorized(auth, h tpm2.Handle, owner, platform bool) error {
	switch {
	case auth == tpm2.HandleOwner && owner, auth == tpm2.HandlePlatform && platform, auth == h:
		return nil
	}
	return tpm2.RCNVAuthorization
}

// nvWrite is TPM2_NV_Write (Part 3, 31.7).
func nvWrite(c *call, in *command.NVWriteIn, _ *command.None) error {
	x, err := c.writable()
	if err != nil {
		return err
	}
	switch x.public.Attributes.Type() {
	case tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend:
		return tpm2.RCAttributes
	}
	size, offset := len(x.data), int(in.Offset)
	switch {
	case offset > size:
		return parameter(tpm2.RCValue, 2)
	case len(in.Data) > size-offset:
		return tpm2.RCNVRange
	case x.public.Attributes.Has(tpm2.NVWriteAll) && len(in.Data) < size:
		return tpm2.RCNVRange
	}
	if !x.written() {
		x.erase()
	} else if x.holds(offset, in.Data) && !x.public.Attributes.Has(tpm2.NVOrderly) {
		return nil // NvConditionallyWrite of the reference: there is nothing to keep
	}
	copy(x.data[offset:], in.Data)
	c.t.indexWritten(x)
	return nil
}

// holds reports whether the data at an offset are these already.
func (x *nvIndex) holds(offset int, data []byte) bool {
	return bytes.Equal(x.data[offset:offset+len(data)], data)
}

// erase sets what the first write leaves out, so that nothing from before a restart
// shows through: 0xff as in erased flash, 0 in memory and where values add up. A PIN
// without a limit is tried never, not for ever.
func (x *nvIndex) erase() {
	a, v := x.public.Attributes, byte(0xff)
	if a.Has(tpm2.NVOrderly) || a.Type() != tpm2.NVOrdinary {
		v = 0
	}
	for i := range x.data {
		x.data[i] = v
	}
}

// indexWritten notes that data of an index changed. That of an orderly index need
// not reach permanent state before the next shutdown.
func (t *TPM) indexWritten(x *nvIndex) {
	if !x.written() {
		x.set(tpm2.NVWritten)
		t.touch()
	}
	if !x.public.Attributes.Has(tpm2.NVOrderly) {
		t.touch()
		return
	}
	t.unorder() // what an orderly shutdown wrote is no longer the content
}

// nvIncrement is TPM2_NV_Increment (Part 3, 31.8).
func nvIncrement(c *call, _, _ *command.None) error {
	x, err := c.writable()
	if err != nil {
		return err
	}
	if x.public.Attributes.Type() != tpm2.NVCounter {
		return handleError(tpm2.RCAttributes, 2)
	}
	count := uint64(0)
	if x.written() {
		count = binary.BigEndian.Uint64(x.data)
	} else {
		count = c.t.permanent.nv.highest()
	}
	count++
	binary.BigEndian.PutUint64(x.data, count)
	c.t.indexWritten(x)
	// Part 1, 37.2.7: an orderly counter is written down at intervals.
	if count&orderlyCount == 0 {
		c.t.touch()
	}
	return nil
}

// nvExtend is TPM2_NV_Extend (Part 3, 31.9).
func nvExtend(c *call, in *command.NVExtendIn, _ *command.None) error {
	x, err := c.writable()
	if err != nil {
		return err
	}
	if x.public.Attributes.Type() != tpm2.NVExtend {
		return handleError(tpm2.RCAttributes, 2)
	}
	if !x.written() {
		x.erase()
	}
	x.public.NameAlg.Sum(x.data[:0], x.data, in.Data) // the layout takes only hashes that the profile has
	c.t.indexWritten(x)
	return nil
}

// nvSetBits is TPM2_NV_SetBits (Part 3, 31.10).
func nvSetBits(c *call, in *command.NVSetBitsIn, _ *command.None) error {
	x, err := c.writable()
	if err != nil {
		return err
	}
	if x.public.Attributes.Type() != tpm2.NVBits {
		return handleError(tpm2.RCAttributes, 2)
	}
	if !x.written() {
		x.erase()
	}
	binary.BigEndian.PutUint64(x.data, binary.BigEndian.Uint64(x.data)|in.Bits)
	c.t.indexWritten(x)
	return nil
}

// nvWriteLock is TPM2_NV_WriteLock (Part 3, 31.11). It is no error to lock twice.
func nvWriteLock(c *call, _, _ *command.None) error {
	x, err := c.writable()
	if errors.Is(err, tpm2.RCNVLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	if x.public.Attributes&(tpm2.NVWriteDefine|tpm2.NVWriteSTClear) == 0 {
		return handleError(tpm2.RCAttributes, 2)
	}
	x.set(tpm2.NVWriteLocked)
	c.t.touch()
	return nil
}

// nvGlobalWriteLock is TPM2_NV_GlobalWriteLock (Part 3, 31.12).
func nvGlobalWriteLock(c *call, _, _ *command.None) error {
	for _, x := range c.t.permanent.nv.indices {
		if x.public.Attributes.Has(tpm2.NVGlobalLock) {
			x.set(tpm2.NVWriteLocked)
		}
	}
	c.t.touch()
	return nil
}

// nvRead is TPM2_NV_Read (Part 3, 31.13).
func nvRead(c *call, in *command.NVReadIn, out *command.NVReadOut) error {
	x, err := c.readable(c.handles[0], c.handles[1])
	if err != nil {
		return err
	}
	out.Data, err = c.nvPart(x, in.Size, in.Offset, 1)
	return err
}

// nvPart returns part of the data of an index; size and offset are the
// parameters first and first+1.
func (c *call) nvPart(x *nvIndex, size, offset uint16, first int) ([]byte, error) {
	switch {
	case int(size) > c.t.limits.NVBuffer:
		return nil, parameter(tpm2.RCValue, first)
	case int(offset) > len(x.data):
		return nil, parameter(tpm2.RCValue, first+1)
	case int(size) > len(x.data)-int(offset):
		return nil, tpm2.RCNVRange
	}
	return x.data[offset : int(offset)+int(size)], nil
}

// nvReadLock is TPM2_NV_ReadLock (Part 3, 31.14). An index that was never written
// can be locked.
func nvReadLock(c *call, _, _ *command.None) error {
	x, err := c.readable(c.handles[0], c.handles[1])
	if err := c.t.checkReadOnly(x); err != nil {
		return err
	}
	switch {
	case errors.Is(err, tpm2.RCNVLocked):
		return nil
	case err != nil && !errors.Is(err, tpm2.RCNVUninitialized):
		return err
	}
	if !x.public.Attributes.Has(tpm2.NVReadSTClear) {
		return handleError(tpm2.RCAttributes, 2)
	}
	x.set(tpm2.NVReadLocked)
	c.t.touch()
	return nil
}
