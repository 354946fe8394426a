package machine

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// BenchmarkStart is what this program adds to a start: all of Run but the hypervisor.
func BenchmarkStart(b *testing.B) {
	h := newHost(b)
	h.create()
	b.ReportAllocs()
	for b.Loop() {
		home, err := h.root.Open(b.Context(), "web-1")
		if err != nil {
			b.Fatal(err)
		}
		s := newSupervisor(h.root, home)
		if err := s.prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := s.serve(b.Context(), "bench"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.release(); err != nil {
			b.Fatal(err)
		}
		if err := home.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkVerdict is from the measurement that ends a boot to its report in the log, the
// other measurements of the boot included.
func BenchmarkVerdict(b *testing.B) {
	h := newHost(b)
	h.create()
	home, err := h.root.Open(b.Context(), "web-1")
	if err != nil {
		b.Fatal(err)
	}
	defer home.Close()
	s := newSupervisor(h.root, home)
	if err := s.prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer s.close() //nolint:errcheck // a benchmark
	measured := vtpm.Measured{Records: records(b, boot(b, "good-uki"))}
	b.ReportAllocs()
	for b.Loop() {
		s.journal.put(measured)
		s.measured()
	}
	if s.boot.Late == nil || !*s.boot.Late {
		b.Error("the boot did not pass")
	}
}

// records are the journal of a TPM that took the script of a boot.
func records(tb testing.TB, script string) []engine.JournalRecord {
	tb.Helper()
	out := []engine.JournalRecord{{Kind: engine.JournalInit}, {Kind: engine.JournalStartup}}
	for line := range strings.Lines(script) {
		var pcr uint8
		var digest string
		if _, err := fmt.Sscan(line, &pcr, &digest); err != nil {
			tb.Fatal(err)
		}
		d, err := hex.DecodeString(digest)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, engine.JournalRecord{Kind: engine.JournalExtend, PCR: pcr, Digests: []tpm2.HA{{HashAlg: tpm2.AlgSHA256, Digest: d}}})
	}
	return out
}
