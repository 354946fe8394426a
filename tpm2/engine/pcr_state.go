package engine

import (
	"github.com/assay-project/assay/tpm2"
)

const (
	pcrAuthGroups   = 1
	pcrPolicyGroups = 1
)

// pcrAttributes says how a PCR may be used, by locality bits (PTP, table 7).
type pcrAttributes struct {
	saved       bool // by TPM2_Shutdown(STATE)
	reset       uint8
	extend      uint8
	noIncrement bool // a change leaves the PCR update counter alone
	group       bool // in the one authorization and policy group
}

// pcrTable has the attributes of the PCRs of a PC Client TPM (PTP, table 7).
var pcrTable = [tpm2.NumPCR]pcrAttributes{
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{saved: true, extend: 0x1f},
	{reset: 0x0f, extend: 0x1f, noIncrement: true},
	{reset: 0x10, extend: 0x1c},
	{reset: 0x10, extend: 0x1c},
	{reset: 0x10, extend: 0x0c},
	{reset: 0x14, extend: 0x0e, group: true},
	{reset: 0x14, extend: 0x04, noIncrement: true, group: true},
	{reset: 0x14, extend: 0x04, noIncrement: true, group: true},
	{reset: 0x0f, extend: 0x1f, noIncrement: true},
}

// dynamic reports whether the PCR belongs to the dynamic root of trust: all ones
// until _TPM_Hash_Start resets it (PTP, 6.4).
func (a pcrAttributes) dynamic() bool { return a.reset&0x10 != 0 }

// pcrBank has the values of one bank; a PCR that is not allocated has none.
type pcrBank struct {
	alg      tpm2.Alg
	selected tpm2.PCRSelect
	values   [tpm2.NumPCR][tpm2.MaxDigest]byte
}

type pcrBanks []pcrBank

// value returns the digest in a PCR, nil when it is not allocated. It aliases the bank.
func (b *pcrBank) value(pcr int) []byte {
	if !b.selected.Has(pcr) {
		return nil
	}
	return b.values[pcr][:b.alg.DigestSize()]
}

// bank returns the bank of an algorithm, nil when no PCR is allocated in it.
func (t *TPM) bank(a tpm2.Alg) *pcrBank {
	for i := range t.vol.pcrs {
		if t.vol.pcrs[i].alg == a {
			return &t.vol.pcrs[i]
		}
	}
	return nil
}

// pcrAuth returns the authValue of a PCR: that of its group, else empty.
func (t *TPM) pcrAuth(pcr int) []byte {
	if pcrTable[pcr].group {
		return t.clear.pcrAuth[0]
	}
	return nil
}

// pcrPolicyOf returns the policy of a PCR's group; AlgNull when it has none.
func (t *TPM) pcrPolicyOf(pcr int) authPolicy {
	if pcrTable[pcr].group {
		return t.permanent.pcrPolicy[0]
	}
	return authPolicy{alg: tpm2.AlgNull}
}

// newPCRs lays out the allocated banks, each PCR at its value after a startup
// at the given locality (PTP, 6.4): zero, all ones for the dynamic ones, and in
// PCR 0 the locality.
func (t *TPM) newPCRs(locality uint8) pcrBanks {
	banks := make(pcrBanks, 0, len(t.vol.banks))
	for _, s := range t.vol.banks {
		if s.Select == (tpm2.PCRSelect{}) {
			continue
		}
		b := pcrBank{alg: s.Hash, selected: s.Select}
		for i := range b.values {
			b.initialize(i, locality)
		}
		banks = append(banks, b)
	}
	return banks
}

func (b *pcrBank) initialize(pcr int, locality uint8) {
	size := b.alg.DigestSize()
	b.values[pcr] = [tpm2.MaxDigest]byte{}
	switch {
	case pcrTable[pcr].dynamic():
		for i := range size {
			b.values[pcr][i] = 0xff
		}
	case pcr == 0:
		b.values[0][size-1] = locality
	}
}

// extend extends one PCR of one bank: H(old || digest) (Part 1, 17.5).
func (b *pcrBank) extend(pcr int, digest []byte) {
	b.alg.Sum(b.values[pcr][:0], b.value(pcr), digest) // a profile allocates no bank without a hash
}

// pcrChanged counts a change of a PCR, unless it is one that does not count.
func (t *TPM) pcrChanged(pcr int) {
	if !pcrTable[pcr].noIncrement {
		t.reset.pcrCounter++
	}
}

// pcrMark tells the present values of the PCRs from later ones. The reference uses
// the update counter itself, which is 0 until the first change: there a policy that
// read PCRs before it is not told of that change. Here no mark is 0.
func (t *TPM) pcrMark() uint32 { return t.reset.pcrCounter%(1<<32-1) + 1 }
