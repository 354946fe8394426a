package vm_test

import (
	"bytes"
	"os"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/test/vm"
	"github.com/assay-project/assay/uefi/launch"
	"github.com/assay-project/assay/uefi/varstore"
)

// predict says of the machine, which is off, what its boot will be, by its disk and its
// variables.
func (b *bench) predict() *launch.Prediction {
	b.Helper()
	home, err := b.host.Root.Open(b.Context(), name)
	b.must(err)
	text, err := home.Variables()
	b.must(err)
	b.must(home.Close())
	store, err := varstore.Parse(text)
	b.must(err)
	m, err := launch.MachineOf(store)
	b.must(err)
	f, err := os.Open(b.host.Disk(name))
	b.must(err)
	defer f.Close()
	info, err := f.Stat()
	b.must(err)
	d, err := disk.Open(f, info.Size(), disk.Raw)
	b.must(err)
	boot, err := launch.ReadDisk(d)
	b.must(err)
	p, err := launch.Predict(b.Context(), m, boot)
	b.must(err)
	return p
}

// checkPrediction holds what was said of a boot before against the boot.
func (b *bench) checkPrediction(c *vm.Case, p *launch.Prediction) {
	b.Helper()
	if c.Refused() {
		if !slices.ContainsFunc(p.Reasons, func(r evidence.Reason) bool { return r.Code == c.Refusal }) || p.Verdict != launch.Refused {
			b.Errorf("%s: predicted is %v for %v, want %s", c.Name, p.Verdict, p.Reasons, c.Refusal)
		}
		return
	}
	if p.Verdict != launch.Starts {
		b.Errorf("%s: predicted is %v for %v", c.Name, p.Verdict, p.Reasons)
	}
	h, err := b.host.Root.History(b.Context(), name)
	b.must(err)
	r, err := h.Boot(b.boots)
	b.must(err)
	late, known := r.Boot.Late(), []int{}
	for pcr := range launch.Registers {
		want, ok := p.PCR(integrity.Bank, pcr)
		if !ok {
			continue
		}
		known = append(known, pcr)
		got := late[pcr]
		if got == nil {
			got = make([]byte, 32)
		}
		if !bytes.Equal(got, want) {
			b.Errorf("%s: PCR %d is %x, and %x was predicted", c.Name, pcr, got, want)
		}
	}
	for _, pcr := range b.chain.Predicted {
		if !slices.Contains(known, pcr) {
			b.Errorf("%s: PCR %d is not predicted: %v", c.Name, pcr, p.Unknown(pcr))
		}
	}
}
