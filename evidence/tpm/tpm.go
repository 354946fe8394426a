// Package tpm verifies TPM 2.0 evidence: quotes, the attestation key that signed
// them, and the logs that lead to the quoted registers.
//
// [Parse] checks shape only: an [Evidence] is a claim by the attester. [Verify]
// makes the one type that claims may be read from, [Verified], and nothing else
// can make it. [Appraise] adds what the operator asks of a boot: the strict
// default, a baseline, a policy.
//
// It does not prove which machine a TPM sits in, nor that the attester is the
// peer of a connection: only that the holder of the attestation key was in the
// quoted state when it answered the nonce. An endorsement key certificate alone
// proves nothing about an attestation key; see [VerifyEKCertificate].
//
// TPM 2.0 Library, Part 1, chapters 18, 24 and 36; TCG EK Credential Profile 2.5.
package tpm

import (
	"crypto"

	"github.com/assay-project/assay/tpm2"
)

// Evidence is TPM evidence of the right shape. Nothing in it is proven. It
// aliases the bundle that it was parsed from and is not changed after Parse.
type Evidence struct {
	ak      *tpm2.Public
	akName  []byte
	akCert  []byte
	quotes  []quote
	banks   []bank
	ek      *tpm2.Public
	ekCert  []byte
	caCerts [][]byte
	log     []byte
	ima     []byte
}

// A quote is a TPMS_ATTEST as signed, and its signature.
type quote struct {
	raw    []byte
	attest *tpm2.Attest
	sig    *tpm2.Signature
}

// A bank is the PCR values of one bank as the attester tells them; nil where it
// tells none.
type bank struct {
	alg    tpm2.Alg
	values [tpm2.NumPCR][]byte
}

// AKName returns the Name of the key that the evidence says to be signed by
// (Part 1, 16). To look up what is known of that key; it proves nothing.
func (e *Evidence) AKName() []byte { return e.akName }

// AK returns the public key that the evidence says to be signed by, without its
// attributes: only a Name covers those, and a certificate does not. To look up what
// is known of that key; it proves nothing.
func (e *Evidence) AK() (crypto.PublicKey, error) { return e.ak.Key() }

// value returns the value that the attester tells for a PCR, nil for none.
func (e *Evidence) value(alg tpm2.Alg, pcr int) []byte {
	for i := range e.banks {
		if e.banks[i].alg == alg {
			return e.banks[i].values[pcr]
		}
	}
	return nil
}
