package structtest

import "github.com/assay-project/assay/tpm2"

// Hash makes a TPMI_ALG_HASH.
func (r Source) Hash() tpm2.Alg {
	return Pick(r, tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512)
}

// Curve makes a TPMI_ECC_CURVE.
func (r Source) Curve() tpm2.ECCCurve {
	return Pick(r, tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256, tpm2.CurveSM2P256)
}

func (r Source) kdf() tpm2.Alg {
	return Pick(r, tpm2.AlgMGF1, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa)
}

// scheme makes the schemes, whose members depend on their first.
func (r Source) scheme(v any) (made any, ok bool) {
	switch v.(type) {
	case tpm2.SymDefObject:
		return r.sym(true), true
	case tpm2.SymDef:
		s := r.sym(true)
		return Pick(r, tpm2.SymDef{Algorithm: tpm2.AlgXOR, Hash: r.Hash()}, tpm2.SymDef{Algorithm: s.Algorithm, KeyBits: s.KeyBits, Mode: s.Mode}), true
	case tpm2.RSAScheme:
		return r.rsaScheme(), true
	case tpm2.RSADecrypt:
		return Pick(r, tpm2.RSADecrypt{Scheme: tpm2.AlgNull}, tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}, tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: r.Hash()}), true
	case tpm2.ECCScheme:
		return r.eccScheme(), true
	case tpm2.SigScheme:
		return r.sigScheme(), true
	case tpm2.KDFScheme:
		return Pick(r, tpm2.KDFScheme{Scheme: tpm2.AlgNull}, tpm2.KDFScheme{Scheme: r.kdf(), HashAlg: r.Hash()}), true
	case tpm2.KeyedHashScheme:
		return r.keyedHashScheme(), true
	}
	return nil, false
}

func (r Source) sym(null bool) tpm2.SymDefObject {
	if null && r.IntN(2) == 0 {
		return tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	}
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: Pick[uint16](r, 128, 192, 256), Mode: Pick(r, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB)}
}

func (r Source) rsaScheme() tpm2.RSAScheme {
	s := tpm2.RSAScheme{Scheme: Pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP, tpm2.AlgNull)}
	if s.Scheme != tpm2.AlgNull && s.Scheme != tpm2.AlgRSAES {
		s.HashAlg = r.Hash()
	}
	return s
}

func (r Source) eccScheme() tpm2.ECCScheme {
	s := tpm2.ECCScheme{Scheme: Pick(r, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECDH, tpm2.AlgECMQV, tpm2.AlgNull)}
	if s.Scheme != tpm2.AlgNull {
		s.HashAlg = r.Hash()
	}
	if s.Scheme == tpm2.AlgECDAA {
		s.Count = uint16(r.Uint32())
	}
	return s
}

func (r Source) sigScheme() tpm2.SigScheme {
	s := tpm2.SigScheme{Scheme: Pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgHMAC, tpm2.AlgNull)}
	if s.Scheme != tpm2.AlgNull {
		s.HashAlg = r.Hash()
	}
	if s.Scheme == tpm2.AlgECDAA {
		s.Count = uint16(r.Uint32())
	}
	return s
}

func (r Source) keyedHashScheme() tpm2.KeyedHashScheme {
	return Pick(r, tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: r.Hash()}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgXOR, HashAlg: r.Hash(), KDF: r.kdf()})
}

func (r Source) objectAttributes() tpm2.ObjectAttributes {
	return tpm2.ObjectAttributes(r.Uint32()) & (tpm2.AttrFixedTPM | tpm2.AttrSTClear | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth |
		tpm2.AttrAdminWithPolicy | tpm2.AttrNoDA | tpm2.AttrEncryptedDuplication | tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrSign)
}

// Classic makes a TPMT_PUBLIC of a type that versions before 1.85 have.
func (r Source) Classic() *tpm2.Public {
	return r.public(Pick(r, tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher))
}

// Public makes a TPMT_PUBLIC of any type.
func (r Source) Public() *tpm2.Public {
	return r.public(Pick(r, tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher, tpm2.AlgMLKEM, tpm2.AlgMLDSA, tpm2.AlgHashMLDSA))
}

