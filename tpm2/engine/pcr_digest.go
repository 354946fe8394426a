package engine

import "github.com/assay-project/assay/tpm2"

// pcrDigest returns the digest by a of the selected PCRs, and the selection
// without what is not allocated (Part 1, 17.5; PCRComputeCurrentDigest of the reference).
func (t *TPM) pcrDigest(a tpm2.Alg, selected tpm2.PCRSelections) ([]byte, tpm2.PCRSelections, error) {
	ha, ok := a.Hash()
	if !ok {
		return nil, nil, tpm2.RCHash
	}
	h := ha.New()
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
			h.Write(b.value(pcr))
		}
		out = append(out, s)
	}
	return h.Sum(nil), out, nil
}
