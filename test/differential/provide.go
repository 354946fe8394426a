package differential

import (
	"slices"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// keyTemplate is the start of a public area.
func (g *generator) keyTemplate(use tpm2.ObjectAttributes) *tpm2.Public {
	p := &tpm2.Public{NameAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384, tpm2.AlgSHA512), Attributes: ordinary | use}
	p.Attributes |= structtest.Pick(g.Source, tpm2.AttrNoDA, tpm2.AttrNoDA, 0)
	return p
}

func eccParms(curve tpm2.ECCCurve, scheme tpm2.ECCScheme) tpm2.ECCParms {
	null := tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	return tpm2.ECCParms{Symmetric: null, Scheme: scheme, CurveID: curve, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}}
}

// plainKey is the template of a key that the TPM makes and a caller uses.
func (g *generator) plainKey() *tpm2.Public {
	p := g.keyTemplate(structtest.Pick(g.Source, tpm2.AttrSign, tpm2.AttrSign, tpm2.AttrSign|tpm2.AttrDecrypt))
	return ecc(p, eccParms(g.curve(), tpm2.ECCScheme{Scheme: tpm2.AlgNull}))
}

func (g *generator) newSigner() *thing {
	switch g.IntN(5) {
	case 0:
		return g.newMACKey()
	case 1:
		return g.newRSA(tpm2.AttrSign)
	case 2:
		return g.own(g.plainKey())
	}
	p := g.signing(g.keyTemplate(tpm2.AttrSign))
	if p.Parameters.ECC.Scheme.Scheme == tpm2.AlgECDAA && g.chance(70) {
		p.Parameters.ECC.Scheme.Scheme = tpm2.AlgECDSA
	}
	if p.Parameters.ECC.Scheme.Scheme == tpm2.AlgNull {
		p.Attributes &^= tpm2.AttrRestricted // which must have a scheme
	}
	if p.Attributes.Has(tpm2.AttrRestricted) {
		return g.primary(p, nil)
	}
	return g.own(p)
}

func (g *generator) newMACKey() *thing {
	p := g.keyTemplate(tpm2.AttrSign)
	if g.chance(6) {
		p.Type, p.Parameters.SymCipher = tpm2.AlgSymCipher, tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCMAC}
		return g.external(p)
	}
	p.Type = tpm2.AlgKeyedHash
	p.Parameters.KeyedHash = structtest.Pick(g.Source, tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}, tpm2.KeyedHashScheme{Scheme: tpm2.AlgHMAC, HashAlg: g.Hash()})
	return g.own(p)
}

// newRSA loads the RSA key that both know.
func (g *generator) newRSA(use tpm2.ObjectAttributes) *thing {
	p := g.keyTemplate(use)
	p.Type = tpm2.AlgRSA
	p.Parameters.RSA = tpm2.RSAParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048}
	if use == tpm2.AttrSign && g.chance(50) {
		p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: structtest.Pick(g.Source, tpm2.AlgRSASSA, tpm2.AlgRSAPSS), HashAlg: tpm2.AlgSHA256}
	}
	return g.external(p)
}

// own is a key that is the same for both, or one that each has made.
func (g *generator) own(p *tpm2.Public) *thing { return g.ownWith(p, nil) }

func (g *generator) ownWith(p *tpm2.Public, data []byte) *thing {
	switch {
	case data == nil && g.chance(60):
		return g.external(p)
	case g.chance(50):
		return g.child(p, data, nil)
	}
	return g.primary(p, data)
}

