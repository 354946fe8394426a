package engine_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// goodTemplates are the kinds of objects that there are, with the data of those
// whose secret the caller has.
func goodTemplates() map[string]struct {
	template tpm2.Public
	data     string
} {
	type good = struct {
		template tpm2.Public
		data     string
	}
	rsaBy := func(a tpm2.ObjectAttributes, scheme, hash tpm2.Alg) good {
		return good{template: changed(rsaTemplate(a), func(p *tpm2.Public) { p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: scheme, HashAlg: hash} })}
	}
	eccBy := func(a tpm2.ObjectAttributes, curve tpm2.ECCCurve, scheme tpm2.Alg) good {
		return good{template: changed(eccTemplate(a), func(p *tpm2.Public) {
			p.Parameters.ECC.CurveID, p.Parameters.ECC.Scheme = curve, tpm2.ECCScheme{Scheme: scheme, HashAlg: tpm2.AlgSHA256}
		})}
	}
	own := tpm2.AttrSensitiveDataOrigin
	return map[string]good{
		"RSASSA, restricted":     rsaBy(signing|tpm2.AttrRestricted, tpm2.AlgRSASSA, tpm2.AlgSHA256),
		"RSAPSS":                 rsaBy(signing, tpm2.AlgRSAPSS, tpm2.AlgSHA384),
		"RSAES":                  rsaBy(decrypting, tpm2.AlgRSAES, 0),
		"OAEP":                   rsaBy(decrypting, tpm2.AlgOAEP, tpm2.AlgSHA1),
		"RSA for any use":        {rsaTemplate(signing | tpm2.AttrDecrypt), ""},
		"RSA parent":             {rsaTemplate(storing), ""},
		"ECDSA, restricted":      eccBy(signing|tpm2.AttrRestricted, tpm2.CurveNISTP256, tpm2.AlgECDSA),
		"ECDSA on P-384":         eccBy(signing, tpm2.CurveNISTP384, tpm2.AlgECDSA),
		"ECDSA on P-521":         eccBy(signing, tpm2.CurveNISTP521, tpm2.AlgECDSA),
		"ECDAA":                  eccBy(signing, tpm2.CurveNISTP256, tpm2.AlgECDAA),
		"ECSchnorr":              eccBy(signing, tpm2.CurveNISTP256, tpm2.AlgECSchnorr),
		"ECDH":                   eccBy(decrypting, tpm2.CurveNISTP256, tpm2.AlgECDH),
		"MQV":                    eccBy(decrypting, tpm2.CurveNISTP256, tpm2.AlgECMQV),
		"ECC parent":             {eccTemplate(storing), ""},
		"sealed":                 {keyedHashTemplate(sealing), "data"},
		"sealed, longest":        {keyedHashTemplate(sealing), string(make([]byte, 128))},
		"HMAC":                   {keyedHashTemplate(signing), ""},
		"HMAC of the caller":     {keyedHashTemplate(signing &^ own), "a key"},
		"HMAC, restricted":       {keyedHashTemplate(signing | tpm2.AttrRestricted), ""},
		"XOR":                    {keyedHashTemplate(decrypting), ""},
		"keyed hash for any use": {keyedHashTemplate(signing | tpm2.AttrDecrypt), ""},
		"derivation parent":      {keyedHashTemplate(storing), ""},
		"AES":                    {symTemplate(decrypting | tpm2.AttrSign), ""},
		"AES of the caller":      {symTemplate(decrypting &^ own), "0123456789abcdef"},
		"AES-256":                {changed(symTemplate(decrypting), func(p *tpm2.Public) { p.Parameters.SymCipher.KeyBits = 256 }), ""},
		"CMAC":                   {changed(symTemplate(signing), func(p *tpm2.Public) { p.Parameters.SymCipher.Mode = tpm2.AlgCMAC }), ""},
		"symmetric parent":       {symTemplate(storing), ""},
	}
}

// Each kind is created, and loaded by two parents' ways: that of the SRK, which
// vouches for it, and that of a parent which can be duplicated, where all its keys
// are checked against each other.
func TestAllKindsOfObjectsAreMadeAndLoaded(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	open := m.primary(tpm2.HandleOwner, eccTemplate(ordinary|storageUse), "")
	for name, tc := range goodTemplates() {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			for _, parent := range []tpm2.Handle{srk, open} {
				template := tc.template
				if parent == open {
					template.Attributes &^= fixed
				}
				h := m.child(parent, template, "auth", tc.data)
				got := m.public(h)
				if got.Type != template.Type || got.Attributes != template.Attributes {
					t.Errorf("public area = %+v, want as %+v", got, template)
				}
				m.flush(h)
			}
		})
	}
}

