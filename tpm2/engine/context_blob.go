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
	key, iv, err := t.contextKey(x)
	if err != nil {
		return err
	}
	if err := tpmcrypto.EncryptCFB(key, iv, b); err != nil {
		return err
	}
	mac, err := t.contextIntegrity(x, b)
	if err != nil {
		return err
	}
	// TPMS_CONTEXT_DATA (Part 2, 14.4).
	x.ContextBlob = append(appendSized(make([]byte, 0, 2+len(mac)+len(b)), mac), b...)
	return nil
}

// openContext checks that this TPM made x, since the last TPM Reset and for its
// hierarchy as it is now, and returns the content decrypted.
func (t *TPM) openContext(x *tpm2.Context) ([]byte, error) {
	// The reference gives no number to what is no TPM2B_DIGEST.
	mac, encrypted, err := cutSized(x.ContextBlob, tpm2.MaxDigest)
	if err != nil {
		return nil, err
	}
	if len(mac) != contextHash.DigestSize() || len(encrypted) < 8 {
		return nil, parameter(tpm2.RCSize, 1)
	}
	want, err := t.contextIntegrity(x, encrypted)
	if err != nil {
		return nil, err
	}
	if !equal(mac, want) {
		return nil, parameter(tpm2.RCIntegrity, 1)
	}
	key, iv, err := t.contextKey(x)
	if err != nil {
		return nil, err
	}
	b := clone(encrypted)
	return b, tpmcrypto.DecryptCFB(key, iv, b)
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

// contextKey derives the key and initial value of a context from the proof of its
// hierarchy (Part 1, 30.3.1). The numbers begin anew with each TPM Reset and the
// proof may not, so that the count of TPM Resets is part of what the key is for.
func (t *TPM) contextKey(x *tpm2.Context) (key, iv []byte, err error) {
	sequence := binary.BigEndian.AppendUint64(nil, x.Sequence)
	sequence = binary.BigEndian.AppendUint64(sequence, t.permanent.totalResetCount)
	k, err := t.macs.derive(contextHash, t.proof(x.Hierarchy), "CONTEXT", sequence, handleName(x.SavedHandle), contextKeyBits+8*tpmcrypto.BlockSize)
	if err != nil {
		return nil, nil, err
	}
	return k[:contextKeyBits/8], k[contextKeyBits/8:], nil
}

// contextIntegrity is the HMAC of a context under the proof of its hierarchy
// (Part 1, 30.3.2): over the count of TPM Resets, so that none outlives one; for
// an object with stClear that of TPM Restarts too; number, handle and content.
func (t *TPM) contextIntegrity(x *tpm2.Context, encrypted []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 24), t.permanent.totalResetCount)
	if x.SavedHandle == tpm2.SavedSTClearObject {
		b = binary.BigEndian.AppendUint32(b, t.reset.clearCount)
	}
	b = binary.BigEndian.AppendUint64(b, x.Sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(x.SavedHandle))
	return t.macs.sum(nil, contextHash, t.proof(x.Hierarchy), b, encrypted)
}
