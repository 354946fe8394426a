package engine_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// createLoaded creates an object under a parent, or a primary object.
func (m *machine) createLoaded(parent tpm2.Handle, template wire.Layout, data []byte) *command.CreateLoadedOut {
	m.Helper()
	out := new(command.CreateLoadedOut)
	m.do(tpm2.CCCreateLoaded, handles(parent), password(""), &command.CreateLoadedIn{
		InPublic: mustEncode(m, template), InSensitive: tpm2.SensitiveCreate{Data: data},
	}, out)
	return out
}

func TestCreateLoadedMakesThreeKinds(t *testing.T) {
	m := newMachine(t)
	template := eccTemplate(storing | tpm2.AttrNoDA)
	want := m.name(m.storage(""))
	m.flush(m.handle)
	out := m.createLoaded(tpm2.HandleOwner, &template, nil)
	srk := m.handle
	if !bytes.Equal(out.Name, want) || len(out.OutPrivate) != 0 {
		t.Errorf("CreateLoaded under the owner = %x with %d private bytes, want what CreatePrimary made, %x, without", out.Name, len(out.OutPrivate), want)
	}
	leaf := keyedHashTemplate(sealing)
	out = m.createLoaded(srk, &leaf, []byte("data"))
	var got command.UnsealOut
	m.do(tpm2.CCUnseal, handles(m.handle), password(""), nil, &got)
	if string(got.OutData) != "data" {
		t.Errorf("Unseal = %q, want data", got.OutData)
	}
	again := m.load(srk, &command.CreateOut{OutPrivate: out.OutPrivate, OutPublic: out.OutPublic})
	if a, b := m.name(again), m.name(m.handle); !bytes.Equal(a, out.Name) || !bytes.Equal(a, b) {
		t.Errorf("Name when loaded = %x, want %x", a, out.Name)
	}
}

// derivedSecret computes what Part 1, 28.3, derives: KDFa in blocks, told of 8192
// bits. It gives the first size bytes from offset.
func derivedSecret(secret []byte, label, context string, offset, size int) []byte {
	var out []byte
	for i := uint32(1); len(out) < offset+size; i++ {
		mac := hmac.New(sha256.New, secret)
		_ = binary.Write(mac, binary.BigEndian, i)
		mac.Write([]byte(label))
		mac.Write([]byte{0})
		mac.Write([]byte(context))
		_ = binary.Write(mac, binary.BigEndian, uint32(8192))
		out = mac.Sum(out)
	}
	return out[offset : offset+size]
}

// deriver creates a derivation parent.
func (m *machine) deriver() tpm2.Handle {
	m.Helper()
	return m.primary(tpm2.HandleOwner, keyedHashTemplate(storing), "")
}

const derived = fixed | tpm2.AttrUserWithAuth

// deriveTemplate has the head of a public area, and a label and context.
func deriveTemplate(p tpm2.Public, label, context string) *tpm2.DeriveTemplate {
	return &tpm2.DeriveTemplate{Public: p, Unique: tpm2.Derive{Label: []byte(label), Context: []byte(context)}}
}

func TestDerivedObjectsFollowFromTheirParent(t *testing.T) {
	m := newMachine(t)
	parent := m.deriver()
	secret := m.tpm.Sensitive(parent).Bits
	aes := symTemplate(derived | tpm2.AttrDecrypt)
	out := m.createLoaded(parent, deriveTemplate(aes, "label", "context"), nil)
	if len(out.OutPrivate) != 0 {
		t.Errorf("a derived object has %d private bytes, want none", len(out.OutPrivate))
	}
	got := m.tpm.Sensitive(m.handle)
	if want := derivedSecret(secret, "label", "context", 0, 16); !bytes.Equal(got.Bits, want) {
		t.Errorf("derived AES key = %x, want %x", got.Bits, want)
	}
	if want := derivedSecret(secret, "label", "context", 16, 32); !bytes.Equal(got.SeedValue, want) {
		t.Errorf("derived seed = %x, want %x", got.SeedValue, want)
	}
	name := out.Name
	m.flush(m.handle)
	// The label and context of the template count before those of the data.
	for what, tc := range map[string]struct {
		template *tpm2.DeriveTemplate
		data     tpm2.Derive
	}{
		"data":     {deriveTemplate(aes, "", ""), tpm2.Derive{Label: []byte("label"), Context: []byte("context")}},
		"label":    {deriveTemplate(aes, "label", ""), tpm2.Derive{Label: []byte("not this"), Context: []byte("context")}},
		"context":  {deriveTemplate(aes, "", "context"), tpm2.Derive{Label: []byte("label"), Context: []byte("not this")}},
		"template": {deriveTemplate(aes, "label", "context"), tpm2.Derive{Label: []byte("not this"), Context: []byte("not this")}},
	} {
		if out := m.createLoaded(parent, tc.template, mustEncode(t, &tc.data)); !bytes.Equal(out.Name, name) {
			t.Errorf("derived by the %s = %x, want %x", what, out.Name, name)
		}
		m.flush(m.handle)
	}
	other := m.createLoaded(parent, deriveTemplate(aes, "label", "other"), nil)
	if bytes.Equal(other.Name, name) {
		t.Errorf("another context derives the same object")
	}
	m.flush(m.handle)
	for _, p := range []tpm2.Public{
		eccTemplate(derived | tpm2.AttrSign), keyedHashTemplate(derived | tpm2.AttrSign), keyedHashTemplate(derived),
	} {
		a := m.createLoaded(parent, deriveTemplate(p, "label", ""), nil)
		m.flush(m.handle)
		if b := m.createLoaded(parent, deriveTemplate(p, "label", ""), nil); !bytes.Equal(a.Name, b.Name) {
			t.Errorf("derived twice: %x and %x", a.Name, b.Name)
		}
		m.flush(m.handle)
	}
}

