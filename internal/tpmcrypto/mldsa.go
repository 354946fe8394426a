package tpmcrypto

import (
	"crypto/sha3"
	"io"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"

	"github.com/assay-project/assay/tpm2"
)

// MLDSAMuSize is the size in bytes of a message representative (FIPS 204, 6.2).
const MLDSAMuSize = 64

// An MLDSAKey is a private key of ML-DSA (FIPS 204). It is immutable and safe for
// concurrent use.
//
// Its signatures are deterministic (FIPS 204, 3.4), as the implementation takes no
// randomness from a caller and recorded commands must replay. HashML-DSA is not
// here: the implementation verifies no message representative.
type MLDSAKey struct{ key *mldsa.PrivateKey }

// mldsaSet returns the parameters of a set, or TPM_RC_PARMS.
func mldsaSet(set tpm2.MLDSASet) (mldsa.Parameters, error) {
	switch set {
	case tpm2.MLDSA44:
		return mldsa.MLDSA44(), nil
	case tpm2.MLDSA65:
		return mldsa.MLDSA65(), nil
	case tpm2.MLDSA87:
		return mldsa.MLDSA87(), nil
	}
	return mldsa.Parameters{}, refuse(tpm2.RCParms, "ML-DSA parameter set %d", set)
}

// GenerateMLDSA makes a key whose seed is 32 bytes from r. The refusal is TPM_RC_PARMS.
func GenerateMLDSA(r io.Reader, set tpm2.MLDSASet) (*MLDSAKey, error) {
	seed, err := read(r, mldsa.PrivateKeySize)
	if err != nil {
		return nil, err
	}
	return LoadMLDSA(set, seed)
}

// LoadMLDSA expands a key from its seed. Refusals: TPM_RC_PARMS, and TPM_RC_KEY_SIZE
// for a seed of other than 32 bytes.
func LoadMLDSA(set tpm2.MLDSASet, seed []byte) (*MLDSAKey, error) {
	params, err := mldsaSet(set)
	if err != nil {
		return nil, err
	}
	key, err := mldsa.NewPrivateKey(params, seed)
	if err != nil {
		return nil, refuse(tpm2.RCKeySize, "ML-DSA seed has %d bytes, want %d", len(seed), mldsa.PrivateKeySize)
	}
	return &MLDSAKey{key}, nil
}

// Public returns the public key.
func (k *MLDSAKey) Public() []byte { return k.key.PublicKey().Bytes() }

// Seed returns the seed. It is secret.
func (k *MLDSAKey) Seed() []byte { return k.key.Bytes() }

// SignMu signs a message representative: of [NewMLDSAMu], or one that was computed
// outside. The refusal is TPM_RC_SIZE.
func (k *MLDSAKey) SignMu(mu []byte) ([]byte, error) {
	if len(mu) != MLDSAMuSize {
		return nil, refuse(tpm2.RCSize, "ML-DSA message representative has %d bytes, want %d", len(mu), MLDSAMuSize)
	}
	return k.key.SignDeterministic(mu, mldsacrypto.MLDSAMu)
}

// Sign signs a message with a context (FIPS 204, 5.2). The refusal is TPM_RC_SIZE for
// a context of more than 255 bytes.
func (k *MLDSAKey) Sign(message, context []byte) ([]byte, error) {
	mu, err := NewMLDSAMu(k.Public(), context)
	if err != nil {
		return nil, err
	}
	mu.Write(message)
	return k.SignMu(mu.Sum())
}

// An MLDSAMu is the message representative of a message that comes in parts
// (FIPS 204, 5.2, step 10 and 6.2, step 6).
type MLDSAMu struct{ shake *sha3.SHAKE }

// NewMLDSAMu starts one for a public key and a context. The refusal is TPM_RC_SIZE
// for a context of more than 255 bytes.
func NewMLDSAMu(public, context []byte) (*MLDSAMu, error) {
	if len(context) > 255 {
		return nil, refuse(tpm2.RCSize, "ML-DSA context has %d bytes", len(context))
	}
	m := &MLDSAMu{sha3.NewSHAKE256()}
	m.Write(sha3.SumSHAKE256(public, 64))  // tr
	m.Write([]byte{0, byte(len(context))}) // the pure form
	m.Write(context)
	return m, nil
}

// Write adds a part of the message; it never fails.
func (m *MLDSAMu) Write(p []byte) (int, error) { return m.shake.Write(p) }

// Sum ends the message and returns its representative. Nothing may be written after it.
func (m *MLDSAMu) Sum() []byte {
	mu := make([]byte, MLDSAMuSize)
	m.shake.Read(mu)
	return mu
}

// State returns the representative in progress, for the saved context of a
// sequence object.
func (m *MLDSAMu) State() []byte { return known(m.shake.MarshalBinary()) }

// RestoreMLDSAMu continues from what State returned; the refusal is TPM_RC_VALUE.
func RestoreMLDSAMu(state []byte) (*MLDSAMu, error) {
	m := &MLDSAMu{sha3.NewSHAKE256()}
	// crypto/sha3 takes more bytes, for cSHAKE, and keeps in the last whether the
	// state was read from; writing to one that was would panic.
	if len(state) != len(m.State()) || state[len(state)-1] != 0 {
		return nil, refuse(tpm2.RCValue, "restore ML-DSA message: it has another size or has ended")
	}
	if err := m.shake.UnmarshalBinary(state); err != nil {
		return nil, refuse(tpm2.RCValue, "restore ML-DSA message: %v", err)
	}
	return m, nil
}

// VerifyMLDSA checks a signature of a message with a context. Refusals: TPM_RC_PARMS,
// TPM_RC_KEY for a public key that is none, TPM_RC_SIZE for the context, and
// TPM_RC_SIGNATURE.
func VerifyMLDSA(set tpm2.MLDSASet, public, message, context, sig []byte) error {
	params, err := mldsaSet(set)
	if err != nil {
		return err
	}
	if len(context) > 255 {
		return refuse(tpm2.RCSize, "ML-DSA context has %d bytes", len(context))
	}
	key, err := mldsa.NewPublicKey(params, public)
	if err != nil {
		return refuse(tpm2.RCKey, "decode ML-DSA public key: %v", err)
	}
	if mldsa.Verify(key, message, sig, &mldsa.Options{Context: string(context)}) != nil {
		return refuse(tpm2.RCSignature, "ML-DSA signature does not verify")
	}
	return nil
}
