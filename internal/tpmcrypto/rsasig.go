package tpmcrypto

import (
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// Sign signs a digest by RSASSA or RSAPSS (Part 1, B.5, B.7). The digest must be
// by the hash that is named. The salt of RSAPSS is as long as the digest, or the
// longest that fits; it comes from r. Refusals: TPM_RC_SCHEME for another scheme,
// TPM_RC_HASH for an unknown hash, TPM_RC_VALUE for a digest of another size,
// TPM_RC_SIZE for a key that is too short for the hash, TPM_RC_BINDING for one of
// composite factors.
func (k *RSAKey) Sign(r io.Reader, scheme, hash tpm2.Alg, digest []byte) ([]byte, error) {
	h, err := k.checkDigest(scheme, hash, digest)
	if err != nil {
		return nil, err
	}
	if std := k.fips().key; std != nil {
		return signValidated(r, std, scheme, h, digest)
	}
	em, err := k.encodeDigest(r, scheme, hash, digest)
	if err != nil {
		return nil, err
	}
	return k.private(em)
}

// signValidated is Sign by the validated module, which finds at the end, as we do, that
// a number was composite: everything else was refused before.
func signValidated(r io.Reader, key *rsa.PrivateKey, scheme tpm2.Alg, h crypto.Hash, digest []byte) (sig []byte, err error) {
	if scheme == tpm2.AlgRSASSA {
		sig, err = rsa.SignPKCS1v15(nil, key, h, digest)
	} else {
		sig, err = rsa.SignPSS(r, key, h, digest, &rsa.PSSOptions{SaltLength: pssSaltSize(h, key.Size())})
	}
	if err != nil {
		return nil, refuse(tpm2.RCBinding, "RSA key does not fit its modulus: %v", err)
	}
	return sig, nil
}

// encodeDigest is the block that a signature is made of. The arguments have passed
// checkDigest.
func (k *RSAPublic) encodeDigest(r io.Reader, scheme, hash tpm2.Alg, digest []byte) ([]byte, error) {
	if scheme == tpm2.AlgRSASSA {
		return encodePKCS1(hash, digest, k.Size())
	}
	h, err := hashOf(hash)
	if err != nil {
		return nil, err
	}
	return encodePSS(r, h, digest, k.Size())
}

// checkDigest holds what Sign and Verify ask of their arguments.
func (k *RSAPublic) checkDigest(scheme, hash tpm2.Alg, digest []byte) (crypto.Hash, error) {
	if scheme != tpm2.AlgRSASSA && scheme != tpm2.AlgRSAPSS {
		return 0, refuse(tpm2.RCScheme, "RSA signature scheme %s", scheme.BankName())
	}
	h, err := hashOf(hash)
	if err != nil {
		return 0, err
	}
	if len(digest) != h.Size() {
		return 0, refuse(tpm2.RCValue, "digest has %d bytes, want %d for %s", len(digest), h.Size(), hash.BankName())
	}
	if scheme == tpm2.AlgRSAPSS && k.Size() < h.Size()+2 {
		return 0, refuse(tpm2.RCSize, "RSA modulus of %d bytes is too short for %s", k.Size(), hash.BankName())
	}
	return h, nil
}

// Verify checks a signature of a digest. A signature that does not verify is
// TPM_RC_SIGNATURE; other refusals are those of Sign. RSAPSS is taken with a salt
// of any size, as the reference does.
func (k *RSAPublic) Verify(scheme, hash tpm2.Alg, digest, sig []byte) error {
	if known := scheme == tpm2.AlgRSASSA || scheme == tpm2.AlgRSAPSS; known && len(sig) != k.Size() {
		return refuse(tpm2.RCSignature, "RSA signature has %d bytes, want %d", len(sig), k.Size())
	}
	h, err := k.checkDigest(scheme, hash, digest)
	if err != nil {
		return err
	}
	if std := k.validated(); std != nil {
		return verifyValidated(std, scheme, h, digest, sig)
	}
	em, ok := k.public(sig)
	if !ok {
		return refuse(tpm2.RCSignature, "RSA signature is not below the modulus")
	}
	if scheme == tpm2.AlgRSAPSS {
		ok = verifyPSS(h, digest, em)
	} else {
		var want []byte
		if want, err = encodePKCS1(hash, digest, k.Size()); err != nil {
			return err
		}
		ok = Equal(em, want) // built and compared whole, so that nothing in it is parsed
	}
	if !ok {
		return refuse(tpm2.RCSignature, "RSA signature does not verify")
	}
	return nil
}

// digestInfo is what stands before a digest in RSASSA (RFC 8017, 9.2, note 1; for
// SHA-3, the identifiers of NIST's register in the same frame).
func digestInfo(a tpm2.Alg) string {
	switch a {
	case tpm2.AlgSHA1:
		return "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"
	case tpm2.AlgSHA256:
		return "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	case tpm2.AlgSHA384:
		return "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
	case tpm2.AlgSHA512:
		return "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
	case tpm2.AlgSHA3x256:
		return "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x08\x05\x00\x04\x20"
	case tpm2.AlgSHA3x384:
		return "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x09\x05\x00\x04\x30"
	case tpm2.AlgSHA3x512:
		return "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x0a\x05\x00\x04\x40"
	}
	return ""
}

// encodePKCS1 is EMSA-PKCS1-v1_5 (RFC 8017, 9.2).
func encodePKCS1(a tpm2.Alg, digest []byte, size int) ([]byte, error) {
	info := digestInfo(a)
	if info == "" {
		return nil, refuse(tpm2.RCScheme, "RSASSA with %s", a.BankName())
	}
	at := size - len(info) - len(digest)
	if at < 11 {
		return nil, refuse(tpm2.RCSize, "RSA modulus of %d bytes is too short for %s", size, a.BankName())
	}
	em := make([]byte, size)
	em[1] = 1
	for i := 2; i < at-1; i++ {
		em[i] = 0xFF
	}
	copy(em[at:], info)
	copy(em[at+len(info):], digest)
	return em, nil
}

// pssSaltSize is the salt that Sign uses (Part 1, B.7).
func pssSaltSize(h crypto.Hash, size int) int { return min(h.Size(), size-h.Size()-2) }

// encodePSS is EMSA-PSS (RFC 8017, 9.1.1); moduli have whole bytes, so that one
// bit less is one bit of the first byte.
func encodePSS(r io.Reader, h crypto.Hash, digest []byte, size int) ([]byte, error) {
	salt, err := read(r, pssSaltSize(h, size))
	if err != nil {
		return nil, err
	}
	em := make([]byte, size)
	db, tail := em[:size-h.Size()-1], em[size-h.Size()-1:]
	copy(tail, pssHash(h, digest, salt))
	tail[h.Size()] = 0xbc
	db[len(db)-len(salt)-1] = 1
	copy(db[len(db)-len(salt):], salt)
	mgf(h, db, tail[:h.Size()], 0)
	em[0] &= 0x7F
	return em, nil
}

func pssHash(h crypto.Hash, digest, salt []byte) []byte {
	sum := h.New()
	sum.Write(make([]byte, 8))
	sum.Write(digest)
	sum.Write(salt)
	return sum.Sum(nil)
}

// verifyPSS is EMSA-PSS-VERIFY (RFC 8017, 9.1.2) for a salt of any size; em is public.
func verifyPSS(h crypto.Hash, digest, em []byte) bool {
	db, tail := em[:len(em)-h.Size()-1], em[len(em)-h.Size()-1:]
	if tail[h.Size()] != 0xbc || em[0]&0x80 != 0 {
		return false
	}
	mgf(h, db, tail[:h.Size()], 0)
	db[0] &= 0x7F
	for i, b := range db {
		if b == 1 {
			return Equal(pssHash(h, digest, db[i+1:]), tail[:h.Size()])
		}
		if b != 0 {
			return false
		}
	}
	return false
}

// mgf is XORed into out: MGF1 (RFC 8017, B.2.1) with a counter from 0, or KDF2 of
// ISO 18033-2, which counts from 1.
func mgf(h crypto.Hash, out, seed []byte, counter uint32) {
	sum := h.New()
	mask := make([]byte, 0, h.Size())
	for len(out) > 0 {
		var c [4]byte
		binary.BigEndian.PutUint32(c[:], counter)
		sum.Reset()
		sum.Write(seed)
		sum.Write(c[:])
		mask = sum.Sum(mask[:0])
		out = out[subtle.XORBytes(out, out, mask):]
		counter++
	}
}
