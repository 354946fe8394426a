package tpm2

import (
	"errors"

	"github.com/assay-project/assay/wire"
)

// An interfaceType is a TPMI_* of Part 2, chapter 9: a number of which only
// some values may appear in a field. Its valid method is the one place that
// says which, its refusal the one that says with which TPM_RC another is
// refused (the line "#TPM_RC_" of its table).
type interfaceType interface {
	valid() bool
	refusal() RC
}

// selector lays out v, of two bytes, and fails the codec when v is none of its
// values, or an algorithm or curve that the TPM does not offer.
func selector[T interface {
	~uint16
	interfaceType
}](c *wire.Codec, v *T) {
	wire.U16(c, v)
	if c.Err() == nil && !((*v).valid() && offered(c, *v)) {
		c.Fail(refusal{(*v).refusal(), wire.ErrSelector})
	}
}

// choice lays out a number that is no algorithm with lay, one of package wire's.
func choice[T interfaceType](c *wire.Codec, v *T, lay func(*wire.Codec, *T)) {
	lay(c, v)
	if c.Err() == nil && !(*v).valid() {
		c.Fail(refusal{(*v).refusal(), wire.ErrRange})
	}
}

// An Offer says what one TPM supports of all that Part 2 defines. It is the
// context of [wire.DecodeIn]; without one the layouts take all that they know.
// OffersAlg is not asked about [AlgNull].
type Offer interface {
	OffersAlg(Alg) bool
	OffersCurve(ECCCurve) bool
	OffersKeyBits(a Alg, bits uint16) bool // of RSA and of block ciphers
	HandleLimits() HandleLimits
}

// offered asks the codec's context about an algorithm or curve.
func offered[T ~uint16](c *wire.Codec, v T) bool {
	o, ok := c.Context().(Offer)
	if !ok {
		return true
	}
	switch v := any(v).(type) {
	case ECCCurve:
		return o.OffersCurve(v)
	case rsaKeyBits:
		return o.OffersKeyBits(AlgRSA, uint16(v))
	case AttestType, MLKEMSet, MLDSASet:
		return true // not algorithms
	}
	return Alg(v) == AlgNull || o.OffersAlg(Alg(v))
}

// limits are the ranges of handles of the codec's TPM.
func limits(c *wire.Codec) HandleLimits {
	if o, ok := c.Context().(Offer); ok {
		return o.HandleLimits()
	}
	return AllHandles()
}

// A refusal is a kind of failure with its TPM_RC.
type refusal struct {
	rc   RC
	kind error
}

func (r refusal) Error() string { return r.kind.Error() + " (" + r.rc.String() + ")" }

// Unwrap gives the kind of failure, one of package wire's.
func (r refusal) Unwrap() error { return r.kind }

// Refuse returns the failure of kind, one of package wire's, that [RCOf] tells
// as rc. Layouts of packages above this one fail their codec with it.
func Refuse(rc RC, kind error) error { return refusal{rc, kind} }

// RCOf returns the response code with which a TPM answers a command whose
// parameters failed to decode with err, with the number of the parameter where
// the layout numbers them. RCOf(nil) is [RCSuccess].
func RCOf(err error) RC {
	if err == nil {
		return RCSuccess
	}
	rc := rcOfKind(err)
	if at, ok := errors.AsType[*wire.Error](err); ok {
		return rc.Of(RCParameter, at.Part)
	}
	return rc
}

func rcOfKind(err error) RC {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.rc
	}
	switch {
	case errors.Is(err, wire.ErrOverrun), errors.Is(err, wire.ErrOverlong), errors.Is(err, wire.ErrTrailing), errors.Is(err, wire.ErrSize):
		// Part 2, 10.4.1: a structure that does not fill its TPM2B is TPM_RC_SIZE.
		return RCSize
	case errors.Is(err, wire.ErrShort):
		return RCInsufficient
	case errors.Is(err, wire.ErrSelector):
		return RCSelector
	case errors.Is(err, wire.ErrReserved):
		return RCReservedBits
	}
	return RCValue
}

