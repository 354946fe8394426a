package engine_test

import (
	"bytes"
	"crypto/mlkem"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// newPostQuantum returns a machine with a TPM that has the commands of version 1.85.
func newPostQuantum(t testing.TB) *machine {
	t.Helper()
	m := manufacture(t, "post-quantum")
	m.startup(tpm2.StartupClear)
	return m
}

// mlkemTemplate is an ML-KEM key.
func mlkemTemplate(set tpm2.MLKEMSet, a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgMLKEM, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.MLKEM = tpm2.MLKEMParms{Symmetric: noSymmetric, ParameterSet: set}
	if a.Has(storageUse) {
		p.Parameters.MLKEM.Symmetric = aesCFB(128)
	}
	return p
}

// kem makes a shared secret for a public key by Go's ML-KEM.
func kem(t testing.TB, p *tpm2.Public) (secret, ciphertext []byte) {
	t.Helper()
	var ek interface {
		Encapsulate() (secret, ciphertext []byte)
	}
	var err error
	if p.Parameters.MLKEM.ParameterSet == tpm2.MLKEM768 {
		ek, err = mlkem.NewEncapsulationKey768(p.Unique.MLKEM)
	} else {
		ek, err = mlkem.NewEncapsulationKey1024(p.Unique.MLKEM)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ek.Encapsulate()
}

// encapsulatedSecret makes a secret for an ML-KEM key (Part 1, 1.85, 47.4).
func (m *machine) encapsulatedSecret(p *tpm2.Public, label string) (data, secret []byte) {
	m.Helper()
	shared, secret := kem(m, p)
	return m.kdfa(p.NameAlg, shared, label, secret, p.Unique.MLKEM, 8*p.NameAlg.DigestSize()), secret
}

func TestEncapsulatedSecretsComeBack(t *testing.T) {
	for set, name := range map[tpm2.MLKEMSet]string{tpm2.MLKEM768: "ML-KEM-768", tpm2.MLKEM1024: "ML-KEM-1024"} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			key := m.primary(tpm2.HandleOwner, mlkemTemplate(set, decrypting), "auth")
			var made command.EncapsulateOut
			m.do(tpm2.CCEncapsulate, handles(key), nil, nil, &made)
			var got command.DecapsulateOut
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: made.Ciphertext}, &got)
			if !bytes.Equal(got.SharedSecret, made.SharedSecret) || len(got.SharedSecret) != 32 {
				t.Errorf("Decapsulate = %x, want %x", got.SharedSecret, made.SharedSecret)
			}
			secret, ciphertext := kem(t, m.public(key))
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext}, &got)
			if !bytes.Equal(got.SharedSecret, secret) {
				t.Errorf("Decapsulate = %x, want %x", got.SharedSecret, secret)
			}
			ciphertext[0] ^= 1
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext}, &got)
			if bytes.Equal(got.SharedSecret, secret) {
				t.Error("a changed ciphertext gives the same secret")
			}
			m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext[1:]})
			m.fails(sessionRC(tpm2.RCAuthFail, 1), tpm2.CCDecapsulate, handles(key), password(""), &command.DecapsulateIn{Ciphertext: ciphertext})
		})
	}
}

// An endorsement or storage key of ML-KEM does what one of another type does.
func TestMLKEMKeysProtect(t *testing.T) {
	m := newPostQuantum(t)
	template := mlkemTemplate(tpm2.MLKEM1024, storing)
	parent := m.primary(tpm2.HandleEndorsement, template, "")
	item := m.child(parent, keyedHashTemplate(sealing), "", "secret")
	s := m.session(sessionConfig{symmetric: aes128(), salt: parent})
	var out command.UnsealOut
	m.do(tpm2.CCUnseal, handles(item), s.with("", tpm2.SessionEncrypt), nil, &out)
	if string(out.OutData) != "secret" {
		t.Errorf("Unseal under a session with an ML-KEM salt = %q", out.OutData)
	}
	var made command.MakeCredentialOut
	m.do(tpm2.CCMakeCredential, handles(parent), nil, &command.MakeCredentialIn{Credential: []byte("credential"), ObjectName: m.name(item)}, &made)
	var got command.ActivateCredentialOut
	activate := &command.ActivateCredentialIn{CredentialBlob: made.CredentialBlob, Secret: made.Secret}
	m.do(tpm2.CCActivateCredential, handles(item, parent), append(password(""), password("")...), activate, &got)
	if string(got.CertInfo) != "credential" {
		t.Errorf("ActivateCredential = %q", got.CertInfo)
	}
	activate.Secret[7] ^= 1
	m.fails(parameterRC(tpm2.RCIntegrity, 1), tpm2.CCActivateCredential, handles(item, parent), append(password(""), password("")...), activate)
	activate.Secret = activate.Secret[1:]
	m.fails(parameterRC(tpm2.RCSize, 2), tpm2.CCActivateCredential, handles(item, parent), append(password(""), password("")...), activate)
	child := m.child(parent, mlkemTemplate(tpm2.MLKEM768, decrypting), "", "")
	m.do(tpm2.CCEncapsulate, handles(child), nil, nil, nil)
}

