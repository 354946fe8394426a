package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Templates of objects.

const (
	ordinary   = tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth
	fixed      = tpm2.AttrFixedTPM | tpm2.AttrFixedParent
	storageUse = tpm2.AttrRestricted | tpm2.AttrDecrypt
)

var noSymmetric = tpm2.SymDefObject{Algorithm: tpm2.AlgNull}

// aesCFB is what storage parents here protect with.
func aesCFB(bits uint16) tpm2.SymDefObject {
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: bits, Mode: tpm2.AlgCFB}
}

// eccTemplate is an ECC key on P-256 without a scheme.
func eccTemplate(a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: noSymmetric, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull},
		CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	if a.Has(storageUse) {
		p.Parameters.ECC.Symmetric = aesCFB(128)
	}
	return p
}

// rsaTemplate is an RSA key of 2048 bits without a scheme.
func rsaTemplate(a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.RSA = tpm2.RSAParms{Symmetric: noSymmetric, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048}
	if a.Has(storageUse) {
		p.Parameters.RSA.Symmetric = aesCFB(128)
	}
	return p
}

// keyedHashTemplate is a keyed hash object: sealed data without sign and decrypt,
// an HMAC key with sign, an XOR key, or derivation parent, with decrypt.
func keyedHashTemplate(a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: a}
	s := &p.Parameters.KeyedHash
	switch s.Scheme = tpm2.AlgNull; a & (tpm2.AttrSign | tpm2.AttrDecrypt) {
	case tpm2.AttrSign:
		s.Scheme, s.HashAlg = tpm2.AlgHMAC, tpm2.AlgSHA256
	case tpm2.AttrDecrypt:
		s.Scheme, s.HashAlg, s.KDF = tpm2.AlgXOR, tpm2.AlgSHA256, tpm2.AlgKDFa
	}
	return p
}

// symTemplate is an AES key.
func symTemplate(a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgSymCipher, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.SymCipher = aesCFB(128)
	return p
}

// primary creates a primary object and returns its handle.
func (m *machine) primary(h tpm2.Handle, template tpm2.Public, auth string) tpm2.Handle {
	m.Helper()
	in := &command.CreatePrimaryIn{InPublic: template, InSensitive: tpm2.SensitiveCreate{UserAuth: []byte(auth)}}
	m.do(tpm2.CCCreatePrimary, handles(h), password(""), in, nil)
	return m.handle
}

// storage creates the ECC storage root key with an authValue.
func (m *machine) storage(auth string) tpm2.Handle {
	m.Helper()
	return m.primary(tpm2.HandleOwner, eccTemplate(fixed|ordinary|storageUse|tpm2.AttrNoDA), auth)
}

// create creates an object under a parent whose authValue is empty.
func (m *machine) create(parent tpm2.Handle, template tpm2.Public, auth, data string) *command.CreateOut {
	m.Helper()
	in := &command.CreateIn{InPublic: template, InSensitive: tpm2.SensitiveCreate{UserAuth: []byte(auth), Data: []byte(data)}}
	out := new(command.CreateOut)
	m.do(tpm2.CCCreate, handles(parent), password(""), in, out)
	return out
}

// load loads what create returned.
func (m *machine) load(parent tpm2.Handle, o *command.CreateOut) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCLoad, handles(parent), password(""), &command.LoadIn{InPrivate: o.OutPrivate, InPublic: o.OutPublic}, nil)
	return m.handle
}

// child creates an object under a parent whose authValue is empty, and loads it.
func (m *machine) child(parent tpm2.Handle, template tpm2.Public, auth, data string) tpm2.Handle {
	m.Helper()
	return m.load(parent, m.create(parent, template, auth, data))
}

func TestSealedDataComesBack(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	item := m.child(srk, keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "open", "sesame")
	var out command.UnsealOut
	m.do(tpm2.CCUnseal, handles(item), password("open"), nil, &out)
	if !bytes.Equal(out.OutData, []byte("sesame")) {
		t.Errorf("Unseal = %q, want %q", out.OutData, "sesame")
	}
	m.fails(sessionRC(tpm2.RCAuthFail, 1), tpm2.CCUnseal, handles(item), password("wrong"), nil)
}
