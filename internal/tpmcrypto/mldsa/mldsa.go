// Package mldsa signs message representatives by ML-DSA, verifies such signatures, and
// makes the representatives of messages and, for HashML-DSA, of digests.
//
// Keys and signatures are made by filippo.io/mldsa: no secret passes arithmetic of
// this package. That one verifies whole messages only, and a TPM has but the message
// representative, μ, of a message that came in parts, that was hashed before, or
// that somebody else has hashed. [Set.Verify] is the verification from μ on, over
// public values, in time that depends on them. It does not prove what μ is of: the
// caller has it from [Mu] or [HashMu], with the hash of the public key in it, or
// answers for it.
//
// Read [Set.Verify] first. FIPS 204, chapters 5 to 7.
package mldsa

import (
	"errors"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
)

// Sizes in bytes that are those of all parameter sets.
const (
	MuSize   = 64 // a message representative (6.2, step 6)
	SeedSize = 32 // ξ, of which a key is made (6.1)
)

// Why a signature is refused. The first is also what anything else of a wrong size gets,
// and a parameter set that is none.
var (
	ErrSize     = errors.New("an ML-DSA set, seed, key, context, digest, message representative or signature of another size")
	ErrHint     = errors.New("the hint of an ML-DSA signature is malformed")
	ErrNorm     = errors.New("the response of an ML-DSA signature is too large")
	ErrMismatch = errors.New("an ML-DSA signature is not one of this message by this key")
)

// What else is refused.
var (
	ErrHash  = errors.New("there is no HashML-DSA by this hash")
	ErrState = errors.New("the state of an ML-DSA message representative is none, or of one that has ended")
)

// A Set is a parameter set by the number that its name has (table 1).
type Set int

// The parameter sets.
const (
	MLDSA44 Set = 44
	MLDSA65 Set = 65
	MLDSA87 Set = 87
)

// A Key is a private key: its seed, and the public key. It is immutable and safe for
// concurrent use.
type Key struct {
	set          Set
	seed, public []byte
}

// NewKey makes a key from its seed. The refusal is [ErrSize].
func NewKey(s Set, seed []byte) (*Key, error) {
	k, err := expand(s, seed)
	if err != nil {
		return nil, err
	}
	return &Key{set: s, seed: k.Bytes(), public: k.PublicKey().Bytes()}, nil
}

// expand makes of a seed what signs: 90 KB, which nobody keeps, as a TPM may have many
// keys, and making it costs less than a signature does.
func expand(s Set, seed []byte) (*mldsa.PrivateKey, error) {
	var params mldsa.Parameters
	switch s {
	case MLDSA44:
		params = mldsa.MLDSA44()
	case MLDSA65:
		params = mldsa.MLDSA65()
	case MLDSA87:
		params = mldsa.MLDSA87()
	default:
		return nil, ErrSize
	}
	k, err := mldsa.NewPrivateKey(params, seed)
	if err != nil {
		return nil, ErrSize
	}
	return k, nil
}

// Public returns the public key. Callers must not change it.
func (k *Key) Public() []byte { return k.public }

// Seed returns the seed. It is secret. Callers must not change it.
func (k *Key) Seed() []byte { return k.seed }

// SignMu signs a message representative. Its signatures are the deterministic ones
// (3.4): the implementation takes no randomness of a caller. The refusal is [ErrSize].
func (k *Key) SignMu(mu []byte) ([]byte, error) {
	if len(mu) != MuSize {
		return nil, ErrSize
	}
	private, err := expand(k.set, k.seed)
	if err != nil {
		return nil, err
	}
	return private.SignDeterministic(mu, mldsacrypto.MLDSAMu)
}
