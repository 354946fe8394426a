package engine

import (
	"encoding/binary"
	"io"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// maxDerivation is TPM_MAX_DERIVATION_BITS of the reference: what one derivation
// may take, and the number of bits that its KDF is told.
const maxDerivation = 8192

// A derivation is the output of KDFa from a derivation parent, from which a
// derived object is made (Part 1, 28.3). It is the stream of the reference, so that
// objects derived from a parent that was imported are the same here and there.
type derivation struct {
	hash  tpm2.Alg
	key   []byte // the secret of the parent
	fixed []byte // label, zero, context, number of bits
	block []byte // rest of the last one
	count uint32
	taken int
}

// newDerivation returns the stream for a label and a context.
func newDerivation(parent *object, d *tpm2.Derive) io.Reader {
	fixed := clone(d.Label)
	// The reference terminates a label that does not end with a zero of its own.
	if n := len(fixed); n == 0 || fixed[n-1] != 0 {
		fixed = append(fixed, 0)
	}
	fixed = append(fixed, d.Context...)
	return &derivation{
		hash: parent.public.Parameters.KeyedHash.HashAlg, key: parent.sensitive.Bits,
		fixed: binary.BigEndian.AppendUint32(fixed, maxDerivation),
	}
}

// Read gives TPM_RC_NO_RESULT when the derivation is used up.
func (d *derivation) Read(p []byte) (int, error) {
	if d.taken += len(p); 8*d.taken > maxDerivation {
		return 0, tpm2.RCNoResult
	}
	for n := 0; n < len(p); {
		if len(d.block) == 0 {
			d.count++
			counter := binary.BigEndian.AppendUint32(nil, d.count)
			block, err := tpmcrypto.HMAC(d.hash, d.key, counter, d.fixed)
			if err != nil {
				return 0, err
			}
			d.block = block
		}
		k := copy(p[n:], d.block)
		d.block = d.block[k:]
		n += k
	}
	return len(p), nil
}

// merge fills an empty label or context of a template from the sensitive data of
// the command, which is nothing or a TPMS_DERIVE (Part 3, 12.9.1).
func mergeDerive(d *tpm2.Derive, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var given tpm2.Derive
	if _, err := wire.DecodePrefix(data, &given); err != nil {
		return tpm2.RCOf(err)
	}
	if len(d.Label) == 0 {
		d.Label = given.Label
	}
	if len(d.Context) == 0 {
		d.Context = given.Context
	}
	return nil
}
