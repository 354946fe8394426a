package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The failures of [ParseCertificate] and of what is built on it.
var (
	// ErrCertificate is bytes that are no certificate.
	ErrCertificate = errors.New("certificate is malformed")
	// ErrNotRSA is a certificate of a key that is not RSA.
	ErrNotRSA = errors.New("key of the certificate is not an RSA key of 1024 to 8192 bits")
)

const (
	maxCertificate = 16 << 10
	maxExtensions  = 64
	maxModulus     = 8192 / 8
)

// Certificate is an X.509 certificate as firmware reads it (RFC 5280, 4.1):
// encodings that a strict parser refuses, such as negative serial numbers, are
// taken. It aliases its bytes.
type Certificate struct {
	Raw     []byte // the whole certificate
	TBS     []byte // what is signed: databases revoke certificates by its digest
	Issuer  []byte // Name, DER
	Subject []byte // Name, DER
	Serial  []byte // of the INTEGER
	// NotBefore and NotAfter are zero when they cannot be read. Firmware has no
	// trusted clock and does not look at them.
	NotBefore, NotAfter time.Time

	key       *rsa.PublicKey // nil when it is of another kind
	oddKey    bool           // the key is an RSA key that is not read here
	hash      crypto.Hash    // of the signature; 0 when it is unknown
	signature []byte
	extensions
}

// extensions are what verification reads of a certificate's extensions.
type extensions struct {
	basic, ca         bool // basicConstraints is there; its cA
	pathLen           int  // -1 for none
	usage, certSign   bool // keyUsage is there; its keyCertSign
	subjectKeyID      []byte
	authorityKeyID    []byte
	authoritySerial   []byte
	unsupported       bool // one that a verifier must know, and does not
	version1, selfish bool
}

// ParseCertificate reads the certificate that der begins with; what follows it is
// ignored, as firmware does with an entry of a signature list.
func ParseCertificate(der []byte) (*Certificate, error) {
	e, _, ok := read(der)
	if !ok || e.tag != tagSequence || len(e.raw) > maxCertificate {
		return nil, ErrCertificate
	}
	outer := reader{b: e.body}
	tbs, algorithm, signature := outer.next(tagSequence), outer.next(tagSequence), outer.next(tagBitString)
	if !outer.end() || len(signature.body) < 2 || signature.body[0] != 0 {
		return nil, ErrCertificate
	}
	c := &Certificate{Raw: e.raw, TBS: tbs.raw, signature: signature.body[1:], extensions: extensions{pathLen: -1}}
	inner, err := c.parseTBS(tbs.body)
	if err != nil {
		return nil, err
	}
	// RFC 5280, 4.1.1.2: the algorithm stands twice, and must be the same.
	if !bytes.Equal(inner, algorithm.raw) {
		return nil, fmt.Errorf("%w: two signature algorithms", ErrCertificate)
	}
	c.hash = signatures[(&reader{b: algorithm.raw}).algorithm()]
	c.selfish = bytes.Equal(c.Issuer, c.Subject)
	return c, nil
}

// parseTBS reads the fields of RFC 5280, 4.1, in order and returns the algorithm.
func (c *Certificate) parseTBS(b []byte) (algorithm []byte, err error) {
	r := reader{b: b}
	version, ok := r.optional(tagContext0)
	c.version1 = !ok || bytes.Equal(version.body, []byte{tagInteger, 1, 0})
	c.Serial = r.next(tagInteger).body
	algorithm = r.next(tagSequence).raw
	c.Issuer = r.next(tagSequence).raw
	validity := r.inside(tagSequence)
	c.NotBefore, c.NotAfter = readTime(validity.any()), readTime(validity.any())
	c.Subject = r.next(tagSequence).raw
	key := r.next(tagSequence).body
	c.key = parseKey(key)
	c.oddKey = c.key == nil && bytes.Contains(key, []byte(oidRSA))
	r.optional(0x81) // issuerUniqueID
	r.optional(0x82) // subjectUniqueID
	if outer, ok := r.optional(0xA3); ok {
		if err := c.parseExtensions(outer.body); err != nil {
			return nil, err
		}
	}
	if !r.end() || validity.failed {
		return nil, ErrCertificate
	}
	return algorithm, nil
}

func readTime(e element) time.Time {
	layout := "060102150405Z"
	if e.tag == tagGeneralizedTime {
		layout = "20060102150405Z"
	}
	t, err := time.Parse(layout, string(e.body))
	if err != nil {
		return time.Time{}
	}
	// RFC 5280, 4.1.2.5.1: two digits from 50 on are of the 20th century.
	if e.tag == tagUTCTime && t.Year() >= 2050 {
		t = t.AddDate(-100, 0, 0)
	}
	return t
}