func (r Source) public(t tpm2.Alg) *tpm2.Public {
	p := &tpm2.Public{Type: t, NameAlg: r.Hash(), Attributes: r.objectAttributes()}
	p.AuthPolicy = Pick(r, []byte{}, r.Bytes(p.NameAlg.DigestSize()))
	m, u := &p.Parameters, &p.Unique
	switch p.Type {
	case tpm2.AlgRSA:
		m.RSA = tpm2.RSAParms{Symmetric: r.sym(true), Scheme: r.rsaScheme(), KeyBits: Pick[uint16](r, 1024, 2048, 3072, 4096), Exponent: r.Uint32()}
		u.RSA = r.UpTo(tpm2.MaxRSAKeyBytes)
	case tpm2.AlgECC:
		m.ECC = tpm2.ECCParms{Symmetric: r.sym(true), Scheme: r.eccScheme(), CurveID: r.Curve()}
		r.Fill(&m.ECC.KDF)
		u.ECC = tpm2.ECCPoint{X: r.UpTo(tpm2.MaxECCKeyBytes), Y: r.UpTo(tpm2.MaxECCKeyBytes)}
	case tpm2.AlgKeyedHash:
		m.KeyedHash = r.keyedHashScheme()
		u.Digest = r.UpTo(tpm2.MaxDigest)
	case tpm2.AlgSymCipher:
		m.SymCipher = r.sym(false)
		u.Digest = r.UpTo(tpm2.MaxDigest)
	case tpm2.AlgMLKEM:
		m.MLKEM = tpm2.MLKEMParms{Symmetric: r.sym(true), ParameterSet: Pick(r, tpm2.MLKEM512, tpm2.MLKEM768, tpm2.MLKEM1024)}
		u.MLKEM = r.UpTo(tpm2.MaxMLKEMPublic)
	case tpm2.AlgMLDSA:
		m.MLDSA = tpm2.MLDSAParms{ParameterSet: Pick(r, tpm2.MLDSA44, tpm2.MLDSA65, tpm2.MLDSA87), AllowExternalMu: r.IntN(2) == 0}
		u.MLDSA = r.UpTo(tpm2.MaxMLDSAPublic)
	case tpm2.AlgHashMLDSA:
		m.MLDSA = tpm2.MLDSAParms{ParameterSet: Pick(r, tpm2.MLDSA44, tpm2.MLDSA65, tpm2.MLDSA87), HashAlg: r.Hash()}
		u.MLDSA = r.UpTo(tpm2.MaxMLDSAPublic)
	}
	return p
}

// Sensitive makes a TPMT_SENSITIVE.
func (r Source) Sensitive() *tpm2.Sensitive {
	s := &tpm2.Sensitive{Type: Pick(r, tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher, tpm2.AlgMLKEM, tpm2.AlgMLDSA)}
	s.AuthValue, s.SeedValue, s.Bits = r.UpTo(tpm2.MaxDigest), r.UpTo(tpm2.MaxDigest), r.UpTo(32)
	return s
}

// ClockInfo makes a TPMS_CLOCK_INFO.
func (r Source) ClockInfo() (i tpm2.ClockInfo) {
	r.Fill(&i)
	return i
}

// Selections makes the elements of a TPML_PCR_SELECTION.
func (r Source) Selections() []tpm2.PCRSelection {
	l := make([]tpm2.PCRSelection, r.IntN(5))
	for i := range l {
		l[i].Hash = r.Hash()
		copy(l[i].Select[:], r.Bytes(len(l[i].Select)))
	}
	return l
}

// Attest makes a TPMS_ATTEST.
func (r Source) Attest() *tpm2.Attest {
	a := &tpm2.Attest{
		Type:            Pick(r, tpm2.AttestNV, tpm2.AttestCommandAudit, tpm2.AttestSessionAudit, tpm2.AttestCertify, tpm2.AttestQuote, tpm2.AttestTime, tpm2.AttestCreation, tpm2.AttestNVDigest),
		QualifiedSigner: r.UpTo(tpm2.MaxName), ExtraData: r.UpTo(tpm2.MaxData), ClockInfo: r.ClockInfo(), FirmwareVersion: r.Uint64(),
	}
	t := &a.Attested
	switch a.Type {
	case tpm2.AttestNV:
		t.NV = tpm2.NVCertifyInfo{IndexName: r.UpTo(tpm2.MaxName), Offset: uint16(r.Uint32()), NVContents: r.UpTo(tpm2.MaxNVBuffer)}
	case tpm2.AttestQuote:
		t.Quote = tpm2.QuoteInfo{PCRSelect: r.Selections(), PCRDigest: r.UpTo(tpm2.MaxDigest)}
	case tpm2.AttestCommandAudit:
		r.Fill(&t.CommandAudit)
	case tpm2.AttestSessionAudit:
		r.Fill(&t.SessionAudit)
	case tpm2.AttestCertify:
		r.Fill(&t.Certify)
	case tpm2.AttestTime:
		r.Fill(&t.Time)
	case tpm2.AttestCreation:
		r.Fill(&t.Creation)
	case tpm2.AttestNVDigest:
		r.Fill(&t.NVDigest)
	}
	return a
}

