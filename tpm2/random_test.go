package tpm2_test

import (
	"math/rand/v2"

	"github.com/assay-project/assay/tpm2"
)

// A source makes random structures that obey Part 2.
type source struct{ *rand.Rand }

func newSource(seed uint64) source { return source{rand.New(rand.NewPCG(seed, 1))} }

func (r source) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r source) upTo(n int) []byte { return r.bytes(r.IntN(n + 1)) }

func pick[T any](r source, of ...T) T { return of[r.IntN(len(of))] }

func (r source) hash() tpm2.Alg {
	return pick(r, tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512)
}

func (r source) kdf() tpm2.Alg {
	return pick(r, tpm2.AlgMGF1, tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa)
}

func (r source) sym(null bool) tpm2.SymDefObject {
	if null && r.IntN(2) == 0 {
		return tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	}
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: pick[uint16](r, 128, 192, 256), Mode: pick(r, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB)}
}

func (r source) public() *tpm2.Public {
	p := &tpm2.Public{Type: pick(r, tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher), NameAlg: r.hash()}
	p.Attributes = tpm2.ObjectAttributes(r.Uint32()) & (tpm2.AttrFixedTPM | tpm2.AttrSTClear | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth |
		tpm2.AttrAdminWithPolicy | tpm2.AttrNoDA | tpm2.AttrEncryptedDuplication | tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrSign)
	p.AuthPolicy = pick(r, []byte{}, r.bytes(p.NameAlg.DigestSize()))
	switch p.Type {
	case tpm2.AlgRSA:
		p.Parameters.RSA = tpm2.RSAParms{Symmetric: r.sym(true), Scheme: r.rsaScheme(), KeyBits: pick[uint16](r, 1024, 2048, 3072, 4096), Exponent: r.Uint32()}
		p.Unique.RSA = r.upTo(tpm2.MaxRSAKeyBytes)
	case tpm2.AlgECC:
		p.Parameters.ECC = tpm2.ECCParms{Symmetric: r.sym(true), Scheme: r.eccScheme(), CurveID: pick(r, tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256, tpm2.CurveSM2P256)}
		p.Parameters.ECC.KDF = tpm2.KDFScheme{Scheme: tpm2.AlgNull}
		if r.IntN(2) == 0 {
			p.Parameters.ECC.KDF = tpm2.KDFScheme{Scheme: r.kdf(), HashAlg: r.hash()}
		}
		p.Unique.ECC = tpm2.ECCPoint{X: r.upTo(tpm2.MaxECCKeyBytes), Y: r.upTo(tpm2.MaxECCKeyBytes)}
	case tpm2.AlgKeyedHash:
		p.Parameters.KeyedHash = pick(r, tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: r.hash()}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgXOR, HashAlg: r.hash(), KDF: r.kdf()})
		p.Unique.Digest = r.upTo(tpm2.MaxDigest)
	case tpm2.AlgSymCipher:
		p.Parameters.SymCipher = r.sym(false)
		p.Unique.Digest = r.upTo(tpm2.MaxDigest)
	}
	return p
}

func (r source) rsaScheme() tpm2.RSAScheme {
	s := tpm2.RSAScheme{Scheme: pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP, tpm2.AlgNull)}
	if s.Scheme != tpm2.AlgNull && s.Scheme != tpm2.AlgRSAES {
		s.HashAlg = r.hash()
	}
	return s
}

func (r source) eccScheme() tpm2.ECCScheme {
	s := tpm2.ECCScheme{Scheme: pick(r, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECDH, tpm2.AlgECMQV, tpm2.AlgNull)}
	if s.Scheme != tpm2.AlgNull {
		s.HashAlg = r.hash()
	}
	if s.Scheme == tpm2.AlgECDAA {
		s.Count = uint16(r.Uint32())
	}
	return s
}

func (r source) clockInfo() tpm2.ClockInfo {
	return tpm2.ClockInfo{Clock: r.Uint64(), ResetCount: r.Uint32(), RestartCount: r.Uint32(), Safe: r.IntN(2) == 0}
}

func (r source) selections() []tpm2.PCRSelection {
	l := make([]tpm2.PCRSelection, r.IntN(5))
	for i := range l {
		l[i].Hash = r.hash()
		copy(l[i].Select[:], r.bytes(3))
	}
	return l
}

func (r source) attest() *tpm2.Attest {
	a := &tpm2.Attest{
		Type:            pick(r, tpm2.AttestNV, tpm2.AttestCommandAudit, tpm2.AttestSessionAudit, tpm2.AttestCertify, tpm2.AttestQuote, tpm2.AttestTime, tpm2.AttestCreation, tpm2.AttestNVDigest),
		QualifiedSigner: r.upTo(tpm2.MaxName), ExtraData: r.upTo(tpm2.MaxData), ClockInfo: r.clockInfo(), FirmwareVersion: r.Uint64(),
	}
	t := &a.Attested
	switch a.Type {
	case tpm2.AttestNV:
		t.NV = tpm2.NVCertifyInfo{IndexName: r.upTo(tpm2.MaxName), Offset: uint16(r.Uint32()), NVContents: r.upTo(tpm2.MaxNVBuffer)}
	case tpm2.AttestCommandAudit:
		t.CommandAudit = tpm2.CommandAuditInfo{AuditCounter: r.Uint64(), DigestAlg: r.hash(), AuditDigest: r.upTo(tpm2.MaxDigest), CommandDigest: r.upTo(tpm2.MaxDigest)}
	case tpm2.AttestSessionAudit:
		t.SessionAudit = tpm2.SessionAuditInfo{ExclusiveSession: r.IntN(2) == 0, SessionDigest: r.upTo(tpm2.MaxDigest)}
	case tpm2.AttestCertify:
		t.Certify = tpm2.CertifyInfo{Name: r.upTo(tpm2.MaxName), QualifiedName: r.upTo(tpm2.MaxName)}
	case tpm2.AttestQuote:
		t.Quote = tpm2.QuoteInfo{PCRSelect: r.selections(), PCRDigest: r.upTo(tpm2.MaxDigest)}
	case tpm2.AttestTime:
		t.Time = tpm2.TimeAttestInfo{Time: tpm2.TimeInfo{Time: r.Uint64(), ClockInfo: r.clockInfo()}, FirmwareVersion: r.Uint64()}
	case tpm2.AttestCreation:
		t.Creation = tpm2.CreationInfo{ObjectName: r.upTo(tpm2.MaxName), CreationHash: r.upTo(tpm2.MaxDigest)}
	case tpm2.AttestNVDigest:
		t.NVDigest = tpm2.NVDigestCertifyInfo{IndexName: r.upTo(tpm2.MaxName), NVDigest: r.upTo(tpm2.MaxDigest)}
	}
	return a
}

func (r source) signature() *tpm2.Signature {
	s := &tpm2.Signature{SigAlg: pick(r, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgHMAC), Hash: r.hash()}
	switch s.SigAlg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		s.RSA = r.upTo(tpm2.MaxRSAKeyBytes)
	case tpm2.AlgHMAC:
		s.HMAC = r.bytes(s.Hash.DigestSize())
	default:
		s.R, s.S = r.upTo(tpm2.MaxECCKeyBytes), r.upTo(tpm2.MaxECCKeyBytes)
	}
	return s
}
