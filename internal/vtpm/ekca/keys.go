package ekca

import (
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// A Kind names a key that a TPM is made with.
type Kind string

// The kinds: endorsement keys by algorithm, and the keys of TPM 2.0 Keys for
// Device Identity and Attestation.
const (
	RSA2048 Kind = "rsa2048"
	RSA3072 Kind = "rsa3072"
	P256    Kind = "p256"
	P384    Kind = "p384"
	P521    Kind = "p521"
	// IAK is the initial attestation key: restricted, so that it signs nothing
	// that the TPM did not make.
	IAK Kind = "iak"
	// IDevID is the initial device identity, an ordinary signing key.
	IDevID Kind = "idevid"
)

// DefaultKeys are the endorsement keys of a TPM that is made without a choice:
// what Windows and tpm2-tools look for (RSA-2048, P-256) and one of high strength.
func DefaultKeys() []Kind { return []Kind{RSA2048, P256, P384} }

// Endorsement reports whether k is an endorsement key.
func (k Kind) Endorsement() bool { return k != IAK && k != IDevID }

// A place is where a kind's key and certificate are kept.
type place struct {
	kind     Kind
	template string // of the EK Credential Profile; empty for other keys
	// handle and index are reserved by the TCG's Registry of Reserved TPM 2.0
	// Handles and Localities, as the EK Credential Profile, 2.2.1, uses it.
	handle, index tpm2.Handle
}

// places lists all kinds.
func places() []place {
	return []place{
		{RSA2048, "L-1", 0x81010001, 0x01c00002},
		{P256, "L-2", 0x8101000a, 0x01c0000a},
		{P384, "H-3", 0x81010016, 0x01c00016},
		{P521, "H-4", 0x81010018, 0x01c00018},
		{RSA3072, "H-6", 0x8101001c, 0x01c0001c},
		{IDevID, "", 0x81020000, 0x01c90200},
		{IAK, "", 0x81020001, 0x01c90100},
	}
}

// Indices of other certificates: the chain of the endorsement keys from the first
// of 256 on (EK Credential Profile, 2.2.1.5.2), and the platform's (Registry of
// Reserved TPM 2.0 Handles and Localities).
const (
	indexChain    tpm2.Handle = 0x01c00100
	indexChainEnd tpm2.Handle = 0x01c001ff
	indexPlatform tpm2.Handle = 0x01c08000
)

// placeOf finds a kind.
func placeOf(k Kind) (place, error) {
	for _, p := range places() {
		if p.kind == k {
			return p, nil
		}
	}
	return place{}, fmt.Errorf("%q is no kind of key: want %v", k, Kinds())
}

// Kinds lists all kinds of keys.
func Kinds() []Kind {
	var out []Kind
	for _, p := range places() {
		out = append(out, p.kind)
	}
	return out
}

// Template returns what TPM2_CreatePrimary makes a key of this kind from, in the
// endorsement hierarchy.
func Template(k Kind) (*tpm2.Public, error) {
	p, err := placeOf(k)
	if err != nil {
		return nil, err
	}
	switch k {
	case IAK:
		return deviceKey(tpm2.AttrRestricted, "IAK", policyIAK), nil
	case IDevID:
		return deviceKey(0, "IDEVID", policyIDevID), nil
	}
	for _, t := range tpm2.EKTemplates() {
		if t.Name == p.template {
			return &t.Public, nil
		}
	}
	panic("unreachable: a standard template is missing: " + p.template)
}

// Policies of device keys (TPM 2.0 Keys for Device Identity and Attestation 1.0,
// 7.3.4): the same branches as policy B of endorsement keys, which an NV index of
// their own may later widen. With SHA-384.
const (
	policyIAK    = "\x12\x9d\x94\xeb\xf8\x45\x56\x65\x2c\x6e\xef\x43\xbb\xb7\x57\x51\x2a\xc8\x7e\x52\xbe\x7b\x34\x9c\xa6\xce\x4d\x82\x6f\x74\x9f\xcf\x67\x2f\x51\x71\x6c\x5c\xbb\x60\x5f\x31\x3b\xf3\x45\xaa\xb3\x12"
	policyIDevID = "\x4d\xb1\xaa\x83\x6d\x0b\x56\x15\xdf\x6e\xe5\x3a\x40\xef\x70\xc6\x1c\x21\x7f\x43\x03\xd4\x46\x95\x92\x59\x72\xbc\x92\x70\x06\xcf\xa5\xcb\xdf\x6d\xc1\x8c\x4d\xbe\x32\x9b\x2f\x15\x42\xc3\xdd\x33"
)

// deviceKey is the P-384 template of an IAK or IDevID (H-3 there): a signing key
// that anybody in the guest may use, as its authValue is empty.
func deviceKey(more tpm2.ObjectAttributes, unique, policy string) *tpm2.Public {
	p := &tpm2.Public{
		Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA384, AuthPolicy: []byte(policy),
		Attributes: more | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin |
			tpm2.AttrUserWithAuth | tpm2.AttrAdminWithPolicy | tpm2.AttrSign,
	}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull},
		Scheme:    tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA384},
		CurveID:   tpm2.CurveNISTP384, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	p.Unique.ECC.X = []byte(unique)
	return p
}
