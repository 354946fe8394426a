package ekca

import (
	"encoding/asn1"
	"math/big"
	"time"
)

// What this package writes of DER (ITU-T X.690) by hand: the extensions of the
// TCG's profiles and attribute certificates have no types in Go's library.

// The tags that are written.
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagOID             = 0x06
	tagEnumerated      = 0x0a
	tagUTF8String      = 0x0c
	tagIA5String       = 0x16
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext         = 0x80 // of the context, primitive; the number is added
	tagConstructed     = 0xa0 // the same, constructed
)

// der encodes an element; its content is the parts, one after the other.
func der(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := append(make([]byte, 0, n+6), tag)
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	case n < 0x10000:
		b = append(b, 0x82, byte(n>>8), byte(n))
	default:
		b = append(b, 0x83, byte(n>>16), byte(n>>8), byte(n)) // nothing here has 16 MB
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func derSeq(parts ...[]byte) []byte { return der(tagSequence, parts...) }

func derUTF8(s string) []byte { return der(tagUTF8String, []byte(s)) }

func derIA5(s string) []byte { return der(tagIA5String, []byte(s)) }

// derInt encodes a number that is not negative.
func derInt(n int64) []byte { return derBig(big.NewInt(n)) }

func derBig(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return der(tagInteger, b)
}

// derBits encodes whole bytes as a bit string.
func derBits(b []byte) []byte { return der(tagBitString, []byte{0}, b) }

func derTrue(tag byte) []byte { return der(tag, []byte{0xff}) }

// derOID encodes an object identifier of this package.
func derOID(oid asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(oid)
	if err != nil {
		panic("unreachable: an object identifier of ours does not encode: " + err.Error())
	}
	return b
}

// derTime encodes a GeneralizedTime in seconds (RFC 5280, 4.1.2.5.2).
func derTime(t time.Time) []byte {
	return der(tagGeneralizedTime, []byte(t.UTC().Format("20060102150405Z")))
}

// derAttribute encodes an Attribute with one value, as extensions and attribute
// certificates have them.
func derAttribute(oid asn1.ObjectIdentifier, value []byte) []byte {
	return derSeq(derOID(oid), der(tagSet, value))
}

// A nameAttribute is one attribute of a name, a UTF8String.
type nameAttribute struct {
	oid   asn1.ObjectIdentifier
	value string
}

// derName encodes a Name, each attribute in a relative name of its own.
func derName(attributes ...nameAttribute) []byte {
	var rdns [][]byte
	for _, a := range attributes {
		if a.value != "" {
			rdns = append(rdns, der(tagSet, derSeq(derOID(a.oid), derUTF8(a.value))))
		}
	}
	return derSeq(rdns...)
}

// derDirectoryName encodes GeneralNames with one directoryName, [4] EXPLICIT.
func derDirectoryName(name []byte) []byte { return derSeq(der(tagConstructed+4, name)) }
