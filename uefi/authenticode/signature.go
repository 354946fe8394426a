package authenticode

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
)

// The types of WIN_CERTIFICATE (UEFI 2.10, 32.2.1).
const (
	certificateHeader = 8
	typePKCS          = 0x0002 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
	typeGUID          = 0x0EF1 // WIN_CERT_TYPE_EFI_GUID
)

var guidPKCS7 = uefi.MustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// oidIndirectData is the body of 1.3.6.1.4.1.311.2.1.4, SPC_INDIRECT_DATA_OBJID.
const oidIndirectData = "\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x04"

// A Signature is one entry of an image's certificate table, as somebody put it
// there.
type Signature struct {
	// Index counts from 1, entries that are no PKCS #7 included.
	Index int
	// Hash is the digest algorithm, 0 when firmware does not know it.
	Hash crypto.Hash
	// Certificates are those that came with it, in order; the signer's is one.
	Certificates []*cms.Certificate

	looked crypto.Hash // what firmware takes the algorithm for, before it parses; 0: it passes the signature over
	data   *cms.SignedData
	signed *cms.Signed // nil when the signature is not by the signer or of another image
	err    error       // why signed is nil
}

// Signer is the certificate that the signature names as its signer's, which nothing
// proves; nil when it did not come along.
func (s *Signature) Signer() *cms.Certificate {
	if s.data == nil {
		return nil
	}
	return s.data.Signer()
}

// Signatures reads all entries of the certificate table and checks each against the
// image's content. The error is for a table that firmware takes as corrupt: then no
// signature counts. A signature that is whole says nothing of whom to trust.
func (i *Image) Signatures() ([]*Signature, error) {
	if !i.Signed() {
		return nil, nil
	}
	table, err := i.read(i.certificates.at, i.certificates.size)
	if err != nil {
		return nil, err
	}
	var out []*Signature
	for n, b := 1, table; len(b) > 0; n++ {
		kind, body, rest, err := split(b)
		if err != nil {
			return nil, err
		}
		b = rest
		if kind == typeGUID {
			if len(body) <= 16 {
				return nil, corrupt("entry %d is too short", n)
			}
			if uefi.GUID(body[:16]) != guidPKCS7 {
				continue
			}
			body = body[16:]
		} else if kind != typePKCS {
			continue
		}
		s := &Signature{Index: n}
		if err := s.check(i, body); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func corrupt(format string, args ...any) error {
	return evidence.Refuse(codeSignatureMalformed, format, args...)
}

// split takes one WIN_CERTIFICATE off the table, with the fill to a multiple of 8.
func split(b []byte) (kind uint16, body, rest []byte, err error) {
	if len(b) <= certificateHeader {
		return 0, nil, nil, corrupt("%d bytes at the end of the certificate table", len(b))
	}
	size := uint64(binary.LittleEndian.Uint32(b))
	next := (size + 7) &^ 7
	if size <= certificateHeader || next > uint64(len(b)) {
		return 0, nil, nil, corrupt("an entry of %d bytes in %d bytes of the certificate table", size, len(b))
	}
	return binary.LittleEndian.Uint16(b[6:]), b[certificateHeader:size], b[next:], nil
}

// check reads one PKCS #7 signature. What is wrong with the signature stays with
// it; the error is the image's.
func (s *Signature) check(i *Image, b []byte) error {
	data, _, err := cms.Parse(b) // what follows is fill
	s.looked = cms.NamedHash(b)
	if data != nil {
		s.data, s.Hash, s.Certificates = data, data.Hash, data.Certificates
	}
	switch {
	case err == nil && !data.Wrapped:
		err = cms.ErrMalformed // edk2, AuthenticodeVerify: images have it in a ContentInfo
	case err == nil:
		return s.checkContent(i)
	}
	if errors.Is(err, cms.ErrAlgorithm) {
		s.err = evidence.Refuse(codeAlgorithm, "%v", err)
		return nil
	}
	s.data = nil
	s.err = evidence.Refuse(codeSignatureMalformed, "%v", err)
	return nil
}

// checkContent compares the digest that was signed with the image's own.
func (s *Signature) checkContent(i *Image) error {
	want, err := i.Digest(s.Hash)
	if err != nil {
		return err
	}
	signedDigest, ok := indirectDigest(s.data)
	switch {
	case !ok:
		s.err = evidence.Refuse(codeSignatureMalformed, "the signature is of no image")
		return nil
	case !bytes.Equal(signedDigest, want):
		s.err = evidence.Refuse(codeDigest, "the signature is of an image with the digest %x, and this one has %x", signedDigest, want)
		return nil
	}
	signed, err := s.data.Verify(s.data.ContentBody())
	switch {
	case err == nil:
		s.signed = signed
	case errors.Is(err, cms.ErrAlgorithm):
		s.err = evidence.Refuse(codeAlgorithm, "%v", err)
	case errors.Is(err, cms.ErrMalformed):
		s.err = evidence.Refuse(codeSignatureMalformed, "%v", err)
	default:
		s.err = evidence.Refuse(codeSignature, "%v", err)
	}
	return nil
}

// Check returns why the signature does not hold for this image, or nil.
func (s *Signature) Check() error { return s.err }

// indirectDigest takes the digest out of a SpcIndirectDataContent, whose algorithm
// must be that of the signature.
func indirectDigest(d *cms.SignedData) (digest []byte, ok bool) {
	if string(d.ContentType) != oidIndirectData {
		return nil, false
	}
	return cms.DigestInfo(d.ContentBody(), d.Hash)
}
