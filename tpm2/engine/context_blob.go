package engine

import (
	"encoding/binary"
	"errors"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// What a saved context is protected with (CONTEXT_INTEGRITY_HASH_ALG and
// CONTEXT_ENCRYPT_KEY_BITS of the reference).
const (
	contextHash    = tpm2.AlgSHA512
	contextKeyBits = 256
)

// contextVersion is that of what a saved context holds. One of an earlier version has
// no integrity, as after a TPM Reset.
const contextVersion = 3

// fingerprint lays out what is encrypted in a context: its sequence number, and
// the object or session itself (Part 1, 30.3.1).
type fingerprint struct {
	sequence uint64
	kept     wire.Layout
}

// Wire lays out the content of a context.
func (f *fingerprint) Wire(c *wire.Codec) {
	wire.U64(c, &f.sequence)
	f.kept.Wire(c)
}

// contextObject lays out an object in a saved context: behind what any state keeps
// of it, the number of a private RSA key that takes as long to find as half of a
// signature. A client that saves and loads its key round each use waits for it once.
type contextObject struct{ *object }

// Wire lays out the object and the number, which may be missing.
func (x contextObject) Wire(c *wire.Codec) {
	x.object.Wire(c)
	if !c.Decoding() && x.rsa != nil {
		x.rsaInverse, _ = x.rsa.Inverse()
	}
	c.Rest(&x.rsaInverse)
	half := len(x.public.Unique.RSA) / 2
	c.Check(len(x.rsaInverse) == 0 || x.public.Type == tpm2.AlgRSA && !x.publicOnly && len(x.rsaInverse) == half, wire.ErrSize)
}

// sealContext encrypts what is kept into x, whose other members are set, and
// vouches for all of it.
func (t *TPM) sealContext(x *tpm2.Context, kept wire.Layout) error {
	b, err := t.scratch.Encode(&fingerprint{x.Sequence, kept})
	if err != nil {
		return err
	}
	key, err := t.contextKey(x)
	if err != nil {
		return err
	}
	// TPMS_CONTEXT_DATA (Part 2, 14.4): the integrity, and what is the TPM's own.
	head := 2 + contextHash.DigestSize()
	blob := make([]byte, head+tpmcrypto.BlockSize+len(b))
	own := blob[head:]
	t.fillRandom(own[:tpmcrypto.BlockSize])
	copy(own[tpmcrypto.BlockSize:], b)
	if err := tpmcrypto.EncryptCFB(key, own[:tpmcrypto.BlockSize], own[tpmcrypto.BlockSize:]); err != nil {
		return err
	}
	binary.BigEndian.PutUint16(blob, uint16(contextHash.DigestSize()))
	x.ContextBlob = blob
	_, err = t.contextIntegrity(blob[:2], x, own)
	return err
}

// openContext checks that this TPM made x, since the last TPM Reset and for its
// hierarchy as it is now, and returns the content decrypted.
func (t *TPM) openContext(x *tpm2.Context) ([]byte, error) {
	// The reference gives no number to what is no TPM2B_DIGEST.
	mac, own, err := cutSized(x.ContextBlob, tpm2.MaxDigest)
	if err != nil {
		return nil, err
	}
	if len(mac) != contextHash.DigestSize() || len(own) < tpmcrypto.BlockSize+8 {
		return nil, parameter(tpm2.RCSize, 1)
	}
	want, err := t.contextIntegrity(nil, x, own)
	if err != nil {
		return nil, err
	}
	if !equal(mac, want) {
		return nil, parameter(tpm2.RCIntegrity, 1)
	}
	key, err := t.contextKey(x)
	if err != nil {
		return nil, err
	}
	b := clone(own[tpmcrypto.BlockSize:])
	return b, tpmcrypto.DecryptCFB(key, own[:tpmcrypto.BlockSize], b)
}

// readContext decodes the content of a context. The TPM itself made it, so what
// cannot be read, or has another number, is a fault of ours (Part 3, 28.3).
func readContext(x *tpm2.Context, b []byte, kept wire.Layout) {
	f := &fingerprint{kept: kept}
	if err := wire.Decode(b, f); err != nil {
		panic(err)
	}
	if f.sequence != x.Sequence {
		panic(errors.New("a saved context has the integrity of another"))
	}
}

// contextKey derives the key of a context from the proof of its hierarchy (Part 1,
// 30.3.1). The numbers begin anew with each TPM Reset and the proof may not, so that
// the count of TPM Resets is part of what the key is for. Two TPMs that go on from one
// snapshot have all of this in common: the initial value is random and goes with the
// context, where the reference derives it, too.
func (t *TPM) contextKey(x *tpm2.Context) ([]byte, error) {
	sequence := binary.BigEndian.AppendUint64(make([]byte, 0, 16), x.Sequence)
	sequence = binary.BigEndian.AppendUint64(sequence, t.permanent.totalResetCount)
	return t.macs.derive(contextHash, t.proof(x.Hierarchy), "CONTEXT", sequence, handleName(x.SavedHandle), contextKeyBits)
}

// contextIntegrity appends to dst the HMAC of a context under the proof of its hierarchy
// (Part 1, 30.3.2): over the layout's version, the count of TPM Resets, so that none
// outlives one; for an object with stClear that of TPM Restarts too; number, handle,
// and the TPM's own part: initial value and encrypted content.
func (t *TPM) contextIntegrity(dst []byte, x *tpm2.Context, own []byte) ([]byte, error) {
	b := append(make([]byte, 0, 32), contextVersion)
	b = binary.BigEndian.AppendUint64(b, t.permanent.totalResetCount)
	if x.SavedHandle == tpm2.SavedSTClearObject {
		b = binary.BigEndian.AppendUint32(b, t.reset.clearCount)
	}
	b = binary.BigEndian.AppendUint64(b, x.Sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(x.SavedHandle))
	return t.macs.sum(dst, contextHash, t.proof(x.Hierarchy), b, own)
}
