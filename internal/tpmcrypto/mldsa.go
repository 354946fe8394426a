package tpmcrypto

import (
	"crypto/sha3"
	"errors"
	"io"

	"github.com/assay-project/assay/internal/mldsa"
	"github.com/assay-project/assay/tpm2"
)

// MLDSAMuSize is the size in bytes of a message representative (FIPS 204, 6.2).
const MLDSAMuSize = mldsa.MuSize

// maxMLDSAContext is the longest context in bytes (FIPS 204, 5.2).
const maxMLDSAContext = 255

// An MLDSAKey is a private key of ML-DSA or HashML-DSA (FIPS 204). It is immutable
// and safe for concurrent use.
//
// Its signatures are deterministic (FIPS 204, 3.4), as the implementation takes no
// randomness from a caller and recorded commands must replay.
type MLDSAKey struct{ key *mldsa.Key }

// mldsaSet returns the number of a set in its name, 0 for none.
func mldsaSet(set tpm2.MLDSASet) mldsa.Set {
	switch set {
	case tpm2.MLDSA44:
		return mldsa.MLDSA44
	case tpm2.MLDSA65:
		return mldsa.MLDSA65
	case tpm2.MLDSA87:
		return mldsa.MLDSA87
	}
	return 0
}

// MLDSASizes returns the sizes in bytes of a public key and of a signature (FIPS 204,
// table 2), 0 for a set that there is not. Any bytes of its size are a public key.
func MLDSASizes(set tpm2.MLDSASet) (public, signature int) {
	s := mldsaSet(set)
	return s.PublicSize(), s.SignatureSize()
}

// GenerateMLDSA makes a key whose seed is 32 bytes from r. The refusal is TPM_RC_PARMS.
func GenerateMLDSA(r io.Reader, set tpm2.MLDSASet) (*MLDSAKey, error) {
	seed, err := read(r, mldsa.SeedSize)
	if err != nil {
		return nil, err
	}
	return LoadMLDSA(set, seed)
}

// LoadMLDSA expands a key from its seed. Refusals: TPM_RC_PARMS, and TPM_RC_KEY_SIZE
// for a seed of other than 32 bytes.
func LoadMLDSA(set tpm2.MLDSASet, seed []byte) (*MLDSAKey, error) {
	if mldsaSet(set) == 0 {
		return nil, refuse(tpm2.RCParms, "ML-DSA parameter set %d", set)
	}
	key, err := mldsa.NewKey(mldsaSet(set), seed)
	if err != nil {
		return nil, refuse(tpm2.RCKeySize, "ML-DSA seed has %d bytes, want %d", len(seed), mldsa.SeedSize)
	}
	return &MLDSAKey{key}, nil
}

// Public returns the public key.
func (k *MLDSAKey) Public() []byte { return k.key.Public() }

// Seed returns the seed. It is secret.
func (k *MLDSAKey) Seed() []byte { return k.key.Seed() }

// SignMu signs a message representative: of [MLDSAMu] or [HashMLDSAMu], or one that was
// computed outside. The refusal is TPM_RC_SIZE.
func (k *MLDSAKey) SignMu(mu []byte) ([]byte, error) {
	sig, err := k.key.SignMu(mu)
	if errors.Is(err, mldsa.ErrSize) {
		return nil, refuse(tpm2.RCSize, "ML-DSA message representative has %d bytes, want %d", len(mu), MLDSAMuSize)
	}
	return sig, err
}

// VerifyMLDSAMu checks a signature of a message representative. Refusals:
// TPM_RC_PARMS, TPM_RC_KEY for a public key and TPM_RC_SIZE for a representative of
// another size, and TPM_RC_SIGNATURE.
func VerifyMLDSAMu(set tpm2.MLDSASet, public, mu, sig []byte) error {
	s := mldsaSet(set)
	switch {
	case s == 0:
		return refuse(tpm2.RCParms, "ML-DSA parameter set %d", set)
	case len(public) != s.PublicSize():
		return refuse(tpm2.RCKey, "ML-DSA public key has %d bytes, want %d", len(public), s.PublicSize())
	case len(mu) != MLDSAMuSize:
		return refuse(tpm2.RCSize, "ML-DSA message representative has %d bytes, want %d", len(mu), MLDSAMuSize)
	}
	if err := s.Verify(public, mu, sig); err != nil {
		return refuse(tpm2.RCSignature, "%v", err)
	}
	return nil
}

