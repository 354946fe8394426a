package tpm_test

import (
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
)

// Linux 6.1 boots before SHA-384 is there and pads SHA-1 digests into that bank.
func TestAPaddedIMAListIsSaidToBeNoStrongerThanSHA1(t *testing.T) {
	for bank, weak := range map[string]bool{"sha256": false, "sha384": true} {
		t.Run(bank, func(t *testing.T) {
			p := evidencetest.Recorded(t, "good-uki", "ecc", bank)
			key, err := tpm.ParseKey(p.AKPublic)
			if err != nil {
				t.Fatal(err)
			}
			a := tpm.AppraiseBundle(p.JSON(t), tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{key}}})
			if said := strings.Contains(strings.Join(a.NotChecked, "\n"), "beyond the strength of SHA-1"); said != weak || a.Verified == nil {
				t.Errorf("bank %s: verdict %v, notChecked %q, want it said: %v", bank, a.Verdict, a.NotChecked, weak)
			}
		})
	}
}
