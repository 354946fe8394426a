package tpm2

import (
	"fmt"

	"github.com/assay-project/assay/wire"
)

// Public is a TPMT_PUBLIC: the public area of an object (Part 2, 12.2.4).
// Type says which members of Parameters and Unique are meant.
type Public struct {
	Type       Alg // a TPMI_ALG_PUBLIC
	NameAlg    Alg // hash of the object's Name; AlgNull for an object without one
	Attributes ObjectAttributes
	AuthPolicy []byte
	Parameters PublicParms
	Unique     PublicID
}

// PublicParms is a TPMU_PUBLIC_PARMS (Part 2, 12.2.3.7).
type PublicParms struct {
	RSA       RSAParms
	ECC       ECCParms
	KeyedHash KeyedHashScheme // all of a TPMS_KEYEDHASH_PARMS
	SymCipher SymDefObject    // all of a TPMS_SYMCIPHER_PARMS
	MLKEM     MLKEMParms
	MLDSA     MLDSAParms // of AlgMLDSA and AlgHashMLDSA
}

// wire lays out the member that t selects.
func (p *PublicParms) wire(c *wire.Codec, t Alg) {
	switch t {
	case AlgRSA:
		p.RSA.Wire(c)
	case AlgECC:
		p.ECC.Wire(c)
	case AlgKeyedHash:
		p.KeyedHash.Wire(c)
	case AlgSymCipher:
		p.SymCipher.wireNamed(c)
	case AlgMLKEM:
		p.MLKEM.Wire(c)
	case AlgMLDSA, AlgHashMLDSA:
		p.MLDSA.wire(c, t)
	}
}

// PublicParmsOf is a TPMT_PUBLIC_PARMS (Part 2, 12.2.3.8): a type and its parameters.
type PublicParmsOf struct {
	Type       Alg
	Parameters PublicParms
}

// Wire lays out a TPMT_PUBLIC_PARMS.
func (p *PublicParmsOf) Wire(c *wire.Codec) {
	selector(c, (*algPublic)(&p.Type))
	p.Parameters.wire(c, p.Type)
}

// PublicID is a TPMU_PUBLIC_ID (Part 2, 12.2.3.2).
type PublicID struct {
	RSA    []byte   // the modulus
	ECC    ECCPoint // the public point
	Digest []byte   // of a keyed hash or symmetric object: binds the secret part
	MLKEM  []byte   // the encapsulation key
	MLDSA  []byte   // the public key, of AlgMLDSA and AlgHashMLDSA
}

// wire lays out the member that t selects.
func (u *PublicID) wire(c *wire.Codec, t Alg) {
	switch t {
	case AlgRSA:
		c.Sized16(&u.RSA, MaxRSAKeyBytes)
	case AlgECC:
		u.ECC.Wire(c)
	case AlgKeyedHash, AlgSymCipher:
		c.Sized16(&u.Digest, MaxDigest)
	case AlgMLKEM:
		c.Sized16(&u.MLKEM, MaxMLKEMPublic)
	case AlgMLDSA, AlgHashMLDSA:
		c.Sized16(&u.MLDSA, MaxMLDSAPublic)
	}
}

// Wire lays out a TPMT_PUBLIC.
func (p *Public) Wire(c *wire.Codec) {
	p.wireHead(c, true)
	p.Unique.wire(c, p.Type)
}

// wireHead lays out all but Unique; unnamed says whether NameAlg may be AlgNull.
func (p *Public) wireHead(c *wire.Codec, unnamed bool) {
	selector(c, (*algPublic)(&p.Type))
	if unnamed {
		selector(c, (*algHashOrNull)(&p.NameAlg))
	} else {
		selector(c, (*algHash)(&p.NameAlg))
	}
	p.Attributes.Wire(c)
	c.Sized16(&p.AuthPolicy, MaxDigest)
	// Part 2, 12.2.4: authPolicy is empty or as long as a digest of nameAlg.
	c.Check(len(p.AuthPolicy) == 0 || len(p.AuthPolicy) == p.NameAlg.DigestSize(), wire.ErrSize)
	p.Parameters.wire(c, p.Type)
}

// SymDefObject is a TPMT_SYM_DEF_OBJECT (Part 2, 11.1.7); AlgNull ends it early.
type SymDefObject struct {
	Algorithm Alg
	KeyBits   uint16
	Mode      Alg
}

