package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/assay-project/assay/evidence"
)

// An Alg is a signature algorithm of RFC 7518, 3.1. There is no "none" and no
// HMAC: a verifier cannot be talked into either.
type Alg string

// The algorithms that this package signs with and verifies.
const (
	ES256 Alg = "ES256" // ECDSA on P-256 with SHA-256
	RS256 Alg = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
)

// The RSA moduli accepted, in bits: RFC 7518, 3.3 sets the least; the most bounds
// the cost of a verification.
const (
	minRSA = 2048
	maxRSA = 4096
)

// Limits of a key set; those of public issuers hold under ten keys in 40 KiB.
const (
	maxJWKS = 256 << 10
	maxKeys = 64
	maxName = 512 // bytes of a kid or an issuer
)

// ErrUnknownKey is returned, wrapped, by a [KeySource] that has no key of that name.
var ErrUnknownKey = errors.New("no such key")

// A KeySource finds the public keys of one issuer.
type KeySource interface {
	// Issuer is whose keys they are.
	Issuer() string
	// Key returns the key called kid, or ErrUnknownKey. Other errors mean that
	// nobody could tell.
	Key(ctx context.Context, kid string, now time.Time) (PublicKey, error)
}

// A PublicKey is a key that an issuer published. Its zero value verifies nothing.
type PublicKey struct {
	ID string
	// Alg is the one algorithm that the key serves; its type decides.
	Alg Alg
	Key crypto.PublicKey
	// Certificates are the DER of x5c, leaf first; nobody checked them.
	Certificates [][]byte

	own *ownCheck // when the private key is at hand
}

// algOf returns the one algorithm that a key of this type serves, so that no
// header can pick another (RFC 8725, 3.1).
func algOf(key crypto.PublicKey) (Alg, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", errors.New("elliptic curve is not P-256")
		}
		return ES256, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return "", fmt.Errorf("RSA modulus of %d bits, want %d to %d", n, minRSA, maxRSA)
		}
		return RS256, nil
	default:
		return "", fmt.Errorf("key is a %T, want ECDSA or RSA", key)
	}
}

// verify checks the signature of a compact JWS whose parts were checked before.
func (k PublicKey) verify(p *parts) error {
	if k.own != nil {
		if !k.own.verify(digestOf(p.input), p.signature) {
			return errors.New("signature is not by the issuer's own key")
		}
		return nil
	}
	jws, err := jose.ParseSignedCompact(p.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.Alg)})
	if err != nil {
		return err
	}
	payload, err := jws.Verify(k.Key)
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, p.payload) {
		return errors.New("signed payload is not the one read")
	}
	return nil
}

// digestOf hashes a text without a copy of it.
func digestOf(s string) []byte {
	h := sha256.New()
	buf := make([]byte, 512)
	for len(s) > 0 {
		n := copy(buf, s)
		h.Write(buf[:n])
		s = s[n:]
	}
	return h.Sum(nil)
}

// PublicKeys are the keys of one issuer, as it published them. The zero value
// has no key. It is immutable.
type PublicKeys struct {
	issuer string
	keys   map[string]PublicKey
	order  []string
}

// Issuer is whose keys they are: what the caller of [ParseKeys] said.
func (s *PublicKeys) Issuer() string { return s.issuer }

// Key returns the key called kid, or ErrUnknownKey.
func (s *PublicKeys) Key(_ context.Context, kid string, _ time.Time) (PublicKey, error) {
	k, ok := s.keys[kid]
	if !ok {
		return PublicKey{}, fmt.Errorf("key %q of %q: %w", kid, s.issuer, ErrUnknownKey)
	}
	return k, nil
}

// All returns the keys in the order in which they were published.
func (s *PublicKeys) All() []PublicKey {
	out := make([]PublicKey, 0, len(s.order))
	for _, kid := range s.order {
		out = append(out, s.keys[kid])
	}
	return out
}

// ParseKeys reads a JWK Set (RFC 7517, 5) as the keys of issuer. A key that this
// package cannot use safely (another type, curve or purpose, too short, without
// a kid) is passed over; two keys of one kid, a private key among them, or text
// that is no key set, is an error: an [*evidence.Refusal].
func ParseKeys(issuer string, jwks []byte) (*PublicKeys, error) {
	if issuer == "" {
		return nil, errors.New("key set of an unnamed issuer")
	}
	if len(jwks) > maxJWKS {
		return nil, evidence.Refuse("keyset.malformed", "key set of %d bytes, more than %d", len(jwks), maxJWKS)
	}
	top, err := parseObject(jwks)
	if err != nil {
		return nil, evidence.Refuse("keyset.malformed", "key set: %v", err)
	}
	list, _ := top.Get("keys")
	values, err := list.Elements(maxKeys)
	if err != nil {
		return nil, evidence.Refuse("keyset.malformed", "member \"keys\": %v", err)
	}
	s := &PublicKeys{issuer: issuer, keys: map[string]PublicKey{}}
	seen := map[string]bool{}
	for i, v := range values {
		jwk, err := parseObject(v)
		if err != nil {
			return nil, evidence.Refuse("keyset.malformed", "key %d: %v", i, err)
		}
		if refusal := s.add(jwk, v, seen); refusal != nil {
			return nil, refusal
		}
	}
	return s, nil
}

