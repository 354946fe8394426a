package tpm

import (
	"strings"
	"testing"

	"github.com/assay-project/assay/policy"
)

func TestADenialNamesWhatIsLackingAndWhatIsThereInstead(t *testing.T) {
	p, err := policy.Parse(`version=1.2; authorizationrules {
		[type=="secureBoot", value==true] => permit();
		[type=="kernelDebug", value==false] => permit();
	};`, policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	got := denial(p, []policy.Claim{{Type: "secureBoot", Value: policy.BoolValue(false), Issuer: policy.FromService}})
	for _, want := range []string{"line 2 needs", "secureBoot is false", "line 3 needs", "nothing like it was proven"} {
		if !strings.Contains(got, want) {
			t.Errorf("denial = %q, which does not say %q", got, want)
		}
	}
}

func TestADenialStaysShort(t *testing.T) {
	text := "version=1.2; authorizationrules {\n" + strings.Repeat(`[type=="a", value==true] => permit();`+"\n", 50) + "};"
	p, err := policy.Parse(text, policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	if got := denial(p, nil); strings.Count(got, "needs") != maxDenialRules || !strings.HasSuffix(got, "and more") {
		t.Errorf("denial = %q, want %d rules and no more", got, maxDenialRules)
	}
}
