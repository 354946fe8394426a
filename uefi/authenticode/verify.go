// Package authenticode computes the digest of PE images and decides by their
// signatures whether UEFI firmware starts them.
//
// [Parse] checks shape only, and [Image.Signatures] that a signature is of this
// image. [Image.Verify] makes a [Verified], by the databases db and dbx that a
// caller knows to be those of the machine: it then says what edk2's
// DxeImageVerificationLib decides, for every signature of the image. It does not
// say what the image does, and nothing about shim's own rules. Where it departs
// from firmware it refuses: images whose sections overlap, and signatures that a
// revocation with a date might still let pass by a counter-signed time (dbt).
//
// Windows Authenticode Portable Executable Signature Format 1.0; UEFI
// Specification 2.10, 32.4 and 32.5.3.3.
package authenticode

import (
	"crypto"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// Reason codes, explained in package evidence.
const (
	codeMalformed          evidence.Code = "image.malformed"
	codeSignatureMalformed evidence.Code = "image.signature-malformed"
	codeAlgorithm          evidence.Code = "image.algorithm"
	codeDigest             evidence.Code = "image.digest-mismatch"
	codeSignature          evidence.Code = "image.signature-invalid"
	codeNoAnchor           evidence.Code = "image.no-anchor"
	codeUnsigned           evidence.Code = "image.unsigned"
	codeRevokedHash        evidence.Code = "image.revoked-hash"
	codeRevokedCertificate evidence.Code = "image.revoked-certificate"
	codeRevocations        evidence.Code = "image.revocations-unreadable"
)

// Keys are databases that images are judged by. The zero Keys deny every image.
type Keys struct {
	allowed, forbidden database
}

// A database is one with its certificates read.
type database struct {
	present      bool
	unreadable   int // certificates
	certificates []anchor
	digests      map[digestKey]sigdb.Signature
}

type anchor struct {
	cert  *cms.Certificate
	entry sigdb.Signature
}

type digestKey struct {
	typ    uefi.GUID
	digest string
}

// NewKeys reads the databases of a machine; nil is a database that is not there.
func NewKeys(db, dbx *sigdb.Database) *Keys {
	return &Keys{readDatabase(db), readDatabase(dbx)}
}

func readDatabase(d *sigdb.Database) database {
	out := database{digests: map[digestKey]sigdb.Signature{}}
	if d == nil {
		return out
	}
	out.present = true
	for s := range d.All() {
		switch s.Type {
		case sigdb.X509:
			// Firmware skips a certificate that it cannot read, in both databases; but
			// it reads some that are not read here.
			if c, err := cms.ParseCertificate(s.Data); err == nil {
				out.certificates = append(out.certificates, anchor{c, s})
			} else {
				out.unreadable++
			}
		case sigdb.X509SHA256, sigdb.X509SHA384, sigdb.X509SHA512:
			if n := len(s.Data) - uefi.TimeSize; n > 0 { // the digest, then the time of revocation
				out.digests[digestKey{s.Type, string(s.Data[:n])}] = s
			}
		default:
			out.digests[digestKey{s.Type, string(s.Data)}] = s
		}
	}
	return out
}

// imageTypes and certificateTypes are the types of entries by digest algorithm.
var (
	imageTypes = map[crypto.Hash]uefi.GUID{
		crypto.SHA1: sigdb.SHA1, crypto.SHA256: sigdb.SHA256, crypto.SHA384: sigdb.SHA384, crypto.SHA512: sigdb.SHA512,
	}
	certificateTypes = map[crypto.Hash]uefi.GUID{
		crypto.SHA256: sigdb.X509SHA256, crypto.SHA384: sigdb.X509SHA384, crypto.SHA512: sigdb.X509SHA512,
	}
)

// image finds an image by its digest.
func (d *database) image(h crypto.Hash, digest []byte) (sigdb.Signature, bool) {
	s, ok := d.digests[digestKey{imageTypes[h], string(digest)}]
	return s, ok
}

// certificate reports whether d has the digest of what was signed of c.
func (d *database) certificate(c *cms.Certificate) bool {
	for h, typ := range certificateTypes {
		w := h.New()
		w.Write(c.TBS)
		if _, ok := d.digests[digestKey{typ, string(w.Sum(nil))}]; ok {
			return true
		}
	}
	return false
}

// path finds the first certificate of d that s leads to.
func (d *database) path(s *cms.Signed) ([]*cms.Certificate, sigdb.Signature) {
	for _, a := range d.certificates {
		if p := s.Path(a.cert); p != nil {
			return p, a.entry
		}
	}
	return nil, sigdb.Signature{}
}

// Verified is an image that firmware starts under the [Keys] that made it.
type Verified struct {
	// Entry is what in db allows the image: firmware measures a certificate into
	// PCR 7 as the authority of the boot.
	Entry sigdb.Signature
	// Signature counts from 1; 0 when the image is allowed by its digest.
	Signature int
	// Path leads from the signer to Entry's certificate; nil without a signature.
	Path []*cms.Certificate
}

// Verify decides as firmware does. An [evidence.Refusal] is its no, with the
// reasons of every signature that does not help; another error is of reading.
func (i *Image) Verify(k *Keys) (*Verified, error) {
	if !i.Signed() {
		return i.verifyUnsigned(k)
	}
	if n := k.forbidden.unreadable; n > 0 {
		return nil, evidence.Refuse(codeRevocations, "dbx has %d certificates that cannot be read: the image may be under one of them", n)
	}
	all, err := i.Signatures()
	if err != nil {
		return nil, err
	}
	var found *Verified
	var reasons []error
	for _, s := range all {
		v, final, err := i.judge(k, s)
		if err != nil && final {
			return nil, err
		}
		if err != nil {
			reasons = append(reasons, err)
		}
		if found == nil {
			found = v
		}
	}
	if found != nil {
		return found, nil
	}
	if len(reasons) == 0 {
		reasons = append(reasons, evidence.Refuse(codeUnsigned, "the certificate table has no signature that firmware reads"))
	}
	return nil, errors.Join(reasons...)
}

// verifyUnsigned is the rule for images without a signature: their digest decides.
func (i *Image) verifyUnsigned(k *Keys) (*Verified, error) {
	var found *Verified
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		digest, err := i.Digest(h)
		if err != nil {
			return nil, err
		}
		if _, ok := k.forbidden.image(h, digest); ok {
			return nil, evidence.Refuse(codeRevokedHash, "dbx has the image's digest %x", digest)
		}
		if entry, ok := k.allowed.image(h, digest); ok && found == nil {
			found = &Verified{Entry: entry}
		}
	}
	if found == nil {
		digest, err := i.Digest(crypto.SHA256)
		if err != nil {
			return nil, err
		}
		return nil, evidence.Refuse(codeUnsigned, "the image has no signature, and db does not have its digest %x", digest)
	}
	return found, nil
}

