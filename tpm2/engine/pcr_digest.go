package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// pcrDigest returns the digest by a of the selected PCRs, and the selection
// without what is not allocated (Part 1, 17.5; PCRComputeCurrentDigest of the reference).
func (t *TPM) pcrDigest(a tpm2.Alg, selected tpm2.PCRSelections) ([]byte, tpm2.PCRSelections, error) {
	values := make([][]byte, 0, tpm2.NumPCR)
	out := make(tpm2.PCRSelections, 0, len(selected))
	for _, s := range selected {
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
		out = append(out, s)
	}
	digest, err := tpmcrypto.Hash(a, values...)
	return digest, out, err
}