// parseKey reads a SubjectPublicKeyInfo of an RSA key; nil for all others.
func parseKey(b []byte) *rsa.PublicKey {
	r := reader{b: b}
	algorithm, bits := r.algorithm(), r.next(tagBitString)
	if algorithm != oidRSA || !r.end() || len(bits.body) < 1 || bits.body[0] != 0 {
		return nil
	}
	outer := reader{b: bits.body[1:]}
	key := outer.inside(tagSequence)
	n, e := key.next(tagInteger).body, key.next(tagInteger).body
	if !key.end() || len(n) > maxModulus+1 || len(n) < 1024/8 || n[0]&0x80 != 0 || len(e) == 0 || len(e) > 4 || e[0]&0x80 != 0 {
		return nil
	}
	exponent := 0
	for _, d := range e {
		exponent = exponent<<8 | int(d)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}
}

func (c *Certificate) parseExtensions(b []byte) error {
	outer := reader{b: b}
	list := outer.inside(tagSequence)
	for range maxExtensions {
		if !list.more() {
			break
		}
		e := list.inside(tagSequence)
		id := e.next(tagOID)
		critical, _ := e.optional(tagBoolean)
		value := e.next(tagOctetString)
		if !e.end() || !c.extension(string(id.body), len(critical.body) == 1 && critical.body[0] != 0, value.body) {
			return fmt.Errorf("%w: extension", ErrCertificate)
		}
	}
	if !list.end() || !outer.end() {
		return fmt.Errorf("%w: extensions", ErrCertificate)
	}
	return nil
}

// extension reads one extension; false when it is malformed.
func (c *Certificate) extension(id string, critical bool, value []byte) bool {
	r := reader{b: value}
	switch id {
	case oidBasicConstraints: // RFC 5280, 4.2.1.9
		return c.basicConstraints(r.inside(tagSequence))
	case oidKeyUsage: // 4.2.1.3: keyCertSign is bit 5
		bits := r.next(tagBitString)
		c.usage, c.certSign = true, len(bits.body) > 1 && bits.body[1]&0x04 != 0
	case oidSubjectKeyID:
		c.subjectKeyID = r.next(tagOctetString).body
	case oidAuthorityKeyID: // 4.2.1.1
		in := r.inside(tagSequence)
		keyID, _ := in.optional(0x80)
		in.optional(0xA1)
		serial, _ := in.optional(0x82)
		c.authorityKeyID, c.authoritySerial = keyID.body, serial.body
		return in.end()
	case oidNameConstraints:
		// Firmware enforces them. Nothing that signs for firmware has them, so here
		// such a certificate is no part of a path.
		c.unsupported = true
	default:
		c.unsupported = c.unsupported || critical && !harmless[id]
	}
	return !r.failed
}

func (c *Certificate) basicConstraints(in *reader) bool {
	c.basic = true
	if ca, ok := in.optional(tagBoolean); ok {
		c.ca = len(ca.body) == 1 && ca.body[0] != 0
	}
	if n, ok := in.optional(tagInteger); ok {
		if len(n.body) != 1 || n.body[0] > 127 {
			return false
		}
		c.pathLen = int(n.body[0])
	}
	return in.end()
}

// RSABits is the size of the certificate's key, 0 when it is not an RSA key that
// firmware can use.
func (c *Certificate) RSABits() int {
	if c.key == nil {
		return 0
	}
	return c.key.N.BitLen()
}

// isCA reports whether the certificate may issue others. An anchor may also be a
// certificate of version 1 that signed itself, or one with no basicConstraints
// whose keyUsage says so; those between it and the signer may not.
func (c *Certificate) isCA(anchor bool) bool {
	switch {
	case c.usage && !c.certSign:
		return false
	case c.basic:
		return c.ca
	default:
		return anchor && (c.usage || c.version1 && c.selfish)
	}
}

// issued reports whether c signed child, and whether child names c as its issuer.
// The validity of both is not looked at.
func (c *Certificate) issued(child *Certificate) bool {
	if c.key == nil || child.hash == 0 || !bytes.Equal(c.Subject, child.Issuer) {
		return false
	}
	if child.authorityKeyID != nil && c.subjectKeyID != nil && !bytes.Equal(child.authorityKeyID, c.subjectKeyID) {
		return false
	}
	if child.authoritySerial != nil && !bytes.Equal(child.authoritySerial, c.Serial) {
		return false
	}
	h := child.hash.New()
	h.Write(child.TBS)
	return rsa.VerifyPKCS1v15(c.key, child.hash, h.Sum(nil), child.signature) == nil
}