// Wire lays out a TPMT_SYM_DEF_OBJECT.
func (s *SymDefObject) Wire(c *wire.Codec) {
	selector(c, (*algSymObjectOrNull)(&s.Algorithm))
	if s.Algorithm != AlgNull {
		s.wireRest(c)
	}
}

// wireNamed lays out a TPMT_SYM_DEF_OBJECT that names its algorithm: that of a
// symmetric cipher object (Part 2, 12.2.3.3).
func (s *SymDefObject) wireNamed(c *wire.Codec) {
	selector(c, (*algSymObject)(&s.Algorithm))
	s.wireRest(c)
}

func (s *SymDefObject) wireRest(c *wire.Codec) {
	wire.U16(c, &s.KeyBits)
	if c.Err() == nil && !(s.keyBitsValid() && keyBitsOffered(c, s.Algorithm, s.KeyBits)) {
		c.Fail(refusal{RCValue, wire.ErrRange})
	}
	selector(c, (*algSymMode)(&s.Mode))
}

func keyBitsOffered(c *wire.Codec, a Alg, bits uint16) bool {
	o, ok := c.Context().(Offer)
	return !ok || o.OffersKeyBits(a, bits)
}

// keyBitsValid says which sizes TPMU_SYM_KEY_BITS allows (Part 2, 11.1.3).
func (s *SymDefObject) keyBitsValid() bool {
	switch s.KeyBits {
	case 128:
		return true
	case 192:
		return s.Algorithm != AlgSM4
	case 256:
		return s.Algorithm == AlgAES || s.Algorithm == AlgCamellia
	}
	return false
}

// SymDef is a TPMT_SYM_DEF: how the parameters of a session are encrypted (Part
// 2, 11.1.6). AlgNull has no other member; AlgXOR has Hash only.
type SymDef struct {
	Algorithm Alg
	KeyBits   uint16
	Mode      Alg
	Hash      Alg // of AlgXOR
}

// Wire lays out a TPMT_SYM_DEF+.
func (s *SymDef) Wire(c *wire.Codec) {
	selector(c, (*algSym)(&s.Algorithm))
	switch s.Algorithm {
	case AlgNull:
	case AlgXOR:
		selector(c, (*algHash)(&s.Hash))
	default:
		o := SymDefObject{Algorithm: s.Algorithm, KeyBits: s.KeyBits, Mode: s.Mode}
		o.wireRest(c)
		s.KeyBits, s.Mode = o.KeyBits, o.Mode
	}
}

// RSAParms is a TPMS_RSA_PARMS (Part 2, 12.2.3.5).
type RSAParms struct {
	Symmetric SymDefObject // of a restricted decryption key; AlgNull otherwise
	Scheme    RSAScheme
	KeyBits   uint16
	Exponent  uint32 // 0 means 65537
}

// Wire lays out a TPMS_RSA_PARMS.
func (p *RSAParms) Wire(c *wire.Codec) {
	p.Symmetric.Wire(c)
	p.Scheme.Wire(c)
	selector(c, (*rsaKeyBits)(&p.KeyBits))
	wire.U32(c, &p.Exponent)
}

// RSAScheme is a TPMT_RSA_SCHEME (Part 2, 11.2.4.2).
type RSAScheme struct {
	Scheme  Alg // AlgNull: the caller of the key chooses
	HashAlg Alg // of RSASSA, RSAPSS and OAEP
}

// Wire lays out a TPMT_RSA_SCHEME.
func (s *RSAScheme) Wire(c *wire.Codec) {
	selector(c, (*algRSAScheme)(&s.Scheme))
	switch s.Scheme {
	case AlgRSASSA, AlgRSAPSS, AlgOAEP:
		selector(c, (*algHash)(&s.HashAlg))
	}
}

// RSADecrypt is a TPMT_RSA_DECRYPT: the padding of TPM2_RSA_Decrypt (Part 2, 11.2.4.4).
type RSADecrypt struct {
	Scheme  Alg // AlgNull: as the key says
	HashAlg Alg // of OAEP
}

// Wire lays out a TPMT_RSA_DECRYPT+.
func (s *RSADecrypt) Wire(c *wire.Codec) {
	selector(c, (*algRSADecrypt)(&s.Scheme))
	if s.Scheme == AlgOAEP {
		selector(c, (*algHash)(&s.HashAlg))
	}
}

