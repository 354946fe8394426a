package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
)

// A Profile is a shape of claims (docs/tokens.md).
type Profile uint8

// The profiles. The zero Profile is none, and nothing is issued in it.
const (
	ProfileUnknown Profile = iota
	ProfileAssay           // this project's own
	ProfileAzure           // Azure Attestation's x-ms claims, signed with RS256
	ProfileEAR             // EAT Attestation Result, draft-ietf-rats-ear-04
)

var profiles = [...]string{ProfileUnknown: "unknown", ProfileAssay: "assay", ProfileAzure: "azure", ProfileEAR: "ear"}

func (p Profile) String() string {
	if int(p) < len(profiles) {
		return profiles[p]
	}
	return profiles[ProfileUnknown]
}

// MarshalText writes the profile's word.
func (p Profile) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the word of a profile that can be issued.
func (p *Profile) UnmarshalText(b []byte) error {
	if i := slices.Index(profiles[:], string(b)); i > 0 {
		*p = Profile(i)
		return nil
	}
	return fmt.Errorf("profile %q is none of %s", b, strings.Join(profiles[1:], ", "))
}

// alg is how tokens of a profile are signed: Azure's clients know RS256 alone.
func (p Profile) alg() Alg {
	if p == ProfileAzure {
		return RS256
	}
	return ES256
}

// A Result is what an appraisal found, ready to be signed. Only a Trusted one is
// issued, whatever the profile: a relying party that checks nothing but the
// signature must not be misled.
type Result struct {
	Verdict evidence.Verdict
	// Type is the kind of evidence, "tpm".
	Type   string
	Claims evidence.Claims
	// Writing is that of Claims, when the caller keeps one; else nil.
	Writing *evidence.Writing
	// Issued are the claims that the policy's issuance rules added, in their
	// order; several of one name become an array.
	Issued []Issued
	Policy Policy
	// NotChecked lists what the verdict says nothing about.
	NotChecked []string
	Attester   string // Name of the attestation key, hex
	Machine    string // what the operator calls the attester
	Appraisal  string // id under which the service keeps the appraisal
	// Baseline is the name of the reference value that the boot matched, "" for none.
	Baseline string
	// Nonce is the one that the attester's client asked to see in the token. It
	// is copied, and proves nothing about the evidence.
	Nonce string
	// Audience is for whom the token is made, "" for nobody in particular.
	Audience string

	// Runtime and InitTime are the attester's data, JSON objects bound by its
	// evidence; nil when there are none. Only the Azure profile has them.
	Runtime, InitTime json.RawMessage
}

// values returns the values of the claims, written to buf unless they are kept.
func (r *Result) values(buf []byte) []byte {
	if r.Writing != nil {
		return append(buf, r.Writing.Values()...)
	}
	return r.Claims.AppendValues(buf)
}

// Issued is one claim that a policy issued. Value is a string, a bool or an int64.
type Issued struct {
	Type  string
	Value any
}

// A Policy is what the appraisal was made under.
type Policy struct {
	Name    string
	Version int
	// Digest is [PolicyDigest] of the text, and AzureHash [AzurePolicyHash]; the
	// Azure profile needs the second, the others the first.
	Digest, AzureHash string
	// Signer is the JWK, with x5c, of who signed the policy; nil when nobody did.
	Signer json.RawMessage
}

