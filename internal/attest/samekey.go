package attest

import (
	"context"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// unenrolled appraises evidence whose key has no record under the Name that it
// tells. A certificate does not cover the Name: whoever changes a bit of the
// attributes has the same key under another one, and would be rid of his record,
// with its removal, baseline and counters. So a key that is trusted for its
// certificate must not have a record under another Name.
func unenrolled(ctx context.Context, e *tpm.Evidence, o tpm.Options, in Inputs) (Outcome, error) {
	appraisal := tpm.Appraise(e, o)
	if appraisal.Verified == nil {
		return outcomeOf(appraisal), nil // the records are read only for what a trusted CA certifies
	}
	other, err := recordOf(ctx, e, in)
	switch {
	case err != nil:
		return Outcome{}, err
	case other == nil:
		return outcomeOf(appraisal), nil
	case other.Removed:
		return outcomeOf(tpm.Refused(evidence.Refuse("ak.removed", "an administrator removed this attestation key").About("akPublic"))), nil
	default:
		return outcomeOf(tpm.Refused(evidence.Refuse("ak.untrusted",
			"the attestation key is enrolled with other attributes than the evidence tells, as %s", other.AKName).About("akPublic"))), nil
	}
}

// recordPage is how many records are read at a time.
const recordPage = 1000

// recordOf finds the record of the evidence's key under whatever Name, nil for none.
func recordOf(ctx context.Context, e *tpm.Evidence, in Inputs) (*Attester, error) {
	for after := ""; ; {
		page, err := in.Attesters(ctx, after, recordPage)
		if err != nil {
			return nil, fmt.Errorf("look for other records of the attestation key: %w", err)
		}
		for i := range page {
			after = page[i].AKName
			if public, err := tpm2.ParsePublic(page[i].AKPublic); err == nil && e.SameKey(public) {
				return &page[i], nil
			}
		}
		if len(page) == 0 {
			return nil, nil //nolint:nilnil // documented: there is none
		}
	}
}
