package tpm

import (
	"fmt"

	"github.com/assay-project/assay/eventlog/baseline"
)

// BaselineOf makes a baseline of evidence that the operator names as that of a
// good boot. The evidence must be whole, its log must lead to what was quoted, and
// its quote must be signed by the key that came with it; that the key and the boot
// were good is the operator's word.
func BaselineOf(e *Evidence, shape baseline.Shape) (*baseline.Baseline, error) {
	key, err := NewKey(e.ak, ProofRegistered)
	if err != nil {
		return nil, fmt.Errorf("verify the evidence of the baseline: %w", err)
	}
	v, err := Verify(e, Expect{Keys: []*Key{key}})
	if err != nil {
		return nil, fmt.Errorf("verify the evidence of the baseline: %w", err)
	}
	return baseline.From(v.boot, shape), nil
}
