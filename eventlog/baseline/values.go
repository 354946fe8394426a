package baseline

import (
	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/tpm2"
)

// Values is a boot of which only register values are known: there is no log, as
// when GRUB starts Linux without secure boot and without the kernel's EFI stub.
// Comparing it names registers and no components, and proves no early boot that
// differs in anything.
type Values struct {
	bank   tpm2.Alg
	values map[int][]byte
}

// FromValues makes a boot of the values that a verified quote signed.
func FromValues(bank tpm2.Alg, quoted map[int][]byte) *Values {
	return &Values{bank, quoted}
}

// Bank returns the algorithm of the values.
func (v *Values) Bank() tpm2.Alg { return v.bank }

// Confirms reports whether a register was quoted.
func (v *Values) Confirms(pcr int) bool { return len(v.values[pcr]) == v.bank.DigestSize() }

// Early is empty: without a log nobody knows what a register held before.
func (v *Values) Early() map[int][]byte { return nil }

// Late returns the quoted values.
func (v *Values) Late() map[int][]byte { return v.values }

// Components is empty.
func (v *Values) Components() []eventlog.Component { return nil }
