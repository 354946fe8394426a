package engine

import (
	"fmt"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// BenchmarkJournal is what the journal adds to a TPM2_PCR_Extend of one bank: a
// record alone, and the command with a journal and without one. A journal that is
// full costs nothing, so each begins anew after 200 records, as many as most boots make.
func BenchmarkJournal(b *testing.B) {
	const records = 200
	t := keptTPM(b)
	b.Run(fmt.Sprint(records, " records"), func(b *testing.B) {
		digest := make([]byte, 32)
		for b.Loop() {
			t.journal.restart()
			for range records {
				t.journal.begin(JournalExtend, 0, 16, 0, t.vol.time)
				t.journal.digest(tpm2.AlgSHA256, digest)
			}
		}
	})
	request := append([]byte{
		0x80, 2, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 16,
		0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b,
	}, make([]byte, 32)...)
	for i, name := range []string{"extend without", "extend with"} {
		b.Run(name, func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				if n%records == 0 {
					t.journal.restart()
					t.journal.dropped = uint64(1 - i) // refuses all records
				}
				if rc := t.Execute(0, request)[9]; rc != 0 {
					b.Fatalf("TPM2_PCR_Extend = %#x", rc)
				}
			}
		})
	}
}