// Every kind of storage parent has children.
func TestAllKindsOfParentsProtectChildren(t *testing.T) {
	for name, template := range map[string]tpm2.Public{
		"RSA": rsaTemplate(storing), "ECC": eccTemplate(storing), "symmetric": symTemplate(storing),
		"AES-256": changed(eccTemplate(storing), func(p *tpm2.Public) { p.Parameters.ECC.Symmetric = aesCFB(256) }),
		"SHA-512": changed(eccTemplate(storing), func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA512 }),
		"SHA-1":   changed(eccTemplate(storing), func(p *tpm2.Public) { p.NameAlg = tpm2.AlgSHA1 }),
		// The reference protects by CFB whatever mode is named.
		"CTR": changed(eccTemplate(storing), func(p *tpm2.Public) { p.Parameters.ECC.Symmetric.Mode = tpm2.AlgCTR }),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			parent := m.primary(tpm2.HandlePlatform, template, "")
			item := m.child(parent, keyedHashTemplate(sealing), "", "data")
			var out command.UnsealOut
			m.do(tpm2.CCUnseal, handles(item), password(""), nil, &out)
			if string(out.OutData) != "data" {
				t.Errorf("Unseal = %q, want data", out.OutData)
			}
		})
	}
}

// The seeds of endorsement keys change with TPM2_Clear, and so what they protect
// is gone; the keys stay.
func TestClearEndsWhatEndorsementKeysProtect(t *testing.T) {
	m := newMachine(t)
	ek := m.primary(tpm2.HandleEndorsement, eccTemplate(storing), "")
	name := m.name(ek)
	made := m.create(ek, keyedHashTemplate(sealing), "", "data")
	m.do(tpm2.CCClear, handles(tpm2.HandleLockout), password(""), nil, nil)
	ek = m.primary(tpm2.HandleEndorsement, eccTemplate(storing), "")
	if got := m.name(ek); string(got) != string(name) {
		t.Errorf("endorsement key after TPM2_Clear = %x, want %x", got, name)
	}
	m.fails(parameterRC(tpm2.RCIntegrity, 1), tpm2.CCLoad, handles(ek), password(""), &command.LoadIn{InPrivate: made.OutPrivate, InPublic: made.OutPublic})
}

// Templates that differ anywhere, and data, set primary objects apart; the same
// ones do not.
func TestPrimaryObjectsFollowFromTheirTemplate(t *testing.T) {
	m := newMachine(t)
	seen := map[string]string{}
	add := func(name string, h tpm2.Handle, template tpm2.Public, data string) {
		t.Helper()
		in := &command.CreatePrimaryIn{InPublic: template, InSensitive: tpm2.SensitiveCreate{Data: []byte(data)}}
		var out command.CreatePrimaryOut
		for range 2 {
			m.do(tpm2.CCCreatePrimary, handles(h), password(""), in, &out)
			m.flush(m.handle)
			x := string(out.OutPublic.Unique.ECC.X)
			if before, ok := seen[x]; ok && before != name {
				t.Errorf("%s has the key of %s", name, before)
			}
			seen[x] = name
		}
	}
	template := eccTemplate(storing)
	add("owner", tpm2.HandleOwner, template, "")
	add("endorsement", tpm2.HandleEndorsement, template, "")
	add("platform", tpm2.HandlePlatform, template, "")
	add("null", tpm2.HandleNull, template, "")
	add("data", tpm2.HandleOwner, template, "data")
	add("attributes", tpm2.HandleOwner, changed(template, func(p *tpm2.Public) { p.Attributes |= tpm2.AttrNoDA }), "")
	add("unique", tpm2.HandleOwner, changed(template, func(p *tpm2.Public) { p.Unique.ECC.X = []byte("x") }), "")
	add("policy", tpm2.HandleOwner, changed(template, func(p *tpm2.Public) { p.AuthPolicy = make([]byte, 32) }), "")
	if len(seen) != 8 {
		t.Errorf("%d keys, want 8: a key was not made again", len(seen))
	}
}

