package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrOtherKey is a key that is not the certificate's.
var ErrOtherKey = errors.New("key is not that of the certificate")

// Signing says what [Sign] makes.
type Signing struct {
	// Random is used by keys that need it.
	Random io.Reader
	Key    crypto.Signer
	// Certificate is that of Key; Others go along, as those between it and an anchor.
	Certificate *Certificate
	Others      []*Certificate
	// ContentType is the body of an object identifier.
	ContentType []byte
	// Content is the element that goes inside; nil when it is kept elsewhere.
	Content []byte
	// Attributes has the signature cover attributes and these the content, as
	// Authenticode has it; authenticated variables are signed without.
	Attributes bool
	// Wrapped puts the SignedData into a ContentInfo.
	Wrapped bool
}

// Sign signs content with SHA-256 (RFC 2315, 9.1). It adds no time: the same input
// and an RSA key give the same bytes.
func Sign(s *Signing, content []byte) ([]byte, error) {
	public, ok := s.Key.Public().(*rsa.PublicKey)
	if !ok || s.Certificate.key == nil || !public.Equal(s.Certificate.key) {
		return nil, ErrOtherKey
	}
	digest := crypto.SHA256.New()
	digest.Write(content)
	var attributes []byte
	if s.Attributes {
		set := s.attributes(digest.Sum(nil))
		digest = crypto.SHA256.New()
		digest.Write(set)
		attributes = bytes.Clone(set)
		attributes[0] = tagContext0
	}
	signature, err := s.Key.Sign(s.Random, digest.Sum(nil), crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	out := s.signedData(attributes, signature)
	if s.Wrapped {
		out = der(tagSequence, der(tagOID, []byte(oidSignedData)), der(tagContext0, out))
	}
	return out, nil
}

// attributes lays out the SET that is signed, in the order of DER.
func (s *Signing) attributes(digest []byte) []byte {
	list := [][]byte{
		der(tagSequence, der(tagOID, []byte(oidContentType)), der(tagSet, der(tagOID, s.ContentType))),
		der(tagSequence, der(tagOID, []byte(oidMessageDigest)), der(tagSet, der(tagOctetString, digest))),
	}
	slices.SortFunc(list, bytes.Compare) // X.690, 11.6
	return der(tagSet, list...)
}

func (s *Signing) signedData(attributes, signature []byte) []byte {
	one := der(tagInteger, []byte{1})
	null := []byte{5, 0}
	sha256 := der(tagSequence, der(tagOID, []byte(oidOf(crypto.SHA256))), null)
	content := der(tagSequence, der(tagOID, s.ContentType))
	if s.Content != nil {
		content = der(tagSequence, der(tagOID, s.ContentType), der(tagContext0, s.Content))
	}
	certificates := [][]byte{s.Certificate.Raw}
	for _, c := range s.Others {
		certificates = append(certificates, c.Raw)
	}
	signer := der(tagSequence,
		one,
		der(tagSequence, s.Certificate.Issuer, der(tagInteger, s.Certificate.Serial)),
		sha256,
		attributes,
		der(tagSequence, der(tagOID, []byte(oidRSA)), null),
		der(tagOctetString, signature))
	return der(tagSequence, one, der(tagSet, sha256), content, der(tagContext0, certificates...), der(tagSet, signer))
}

// oidOf is the body of the object identifier of a digest algorithm.
func oidOf(h crypto.Hash) string {
	for id, known := range hashes {
		if known == h {
			return id
		}
	}
	return ""
}

// der lays out one element of the parts.
func der(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	out := []byte{tag}
	switch n := len(body); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, body...)
}

// DER lays out one element of a tag and the parts of its body, which are at most 16
// MB together; for the content of [Signing].
func DER(tag byte, parts ...[]byte) []byte { return der(tag, parts...) }
