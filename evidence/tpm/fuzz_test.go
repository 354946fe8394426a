package tpm_test

import (
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
)

// FuzzAppraise holds that no text makes the verifier panic, and that none is
// trusted when no key is.
func FuzzAppraise(f *testing.F) {
	for _, s := range []string{"good-uki", "bad-secureboot-off"} {
		f.Add(evidencetest.Recorded(f, s, "ecc").JSON(f))
		f.Add(evidencetest.Recorded(f, s, "rsa", "sha1", "sha384").JSON(f))
	}
	f.Add([]byte(`{"type":"tpm"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := tpm.AppraiseBundle(text, tpm.Options{})
		if a.Verdict == evidence.Trusted || len(a.Reasons) == 0 || a.Claims == nil || a.NotChecked == nil || len(a.Claims) != 0 {
			t.Fatalf("appraisal without a trusted key: %+v", a.Result)
		}
	})
}
