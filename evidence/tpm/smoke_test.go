package tpm_test

import (
	"testing"

	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
)

func TestSmoke(t *testing.T) {
	for _, s := range evidencetest.Scenarios(t) {
		p := evidencetest.Recorded(t, s, "rsa")
		key, err := tpm.ParseKey(p.AKPublic)
		if err != nil {
			t.Fatal(err)
		}
		a := tpm.AppraiseBundle(p.JSON(t), tpm.Options{Expect: tpm.Expect{Nonce: p.Nonce, Keys: []*tpm.Key{key}}})
		t.Log(s, a.Verdict, a.Reasons, a.NotChecked, len(a.Claims))
	}
	for _, d := range evidencetest.Derived(t) {
		key, err := tpm.ParseKey(d.Bundle.AKPublic)
		if err != nil {
			t.Fatal(err)
		}
		a := tpm.AppraiseBundle(d.Bundle.JSON(t), tpm.Options{Expect: tpm.Expect{Nonce: d.Bundle.Nonce, Keys: []*tpm.Key{key}}})
		t.Log(d.Name, a.Verdict, a.Reasons, "WANT", d.Expected)
	}
}
