package differential

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// nvKinds are the types of an index.
func (g *generator) nvKind() tpm2.NVType {
	return structtest.Pick(g.Source, tpm2.NVOrdinary, tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass)
}

func makeNVDefine(g *generator, s *step) after {
	t, p := g.nvPublic(s.handles[0], g.nvKind())
	s.both(&command.NVDefineSpaceIn{Auth: t.auth, PublicInfo: *p})
	return func(tpm2.Handle, *[2]wire.Layout) {
		g.indices = append(g.indices, t)
		g.refresh(t)
	}
}

// nvPublic is the public area of an index, right in most cases.
func (g *generator) nvPublic(by *thing, kind tpm2.NVType) (*thing, *tpm2.NVPublic) {
	p := &tpm2.NVPublic{NVIndex: 0x01000000 + tpm2.Handle(g.IntN(12)), NameAlg: structtest.Pick(g.Source, tpm2.AlgSHA256, tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384)}
	p.Attributes = kind.Attributes() | structtest.Pick(g.Source, tpm2.NVOwnerWrite|tpm2.NVOwnerRead, tpm2.NVAuthWrite|tpm2.NVAuthRead|tpm2.NVOwnerWrite, tpm2.NVPolicyWrite|tpm2.NVPolicyRead|tpm2.NVAuthRead|tpm2.NVOwnerWrite, tpm2.NVPPWrite|tpm2.NVPPRead|tpm2.NVAuthRead|tpm2.NVAuthWrite)
	for _, a := range []tpm2.NVAttributes{tpm2.NVWriteAll, tpm2.NVWriteDefine, tpm2.NVWriteSTClear, tpm2.NVGlobalLock, tpm2.NVNoDA, tpm2.NVOrderly, tpm2.NVClearSTClear, tpm2.NVReadSTClear, tpm2.NVNoDA} {
		if g.chance(15) {
			p.Attributes |= a
		}
	}
	if by.handle == tpm2.HandlePlatform && g.chance(92) {
		p.Attributes |= tpm2.NVPlatformCreate
	}
	if kind == tpm2.NVPinFail && g.chance(90) {
		p.Attributes = p.Attributes&^tpm2.NVAuthWrite | tpm2.NVNoDA
	}
	if kind == tpm2.NVCounter || kind == tpm2.NVPinPass || kind == tpm2.NVPinFail {
		p.Attributes &^= tpm2.NVClearSTClear // which counters cannot have
	}
	if g.chance(5) {
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
			if t.policy.code == tpm2.CCNVUndefineSpaceSpecial && by.handle == tpm2.HandlePlatform {
				p.Attributes |= tpm2.NVPolicyDelete
			}
		}
	}
	return t, p
}

// define makes an index.
func (g *generator) define(kind tpm2.NVType, change func(*thing, *tpm2.NVPublic)) *thing {
	by := structtest.Pick(g.Source, g.permanent[tpm2.HandleOwner], g.permanent[tpm2.HandlePlatform])
	t, p := g.nvPublic(by, kind)
	if change != nil {
		by = g.permanent[tpm2.HandlePlatform]
		change(t, p)
	}
	if g.do(tpm2.CCNVDefineSpace, same(&command.NVDefineSpaceIn{Auth: t.auth, PublicInfo: *p}), by) == nil {
		return nil
	}
	g.indices = append(g.indices, t)
	g.refresh(t)
	return t
}

// kindFor is the type of an index that a command is for.
func (g *generator) kindFor(cc tpm2.CC) tpm2.NVType {
	switch cc {
	case tpm2.CCNVIncrement:
		return tpm2.NVCounter
	case tpm2.CCNVExtend:
		return tpm2.NVExtend
	case tpm2.CCNVSetBits:
		return tpm2.NVBits
	case tpm2.CCNVWrite:
		return structtest.Pick(g.Source, tpm2.NVOrdinary, tpm2.NVOrdinary, tpm2.NVPinFail, tpm2.NVPinPass)
	}
	return g.nvKind()
}

// indexFor chooses an index that a command is for, and makes one at times.
func (g *generator) indexFor(cc tpm2.CC) *thing {
	kind := g.kindFor(cc)
	return g.indexLike(func(t *thing) bool { return t.nv.Attributes.Type() == kind }, func() *thing { return g.define(kind, nil) })
}

func (g *generator) indexLike(fits func(*thing) bool, otherwise func() *thing) *thing {
	var of []*thing
	for _, t := range g.indices {
		if fits(t) {
			of = append(of, t)
		}
	}
	switch {
	case g.chance(4):
		return g.index()
	case len(of) > 0 && !g.chance(15):
		return of[g.IntN(len(of))]
	}
	if t := otherwise(); t != nil {
		return t
	}
	return g.index()
}

// written chooses an index that was written, and writes one when there is none.
func (g *generator) written(fits func(*thing) bool) *thing {
	return g.indexLike(func(t *thing) bool { return t.nv.Attributes.Has(tpm2.NVWritten) && fits(t) }, func() *thing {
		t := g.indexFor(structtest.Pick(g.Source, tpm2.CCNVWrite, tpm2.CCNVWrite, tpm2.CCNVIncrement, tpm2.CCNVExtend, tpm2.CCNVSetBits))
		cc := map[tpm2.NVType]tpm2.CC{tpm2.NVCounter: tpm2.CCNVIncrement, tpm2.NVExtend: tpm2.CCNVExtend, tpm2.NVBits: tpm2.CCNVSetBits}[t.nv.Attributes.Type()]
		if cc == 0 {
			cc = tpm2.CCNVWrite
		}
		s := g.newStep(cc)
		s.handles = []*thing{g.nvAuthorizer(t, true), t}
		g.nvParameters(s, t)
		g.prepare(s)
		if _, outs := g.run(s); outs != nil {
			g.settle(s)
		}
		return t
	})
}

