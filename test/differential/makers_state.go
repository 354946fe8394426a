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

func makeNVDefine(g *generator, s *step) after {
	p := tpm2.NVPublic{NVIndex: 0x01000000 + tpm2.Handle(g.IntN(8)), NameAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384)}
	kind := structtest.Pick(g.Source, tpm2.NVOrdinary, tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass)
	p.Attributes = kind.Attributes() | structtest.Pick(g.Source, tpm2.NVOwnerWrite|tpm2.NVOwnerRead, tpm2.NVAuthWrite|tpm2.NVAuthRead|tpm2.NVOwnerWrite, tpm2.NVPolicyWrite|tpm2.NVPolicyRead|tpm2.NVAuthRead|tpm2.NVOwnerWrite, tpm2.NVPPWrite|tpm2.NVPPRead|tpm2.NVAuthRead|tpm2.NVAuthWrite)
	for _, a := range []tpm2.NVAttributes{tpm2.NVWriteAll, tpm2.NVWriteDefine, tpm2.NVWriteSTClear, tpm2.NVGlobalLock, tpm2.NVNoDA, tpm2.NVOrderly, tpm2.NVClearSTClear, tpm2.NVReadSTClear, tpm2.NVNoDA} {
		if g.chance(20) {
			p.Attributes |= a
		}
	}
	if s.handles[0].handle == tpm2.HandlePlatform && g.chance(92) {
		p.Attributes |= tpm2.NVPlatformCreate
	}
	if kind == tpm2.NVPinFail && g.chance(90) {
		p.Attributes = p.Attributes&^tpm2.NVAuthWrite | tpm2.NVNoDA
	}
	if g.chance(10) {
		p.Attributes ^= 1 << g.IntN(32)
	}
	switch kind {
	case tpm2.NVOrdinary:
		p.DataSize = uint16(structtest.Pick(g.Source, g.IntN(64), 32, g.IntN(2100)))
	case tpm2.NVExtend:
		p.DataSize = uint16(p.NameAlg.DigestSize())
	default:
		p.DataSize = 8
	}
	if g.chance(3) {
		p.DataSize++
	}
	t := &thing{handle: p.NVIndex, auth: g.authValue()}
	if g.chance(30) {
		if t.policy = g.recipe(p.NameAlg); t.policy != nil {
			p.AuthPolicy = t.policy.digest
			if t.policy.code == tpm2.CCNVUndefineSpaceSpecial && s.handles[0].handle == tpm2.HandlePlatform {
				p.Attributes |= tpm2.NVPolicyDelete
			}
		}
	}
	s.both(&command.NVDefineSpaceIn{Auth: t.auth, PublicInfo: p})
	return func(tpm2.Handle, *[2]wire.Layout) {
		g.indices = append(g.indices, t)
		g.refresh(t)
	}
}

// makeNV chooses who authorizes: the index, the owner or the platform.
func makeNV(g *generator, s *step) after {
	t := g.index()
	if g.chance(95) {
		s.handles[len(s.handles)-1] = t
	}
	if len(s.handles) == 2 && s.info.Handles[0].Type == command.HandleNVAuth {
		switch a := t.nv.Attributes; {
		case g.chance(10):
		case a&(tpm2.NVAuthWrite|tpm2.NVAuthRead|tpm2.NVPolicyRead|tpm2.NVPolicyWrite) != 0 && g.chance(70):
			s.handles[0] = t
		case a&(tpm2.NVOwnerRead|tpm2.NVOwnerWrite) != 0:
			s.handles[0] = g.permanent[tpm2.HandleOwner]
		default:
			s.handles[0] = g.permanent[tpm2.HandlePlatform]
		}
	}
	size := int(t.nv.DataSize)
	switch s.info.Code {
	case tpm2.CCNVWrite:
		in := &command.NVWriteIn{Data: g.Bytes(structtest.Pick(g.Source, size, g.IntN(size+2)) % 1025)}
		if t.nv.Attributes.Type() == tpm2.NVPinFail || t.nv.Attributes.Type() == tpm2.NVPinPass {
			in.Data = []byte{0, 0, 0, byte(g.IntN(3)), 0, 0, 0, byte(g.IntN(6))}
		}
		if g.chance(20) {
			in.Offset = uint16(g.IntN(size + 2))
		}
		s.both(in)
	case tpm2.CCNVRead:
		in := &command.NVReadIn{Size: uint16(size % 1025)}
		if g.chance(30) {
			in.Size, in.Offset = uint16(g.IntN(size+2)), uint16(g.IntN(size+2))
		}
		s.both(in)
	case tpm2.CCNVExtend:
		s.both(&command.NVExtendIn{Data: g.UpTo(64)})
	case tpm2.CCNVSetBits:
		s.both(&command.NVSetBitsIn{Bits: 1 << g.IntN(64)})
	}
	return nothing
}

