package differential

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// A ticket is what TPM2_PolicySecret or TPM2_PolicySigned gave.
type ticket struct {
	in   command.PolicySecretIn
	name [2][]byte
	out  [2]command.PolicySecretOut
}

// makePolicyAuthorize signs the policy of a new session with a key of ours, and has
// the TPMs verify that.
func makePolicyAuthorize(g *generator, s *step) after {
	session := s.handles[0]
	g.do(tpm2.CCPolicyRestart, same(new(command.None)), session)
	in := command.PolicyAuthorizeIn{ApprovedPolicy: make([]byte, session.hash.DigestSize()), PolicyRef: g.UpTo(10)}
	signed, err := tpmcrypto.Hash(tpm2.AlgSHA256, in.ApprovedPolicy, in.PolicyRef)
	if err != nil {
		return nil
	}
	key, signature := g.signOutside(signed)
	if key == nil {
		return nil
	}
	outs := g.do(tpm2.CCVerifySignature, same(&command.VerifySignatureIn{Digest: signed, Signature: *signature}), key)
	if outs == nil {
		return nil
	}
	in.KeySign = key.side[0].name
	for i := range s.in {
		c := in
		c.CheckTicket = outs[i].(*command.VerifySignatureOut).Validation
		s.in[i] = &c
	}
	return nothing
}

// signOutside signs a digest with a new key of which the TPMs get the public part.
func (g *generator) signOutside(digest []byte) (*thing, *tpm2.Signature) {
	key, err := tpmcrypto.GenerateECC(g, tpm2.CurveNISTP256)
	if err != nil {
		return nil, nil
	}
	p := &tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrSign | tpm2.AttrUserWithAuth}
	p = ecc(p, eccParms(tpm2.CurveNISTP256, tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}))
	p.Unique.ECC = key.Point()
	load := g.plain(tpm2.CCLoadExternal, &command.LoadExternalIn{InPublic: *p, Hierarchy: tpm2.HandleOwner})
	g.room(load.info)
	h, outs := g.run(load)
	if outs == nil {
		return nil, nil
	}
	t := &thing{handle: h, publicOnly: true}
	t.named([2]*tpm2.Public{p, p})
	g.objects = append(g.objects, t)
	s := &tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}
	if s.R, s.S, err = key.SignECDSA(g, digest); err != nil {
		return nil, nil
	}
	return t, s
}

// makePolicySecret asks for a ticket at times.
func makePolicySecret(g *generator, s *step) after {
	in := command.PolicySecretIn{PolicyRef: structtest.Pick(g.Source, nil, g.UpTo(20))}
	if g.chance(40) {
		in.Expiration = structtest.Pick[int32](g.Source, -1000, 1000, 0, -1)
	}
	if g.chance(10) {
		in.CpHashA = g.Bytes(structtest.Pick(g.Source, 32, 20, 48))
	}
	s.both(&in)
	who := s.handles[0]
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		t := &ticket{in: *s.in[0].(*command.PolicySecretIn)}
		for i := range outs {
			t.out[i] = *outs[i].(*command.PolicySecretOut)
			e := who.entity(i)
			if t.name[i] = e.Name; e.Name == nil {
				t.name[i], _ = wire.Encode(&e.Handle)
			}
		}
		if t.in.Expiration < 0 && len(t.out[0].Timeout) > 0 {
			g.tickets = t
		}
	}
}

func makePolicyTicket(g *generator, s *step) after {
	if g.tickets == nil || g.chance(40) {
		secret := g.newStep(tpm2.CCPolicySecret)
		secret.handles = []*thing{g.permanent[tpm2.HandleOwner], s.handles[0]}
		got := makePolicySecret(g, secret)
		in := secret.in[0].(*command.PolicySecretIn)
		in.Expiration, in.CpHashA = -1000, nil
		g.authorize(secret)
		if _, outs := g.run(secret); outs != nil {
			got(0, outs)
			g.settle(secret)
		}
		g.do(tpm2.CCPolicyRestart, same(new(command.None)), s.handles[0])
	}
	t := g.tickets
	if t == nil {
		return nil
	}
	for i := range s.in {
		s.in[i] = &command.PolicyTicketIn{Timeout: t.out[i].Timeout, CpHashA: t.in.CpHashA, PolicyRef: t.in.PolicyRef, AuthName: t.name[i], Ticket: t.out[i].PolicyTicket}
	}
	return nothing
}

