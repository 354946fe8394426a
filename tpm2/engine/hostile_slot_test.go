package engine_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

const (
	slotHandle = tpm2.Handle(0x80000000) // of the one slot that is used again
	slotSigner = tpm2.Handle(0x81000003) // a persistent key that attests
)

// slotMachine has its keys in persistent handles, and all slots free.
func slotMachine(t *testing.T) *machine {
	m := newPostQuantum(t)
	m.store(scenePersistent, eccTemplate(storing|tpm2.AttrNoDA))
	m.store(sceneHMACKey, keyedHashTemplate(signing|tpm2.AttrNoDA))
	m.store(slotSigner, restrictedKey())
	return m
}

// A slotFill puts an object into the slot, uses it, and takes it away.
type slotFill func(m *machine)

func slotFills(t *testing.T) map[string]slotFill {
	described := restrictedKey() // a key that an attacker describes: its Name says that it is restricted and fixed
	described.Unique.ECC = outsideECC(t, usable).public.Unique.ECC
	described.Attributes &^= fixed
	return map[string]slotFill{
		"primary key": func(m *machine) { m.primary(tpm2.HandleEndorsement, restrictedKey(), "auth"); m.signs("auth") },
		"child":       func(m *machine) { m.child(scenePersistent, ecdsaKey(), "auth", ""); m.signs("auth") },
		"RSA key":     func(m *machine) { m.external(outsideRSA(t, bothUses)); m.encrypts() },
		"sealed data": func(m *machine) { m.child(scenePersistent, keyedHashTemplate(sealing), "auth", "secret") },
		"storage key": func(m *machine) { m.storage(""); m.create(slotHandle, keyedHashTemplate(sealing), "", "secret") },
		"public part": func(m *machine) { m.loadPublic(described) },
		"saved object": func(m *machine) {
			m.primary(tpm2.HandleOwner, ecdsaKey(), "")
			x := m.save(slotHandle)
			m.flush(slotHandle)
			m.loadContext(x)
		},
		"HMAC":       func(m *machine) { m.macSequence(sceneHMACKey, "auth"); m.update(slotHandle, "auth", "data") },
		"ML-KEM key": func(m *machine) { m.primary(tpm2.HandleOwner, mlkemTemplate(tpm2.MLKEM768, decrypting), "") },
	}
}

// signs has the key in the slot make a signature, which keeps it ready for more.
func (m *machine) signs(auth string) {
	m.Helper()
	m.do(tpm2.CCQuote, handles(slotHandle), password(auth), &command.QuoteIn{InScheme: tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}}, nil)
}

// encrypts has the key in the slot decrypt what it encrypted.
func (m *machine) encrypts() {
	m.Helper()
	oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	var c command.RSAEncryptOut
	m.do(tpm2.CCRSAEncrypt, handles(slotHandle), nil, &command.RSAEncryptIn{Message: []byte("m"), InScheme: oaep}, &c)
	m.do(tpm2.CCRSADecrypt, handles(slotHandle), password(""), &command.RSADecryptIn{CipherText: c.OutData, InScheme: oaep}, nil)
}

// slotEnds are the ways in which an object leaves its slot.
var slotEnds = map[string]func(m *machine){
	"TPM2_FlushContext": func(m *machine) { m.flush(slotHandle) },
	"TPM reset": func(m *machine) {
		m.tpm.PowerOn()
		m.startup(tpm2.StartupClear)
	},
}

// slotSequences start a sequence of each kind.
var slotSequences = map[string]func(m *machine) tpm2.Handle{
	"hash":  func(m *machine) tpm2.Handle { return m.hashSequence(tpm2.AlgSHA256, "") },
	"event": func(m *machine) tpm2.Handle { return m.hashSequence(tpm2.AlgNull, "") },
	"HMAC":  func(m *machine) tpm2.Handle { return m.macSequence(sceneHMACKey, "") },
	"message to sign": func(m *machine) tpm2.Handle {
		m.do(tpm2.CCSignSequenceStart, handles(sceneHMACKey), nil, &command.SignSequenceStartIn{}, nil)
		return m.handle
	},
	"message to verify": func(m *machine) tpm2.Handle { return m.verifying(sceneHMACKey) },
}