// primary makes a primary object.
func (g *generator) primary(p *tpm2.Public, data []byte) *thing {
	s := g.newStep(tpm2.CCCreatePrimary)
	g.room(s.info)
	hierarchy := g.hierarchy(command.HandleHierarchyOrNull)
	s.handles = []*thing{hierarchy}
	if data != nil {
		p.Attributes &^= tpm2.AttrSensitiveDataOrigin
	}
	auth, policy := g.authValue(), g.somePolicy(p)
	s.both(&command.CreatePrimaryIn{InSensitive: tpm2.SensitiveCreate{UserAuth: auth, Data: data}, InPublic: *p, OutsideInfo: g.UpTo(10), CreationPCR: g.selections()})
	g.prepare(s)
	h, outs := g.run(s)
	if outs == nil {
		return nil
	}
	g.settle(s)
	t := g.addObject(h, outs, auth, policy)
	t.hierarchy = hierarchy.handle
	return t
}

// somePolicy gives some public areas a policy.
func (g *generator) somePolicy(p *tpm2.Public) *recipe {
	if !g.chance(20) {
		return nil
	}
	policy := g.recipe(p.NameAlg)
	if policy != nil {
		p.AuthPolicy = policy.digest
	}
	return policy
}

// child makes an object below a storage key and loads it.
func (g *generator) child(p *tpm2.Public, data []byte, policy *recipe) *thing {
	parent := g.get(aStorageKey)
	s := g.newStep(tpm2.CCCreate)
	s.handles = []*thing{parent}
	if data != nil {
		p.Attributes &^= tpm2.AttrSensitiveDataOrigin
	}
	if policy == nil {
		policy = g.somePolicy(p)
	}
	auth := g.authValue()
	s.both(&command.CreateIn{InSensitive: tpm2.SensitiveCreate{UserAuth: auth, Data: data}, InPublic: *p})
	g.prepare(s)
	_, outs := g.run(s)
	if outs == nil {
		return nil
	}
	g.settle(s)
	b := &blob{parent: parent, auth: auth, policy: policy, sealed: data != nil}
	for i := range outs {
		out := outs[i].(*command.CreateOut)
		b.private[i], b.public[i] = out.OutPrivate, out.OutPublic
	}
	g.blobs = append(g.blobs, b)
	return g.load(b)
}

// withPolicy makes an object that its policy allows to be used by one command.
func (g *generator) withPolicy(p *tpm2.Public, cc tpm2.CC, made func(*tpm2.Public, *recipe) *thing) *thing {
	policy := g.recipe(p.NameAlg, cc)
	if policy == nil {
		return nil
	}
	p.AuthPolicy = policy.digest
	return made(p, policy)
}

// shared imports an object of which both get the same private part, below a storage
// key of each.
func (g *generator) shared(p *tpm2.Public, policy *recipe) *thing {
	p.Attributes &^= tpm2.AttrSensitiveDataOrigin | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrEncryptedDuplication
	secret, err := g.secrets(p)
	if err != nil {
		return nil
	}
	if secret.AuthValue = g.authValue(); p.Attributes.Has(tpm2.AttrRestricted | tpm2.AttrDecrypt) {
		secret.SeedValue = g.Bytes(p.NameAlg.DigestSize())
	}
	plain, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: secret})
	if err != nil {
		return nil
	}
	b := &blob{parent: g.get(aStorageKey), auth: secret.AuthValue, policy: policy, public: [2]tpm2.Public{*p, *p}}
	outs := g.do(tpm2.CCImport, same(&command.ImportIn{ObjectPublic: *p, Duplicate: plain, SymmetricAlg: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}}), b.parent)
	if outs == nil {
		return nil
	}
	for i := range outs {
		b.private[i] = outs[i].(*command.ImportOut).OutPrivate
	}
	g.blobs = append(g.blobs, b)
	return g.load(b)
}

// external loads a key of which both get the same private part.
func (g *generator) external(p *tpm2.Public) *thing {
	p.Attributes &^= tpm2.AttrSensitiveDataOrigin
	secret, err := g.secrets(p)
	if err != nil {
		return nil
	}
	secret.AuthValue = g.authValue()
	s := g.newStep(tpm2.CCLoadExternal)
	g.room(s.info)
	in := &command.LoadExternalIn{Hierarchy: tpm2.HandleNull, InPublic: *p}
	in.InPrivate.Sensitive = secret
	s.both(in)
	h, outs := g.run(s)
	if outs == nil {
		return nil
	}
	t := &thing{handle: h, auth: secret.AuthValue}
	t.named([2]*tpm2.Public{p, p})
	g.objects = append(g.objects, t)
	return t
}

