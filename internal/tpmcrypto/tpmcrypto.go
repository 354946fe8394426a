// Package tpmcrypto is the cryptography of the TPM engine: functions over keys
// as a TPM holds them.
//
// It knows no objects, handles, hierarchies or authorisations, and it judges no
// request: a caller that may not use a key must not get this far. Refusals are,
// or wrap, the [tpm2.RC] that Part 3 names. All randomness comes from an
// [io.Reader] that the caller gives, in the engine its [DRBG], and nothing else
// decides a result, so that a recorded stream of commands replays byte for byte.
//
// In FIPS 140-3 mode ([Validated]) that is otherwise, as the validated module does with
// its own randomness: new RSA keys from 2048 bits with the usual exponent, new ECC keys,
// ECDSA signatures, and ML-KEM's secrets. It does without randomness of its own: hashes,
// HMAC, AES by blocks and in CBC and CTR, ECDSA verification, the shared secrets of ECDH
// ([ECCKey.Shared]), ML-KEM; and with RSA keys from 2048 bits, exponents below 2^31,
// RSASSA and RSAPSS both ways and OAEP both ways.
// In that mode, too, this package does itself: keys that come from a seed, as the module
// makes none of a seed; points as TPM2_ECDH_KeyGen, ZGen and ZGen_2Phase return them, as
// the module gives the x-coordinate alone; the derivation of a public point from its
// scalar; RSAES, RSA without padding, RSA keys the module does not take; [DRBG], with
// AES of the module and seeded by the caller; AES in CFB, OFB and ECB, CMAC, and the
// loops of MGF1 and the key derivations around the module's AES, hashes and HMAC; EC
// Schnorr, ECDAA, MQV, XOR, BN P-256. ML-DSA is filippo.io/mldsa's and package mldsa's.
//
// Secrets are computed with filippo.io/bigmod and filippo.io/nistec in constant
// time, never with math/big. Candidates for primes meet package fermat before, also in
// FIPS 140-3 mode: it only discards, in constant time, and what it passes is judged as if
// there were none. The places that are not so: FIPS 140-3 mode, where
// crypto/rsa holds its keys as big.Int; the greatest common divisor of a public
// exponent and a prime less one, which tells the time of a few divisions of
// 32-bit numbers; the inverse of an ECDSA nonce, which math/big takes, in variable
// time, of the nonce times a random number. The number of candidates that a search
// for primes tries is seen in its time; it tells nothing of the prime found. That is
// otherwise for the search of libtpms ([LibtpmsStream.GenerateRSA], which profile libtpms
// has for its primary keys): it sieves a field of numbers behind a secret one, and takes
// them in an order that the secret decides, so that memory accesses, divisions and their
// number depend on it, anew at each TPM2_CreatePrimary of one seed. The
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
