package differential

import (
	"bytes"
	"crypto/elliptic"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// point is a point on the curve of a key, mostly.
func (g *generator) point(t *thing) tpm2.ECCPoint {
	if g.chance(8) {
		return tpm2.ECCPoint{X: g.UpTo(48), Y: g.UpTo(48)}
	}
	k, err := tpmcrypto.GenerateECC(g, t.public().Parameters.ECC.CurveID)
	if err != nil {
		return tpm2.ECCPoint{}
	}
	return k.Point()
}

func makeECDHKeyGen(g *generator, s *step) after {
	s.handles[0] = g.get(anAgreementKey)
	s.both(new(command.None))
	return nothing
}

// makeECDHZGen agrees with what TPM2_ECDH_KeyGen made, of the other TPM if the key is the same.
func makeECDHZGen(g *generator, s *step) after {
	key := g.get(anAgreementKey)
	if s.handles[0] = key; g.chance(40) {
		s.both(&command.ECDHZGenIn{InPoint: g.point(key)})
		return nothing
	}
	outs := g.do(tpm2.CCECDHKeyGen, same(new(command.None)), key)
	if outs == nil {
		return nil
	}
	var made [2]*command.ECDHKeyGenOut
	for i := range outs {
		made[i] = outs[i].(*command.ECDHKeyGenOut)
	}
	if !key.mixed {
		made[0], made[1] = made[1], made[0]
	}
	for i := range s.in {
		s.in[i] = &command.ECDHZGenIn{InPoint: made[i].PubPoint}
	}
	s.mayDiffer = true
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			z := outs[i].(*command.ECDHZGenOut).OutPoint
			g.check(s, bytes.Equal(z.X, made[i].ZPoint.X) && bytes.Equal(z.Y, made[i].ZPoint.Y), "TPM2_ECDH_ZGen does not agree with TPM2_ECDH_KeyGen")
		}
	}
}

func makeZGen2Phase(g *generator, s *step) after {
	key := g.get(anAgreementKey)
	s.handles[0] = key
	in := &command.ZGen2PhaseIn{InQsB: g.point(key), InQeB: g.point(key), InScheme: structtest.Pick(g.Source, tpm2.AlgECDH, tpm2.AlgECDH, tpm2.AlgECMQV), Counter: uint16(g.IntN(3))}
	if key.public().Type == tpm2.AlgECC && g.chance(90) {
		if outs := g.do(tpm2.CCECEphemeral, same(&command.ECEphemeralIn{CurveID: key.public().Parameters.ECC.CurveID})); outs != nil {
			in.Counter = outs[0].(*command.ECEphemeralOut).Counter
		}
	}
	s.both(in)
	s.mayDiffer = in.InScheme == tpm2.AlgECMQV // outZ1 has each one's ephemeral key in it
	return nothing
}

// makeCommit has a second point, which comes from its seed, in a third of the cases.
func makeCommit(g *generator, s *step) after {
	key := g.get(aDAAKey)
	s.handles[0] = key
	in := &command.CommitIn{}
	if g.chance(50) {
		in.P1 = g.point(key)
	}
	if g.chance(50) {
		in.S2, in.Y2 = g.commitPoint(key)
	}
	if g.chance(5) {
		in.S2, in.Y2 = g.UpTo(32), g.UpTo(32)
	}
	s.both(in)
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		key.count = outs[0].(*command.CommitOut).Counter
		sign := g.newStep(tpm2.CCSign)
		sign.handles = []*thing{key}
		scheme := key.public().Parameters.ECC.Scheme
		sign.both(&command.SignIn{
			Digest: g.Bytes(scheme.HashAlg.DigestSize()), InScheme: tpm2.SigScheme{Scheme: scheme.Scheme, HashAlg: scheme.HashAlg, Count: key.count},
			Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull},
		})
		g.authorize(sign)
		if _, outs := g.run(sign); outs != nil {
			g.settle(sign)
		}
	}
}