// algHash is TPMI_ALG_HASH (Part 2, 9.27).
type algHash Alg

func (a algHash) valid() bool { return Alg(a).DigestSize() != 0 }
func (algHash) refusal() RC   { return RCHash }

// algHashOrNull is TPMI_ALG_HASH+.
type algHashOrNull Alg

func (a algHashOrNull) valid() bool { return Alg(a) == AlgNull || algHash(a).valid() }
func (algHashOrNull) refusal() RC   { return RCHash }

// algPublic is TPMI_ALG_PUBLIC (Part 2, 12.2.2).
type algPublic Alg

func (a algPublic) valid() bool {
	switch Alg(a) {
	case AlgRSA, AlgECC, AlgKeyedHash, AlgSymCipher, AlgMLKEM, AlgMLDSA, AlgHashMLDSA:
		return true
	}
	return false
}
func (algPublic) refusal() RC { return RCType }

// isBlockCipher lists the symmetric block ciphers of the Algorithm Registry.
func isBlockCipher(a Alg) bool {
	switch a {
	case AlgAES, AlgSM4, AlgCamellia, AlgTDES:
		return true
	}
	return false
}

// algSym is TPMI_ALG_SYM+ (Part 2, 9.29).
type algSym Alg

func (a algSym) valid() bool { return algSymObjectOrNull(a).valid() || Alg(a) == AlgXOR }
func (algSym) refusal() RC   { return RCSymmetric }

// algSymObject is TPMI_ALG_SYM_OBJECT (Part 2, 9.30).
type algSymObject Alg

func (a algSymObject) valid() bool { return isBlockCipher(Alg(a)) }
func (algSymObject) refusal() RC   { return RCSymmetric }

// algSymObjectOrNull is TPMI_ALG_SYM_OBJECT+.
type algSymObjectOrNull Alg

func (a algSymObjectOrNull) valid() bool { return Alg(a) == AlgNull || isBlockCipher(Alg(a)) }
func (algSymObjectOrNull) refusal() RC   { return RCSymmetric }

// algSymMode is TPMI_ALG_SYM_MODE+ (Part 2, 9.31).
type algSymMode Alg

func (a algSymMode) valid() bool { return Alg(a) == AlgCMAC || algCipherMode(a).valid() }
func (algSymMode) refusal() RC   { return RCMode }

// algCipherMode is TPMI_ALG_CIPHER_MODE+ (Part 2, 9.37).
type algCipherMode Alg

func (a algCipherMode) valid() bool {
	switch Alg(a) {
	case AlgCTR, AlgOFB, AlgCBC, AlgCFB, AlgECB, AlgNull:
		return true
	}
	return false
}
func (algCipherMode) refusal() RC { return RCMode }

// algMACScheme is TPMI_ALG_MAC_SCHEME+ (Part 2, 9.36): a hash, for HMAC, or CMAC.
type algMACScheme Alg

func (a algMACScheme) valid() bool { return Alg(a) == AlgCMAC || algHashOrNull(a).valid() }
func (algMACScheme) refusal() RC   { return RCSymmetric }

// algKDF is TPMI_ALG_KDF+ (Part 2, 9.32).
type algKDF Alg

func (a algKDF) valid() bool {
	switch Alg(a) {
	case AlgMGF1, AlgKDF1, AlgKDF2, AlgKDFa, AlgNull:
		return true
	}
	return false
}
func (algKDF) refusal() RC { return RCKDF }

// algSigScheme is TPMI_ALG_SIG_SCHEME (Part 2, 9.33).
type algSigScheme Alg

func (a algSigScheme) valid() bool {
	switch Alg(a) {
	case AlgRSASSA, AlgRSAPSS, AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr, AlgHMAC, AlgMLDSA, AlgHashMLDSA:
		return true
	}
	return false
}
func (algSigScheme) refusal() RC { return RCScheme }

