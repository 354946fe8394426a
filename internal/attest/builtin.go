package attest

import (
	"fmt"
	"slices"

	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/token"
)

// builtinName is the policy of the library that stands for [DefaultPolicy] until
// an operator sets another.
const builtinName = "tpm-default"

// builtinPolicy is the revision that stands before all others.
func builtinPolicy() (*policy.Policy, PolicyVersion, error) {
	library, err := policy.Library()
	if err != nil {
		return nil, PolicyVersion{}, fmt.Errorf("policy library: %w", err)
	}
	i := slices.IndexFunc(library, func(p policy.LibraryPolicy) bool { return p.Name == builtinName })
	if i < 0 {
		return nil, PolicyVersion{}, fmt.Errorf("policy library has no %q", builtinName)
	}
	text := library[i].Text
	compiled, err := policy.Parse(text, policy.Strict)
	if err != nil {
		return nil, PolicyVersion{}, fmt.Errorf("policy %q of the library: %w", builtinName, err)
	}
	return compiled, PolicyVersion{
		Name: DefaultPolicy, Text: text, Digest: token.PolicyDigest(text), Author: "assay", Comment: "built in: " + builtinName + " of the library",
	}, nil
}
