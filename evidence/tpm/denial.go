package tpm

import (
	"fmt"
	"strings"

	"github.com/assay-project/assay/policy"
)

// maxDenialRules bounds how many permit rules a denial goes into.
const maxDenialRules = 3

// denial says why no permit rule applies: what each one lacks, and what the
// evidence says instead.
func denial(p *policy.Policy, claims []policy.Claim) string {
	words := []string{"no permit rule of the policy applies"}
	for _, t := range p.Explain(claims).Rules {
		if t.Fired > 0 || t.Unmet == "" || !strings.Contains(t.Rule, "permit") {
			continue
		}
		if len(words) > maxDenialRules {
			words = append(words, "and more")
			break
		}
		words = append(words, fmt.Sprintf("the one at line %d needs %s, and %s", t.Line, t.Unmet, instead(t)))
	}
	return strings.Join(words, "; ")
}

// instead lists the claims that the unmet condition looked at.
func instead(t policy.RuleTrace) string {
	var found []string
	for _, c := range t.Read {
		if strings.Contains(t.Unmet, `"`+c.Type+`"`) {
			found = append(found, fmt.Sprintf("the evidence says %s is %s", c.Type, c.Value))
		}
	}
	if found == nil {
		return "nothing like it was proven"
	}
	return strings.Join(found, ", ")
}
