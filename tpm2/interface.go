package tpm2

import "github.com/assay-project/assay/wire"

// An interfaceType is a TPMI_* of Part 2, chapter 9: a number of which only
// some values may appear in a field. Its valid method is the one place that
// says which; the layouts call it in both directions.
type interfaceType interface {
	~uint16
	valid() bool
}

// selector lays out v and fails the codec when v is none of its values.
func selector[T interfaceType](c *wire.Codec, v *T) {
	wire.U16(c, v)
	c.Check(c.Err() != nil || (*v).valid(), wire.ErrSelector)
}

// algHash is TPMI_ALG_HASH (Part 2, 9.27).
type algHash Alg

func (a algHash) valid() bool { return Alg(a).DigestSize() != 0 }

// algHashOrNull is TPMI_ALG_HASH+.
type algHashOrNull Alg

func (a algHashOrNull) valid() bool { return Alg(a) == AlgNull || algHash(a).valid() }

// algPublic is TPMI_ALG_PUBLIC (Part 2, 12.2.2).
type algPublic Alg

func (a algPublic) valid() bool {
	switch Alg(a) {
	case AlgRSA, AlgECC, AlgKeyedHash, AlgSymCipher:
		return true
	}
	return false
}

// algSymObject is TPMI_ALG_SYM_OBJECT+ (Part 2, 9.30).
type algSymObject Alg

func (a algSymObject) valid() bool {
	switch Alg(a) {
	case AlgAES, AlgSM4, AlgCamellia, AlgTDES, AlgNull:
		return true
	}
	return false
}

// algSymMode is TPMI_ALG_SYM_MODE+ (Part 2, 9.31).
type algSymMode Alg

func (a algSymMode) valid() bool {
	switch Alg(a) {
	case AlgCTR, AlgOFB, AlgCBC, AlgCFB, AlgECB, AlgCMAC, AlgNull:
		return true
	}
	return false
}

// algKDF is TPMI_ALG_KDF+ (Part 2, 9.32).
type algKDF Alg

func (a algKDF) valid() bool {
	switch Alg(a) {
	case AlgMGF1, AlgKDF1, AlgKDF2, AlgKDFa, AlgNull:
		return true
	}
	return false
}

// algSigScheme is TPMI_ALG_SIG_SCHEME+ (Part 2, 9.33).
type algSigScheme Alg

func (a algSigScheme) valid() bool {
	switch Alg(a) {
	case AlgRSASSA, AlgRSAPSS, AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr, AlgHMAC, AlgNull:
		return true
	}
	return false
}

// algKeyedHashScheme is TPMI_ALG_KEYEDHASH_SCHEME+ (Part 2, 11.1.20).
type algKeyedHashScheme Alg

func (a algKeyedHashScheme) valid() bool {
	return Alg(a) == AlgHMAC || Alg(a) == AlgXOR || Alg(a) == AlgNull
}

// algRSAScheme is TPMI_ALG_RSA_SCHEME+ (Part 2, 11.2.4.1).
type algRSAScheme Alg

func (a algRSAScheme) valid() bool {
	switch Alg(a) {
	case AlgRSASSA, AlgRSAPSS, AlgRSAES, AlgOAEP, AlgNull:
		return true
	}
	return false
}

// algECCScheme is TPMI_ALG_ECC_SCHEME+ (Part 2, 11.2.5.4).
type algECCScheme Alg

func (a algECCScheme) valid() bool {
	switch Alg(a) {
	case AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr, AlgECDH, AlgECMQV, AlgNull:
		return true
	}
	return false
}

// rsaKeyBits is TPMI_RSA_KEY_BITS (Part 2, 11.2.4.6).
type rsaKeyBits uint16

func (b rsaKeyBits) valid() bool {
	switch b {
	case 1024, 2048, 3072, 4096:
		return true
	}
	return false
}
