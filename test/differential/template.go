package differential

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
)

// Attributes of keys that are made by the TPM and used with an authValue.
const ordinary = tpm2.AttrUserWithAuth | tpm2.AttrSensitiveDataOrigin

func (g *generator) aes() tpm2.SymDefObject {
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: structtest.Pick[uint16](g.Source, 128, 256), Mode: tpm2.AlgCFB}
}

func (g *generator) curve() tpm2.ECCCurve {
	return structtest.Pick(g.Source, tpm2.CurveNISTP256, tpm2.CurveNISTP256, tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521)
}

func ecc(p *tpm2.Public, parms tpm2.ECCParms) *tpm2.Public {
	p.Type, p.Parameters.ECC = tpm2.AlgECC, parms
	return p
}

// storage is the template of a storage key.
func (g *generator) storage() *tpm2.Public {
	p := &tpm2.Public{NameAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384), Attributes: ordinary | tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrFixedTPM | tpm2.AttrFixedParent}
	if g.chance(20) {
		p.Type, p.Parameters.SymCipher = tpm2.AlgSymCipher, g.aes()
		return p
	}
	return ecc(p, tpm2.ECCParms{Symmetric: g.aes(), Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull}, CurveID: g.curve(), KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}})
}

// template is the public area of some object.
func (g *generator) template() *tpm2.Public {
	p := &tpm2.Public{NameAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384, tpm2.AlgSHA512), Attributes: ordinary}
	p.Attributes |= structtest.Pick(g.Source, 0, tpm2.AttrFixedParent|tpm2.AttrFixedTPM, tpm2.AttrFixedParent|tpm2.AttrFixedTPM, tpm2.AttrFixedParent, tpm2.AttrEncryptedDuplication)
	p.Attributes |= structtest.Pick(g.Source, 0, tpm2.AttrNoDA, tpm2.AttrNoDA, tpm2.AttrAdminWithPolicy, tpm2.AttrSTClear)
	switch g.IntN(9) {
	case 0:
		return g.storageLike(p)
	case 1, 2:
		return g.signing(p)
	case 3:
		p.Attributes |= tpm2.AttrDecrypt
		return ecc(p, tpm2.ECCParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: structtest.Pick(g.Source, tpm2.ECCScheme{Scheme: tpm2.AlgNull}, tpm2.ECCScheme{Scheme: tpm2.AlgECDH, HashAlg: tpm2.AlgSHA256}), CurveID: g.curve(), KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}})
	case 4:
		p.Type, p.Attributes = tpm2.AlgKeyedHash, p.Attributes|tpm2.AttrSign
		p.Parameters.KeyedHash = structtest.Pick(g.Source, tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: g.Hash()})
		if g.chance(20) {
			p.Attributes |= tpm2.AttrRestricted
		}
	case 5:
		p.Type, p.Attributes = tpm2.AlgKeyedHash, p.Attributes&^tpm2.AttrSensitiveDataOrigin
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
	case 6:
		p.Type, p.Attributes = tpm2.AlgSymCipher, p.Attributes|structtest.Pick(g.Source, tpm2.AttrSign|tpm2.AttrDecrypt, tpm2.AttrSign, tpm2.AttrDecrypt)
		p.Parameters.SymCipher = tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: structtest.Pick[uint16](g.Source, 128, 128, 256), Mode: structtest.Pick(g.Source, tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgECB, tpm2.AlgNull, tpm2.AlgCMAC)}
	case 7:
		p.Type = tpm2.AlgKeyedHash
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgXOR, HashAlg: g.Hash(), KDF: structtest.Pick(g.Source, tpm2.AlgKDFa, tpm2.AlgKDFa, tpm2.AlgKDF2)}
		p.Attributes |= structtest.Pick(g.Source, tpm2.AttrRestricted|tpm2.AttrDecrypt, tpm2.AttrRestricted|tpm2.AttrDecrypt, tpm2.AttrSign|tpm2.AttrDecrypt)
	case 8:
		p = g.Classic()
		switch {
		case p.Type != tpm2.AlgRSA:
		case g.chance(30):
			p.Parameters.RSA.KeyBits, p.Parameters.RSA.Exponent = 2048, 0
		default: // making an RSA key takes as long as a thousand commands
			p.Type, p.Parameters.ECC = tpm2.AlgKeyedHash, tpm2.ECCParms{}
			p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
		}
	}
	return p
}

func (g *generator) storageLike(p *tpm2.Public) *tpm2.Public {
	s := g.storage()
	s.Attributes |= p.Attributes &^ (tpm2.AttrFixedTPM | tpm2.AttrFixedParent)
	if g.chance(40) {
		s.Attributes &^= tpm2.AttrFixedTPM | tpm2.AttrFixedParent
	}
	if g.chance(30) {
		s.Attributes &^= tpm2.AttrFixedTPM
	}
	return s
}

func (g *generator) signing(p *tpm2.Public) *tpm2.Public {
	p.Attributes |= tpm2.AttrSign
	scheme := tpm2.ECCScheme{Scheme: structtest.Pick(g.Source, tpm2.AlgECDSA, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgNull)}
	if scheme.Scheme != tpm2.AlgNull {
		scheme.HashAlg = structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384)
	}
	if g.chance(30) {
		p.Attributes |= tpm2.AttrRestricted
	}
	return ecc(p, tpm2.ECCParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: scheme, CurveID: g.curve(), KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}})
}

// twist changes some attributes of some templates to anything.
func (g *generator) twist(p *tpm2.Public) {
	if g.chance(12) {
		p.Attributes ^= 1 << structtest.Pick(g.Source, 1, 2, 4, 5, 6, 7, 10, 11, 16, 17, 18)
	}
	if g.chance(2) {
		p.Attributes ^= 1 << g.IntN(20)
	}
	if g.chance(3) {
		p.Unique.Digest, p.Unique.ECC = g.UpTo(32), tpm2.ECCPoint{X: g.UpTo(32), Y: g.UpTo(32)}
	}
}

// newObject is what TPM2_Create and its kin take: secrets and a public area.
func (g *generator) newObject() (tpm2.SensitiveCreate, *tpm2.Public, *recipe) {
	p := g.template()
	g.twist(p)
	var policy *recipe
	if g.chance(25) && len(p.AuthPolicy) == 0 {
		if policy = g.recipe(p.NameAlg); policy != nil {
			p.AuthPolicy = policy.digest
		}
	}
	s := tpm2.SensitiveCreate{UserAuth: g.authValue()}
	if p.Type == tpm2.AlgKeyedHash && !p.Attributes.Has(tpm2.AttrSensitiveDataOrigin) || p.Type == tpm2.AlgSymCipher && g.chance(10) || g.chance(2) {
		p.Attributes &^= tpm2.AttrSensitiveDataOrigin
		s.Data = g.Bytes(structtest.Pick(g.Source, 16, 32, 1+g.IntN(128), g.IntN(129)))
	}
	return s, p, policy
}

func (g *generator) authValue() []byte {
	return structtest.Pick(g.Source, nil, []byte("secret"), []byte("other"), g.UpTo(20))
}

func (g *generator) selections() tpm2.PCRSelections {
	if g.chance(60) {
		return nil
	}
	if g.chance(50) {
		return tpm2.PCRSelections{{Hash: g.Hash(), Select: tpm2.PCRSelect(g.Bytes(3))}}
	}
	return g.Selections()
}
