package engine

import (
	"github.com/assay-project/assay/tpm2"
)

// pcrDigest appends the digest by a of the selected PCRs to dst, and takes what is not
// allocated out of the selection (Part 1, 17.5; PCRComputeCurrentDigest of the reference).
func (t *TPM) pcrDigest(dst []byte, a tpm2.Alg, selected tpm2.PCRSelections) ([]byte, error) {
	values := make([][]byte, 0, tpm2.NumPCR)
	for i := range selected {
		s := &selected[i]
		b := t.bank(s.Hash)
		for i := range s.Select {
			if b == nil {
				s.Select[i] = 0
			} else {
				s.Select[i] &= b.selected[i]
			}
		}
		for pcr := range s.Select.All() {
			values = append(values, b.value(pcr))
		}
	}
	digest, ok := a.Sum(dst, values...)
	if !ok {
		return nil, tpm2.RCHash
	}
	return digest, nil
}
