package tpm2

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"fmt"
)

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
