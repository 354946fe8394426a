package token

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// DefaultLeeway is how far the clocks of issuer and relying party may differ.
const DefaultLeeway = time.Minute

// VerifierConfig is what a relying party expects of a token. Its zero value is
// refused by [NewVerifier]: an issuer and an algorithm must be named.
type VerifierConfig struct {
	// Issuer must be the token's "iss", byte for byte.
	Issuer string
	// Algorithms are those accepted.
	Algorithms []Alg
	// Audience is how the issuer calls this relying party. Without one, a token
	// made for anybody in particular is refused.
	Audience string
	// Nonce is what this relying party chose for this one attestation. Without
	// one, a recorded token passes until it expires.
	Nonce string
	// MaxAge is how old a token may be since it was issued; 0 means until it expires.
	MaxAge time.Duration
	// Leeway is added to every comparison with the clock; 0 means DefaultLeeway,
	// a negative value none.
	Leeway time.Duration
}

// A Verifier checks the tokens of one issuer for a relying party. The zero value
// refuses every token. It is safe for concurrent use if its [KeySource] is.
type Verifier struct {
	cfg  VerifierConfig
	keys KeySource
}

// NewVerifier makes a Verifier that takes keys from keys alone.
func NewVerifier(cfg VerifierConfig, keys KeySource) (*Verifier, error) {
	if cfg.Issuer == "" {
		return nil, errors.New("verifier without an issuer")
	}
	if keys == nil || keys.Issuer() != cfg.Issuer {
		return nil, fmt.Errorf("verifier without keys of %q", cfg.Issuer)
	}
	if len(cfg.Algorithms) == 0 {
		return nil, errors.New("verifier without an algorithm")
	}
	for _, a := range cfg.Algorithms {
		if a != ES256 && a != RS256 {
			return nil, fmt.Errorf("algorithm %q is none of %q, %q", a, ES256, RS256)
		}
	}
	if cfg.MaxAge < 0 {
		return nil, errors.New("negative age")
	}
	cfg.Algorithms = slices.Clone(cfg.Algorithms)
	return &Verifier{cfg: cfg, keys: keys}, nil
}

// Verified is a token that passed every check of a [Verifier]: its issuer states
// what [Verified.Decode] reads. The zero value states nothing.
type Verified struct {
	issuer, id, kid string
	alg             Alg
	audience        []string
	issued, expires time.Time
	notBefore       time.Time
	notChecked      []string
	payload         []byte
	claims          object
}

// Verify checks a compact token as of now. What a check refuses is an
// [*evidence.Refusal]; any other error means that the token could not be judged,
// as when the keys cannot be had.
func (v *Verifier) Verify(ctx context.Context, raw string, now time.Time) (*Verified, error) {
	if v == nil || v.keys == nil || v.cfg.Issuer == "" {
		return nil, errors.New("verifier is not configured")
	}
	p, err := split(raw, v.cfg.Algorithms)
	if err != nil {
		return nil, err
	}
	key, err := v.keys.Key(ctx, p.kid, now)
	if errors.Is(err, ErrUnknownKey) {
		return nil, evidence.Refuse("token.key-unknown", "key %q is none of issuer %q", p.kid, v.cfg.Issuer)
	}
	if err != nil {
		return nil, fmt.Errorf("find key %q: %w", p.kid, err)
	}
	// RFC 8725, 3.1 and 2.1: the key decides the algorithm, never the header.
	if key.Alg != p.alg {
		return nil, evidence.Refuse("token.alg-key-mismatch", "header says %q, key %q is for %q", p.alg, p.kid, key.Alg)
	}
	if err := key.verify(p); err != nil {
		return nil, evidence.Refuse("token.signature-invalid", "signature is not by key %q", p.kid)
	}
	return v.readClaims(p, now)
}

func (v *Verifier) readClaims(p *parts, now time.Time) (*Verified, error) {
	claims, err := parseObject(p.payload)
	if err != nil {
		return nil, malformed("payload", err)
	}
	t := &Verified{kid: p.kid, alg: p.alg, payload: p.payload, claims: claims}
	for _, check := range []func(*Verified) error{
		v.checkIssuer, v.checkAudience, v.checkNonce, t.readTimes,
	} {
		if err := check(t); err != nil {
			return nil, err
		}
	}
	if t.id, _, err = claims.Text("jti"); err != nil {
		return nil, evidence.Refuse("token.claim-malformed", "%v", err)
	}
	if err := v.checkTimes(t, now); err != nil {
		return nil, err
	}
	return t, nil
}

// leeway is how far the two clocks may differ.
func (v *Verifier) leeway() time.Duration {
	switch l := v.cfg.Leeway; {
	case l < 0:
		return 0
	case l == 0:
		return DefaultLeeway
	default:
		return l
	}
}

// checkIssuer compares "iss" (RFC 8725, 3.8). A key may serve two tenants of one
// operator, each with its own policy, so the key alone says little.
func (v *Verifier) checkIssuer(t *Verified) error {
	iss, ok, err := t.claims.Text("iss")
	switch {
	case err != nil:
		return evidence.Refuse("token.claim-malformed", "%v", err)
	case !ok:
		return evidence.Refuse("token.claim-missing", "token has no \"iss\"")
	case iss != v.cfg.Issuer:
		return evidence.Refuse("token.issuer-mismatch", "token is of issuer %q, want %q", iss, v.cfg.Issuer)
	}
	t.issuer = iss
	return nil
}

