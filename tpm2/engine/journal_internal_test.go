package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
)

// BenchmarkJournal is what the journal adds to a TPM2_PCR_Extend of one bank: a
// record alone, and the median of what the command takes longer with a journal than
// with one that refuses all records. Each begins anew after 200 records, as many as
// most boots make: a journal that is full costs nothing.
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
	extends := func(dropped uint64) time.Duration {
		t.journal.restart()
		t.journal.dropped = dropped
		begun := time.Now()
		for range records {
			if rc := t.Execute(0, request)[9]; rc != 0 {
				b.Fatalf("TPM2_PCR_Extend = %#x", rc)
			}
		}
		return time.Since(begun)
	}
	b.Run("share", func(b *testing.B) {
		var shares []float64
		for b.Loop() {
			// In turns, as what the machine does beside changes; and each first as often.
			without, with := extends(1), extends(0)
			later, earlier := extends(0), extends(1)
			shares = append(shares, 100*(float64(with+later)/float64(without+earlier)-1))
		}
		slices.Sort(shares)
		b.ReportMetric(shares[len(shares)/2], "%of-extend")
	})
}