// PolicyDigest is the SHA-256 digest of a policy's text, in hex.
func PolicyDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// AzurePolicyHash is Azure Attestation's x-ms-policy-hash: the digest is not of
// the text but of its base64url.
func AzurePolicyHash(text string) string {
	sum := sha256.Sum256([]byte(base64.RawURLEncoding.EncodeToString([]byte(text))))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// registered adds the claims of RFC 7519 that all profiles share.
func (c *claimSet) registered(iss string, s stamps, aud string) {
	c.text("iss", iss)
	c.number("iat", s.issued.Unix())
	c.number("nbf", s.notBefore.Unix())
	c.number("exp", s.expires.Unix())
	c.text("jti", s.id)
	c.optional("aud", aud)
}

// stamps are what makes one token differ from the next.
type stamps struct {
	id                         string
	issued, notBefore, expires time.Time
}

// issuedClaims gathers claims of one name, in their order: one value stands by
// itself, several become an array.
func issuedClaims(list []Issued) (*claimSet, error) {
	out := &claimSet{members: make([]member, 0, len(list))}
	several := map[string]bool{}
	at := make(map[string]int, len(list))
	for _, c := range list {
		if c.Type == "" {
			return nil, errors.New("issued claim without a type")
		}
		i, seen := at[c.Type]
		if !seen {
			i = len(out.members)
			at[c.Type] = i
			out.members = append(out.members, member{name: c.Type})
		}
		raw := out.members[i].raw
		if seen && !several[c.Type] {
			several[c.Type] = true
			raw = append([]byte{'['}, raw...)
		}
		if seen {
			raw = append(raw, ',')
		}
		var err error
		if out.members[i].raw, err = appendIssued(raw, c); err != nil {
			return nil, err
		}
	}
	for name := range several {
		out.members[at[name]].raw = append(out.members[at[name]].raw, ']')
	}
	return out, nil
}

// appendIssued appends one value of the policy language.
func appendIssued(raw []byte, c Issued) ([]byte, error) {
	switch v := c.Value.(type) {
	case string:
		return evidence.AppendText(raw, v), nil
	case bool:
		return strconv.AppendBool(raw, v), nil
	case int64:
		return strconv.AppendInt(raw, v, 10), nil
	default:
		return nil, fmt.Errorf("issued claim %q is a %T", c.Type, c.Value)
	}
}

// assayProfile is the value of "profile" in our own tokens.
const assayProfile = "assay/1"

// assayClaims shapes a result for [ProfileAssay]; values are those of its claims.
func assayClaims(c *claimSet, values []byte, r *Result) error {
	if r.Policy.Digest == "" {
		return errors.New("result without the digest of its policy")
	}
	c.text("profile", assayProfile)
	c.text("verdict", r.Verdict.String())
	c.text("evidenceType", r.Type)
	c.optional("nonce", r.Nonce)
	c.optional("attester", r.Attester)
	c.optional("machine", r.Machine)
	c.optional("appraisal", r.Appraisal)
	c.optional("baseline", r.Baseline)
	c.raw("claims", values)
	if len(r.NotChecked) > 0 {
		c.texts("notChecked", r.NotChecked)
	}
	if len(r.Issued) > 0 {
		issued, err := issuedClaims(r.Issued)
		if err != nil {
			return err
		}
		c.object("issued", issued)
	}
	policy := &claimSet{}
	policy.text("name", r.Policy.Name)
	policy.number("version", int64(r.Policy.Version))
	policy.text("sha256", r.Policy.Digest)
	c.object("policy", policy)
	return nil
}

// reserved are names that a policy may not issue at the top level of a token,
// because a reader takes them for the service's own word.
func reserved(name string) bool {
	switch name {
	case "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "eat_nonce", "cnf",
		"profile", "eat_profile", "verdict", "submods",
		"x-ms-ver", "x-ms-attestation-type", "x-ms-policy-hash", "x-ms-policy-signer",
		"x-ms-runtime", "x-ms-inittime":
		return true
	default:
		return false
	}
}

// azureClaims shapes a result for [ProfileAzure]: fixed claims and what the
// policy issued, side by side.
func azureClaims(c *claimSet, r *Result) error {
	if r.Policy.AzureHash == "" {
		return errors.New("result without the hash of its policy")
	}
	c.text("x-ms-ver", "1.0")
	c.text("x-ms-attestation-type", r.Type)
	c.text("x-ms-policy-hash", r.Policy.AzureHash)
	c.optional("nonce", r.Nonce)
	if r.Policy.Signer != nil {
		c.any("x-ms-policy-signer", map[string]any{"jwk": r.Policy.Signer})
	}
	if r.Runtime != nil {
		c.any("x-ms-runtime", r.Runtime)
	}
	if r.InitTime != nil {
		c.any("x-ms-inittime", r.InitTime)
	}
	issued, err := issuedClaims(r.Issued)
	if err != nil {
		return err
	}
	for _, m := range issued.members {
		if reserved(m.name) {
			return fmt.Errorf("policy %q issues claim %q, which is the service's own", r.Policy.Name, m.name)
		}
		c.raw(m.name, m.raw)
	}
	return nil
}