// commitPoint finds a seed whose digest is the x coordinate of a point.
func (g *generator) commitPoint(key *thing) (s2, y2 []byte) {
	curve := elliptic.P256()
	switch key.public().Parameters.ECC.CurveID {
	case tpm2.CurveNISTP384:
		curve = elliptic.P384()
	case tpm2.CurveNISTP521:
		curve = elliptic.P521()
	}
	size := (curve.Params().BitSize + 7) / 8
	for range 64 {
		s2 = g.Bytes(16)
		x, err := tpmcrypto.Hash(key.public().NameAlg, s2)
		if err != nil || len(x) > size {
			break
		}
		compressed := append(append([]byte{2}, make([]byte, size-len(x))...), x...)
		if _, y := elliptic.UnmarshalCompressed(curve, compressed); y != nil {
			return s2, y.FillBytes(make([]byte, size))
		}
	}
	return nil, nil
}

func (g *generator) padding() tpm2.RSADecrypt {
	switch g.IntN(5) {
	case 0:
		var s tpm2.RSADecrypt
		g.Fill(&s)
		return s
	case 1:
		return tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}
	case 2:
		return tpm2.RSADecrypt{Scheme: tpm2.AlgNull}
	}
	return tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: g.Hash()}
}

func makeRSAEncrypt(g *generator, s *step) after {
	s.handles[0] = g.get(anRSAKey)
	in := &command.RSAEncryptIn{Message: g.UpTo(structtest.Pick(g.Source, 32, 32, 190, 256)), InScheme: g.padding()}
	if g.chance(40) {
		in.Label = append(g.UpTo(10), 0)
	}
	s.both(in)
	return nothing
}

// makeRSADecrypt decrypts what the other TPM has encrypted, if the key is the same, or
// anything.
func makeRSADecrypt(g *generator, s *step) after {
	key := g.get(aPrivateRSAKey)
	s.handles[0] = key
	scheme := g.padding()
	var label []byte
	if scheme.Scheme == tpm2.AlgOAEP && g.chance(30) {
		label = append(g.UpTo(10), 0)
	}
	if g.chance(30) {
		in := &command.RSADecryptIn{CipherText: g.Bytes(256), InScheme: scheme, Label: label}
		if in.CipherText[0] &= 0x7f; g.chance(20) {
			in.CipherText = g.UpTo(256)
		}
		s.both(in)
		return nothing
	}
	outs := g.do(tpm2.CCRSAEncrypt, same(&command.RSAEncryptIn{Message: g.UpTo(32), InScheme: scheme, Label: label}), key)
	if outs == nil {
		return nil
	}
	if !key.mixed {
		outs[0], outs[1] = outs[1], outs[0]
	}
	for i := range s.in {
		s.in[i] = &command.RSADecryptIn{CipherText: outs[i].(*command.RSAEncryptOut).OutData, InScheme: scheme, Label: label}
	}
	s.exact = true
	return nothing
}

// makeMakeCredential makes a credential for anything.
func makeMakeCredential(g *generator, s *step) after {
	s.handles[0] = g.get(anAsymmetricParent)
	s.both(&command.MakeCredentialIn{Credential: g.UpTo(34), ObjectName: g.UpTo(34)})
	return nothing
}

// makeActivateCredential makes the credential first, for the Name that each TPM
// knows; where both know the same, each opens what the other one has made.
func makeActivateCredential(g *generator, s *step) after {
	key, object := g.get(anAsymmetricParent), g.get(aNamedKey)
	credential := g.Bytes(1 + g.IntN(20))
	var in [2]wire.Layout
	for i := range in {
		in[i] = &command.MakeCredentialIn{Credential: credential, ObjectName: object.side[i].name}
	}
	outs := g.do(tpm2.CCMakeCredential, in, key)
	if outs == nil {
		return nil
	}
	s.handles = []*thing{object, key}
	for i := range s.in {
		out := outs[i^swapped(key, object)].(*command.MakeCredentialOut)
		s.in[i] = &command.ActivateCredentialIn{CredentialBlob: out.CredentialBlob, Secret: out.Secret}
	}
	s.exact = true
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		g.check(s, bytes.Equal(outs[0].(*command.ActivateCredentialOut).CertInfo, credential), "TPM2_ActivateCredential gives another credential")
	}
}

func makeUnseal(g *generator, s *step) after {
	s.handles[0] = g.get(sealedData)
	s.both(new(command.None))
	s.exact = s.handles[0].sealed
	return nothing
}

// swapped is 1 where each TPM can take what the other one has made.
func swapped(of ...*thing) int {
	for _, t := range of {
		if t.mixed {
			return 0
		}
	}
	return 1
}