// Signature makes a TPMT_SIGNATURE that is no null.
func (r Source) Signature() *tpm2.Signature {
	return r.signature(Pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgHMAC, tpm2.AlgMLDSA, tpm2.AlgHashMLDSA))
}

// ClassicSignature makes a TPMT_SIGNATURE by a scheme that versions before 1.85 have.
func (r Source) ClassicSignature() *tpm2.Signature {
	return r.signature(Pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgHMAC))
}

func (r Source) signature(a tpm2.Alg) *tpm2.Signature {
	s := &tpm2.Signature{SigAlg: a}
	if s.SigAlg != tpm2.AlgMLDSA {
		s.Hash = r.Hash()
	}
	switch s.SigAlg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		s.RSA = r.UpTo(tpm2.MaxRSAKeyBytes)
	case tpm2.AlgHMAC:
		s.HMAC = r.Bytes(s.Hash.DigestSize())
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		s.MLDSA = r.UpTo(tpm2.MaxMLDSASignature)
	default:
		s.R, s.S = r.UpTo(tpm2.MaxECCKeyBytes), r.UpTo(tpm2.MaxECCKeyBytes)
	}
	return s
}

func (r Source) nvAttributes() tpm2.NVAttributes {
	return tpm2.NVAttributes(r.Uint32()) &^ (0x3<<8 | 0x1f<<20)
}

func (r Source) nvPublic(kind tpm2.HandleKind) tpm2.NVPublic {
	return tpm2.NVPublic{
		NVIndex: kind.First() + tpm2.Handle(r.IntN(1<<24)), NameAlg: r.Hash(), Attributes: r.nvAttributes(),
		AuthPolicy: r.UpTo(tpm2.MaxDigest), DataSize: uint16(r.IntN(tpm2.MaxNVIndex + 1)),
	}
}

func (r Source) nvPublicExp() tpm2.NVPublicExp {
	p := r.nvPublic(tpm2.KindExternalNV)
	return tpm2.NVPublicExp{
		NVIndex: p.NVIndex, NameAlg: p.NameAlg, Attributes: tpm2.NVExpAttributes(p.Attributes) | tpm2.NVExpAttributes(r.IntN(8))<<32,
		AuthPolicy: p.AuthPolicy, DataSize: p.DataSize,
	}
}

func (r Source) nvPublic2() tpm2.NVPublic2 {
	p := tpm2.NVPublic2{HandleType: Pick(r, tpm2.KindNVIndex, tpm2.KindExternalNV, tpm2.KindPermanentNV)}
	if p.HandleType == tpm2.KindExternalNV {
		p.External = r.nvPublicExp()
	} else {
		p.Public = r.nvPublic(p.HandleType)
	}
	return p
}

// capabilityData fills the one member that the capability selects.
func (r Source) capabilityData() tpm2.CapabilityData {
	d := tpm2.CapabilityData{}
	r.Fill(&d.Capability)
	member := map[tpm2.Capability]any{
		tpm2.CapAlgs: &d.Algorithms, tpm2.CapHandles: &d.Handles, tpm2.CapCommands: &d.Commands,
		tpm2.CapPPCommands: &d.CommandCodes, tpm2.CapAuditCommands: &d.CommandCodes, tpm2.CapPCRs: &d.AssignedPCR,
		tpm2.CapTPMProperties: &d.Properties, tpm2.CapPCRProperties: &d.PCRProperties, tpm2.CapECCCurves: &d.ECCCurves,
		tpm2.CapAuthPolicies: &d.AuthPolicies, tpm2.CapACT: &d.ACTData, tpm2.CapPubKeys: &d.PubKeys, tpm2.CapSPDMSessionInfo: &d.SPDMSessions,
	}
	r.Fill(member[d.Capability])
	return d
}
