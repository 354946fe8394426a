package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// FuzzObjects loads an intact blob of any content with any public area, under a
// parent that does not vouch for it, uses what loads, and creates from the same
// public area: no input may be a fault of ours.
func FuzzObjects(f *testing.F) {
	for _, o := range []*outside{
		outsideECC(f, usable|tpm2.AttrSign), outsideHMAC(usable, "data"), outsideAES(usable | tpm2.AttrDecrypt), outsideRSA(f, usable|tpm2.AttrDecrypt),
		outsideECC(f, usable|storageUse),
	} {
		f.Add(mustEncode(f, &tpm2.Sensitive2B{Sensitive: &o.sensitive}), mustEncode(f, &o.public))
	}
	m := newMachine(f)
	// No authValue that a test guesses wrong ends the fuzzing.
	m.do(tpm2.CCDictionaryAttackParameters, handles(tpm2.HandleLockout), password(""), &command.DictionaryAttackParametersIn{NewMaxTries: 1}, nil)
	open := m.primary(tpm2.HandleOwner, eccTemplate(ordinary|storageUse), "")
	f.Fuzz(func(t *testing.T, content, public []byte) {
		m.in(t)
		var p tpm2.Public
		if len(content) > 1200 || wire.Decode(public, &p) != nil || p.NameAlg == tpm2.AlgNull || p.NameAlg == tpm2.AlgSM3 {
			t.Skip()
		}
		name, err := p.Name()
		if err != nil {
			t.Skip()
		}
		private, err := m.tpm.Wrap(open, name, make([]byte, 16), content)
		if err != nil {
			t.Fatal(err)
		}
		if m.run(tpm2.CCLoad, handles(open), password(""), &command.LoadIn{InPrivate: private, InPublic: p}, nil) == tpm2.RCSuccess {
			m.use(m.handle)
		}
		slow := p.Type == tpm2.AlgRSA // making one takes longer than all else
		template := tpm2.SensitiveCreate{Data: content[:min(len(content), 128)]}
		if !slow && m.run(tpm2.CCCreateLoaded, handles(open), password(""), &command.CreateLoadedIn{InPublic: public, InSensitive: template}, nil) == tpm2.RCSuccess {
			m.use(m.handle)
		}
		if !bytes.Equal(m.name(open), m.name(open)) {
			t.Fatal("the parent is gone")
		}
	})
}

// use runs commands that take any object; what they answer does not matter.
func (m *machine) use(h tpm2.Handle) {
	m.run(tpm2.CCUnseal, handles(h), password(""), nil, nil)
	m.run(tpm2.CCReadPublic, handles(h), nil, nil, nil)
	m.run(tpm2.CCActivateCredential, handles(h, h), password("", ""), &command.ActivateCredentialIn{CredentialBlob: make([]byte, 40), Secret: make([]byte, 70)}, nil)
	m.run(tpm2.CCMakeCredential, handles(h), nil, &command.MakeCredentialIn{Credential: make([]byte, 8)}, nil)
	m.run(tpm2.CCCreate, handles(h), password(""), &command.CreateIn{InPublic: keyedHashTemplate(usable), InSensitive: tpm2.SensitiveCreate{Data: []byte("x")}}, nil)
	m.flush(h)
}