// A duplicated object is on its way from one parent to another.
type duplicated struct {
	object, parent *thing
	out            [2]command.DuplicateOut
	symmetric      tpm2.SymDefObject
	inner          []byte // the key that the caller chose
}

func makeDuplicate(g *generator, s *step) after {
	d := &duplicated{object: g.get(aDuplicable), parent: g.permanent[tpm2.HandleNull]}
	if g.chance(75) {
		d.parent = g.get(anAsymmetricParent)
	}
	s.handles = []*thing{d.object, d.parent}
	d.symmetric = tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	if d.object.attr(tpm2.AttrEncryptedDuplication) || g.chance(40) {
		d.symmetric = g.aes()
		if g.chance(50) {
			d.inner = g.Bytes(int(d.symmetric.KeyBits) / 8)
		}
	}
	s.both(&command.DuplicateIn{SymmetricAlg: d.symmetric, EncryptionKeyIn: d.inner})
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			d.out[i] = *outs[i].(*command.DuplicateOut)
		}
		if swapped(d.object, d.parent) == 1 {
			d.out[0], d.out[1] = d.out[1], d.out[0]
		}
		g.duplicates = append(g.duplicates, d)
		if g.chance(70) {
			g.command(tpm2.CCImport)
		}
	}
}

// makeRewrap gives what was duplicated another parent.
func makeRewrap(g *generator, s *step) after {
	if len(g.duplicates) == 0 {
		g.command(tpm2.CCDuplicate)
	}
	if len(g.duplicates) == 0 {
		return nil
	}
	d := *g.duplicates[len(g.duplicates)-1]
	to := g.permanent[tpm2.HandleNull]
	if d.parent == to || g.chance(70) {
		to = g.get(anAsymmetricParent)
	}
	s.handles = []*thing{d.parent, to}
	for i := range s.in {
		s.in[i] = &command.RewrapIn{InDuplicate: d.out[i].Duplicate, Name: d.object.side[i].name, InSymSeed: d.out[i].OutSymSeed}
	}
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			out := outs[i].(*command.RewrapOut)
			d.out[i].Duplicate, d.out[i].OutSymSeed = out.OutDuplicate, out.OutSymSeed
		}
		if swapped(d.object, to) == 1 {
			d.out[0], d.out[1] = d.out[1], d.out[0]
		}
		d.parent = to
		g.duplicates = append(g.duplicates, &d)
	}
}

func makeImport(g *generator, s *step) after {
	if len(g.duplicates) > 0 && g.chance(50) {
		return g.importDuplicate(s)
	}
	s.handles[0] = g.parent()
	p, sensitive := g.known()
	p.Attributes &^= tpm2.AttrFixedTPM | tpm2.AttrFixedParent
	sensitive.AuthValue = g.authValue()
	plain, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: sensitive})
	if err != nil {
		return nil
	}
	s.both(&command.ImportIn{ObjectPublic: *p, Duplicate: plain, SymmetricAlg: structtest.Pick(g.Source, tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, g.aes())})
	return g.imported(&blob{parent: s.handles[0], auth: sensitive.AuthValue, public: [2]tpm2.Public{*p, *p}})
}

// imported loads what TPM2_Import gave.
func (g *generator) imported(b *blob) after {
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			b.private[i] = outs[i].(*command.ImportOut).OutPrivate
		}
		g.blobs = append(g.blobs, b)
		g.load(b)
	}
}

// importDuplicate imports what was duplicated below its new parent.
func (g *generator) importDuplicate(s *step) after {
	d := g.duplicates[len(g.duplicates)-1]
	if s.handles[0] = d.parent; d.parent.handle == tpm2.HandleNull {
		s.handles[0] = g.parent()
	}
	b := &blob{parent: s.handles[0], auth: d.object.auth, policy: d.object.policy}
	for i := range s.in {
		b.public[i] = *d.object.side[i].public
		key := d.inner
		if key == nil && d.symmetric.Algorithm != tpm2.AlgNull {
			key = d.out[i].EncryptionKeyOut
		}
		s.in[i] = &command.ImportIn{EncryptionKey: key, ObjectPublic: b.public[i], Duplicate: d.out[i].Duplicate, InSymSeed: d.out[i].OutSymSeed, SymmetricAlg: d.symmetric}
	}
	return g.imported(b)
}