// secrets makes the private part that fits a public area, and its unique value.
func (g *generator) secrets(p *tpm2.Public) (*tpm2.Sensitive, error) {
	s := &tpm2.Sensitive{Type: p.Type}
	switch p.Type {
	case tpm2.AlgRSA:
		p.Unique.RSA, s.Bits = g.cfg.rsa.Modulus(), g.cfg.rsa.Prime()
		return s, nil
	case tpm2.AlgECC:
		k, err := tpmcrypto.GenerateECC(g, p.Parameters.ECC.CurveID)
		if err != nil {
			return nil, err
		}
		p.Unique.ECC, s.Bits = k.Point(), k.Scalar()
		return s, nil
	case tpm2.AlgSymCipher:
		s.Bits = g.Bytes(int(p.Parameters.SymCipher.KeyBits) / 8)
	default:
		s.Bits = g.Bytes(structtest.Pick(g.Source, 16, 32, 24))
	}
	s.SeedValue = g.Bytes(p.NameAlg.DigestSize())
	var err error
	p.Unique.Digest, err = tpmcrypto.Hash(p.NameAlg, s.SeedValue, s.Bits)
	return s, err
}

// started starts a sequence.
func (g *generator) started(cc tpm2.CC, event bool) *thing {
	s := g.newStep(cc)
	auth, alg, mixed := g.authValue(), g.Hash(), false
	if cc == tpm2.CCHMACStart {
		key := g.get(aMACKey)
		s.handles, alg, mixed = []*thing{key}, tpm2.AlgHMAC, key.mixed
		s.both(&command.HMACStartIn{Auth: auth, InScheme: g.macScheme(key)})
	} else {
		if event {
			alg = tpm2.AlgNull
		}
		s.both(&command.HashSequenceStartIn{Auth: auth, HashAlg: alg})
	}
	g.room(s.info)
	g.prepare(s)
	h, outs := g.run(s)
	if outs == nil {
		return nil
	}
	g.settle(s)
	g.sequence(h, auth, alg, mixed)
	return g.objects[len(g.objects)-1]
}

// prepare authorizes a command that prepares another: by password in most cases.
func (g *generator) prepare(s *step) {
	if g.chance(20) {
		g.authorize(s)
		return
	}
	for range s.info.Auths() {
		s.uses = append(s.uses, use{attr: tpm2.SessionContinue})
	}
}

// do runs a command that prepares another, without sessions that may end.
func (g *generator) do(cc tpm2.CC, in [2]wire.Layout, handles ...*thing) *[2]wire.Layout {
	s := g.newStep(cc)
	s.handles, s.in = handles, in
	for range s.info.Auths() {
		s.uses = append(s.uses, use{attr: tpm2.SessionContinue})
	}
	_, outs := g.run(s)
	return outs
}

// same gives both TPMs the same parameters.
func same(in wire.Layout) [2]wire.Layout { return [2]wire.Layout{in, in} }

// present drops what the TPMs no longer have, after commands that flush.
func (g *generator) present() {
	outs := g.do(tpm2.CCGetCapability, same(&command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: uint32(tpm2.KindTransient.First()), PropertyCount: 64}))
	if outs == nil {
		return
	}
	loaded := outs[0].(*command.GetCapabilityOut).CapabilityData.Handles
	g.objects = slices.DeleteFunc(g.objects, func(t *thing) bool {
		return t.handle.Kind() == tpm2.KindTransient && !slices.Contains(loaded, t.handle)
	})
	for _, i := range slices.Clone(g.indices) {
		g.refresh(i)
	}
}
