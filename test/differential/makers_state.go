package differential

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

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
		g.present()
	}
}

func makeChangeSeed(g *generator, s *step) after {
	s.both(new(command.None))
	return func(tpm2.Handle, *[2]wire.Layout) {
		if s.info.Code == tpm2.CCChangeEPS {
			g.permanent[tpm2.HandleEndorsement].auth, g.permanent[tpm2.HandleEndorsement].policy = nil, nil
		}
		g.present()
	}
}

// makeHierarchyControl enables what it disables soon after, most times.
func makeHierarchyControl(g *generator, s *step) after {
	in := &command.HierarchyControlIn{Enable: structtest.Pick(g.Source, tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatformNV, tpm2.HandlePlatform), State: g.chance(60)}
	s.both(in)
	return func(tpm2.Handle, *[2]wire.Layout) {
		g.present()
		if !in.State && in.Enable != tpm2.HandlePlatform && g.chance(60) {
			in.State = true
			g.do(tpm2.CCHierarchyControl, same(in), g.permanent[tpm2.HandlePlatform])
		}
	}
}

func makeAuditStatus(g *generator, s *step) after {
	in := &command.SetCommandCodeAuditStatusIn{AuditAlg: structtest.Pick(g.Source, tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgSHA256, g.Hash())}
	if in.AuditAlg == tpm2.AlgNull || g.chance(20) {
		for range g.IntN(4) {
			in.SetList = append(in.SetList, g.pick())
		}
		for range g.IntN(3) {
			in.ClearList = append(in.ClearList, g.pick())
		}
	}
	s.both(in)
	return nothing
}

func makePCRSetAuthPolicy(g *generator, s *step) after {
	h := g.Hash()
	s.both(&command.PCRSetAuthPolicyIn{AuthPolicy: g.Bytes(h.DigestSize()), HashAlg: h, PCRNum: tpm2.Handle(g.IntN(24))})
	return nothing
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
