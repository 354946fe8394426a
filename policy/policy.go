// Package policy is the rule language of Azure Attestation, versions 1.0 to 1.2:
// rules over claims decide whether an attester is permitted and what its token
// says.
//
// It proves nothing about the claims: a claim says what its verifier made of the
// evidence, and a claim that could not be proven must be left out by the caller.
// A policy is compiled once by [Parse], does no input or output, and costs a
// bounded number of steps for any text and any claims. Everything fails closed:
// the zero [Policy] and the zero [Result] deny, and so does an error.
//
// The language is described in docs/policy.md, with the points in which the
// public documentation of Azure Attestation leaves a choice. Start with [Parse]
// and [Policy.Evaluate].
package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
)

// A Policy is a compiled text. It never changes and may be used concurrently.
// The zero Policy denies.
type Policy struct {
	src      string
	mode     Mode
	minor    int
	rules    []rule
	bounds   [4]int           // where each section's rules begin, and the end
	keys     map[string]int32 // claim types that conditions name
	lastRead []int32          // for each key, the last rule with a condition on it
	open     bool             // some condition names no type, and may read any claim
	warnings []Warning
}

// Source is the text that p was made of.
func (p *Policy) Source() string { return p.src }

// Version is the version of the language that the text asks for, such as "1.2".
func (p *Policy) Version() string { return fmt.Sprintf("1.%d", p.minor) }

// Warnings lists what [Lenient] let pass. The caller must not change it.
func (p *Policy) Warnings() []Warning { return p.warnings }

// Reads reports whether any condition can look at claims of this type, so that a
// caller need not build what nobody reads.
func (p *Policy) Reads(claimType string) bool {
	_, named := p.keys[claimType]
	return named || p.open
}

// section returns the rules of s.
func (p *Policy) section(s section) []rule { return p.rules[p.bounds[s]:p.bounds[s+1]] }

// Hash is the x-ms-policy-hash of a policy's text: base64url of the SHA-256
// digest of the text's own unpadded base64url form.
func Hash(text string) string {
	digest := sha256.Sum256([]byte(base64.RawURLEncoding.EncodeToString([]byte(text))))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// Equal reports whether p and q have the same version and the same rules in the
// same order, whatever their layout and comments.
func (p *Policy) Equal(q *Policy) bool {
	return p.minor == q.minor && p.bounds == q.bounds && slices.EqualFunc(p.rules, q.rules, func(a, b rule) bool {
		return a.section == b.section && a.text() == b.text() && a.act.verb == b.act.verb
	})
}