func TestDerivationsWithOneFaultAreRefused(t *testing.T) {
	m := newMachine(t)
	parent := m.deriver()
	ecc, hmacKey := eccTemplate(derived|tpm2.AttrSign), keyedHashTemplate(derived|tpm2.AttrSign)
	for name, tc := range map[string]struct {
		template wire.Layout
		data     []byte
		want     tpm2.RC
	}{
		"RSA":                {deriveTemplate(rsaTemplate(derived|tpm2.AttrSign), "l", ""), nil, parameterRC(tpm2.RCType, 2)},
		"the TPM is origin":  {deriveTemplate(eccTemplate(signing), "l", ""), nil, tpm2.RCAttributes},
		"fixedTPM differs":   {deriveTemplate(eccTemplate(derived&^fixed|tpm2.AttrSign), "l", ""), nil, parameterRC(tpm2.RCAttributes, 2)},
		"a public area":      {&hmacKey, nil, parameterRC(tpm2.RCInsufficient, 2)}, // with a digest in place of a TPMS_DERIVE
		"data cut":           {deriveTemplate(ecc, "", ""), []byte{0, 2, 1}, tpm2.RCInsufficient},
		"label beyond limit": {deriveTemplate(ecc, "", ""), append([]byte{0, 33}, make([]byte, 35)...), tpm2.RCSize},
		"template trailing":  {&trailing{deriveTemplate(ecc, "l", "")}, nil, parameterRC(tpm2.RCSize, 2)},
		"template cut":       {(*raw)(&[]byte{0, 0x23, 0}), nil, parameterRC(tpm2.RCInsufficient, 2)},
		"scheme":             {deriveTemplate(changed(ecc, func(p *tpm2.Public) { p.Parameters.ECC.Symmetric = aesCFB(128) }), "l", ""), nil, parameterRC(tpm2.RCSymmetric, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(tc.want, tpm2.CCCreateLoaded, handles(parent), password(""), &command.CreateLoadedIn{
				InPublic: mustEncode(t, tc.template), InSensitive: tpm2.SensitiveCreate{Data: tc.data},
			})
		})
	}
	m.in(t)
	in := &command.CreateLoadedIn{InPublic: mustEncode(t, deriveTemplate(ecc, "l", "")), InSensitive: tpm2.SensitiveCreate{UserAuth: bytes.Repeat([]byte{1}, 33)}}
	m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCCreateLoaded, handles(parent), password(""), in)
	leaf := m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
	m.fails(handleRC(tpm2.RCType, 1), tpm2.CCCreateLoaded, handles(leaf), password(""), in)
	m.storage("")
	in.InSensitive = tpm2.SensitiveCreate{}
	m.fails(tpm2.RCObjectMemory, tpm2.CCCreateLoaded, handles(parent), password(""), in)
	m.fails(handleRC(tpm2.RCType, 1), tpm2.CCCreate, handles(parent), password(""), &command.CreateIn{InPublic: eccTemplate(signing)})
}

// A derived object that is not fixed to its parent would outlive it.
func TestDerivedObjectsAreFixedToTheirParent(t *testing.T) {
	m := newMachine(t)
	loose := m.primary(tpm2.HandleOwner, keyedHashTemplate(ordinary|storageUse), "")
	template := eccTemplate(tpm2.AttrUserWithAuth | tpm2.AttrSign)
	in := &command.CreateLoadedIn{InPublic: mustEncode(t, deriveTemplate(template, "l", ""))}
	m.fails(parameterRC(tpm2.RCAttributes, 2), tpm2.CCCreateLoaded, handles(loose), password(""), in)
	template.Attributes |= tpm2.AttrFixedParent
	m.createLoaded(loose, deriveTemplate(template, "l", ""), nil)
}

// A derived object has no blob, and so no new authValue.
func TestDerivedObjectsKeepTheirAuth(t *testing.T) {
	m := newMachine(t)
	parent := m.deriver()
	m.createLoaded(parent, deriveTemplate(keyedHashTemplate(derived), "l", ""), nil)
	m.fails(handleRC(tpm2.RCType, 2), tpm2.CCObjectChangeAuth, handles(m.handle, parent), password(""), &command.ObjectChangeAuthIn{NewAuth: []byte("new")})
}

// trailing lays out a structure and one byte more.
type trailing struct{ wire.Layout }

func (v *trailing) Wire(c *wire.Codec) {
	v.Layout.Wire(c)
	b := []byte{0}
	c.Rest(&b)
}
