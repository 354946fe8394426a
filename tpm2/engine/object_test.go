package engine_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/google/go-cmp/cmp"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
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

// Names and Qualified Names are what Part 1, 16, says, computed here apart.
func TestNamesAreDigestsOfPublicAreas(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	var parent, child command.ReadPublicOut
	m.do(tpm2.CCReadPublic, handles(srk), nil, nil, &parent)
	leaf := m.child(srk, eccTemplate(fixed|ordinary|tpm2.AttrSign), "", "")
	m.do(tpm2.CCReadPublic, handles(leaf), nil, nil, &child)
	for _, tc := range []struct {
		what  string
		above []byte
		got   command.ReadPublicOut
	}{{"primary", []byte{0x40, 0, 0, 1}, parent}, {"child", parent.QualifiedName, child}} {
		pub := gotpm.BytesAs2B[gotpm.TPMTPublic](mustEncode(t, &tc.got.OutPublic))
		contents, err := pub.Contents()
		if err != nil {
			t.Fatal(err)
		}
		name, err := gotpm.ObjectName(contents)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tc.got.Name, name.Buffer) {
			t.Errorf("Name of the %s = %x, want %x", tc.what, tc.got.Name, name.Buffer)
		}
		sum := sha256.Sum256(append(bytes.Clone(tc.above), name.Buffer...))
		if want := append([]byte{0, 0x0b}, sum[:]...); !bytes.Equal(tc.got.QualifiedName, want) {
			t.Errorf("Qualified Name of the %s = %x, want %x", tc.what, tc.got.QualifiedName, want)
		}
	}
}

func mustEncode(t testing.TB, v wire.Layout) []byte {
	t.Helper()
	b, err := wire.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCreationDataTellsTheCircumstances(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	m.do(tpm2.CCPCRExtend, handles(7), password(""), &command.PCRExtendIn{
		Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: bytes.Repeat([]byte{1}, 32)}},
	}, nil)
	m.locality = 3
	in := &command.CreateIn{
		InPublic: eccTemplate(fixed | ordinary | tpm2.AttrSign), OutsideInfo: []byte("outside"),
		CreationPCR: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 7)}, {Hash: tpm2.AlgSHA3x256, Select: tpm2.SelectPCRs(1)}},
	}
	var out command.CreateOut
	m.do(tpm2.CCCreate, handles(srk), password(""), in, &out)
	var parent command.ReadPublicOut
	m.do(tpm2.CCReadPublic, handles(srk), nil, nil, &parent)
	pcr7 := sha256.Sum256(append(make([]byte, 32), bytes.Repeat([]byte{1}, 32)...))
	pcrs := sha256.Sum256(append(make([]byte, 32), pcr7[:]...))
	want := tpm2.CreationData{
		// The bank of SHA3-256 is not allocated.
		PCRSelect: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 7)}, {Hash: tpm2.AlgSHA3x256}},
		PCRDigest: pcrs[:], Locality: 1 << 3, ParentNameAlg: tpm2.AlgSHA256,
		ParentName: parent.Name, ParentQualifiedName: parent.QualifiedName, OutsideInfo: []byte("outside"),
	}
	if diff := cmp.Diff(want, out.CreationData); diff != "" {
		t.Errorf("creation data (-want +got):\n%s", diff)
	}
	if sum := sha256.Sum256(mustEncode(t, &want)); !bytes.Equal(out.CreationHash, sum[:]) {
		t.Errorf("creation hash = %x, want %x", out.CreationHash, sum)
	}
	if out.CreationTicket.Hierarchy != tpm2.HandleOwner || len(out.CreationTicket.Digest) != 64 {
		t.Errorf("creation ticket = %+v, want one of the owner", out.CreationTicket)
	}
}

