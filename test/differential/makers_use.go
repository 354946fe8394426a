package differential

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// schemeHash is the hash of the scheme of a signing key, SHA-256 if it leaves it open.
func schemeHash(p *tpm2.Public) tpm2.Alg {
	for _, a := range []tpm2.Alg{p.Parameters.ECC.Scheme.HashAlg, p.Parameters.RSA.Scheme.HashAlg, p.Parameters.KeyedHash.HashAlg} {
		if a != 0 {
			return a
		}
	}
	return tpm2.AlgSHA256
}

// signScheme is a scheme that fits the key, mostly.
func (g *generator) signScheme(p *tpm2.Public) tpm2.SigScheme {
	if g.chance(50) {
		return tpm2.SigScheme{Scheme: tpm2.AlgNull}
	}
	s := tpm2.SigScheme{HashAlg: schemeHash(p)}
	switch p.Type {
	case tpm2.AlgRSA:
		s.Scheme = structtest.Pick(g.Source, tpm2.AlgRSASSA, tpm2.AlgRSAPSS)
	case tpm2.AlgECC:
		if s.Scheme = p.Parameters.ECC.Scheme.Scheme; s.Scheme == 0 || s.Scheme == tpm2.AlgNull {
			s.Scheme = structtest.Pick(g.Source, tpm2.AlgECDSA, tpm2.AlgECSchnorr)
		}
	default:
		s.Scheme = tpm2.AlgHMAC
	}
	if g.chance(10) {
		g.Fill(&s)
	}
	return s
}

func (g *generator) signer() *thing {
	return g.object(func(t *thing) bool { return t.attr(tpm2.AttrSign) && t.public().Type != tpm2.AlgSymCipher })
}

// signerOf puts a signing key at place n, or TPM_RH_NULL.
func (g *generator) signerOf(s *step, n int) *thing {
	if g.chance(80) {
		s.handles[n] = g.signer()
	}
	return s.handles[n]
}

func makeSign(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	scheme := g.signScheme(key.public())
	digest := g.Bytes(schemeHash(key.public()).DigestSize())
	in := &command.SignIn{Digest: digest, InScheme: scheme, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}
	s.both(in)
	if g.chance(20) {
		for i := range s.in {
			c := *in
			c.Validation = g.checks[i]
			s.in[i] = &c
		}
	}
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		x := &signed{key: key, digest: digest}
		for i := range outs {
			x.signature[i] = outs[i].(*command.SignOut).Signature
		}
		g.signed = append(g.signed, x)
	}
}

func makeVerifySignature(g *generator, s *step) after {
	if len(g.signed) == 0 {
		return nil
	}
	x := g.signed[len(g.signed)-1-g.IntN(min(len(g.signed), 3))]
	if g.chance(90) {
		s.handles[0] = x.key
	}
	digest := x.digest
	if g.chance(10) {
		digest = g.Bytes(len(digest))
	}
	for i := range s.in {
		s.in[i] = &command.VerifySignatureIn{Digest: digest, Signature: x.signature[i]}
	}
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			g.verified[i] = outs[i].(*command.VerifySignatureOut).Validation
		}
	}
}

func makeHash(g *generator, s *step) after {
	s.both(&command.HashIn{Data: g.UpTo(structtest.Pick(g.Source, 32, 1024)), HashAlg: g.Hash(), Hierarchy: g.Hierarchy()})
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			g.checks[i] = outs[i].(*command.HashOut).Validation
		}
	}
}

func (g *generator) macKey() *thing {
	return g.object(func(t *thing) bool {
		return t.public().Type == tpm2.AlgKeyedHash && t.attr(tpm2.AttrSign) || t.public().Parameters.SymCipher.Mode == tpm2.AlgCMAC
	})
}

func (g *generator) macScheme(t *thing) tpm2.Alg {
	if t.public().Type == tpm2.AlgSymCipher && g.chance(80) {
		return structtest.Pick(g.Source, tpm2.AlgCMAC, tpm2.AlgNull)
	}
	return structtest.Pick(g.Source, tpm2.AlgNull, schemeHash(t.public()), g.Hash())
}

func makeHMAC(g *generator, s *step) after {
	s.handles[0] = g.macKey()
	s.both(&command.HMACIn{Buffer: g.UpTo(300), InScheme: g.macScheme(s.handles[0])})
	return nothing
}

func nothing(tpm2.Handle, *[2]wire.Layout) {}

func (g *generator) sequence(h tpm2.Handle, auth []byte, alg tpm2.Alg, mixed bool) {
	t := &thing{handle: h, auth: auth, sequence: alg, mixed: mixed}
	for i := range t.side {
		t.side[i].name = []byte{}
	}
	g.objects = append(g.objects, t)
}

