package differential

import (
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
func (g *generator) signScheme(t *thing) tpm2.SigScheme {
	p, count := t.public(), t.count
	if g.chance(50) && count == 0 {
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
	if s.Scheme == tpm2.AlgECDAA {
		s.Count = count
	}
	if g.chance(10) {
		g.Fill(&s)
	}
	return s
}

func (g *generator) signer() *thing { return g.get(aSigner) }

// signerOf puts a signing key at place n, or TPM_RH_NULL.
func (g *generator) signerOf(s *step, n int) *thing {
	if g.chance(90) {
		s.handles[n] = g.signer()
	}
	return s.handles[n]
}

func makeSign(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	scheme := g.signScheme(key)
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
	swap := 0 // each verifies what the other one has signed
	if !x.key.mixed && g.chance(50) {
		swap = 1
	}
	for i := range s.in {
		s.in[i] = &command.VerifySignatureIn{Digest: digest, Signature: x.signature[i^swap]}
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

func (g *generator) macKey() *thing { return g.get(aMACKey) }

func (g *generator) macScheme(t *thing) tpm2.Alg {
	if t.public().Type == tpm2.AlgSymCipher && g.chance(80) {
		return structtest.Pick(g.Source, tpm2.AlgCMAC, tpm2.AlgNull)
	}
	return structtest.Pick(g.Source, tpm2.AlgNull, schemeHash(t.public()), schemeHash(t.public()), g.Hash())
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
	if event {
		return g.get(anEventSequence)
	}
	return g.get(aSequence)
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

func (g *generator) cipher() *thing { return g.get(aCipher) }

func (g *generator) modeAndData(t *thing) (mode tpm2.Alg, iv, data []byte) {
	mode = tpm2.AlgNull
	own := t.public().Parameters.SymCipher.Mode
	if own == tpm2.AlgNull || g.chance(10) {
		mode = structtest.Pick(g.Source, tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgECB, tpm2.AlgNull, tpm2.AlgCMAC)
	}
	iv = g.Bytes(16)
	if mode == tpm2.AlgECB || mode == tpm2.AlgNull && own == tpm2.AlgECB {
		iv = nil
	}
	if g.chance(15) {
		iv = g.UpTo(17)
	}
	return mode, iv, g.Bytes(structtest.Pick(g.Source, 16, 32, 48, 1024, g.IntN(100)))
}

// decrypts chooses a direction that the key allows, mostly.
func (g *generator) decrypts(t *thing) bool {
	if can := t.attr(tpm2.AttrDecrypt); can == t.attr(tpm2.AttrSign) || g.chance(10) {
		return g.chance(50)
	}
	return t.attr(tpm2.AttrDecrypt)
}

func makeEncryptDecrypt(g *generator, s *step) after {
	s.handles[0] = g.cipher()
	mode, iv, data := g.modeAndData(s.handles[0])
	s.both(&command.EncryptDecryptIn{Decrypt: g.decrypts(s.handles[0]), Mode: mode, IVIn: iv, InData: data})
	return nothing
}

func makeEncryptDecrypt2(g *generator, s *step) after {
	s.handles[0] = g.cipher()
	mode, iv, data := g.modeAndData(s.handles[0])
	s.both(&command.EncryptDecrypt2In{InData: data, Decrypt: g.decrypts(s.handles[0]), Mode: mode, IVIn: iv})
	return nothing
}

func makeQuote(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	s.both(&command.QuoteIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key), PCRSelect: g.selections()})
	return nothing
}

func makeCertify(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.CertifyIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key)})
	return nothing
}

// created reports whether the ticket of a primary object's creation is known.
func created(t *thing) bool { return len(t.creation[0].CreationHash) > 0 }

func makeCertifyCreation(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	scheme, data := g.signScheme(key), g.UpTo(32)
	of := g.object(created)
	s.handles[1] = of
	for i := range s.in {
		s.in[i] = &command.CertifyCreationIn{QualifyingData: data, InScheme: scheme, CreationHash: of.creation[i].CreationHash, CreationTicket: of.creation[i].CreationTicket}
		if !created(of) {
			return nil
		}
	}
	return nothing
}

func makeGetTime(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.GetTimeIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key)})
	return nothing
}

func makeSessionAuditDigest(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	hash := g.Hash()
	if t := g.startSession(tpm2.SessionHMAC, &hash); t != nil && g.chance(90) {
		// A first command makes it an audit session.
		read := g.plain(tpm2.CCPCRRead, &command.PCRReadIn{PCRSelectionIn: g.selections()})
		read.uses = []use{{t, tpm2.SessionContinue | tpm2.SessionAudit}}
		g.run(read)
		s.handles[2] = t
		s.exact = !key.mixed
	}
	s.both(&command.GetSessionAuditDigestIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key)})
	return nothing
}

func makeCommandAuditDigest(g *generator, s *step) after {
	key := g.signerOf(s, 1)
	s.both(&command.GetCommandAuditDigestIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key)})
	return nothing
}

func makeNVCertify(g *generator, s *step) after {
	key := g.signerOf(s, 0)
	t := g.written(func(*thing) bool { return true })
	s.handles[2] = t
	s.handles[1] = g.nvAuthorizer(t, false)
	in := &command.NVCertifyIn{QualifyingData: g.UpTo(32), InScheme: g.signScheme(key)}
	if g.chance(70) {
		in.Size = uint16(g.IntN(int(t.nv.DataSize) + 1))
	}
	s.both(in)
	return nothing
}
