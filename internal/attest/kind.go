package attest

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/policy"
)

// A Kind appraises one type of evidence. Adding a kind is adding one of these
// where the program is wired.
type Kind interface {
	// Type is the bundle's type member: "tpm".
	Type() string
	// Appraise verifies a bundle and evaluates the policy over its claims. The
	// outcome's verdict is Trusted only when all that was asked for was checked.
	// An error is ours, never the evidence's.
	Appraise(ctx context.Context, bundle []byte, in Inputs) (Outcome, error)
}

// Inputs are all that an appraisal may depend on besides the evidence.
type Inputs struct {
	Now    time.Time
	Nonce  []byte // that the evidence must answer; never empty
	Policy *policy.Policy
	// AKRoots and EKRoots are the CAs that the operator named.
	AKRoots, EKRoots *x509.CertPool
	// Baseline finds a reference value by its name.
	Baseline func(name string) (b *baseline.Baseline, ok bool)
	// Attester finds an enrolled key by the hex of its TPM Name: [ErrNotFound] for none.
	Attester func(ctx context.Context, akName string) (Attester, error)
	// SameKey finds the records of a key by its [KeyDigest], under whatever Name,
	// removed ones included.
	SameKey func(ctx context.Context, digest []byte) ([]Attester, error)
}

// An Outcome is an appraisal before it is kept.
type Outcome struct {
	evidence.Result
	Issued []policy.Claim // that the policy issued, in order
	// Attester is the enrolled key that signed, with Last as this evidence leaves
	// it; nil when the evidence is not proven to be of an enrolled key.
	Attester *Attester
	// Unrecorded is the [KeyDigest] of a key that was trusted for having no record.
	Unrecorded []byte
	// before are the counters that the key's record had.
	before *Counters
}
