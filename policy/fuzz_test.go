package policy_test

import (
	"testing"

	"github.com/assay-project/assay/policy"
)

func FuzzParse(f *testing.F) {
	for _, src := range azure(f) {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		for _, mode := range []policy.Mode{policy.Strict, policy.Lenient} {
			p, err := policy.Parse(src, mode)
			if err != nil {
				continue
			}
			p.Lint(nil)
			out, err := policy.Format(src, mode)
			if err != nil {
				t.Fatalf("Format(%q) = %v", src, err)
			}
			q, err := policy.Parse(out, mode)
			if err != nil || !p.Equal(q) {
				t.Fatalf("Format(%q) = %q, another policy: %v", src, out, err)
			}
			if again, err := policy.Format(out, mode); err != nil || again != out {
				t.Fatalf("Format(%q) = %q, %v", out, again, err)
			}
		}
	})
}

func FuzzEvaluate(f *testing.F) {
	for _, src := range azure(f) {
		f.Add(src, `{"Events":[{"EventSeq":1,"PcrIndex":12,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_TESTSIGNING":false}}}]}`, "text", int64(1), true)
	}
	f.Fuzz(func(t *testing.T, src, events, text string, n int64, b bool) {
		p, err := policy.Parse(src, policy.Lenient)
		if err != nil {
			return
		}
		claims := append(facts("events", events, "x", text, "n", int(n), "secureBootEnabled", b, "pcrs", events), policy.Claim{Type: text, Value: policy.BoolValue(b), Issuer: policy.FromAttester})
		r, err := p.Evaluate(claims)
		x := p.Explain(claims)
		if (err == nil) != (x.Err == nil) || r.Permitted() != x.Result.Permitted() {
			t.Fatalf("Evaluate = %v, %v; Explain = %v, %v", r.Permitted(), err, x.Result.Permitted(), x.Err)
		}
		if err == nil && p.Vacuous() && !r.Permitted() {
			t.Fatalf("a policy called vacuous denies: %q", src)
		}
		for _, c := range r.Issued() {
			if c.ReadOnly || policy.Reserved(c.Type) || c.Issuer != policy.FromPolicy {
				t.Fatalf("issued %+v", c)
			}
		}
	})
}