func makeNVChangeAuth(g *generator, s *step) after {
	auth := g.authValue()
	s.both(&command.NVChangeAuthIn{NewAuth: auth})
	return func(tpm2.Handle, *[2]wire.Layout) { s.handles[0].auth = auth }
}

func makeHierarchyChangeAuth(g *generator, s *step) after {
	auth := structtest.Pick(g.Source, nil, nil, g.authValue())
	s.both(&command.HierarchyChangeAuthIn{NewAuth: auth})
	return func(tpm2.Handle, *[2]wire.Layout) { s.handles[0].auth = auth }
}

func makeSetPrimaryPolicy(g *generator, s *step) after {
	in := &command.SetPrimaryPolicyIn{HashAlg: structtest.Pick(g.Source, g.Hash(), tpm2.AlgNull)}
	var policy *recipe
	if in.HashAlg != tpm2.AlgNull {
		if policy = g.recipe(in.HashAlg); policy != nil {
			in.AuthPolicy = policy.digest
		}
	}
	if g.chance(10) {
		in.AuthPolicy, policy = g.UpTo(64), nil
	}
	s.both(in)
	return func(tpm2.Handle, *[2]wire.Layout) { s.handles[0].policy = policy }
}

func makeClear(g *generator, s *step) after {
	s.both(new(command.None))
	return func(tpm2.Handle, *[2]wire.Layout) {
		for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandleLockout} {
			g.permanent[h].auth, g.permanent[h].policy = nil, nil
		}
	}
}

func makeDAParameters(g *generator, s *step) after {
	s.both(&command.DictionaryAttackParametersIn{
		NewMaxTries: structtest.Pick[uint32](g.Source, 1000, 1000, 3, 1, 0), NewRecoveryTime: structtest.Pick[uint32](g.Source, 100000, 100000, 0),
		LockoutRecovery: structtest.Pick[uint32](g.Source, 0, 100000),
	})
	return nothing
}

func makeSelfTest(g *generator, s *step) after {
	s.both(&command.SelfTestIn{FullTest: g.chance(1)})
	return nothing
}

func makePCRExtend(g *generator, s *step) after {
	in := &command.PCRExtendIn{}
	for range 1 + g.IntN(4) {
		h := g.Hash()
		in.Digests = append(in.Digests, tpm2.DigestValue{HashAlg: h, Digest: g.Bytes(h.DigestSize())})
	}
	s.both(in)
	return nothing
}

func makePCRRead(g *generator, s *step) after {
	s.both(&command.PCRReadIn{PCRSelectionIn: g.selections()})
	return nothing
}

func makeGetCapability(g *generator, s *step) after {
	in := &command.GetCapabilityIn{Capability: structtest.Pick(g.Source, tpm2.CapHandles, tpm2.CapPCRs, tpm2.CapPPCommands, tpm2.CapAuditCommands, tpm2.CapTPMProperties, tpm2.CapPCRProperties, tpm2.CapAuthPolicies, tpm2.CapECCCurves, tpm2.CapAlgs, tpm2.CapCommands)}
	in.Property = structtest.Pick(g.Source, 0, g.Uint32()>>g.IntN(32), 0x100, 0x200, 0x20f, 0x80000000, 0x81000000, 0x02000000, 0x03000000, 0x01000000, 0x40000000)
	in.PropertyCount = structtest.Pick(g.Source, 0, 1, 2, 64, 300, g.Uint32()>>g.IntN(32))
	s.both(in)
	return nothing
}