// ECCParms is a TPMS_ECC_PARMS (Part 2, 12.2.3.6).
type ECCParms struct {
	Symmetric SymDefObject // of a restricted decryption key; AlgNull otherwise
	Scheme    ECCScheme
	CurveID   ECCCurve
	KDF       KDFScheme
}

// Wire lays out a TPMS_ECC_PARMS.
func (p *ECCParms) Wire(c *wire.Codec) {
	p.Symmetric.Wire(c)
	p.Scheme.Wire(c)
	selector(c, &p.CurveID)
	p.KDF.Wire(c)
}

// ECCScheme is a TPMT_ECC_SCHEME (Part 2, 11.2.5.6).
type ECCScheme struct {
	Scheme  Alg // AlgNull: the caller of the key chooses
	HashAlg Alg
	Count   uint16 // of ECDAA
}

// Wire lays out a TPMT_ECC_SCHEME.
func (s *ECCScheme) Wire(c *wire.Codec) {
	selector(c, (*algECCScheme)(&s.Scheme))
	if s.Scheme == AlgNull || c.Err() != nil {
		return
	}
	selector(c, (*algHash)(&s.HashAlg))
	if s.Scheme == AlgECDAA {
		wire.U16(c, &s.Count)
	}
}

// KDFScheme is a TPMT_KDF_SCHEME (Part 2, 11.2.3.3).
type KDFScheme struct {
	Scheme  Alg
	HashAlg Alg
}

// Wire lays out a TPMT_KDF_SCHEME.
func (s *KDFScheme) Wire(c *wire.Codec) {
	selector(c, (*algKDF)(&s.Scheme))
	if s.Scheme == AlgNull || c.Err() != nil {
		return
	}
	selector(c, (*algHash)(&s.HashAlg))
}

// KeyedHashScheme is a TPMT_KEYEDHASH_SCHEME (Part 2, 11.1.23).
type KeyedHashScheme struct {
	Scheme  Alg // AlgHMAC, AlgXOR, or AlgNull for sealed data
	HashAlg Alg
	KDF     Alg // of AlgXOR
}

// Wire lays out a TPMT_KEYEDHASH_SCHEME.
func (s *KeyedHashScheme) Wire(c *wire.Codec) {
	selector(c, (*algKeyedHashScheme)(&s.Scheme))
	if s.Scheme == AlgNull || c.Err() != nil {
		return
	}
	selector(c, (*algHash)(&s.HashAlg))
	if s.Scheme == AlgXOR {
		selector(c, (*algKDF)(&s.KDF))
	}
}

// MLKEMParms is a TPMS_MLKEM_PARMS (version 1.85).
type MLKEMParms struct {
	Symmetric    SymDefObject // of a restricted decryption key; AlgNull otherwise
	ParameterSet MLKEMSet
}

// Wire lays out a TPMS_MLKEM_PARMS.
func (p *MLKEMParms) Wire(c *wire.Codec) {
	p.Symmetric.Wire(c)
	selector(c, &p.ParameterSet)
}

// MLDSAParms is a TPMS_MLDSA_PARMS or a TPMS_HASH_MLDSA_PARMS (version
// 1.85); the type of the key says which.
type MLDSAParms struct {
	ParameterSet    MLDSASet
	AllowExternalMu bool // of AlgMLDSA: the caller may hash the message himself
	HashAlg         Alg  // of AlgHashMLDSA
}

func (p *MLDSAParms) wire(c *wire.Codec, t Alg) {
	selector(c, &p.ParameterSet)
	if t == AlgHashMLDSA {
		selector(c, (*algHash)(&p.HashAlg))
		return
	}
	c.Bool(&p.AllowExternalMu)
}

// ECCPoint is a TPMS_ECC_POINT (Part 2, 11.2.5.2).
type ECCPoint struct{ X, Y []byte }

// Wire lays out a TPMS_ECC_POINT.
func (p *ECCPoint) Wire(c *wire.Codec) {
	c.Sized16(&p.X, MaxECCKeyBytes)
	c.Sized16(&p.Y, MaxECCKeyBytes)
}

// ParsePublic decodes a TPMT_PUBLIC that fills all of b. The result aliases b.
func ParsePublic(b []byte) (*Public, error) {
	p := new(Public)
	if err := wire.Decode(b, p); err != nil {
		return nil, fmt.Errorf("decode TPMT_PUBLIC: %w", err)
	}
	return p, nil
}
