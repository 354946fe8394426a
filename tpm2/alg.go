// Package tpm2 has the structures, constants, names and computations of
// TPM 2.0 that both sides of a TPM share.
//
// It proves nothing: a decoded structure is what somebody sent. Whether a
// quote is genuine is for evidence/tpm to say. Start with [Public] and [Attest].
//
// TPM 2.0 Library, Part 2: Structures, version 1.83.
package tpm2

import (
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	_ "crypto/sha1"   // a bank that is parsed, never trusted alone
	_ "crypto/sha256" // the mandatory bank
	_ "crypto/sha3"   // banks of newer TPMs
	_ "crypto/sha512" // SHA-384 and SHA-512 banks
	"fmt"
)

// Alg is a TPM_ALG_ID (Part 2, 6.3).
type Alg uint16

// Algorithm identifiers of the TCG Algorithm Registry.
const (
	AlgError     Alg = 0x0000
	AlgRSA       Alg = 0x0001
	AlgTDES      Alg = 0x0003
	AlgSHA1      Alg = 0x0004
	AlgHMAC      Alg = 0x0005
	AlgAES       Alg = 0x0006
	AlgMGF1      Alg = 0x0007
	AlgKeyedHash Alg = 0x0008
	AlgXOR       Alg = 0x000A
	AlgSHA256    Alg = 0x000B
	AlgSHA384    Alg = 0x000C
	AlgSHA512    Alg = 0x000D
	AlgNull      Alg = 0x0010
	AlgSM3       Alg = 0x0012
	AlgSM4       Alg = 0x0013
	AlgRSASSA    Alg = 0x0014
	AlgRSAES     Alg = 0x0015
	AlgRSAPSS    Alg = 0x0016
	AlgOAEP      Alg = 0x0017
	AlgECDSA     Alg = 0x0018
	AlgECDH      Alg = 0x0019
	AlgECDAA     Alg = 0x001A
	AlgSM2       Alg = 0x001B
	AlgECSchnorr Alg = 0x001C
	AlgECMQV     Alg = 0x001D
	AlgKDF1      Alg = 0x0020 // KDF1_SP800_56A
	AlgKDF2      Alg = 0x0021
	AlgKDFa      Alg = 0x0022 // KDF1_SP800_108
	AlgECC       Alg = 0x0023
	AlgSymCipher Alg = 0x0025
	AlgCamellia  Alg = 0x0026
	AlgSHA3x256  Alg = 0x0027
	AlgSHA3x384  Alg = 0x0028
	AlgSHA3x512  Alg = 0x0029
	AlgCMAC      Alg = 0x003F
	AlgCTR       Alg = 0x0040
	AlgOFB       Alg = 0x0041
	AlgCBC       Alg = 0x0042
	AlgCFB       Alg = 0x0043
	AlgECB       Alg = 0x0044
	AlgMLKEM     Alg = 0x00A0 // of version 1.85, as the next two
	AlgMLDSA     Alg = 0x00A1
	AlgHashMLDSA Alg = 0x00A2
)

// hashInfo is what this package knows of a hash algorithm.
type hashInfo struct {
	name string
	size int
	hash crypto.Hash
}

// info returns what is known of a, the zero value when it is no known hash: a
// switch, because every command asks. SM3 has a size, so that logs with an SM3
// bank parse, and no implementation.
func (a Alg) info() hashInfo {
	switch a {
	case AlgSHA1:
		return hashInfo{"sha1", 20, crypto.SHA1}
	case AlgSHA256:
		return hashInfo{"sha256", 32, crypto.SHA256}
	case AlgSHA384:
		return hashInfo{"sha384", 48, crypto.SHA384}
	case AlgSHA512:
		return hashInfo{"sha512", 64, crypto.SHA512}
	case AlgSM3:
		return hashInfo{"sm3_256", 32, 0}
	case AlgSHA3x256:
		return hashInfo{"sha3_256", 32, crypto.SHA3_256}
	case AlgSHA3x384:
		return hashInfo{"sha3_384", 48, crypto.SHA3_384}
	case AlgSHA3x512:
		return hashInfo{"sha3_512", 64, crypto.SHA3_512}
	}
	return hashInfo{}
}