func TestMLKEMTemplatesAreRefused(t *testing.T) {
	m := newPostQuantum(t)
	for name, tc := range map[string]struct {
		template tpm2.Public
		want     tpm2.RC
	}{
		"set that is not there": {mlkemTemplate(tpm2.MLKEM512, decrypting), parameterRC(tpm2.RCParms, 2)},
		"no set":                {mlkemTemplate(4, decrypting), parameterRC(tpm2.RCParms, 2)},
		"signing":               {mlkemTemplate(tpm2.MLKEM768, signing), parameterRC(tpm2.RCAttributes, 2)},
		"signing too":           {mlkemTemplate(tpm2.MLKEM768, signing|tpm2.AttrDecrypt), parameterRC(tpm2.RCAttributes, 2)},
		"parent that does not encrypt": {changed(mlkemTemplate(tpm2.MLKEM768, storing), func(p *tpm2.Public) {
			p.Parameters.MLKEM.Symmetric = noSymmetric
		}), parameterRC(tpm2.RCSymmetric, 2)},
		"key that encrypts": {changed(mlkemTemplate(tpm2.MLKEM768, decrypting), func(p *tpm2.Public) {
			p.Parameters.MLKEM.Symmetric = aesCFB(128)
		}), parameterRC(tpm2.RCSymmetric, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			b, err := wire.Encode(&command.CreatePrimaryIn{InPublic: tc.template})
			if tc.template.Parameters.MLKEM.ParameterSet == 4 {
				// Our own encoder refuses it: take another's bytes.
				b, err = wire.Encode(&command.CreatePrimaryIn{InPublic: mlkemTemplate(tpm2.MLKEM768, decrypting)})
				b = bytes.Replace(b, []byte{0, 0x10, 0, 2, 0, 0}, []byte{0, 0x10, 0, 4, 0, 0}, 1)
			}
			if err != nil {
				t.Fatal(err)
			}
			m.fails(tc.want, tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), (*raw)(&b))
		})
	}
	m.in(t)
	m = newMachine(t)
	m.fails(parameterRC(tpm2.RCType, 2), tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: mlkemTemplate(tpm2.MLKEM768, decrypting)})
	for _, cc := range []tpm2.CC{
		tpm2.CCEncapsulate, tpm2.CCDecapsulate, tpm2.CCSignDigest, tpm2.CCVerifyDigestSignature,
		tpm2.CCSignSequenceStart, tpm2.CCSignSequenceComplete, tpm2.CCVerifySequenceStart, tpm2.CCVerifySequenceComplete,
	} {
		m.fails(tpm2.RCCommandCode, cc, nil, nil, nil) // of the default profile
	}
}

// outsideMLKEM is an ML-KEM key that was made without a TPM.
func outsideMLKEM(t testing.TB, a tpm2.ObjectAttributes) *outside {
	t.Helper()
	dk, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{public: mlkemTemplate(tpm2.MLKEM768, a), sensitive: tpm2.Sensitive{Type: tpm2.AlgMLKEM, Bits: dk.Bytes()}}
	o.public.Unique.MLKEM = dk.EncapsulationKey().Bytes()
	return o
}

