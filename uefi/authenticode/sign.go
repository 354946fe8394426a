package authenticode

import (
	"bytes"
	"crypto"
	"encoding/binary"

	"github.com/assay-project/assay/uefi/cms"
)

// Bodies of object identifiers, and the fixed part of what an image's signature
// covers: flags of none, and the file name that nobody gives any more.
const (
	oidPEImageData = "\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0f" // 1.3.6.1.4.1.311.2.1.15
	obsolete       = "\x00<\x00<\x00<\x00O\x00b\x00s\x00o\x00l\x00e\x00t\x00e\x00>\x00>\x00>"
)

// Sign returns the image with one more signature behind those that it has. The
// members of s that say what is signed are set here. An image without signatures is
// filled to a multiple of 8 bytes first, which changes its digest if there was
// something to fill.
func Sign(image []byte, s cms.Signing) ([]byte, error) {
	i, err := Parse(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, err
	}
	if i.directory == 0 {
		return nil, malformed("there is no room for a certificate table")
	}
	out := bytes.Clone(image)
	if !i.Signed() {
		out = append(out, make([]byte, -len(out)&7)...)
		binary.LittleEndian.PutUint32(out[i.directory:], uint32(len(out))) // the image is below 4 GB
	} else if i.certificates.at+i.certificates.size != i.size {
		return nil, malformed("there is something behind the certificate table")
	}
	if i, err = Parse(bytes.NewReader(out), int64(len(out))); err != nil {
		return nil, err
	}
	digest, err := i.Digest(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	content := indirectData(digest)
	s.ContentType, s.Content, s.Attributes, s.Wrapped = []byte(oidIndirectData), cms.DER(0x30, content), true, true
	signature, err := cms.Sign(&s, content)
	if err != nil {
		return nil, err
	}
	entry := binary.LittleEndian.AppendUint32(nil, uint32(certificateHeader+len(signature)))
	entry = append(entry, 0x00, 0x02, typePKCS, 0) // revision 2.0
	entry = append(entry, signature...)
	entry = append(entry, make([]byte, -len(entry)&7)...)
	binary.LittleEndian.PutUint32(out[i.directory+4:], uint32(i.certificates.size)+uint32(len(entry)))
	return append(out, entry...), nil
}

// indirectData is the body of a SpcIndirectDataContent.
func indirectData(digest []byte) []byte {
	data := cms.DER(0x30, cms.DER(0x03, []byte{0}), cms.DER(0xA0, cms.DER(0xA2, cms.DER(0x80, []byte(obsolete)))))
	return append(cms.DER(0x30, cms.DER(0x06, []byte(oidPEImageData)), data), cms.NewDigestInfo(crypto.SHA256, digest)...)
}
