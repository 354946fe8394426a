package storetest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/assay-project/assay/internal/attest"
)

// Bench measures decisions per second of 64 concurrent callers, each decision
// durable before it counts.
func Bench(b *testing.B, open func(testing.TB) Store) {
	fixed := Bundle(0, 0)
	distinct := make([][]byte, 512)
	for what, bundle := range map[string]func(n int) []byte{
		"same evidence":        func(int) []byte { return fixed },
		"new quote, known log": func(n int) []byte { return renumber(fixed, n) },
		"all new":              func(n int) []byte { return scramble(distinct[n%len(distinct)], n) },
		"no evidence":          func(int) []byte { return nil },
	} {
		b.Run(what, func(b *testing.B) {
			for i := range distinct {
				distinct[i] = Bundle(i+100, i)
			}
			s := open(b)
			b.Cleanup(func() { s.Close() })
			decisions := make([]attest.Decision, b.N)
			for i := range decisions {
				decisions[i] = Decision(i, nil)
			}
			b.SetBytes(int64(len(bundle(0))))
			b.ResetTimer()
			run(b, s, decisions, bundle)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

func run(b *testing.B, s Store, decisions []attest.Decision, bundle func(int) []byte) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := int(next.Add(1) - 1); n < len(decisions); n = int(next.Add(1) - 1) {
				d := decisions[n]
				if d.Bundle = bundle(n); d.Bundle != nil {
					d.Appraisal.Evidence = Digest(d.Bundle)
				}
				if err := s.Decide(b.Context(), d); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// renumber makes a bundle unlike the others outside its long strings.
func renumber(bundle []byte, n int) []byte {
	return []byte(strings.Replace(string(bundle), `"tpm"`, fmt.Sprintf(`"tpm","time":"%020d"`, n), 1))
}

// scramble makes a bundle unlike the others inside its log too.
func scramble(bundle []byte, n int) []byte {
	head, log, _ := strings.Cut(string(bundle), `"eventLog":"`)
	return fmt.Appendf(nil, `%s"eventLog":"%020d%s`, head, n, log)
}