// add keeps the key if it is one to use. seen has every kid, of used keys or not.
func (s *PublicKeys) add(jwk object, raw []byte, seen map[string]bool) error {
	for _, secret := range []string{"d", "k", "priv"} {
		if _, ok := jwk.Get(secret); ok {
			return evidence.Refuse("keyset.private-key", "a published key holds the secret member %q: everybody can sign with it", secret)
		}
	}
	kid, ok, err := jwk.Text("kid")
	if err != nil || !ok || kid == "" || len(kid) > maxName {
		return nil //nolint:nilerr // a key that no token can name is of no use
	}
	if seen[kid] {
		return evidence.Refuse("keyset.duplicate-kid", "two keys are called %q", kid)
	}
	seen[kid] = true
	if k, err := parseKey(kid, jwk, raw); err == nil {
		s.keys[kid] = k
		s.order = append(s.order, kid)
	}
	return nil
}

// parseKey reads one JWK. An error means that the key is not one to verify tokens with.
func parseKey(kid string, jwk object, raw []byte) (PublicKey, error) {
	if err := forSignatures(jwk); err != nil {
		return PublicKey{}, err
	}
	k := PublicKey{ID: kid}
	var err error
	if k.Certificates, err = x5c(jwk); err != nil {
		return PublicKey{}, err
	}
	if k.Key, err = keyMaterial(jwk, raw, k.Certificates); err != nil {
		return PublicKey{}, err
	}
	if k.Alg, err = algOf(k.Key); err != nil {
		return PublicKey{}, err
	}
	// RFC 8725, 3.1: a key is used with one algorithm; its own word counts too.
	if alg, ok, err := jwk.Text("alg"); err != nil || ok && alg != string(k.Alg) {
		return PublicKey{}, errors.New("key is for another algorithm")
	}
	return k, nil
}

// forSignatures checks "use" and "key_ops" (RFC 7517, 4.2 and 4.3).
func forSignatures(jwk object) error {
	if use, ok, err := jwk.Text("use"); err != nil || ok && use != "sig" {
		return errors.New("key is not for signatures")
	}
	raw, ok := jwk.Get("key_ops")
	if !ok {
		return nil
	}
	ops, err := raw.Elements(16) // RFC 7517 names eight
	if err != nil {
		return err
	}
	for _, op := range ops {
		if string(op) == `"verify"` {
			return nil
		}
	}
	return errors.New("key is not for verification")
}

// maxChain bounds the certificates of one key.
const maxChain = 10

// x5c returns the DER of the certificates (RFC 7517, 4.7: base64, not base64url).
func x5c(jwk object) ([][]byte, error) {
	raw, ok := jwk.Get("x5c")
	if !ok {
		return nil, nil
	}
	list, err := raw.Elements(maxChain)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, len(list))
	for _, item := range list {
		s, err := item.Text()
		if err != nil {
			return nil, err
		}
		der, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil {
			return nil, err
		}
		out = append(out, der)
	}
	return out, nil
}

// keyMaterial returns the public key: from the members of the JWK, from the first
// certificate where it has no others (Azure Attestation), and where it has both
// they must agree (RFC 7517, 4.7).
func keyMaterial(jwk object, raw []byte, chain [][]byte) (crypto.PublicKey, error) {
	var certified crypto.PublicKey
	if len(chain) > 0 {
		cert, err := x509.ParseCertificate(chain[0])
		if err != nil {
			return nil, err
		}
		certified = cert.PublicKey
	}
	_, isRSA := jwk.Get("n")
	_, isEC := jwk.Get("x")
	if !isRSA && !isEC {
		if kty, _, _ := jwk.Text("kty"); certified == nil || kty != kindOf(certified) {
			return nil, errors.New("key without material")
		}
		return certified, nil
	}
	bare, err := withoutChain(jwk, raw, chain)
	if err != nil {
		return nil, err
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(bare); err != nil {
		return nil, err
	}
	if certified != nil && !sameKey(certified, k.Key) {
		return nil, errors.New("certificate is of another key")
	}
	return k.Key, nil
}

// withoutChain drops the certificates, which keyMaterial has checked itself:
// real issuers publish some that a strict reader of the whole key refuses.
func withoutChain(jwk object, raw []byte, chain [][]byte) ([]byte, error) {
	if len(chain) == 0 {
		return raw, nil
	}
	bare := map[string]json.RawMessage{}
	for _, name := range []string{"kty", "n", "e", "crv", "x", "y"} {
		if v, ok := jwk.Get(name); ok {
			bare[name] = json.RawMessage(v)
		}
	}
	return json.Marshal(bare)
}

// kindOf returns the "kty" of a key (RFC 7518, 6.1).
func kindOf(key crypto.PublicKey) string {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return "EC"
	case *rsa.PublicKey:
		return "RSA"
	default:
		return ""
	}
}

// sameKey reports whether two public keys are equal.
func sameKey(a, b crypto.PublicKey) bool {
	eq, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b)
}

// Thumbprint returns the kid of a key in the neutral profiles: the SHA-256
// thumbprint of RFC 7638, in base64url.
func Thumbprint(key crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint: %v", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// AzureKeyID returns the kid that Azure Attestation gives a key: the SHA-256
// digest, in base64, of the key in PEM with a zero byte after it. It is also what
// the report in such a service's certificate is bound to.
func AzureKeyID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("key id: %v", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	sum := sha256.Sum256(append(text, 0))
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}
