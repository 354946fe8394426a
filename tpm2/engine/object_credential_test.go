package engine_test

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// endorsementKeys are the parents to which credentials are made.
func endorsementKeys() map[string]tpm2.Public {
	p384 := eccTemplate(storing)
	p384.NameAlg, p384.Parameters.ECC.CurveID, p384.Parameters.ECC.Symmetric = tpm2.AlgSHA384, tpm2.CurveNISTP384, aesCFB(256)
	return map[string]tpm2.Public{"RSA-2048": rsaTemplate(storing), "P-256": eccTemplate(storing), "P-384": p384}
}

// A credential that this project's own server side or go-tpm made is activated
// by the TPM, and so is one that another TPM made.
func TestCredentialsAreActivated(t *testing.T) {
	for name, template := range endorsementKeys() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			ek := m.primary(tpm2.HandleEndorsement, template, "")
			ak := m.primary(tpm2.HandleOwner, eccTemplate(signing), "key")
			public, secret := m.public(ek), []byte("sixteen bytes ok")
			made := map[string]*tpm2.Credential{}
			var err error
			if made["server"], err = tpm2.MakeCredential(rand.Reader, public, m.name(ak), secret); err != nil {
				t.Fatal(err)
			}
			kem, err := gotpm.ImportEncapsulationKey(unmarshalPublic(t, public))
			if err != nil {
				t.Fatal(err)
			}
			blob, encrypted, err := gotpm.CreateCredential(rand.Reader, kem, m.name(ak), secret)
			if err != nil {
				t.Fatal(err)
			}
			made["go-tpm"] = &tpm2.Credential{Blob: blob, Secret: encrypted}
			made["TPM"] = anotherMakes(t, public, m.name(ak), secret)
			for by, c := range made {
				in := &command.ActivateCredentialIn{CredentialBlob: c.Blob, Secret: c.Secret}
				var out command.ActivateCredentialOut
				m.do(tpm2.CCActivateCredential, handles(ak, ek), password("key", ""), in, &out)
				if !bytes.Equal(out.CertInfo, secret) {
					t.Errorf("credential of %s = %q, want %q", by, out.CertInfo, secret)
				}
			}
		})
	}
}

func unmarshalPublic(t *testing.T, p *tpm2.Public) *gotpm.TPMTPublic {
	t.Helper()
	out, err := gotpm.Unmarshal[gotpm.TPMTPublic](mustEncode(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// anotherMakes makes a credential with another TPM, which has the public key only.
func anotherMakes(t *testing.T, ek *tpm2.Public, name, secret []byte) *tpm2.Credential {
	t.Helper()
	m := newMachine(t)
	m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: *ek, Hierarchy: tpm2.HandleNull}, nil)
	var out command.MakeCredentialOut
	m.do(tpm2.CCMakeCredential, handles(m.handle), nil, &command.MakeCredentialIn{Credential: secret, ObjectName: name}, &out)
	return &tpm2.Credential{Blob: out.CredentialBlob, Secret: out.Secret}
}

func TestCredentialsWithOneFaultAreRefused(t *testing.T) {
	for name, template := range endorsementKeys() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			ek := m.primary(tpm2.HandleEndorsement, template, "")
			ak := m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
			good, err := tpm2.MakeCredential(rand.Reader, m.public(ek), m.name(ak), []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			try := func(want tpm2.RC, blob, secret []byte, h ...tpm2.Handle) {
				t.Helper()
				m.fails(want, tpm2.CCActivateCredential, h, password("", ""), &command.ActivateCredentialIn{CredentialBlob: blob, Secret: secret})
			}
			for i := 2; i < len(good.Blob); i++ {
				bad := slices.Clone(good.Blob)
				bad[i] ^= 1
				try(parameterRC(tpm2.RCIntegrity, 1), bad, good.Secret, ak, ek)
			}
			try(parameterRC(tpm2.RCInsufficient, 1), nil, good.Secret, ak, ek)
			try(parameterRC(tpm2.RCIntegrity, 1), good.Blob, good.Secret, ek, ek) // for another key
			try(handleRC(tpm2.RCType, 2), good.Blob, good.Secret, ak, ak)
			bad := slices.Clone(good.Secret)
			bad[len(bad)-1] ^= 1
			want, empty := tpm2.RCValue, tpm2.RCSize // of an OAEP block
			if template.Type == tpm2.AlgECC {
				want, empty = tpm2.RCECCPoint, tpm2.RCInsufficient
			}
			try(parameterRC(want, 2), good.Blob, bad, ak, ek)
			try(parameterRC(empty, 2), good.Blob, nil, ak, ek)
		})
	}
}

// What is intact and no TPM2B_DIGEST is refused.
func TestCredentialsOfBadContentAreRefused(t *testing.T) {
	m := newMachine(t)
	ek := m.primary(tpm2.HandleEndorsement, eccTemplate(storing), "")
	ak := m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
	for name, tc := range map[string]struct {
		content []byte
		want    tpm2.RC
	}{
		"good":     {[]byte{0, 1, 9}, tpm2.RCSuccess},
		"empty":    {nil, parameterRC(tpm2.RCInsufficient, 1)},
		"cut":      {[]byte{0, 2, 9}, parameterRC(tpm2.RCInsufficient, 1)},
		"trailing": {[]byte{0, 1, 9, 9}, parameterRC(tpm2.RCSize, 1)},
		"long":     {append([]byte{0, 65}, make([]byte, 65)...), parameterRC(tpm2.RCSize, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			blob, secret, err := m.tpm.Credential(ek, m.name(ak), tc.content)
			if err != nil {
				t.Fatal(err)
			}
			m.fails(tc.want, tpm2.CCActivateCredential, handles(ak, ek), password("", ""), &command.ActivateCredentialIn{CredentialBlob: blob, Secret: secret})
		})
	}
}

func TestMakeCredentialChecksKeyAndSize(t *testing.T) {
	m := newMachine(t)
	ek := m.primary(tpm2.HandleEndorsement, eccTemplate(storing), "")
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCMakeCredential, handles(ek), nil, &command.MakeCredentialIn{Credential: make([]byte, 33), ObjectName: m.name(ek)})
	for name, template := range map[string]tpm2.Public{
		"signs": eccTemplate(signing), "decrypts": eccTemplate(decrypting), "symmetric": symTemplate(storing), "derives": keyedHashTemplate(storing),
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			h := m.primary(tpm2.HandleOwner, template, "")
			m.fails(handleRC(tpm2.RCType, 1), tpm2.CCMakeCredential, handles(h), nil, &command.MakeCredentialIn{Credential: make([]byte, 8), ObjectName: m.name(ek)})
			m.flush(h)
		})
	}
}

// A key without a Name has no hash to protect with.
func TestKeysWithoutNameProtectNothing(t *testing.T) {
	for name, o := range map[string]*outside{"RSA": outsideRSA(t, usable|storageUse), "ECC": outsideECC(t, usable|storageUse)} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			o.public.NameAlg = tpm2.AlgNull
			m.do(tpm2.CCLoadExternal, nil, nil, &command.LoadExternalIn{InPublic: o.public, Hierarchy: tpm2.HandleOwner}, nil)
			m.fails(tpm2.RCHash, tpm2.CCMakeCredential, handles(m.handle), nil, &command.MakeCredentialIn{ObjectName: []byte("name")})
			m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCMakeCredential, handles(m.handle), nil, &command.MakeCredentialIn{Credential: []byte("secret"), ObjectName: []byte("name")})
		})
	}
}
