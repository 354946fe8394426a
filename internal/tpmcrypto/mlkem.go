package tpmcrypto

import (
	"crypto/fips140"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// mlkemSeedSize is d and z of FIPS 203, 7.1: what a TPM keeps as the sensitive area.
const mlkemSeedSize = 64

// An MLKEMKey is a private key of ML-KEM-768 or ML-KEM-1024 (FIPS 203). It is
// immutable and safe for concurrent use.
type MLKEMKey struct {
	seed        []byte
	public      []byte
	decapsulate func(ciphertext []byte) ([]byte, error)
}

// GenerateMLKEM makes a key whose seed is 64 bytes from r. The refusal is
// TPM_RC_PARMS for ML-KEM-512, which Go's cryptography does not have.
func GenerateMLKEM(r io.Reader, set tpm2.MLKEMSet) (*MLKEMKey, error) {
	seed, err := read(r, mlkemSeedSize)
	if err != nil {
		return nil, err
	}
	return LoadMLKEM(set, seed)
}

// LoadMLKEM expands a key from its seed. Refusals: TPM_RC_PARMS as for
// [GenerateMLKEM], TPM_RC_KEY_SIZE for a seed of other than 64 bytes.
func LoadMLKEM(set tpm2.MLKEMSet, seed []byte) (*MLKEMKey, error) {
	if set != tpm2.MLKEM768 && set != tpm2.MLKEM1024 {
		return nil, refuse(tpm2.RCParms, "ML-KEM parameter set %d", set)
	}
	if len(seed) != mlkemSeedSize {
		return nil, refuse(tpm2.RCKeySize, "ML-KEM seed has %d bytes, want %d", len(seed), mlkemSeedSize)
	}
	if set == tpm2.MLKEM768 {
		dk := known(mlkem.NewDecapsulationKey768(seed))
		return &MLKEMKey{dk.Bytes(), dk.EncapsulationKey().Bytes(), dk.Decapsulate}, nil
	}
	dk := known(mlkem.NewDecapsulationKey1024(seed))
	return &MLKEMKey{dk.Bytes(), dk.EncapsulationKey().Bytes(), dk.Decapsulate}, nil
}

// Public returns the encapsulation key. Callers must not change it.
func (k *MLKEMKey) Public() []byte { return k.public }

// Seed returns the seed. It is secret. Callers must not change it.
func (k *MLKEMKey) Seed() []byte { return k.seed }

// Decapsulate returns the shared secret of a ciphertext. One that was not made for
// this key gives a secret that nobody shares (FIPS 203, 6.3), not an error; the
// refusal is TPM_RC_SIZE.
func (k *MLKEMKey) Decapsulate(ciphertext []byte) ([]byte, error) {
	secret, err := k.decapsulate(ciphertext)
	if err != nil {
		return nil, refuse(tpm2.RCSize, "ML-KEM ciphertext has %d bytes", len(ciphertext))
	}
	return secret, nil
}

// CheckMLKEM checks a public key (FIPS 203, 7.2). Refusals are those of
// [EncapsulateMLKEM].
func CheckMLKEM(set tpm2.MLKEMSet, public []byte) error {
	var err error
	switch set {
	case tpm2.MLKEM768:
		_, err = mlkem.NewEncapsulationKey768(public)
	case tpm2.MLKEM1024:
		_, err = mlkem.NewEncapsulationKey1024(public)
	default:
		return refuse(tpm2.RCParms, "ML-KEM parameter set %d", set)
	}
	if err != nil {
		return refuse(tpm2.RCKey, "decode ML-KEM public key: %v", err)
	}
	return nil
}

// EncapsulateMLKEM makes a shared secret of 32 bytes, and the ciphertext that
// brings it to the holder of the private key. Refusals: TPM_RC_PARMS as for
// [GenerateMLKEM], TPM_RC_KEY for a public key that is none.
//
// The randomness is 32 bytes from r, so that recorded commands replay; of Go's
// packages crypto/mlkem/mlkemtest alone takes it. It computes what crypto/mlkem
// does, which has its own randomness and serves in FIPS 140-3 mode.
func EncapsulateMLKEM(r io.Reader, set tpm2.MLKEMSet, public []byte) (ciphertext, secret []byte, err error) {
	switch set {
	case tpm2.MLKEM768:
		ek, err := mlkem.NewEncapsulationKey768(public)
		return encapsulate(r, ek, err, mlkemtest.Encapsulate768)
	case tpm2.MLKEM1024:
		ek, err := mlkem.NewEncapsulationKey1024(public)
		return encapsulate(r, ek, err, mlkemtest.Encapsulate1024)
	}
	return nil, nil, refuse(tpm2.RCParms, "ML-KEM parameter set %d", set)
}

func encapsulate[K interface {
	Encapsulate() (secret, ciphertext []byte)
}](
	r io.Reader, ek K, keyErr error, with func(K, []byte) (secret, ciphertext []byte, err error),
) (ciphertext, secret []byte, err error) {
	if keyErr != nil {
		return nil, nil, refuse(tpm2.RCKey, "decode ML-KEM public key: %v", keyErr)
	}
	if fips140.Enabled() {
		secret, ciphertext = ek.Encapsulate()
		return ciphertext, secret, nil
	}
	m, err := read(r, 32)
	if err != nil {
		return nil, nil, err
	}
	secret, ciphertext, err = with(ek, m)
	return ciphertext, secret, err
}
