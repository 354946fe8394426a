package tpm_test

import (
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
)

// BenchmarkVerify is the hot path: evidence that was parsed, a key that is known.
func BenchmarkVerify(b *testing.B) {
	for _, key := range []string{"rsa", "ecc"} {
		b.Run(key, func(b *testing.B) {
			p := evidencetest.Recorded(b, "good-shim-grub", key)
			p.EKCert, p.EKPublic, p.IMALog = nil, nil, nil
			e, o := parse(b, p), registered(b, p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tpm.Verify(e, o.Expect); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppraiseBundle is all of it, from the text of a bundle with an
// endorsement key certificate and an IMA list.
func BenchmarkAppraiseBundle(b *testing.B) {
	p := evidencetest.Recorded(b, "good-shim-grub", "rsa")
	text, o := p.JSON(b), registered(b, p)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if a := tpm.AppraiseBundle(text, o); a.Verdict != evidence.Trusted {
			b.Fatal(a.Reasons)
		}
	}
}