func makePolicyAuthorize(g *generator, s *step) after {
	for i := range s.in {
		s.in[i] = &command.PolicyAuthorizeIn{ApprovedPolicy: make([]byte, 32), KeySign: s.handles[0].side[i].name, CheckTicket: g.verified[i]}
		if g.verified[i].Tag == 0 {
			return nil
		}
	}
	return nothing
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
		t := &ticket{in: in}
		for i := range outs {
			t.out[i] = *outs[i].(*command.PolicySecretOut)
			e := who.entity(i)
			if t.name[i] = e.Name; e.Name == nil {
				t.name[i], _ = wire.Encode(&e.Handle)
			}
		}
		g.tickets = t
	}
}

func makePolicyTicket(g *generator, s *step) after {
	t := g.tickets
	if t == nil {
		return nil
	}
	for i := range s.in {
		s.in[i] = &command.PolicyTicketIn{Timeout: t.out[i].Timeout, CpHashA: t.in.CpHashA, PolicyRef: t.in.PolicyRef, AuthName: t.name[i], Ticket: t.out[i].PolicyTicket}
	}
	return nothing
}

// makePolicySigned signs with a key that both have, an HMAC key.
func makePolicySigned(g *generator, s *step) after {
	in := command.PolicySignedIn{PolicyRef: structtest.Pick(g.Source, nil, g.UpTo(20)), Expiration: structtest.Pick[int32](g.Source, 0, 0, -1000, 1000)}
	key, err := tpmcrypto.GenerateECC(g, tpm2.CurveNISTP256)
	if err != nil {
		return nil
	}
	p := &tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrSign | tpm2.AttrUserWithAuth}
	p = ecc(p, tpm2.ECCParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}, CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}})
	p.Unique.ECC = key.Point()
	load := g.plain(tpm2.CCLoadExternal, &command.LoadExternalIn{InPublic: *p, Hierarchy: tpm2.HandleOwner})
	g.room(load.info)
	h, outs := g.run(load)
	if outs == nil {
		return nil
	}
	t := &thing{handle: h}
	t.named([2]*tpm2.Public{p, p})
	g.objects = append(g.objects, t)
	s.handles[0] = t
	expiration := []byte{byte(in.Expiration >> 24), byte(in.Expiration >> 16), byte(in.Expiration >> 8), byte(in.Expiration)}
	digest, err := tpmcrypto.Hash(tpm2.AlgSHA256, expiration, in.PolicyRef)
	if err != nil {
		return nil
	}
	in.Auth = tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}
	if in.Auth.R, in.Auth.S, err = key.SignECDSA(g, digest); err != nil {
		return nil
	}
	s.both(&in)
	return nothing
}

func makePolicyOR(g *generator, s *step) after {
	in := &command.PolicyORIn{}
	size := structtest.Pick(g.Source, 32, 20, 48, 64)
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
	makeNVHandles(g, s)
	s.both(&command.PolicyNVIn{OperandB: g.UpTo(9), Offset: uint16(g.IntN(4)), Operation: tpm2.Operation(g.IntN(12))})
	return nothing
}

func makeNVHandles(g *generator, s *step) {
	t := g.index()
	s.handles[1] = t
	if s.handles[0] = t; t.nv.Attributes&(tpm2.NVAuthRead|tpm2.NVPolicyRead) == 0 {
		s.handles[0] = structtest.Pick(g.Source, g.permanent[tpm2.HandleOwner], g.permanent[tpm2.HandlePlatform])
	}
}

func makePolicyAuthorizeNV(g *generator, s *step) after {
	makeNVHandles(g, s)
	s.both(new(command.None))
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