// What an object is to contexts and persistence goes down from its parent.
func TestChildrenLiveNoLongerThanTheirParent(t *testing.T) {
	m := newMachine(t)
	for name, tc := range map[string]struct {
		hierarchy tpm2.Handle
		parent    tpm2.ObjectAttributes
		child     tpm2.ObjectAttributes
		saved     tpm2.Handle
		evict     tpm2.RC
	}{
		"ordinary":         {tpm2.HandleOwner, 0, 0, tpm2.SavedObject, tpm2.RCSuccess},
		"stClear":          {tpm2.HandleOwner, 0, tpm2.AttrSTClear, tpm2.SavedSTClearObject, handleRC(tpm2.RCAttributes, 2)},
		"parent stClear":   {tpm2.HandleOwner, tpm2.AttrSTClear, 0, tpm2.SavedSTClearObject, handleRC(tpm2.RCAttributes, 2)},
		"null hierarchy":   {tpm2.HandleNull, 0, 0, tpm2.SavedObject, handleRC(tpm2.RCAttributes, 2)},
		"other hierarchy":  {tpm2.HandlePlatform, 0, 0, tpm2.SavedObject, handleRC(tpm2.RCHierarchy, 2)},
		"null and stClear": {tpm2.HandleNull, tpm2.AttrSTClear, 0, tpm2.SavedSTClearObject, handleRC(tpm2.RCAttributes, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			parent := m.primary(tc.hierarchy, eccTemplate(storing|tc.parent), "")
			h := m.child(parent, keyedHashTemplate(sealing|tc.child), "", "data")
			var out command.ContextSaveOut
			m.do(tpm2.CCContextSave, handles(h), nil, nil, &out)
			if got := out.Context; got.SavedHandle != tc.saved || got.Hierarchy != tc.hierarchy {
				t.Errorf("saved handle %v, hierarchy %v, want %v, %v", got.SavedHandle, got.Hierarchy, tc.saved, tc.hierarchy)
			}
			rc := m.run(tpm2.CCEvictControl, handles(tpm2.HandleOwner, h), password(""), &command.EvictControlIn{PersistentHandle: 0x81000001}, nil)
			if rc != tc.evict {
				t.Errorf("EvictControl = %v, want %v", rc, tc.evict)
			}
			m.flush(h)
			m.flush(parent)
		})
	}
}

// The salt of a session takes the scheme of its key, which must be OAEP.
func TestSaltsByTheSchemeOfTheirKey(t *testing.T) {
	m := newMachine(t)
	for name, tc := range map[string]struct {
		scheme tpm2.RSAScheme
		want   tpm2.RC
	}{
		"OAEP":            {tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}, tpm2.RCSuccess},
		"OAEP by another": {tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA1}, parameterRC(tpm2.RCValue, 2)},
		"RSAES":           {tpm2.RSAScheme{Scheme: tpm2.AlgRSAES}, parameterRC(tpm2.RCValue, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.primary(tpm2.HandleNull, changed(rsaTemplate(decrypting), func(p *tpm2.Public) { p.Parameters.RSA.Scheme = tc.scheme }), "")
			_, encrypted := m.salt(m.public(key))
			m.fails(tc.want, tpm2.CCStartAuthSession, handles(key, tpm2.HandleNull), nil, &command.StartAuthSessionIn{
				NonceCaller: make([]byte, 16), EncryptedSalt: encrypted, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256,
			})
			m.flush(key)
		})
	}
	m.in(t)
	m.longSalt()
}

// longSalt checks that a salt is no longer than a digest.
func (m *machine) longSalt() {
	m.Helper()
	key := m.primary(tpm2.HandleNull, rsaTemplate(decrypting), "")
	public, err := m.public(key).Key()
	if err != nil {
		m.Fatal(err)
	}
	for size, want := range map[int]tpm2.RC{0: tpm2.RCSuccess, 32: tpm2.RCSuccess, 33: parameterRC(tpm2.RCValue, 2)} {
		encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), make([]byte, size), []byte("SECRET\x00"))
		if err != nil {
			m.Fatal(err)
		}
		m.fails(want, tpm2.CCStartAuthSession, handles(key, tpm2.HandleNull), nil, &command.StartAuthSessionIn{
			NonceCaller: make([]byte, 16), EncryptedSalt: encrypted, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256,
		})
	}
}