// nvAuthorizer chooses who may read or write an index: itself, the owner or the platform.
func (g *generator) nvAuthorizer(t *thing, write bool) *thing {
	itself, owner, platform := tpm2.NVAuthRead|tpm2.NVPolicyRead, tpm2.NVOwnerRead, tpm2.NVPPRead
	if write {
		itself, owner, platform = tpm2.NVAuthWrite|tpm2.NVPolicyWrite, tpm2.NVOwnerWrite, tpm2.NVPPWrite
	}
	var may []*thing
	if t.nv.Attributes&itself != 0 {
		may = append(may, t, t)
	}
	if t.nv.Attributes&owner != 0 {
		may = append(may, g.permanent[tpm2.HandleOwner])
	}
	if t.nv.Attributes&platform != 0 {
		may = append(may, g.permanent[tpm2.HandlePlatform])
	}
	if len(may) == 0 || g.chance(8) {
		return structtest.Pick(g.Source, t, g.permanent[tpm2.HandleOwner], g.permanent[tpm2.HandlePlatform])
	}
	return may[g.IntN(len(may))]
}

// makeNV makes the commands on an index.
func makeNV(g *generator, s *step) after {
	t := g.indexFor(s.info.Code)
	if s.info.Code == tpm2.CCNVReadLock || s.info.Code == tpm2.CCNVWriteLock {
		t = g.lockable(s.info.Code)
	}
	if s.info.Code == tpm2.CCNVRead && g.chance(70) {
		t = g.written(func(*thing) bool { return true })
	}
	s.handles = []*thing{g.nvAuthorizer(t, s.info.WritesNV()), t}
	g.nvParameters(s, t)
	return nothing
}

// lockable is an index that has the attribute to be locked.
func (g *generator) lockable(cc tpm2.CC) *thing {
	a := tpm2.NVReadSTClear
	if cc == tpm2.CCNVWriteLock {
		a = structtest.Pick(g.Source, tpm2.NVWriteDefine, tpm2.NVWriteSTClear)
	}
	return g.indexLike(func(t *thing) bool { return t.nv.Attributes.Has(a) }, func() *thing {
		return g.define(g.nvKind(), func(_ *thing, p *tpm2.NVPublic) { p.Attributes |= a | tpm2.NVPlatformCreate })
	})
}

func (g *generator) nvParameters(s *step, t *thing) {
	size := int(t.nv.DataSize)
	switch s.info.Code {
	case tpm2.CCNVWrite:
		in := &command.NVWriteIn{Data: g.Bytes(structtest.Pick(g.Source, size, size, g.IntN(size+2)) % 1025)}
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
			in.Offset = uint16(g.IntN(size + 2))
			in.Size = uint16(g.IntN(size + 2 - min(int(in.Offset), size)))
		}
		s.both(in)
	case tpm2.CCNVExtend:
		s.both(&command.NVExtendIn{Data: g.UpTo(64)})
	case tpm2.CCNVSetBits:
		s.both(&command.NVSetBitsIn{Bits: 1 << g.IntN(64)})
	default:
		s.both(new(command.None))
	}
}

// makeNVChangeAuth works by the policy of the index alone.
func makeNVChangeAuth(g *generator, s *step) after {
	auth, t := g.authValue(), g.indexAllowing(tpm2.CCNVChangeAuth, 0)
	s.handles[0] = t
	s.both(&command.NVChangeAuthIn{NewAuth: auth})
	return func(tpm2.Handle, *[2]wire.Layout) { t.auth = auth }
}

// indexAllowing is an index whose policy allows one command, with these attributes.
func (g *generator) indexAllowing(cc tpm2.CC, a tpm2.NVAttributes) *thing {
	fits := func(t *thing) bool { return t.policy != nil && t.policy.allows(cc) && t.nv.Attributes.Has(a) }
	return g.indexLike(fits, func() *thing {
		return g.define(g.nvKind(), func(t *thing, p *tpm2.NVPublic) {
			if t.policy = g.recipe(p.NameAlg, cc); t.policy != nil {
				p.AuthPolicy = t.policy.digest
			}
			p.Attributes |= a | tpm2.NVPlatformCreate
		})
	})
}

func makeNVUndefineSpecial(g *generator, s *step) after {
	s.handles = []*thing{g.indexAllowing(tpm2.CCNVUndefineSpaceSpecial, tpm2.NVPolicyDelete), g.permanent[tpm2.HandlePlatform]}
	s.both(new(command.None))
	return g.undefined(s.handles[0])
}

func makeNVUndefine(g *generator, s *step) after {
	t := g.index()
	if s.handles[1] = t; g.chance(85) {
		s.handles[0] = g.permanent[tpm2.HandleOwner]
		if t.nv.Attributes.Has(tpm2.NVPlatformCreate) {
			s.handles[0] = g.permanent[tpm2.HandlePlatform]
		}
	}
	s.both(new(command.None))
	return g.undefined(t)
}

func (g *generator) undefined(t *thing) after {
	return func(tpm2.Handle, *[2]wire.Layout) {
		g.indices = slices.DeleteFunc(g.indices, func(o *thing) bool { return o == t })
	}
}
