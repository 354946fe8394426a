package token

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/assay-project/assay/evidence"
)

// DefaultLifetime of a token, Azure Attestation's.
const DefaultLifetime = 8 * time.Hour

// ErrNotTrusted is returned for a result that must not become a token.
var ErrNotTrusted = errors.New("only a trusted result becomes a token")

// IssuerConfig is how tokens are issued.
type IssuerConfig struct {
	// URL is the "iss": https, or http on loopback, without a slash at its end.
	URL string
	// Rand gives the token ids; it must be safe for concurrent use.
	Rand io.Reader
	// Lifetime is from issue to expiry; 0 means DefaultLifetime.
	Lifetime time.Duration
	// Backdate is how far "nbf" lies before the issue, for relying parties whose
	// clock is behind and who allow no leeway; 0 means DefaultLeeway.
	Backdate time.Duration
	// Build is what an EAR says about the software that appraised.
	Build string
}

// An Issuer signs results and checks what it signed. It is immutable and safe for
// concurrent use; a change of keys makes a new one.
type Issuer struct {
	cfg     IssuerConfig
	keys    *KeySet
	headers map[headerID]string // encoded, with the dot after it
	buffers *sync.Pool          // of *buffers
}

// buffers are what a token is made in.
type buffers struct{ claims, payload, raw []byte }

// headerID names a header: all tokens of one key and profile have the same.
type headerID struct {
	kid     string
	profile Profile
}

// A Token is what was issued.
type Token struct {
	Raw     string // compact serialization
	ID      string // "jti"
	KeyID   string
	Alg     Alg
	Issued  time.Time
	Expires time.Time
}

// NewIssuer makes an Issuer that signs with keys. A profile for whose algorithm
// keys has no key cannot be issued.
func NewIssuer(cfg IssuerConfig, keys *KeySet) (*Issuer, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", cfg.URL, err)
	}
	if cfg.Rand == nil || keys == nil {
		return nil, errors.New("issuer without a random source or keys")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.Backdate == 0 {
		cfg.Backdate = DefaultLeeway
	}
	if cfg.Lifetime < time.Second || cfg.Backdate < 0 {
		return nil, errors.New("lifetime or back-dating is negative or too short")
	}
	if keys.retention < cfg.Lifetime {
		return nil, fmt.Errorf("keys stay published for %s, shorter than the %s that tokens live", keys.retention, cfg.Lifetime)
	}
	i := &Issuer{cfg: cfg, keys: keys, headers: map[headerID]string{}, buffers: &sync.Pool{New: func() any { return new(buffers) }}}
	for _, k := range keys.keys {
		for _, p := range []Profile{ProfileAssay, ProfileAzure, ProfileEAR} {
			if p.alg() != k.Alg() {
				continue
			}
			header, err := newHeader(k, p, cfg.URL)
			if err != nil {
				return nil, fmt.Errorf("key %q: %w", k.ID(), err)
			}
			i.headers[headerID{k.ID(), p}] = header
		}
	}
	return i, nil
}

// checkURL accepts what a relying party can discover keys from: no query, no
// fragment, no user (OpenID Connect Discovery 1.0, 3), and no slash at the end.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("not a URL")
	}
	switch {
	case len(s) > maxName:
		return fmt.Errorf("longer than %d bytes", maxName)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return errors.New("want https, or http on a loopback address")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("want a host, and no user, query or fragment")
	case s[len(s)-1] == '/':
		return errors.New("ends with a slash")
	}
	return nil
}

// newHeader lets go-jose sign once, for the header that it makes.
func newHeader(k *Key, p Profile, issuer string) (string, error) {
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if p == ProfileAzure {
		opts = opts.WithHeader("jku", issuer+"/certs")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Alg()), Key: &opaque{key: k}}, opts)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign([]byte("{}"))
	if err != nil {
		return "", err
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		return "", err
	}
	header, _, _ := strings.Cut(raw, ".")
	return header + ".", nil
}

// Keys are those that the issuer signs with.
func (i *Issuer) Keys() *KeySet { return i.keys }

// URL is the "iss" of every token.
func (i *Issuer) URL() string { return i.cfg.URL }

// idSize is the length in bytes of a token id: 64 hex digits, as in Azure.
const idSize = 32

