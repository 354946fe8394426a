package ima

import (
	"bytes"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// bootAggregate names the first entry of a list.
const bootAggregate = "boot_aggregate"

// aggregated are the registers that kernels have hashed into boot_aggregate: PCR 0
// to 7; since Linux 5.8 PCR 8 and 9 too, unless by SHA-1
// (ima_calc_boot_aggregate_tfm). Distributions took the change over into older
// kernels and some took it apart, so that neither the hash nor the release says
// which it is: either is accepted.
var aggregated = [...]int{8, 10}

// CheckBootAggregate compares the first entry, a digest over the boot registers at
// the time when IMA began, with what a quote says they hold. Quoted returns the
// quoted values of a bank, nil when the quote has none of it.
//
// The entry is over the bank of its own hash. Only when all registers that it can
// be over are quoted and no way of hashing them gives it, the error is
// ima.boot-aggregate-mismatch: somebody extended a boot register after IMA had
// begun. Otherwise it is ima.boot-aggregate-unchecked, or
// ima.boot-aggregate-absent when there is no such entry or it is zero; neither
// says anything against the machine.
func (c *Confirmed) CheckBootAggregate(quoted func(tpm2.Alg) map[int][]byte) error {
	for i, e := range c.entries() {
		if i != 0 {
			break
		}
		f, err := e.Fields()
		if err != nil || f.Name != bootAggregate || e.Violation() {
			break
		}
		return compareAggregate(f, quoted)
	}
	return evidence.Refuse(codeNoAggregate, "the list does not begin with boot_aggregate").About("IMA list")
}

func compareAggregate(f Fields, quoted func(tpm2.Alg) map[int][]byte) error {
	if allZero(f.Digest) {
		return evidence.Refuse(codeNoAggregate, "boot_aggregate is zero: IMA began without a TPM").About("IMA list")
	}
	h, ok := f.Alg.Hash()
	if !ok {
		return evidence.Refuse(codeUnchecked, "boot_aggregate is over a bank that is not known here").About("IMA list")
	}
	values := quoted(f.Alg)
	sum := h.New()
	next := 0
	for _, end := range aggregated {
		for ; next < end; next++ {
			v := values[next]
			if len(v) != f.Alg.DigestSize() {
				return evidence.Refuse(codeUnchecked, "PCR %d of bank %s is needed for boot_aggregate and was not quoted", next, f.Alg.BankName()).About("IMA list")
			}
			sum.Write(v)
		}
		if bytes.Equal(sum.Sum(nil), f.Digest) {
			return nil
		}
	}
	return evidence.Refuse(codeAggregate, "boot_aggregate is the digest neither of PCR 0 to 7 nor of PCR 0 to 9 of bank %s", f.Alg.BankName()).About("IMA list")
}
