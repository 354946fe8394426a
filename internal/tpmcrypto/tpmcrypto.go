// Package tpmcrypto is the cryptography of the TPM engine: functions over keys
// as a TPM holds them.
//
// It knows no objects, handles, hierarchies or authorisations, and it judges no
// request: a caller that may not use a key must not get this far. Refusals are,
// or wrap, the [tpm2.RC] that Part 3 names. All randomness comes from an
// [io.Reader] that the caller gives, in the engine its [DRBG], and nothing else
// decides a result, so that a recorded stream of commands replays byte for byte.
// In FIPS 140-3 mode that is otherwise: where the validated module can do an
// operation it does, with its own randomness.
//
// Secrets are computed with filippo.io/bigmod and filippo.io/nistec in constant
// time, never with math/big. Candidates for primes meet package fermat before, also in
// FIPS 140-3 mode: it only discards, in constant time, and what it passes is judged as if
// there were none. The places that are not so: FIPS 140-3 mode, where
// crypto/rsa holds its keys as big.Int; the greatest common divisor of a public
// exponent and a prime less one, which tells the time of a few divisions of
// 32-bit numbers; the inverse of an ECDSA nonce, which math/big takes, in variable
// time, of the nonce times a random number. The number of candidates that a search
// for primes tries is seen in its time; it tells nothing of the prime found. The
// group of BN P-256, which no library here has, is computed in bn.go; profiles for
// test suites offer it.
//
// Read [RSAKey], [ECCKey] and [EncryptSym] first; [Seeded] has the promise that
// primary keys never change. TPM 2.0 Library, Part 1: Architecture, 11.4, annex B
// and C, and Part 3: Commands, version 1.83.
package tpmcrypto

import (
	"crypto"
	"fmt"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// refuse makes an error that says why and is code for errors.As and errors.Is.
func refuse(code tpm2.RC, format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), code)
}

// hashOf returns Go's hash for a, or TPM_RC_HASH.
func hashOf(a tpm2.Alg) (crypto.Hash, error) {
	h, ok := a.Hash()
	if !ok {
		return 0, refuse(tpm2.RCHash, "hash %s is not implemented", a.BankName())
	}
	return h, nil
}

// Hash returns the digest of the parts, one after the other. Errors are TPM_RC_HASH.
func Hash(a tpm2.Alg, parts ...[]byte) ([]byte, error) {
	h, err := hashOf(a)
	if err != nil {
		return nil, err
	}
	digest, ok := a.Sum(make([]byte, 0, h.Size()), parts...)
	if !ok {
		return nil, refuse(tpm2.RCHash, "hash %s is not implemented", a.BankName())
	}
	return digest, nil
}

// read fills a new slice of n bytes from r.
func read(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return b, nil
}