// CVE-2026-6726 (TCGVRT0010): the reference gave the slot of a flushed object to a hash
// sequence without clearing it. What it attested of the sequence then told of a key that
// an attacker had described. Here a slot that had any object, used and gone in either way, is
// after the start of a sequence of any kind what it is in a TPM that never had one; and
// what the TPM attests of it names no key.
func TestCVE2026x6726ASlotTellsNothingOfItsLastObject(t *testing.T) {
	for filled, fill := range slotFills(t) {
		for ended, end := range slotEnds {
			for kind, start := range slotSequences {
				t.Run(filled+", "+ended+", "+kind, func(t *testing.T) {
					m := slotMachine(t)
					fresh := m.snapshot()
					fill(m)
					end(m)
					if h, other := start(m), start(fresh); h != slotHandle || other != slotHandle {
						t.Fatalf("sequences are in the slots %v and %v, want %v", h, other, slotHandle)
					}
					if !m.tpm.SameObject(fresh.tpm, slotHandle) {
						t.Error("the slot differs from that of a TPM that had no object in it")
					}
					m.tellsNothing()
				})
			}
		}
	}
}

// tellsNothing checks that the sequence in the slot has no public area, no Name and no
// secret for any command that takes an object.
func (m *machine) tellsNothing() {
	m.Helper()
	m.fails(tpm2.RCSequence, tpm2.CCReadPublic, handles(slotHandle), nil, nil)
	var out command.CertifyOut
	m.do(tpm2.CCCertify, handles(slotHandle, slotSigner), password("", ""), &command.CertifyIn{InScheme: noScheme()}, &out)
	at, err := tpm2.ParseAttest(out.CertifyInfo)
	if err != nil {
		m.Fatal(err)
	}
	if diff := cmp.Diff(tpm2.CertifyInfo{Name: []byte{}, QualifiedName: []byte{}}, at.Attested.Certify); diff != "" {
		m.Errorf("attestation of the sequence (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		cc    tpm2.CC
		h     []tpm2.Handle
		auths []auth
		in    wire.Layout
	}{
		{tpm2.CCUnseal, handles(slotHandle), password(""), nil},
		{tpm2.CCMakeCredential, handles(slotHandle), nil, &command.MakeCredentialIn{Credential: []byte("x"), ObjectName: m.name(slotSigner)}},
		{tpm2.CCActivateCredential, handles(slotHandle, scenePersistent), password("", ""), &command.ActivateCredentialIn{CredentialBlob: make([]byte, 68), Secret: make([]byte, 68)}},
		{tpm2.CCQuote, handles(slotHandle), password(""), &command.QuoteIn{InScheme: noScheme()}},
		{tpm2.CCSign, handles(slotHandle), password(""), signIn(sum())},
		{tpm2.CCRSADecrypt, handles(slotHandle), password(""), &command.RSADecryptIn{CipherText: make([]byte, 256), InScheme: tpm2.RSADecrypt{Scheme: tpm2.AlgNull}}},
		{tpm2.CCECDHKeyGen, handles(slotHandle), nil, nil},
		{tpm2.CCCreate, handles(slotHandle), password(""), &command.CreateIn{InPublic: keyedHashTemplate(sealing), InSensitive: tpm2.SensitiveCreate{Data: []byte("x")}}},
		{tpm2.CCObjectChangeAuth, handles(slotHandle, scenePersistent), password(""), &command.ObjectChangeAuthIn{NewAuth: []byte("new")}},
		{tpm2.CCEvictControl, handles(tpm2.HandleOwner, slotHandle), password(""), &command.EvictControlIn{PersistentHandle: 0x81000005}},
		{tpm2.CCStartAuthSession, handles(slotHandle, tpm2.HandleNull), nil, &command.StartAuthSessionIn{
			NonceCaller: bytes.Repeat([]byte{1}, 16), EncryptedSalt: make([]byte, 256), Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256,
		}},
	} {
		if rc := m.run(c.cc, c.h, c.auths, c.in, nil); rc == tpm2.RCSuccess || rc.Base() == tpm2.RCFailure {
			m.Errorf("%s of a sequence = %v, want a refusal", commandName(c.cc), rc)
		}
	}
}
