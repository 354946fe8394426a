package tpm2

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
)

// shortMessage is the size up to which a message in parts is put together to be
// hashed at once, which spares the hash its place in memory.
const shortMessage = 256

// Sum appends the digest by a of the parts, one after the other, to dst. ok is
// false when there is no such hash (see [Alg.Hash]). What it is given does not
// outlive it.
func (a Alg) Sum(dst []byte, parts ...[]byte) (digest []byte, ok bool) {
	if len(parts) == 1 {
		return a.sum(dst, parts[0])
	}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	var buf [shortMessage]byte
	message := buf[:0]
	if size > len(buf) {
		message = make([]byte, 0, size)
	}
	for _, p := range parts {
		message = append(message, p...)
	}
	return a.sum(dst, message)
}

func (a Alg) sum(dst, message []byte) ([]byte, bool) {
	switch a {
	case AlgSHA1:
		d := sha1.Sum(message)
		return append(dst, d[:]...), true
	case AlgSHA256:
		d := sha256.Sum256(message)
		return append(dst, d[:]...), true
	case AlgSHA384:
		d := sha512.Sum384(message)
		return append(dst, d[:]...), true
	case AlgSHA512:
		d := sha512.Sum512(message)
		return append(dst, d[:]...), true
	case AlgSHA3x256:
		d := sha3.Sum256(message)
		return append(dst, d[:]...), true
	case AlgSHA3x384:
		d := sha3.Sum384(message)
		return append(dst, d[:]...), true
	case AlgSHA3x512:
		d := sha3.Sum512(message)
		return append(dst, d[:]...), true
	}
	return dst, false
}
