package tpmcrypto

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"io"

	"github.com/assay-project/assay/tpm2"
)

// Encrypt encrypts a message by OAEP, RSAES, or without padding for TPM_ALG_NULL
// (Part 3, 14.2, TPM2_RSA_Encrypt). The label of OAEP has its terminating zero
// already. Refusals: TPM_RC_SCHEME, TPM_RC_VALUE for a message that is too long or,
// without padding, not below the modulus, TPM_RC_HASH for a hash that is unknown or
// too long for the key.
func (k *RSAPublic) Encrypt(r io.Reader, scheme tpm2.RSAScheme, label, message []byte) ([]byte, error) {
	if std := k.validated(); std != nil && scheme.Scheme == tpm2.AlgOAEP {
		return encryptOAEPValidated(std, r, scheme.HashAlg, label, message)
	}
	em, err := k.encodeMessage(r, scheme, label, message)
	if err != nil {
		return nil, err
	}
	out, ok := k.public(em)
	if !ok {
		return nil, refuse(tpm2.RCValue, "message is not below the RSA modulus")
	}
	return out, nil
}

// encodeMessage is the block that a ciphertext is made of.
func (k *RSAPublic) encodeMessage(r io.Reader, scheme tpm2.RSAScheme, label, message []byte) ([]byte, error) {
	switch scheme.Scheme {
	case tpm2.AlgNull:
		return encodeRaw(message, k.Size())
	case tpm2.AlgRSAES:
		return encodeES(r, message, k.Size())
	case tpm2.AlgOAEP:
		return encodeOAEP(r, scheme.HashAlg, label, message, k.Size())
	}
	return nil, refuse(tpm2.RCScheme, "RSA encryption scheme %s", scheme.Scheme.BankName())
}

// Decrypt is the inverse of [RSAPublic.Encrypt] (Part 3, 14.3, TPM2_RSA_Decrypt).
// Without padding the whole block is the message. Refusals: TPM_RC_SIZE for a
// ciphertext of another size than the modulus; TPM_RC_VALUE for one that is not
// below it, and for padding that is not right, whatever is wrong with it;
// TPM_RC_SCHEME; TPM_RC_HASH; TPM_RC_BINDING for a key of factors that are no primes.
//
// Part 3 has TPM_RC_VALUE tell a wrong padding, which with RSAES is the oracle of
// Bleichenbacher for whoever may use the key; nothing but that code tells it.
func (k *RSAKey) Decrypt(scheme tpm2.RSAScheme, label, ciphertext []byte) ([]byte, error) {
	var h crypto.Hash
	switch scheme.Scheme {
	case tpm2.AlgNull, tpm2.AlgRSAES:
	case tpm2.AlgOAEP:
		var err error
		if h, err = hashOf(scheme.HashAlg); err != nil {
			return nil, err
		}
	default:
		return nil, refuse(tpm2.RCScheme, "RSA encryption scheme %s", scheme.Scheme.BankName())
	}
	if len(ciphertext) != k.Size() {
		return nil, refuse(tpm2.RCSize, "ciphertext has %d bytes, want %d", len(ciphertext), k.Size())
	}
	if std := k.fips().key; std != nil && scheme.Scheme == tpm2.AlgOAEP {
		return decryptOAEPValidated(std, h, label, ciphertext)
	}
	em, err := k.private(ciphertext)
	if err != nil {
		return nil, err
	}
	message, ok := decodeMessage(scheme.Scheme, h, label, em)
	if ok == 0 {
		return nil, refuse(tpm2.RCValue, "ciphertext does not decrypt")
	}
	return message, nil
}

// decodeMessage is the inverse of encodeMessage, in a time that tells only whether it
// succeeded and, if so, how long the message is.
func decodeMessage(scheme tpm2.Alg, h crypto.Hash, label, em []byte) (message []byte, ok int) {
	switch scheme {
	case tpm2.AlgRSAES:
		return decodeES(em)
	case tpm2.AlgOAEP:
		return decodeOAEP(h, label, em)
	}
	return em, 1
}

// encodeRaw right-aligns a message whose leading zeros do not count (Part 1, B.2).
func encodeRaw(message []byte, size int) ([]byte, error) {
	message = bytes.TrimLeft(message, "\x00")
	if len(message) > size {
		return nil, refuse(tpm2.RCValue, "message has %d bytes, want at most %d", len(message), size)
	}
	em := make([]byte, size)
	copy(em[size-len(message):], message)
	return em, nil
}

