package cms

import "crypto"

// The bodies of the object identifiers that are read here.
const (
	oidSignedData    = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" // 1.2.840.113549.1.7.2
	oidContentType   = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03" // 1.2.840.113549.1.9.3
	oidMessageDigest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04" // 1.2.840.113549.1.9.4
	oidRSA           = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // 1.2.840.113549.1.1.1
)

// hashes are the digest algorithms that firmware knows, by the body of their
// object identifier.
var hashes = map[string]crypto.Hash{
	"\x2b\x0e\x03\x02\x1a":                 crypto.SHA1,   // 1.3.14.3.2.26
	"\x60\x86\x48\x01\x65\x03\x04\x02\x01": crypto.SHA256, // 2.16.840.1.101.3.4.2.1
	"\x60\x86\x48\x01\x65\x03\x04\x02\x02": crypto.SHA384,
	"\x60\x86\x48\x01\x65\x03\x04\x02\x03": crypto.SHA512,
}

// signatures are the signature algorithms of certificates that firmware knows:
// RSA with PKCS #1 v1.5 padding.
var signatures = map[string]crypto.Hash{
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05": crypto.SHA1,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": crypto.SHA256,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c": crypto.SHA384,
	"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d": crypto.SHA512,
}

// The extensions of certificates that are read here: 2.5.29.n (RFC 5280, 4.2.1).
const (
	oidSubjectKeyID     = "\x55\x1d\x0e"
	oidKeyUsage         = "\x55\x1d\x0f"
	oidBasicConstraints = "\x55\x1d\x13"
	oidNameConstraints  = "\x55\x1d\x1e"
	oidAuthorityKeyID   = "\x55\x1d\x23"
)

// harmless are extensions that may be critical and that firmware's verification
// does not decide by: it asks for any purpose.
var harmless = map[string]bool{
	"\x55\x1d\x11": true, // subjectAltName
	"\x55\x1d\x1f": true, // cRLDistributionPoints
	"\x55\x1d\x20": true, // certificatePolicies
	"\x55\x1d\x25": true, // extKeyUsage
	// netscapeCertType, 2.16.840.1.113730.1.1: critical in Debian's authority.
	"\x60\x86\x48\x01\x86\xf8\x42\x01\x01": true,
}