// checkAudience compares "aud" (RFC 7519, 4.1.3): a principal that finds no name
// of its own in it must refuse the token.
func (v *Verifier) checkAudience(t *Verified) error {
	aud, ok, err := t.texts("aud")
	if err != nil {
		return err
	}
	t.audience = aud
	switch want := v.cfg.Audience; {
	case want == "" && ok:
		return evidence.Refuse("token.audience-mismatch", "token is for %q, and no audience is expected", aud)
	case want != "" && !slices.Contains(aud, want):
		return evidence.Refuse("token.audience-mismatch", "token is for %q, want %q", aud, want)
	case want == "":
		t.notChecked = append(t.notChecked, "audience: none is expected, so the token serves every relying party")
	}
	return nil
}

// checkNonce compares "nonce", and "eat_nonce" (RFC 9711, 4.1) where the profile
// has that; a token that has both must hold the nonce in both.
func (v *Verifier) checkNonce(t *Verified) error {
	if v.cfg.Nonce == "" {
		t.notChecked = append(t.notChecked, "freshness: no nonce is expected, so the token may be a recorded one")
		return nil
	}
	found := false
	for _, name := range []string{"nonce", "eat_nonce"} {
		have, ok, err := t.texts(name)
		if err != nil {
			return err
		}
		if ok && !slices.Contains(have, v.cfg.Nonce) {
			return evidence.Refuse("token.nonce-mismatch", "%q is %q, want %q", name, have, v.cfg.Nonce)
		}
		found = found || ok
	}
	if !found {
		return evidence.Refuse("token.nonce-mismatch", "token has no nonce, want %q", v.cfg.Nonce)
	}
	return nil
}

// maxTexts bounds the audiences or nonces of one token.
const maxTexts = 64

// texts returns a claim that is one string or an array of them.
func (t *Verified) texts(name string) (list []string, ok bool, err error) {
	raw, ok := t.claims.Get(name)
	if !ok {
		return nil, false, nil
	}
	items := []strictjson.Value{raw}
	if raw[0] == '[' {
		if items, err = raw.Elements(maxTexts); err != nil {
			return nil, false, evidence.Refuse("token.claim-malformed", "%q: %v", name, err)
		}
	}
	for _, item := range items {
		s, err := item.Text()
		if err != nil {
			return nil, false, evidence.Refuse("token.claim-malformed", "%q: %v", name, err)
		}
		list = append(list, s)
	}
	return list, true, nil
}

// maxTime is the last second of the year 9999, the last that RFC 3339 can write.
const maxTime = 253402300799

// readTimes reads the claims of RFC 7519, 4.1.4 to 4.1.6. Fractions, which a
// NumericDate may have, no issuer of attestation results writes: they are refused.
func (t *Verified) readTimes(*Verified) error {
	for _, c := range []struct {
		name     string
		to       *time.Time
		required bool
	}{
		{"iat", &t.issued, true},
		{"exp", &t.expires, true},
		{"nbf", &t.notBefore, false},
	} {
		raw, ok := t.claims.Get(c.name)
		if !ok && c.required {
			return evidence.Refuse("token.claim-missing", "token has no %q", c.name)
		}
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || n < 0 || n > maxTime {
			return evidence.Refuse("token.claim-malformed", "%q is %.40s, want a time in seconds", c.name, raw)
		}
		*c.to = time.Unix(n, 0).UTC()
	}
	if !t.expires.After(t.issued) || t.notBefore.After(t.expires) {
		return evidence.Refuse("token.times-inconsistent", "token expires %s, is issued %s, begins %s",
			stamp(t.expires), stamp(t.issued), stamp(t.notBefore))
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "at once"
	}
	return t.Format(time.RFC3339)
}

func (v *Verifier) checkTimes(t *Verified, now time.Time) error {
	leeway := v.leeway()
	switch age := now.Sub(t.issued); {
	// RFC 7519, 4.1.4: not accepted on or after the expiration time.
	case !now.Before(t.expires.Add(leeway)):
		return evidence.Refuse("token.expired", "token expired %s, it is %s", stamp(t.expires), stamp(now.UTC()))
	case t.notBefore.After(now.Add(leeway)):
		return evidence.Refuse("token.not-yet-valid", "token begins %s, it is %s", stamp(t.notBefore), stamp(now.UTC()))
	case t.issued.After(now.Add(leeway)):
		return evidence.Refuse("token.issued-in-future", "token was issued %s, it is %s", stamp(t.issued), stamp(now.UTC()))
	case v.cfg.MaxAge > 0 && age > saturate(v.cfg.MaxAge, leeway):
		return evidence.Refuse("token.too-old", "token was issued %s ago, more than %s", age.Truncate(time.Second), v.cfg.MaxAge)
	}
	return nil
}

// saturate adds two durations of which neither is negative.
func saturate(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
