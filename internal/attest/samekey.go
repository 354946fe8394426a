package attest

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// KeyDigest tells keys apart whatever their attributes are: SHA-256 over the
// SubjectPublicKeyInfo (RFC 5280, 4.1) of the key in a TPMT_PUBLIC. What holds no
// key has a digest that no key has.
func KeyDigest(akPublic []byte) []byte {
	if public, err := tpm2.ParsePublic(akPublic); err == nil {
		if key, err := public.Key(); err == nil {
			if d, err := keyDigest(key); err == nil {
				return d
			}
		}
	}
	sum := sha256.Sum256(append([]byte("no key\x00"), akPublic...))
	return sum[:]
}

func keyDigest(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	sum := sha256.Sum256(der)
	return sum[:], err
}

// unenrolled appraises evidence whose key has no record under the Name that it
// tells. A certificate does not cover the Name: whoever changes a bit of the
// attributes has the same key under another one, and would be rid of his record,
// with its removal, baseline and counters. So a key that is trusted for its
// certificate must not have a record under another Name, now or when the decision
// is kept.
func unenrolled(ctx context.Context, e *tpm.Evidence, o tpm.Options, in Inputs) (Outcome, error) {
	appraisal := tpm.Appraise(e, o)
	out := outcomeOf(appraisal)
	if appraisal.Verified == nil {
		return out, nil // the records are read only for what a trusted CA certifies
	}
	key, err := e.AK()
	if err != nil {
		return Outcome{}, err
	}
	digest, err := keyDigest(key)
	if err != nil {
		return Outcome{}, fmt.Errorf("digest attestation key: %w", err)
	}
	others, err := in.SameKey(ctx, digest)
	switch {
	case err != nil:
		return Outcome{}, fmt.Errorf("look for other records of the attestation key: %w", err)
	case len(others) == 0:
		out.Unrecorded = digest
		return out, nil
	case slices.ContainsFunc(others, func(a Attester) bool { return a.Removed }):
		return outcomeOf(tpm.Refused(evidence.Refuse("ak.removed", "an administrator removed this attestation key").About("akPublic"))), nil
	default:
		return outcomeOf(tpm.Refused(evidence.Refuse("ak.untrusted",
			"the attestation key is enrolled with other attributes than the evidence tells, as %s", others[0].AKName).About("akPublic"))), nil
	}
}
