package sigdb

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/wire"
)

// Reason codes, explained in package evidence.
const (
	codeUpdateMalformed evidence.Code = "update.malformed"
	codeUpdateTime      evidence.Code = "update.time"
	codeUpdateReplay    evidence.Code = "update.replay"
	codeUpdateAlgorithm evidence.Code = "update.algorithm"
	codeUpdateSignature evidence.Code = "update.signature-invalid"
	codeUpdateSigner    evidence.Code = "update.signer"
	codeUpdateList      evidence.Code = "update.list"
)

// A Role is one of the variables that Secure Boot decides by.
type Role uint8

// The roles of UEFI 2.10, 32.3 to 32.5. The zero Role is none.
const (
	PK  Role = iota + 1 // the platform key: who may change PK and KEK
	KEK                 // key exchange keys: who may change db and dbx
	DB                  // what may start
	DBX                 // what may not
)

var roleNames = map[Role]string{PK: "PK", KEK: "KEK", DB: "db", DBX: "dbx"}

// Roles are all roles in the order in which firmware measures them.
func Roles() []Role { return []Role{PK, KEK, DB, DBX} }

// ParseRole finds the role of a variable's name.
func ParseRole(name string) (r Role, ok bool) {
	for r, n := range roleNames {
		if n == name {
			return r, true
		}
	}
	return 0, false
}

// String is the variable's name.
func (r Role) String() string { return roleNames[r] }

// Vendor is the variable's vendor.
func (r Role) Vendor() uefi.GUID {
	if r == PK || r == KEK {
		return uefi.GlobalVariable
	}
	return uefi.ImageSecurityDatabase
}

// Attributes are those of the variables (UEFI 2.10, table 3.1); an append adds
// [uefi.AppendWrite] for the call.
const Attributes = uefi.NonVolatile | uefi.BootServiceAccess | uefi.RuntimeAccess | uefi.TimeBasedAuthenticated

// maxUpdate bounds an update. Microsoft's list of revocations has about 24 KB.
const maxUpdate = 1 << 20

// An Update is an authenticated write as somebody made it: an
// EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.10, 8.2.2) and the new content. It aliases
// its bytes.
type Update struct {
	Time    uefi.Time
	Payload []byte // signature lists

	signature []byte // SignedData
}

// authenticated is the layout of EFI_VARIABLE_AUTHENTICATION_2 and what follows.
type authenticated struct {
	time           uefi.Time
	revision, kind uint16
	guid           uefi.GUID
	data, rest     []byte
}

// sizes of a WIN_CERTIFICATE_UEFI_GUID before its data, and its constants.
const (
	winCertificate  = 4 + 2 + 2 + 16
	winRevision     = 0x0200
	winTypeEFIGUID  = 0x0EF1
	maxCertificates = 64 << 10
)

var guidPKCS7 = uefi.MustGUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

// Wire lays out the descriptor; its length counts itself.
func (a *authenticated) Wire(c *wire.Codec) {
	a.time.Wire(c)
	size := uint32(winCertificate + len(a.data))
	wire.U32(c, &size)
	wire.U16(c, &a.revision)
	wire.U16(c, &a.kind)
	c.Bytes(a.guid[:])
	c.Check(size >= winCertificate && size <= maxCertificates, wire.ErrSize)
	if c.Err() != nil {
		return
	}
	c.Raw(&a.data, int(size)-winCertificate)
	c.Rest(&a.rest)
}

// ParseUpdate reads the shape of an update, as efitools, sbvarsign and Microsoft
// publish them.
func ParseUpdate(b []byte) (*Update, error) {
	if len(b) > maxUpdate {
		return nil, evidence.Refuse(codeUpdateMalformed, "an update of %d bytes", len(b))
	}
	var a authenticated
	if err := wire.DecodeLE(b, &a); err != nil {
		return nil, evidence.Refuse(codeUpdateMalformed, "%v", err)
	}
	if a.revision != winRevision || a.kind != winTypeEFIGUID || a.guid != guidPKCS7 {
		return nil, evidence.Refuse(codeUpdateMalformed, "its certificate is of revision %#x, type %#x, %v: want one of PKCS #7", a.revision, a.kind, a.guid)
	}
	return &Update{a.time, a.rest, a.data}, nil
}