func TestOutsideMLKEMKeys(t *testing.T) {
	m := newPostQuantum(t)
	good, other := outsideMLKEM(t, usable|tpm2.AttrDecrypt), outsideMLKEM(t, usable|tpm2.AttrDecrypt)
	key := m.external(good)
	secret, ciphertext := kem(t, &good.public)
	var out command.DecapsulateOut
	m.do(tpm2.CCDecapsulate, handles(key), password(""), &command.DecapsulateIn{Ciphertext: ciphertext}, &out)
	if !bytes.Equal(out.SharedSecret, secret) {
		t.Errorf("Decapsulate = %x, want %x", out.SharedSecret, secret)
	}
	m.flush(key)
	for name, tc := range map[string]struct {
		spoil func(in *command.LoadExternalIn)
		want  tpm2.RC
	}{
		"short public":  {func(in *command.LoadExternalIn) { in.InPublic.Unique.MLKEM = good.public.Unique.MLKEM[1:] }, parameterRC(tpm2.RCKey, 2)},
		"another's set": {func(in *command.LoadExternalIn) { in.InPublic.Parameters.MLKEM.ParameterSet = tpm2.MLKEM1024 }, parameterRC(tpm2.RCKey, 2)},
		"no such set":   {func(in *command.LoadExternalIn) { in.InPublic.Parameters.MLKEM.ParameterSet = tpm2.MLKEM512 }, parameterRC(tpm2.RCParms, 2)},
		"coefficients too large": {func(in *command.LoadExternalIn) {
			in.InPublic.Unique.MLKEM = bytes.Repeat([]byte{0xff}, 1184)
		}, parameterRC(tpm2.RCKey, 2)},
		"coefficients too large, public only": {func(in *command.LoadExternalIn) {
			in.InPublic.Unique.MLKEM, in.InPrivate.Sensitive = bytes.Repeat([]byte{0xff}, 1184), nil
		}, parameterRC(tpm2.RCKey, 2)},
		"another's public": {func(in *command.LoadExternalIn) { in.InPublic.Unique = other.public.Unique }, tpm2.RCBinding},
		"short seed":       {func(in *command.LoadExternalIn) { in.InPrivate.Sensitive.Bits = good.sensitive.Bits[1:] }, parameterRC(tpm2.RCKeySize, 1)},
		"another type":     {func(in *command.LoadExternalIn) { in.InPrivate.Sensitive.Type = tpm2.AlgKeyedHash }, parameterRC(tpm2.RCType, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			in := good.clone().external()
			tc.spoil(in)
			m.fails(tc.want, tpm2.CCLoadExternal, nil, nil, in)
		})
	}
	m.in(t)
	public := m.loadPublic(good.public)
	m.do(tpm2.CCEncapsulate, handles(public), nil, nil, nil)
	m.fails(tpm2.RCAuthUnavailable.Of(tpm2.RCSession, 1), tpm2.CCDecapsulate, handles(public), password(""), &command.DecapsulateIn{Ciphertext: ciphertext})
	m.flush(public)
	ecc := m.external(outsideECC(t, bothUses))
	m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCEncapsulate, handles(ecc), nil, nil)
	m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCDecapsulate, handles(ecc), password(""), &command.DecapsulateIn{Ciphertext: ciphertext})
	storage := m.primary(tpm2.HandleOwner, mlkemTemplate(tpm2.MLKEM768, storing), "")
	m.do(tpm2.CCEncapsulate, handles(storage), nil, nil, nil) // attributes do not matter
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCDecapsulate, handles(storage), password(""), &command.DecapsulateIn{Ciphertext: ciphertext})
}

func TestMLKEMKeysAreSavedAndTold(t *testing.T) {
	m := newPostQuantum(t)
	key := m.primary(tpm2.HandleOwner, mlkemTemplate(tpm2.MLKEM1024, decrypting), "")
	secret, ciphertext := kem(t, m.public(key))
	saved := m.save(key)
	m.flush(key)
	key = m.loadContext(saved)
	m.do(tpm2.CCEvictControl, handles(tpm2.HandleOwner, key), password(""), &command.EvictControlIn{PersistentHandle: 0x81000001}, nil)
	for _, h := range []tpm2.Handle{key, 0x81000001} {
		var out command.DecapsulateOut
		m.do(tpm2.CCDecapsulate, handles(h), password(""), &command.DecapsulateIn{Ciphertext: ciphertext}, &out)
		if !bytes.Equal(out.SharedSecret, secret) {
			t.Errorf("Decapsulate by %v = %x, want %x", h, out.SharedSecret, secret)
		}
	}
	property := &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTMLParameterSets), PropertyCount: 1}
	var told command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, property, &told)
	if diff := cmp.Diff([]tpm2.TaggedProperty{{Property: tpm2.PTMLParameterSets, Value: 126}}, told.CapabilityData.Properties); diff != "" {
		t.Errorf("parameter sets (-want +got):\n%s", diff)
	}
	newMachine(t).do(tpm2.CCGetCapability, nil, nil, property, &told)
	if len(told.CapabilityData.Properties) != 0 {
		t.Errorf("the default profile tells %v", told.CapabilityData.Properties)
	}
}
