package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/policy"
)

// azure returns the published policies by file name, fragments wrapped.
func azure(tb testing.TB) map[string]string {
	tb.Helper()
	files, err := filepath.Glob("testdata/azure/*")
	if err != nil || len(files) != 58 {
		tb.Fatalf("Glob = %d files, %v; want 58", len(files), err)
	}
	out := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		src := string(text)
		if strings.HasSuffix(f, ".rules") {
			src = "version=1.2; authorizationrules{=>permit();}; issuancerules{\n" + src + "\n};"
		}
		out[filepath.Base(f)] = src
	}
	return out
}

func TestPublishedPoliciesParseAsTheirReadmeSays(t *testing.T) {
	type verdict struct {
		strict, lenient bool
		at              string // where and how the strict parser refuses
	}
	exceptions := map[string]verdict{
		"doc.author-sign-policy.01.policy":              {false, false, `4:12: "=" cannot stand here`},
		"doc.claim-rule-functions.01.policy":            {false, true, `13:38: "=" cannot stand here`},
		"doc.custom-tcb-baseline-enforcement.01.policy": {false, false, `5:42: the string does not end on its line`},
		"doc.policy-examples.01.policy":                 {false, false, `5:50: "<" cannot stand here`},
		"doc.policy-version-1-2.01.policy":              {false, false, `23:51: the string "PlatformAttested" cannot stand here`},
		"doc.tpm-attestation-sample-policies.10.policy": {false, true, `8:78: "issue" cannot stand here`},
	}
	for name, src := range azure(t) {
		t.Run(name, func(t *testing.T) {
			want, ok := exceptions[name]
			if !ok {
				want = verdict{strict: true, lenient: true}
			}
			_, err := policy.Parse(src, policy.Strict)
			if (err == nil) != want.strict || err != nil && !strings.HasPrefix(err.Error(), want.at) {
				t.Errorf("Parse(strict) = %v, want accepted %v, %q", err, want.strict, want.at)
			}
			p, err := policy.Parse(src, policy.Lenient)
			if (err == nil) != want.lenient {
				t.Errorf("Parse(lenient) = %v, want accepted %v", err, want.lenient)
			}
			if err == nil && !want.strict && len(p.Warnings()) == 0 {
				t.Error("the lenient parser accepts without a warning what the strict one refuses")
			}
		})
	}
}