// makePolicySigned signs with a key of ours.
func makePolicySigned(g *generator, s *step) after {
	in := command.PolicySignedIn{PolicyRef: structtest.Pick(g.Source, nil, g.UpTo(20)), Expiration: structtest.Pick[int32](g.Source, 0, 0, -1000, 1000)}
	expiration := []byte{byte(in.Expiration >> 24), byte(in.Expiration >> 16), byte(in.Expiration >> 8), byte(in.Expiration)}
	digest, err := tpmcrypto.Hash(tpm2.AlgSHA256, expiration, in.PolicyRef)
	if err != nil {
		return nil
	}
	key, signature := g.signOutside(digest)
	if key == nil {
		return nil
	}
	s.handles[0], in.Auth = key, *signature
	s.both(&in)
	return nothing
}

func makePolicyOR(g *generator, s *step) after {
	in := &command.PolicyORIn{}
	size := structtest.Pick(g.Source, 32, 20, 48, 64)
	if h := s.handles[0].hash; h != 0 && g.chance(80) {
		size = h.DigestSize()
		if g.chance(50) {
			g.do(tpm2.CCPolicyRestart, same(new(command.None)), s.handles[0])
		}
	}
	for range 2 + g.IntN(7) {
		in.PHashList = append(in.PHashList, make([]byte, size))
	}
	s.both(in)
	return nothing
}

func makePolicyPCR(g *generator, s *step) after {
	s.both(&command.PolicyPCRIn{PCRDigest: structtest.Pick(g.Source, nil, nil, g.Bytes(32)), PCRs: g.selections()})
	return nothing
}

func makePolicyNV(g *generator, s *step) after {
	t := g.written(func(*thing) bool { return true })
	s.handles[0], s.handles[1] = g.nvAuthorizer(t, false), t
	size := int(t.nv.DataSize)
	in := &command.PolicyNVIn{OperandB: g.Bytes(g.IntN(min(size, 9) + 1)), Operation: tpm2.Operation(g.IntN(12))}
	if g.chance(30) {
		in.Offset = uint16(g.IntN(4))
	}
	s.both(in)
	return nothing
}

// makePolicyAuthorizeNV writes the policy of a new session into an index.
func makePolicyAuthorizeNV(g *generator, s *step) after {
	session := s.handles[2]
	g.do(tpm2.CCPolicyRestart, same(new(command.None)), session)
	size := 2 + session.hash.DigestSize()
	t := g.indexLike(func(t *thing) bool { return t.nv.Attributes.Type() == tpm2.NVOrdinary && int(t.nv.DataSize) == size }, func() *thing {
		return g.define(tpm2.NVOrdinary, func(_ *thing, p *tpm2.NVPublic) {
			p.DataSize = uint16(size)
			p.Attributes |= tpm2.NVPlatformCreate
		})
	})
	write := g.plain(tpm2.CCNVWrite, &command.NVWriteIn{Data: append([]byte{byte(session.hash >> 8), byte(session.hash)}, make([]byte, session.hash.DigestSize())...)})
	write.handles = []*thing{g.nvAuthorizer(t, true), t}
	g.authorize(write)
	if _, outs := g.run(write); outs != nil {
		g.settle(write)
	}
	s.handles[0], s.handles[1] = g.nvAuthorizer(t, false), t
	s.both(new(command.None))
	return nothing
}

// makePolicyCounterTimer compares what is the same in both: the upper half of the
// time, which is zero, and the counts.
func makePolicyCounterTimer(g *generator, s *step) after {
	in := &command.PolicyCounterTimerIn{Operation: tpm2.Operation(g.IntN(12))}
	in.Offset = structtest.Pick[uint16](g.Source, 0, 16, 20, 24)
	in.OperandB = g.Bytes(structtest.Pick(g.Source, 1, 4, g.IntN(5)))
	if g.chance(60) {
		clear(in.OperandB[:max(len(in.OperandB)-1, 0)])
	}
	s.both(in)
	return nothing
}

func makePolicyLocality(g *generator, s *step) after {
	s.both(&command.PolicyLocalityIn{Locality: structtest.Pick[tpm2.Locality](g.Source, 1, 3, 8, 31, 0, tpm2.Locality(g.Uint32()))})
	return nothing
}

func makePolicyCommandCode(g *generator, s *step) after {
	s.both(&command.PolicyCommandCodeIn{Code: g.pick()})
	return nothing
}

func makePolicyHash(g *generator, s *step) after {
	in, _ := s.info.New()
	b := g.Bytes(structtest.Pick(g.Source, 32, 32, 20, 48, 64, g.IntN(65)))
	if h := s.handles[0].hash; h != 0 && g.chance(80) {
		b = g.Bytes(h.DigestSize())
	}
	switch in := in.(type) {
	case *command.PolicyCpHashIn:
		in.CpHashA = b
	case *command.PolicyNameHashIn:
		in.NameHash = b
	case *command.PolicyTemplateIn:
		in.TemplateHash = b
	}
	s.both(in)
	return nothing
}