// algSigSchemeOrNull is TPMI_ALG_SIG_SCHEME+.
type algSigSchemeOrNull Alg

func (a algSigSchemeOrNull) valid() bool { return Alg(a) == AlgNull || algSigScheme(a).valid() }
func (algSigSchemeOrNull) refusal() RC   { return RCScheme }

// algKeyExchange is TPMI_ECC_KEY_EXCHANGE (Part 2, 9.34).
type algKeyExchange Alg

func (a algKeyExchange) valid() bool {
	return Alg(a) == AlgECDH || Alg(a) == AlgECMQV || Alg(a) == AlgSM2
}
func (algKeyExchange) refusal() RC { return RCScheme }

// algKeyedHashScheme is TPMI_ALG_KEYEDHASH_SCHEME+ (Part 2, 11.1.20).
type algKeyedHashScheme Alg

func (a algKeyedHashScheme) valid() bool {
	return Alg(a) == AlgHMAC || Alg(a) == AlgXOR || Alg(a) == AlgNull
}
func (algKeyedHashScheme) refusal() RC { return RCValue }

// algRSAScheme is TPMI_ALG_RSA_SCHEME+ (Part 2, 11.2.4.1).
type algRSAScheme Alg

func (a algRSAScheme) valid() bool {
	return Alg(a) == AlgRSASSA || Alg(a) == AlgRSAPSS || algRSADecrypt(a).valid()
}
func (algRSAScheme) refusal() RC { return RCValue }

// algRSADecrypt is TPMI_ALG_RSA_DECRYPT+ (Part 2, 11.2.4.3).
type algRSADecrypt Alg

func (a algRSADecrypt) valid() bool {
	return Alg(a) == AlgRSAES || Alg(a) == AlgOAEP || Alg(a) == AlgNull
}
func (algRSADecrypt) refusal() RC { return RCValue }

// algECCScheme is TPMI_ALG_ECC_SCHEME+ (Part 2, 11.2.5.4).
type algECCScheme Alg

func (a algECCScheme) valid() bool {
	switch Alg(a) {
	case AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr, AlgECDH, AlgECMQV, AlgNull:
		return true
	}
	return false
}
func (algECCScheme) refusal() RC { return RCScheme }

// rsaKeyBits is TPMI_RSA_KEY_BITS (Part 2, 11.2.4.6).
type rsaKeyBits uint16

func (b rsaKeyBits) valid() bool {
	switch b {
	case 1024, 2048, 3072, 4096:
		return true
	}
	return false
}
func (rsaKeyBits) refusal() RC { return RCValue }

// The functions below lay out numbers that stand alone as parameters of commands.

// WireHash lays out a TPMI_ALG_HASH.
func WireHash(c *wire.Codec, a *Alg) { selector(c, (*algHash)(a)) }

// WireHashOrNull lays out a TPMI_ALG_HASH+.
func WireHashOrNull(c *wire.Codec, a *Alg) { selector(c, (*algHashOrNull)(a)) }

// WireCipherMode lays out a TPMI_ALG_CIPHER_MODE+.
func WireCipherMode(c *wire.Codec, a *Alg) { selector(c, (*algCipherMode)(a)) }

// WireMACScheme lays out a TPMI_ALG_MAC_SCHEME+.
func WireMACScheme(c *wire.Codec, a *Alg) { selector(c, (*algMACScheme)(a)) }

// WireKeyExchange lays out a TPMI_ECC_KEY_EXCHANGE.
func WireKeyExchange(c *wire.Codec, a *Alg) { selector(c, (*algKeyExchange)(a)) }

// WireCurve lays out a TPMI_ECC_CURVE.
func WireCurve(c *wire.Codec, v *ECCCurve) { selector(c, v) }
