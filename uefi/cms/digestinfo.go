package cms

import (
	"crypto"
	"strings"
)

// DigestInfo takes the digest out of the second element of a SpcIndirectDataContent
// (Authenticode): its first says what was hashed. The digest must be of h.
func DigestInfo(content []byte, h crypto.Hash) (digest []byte, ok bool) {
	r := reader{b: content}
	r.next(tagSequence)
	info := r.inside(tagSequence)
	algorithm, value := info.algorithm(), info.next(tagOctetString)
	if !r.end() || !info.end() || h == 0 || hashes[algorithm] != h || len(value.body) != h.Size() {
		return nil, false
	}
	return value.body, true
}

// NewDigestInfo lays out a DigestInfo (RFC 2315, 9.4).
func NewDigestInfo(h crypto.Hash, digest []byte) []byte {
	return der(tagSequence, der(tagSequence, der(tagOID, []byte(oidOf(h))), []byte{5, 0}), der(tagOctetString, digest))
}

// NamedHash is the digest algorithm that firmware, before it parses, takes b to be a
// signature with, 0 for none that it knows: edk2's HashPeImageByType looks at a fixed
// offset, where the identifier is when the lengths before it take two bytes.
func NamedHash(b []byte) crypto.Hash {
	const at = 32
	if len(b) < at || b[1]&0x82 != 0x82 {
		return 0
	}
	for id, h := range hashes {
		if strings.HasPrefix(string(b[at:min(len(b), at+len(id))]), id) {
			return h
		}
	}
	return 0
}
