// Package cms checks signatures as UEFI firmware does: PKCS #7 SignedData with
// one signer, and the path from the signer to a certificate of a database.
//
// [Parse] checks shape only. [SignedData.Verify] makes a [Signed], which is
// content that the signer's key signed; whether the signer counts is for
// [Signed.Path] to say, by a certificate that the caller trusts. Like firmware it
// looks neither at a clock nor at the purposes of certificates, and any
// certificate of a path may be the trusted one. Stricter than firmware are: one
// signer and one digest algorithm, no name constraints, names compared by their
// bytes. Revocations are looked for without these: [SignedData.Under].
//
// RFC 2315 (PKCS #7 1.5), RFC 5280; UEFI Specification 2.10, 32.2.4; the rules
// for paths are those of edk2's Pkcs7Verify.
package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // the digests of hashes
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
)

// The failures of [Parse] and [SignedData.Verify].
var (
	// ErrMalformed is bytes that are no SignedData with one signer.
	ErrMalformed = errors.New("signature is malformed")
	// ErrAlgorithm is an algorithm that firmware does not know.
	ErrAlgorithm = errors.New("signature has an algorithm that firmware does not know")
	// ErrNoSigner is a signature without the certificate of its signer.
	ErrNoSigner = errors.New("certificate of the signer is missing")
	// ErrContent is content that is not what was signed.
	ErrContent = errors.New("content is not what was signed")
	// ErrSignature is a signature that the signer's key did not make.
	ErrSignature = errors.New("signature does not verify")
)

const (
	maxSignedData   = 256 << 10
	maxCertificates = 16
	maxAttributes   = 32
)

// SignedData is a parsed PKCS #7 SignedData (RFC 2315, 9.1). It proves nothing and
// aliases its bytes.
type SignedData struct {
	// Wrapped says that it came in a ContentInfo, as images have it; authenticated
	// variables may go without.
	Wrapped bool
	// Hash is the one digest algorithm.
	Hash crypto.Hash
	// ContentType is the body of the content's object identifier.
	ContentType []byte
	// Content is the content's element, nil when it is kept elsewhere.
	Content []byte
	// Certificates are those that came with it, in order.
	Certificates []*Certificate

	issuer, serial []byte // of the signer's certificate
	attributes     []byte // the authenticated attributes, as [0]; nil for none
	signature      []byte
}

// Parse reads the SignedData that b begins with, and returns what follows it.
func Parse(b []byte) (s *SignedData, rest []byte, err error) {
	e, rest, ok := read(b)
	if !ok || e.tag != tagSequence || len(e.raw) > maxSignedData {
		return nil, nil, ErrMalformed
	}
	s = new(SignedData)
	r := reader{b: e.body}
	if id, ok := r.optional(tagOID); ok { // RFC 2315, 7: ContentInfo
		if string(id.body) != oidSignedData {
			return nil, nil, fmt.Errorf("%w: not SignedData", ErrMalformed)
		}
		s.Wrapped = true
		outer := r.inside(tagContext0)
		inner := outer.inside(tagSequence)
		if !outer.end() || !r.end() {
			return nil, nil, ErrMalformed
		}
		r = *inner
	}
	return s, rest, s.parse(&r)
}

// parse reads the fields of RFC 2315, 9.1.
func (s *SignedData) parse(r *reader) error {
	version, digests, content := r.next(tagInteger), r.inside(tagSet), r.inside(tagSequence)
	digest := digests.algorithm()
	s.ContentType = content.next(tagOID).body
	if outer, ok := content.optional(tagContext0); ok {
		in := reader{b: outer.body}
		s.Content = in.any().raw
		content.failed = content.failed || !in.end()
	}
	if !content.end() || !digests.end() || len(version.body) != 1 {
		return fmt.Errorf("%w: header", ErrMalformed)
	}
	if s.Hash = hashes[digest]; s.Hash == 0 {
		return ErrAlgorithm
	}
	if err := s.parseCertificates(r); err != nil {
		return err
	}
	r.optional(0xA1) // crls; firmware has no use for them
	signers := r.inside(tagSet)
	signer := signers.inside(tagSequence)
	if !signers.end() || !r.end() {
		return fmt.Errorf("%w: want one signer", ErrMalformed)
	}
	return s.parseSigner(signer)
}