// An MLDSAMu is the message representative of a message that comes in parts
// (FIPS 204, 5.2, step 10 and 6.2, step 6).
type MLDSAMu struct{ shake *sha3.SHAKE }

// newMu starts one by what is in front of a message: the hash of the public key, the
// form, and the context. The refusal is TPM_RC_SIZE.
func newMu(form byte, public, context []byte) (*MLDSAMu, error) {
	if len(context) > maxMLDSAContext {
		return nil, refuse(tpm2.RCSize, "ML-DSA context has %d bytes", len(context))
	}
	m := &MLDSAMu{sha3.NewSHAKE256()}
	m.Write(sha3.SumSHAKE256(public, 64)) // tr
	m.Write([]byte{form, byte(len(context))})
	m.Write(context)
	return m, nil
}

// NewMLDSAMu starts one for a public key and a context. The refusal is TPM_RC_SIZE
// for a context of more than 255 bytes.
func NewMLDSAMu(public, context []byte) (*MLDSAMu, error) { return newMu(0, public, context) }

// Write adds a part of the message; it never fails.
func (m *MLDSAMu) Write(p []byte) (int, error) { return m.shake.Write(p) }

// Sum returns the representative of the message that ends with last. What was written
// stays as it is.
func (m *MLDSAMu) Sum(last []byte) []byte {
	end := *m.shake
	end.Write(last)
	mu := make([]byte, MLDSAMuSize)
	end.Read(mu)
	return mu
}

// MLDSAMuStateSize is the size in bytes of what State returns.
const MLDSAMuStateSize = 4 + 200 + 1 + 1 + 1

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

// HashMLDSAMu returns the message representative of a message of which the caller has
// the digest (FIPS 204, 5.4). Refusals: TPM_RC_HASH for a hash of which the standard
// has no identifier (see [HashMLDSA]), and TPM_RC_SIZE for the digest and the context.
func HashMLDSAMu(public, context []byte, a tpm2.Alg, digest []byte) ([]byte, error) {
	arc, ok := hashArc(a)
	if !ok {
		return nil, refuse(tpm2.RCHash, "HashML-DSA by hash %#x", uint16(a))
	}
	if len(digest) != a.DigestSize() {
		return nil, refuse(tpm2.RCSize, "digest has %d bytes, want %d", len(digest), a.DigestSize())
	}
	m, err := newMu(1, public, context)
	if err != nil {
		return nil, err
	}
	// 5.4.1, step 10: an object identifier below 2.16.840.1.101.3.4.2.
	m.Write([]byte{0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc})
	return m.Sum(digest), nil
}

// HashMLDSA reports whether there is HashML-DSA by a hash: not by SHA-1, which signs
// nothing new. Who makes a key chooses whether its hash is as strong as its parameter
// set, which 5.4 needs for the strength of the set.
func HashMLDSA(a tpm2.Alg) bool {
	_, ok := hashArc(a)
	return ok
}

// hashArc is the last arc of a hash's object identifier at NIST.
func hashArc(a tpm2.Alg) (arc byte, ok bool) {
	switch a {
	case tpm2.AlgSHA256:
		return 1, true
	case tpm2.AlgSHA384:
		return 2, true
	case tpm2.AlgSHA512:
		return 3, true
	case tpm2.AlgSHA3x256:
		return 8, true
	case tpm2.AlgSHA3x384:
		return 9, true
	case tpm2.AlgSHA3x512:
		return 10, true
	}
	return 0, false
}