func makeHMACStart(g *generator, s *step) after {
	key := g.macKey()
	s.handles[0] = key
	auth := g.authValue()
	s.both(&command.HMACStartIn{Auth: auth, InScheme: g.macScheme(key)})
	return func(h tpm2.Handle, _ *[2]wire.Layout) { g.sequence(h, auth, tpm2.AlgHMAC, key.mixed) }
}

func makeHashSequenceStart(g *generator, s *step) after {
	auth := g.authValue()
	alg := structtest.Pick(g.Source, g.Hash(), g.Hash(), tpm2.AlgNull)
	s.both(&command.HashSequenceStartIn{Auth: auth, HashAlg: alg})
	return func(h tpm2.Handle, _ *[2]wire.Layout) { g.sequence(h, auth, alg, false) }
}

func (g *generator) sequenceHandle(event bool) *thing {
	return g.object(func(t *thing) bool { return t.sequence != 0 && (t.sequence == tpm2.AlgNull) == event })
}

func makeSequenceUpdate(g *generator, s *step) after {
	s.handles[0] = g.sequenceHandle(g.chance(30))
	s.both(&command.SequenceUpdateIn{Buffer: g.UpTo(structtest.Pick(g.Source, 20, 1024))})
	return nothing
}

func makeSequenceComplete(g *generator, s *step) after {
	s.handles[0] = g.sequenceHandle(g.chance(10))
	s.both(&command.SequenceCompleteIn{Buffer: g.UpTo(300), Hierarchy: g.Hierarchy()})
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		for i := range outs {
			g.checks[i] = outs[i].(*command.SequenceCompleteOut).Validation
		}
	}
}

func makeEventSequenceComplete(g *generator, s *step) after {
	s.handles[1] = g.sequenceHandle(true)
	s.both(&command.EventSequenceCompleteIn{Buffer: g.UpTo(300)})
	return nothing
}

func (g *generator) cipher() *thing {
	return g.object(func(t *thing) bool { return t.public().Type == tpm2.AlgSymCipher && !t.attr(tpm2.AttrRestricted) })
}

func (g *generator) modeAndData(t *thing) (mode tpm2.Alg, iv, data []byte) {
	mode = tpm2.AlgNull
	if own := t.public().Parameters.SymCipher.Mode; own == tpm2.AlgNull || g.chance(20) {
		mode = structtest.Pick(g.Source, tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgECB, tpm2.AlgNull, tpm2.AlgCMAC)
	}
	return mode, g.Bytes(structtest.Pick(g.Source, 16, 16, 16, 0, g.IntN(17))), g.Bytes(structtest.Pick(g.Source, 16, 32, 48, g.IntN(100)))
}

func makeEncryptDecrypt(g *generator, s *step) after {
	s.handles[0] = g.cipher()
	mode, iv, data := g.modeAndData(s.handles[0])
	s.both(&command.EncryptDecryptIn{Decrypt: g.chance(50), Mode: mode, IVIn: iv, InData: data})
	return nothing
}

func makeEncryptDecrypt2(g *generator, s *step) after {
	s.handles[0] = g.cipher()
	mode, iv, data := g.modeAndData(s.handles[0])
	s.both(&command.EncryptDecrypt2In{InData: data, Decrypt: g.chance(50), Mode: mode, IVIn: iv})
	return nothing
}

func (g *generator) ofType(a tpm2.Alg, attr tpm2.ObjectAttributes) *thing {
	return g.object(func(t *thing) bool { return t.public().Type == a && t.attr(attr) })
}

// point is a point on the curve of a key, mostly.
func (g *generator) point(t *thing) tpm2.ECCPoint {
	if g.chance(12) {
		return tpm2.ECCPoint{X: g.UpTo(48), Y: g.UpTo(48)}
	}
	k, err := tpmcrypto.GenerateECC(g, t.public().Parameters.ECC.CurveID)
	if err != nil {
		return tpm2.ECCPoint{}
	}
	return k.Point()
}

func makeECDHKeyGen(g *generator, s *step) after {
	s.handles[0] = g.ofType(tpm2.AlgECC, 0)
	s.both(new(command.None))
	return nothing
}

func makeECDHZGen(g *generator, s *step) after {
	s.handles[0] = g.ofType(tpm2.AlgECC, tpm2.AttrDecrypt)
	s.both(&command.ECDHZGenIn{InPoint: g.point(s.handles[0])})
	return nothing
}

