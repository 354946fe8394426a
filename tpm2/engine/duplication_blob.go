package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// innerWrap is the inner protection of a duplicate: a symmetric key that the owner
// brings to the new parent, not the duplicate (Part 1, 23.3.2.2). AlgNull is none.
type innerWrap struct {
	sym tpm2.SymDefObject
	key []byte
}

func (w *innerWrap) used() bool { return w.sym.Algorithm != tpm2.AlgNull }

// keySize is the size that the key must have, 0 without protection.
func (w *innerWrap) keySize() int {
	if !w.used() {
		return 0
	}
	return int(w.sym.KeyBits) / 8
}

// seal protects data, the sensitive area of an object of this Name: a digest in
// front, and encryption. Whatever mode the algorithm names, it is CFB, with an
// initial value of zero.
func (w *innerWrap) seal(o *object, data []byte) ([]byte, error) {
	digest, err := tpmcrypto.Hash(o.public.NameAlg, data, o.name)
	if err != nil {
		return nil, err
	}
	b := append(appendSized(make([]byte, 0, 2+len(digest)+len(data)), digest), data...)
	return b, tpmcrypto.EncryptCFB(w.key, nil, b)
}

// open is the inverse of seal; it decrypts in place.
func (w *innerWrap) open(o *object, b []byte) ([]byte, error) {
	if err := tpmcrypto.DecryptCFB(w.key, nil, b); err != nil {
		return nil, err
	}
	digest, data, err := cutSized(b, tpm2.MaxDigest)
	if err != nil {
		return nil, err
	}
	want, err := tpmcrypto.Hash(o.public.NameAlg, data, o.name)
	if err != nil {
		return nil, err
	}
	if !equal(digest, want) {
		return nil, tpm2.RCIntegrity
	}
	return data, nil
}

// toDuplicate makes the duplicate of o for a new parent to which the seed was
// encrypted; without a seed it has no outer protection (Part 1, 23.3.2).
func (t *TPM) toDuplicate(o, parent *object, seed []byte, inner innerWrap) ([]byte, error) {
	scratch, err := t.encodeSensitive(o.sensitive, o.public.NameAlg)
	if err != nil {
		return nil, err
	}
	data := clone(scratch)
	clear(scratch) // nothing encrypts it there
	if inner.used() {
		if data, err = inner.seal(o, data); err != nil {
			return nil, err
		}
	}
	if len(seed) == 0 {
		return data, nil
	}
	w := parent.wrapping(seed)
	return w.seal(o.name, nil, data)
}

// fromDuplicate recovers the sensitive area of o from a duplicate. As in the
// reference, an empty seed stands for no outer protection even if it was encrypted.
func (t *TPM) fromDuplicate(o, parent *object, seed []byte, inner innerWrap, b []byte) error {
	data := clone(b)
	var err error
	if len(seed) != 0 {
		w := parent.wrapping(seed)
		if data, err = w.open(o.name, false, b); err != nil {
			return err
		}
	}
	if inner.used() {
		if data, err = inner.open(o, data); err != nil {
			return err
		}
	}
	if len(data) < 2 {
		return tpm2.RCInsufficient
	}
	if int(binary.BigEndian.Uint16(data)) != len(data)-2 {
		return tpm2.RCSize
	}
	if err := wire.DecodeIn(t.profile, data[2:], &o.sensitive); err != nil {
		return tpm2.RCOf(err)
	}
	return nil
}