// judge decides about one signature. What is final refuses the image whatever other
// signatures it has: one that is forbidden is enough.
func (i *Image) judge(k *Keys, s *Signature) (v *Verified, final bool, err error) {
	name := fmt.Sprintf("signature %d", s.Index)
	if s.looked == 0 { // edk2, HashPeImageByType: passed over
		return nil, false, evidence.Refuse(codeAlgorithm, "%s: firmware does not read it: no digest algorithm is where firmware looks for one", name)
	}
	if s.data != nil && s.Hash != 0 && s.looked != s.Hash {
		return nil, true, evidence.Refuse(codeAlgorithm, "%s: firmware takes its digest for %v, and it is %v", name, s.looked, s.Hash)
	}
	if s.data == nil || s.Hash == 0 || s.Signer() == nil {
		// edk2, IsForbiddenByDbx: where there is a dbx, a signature whose signer
		// cannot be read is forbidden.
		if s.err == nil {
			s.err = evidence.Refuse(codeSignatureMalformed, "its signer cannot be read")
		}
		return nil, k.forbidden.present, about(s.err, name)
	}
	if err := k.forbids(s); err != nil {
		return nil, true, about(err, name)
	}
	digest, err := i.Digest(s.Hash)
	if err != nil {
		return nil, true, err
	}
	if _, ok := k.forbidden.image(s.Hash, digest); ok {
		return nil, true, evidence.Refuse(codeRevokedHash, "dbx has the image's digest %x", digest)
	}
	if v, err = k.allows(s); err == nil {
		return v, false, nil
	}
	if entry, ok := k.allowed.image(s.Hash, digest); ok {
		return &Verified{Entry: entry}, false, nil
	}
	return nil, false, about(err, name)
}

// about names the signature in every reason.
func about(err error, name string) error {
	var out []error
	for _, r := range evidence.Reasons(err) {
		out = append(out, evidence.Refuse(r.Code, "%s: %s", name, r.Message))
	}
	return errors.Join(out...)
}

// forbids looks for the signature in dbx: its signer must be under no certificate,
// and the digest of its signer's must not be there, whether or not it verifies.
func (k *Keys) forbids(s *Signature) error {
	var revoked []*cms.Certificate
	for _, a := range k.forbidden.certificates {
		revoked = append(revoked, a.cert)
	}
	if c := s.data.Under(revoked); c != nil {
		subject, _, _ := sigdb.Names(c.Raw)
		return evidence.Refuse(codeRevokedCertificate, "dbx has the certificate %q, which its signer is under", subject)
	}
	if signer := s.Signer(); k.forbidden.certificate(signer) {
		subject, _, _ := sigdb.Names(signer.Raw)
		return evidence.Refuse(codeRevokedCertificate, "dbx has the digest of its signer's certificate %q", subject)
	}
	return nil
}

// allows looks for a certificate in db that the signer is under.
func (k *Keys) allows(s *Signature) (*Verified, error) {
	if s.signed == nil {
		return nil, s.err
	}
	path, entry := k.allowed.path(s.signed)
	if path == nil {
		subject, issuer, _ := sigdb.Names(s.signed.Signer().Raw)
		return nil, evidence.Refuse(codeNoAnchor, "db has no certificate that the signer %q, issued by %q, is under", subject, issuer)
	}
	anchor := path[len(path)-1]
	if k.forbidden.certificate(anchor) { // edk2, IsAllowedByDb: and no other is tried
		subject, _, _ := sigdb.Names(anchor.Raw)
		return nil, evidence.Refuse(codeRevokedCertificate, "dbx has the digest of the certificate %q of db, which its signer is under", subject)
	}
	return &Verified{entry, s.Index, path}, nil
}