func makeZGen2Phase(g *generator, s *step) after {
	s.handles[0] = g.ofType(tpm2.AlgECC, tpm2.AttrDecrypt)
	s.both(&command.ZGen2PhaseIn{InQsB: g.point(s.handles[0]), InQeB: g.point(s.handles[0]), InScheme: structtest.Pick(g.Source, tpm2.AlgECDH, tpm2.AlgECMQV), Counter: uint16(g.IntN(3))})
	return nothing
}

func makeCommit(g *generator, s *step) after {
	s.handles[0] = g.object(func(t *thing) bool { return t.public().Parameters.ECC.Scheme.Scheme == tpm2.AlgECDAA })
	in := &command.CommitIn{}
	if g.chance(40) {
		in.P1 = g.point(s.handles[0])
	}
	if g.chance(30) {
		in.S2, in.Y2 = g.UpTo(32), g.UpTo(32)
	}
	s.both(in)
	return nothing
}

func makeRSAEncrypt(g *generator, s *step) after {
	s.handles[0] = g.ofType(tpm2.AlgRSA, 0)
	in := &command.RSAEncryptIn{Message: g.UpTo(structtest.Pick(g.Source, 32, 190, 256))}
	g.Fill(&in.InScheme)
	if g.chance(40) {
		in.Label = append(g.UpTo(10), 0)
	}
	s.both(in)
	return nothing
}

func makeRSADecrypt(g *generator, s *step) after {
	s.handles[0] = g.ofType(tpm2.AlgRSA, tpm2.AttrDecrypt)
	in := &command.RSADecryptIn{CipherText: g.Bytes(256)}
	if in.CipherText[0] &= 0x7f; g.chance(20) {
		in.CipherText = g.UpTo(256)
	}
	g.Fill(&in.InScheme)
	if g.chance(20) {
		in.Label = append(g.UpTo(10), 0)
	}
	s.both(in)
	return nothing
}

func makeQuote(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	s.both(&command.QuoteIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public()), PCRSelect: g.selections()})
	return nothing
}

func makeCertify(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.CertifyIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public())})
	return nothing
}

func makeCertifyCreation(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	scheme, data := g.signScheme(key.public()), g.UpTo(32)
	if len(g.objects) > 0 {
		s.handles[1] = g.objects[len(g.objects)-1]
	}
	for i := range s.in {
		s.in[i] = &command.CertifyCreationIn{QualifyingData: data, InScheme: scheme, CreationHash: g.creations[i].CreationHash, CreationTicket: g.creations[i].CreationTicket}
	}
	return nothing
}

func makeGetTime(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.GetTimeIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public())})
	return nothing
}

func makeSessionAuditDigest(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.GetSessionAuditDigestIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public())})
	return nothing
}

func makeCommandAuditDigest(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.GetCommandAuditDigestIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public())})
	return nothing
}

func makeNVCertify(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	s.handles[2] = g.index()
	in := &command.NVCertifyIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key.public())}
	if g.chance(70) {
		in.Size = uint16(g.IntN(int(s.handles[2].nv.DataSize) + 1))
	}
	s.both(in)
	return nothing
}

func makeMakeCredential(g *generator, s *step) after {
	s.handles[0] = g.parent()
	s.both(&command.MakeCredentialIn{Credential: g.UpTo(34), ObjectName: g.UpTo(34)})
	return nothing
}

func makeDuplicate(g *generator, s *step) after {
	s.handles[0] = g.object(func(t *thing) bool { return t.policy != nil && !t.attr(tpm2.AttrFixedParent) })
	if g.chance(70) {
		s.handles[1] = g.parent()
	}
	in := &command.DuplicateIn{SymmetricAlg: structtest.Pick(g.Source, tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, g.aes())}
	if in.SymmetricAlg.Algorithm != tpm2.AlgNull && g.chance(50) {
		in.EncryptionKeyIn = g.Bytes(int(in.SymmetricAlg.KeyBits) / 8)
	}
	s.both(in)
	return nothing
}

func makeImport(g *generator, s *step) after {
	s.handles[0] = g.parent()
	p, sensitive := g.known()
	p.Attributes &^= tpm2.AttrFixedTPM | tpm2.AttrFixedParent
	sensitive.AuthValue = g.authValue()
	plain, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: sensitive})
	if err != nil {
		return nil
	}
	s.both(&command.ImportIn{ObjectPublic: *p, Duplicate: plain, SymmetricAlg: structtest.Pick(g.Source, tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, g.aes())})
	parent := s.handles[0]
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		b := &blob{parent: parent, auth: sensitive.AuthValue, public: [2]tpm2.Public{*p, *p}}
		for i := range outs {
			b.private[i] = outs[i].(*command.ImportOut).OutPrivate
		}
		g.blobs = append(g.blobs, b)
		g.load(b)
	}
}
