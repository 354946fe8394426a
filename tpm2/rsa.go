package tpm2

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"

	"filippo.io/bigmod"
)

// An rsaVerifier verifies RSASSA-PKCS1-v1_5 by one key, whose modulus it prepares
// once: crypto/rsa does so for each signature, at a third of its cost. It
// accepts exactly what crypto/rsa accepts.
type rsaVerifier struct {
	n    *bigmod.Modulus
	e    uint
	size int // of the modulus in bytes
}

// newRSAVerifier returns nil for a key that is left to crypto/rsa: an unusual
// one, or any when the validated module must do the work (FIPS 140-3 mode).
func newRSAVerifier(key *rsa.PublicKey) *rsaVerifier {
	if fips140.Enabled() || key.N.Bit(0) == 0 || key.N.BitLen() < 2048 || key.N.BitLen() > 4096 || key.N.BitLen()%8 != 0 ||
		key.E < 3 || key.E&1 == 0 || key.E > 1<<31-1 {
		return nil
	}
	n, err := bigmod.NewModulus(key.N.Bytes())
	if err != nil {
		return nil
	}
	return &rsaVerifier{n, uint(key.E), key.Size()}
}

// verify is RSASSA-PKCS1-V1_5-VERIFY (RFC 8017, 8.2.2). The encoded message is
// built and compared whole, so that nothing in it is parsed.
func (v *rsaVerifier) verify(h crypto.Hash, digest, sig []byte) bool {
	want := v.encode(h, digest)
	if want == nil || len(sig) != v.size {
		return false
	}
	s, err := bigmod.NewNat().SetBytes(sig, v.n) // 5.2.2, step 1: refuses what is not below n
	if err != nil {
		return false
	}
	return bytes.Equal(bigmod.NewNat().ExpShortVarTime(s, v.e, v.n).Bytes(v.n), want)
}

// DigestInfo before the digest (RFC 8017, 9.2, note 1).
const (
	infoSHA256 = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	infoSHA384 = "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
	infoSHA512 = "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
)

// encode is EMSA-PKCS1-v1_5 (RFC 8017, 9.2); nil for a hash that is not accepted.
func (v *rsaVerifier) encode(h crypto.Hash, digest []byte) []byte {
	info := ""
	switch h {
	case crypto.SHA256:
		info = infoSHA256
	case crypto.SHA384:
		info = infoSHA384
	case crypto.SHA512:
		info = infoSHA512
	}
	if info == "" || len(digest) != h.Size() {
		return nil
	}
	out := bytes.Repeat([]byte{0xFF}, v.size)
	out[0], out[1] = 0, 1
	at := v.size - len(info) - len(digest) // at least 173, as the modulus has 256 bytes
	out[at-1] = 0
	copy(out[at:], info)
	copy(out[at+len(info):], digest)
	return out
}
