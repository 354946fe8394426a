package engine

import "github.com/assay-project/assay/tpm2"

// What TPM2_CertifyX509 reads and writes of DER (ITU-T X.690), no more.

// The tags that occur.
const (
	derInteger     = 0x02
	derBitString   = 0x03
	derOctetString = 0x04
	derNull        = 0x05
	derSequence    = 0x30
	derExplicit    = 0xa0 // [0], constructed; the number is added
	derExtensions  = derExplicit + 3
)

// der encodes one element; its content is the parts, one after the other. Inlined in
// itself, some levels deep, it was a thirtieth of the package.
//
//go:noinline
func der(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := derHeader(tag, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// derHeader encodes the tag and length of an element of n bytes, below 64 KiB.
func derHeader(tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return []byte{tag, byte(n)}
	case n < 0x100:
		return []byte{tag, 0x81, byte(n)}
	}
	return []byte{tag, 0x82, byte(n >> 8), byte(n)}
}

// derUint encodes a number that is given big endian and not negative.
func derUint(b []byte) []byte {
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	if b[0]&0x80 != 0 {
		return der(derInteger, []byte{0}, b)
	}
	return der(derInteger, b)
}

// derBits encodes whole bytes as a bit string.
func derBits(parts ...[]byte) []byte {
	return der(derBitString, append([][]byte{{0}}, parts...)...)
}

// derNext splits the first element off b: its content, and all of it. The
// reference takes tags of one byte and lengths of up to two.
func derNext(b []byte) (tag byte, content, whole, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1f == 0x1f {
		return 0, nil, nil, nil, false
	}
	at, n := 2, int(b[1])
	switch {
	case n == 0x81 && len(b) >= 3:
		at, n = 3, int(b[2])
	case n == 0x82 && len(b) >= 4 && b[2] < 0x80:
		at, n = 4, int(b[2])<<8|int(b[3])
	case n >= 0x80:
		return b[0], nil, nil, nil, false
	}
	if n > len(b)-at {
		return b[0], nil, nil, nil, false
	}
	return b[0], b[at : at+n], b[:at+n], b[at+n:], true
}

// derFlags reads the content of a bit string of at most 32 bits; the first bit is
// the highest of the result.
func derFlags(b []byte) (flags uint32, ok bool) {
	if len(b) < 1 || len(b) > 5 || b[0] > 7 || len(b) == 1 && b[0] != 0 {
		return 0, false
	}
	for i, v := range b[1:] {
		flags |= uint32(v) << (24 - 8*i)
	}
	if n := 8*(len(b)-1) - int(b[0]); n < 32 {
		flags &^= 1<<(32-n) - 1 // bits that the string does not have
	}
	return flags, true
}

// Object identifiers as encoded elements, of signatures by hash (RFC 8017, A.2.4;
// RFC 5758; NIST's Computer Security Objects Register), hashes, keys and curves.
const (
	oidPKCS1        = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01" // pkcs-1; its member is added
	oidRSA          = oidPKCS1 + "\x01"
	oidMGF1         = oidPKCS1 + "\x08"
	oidPSS          = oidPKCS1 + "\x0a"
	oidECPublic     = "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
	oidNISTHash     = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02"
	oidNISTSign     = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03"
	oidECDSASHA2    = "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03"
	oidKeyUsage     = "\x06\x03\x55\x1d\x0f"
	oidTPMAttribute = "\x06\x07\x67\x81\x05\x0a\x01\x01\x01" // tcg-tpmaObject
)

// oids are those that go with a hash.
type oids struct{ hash, pkcs1, ecdsa string }

func oidsOf(a tpm2.Alg) (o oids, ok bool) {
	switch a {
	case tpm2.AlgSHA1:
		return oids{"\x06\x05\x2b\x0e\x03\x02\x1a", oidPKCS1 + "\x05", "\x06\x07\x2a\x86\x48\xce\x3d\x04\x01"}, true
	case tpm2.AlgSHA256:
		return oids{oidNISTHash + "\x01", oidPKCS1 + "\x0b", oidECDSASHA2 + "\x02"}, true
	case tpm2.AlgSHA384:
		return oids{oidNISTHash + "\x02", oidPKCS1 + "\x0c", oidECDSASHA2 + "\x03"}, true
	case tpm2.AlgSHA512:
		return oids{oidNISTHash + "\x03", oidPKCS1 + "\x0d", oidECDSASHA2 + "\x04"}, true
	case tpm2.AlgSHA3x256:
		return oids{oidNISTHash + "\x08", oidNISTSign + "\x0e", oidNISTSign + "\x0a"}, true
	case tpm2.AlgSHA3x384:
		return oids{oidNISTHash + "\x09", oidNISTSign + "\x0f", oidNISTSign + "\x0b"}, true
	case tpm2.AlgSHA3x512:
		return oids{oidNISTHash + "\x0a", oidNISTSign + "\x10", oidNISTSign + "\x0c"}, true
	}
	return oids{}, false
}

// oidOfCurve returns the identifier of a named curve, "" when there is none.
func oidOfCurve(c tpm2.ECCCurve) string {
	switch c {
	case tpm2.CurveNISTP256:
		return "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
	case tpm2.CurveNISTP384:
		return "\x06\x05\x2b\x81\x04\x00\x22"
	case tpm2.CurveNISTP521:
		return "\x06\x05\x2b\x81\x04\x00\x23"
	}
	return ""
}
