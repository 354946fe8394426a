package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// with returns the template changed by f.
func changed(p tpm2.Public, f func(p *tpm2.Public)) tpm2.Public {
	f(&p)
	return p
}

const (
	signing    = fixed | ordinary | tpm2.AttrSign
	decrypting = fixed | ordinary | tpm2.AttrDecrypt
	storing    = fixed | ordinary | storageUse
	sealing    = fixed | tpm2.AttrUserWithAuth
)

// badTemplates have one fault each, which CreatePrimary and Create find.
var badTemplates = map[string]struct {
	template tpm2.Public
	data     string
	want     tpm2.RC
}{
	"no data for sealing":            {keyedHashTemplate(sealing), "", parameterRC(tpm2.RCAttributes, 2)},
	"the TPM seals its own":          {keyedHashTemplate(sealing | ordinary), "", parameterRC(tpm2.RCAttributes, 2)},
	"fixed parent from outside":      {symTemplate(storing &^ tpm2.AttrSensitiveDataOrigin), "0123456789abcdef", parameterRC(tpm2.RCAttributes, 2)},
	"ECC key from outside":           {eccTemplate(signing &^ tpm2.AttrSensitiveDataOrigin), "0123456789abcdef", parameterRC(tpm2.RCAttributes, 2)},
	"fixedTPM without fixedParent":   {eccTemplate(signing &^ tpm2.AttrFixedParent), "", parameterRC(tpm2.RCAttributes, 2)},
	"fixedParent without fixedTPM":   {eccTemplate(signing &^ tpm2.AttrFixedTPM), "", parameterRC(tpm2.RCAttributes, 2)},
	"restricted for two uses":        {eccTemplate(storing | tpm2.AttrSign), "", parameterRC(tpm2.RCAttributes, 2)},
	"restricted for no use":          {eccTemplate(fixed | ordinary | tpm2.AttrRestricted), "", parameterRC(tpm2.RCAttributes, 2)},
	"asymmetric for no use":          {rsaTemplate(fixed | ordinary), "", parameterRC(tpm2.RCAttributes, 2)},
	"fixedTPM with encrypted copies": {eccTemplate(signing | tpm2.AttrEncryptedDuplication), "", parameterRC(tpm2.RCAttributes, 2)},
	"limited to a firmware":          {eccTemplate(signing | tpm2.AttrFirmwareLimited), "", parameterRC(tpm2.RCAttributes, 2)},
	"limited to a version":           {eccTemplate(signing | tpm2.AttrSVNLimited), "", parameterRC(tpm2.RCAttributes, 2)},
	"CMAC key that decrypts": {changed(symTemplate(decrypting), func(p *tpm2.Public) {
		p.Parameters.SymCipher.Mode = tpm2.AlgCMAC
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"sealed data with a scheme": {changed(keyedHashTemplate(sealing), func(p *tpm2.Public) {
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	}), "data", parameterRC(tpm2.RCScheme, 2)},
	"HMAC key that decrypts, too": {changed(keyedHashTemplate(signing|tpm2.AttrDecrypt), func(p *tpm2.Public) {
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"XOR key that signs": {changed(keyedHashTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgXOR, HashAlg: tpm2.AlgSHA256, KDF: tpm2.AlgKDFa}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"HMAC key that decrypts": {changed(keyedHashTemplate(decrypting), func(p *tpm2.Public) {
		p.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"derivation by another KDF": {changed(keyedHashTemplate(storing), func(p *tpm2.Public) {
		p.Parameters.KeyedHash.KDF = tpm2.AlgKDF2
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"RSA key for two uses with a scheme": {changed(rsaTemplate(signing|tpm2.AttrDecrypt), func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"RSA key that signs by OAEP": {changed(rsaTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"ECC key that signs by ECDH": {changed(eccTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDH, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"restricted signer without scheme": {eccTemplate(signing | tpm2.AttrRestricted), "", parameterRC(tpm2.RCScheme, 2)},
	"ECC key that decrypts by ECDSA": {changed(eccTemplate(decrypting), func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"RSA key that decrypts by RSASSA": {changed(rsaTemplate(decrypting), func(p *tpm2.Public) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"parent with a scheme": {changed(eccTemplate(storing), func(p *tpm2.Public) {
		p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDH, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCScheme, 2)},
	"signer with a symmetric algorithm": {changed(eccTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.ECC.Symmetric = aesCFB(128)
	}), "", parameterRC(tpm2.RCSymmetric, 2)},
	"parent without a symmetric algorithm": {changed(eccTemplate(storing), func(p *tpm2.Public) {
		p.Parameters.ECC.Symmetric = noSymmetric
	}), "", parameterRC(tpm2.RCSymmetric, 2)},
	"ECC key with a KDF": {changed(eccTemplate(decrypting), func(p *tpm2.Public) {
		p.Parameters.ECC.KDF = tpm2.KDFScheme{Scheme: tpm2.AlgKDF1, HashAlg: tpm2.AlgSHA256}
	}), "", parameterRC(tpm2.RCKDF, 2)},
	"RSA exponent below 65537": {changed(rsaTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.RSA.Exponent = 3
	}), "", tpm2.RCRange},
	"RSA exponent that is no prime": {changed(rsaTemplate(signing), func(p *tpm2.Public) {
		p.Parameters.RSA.Exponent = 65541
	}), "", tpm2.RCRange},
	"HMAC key longer than a block": {
		keyedHashTemplate(signing &^ tpm2.AttrSensitiveDataOrigin), "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef!", tpm2.RCSize,
	},
	"AES key of another size": {symTemplate(decrypting &^ tpm2.AttrSensitiveDataOrigin), "short", tpm2.RCKeySize},
}

func TestTemplatesWithOneFaultAreRefused(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	for name, tc := range badTemplates {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			sensitive := tpm2.SensitiveCreate{Data: []byte(tc.data)}
			m.fails(tc.want, tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""),
				&command.CreatePrimaryIn{InPublic: tc.template, InSensitive: sensitive})
			m.fails(tc.want, tpm2.CCCreate, handles(srk), password(""), &command.CreateIn{InPublic: tc.template, InSensitive: sensitive})
			b, err := wire.Encode(&tc.template)
			if err != nil {
				t.Fatal(err)
			}
			m.fails(tc.want, tpm2.CCCreateLoaded, handles(tpm2.HandleOwner), password(""), &command.CreateLoadedIn{InPublic: b, InSensitive: sensitive})
		})
	}
}

// patched encodes the parameters of a command and replaces old in them.
func (m *machine) patched(in wire.Layout, old, with []byte) *raw {
	m.Helper()
	b, err := wire.Encode(in)
	if err != nil {
		m.Fatal(err)
	}
	if bytes.Count(b, old) != 1 {
		m.Fatalf("%x is %d times in %x, want once", old, bytes.Count(b, old), b)
	}
	r := raw(bytes.Replace(b, old, with, 1))
	return &r
}

func TestTemplatesThatDoNotDecodeAreRefused(t *testing.T) {
	m := newMachine(t)
	template := eccTemplate(signing)
	template.AuthPolicy = make([]byte, 32)
	in := &command.CreatePrimaryIn{InPublic: template}
	for name, tc := range map[string]struct {
		old, with []byte
		want      tpm2.RC
	}{
		"no Name algorithm":  {[]byte{0, 0x23, 0, 0x0b}, []byte{0, 0x23, 0, 0x10}, tpm2.RCHash},
		"SM3":                {[]byte{0, 0x23, 0, 0x0b}, []byte{0, 0x23, 0, 0x12}, tpm2.RCHash},
		"unknown type":       {[]byte{0, 0x23, 0, 0x0b}, []byte{0, 0x24, 0, 0x0b}, tpm2.RCType},
		"policy of SHA-384":  {[]byte{0, 0x23, 0, 0x0b}, []byte{0, 0x23, 0, 0x0c}, tpm2.RCSize},
		"reserved attribute": {[]byte{0, 0x23, 0, 0x0b, 0}, []byte{0, 0x23, 0, 0x0b, 0x80}, tpm2.RCReservedBits},
		"P-224":              {[]byte{0, 0x10, 0, 3, 0, 0x10}, []byte{0, 0x10, 0, 2, 0, 0x10}, tpm2.RCCurve},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(parameterRC(tc.want, 2), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), m.patched(in, tc.old, tc.with))
		})
	}
}

// CVE-2025-2884: the reference read beyond its buffers when a keyed hash key was
// used with an asymmetric scheme. Such a key cannot be made or loaded.
func TestCVE20252884KeyedHashWithAsymmetricScheme(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	template := keyedHashTemplate(signing)
	hmac := []byte{0, 5, 0, 0x0b}
	for name, scheme := range map[string]tpm2.Alg{
		"RSASSA": tpm2.AlgRSASSA, "RSAPSS": tpm2.AlgRSAPSS, "RSAES": tpm2.AlgRSAES, "OAEP": tpm2.AlgOAEP,
		"ECDSA": tpm2.AlgECDSA, "ECDAA": tpm2.AlgECDAA, "ECSchnorr": tpm2.AlgECSchnorr, "ECDH": tpm2.AlgECDH,
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			with := []byte{byte(scheme >> 8), byte(scheme), 0, 0x0b}
			want := parameterRC(tpm2.RCValue, 2)
			m.fails(want, tpm2.CCCreate, handles(srk), password(""), m.patched(&command.CreateIn{InPublic: template}, hmac, with))
			m.fails(want, tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), m.patched(&command.CreatePrimaryIn{InPublic: template}, hmac, with))
			m.fails(want, tpm2.CCLoadExternal, nil, nil,
				m.patched(&command.LoadExternalIn{InPublic: template, Hierarchy: tpm2.HandleNull}, hmac, with))
		})
	}
}

func TestCreatePrimaryChecksItsSurroundings(t *testing.T) {
	m := newMachine(t)
	long := &command.CreatePrimaryIn{InPublic: eccTemplate(signing), InSensitive: tpm2.SensitiveCreate{UserAuth: bytes.Repeat([]byte{1}, 33)}}
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), long)
	// Trailing zeros do not count.
	padded := &command.CreatePrimaryIn{InPublic: eccTemplate(signing), InSensitive: tpm2.SensitiveCreate{UserAuth: append([]byte("x"), make([]byte, 40)...)}}
	m.do(tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), padded, nil)
	in := &command.CreatePrimaryIn{InPublic: eccTemplate(signing)}
	m.storage("")
	m.storage("")
	m.fails(tpm2.RCObjectMemory, tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), in)
	m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password("x"), in)
	m.do(tpm2.CCHierarchyControl, handles(tpm2.HandleOwner), password(""),
		&command.HierarchyControlIn{Enable: tpm2.HandleOwner, State: false}, nil)
	m.fails(handleRC(tpm2.RCHierarchy, 1), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), in)
}

func TestChildrenMustFitTheirParent(t *testing.T) {
	const loose = ordinary | storageUse // can be duplicated
	m := newMachine(t)
	srk := m.storage("")
	open := m.primary(tpm2.HandleOwner, eccTemplate(loose), "")
	leaf := m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
	m.fails(handleRC(tpm2.RCType, 1), tpm2.CCCreate, handles(leaf), password(""), &command.CreateIn{InPublic: eccTemplate(signing)})
	m.fails(tpm2.RCObjectMemory, tpm2.CCCreate, handles(srk), password(""), &command.CreateIn{InPublic: eccTemplate(signing)})
	m.flush(leaf)
	for name, tc := range map[string]struct {
		parent   tpm2.Handle
		template tpm2.Public
		data     string
		want     tpm2.RC
	}{
		"the TPM makes it, yet there is data":  {srk, eccTemplate(signing), "data", parameterRC(tpm2.RCAttributes, 2)},
		"fixedTPM under one that is not":       {open, eccTemplate(signing), "", parameterRC(tpm2.RCAttributes, 2)},
		"encrypted copies under one without":   {open, eccTemplate(ordinary | tpm2.AttrSign | tpm2.AttrEncryptedDuplication), "", parameterRC(tpm2.RCAttributes, 2)},
		"parent hashes otherwise than its own": {srk, changed(eccTemplate(storing), func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA384 }), "", parameterRC(tpm2.RCHash, 2)},
		"parent protects otherwise than its own": {srk, changed(eccTemplate(storing), func(p *tpm2.Public) {
			p.Parameters.ECC.Symmetric = aesCFB(256)
		}), "", parameterRC(tpm2.RCSymmetric, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(tc.want, tpm2.CCCreate, handles(tc.parent), password(""),
				&command.CreateIn{InPublic: tc.template, InSensitive: tpm2.SensitiveCreate{Data: []byte(tc.data)}})
		})
	}
	m.in(t)
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCCreate, handles(srk), password(""),
		&command.CreateIn{InPublic: eccTemplate(signing), InSensitive: tpm2.SensitiveCreate{UserAuth: bytes.Repeat([]byte{1}, 33)}})
	// What can be duplicated may hash and protect as it likes.
	m.create(srk, changed(eccTemplate(loose), func(p *tpm2.Public) {
		p.NameAlg, p.Parameters.ECC.Symmetric = tpm2.AlgSHA384, aesCFB(256)
	}), "", "")
}