// signedContent is what the signature covers (UEFI 2.10, 8.2.2).
func signedContent(r Role, attributes uint32, t uefi.Time, payload []byte) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(r.String())) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	vendor := r.Vendor()
	out = append(out, vendor[:]...)
	out = binary.LittleEndian.AppendUint32(out, attributes)
	stamp, err := wire.EncodeLE(&t)
	if err != nil {
		panic("unreachable: a time has no limits")
	}
	return append(append(out, stamp...), payload...)
}

// NewUpdate signs an update of a role; more says that it adds to what is there. The
// members of s that say what is signed are set here.
func NewUpdate(r Role, more bool, t uefi.Time, payload []byte, s cms.Signing) ([]byte, error) {
	s.ContentType, s.Content, s.Attributes, s.Wrapped = []byte(oidData), nil, false, false
	signature, err := cms.Sign(&s, signedContent(r, attributesOf(more), t, payload))
	if err != nil {
		return nil, err
	}
	return wire.EncodeLE(&authenticated{t, winRevision, winTypeEFIGUID, guidPKCS7, signature, payload})
}

// oidData is the body of 1.2.840.113549.1.7.1, pkcs7-data.
const oidData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"

func attributesOf(more bool) uint32 {
	if more {
		return Attributes | uefi.AppendWrite
	}
	return Attributes
}

// verify checks the signature over the update as it would be written.
func (u *Update) verify(r Role, more bool) (*cms.Signed, error) {
	s, rest, err := cms.Parse(u.signature)
	switch {
	case errors.Is(err, cms.ErrAlgorithm), err == nil && s.Hash != crypto.SHA256:
		// edk2, VerifyTimeBasedPayload: only SHA-256.
		return nil, evidence.Refuse(codeUpdateAlgorithm, "firmware takes RSA with SHA-256 only")
	case err != nil:
		return nil, evidence.Refuse(codeUpdateMalformed, "%v", err)
	case len(rest) != 0 || s.Content != nil || string(s.ContentType) != oidData:
		return nil, evidence.Refuse(codeUpdateMalformed, "its signature holds something of its own")
	}
	signed, err := s.Verify(signedContent(r, attributesOf(more), u.Time, u.Payload))
	if errors.Is(err, cms.ErrAlgorithm) {
		return nil, evidence.Refuse(codeUpdateAlgorithm, "%v", err)
	}
	if err != nil {
		return nil, evidence.Refuse(codeUpdateSignature, "%v; it may be of another variable, or to replace where it is to add", err)
	}
	return signed, nil
}

// checkPayload is edk2's CheckSignatureListFormat.
func checkPayload(r Role, payload []byte) (*Database, error) {
	d, err := Parse(payload)
	if err != nil {
		return nil, evidence.Refuse(codeUpdateList, "%v", err)
	}
	n := 0
	for s := range d.All() {
		n++
		size, known := sizes[s.Type]
		if !known || size != 0 && len(s.Data) != size {
			return nil, evidence.Refuse(codeUpdateList, "firmware does not take an entry of type %v with %d bytes", s.Type, len(s.Data))
		}
		if s.Type != X509 {
			continue
		}
		if c, err := cms.ParseCertificate(s.Data); err != nil || c.RSABits() == 0 {
			return nil, evidence.Refuse(codeUpdateList, "entry %d is no certificate of an RSA key", n)
		}
	}
	for b := payload; len(b) > 0; {
		l, err := list(b)
		if err != nil || l.header != 0 {
			return nil, evidence.Refuse(codeUpdateList, "a list has a header of its own")
		}
		b = b[l.size:]
	}
	if r == PK && n > 1 {
		return nil, evidence.Refuse(codeUpdateList, "PK has one key, and this has %d", n)
	}
	return d, nil
}

// describe names a signer for a message.
func describe(c *cms.Certificate) string {
	subject, issuer, _ := Names(c.Raw)
	return fmt.Sprintf("%q, issued by %q", subject, issuer)
}

// CheckList says why firmware would refuse the lists b as a role's content, or nil.
func CheckList(r Role, b []byte) error {
	_, err := checkPayload(r, b)
	return err
}