func (s *SignedData) parseCertificates(r *reader) error {
	set, ok := r.optional(tagContext0)
	if !ok {
		return nil
	}
	for in := (&reader{b: set.body}); len(in.b) > 0; {
		e := in.any()
		if in.failed || len(s.Certificates) == maxCertificates {
			return fmt.Errorf("%w: certificates", ErrMalformed)
		}
		if e.tag != tagSequence { // RFC 2315, 6.6: an old kind of certificate
			continue
		}
		c, err := ParseCertificate(e.raw)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		s.Certificates = append(s.Certificates, c)
	}
	return nil
}

// parseSigner reads a SignerInfo (RFC 2315, 9.2).
func (s *SignedData) parseSigner(r *reader) error {
	r.next(tagInteger)
	id := r.inside(tagSequence)
	s.issuer, s.serial = id.next(tagSequence).raw, id.next(tagInteger).body
	digest := r.algorithm()
	if attributes, ok := r.optional(tagContext0); ok {
		s.attributes = attributes.raw
	}
	r.algorithm() // of the signature: firmware goes by the key's kind
	s.signature = r.next(tagOctetString).body
	r.optional(0xA1) // unauthenticated attributes: nobody signed them
	if !r.end() || !id.end() {
		return fmt.Errorf("%w: signer", ErrMalformed)
	}
	if hashes[digest] != s.Hash {
		return fmt.Errorf("%w: two digest algorithms", ErrAlgorithm)
	}
	return nil
}

// ContentBody is the content without its tag and length, which PKCS #7 leaves out
// of the digest (RFC 2315, 9.3). It is nil when there is no content.
func (s *SignedData) ContentBody() []byte {
	e, _, _ := read(s.Content)
	return e.body
}

// Signed is content that the key of a certificate signed. It says nothing about
// who that is: ask [Signed.Path].
type Signed struct {
	signer *Certificate
	links  []link
}

// A link is a certificate between the signer and an anchor.
type link struct {
	cert  *Certificate
	below int // of the certificate that it issued; -1 for the signer
	depth int // 0 for the signer, 1 for who issued it
}

// Verify checks that the signer signed content (RFC 2315, 9.4).
func (s *SignedData) Verify(content []byte) (*Signed, error) {
	signer := s.Signer()
	if signer == nil {
		return nil, ErrNoSigner
	}
	if signer.key == nil {
		return nil, fmt.Errorf("%w: %w", ErrAlgorithm, ErrNotRSA)
	}
	signed := content
	if s.attributes != nil {
		// 9.3: the signature covers the attributes, as a SET, and these the content.
		if err := s.checkAttributes(content); err != nil {
			return nil, err
		}
		signed = bytes.Clone(s.attributes)
		signed[0] = tagSet
	}
	h := s.Hash.New()
	h.Write(signed)
	if err := rsa.VerifyPKCS1v15(signer.key, s.Hash, h.Sum(nil), s.signature); err != nil {
		return nil, ErrSignature
	}
	return &Signed{signer, s.links(signer)}, nil
}

// Signer finds the certificate that the signature names by issuer and serial
// number, nil when it did not come along. Nothing is proved by it.
func (s *SignedData) Signer() *Certificate {
	for _, c := range s.Certificates {
		if bytes.Equal(c.Issuer, s.issuer) && bytes.Equal(c.Serial, s.serial) {
			return c
		}
	}
	return nil
}

// checkAttributes compares the attribute messageDigest with the content's digest,
// and contentType with the content's type: each must be there once.
func (s *SignedData) checkAttributes(content []byte) error {
	e, _, _ := read(s.attributes)
	digests, types := 0, 0
	r := reader{b: e.body}
	for range maxAttributes {
		if !r.more() {
			break
		}
		attribute := r.inside(tagSequence)
		id, values := attribute.next(tagOID), attribute.inside(tagSet)
		switch string(id.body) {
		case oidMessageDigest:
			h := s.Hash.New()
			h.Write(content)
			if digest := values.next(tagOctetString); subtle.ConstantTimeCompare(digest.body, h.Sum(nil)) != 1 {
				return ErrContent
			}
			digests++
		case oidContentType:
			if t := values.next(tagOID); !bytes.Equal(t.body, s.ContentType) {
				return fmt.Errorf("%w: of another type", ErrContent)
			}
			types++
		default:
			continue
		}
		if !values.end() || !attribute.end() {
			return fmt.Errorf("%w: attribute", ErrMalformed)
		}
	}
	if !r.end() || digests != 1 || types != 1 {
		return fmt.Errorf("%w: attributes", ErrMalformed)
	}
	return nil
}
