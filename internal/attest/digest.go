package attest

import "crypto/sha256"

// A Digest is the SHA-256 digest of a bundle, and knows of which, so that nobody has to
// compute it twice. The zero Digest is of none.
type Digest struct {
	of  []byte
	sum [sha256.Size]byte
}

// DigestOf computes the digest of a bundle, which must not change while it is used.
func DigestOf(bundle []byte) Digest { return Digest{bundle, sha256.Sum256(bundle)} }

// Of returns the digest; ok is false unless it was computed of these bytes, in this
// very memory.
func (d Digest) Of(bundle []byte) (sum [sha256.Size]byte, ok bool) {
	if len(bundle) == 0 || len(bundle) != len(d.of) || &bundle[0] != &d.of[0] {
		return sum, false
	}
	return d.sum, true
}