// Sealing to PCRs: the policy is computed by go-tpm.
func TestSealedToPCRs(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	policy, err := gotpm.NewPolicyCalculator(gotpm.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	zero := sha256.Sum256(make([]byte, 32))
	selection := gotpm.TPMLPCRSelection{PCRSelections: []gotpm.TPMSPCRSelection{{Hash: gotpm.TPMAlgSHA256, PCRSelect: gotpm.PCClientCompatible.PCRs(7)}}}
	if err := (gotpm.PolicyPCR{PcrDigest: gotpm.TPM2BDigest{Buffer: zero[:]}, Pcrs: selection}).Update(policy); err != nil {
		t.Fatal(err)
	}
	template := keyedHashTemplate(fixed)
	template.AuthPolicy = policy.Hash().Digest
	item := m.child(srk, template, "", "for this boot")
	assert := func() *session {
		s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
		m.do(tpm2.CCPolicyPCR, handles(s.handle), nil, &command.PolicyPCRIn{
			PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(7)}},
		}, nil)
		return s
	}
	s := assert()
	var out command.UnsealOut
	m.do(tpm2.CCUnseal, handles(item), s.with(""), nil, &out)
	if string(out.OutData) != "for this boot" {
		t.Errorf("Unseal = %q", out.OutData)
	}
	m.fails(tpm2.RCAuthUnavailable.Of(tpm2.RCSession, 1), tpm2.CCUnseal, handles(item), password(""), nil)
	s = assert()
	m.do(tpm2.CCPCRExtend, handles(7), password(""), &command.PCRExtendIn{
		Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}},
	}, nil)
	m.fails(sessionRC(tpm2.RCPCRChanged, 1), tpm2.CCUnseal, handles(item), s.with(""), nil)
	m.flush(s.handle)
	m.fails(sessionRC(tpm2.RCPolicyFail, 1), tpm2.CCUnseal, handles(item), assert().with(""), nil)
}

func TestUnsealTakesSealedDataOnly(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	m.fails(handleRC(tpm2.RCType, 1), tpm2.CCUnseal, handles(srk), password(""), nil)
	for _, use := range []tpm2.ObjectAttributes{tpm2.AttrSign, tpm2.AttrDecrypt, storageUse} {
		key := m.child(srk, keyedHashTemplate(fixed|ordinary|use), "", "")
		m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCUnseal, handles(key), password(""), nil)
		m.flush(key)
	}
}

func TestChangedAuthIsInTheNewBlob(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	made := m.create(srk, keyedHashTemplate(sealing), "old", "data")
	item := m.load(srk, made)
	change := &command.ObjectChangeAuthIn{NewAuth: []byte("new\x00\x00")}
	var out command.ObjectChangeAuthOut
	m.do(tpm2.CCObjectChangeAuth, handles(item, srk), password("old"), change, &out)
	m.do(tpm2.CCUnseal, handles(item), password("old"), nil, nil) // the loaded object keeps it
	again := m.load(srk, &command.CreateOut{OutPrivate: out.OutPrivate, OutPublic: made.OutPublic})
	m.do(tpm2.CCUnseal, handles(again), password("new"), nil, nil)
	m.fails(sessionRC(tpm2.RCAuthFail, 1), tpm2.CCUnseal, handles(again), password("old"), nil)
	m.flush(again)

	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCObjectChangeAuth, handles(item, srk), password("old"),
		&command.ObjectChangeAuthIn{NewAuth: bytes.Repeat([]byte{1}, 33)})
	other := m.primary(tpm2.HandleOwner, eccTemplate(storing), "")
	m.fails(handleRC(tpm2.RCType, 2), tpm2.CCObjectChangeAuth, handles(item, other), password("old"), change)
	m.fails(handleRC(tpm2.RCType, 2), tpm2.CCObjectChangeAuth, handles(srk, srk), password(""), change)
}

func TestEncryptedParametersOfCreation(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("parent")
	s := m.session(sessionConfig{symmetric: aes128(), salt: srk})
	in := &command.CreateIn{InPublic: keyedHashTemplate(sealing), InSensitive: tpm2.SensitiveCreate{Data: []byte("data")}}
	var out command.CreateOut
	m.do(tpm2.CCCreate, handles(srk), s.with("parent", tpm2.SessionDecrypt, tpm2.SessionEncrypt), in, &out)
	var named command.LoadOut
	m.do(tpm2.CCLoad, handles(srk), s.with("parent", tpm2.SessionDecrypt, tpm2.SessionEncrypt),
		&command.LoadIn{InPrivate: out.OutPrivate, InPublic: out.OutPublic}, &named)
	if want := m.name(m.handle); !bytes.Equal(named.Name, want) {
		t.Errorf("Name in an encrypted response = %x, want %x", named.Name, want)
	}
	var got command.UnsealOut
	m.do(tpm2.CCUnseal, handles(m.handle), s.with("", tpm2.SessionEncrypt), nil, &got)
	if string(got.OutData) != "data" {
		t.Errorf("Unseal = %q, want data", got.OutData)
	}
}
