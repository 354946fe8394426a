package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/assay-project/assay/evidence"
)

// Issuer is the "iss" that was expected.
func (t *Verified) Issuer() string { return t.issuer }

// Audience is whom the token is for; empty when for nobody in particular.
func (t *Verified) Audience() []string { return slices.Clone(t.audience) }

// ID is the "jti", "" when there is none.
func (t *Verified) ID() string { return t.id }

// KeyID names the key that signed, among those of the issuer.
func (t *Verified) KeyID() string { return t.kid }

// Algorithm is how it signed.
func (t *Verified) Algorithm() Alg { return t.alg }

// IssuedAt is the issuer's time of signing.
func (t *Verified) IssuedAt() time.Time { return t.issued }

// NotBefore is when the token begins; zero when it does not say.
func (t *Verified) NotBefore() time.Time { return t.notBefore }

// Expires is from when on the token is refused, but for the leeway.
func (t *Verified) Expires() time.Time { return t.expires }

// NotChecked lists what the verifier was not asked to compare.
func (t *Verified) NotChecked() []string { return slices.Clone(t.notChecked) }

// Names returns the names of all claims, sorted.
func (t *Verified) Names() []string {
	out := make([]string, 0, len(t.claims))
	for _, m := range t.claims {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}

// Claim returns the JSON of one claim, as signed; ok is false when there is none.
func (t *Verified) Claim(name string) (raw json.RawMessage, ok bool) {
	v, ok := t.claims.Get(name)
	return json.RawMessage(bytes.Clone(v)), ok
}

// Decode reads all claims into v, a pointer, by the rules of encoding/json except
// that names match exactly. Members that v has no field for are passed over.
func (t *Verified) Decode(v any) error {
	if t.payload == nil {
		return errors.New("token was not verified")
	}
	return josejson.Unmarshal(t.payload, v)
}

// Profile says which shape the claims have, by what they say themselves.
func (t *Verified) Profile() Profile {
	profile, _, err := t.claims.Text("profile")
	if err == nil && profile == assayProfile {
		return ProfileAssay
	}
	if profile, _, err := t.claims.Text("eat_profile"); err == nil && profile == earProfile {
		return ProfileEAR
	}
	if _, ok := t.claims.Get("x-ms-attestation-type"); ok {
		return ProfileAzure
	}
	return ProfileUnknown
}

// Verdict is what the issuer decided. It is [evidence.Refused] unless the token
// says otherwise in a profile known here: each appraisal of an EAR token must be
// "affirming", and an Azure token exists only for what its policy permitted.
func (t *Verified) Verdict() (evidence.Verdict, error) {
	switch t.Profile() {
	case ProfileAssay:
		word, _, err := t.claims.Text("verdict")
		if err != nil {
			return evidence.Refused, err
		}
		var v evidence.Verdict
		if err := v.UnmarshalText([]byte(word)); err != nil {
			return evidence.Refused, err
		}
		return v, nil
	case ProfileEAR:
		return t.earVerdict()
	case ProfileAzure:
		return evidence.Trusted, nil
	default:
		return evidence.Refused, errors.New("profile of the token is unknown")
	}
}

func (t *Verified) earVerdict() (evidence.Verdict, error) {
	var claims struct {
		Submods map[string]struct {
			Status any `json:"ear_status"`
		} `json:"submods"`
	}
	if err := t.Decode(&claims); err != nil {
		return evidence.Refused, err
	}
	if len(claims.Submods) == 0 {
		return evidence.Refused, errors.New("token has no appraisal (submods)")
	}
	for _, name := range slices.Sorted(maps.Keys(claims.Submods)) {
		if s := claims.Submods[name].Status; s != any(tierAffirming.word()) {
			return evidence.Refused, fmt.Errorf("appraisal %q is %v, not %s", name, s, tierAffirming.word())
		}
	}
	return evidence.Trusted, nil
}