// MaxDigest is the size in bytes of the longest digest of any hash known here.
const MaxDigest = 64

// DigestSize returns the size in bytes of a digest by a, 0 when a is no known hash.
//
//go:noinline
func (a Alg) DigestSize() int { return a.info().size }

// Hash returns Go's hash for a; ok is false when there is none (SM3, or no hash at all).
func (a Alg) Hash() (h crypto.Hash, ok bool) {
	h = a.info().hash
	return h, h != 0 && h.Available()
}

// BankName returns the name of a PCR bank, "sha256" for [AlgSHA256], as used in
// every JSON shape of this project; other algorithms give their number in hex.
func (a Alg) BankName() string {
	if h := a.info(); h.name != "" {
		return h.name
	}
	return fmt.Sprintf("%#04x", uint16(a))
}

// AlgOfBank is the inverse of [Alg.BankName]; ok is false for an unknown name.
func AlgOfBank(name string) (a Alg, ok bool) {
	for _, a := range [...]Alg{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512, AlgSM3, AlgSHA3x256, AlgSHA3x384, AlgSHA3x512} {
		if a.info().name == name {
			return a, true
		}
	}
	return AlgError, false
}

// ECCCurve is a TPM_ECC_CURVE (Part 2, 6.4).
type ECCCurve uint16

// Curve identifiers of the TCG Algorithm Registry.
const (
	CurveNISTP192 ECCCurve = 0x0001
	CurveNISTP224 ECCCurve = 0x0002
	CurveNISTP256 ECCCurve = 0x0003
	CurveNISTP384 ECCCurve = 0x0004
	CurveNISTP521 ECCCurve = 0x0005
	CurveBNP256   ECCCurve = 0x0010
	CurveBNP638   ECCCurve = 0x0011
	CurveSM2P256  ECCCurve = 0x0020
)

// valid makes ECCCurve the interface type TPMI_ECC_CURVE (Part 2, 11.2.5.5).
// BN P638 has no line here: its coordinates exceed [MaxECCKeyBytes].
func (c ECCCurve) valid() bool {
	switch c {
	case CurveNISTP192, CurveNISTP224, CurveNISTP256, CurveNISTP384, CurveNISTP521, CurveBNP256, CurveSM2P256:
		return true
	}
	return false
}

func (ECCCurve) refusal() RC { return RCCurve }

func (c ECCCurve) String() string {
	switch c {
	case CurveNISTP192:
		return "NIST P-192"
	case CurveNISTP224:
		return "NIST P-224"
	case CurveNISTP256:
		return "NIST P-256"
	case CurveNISTP384:
		return "NIST P-384"
	case CurveNISTP521:
		return "NIST P-521"
	case CurveBNP256:
		return "BN P-256"
	case CurveBNP638:
		return "BN P-638"
	case CurveSM2P256:
		return "SM2 P-256"
	}
	return fmt.Sprintf("%#04x", uint16(c))
}

// elliptic returns the curve as crypto/ecdsa names it, nil when Go's
// cryptography has none or it is too short to be trusted.
func (c ECCCurve) elliptic() elliptic.Curve {
	switch c {
	case CurveNISTP256:
		return elliptic.P256()
	case CurveNISTP384:
		return elliptic.P384()
	case CurveNISTP521:
		return elliptic.P521()
	}
	return nil
}

// ecdh returns the curve as crypto/ecdh names it, nil as for elliptic.
func (c ECCCurve) ecdh() ecdh.Curve {
	switch c {
	case CurveNISTP256:
		return ecdh.P256()
	case CurveNISTP384:
		return ecdh.P384()
	case CurveNISTP521:
		return ecdh.P521()
	}
	return nil
}

// fieldSize returns the bytes of one coordinate, 0 for a curve without elliptic.
func (c ECCCurve) fieldSize() int {
	if e := c.elliptic(); e != nil {
		return (e.Params().BitSize + 7) / 8
	}
	return 0
}