// Issue signs r as of now. The token has passed a relying party's verifier before
// it is returned. The error is [ErrNotTrusted] for a result that is not Trusted.
func (i *Issuer) Issue(now time.Time, p Profile, r Result) (Token, error) {
	if r.Verdict != evidence.Trusted {
		return Token{}, fmt.Errorf("verdict %s: %w", r.Verdict, ErrNotTrusted)
	}
	key, err := i.keys.Signing(p.alg(), now)
	if err != nil {
		return Token{}, err
	}
	s, err := i.stamp(now)
	if err != nil {
		return Token{}, err
	}
	raw, err := i.compose(key, p, s, &r)
	if err != nil {
		return Token{}, err
	}
	if err := i.check(raw, key, s.issued, p, &r); err != nil {
		return Token{}, fmt.Errorf("own token does not verify: %w", err)
	}
	return Token{Raw: raw, ID: s.id, KeyID: key.ID(), Alg: key.Alg(), Issued: s.issued, Expires: s.expires}, nil
}

// compose shapes and signs.
func (i *Issuer) compose(key *Key, p Profile, s stamps, r *Result) (string, error) {
	b, _ := i.buffers.Get().(*buffers)
	defer i.buffers.Put(b)
	if err := i.payload(b, p, s, r); err != nil {
		return "", fmt.Errorf("shape %s token: %w", p, err)
	}
	raw, err := i.sign(b, key, p)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return raw, nil
}

func (i *Issuer) stamp(now time.Time) (stamps, error) {
	id := make([]byte, idSize)
	if _, err := io.ReadFull(i.cfg.Rand, id); err != nil {
		return stamps{}, fmt.Errorf("make token id: %w", err)
	}
	issued := now.UTC().Truncate(time.Second)
	return stamps{hex.EncodeToString(id), issued, issued.Add(-i.cfg.Backdate), issued.Add(i.cfg.Lifetime)}, nil
}

// payload writes the claims to b.payload.
func (i *Issuer) payload(b *buffers, p Profile, s stamps, r *Result) error {
	c := &claimSet{members: make([]member, 0, 24)}
	c.registered(i.cfg.URL, s, r.Audience)
	var err error
	switch p {
	case ProfileAssay:
		b.claims = r.values(b.claims[:0])
		err = assayClaims(c, b.claims, r)
	case ProfileAzure:
		err = azureClaims(c, r)
	case ProfileEAR:
		err = earClaims(c, r, i.cfg.Build)
	default:
		err = errors.New("no such profile")
	}
	if err == nil {
		b.payload, err = c.marshal(b.payload[:0])
	}
	return err
}

// sign makes a compact JWS (RFC 7515, 7.1). Its header is the same for all tokens
// of a key and profile, so nothing of it is made anew; check reads what came out.
func (i *Issuer) sign(b *buffers, key *Key, p Profile) (string, error) {
	header, ok := i.headers[headerID{key.ID(), p}]
	if !ok {
		return "", fmt.Errorf("key %q does not sign %s tokens", key.ID(), p)
	}
	b.raw = encoding.AppendEncode(append(b.raw[:0], header...), b.payload)
	sig, err := key.sign(b.raw)
	if err != nil {
		return "", err
	}
	b.raw = encoding.AppendEncode(append(b.raw, '.'), sig)
	return string(b.raw), nil
}

// check is a relying party that expects exactly this token.
func (i *Issuer) check(raw string, key *Key, now time.Time, p Profile, r *Result) error {
	v := Verifier{
		cfg: VerifierConfig{
			Issuer: i.cfg.URL, Algorithms: []Alg{key.Alg()}, Audience: r.Audience, Nonce: r.Nonce,
			MaxAge: time.Second, Leeway: -1,
		},
		keys: ownKeys{i.cfg.URL, key},
	}
	t, err := v.Verify(context.Background(), raw, now)
	if err != nil {
		return err
	}
	if t.Profile() != p {
		return fmt.Errorf("token reads as one of profile %s", t.Profile())
	}
	// An EAR may warn of what the policy permits, and then is not "affirming".
	if verdict, err := t.Verdict(); p != ProfileEAR && (err != nil || verdict != evidence.Trusted) {
		return fmt.Errorf("token reads as %s (%v)", verdict, err)
	}
	return nil
}
