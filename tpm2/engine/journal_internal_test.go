package engine

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// BenchmarkJournal is what the journal adds to a TPM2_PCR_Extend of one bank.
func BenchmarkJournal(b *testing.B) {
	t := keptTPM(b)
	digest := make([]byte, 32)
	for n := 0; b.Loop(); n++ {
		if n%1000 == 0 {
			t.journal.restart()
		}
		t.record(JournalRecord{Kind: JournalExtend, PCR: 16})
		t.journal.digest(tpm2.AlgSHA256, digest)
	}
}