// encodeES is the encoding of RSAES-PKCS1-v1_5 (RFC 8017, 7.2.1, step 2).
func encodeES(r io.Reader, message []byte, size int) ([]byte, error) {
	if len(message) > size-11 {
		return nil, refuse(tpm2.RCValue, "message has %d bytes, want at most %d", len(message), size-11)
	}
	em := make([]byte, size)
	em[1] = 2
	pad := em[2 : size-len(message)-1]
	if _, err := io.ReadFull(r, pad); err != nil {
		return nil, err
	}
	for i := range pad {
		for pad[i] == 0 { // the padding has no zero; a zero is drawn again
			if _, err := io.ReadFull(r, pad[i:i+1]); err != nil {
				return nil, err
			}
		}
	}
	copy(em[size-len(message):], message)
	return em, nil
}

// decodeES is 7.2.2, step 3, in a time that tells only whether it succeeded and,
// if so, how long the message is.
func decodeES(em []byte) (message []byte, ok int) {
	ok = subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeByteEq(em[1], 2)
	looking, at := 1, 0 // where the message begins
	for i := 2; i < len(em); i++ {
		zero := subtle.ConstantTimeByteEq(em[i], 0)
		at = subtle.ConstantTimeSelect(looking&zero, i+1, at)
		looking &^= zero
	}
	// At least eight bytes of padding: the message begins at 11 or later.
	ok &= 1 - looking
	ok &= subtle.ConstantTimeLessOrEq(11, at)
	if ok == 0 {
		return nil, 0
	}
	return em[at:], 1
}

// encodeOAEP is the encoding of RSAES-OAEP (RFC 8017, 7.1.1, step 2; Part 1, B.4).
func encodeOAEP(r io.Reader, a tpm2.Alg, label, message []byte, size int) ([]byte, error) {
	h, err := checkOAEP(a, message, size)
	if err != nil {
		return nil, err
	}
	em := make([]byte, size)
	seed, db := em[1:1+h.Size()], em[1+h.Size():]
	if _, err := io.ReadFull(r, seed); err != nil {
		return nil, err
	}
	sum := h.New()
	sum.Write(label)
	copy(db, sum.Sum(nil))
	db[len(db)-len(message)-1] = 1
	copy(db[len(db)-len(message):], message)
	mgf(h, db, seed, 0)
	mgf(h, seed, db, 0)
	return em, nil
}

// checkOAEP is step 1: there must be room for the message.
func checkOAEP(a tpm2.Alg, message []byte, size int) (crypto.Hash, error) {
	h, err := hashOf(a)
	if err != nil {
		return 0, err
	}
	room := size - 2*h.Size() - 2
	if room < 0 {
		return 0, refuse(tpm2.RCHash, "RSA modulus of %d bytes is too short for %s", size, a.BankName())
	}
	if len(message) > room {
		return 0, refuse(tpm2.RCValue, "message has %d bytes, want at most %d", len(message), room)
	}
	return h, nil
}

// decodeOAEP is 7.1.2, step 3, in a time that tells only whether it succeeded and,
// if so, how long the message is: the first byte is checked with the rest (Manger).
func decodeOAEP(h crypto.Hash, label, em []byte) (message []byte, ok int) {
	if len(em) < 2*h.Size()+2 {
		return nil, 0
	}
	seed, db := em[1:1+h.Size()], em[1+h.Size():]
	mgf(h, seed, db, 0)
	mgf(h, db, seed, 0)
	sum := h.New()
	sum.Write(label)
	ok = subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(sum.Sum(nil), db[:h.Size()])
	looking, at := 1, 0
	for i := h.Size(); i < len(db); i++ {
		one := subtle.ConstantTimeByteEq(db[i], 1)
		zero := subtle.ConstantTimeByteEq(db[i], 0)
		at = subtle.ConstantTimeSelect(looking&one, i+1, at)
		ok &= 1 &^ (looking & (1 - one) & (1 - zero)) // neither padding nor its end
		looking &^= one
	}
	ok &= 1 - looking
	if ok == 0 {
		return nil, 0
	}
	return db[at:], 1
}
