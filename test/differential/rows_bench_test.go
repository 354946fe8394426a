package differential_test

import (
	"crypto/rand"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/assay-project/assay/test/differential"
)

// BenchmarkRow is each row of the speed table at a TPM in this process: what the
// commands cost without a socket, and what they allocate.
func BenchmarkRow(b *testing.B) {
	for _, row := range slices.Concat(differential.Rows(), differential.KeptRows()) {
		b.Run(row.Name, func(b *testing.B) {
			begin := time.Now()
			ours, err := differential.Ours("default", rand.Reader, func() time.Duration { return time.Since(begin) })
			if err != nil {
				b.Fatal(err)
			}
			s, err := differential.NewServed(ours, os.Getpid(), rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			row.N = max(b.N, 3)
			b.ReportAllocs()
			b.ResetTimer()
			got, err := differential.Measure(row, []*differential.Served{s}, 1, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(got[0].Wall[0].Nanoseconds()), "ns/command")
		})
	}
}
