package differential

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// A generator makes one stream. What it believes of the TPMs may be wrong: then
// commands are refused, by both in the same way.
type generator struct {
	structtest.Source
	*pair

	permanent  map[tpm2.Handle]*thing
	objects    []*thing
	keep       []*thing // what the next command works with: not to be flushed to make room
	sessions   []*thing
	indices    []*thing
	blobs      []*blob
	saved      []*saved
	signed     []*signed
	checks     [2]tpm2.HashCheckTicket
	verified   [2]tpm2.VerifiedTicket
	tickets    *ticket
	duplicates []*duplicated
	recipes    map[recipeKey]*recipe
	locality   uint8
	makers     map[tpm2.CC]func(*generator, *step) after
}

func newGenerator(p *pair, seed uint64, stream int) *generator {
	g := &generator{Source: structtest.New(seed<<24 ^ uint64(stream)), pair: p, permanent: map[tpm2.Handle]*thing{}, recipes: map[recipeKey]*recipe{}, makers: makers()}
	for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleLockout, tpm2.HandleNull} {
		g.permanent[h] = &thing{handle: h}
	}
	return g
}

// chance is true in percent of the cases.
func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// begin starts the TPMs and gives them something to work with.
func (g *generator) begin() {
	if g.chance(3) {
		g.next() // before TPM2_Startup
	}
	g.startup(tpm2.StartupClear)
	if g.chance(60) {
		s := g.plain(tpm2.CCDictionaryAttackParameters, &command.DictionaryAttackParametersIn{NewMaxTries: 1000, NewRecoveryTime: 100000, LockoutRecovery: 0})
		s.handles = []*thing{g.permanent[tpm2.HandleLockout]}
		g.run(s)
	}
	if g.chance(70) {
		s := g.newStep(tpm2.CCCreatePrimary)
		s.handles = []*thing{g.permanent[tpm2.HandleOwner]}
		in := &command.CreatePrimaryIn{InPublic: *g.storage()}
		s.in = [2]wire.Layout{in, in}
		h, outs := g.run(s)
		if outs == nil {
			return
		}
		g.addObject(h, outs, nil, nil)
		if g.chance(10) {
			g.command(tpm2.CCEvictControl)
		}
	}
}

// newStep is a step of a command that both know.
func (g *generator) newStep(cc tpm2.CC) *step {
	info, _ := command.Lookup(cc)
	return &step{info: info}
}

// plain is a step with the same parameters for both.
func (g *generator) plain(cc tpm2.CC, in wire.Layout) *step {
	s := g.newStep(cc)
	s.in = [2]wire.Layout{in, in}
	return s
}

func (g *generator) startup(how tpm2.StartupType) {
	g.run(g.plain(tpm2.CCStartup, &command.StartupIn{StartupType: how}))
}

// next makes and sends one command, or does something to the machines.
func (g *generator) next() {
	switch n := g.IntN(1000); {
	case n < 6:
		g.powerCycle()
	case n < 12:
		g.locality = structtest.Pick[uint8](g.Source, 0, 0, 0, 1, 2, 3, 4)
		g.both(func(p Peer) error { return p.SetLocality(g.locality) })
	case n < 14:
		g.forget() // the measurement takes a slot, from an object if none is free
		data := g.UpTo(200)
		g.both(func(p Peer) error { return p.Hash(data) })
	case n < 30:
		g.forget()
	default:
		g.command(g.pick())
	}
}

// powerCycle takes the power away, in order or not.
func (g *generator) powerCycle() {
	how := structtest.Pick(g.Source, tpm2.StartupClear, tpm2.StartupState)
	if g.chance(80) {
		g.run(g.plain(tpm2.CCShutdown, &command.ShutdownIn{ShutdownType: how}))
	} else if g.chance(50) {
		how = tpm2.StartupClear
	}
	if g.parted {
		return
	}
	if g.chance(10) {
		g.command(g.pick()) // may void the shutdown
	}
	g.both(Peer.PowerCycle)
	g.memory.powerLost()
	g.both(func(p Peer) error { return p.SetLocality(0) })
	if g.locality = 0; g.chance(10) {
		data := g.UpTo(200)
		g.both(func(p Peer) error { return p.Hash(data) })
	}
	if g.chance(20) {
		how = tpm2.StartupClear
	}
	g.startup(how)
	if how == tpm2.StartupState {
		g.startup(tpm2.StartupClear) // in case there was no state
	}
	g.look()
	g.objects = slices.DeleteFunc(g.objects, func(t *thing) bool { return t.handle.Kind() == tpm2.KindTransient })
	g.sessions = nil
	for _, i := range slices.Clone(g.indices) {
		g.refresh(i)
	}
}

// forget flushes all that is loaded.
func (g *generator) forget() {
	for _, t := range slices.Concat(g.objects, g.sessions) {
		if t.handle.Kind() != tpm2.KindPersistent {
			g.run(g.plain(tpm2.CCFlushContext, &command.FlushContextIn{FlushHandle: t.handle}))
		}
	}
	g.objects = slices.DeleteFunc(g.objects, func(t *thing) bool { return t.handle.Kind() == tpm2.KindTransient })
	g.sessions = nil
	g.unknown()
}

// unknown flushes what the generator does not know of.
func (g *generator) unknown() {
	for _, kind := range []tpm2.HandleKind{tpm2.KindTransient, tpm2.KindHMACSession} {
		_, outs := g.run(g.plain(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: uint32(kind.First()), PropertyCount: 64}))
		if outs == nil {
			continue
		}
		for _, h := range outs[0].(*command.GetCapabilityOut).CapabilityData.Handles {
			known := func(t *thing) bool { return t.handle == h }
			if slices.ContainsFunc(g.objects, known) || slices.ContainsFunc(g.sessions, known) {
				continue
			}
			g.run(g.plain(tpm2.CCFlushContext, &command.FlushContextIn{FlushHandle: h}))
		}
	}
}

// pick chooses a command.
func (g *generator) pick() tpm2.CC {
	all := command.All()
	for {
		i := all[g.IntN(len(all))]
		w, ok := weights[i.Code]
		switch {
		case i.Code == tpm2.CCReadOnlyControl && g.cfg.Reference:
			w = 3
		case !ok || g.cfg.Reference && slices.Contains(newer, i.Code):
			w = 20
		}
		if !i.Version185 && g.chance(w) {
			return i.Code
		}
	}
}

// command makes a command of this code and sends it.
func (g *generator) command(cc tpm2.CC) {
	s := g.newStep(cc)
	g.keep = nil
	g.room(s.info)
	for _, h := range s.info.Handles {
		s.handles = append(s.handles, g.pickHandle(h.Type))
	}
	var after func(tpm2.Handle, *[2]wire.Layout)
	if m := g.makers[cc]; m != nil && !g.chance(4) {
		after = m(g, s)
	}
	if s.in[0] == nil {
		in, _ := s.info.New()
		g.Fill(in)
		s.in = [2]wire.Layout{in, in}
	}
	g.authorize(s)
	g.spoil(s)
	h, outs := g.run(s)
	if outs == nil {
		return
	}
	if after != nil {
		after(h, outs)
	} else if s.info.Response != "" {
		g.stray(h)
	}
	g.settle(s)
}

// stray keeps a handle of which nothing else is known.
func (g *generator) stray(h tpm2.Handle) {
	t := &thing{handle: h, mixed: true}
	if h.Kind() == tpm2.KindTransient {
		g.objects = append(g.objects, t)
	} else if g.chance(80) {
		g.do(tpm2.CCFlushContext, same(&command.FlushContextIn{FlushHandle: h}))
	}
}

// settle drops what the command has ended, and notes what now differs.
func (g *generator) settle(s *step) {
	for _, t := range s.handles {
		if t.handle.Kind() == tpm2.KindPolicySession && s.mixed {
			t.mixed = true
		}
	}
	if s.info.Attr.Has(tpm2.CommandFlushed) && len(s.handles) > 0 {
		last := s.handles[len(s.handles)-1]
		g.objects = slices.DeleteFunc(g.objects, func(t *thing) bool { return t == last })
	}
	for _, u := range s.uses {
		if u.session != nil && !u.attr.Has(tpm2.SessionContinue) {
			g.sessions = slices.DeleteFunc(g.sessions, func(t *thing) bool { return t == u.session })
		}
	}
	if s.info.WritesNV() || s.info.Code == tpm2.CCNVReadLock || s.info.Code == tpm2.CCNVGlobalWriteLock {
		for _, i := range slices.Clone(g.indices) {
			if s.info.Code == tpm2.CCNVGlobalWriteLock || slices.Contains(s.handles, i) {
				g.refresh(i)
			}
		}
	}
}

// room makes place for what a command loads.
func (g *generator) room(i *command.Info) {
	loads := 0
	for _, t := range g.objects {
		if t.handle.Kind() == tpm2.KindTransient {
			loads++
		}
	}
	if (i.Response != "" && i.Code != tpm2.CCStartAuthSession && loads >= 2 || loads >= 3) && g.chance(85) {
		g.flushOne(&g.objects)
	}
	if i.Code == tpm2.CCStartAuthSession && len(g.sessions) >= 2 && g.chance(85) {
		g.flushOne(&g.sessions)
	}
}

func (g *generator) flushOne(of *[]*thing) {
	var loaded []*thing
	for _, t := range *of {
		if t.handle.Kind() != tpm2.KindPersistent && !slices.Contains(g.keep, t) {
			loaded = append(loaded, t)
		}
	}
	if len(loaded) == 0 {
		return
	}
	t := loaded[g.IntN(len(loaded))]
	if g.chance(20) {
		g.saveContext(t)
		if t.handle.Kind() != tpm2.KindTransient {
			*of = slices.DeleteFunc(*of, func(o *thing) bool { return o == t })
			return
		}
	}
	g.run(g.plain(tpm2.CCFlushContext, &command.FlushContextIn{FlushHandle: t.handle}))
	*of = slices.DeleteFunc(*of, func(o *thing) bool { return o == t })
}

func (g *generator) saveContext(t *thing) {
	s := g.newStep(tpm2.CCContextSave)
	s.handles = []*thing{t}
	_, outs := g.run(s)
	if outs == nil {
		return
	}
	c := &saved{of: t, session: t.handle.Kind() != tpm2.KindTransient}
	for i := range outs {
		c.context[i] = outs[i].(*command.ContextSaveOut).Context
	}
	g.saved = append(g.saved, c)
}

// addObject takes over a new object from the response of the command that made it.
func (g *generator) addObject(h tpm2.Handle, outs *[2]wire.Layout, auth []byte, policy *recipe) *thing {
	t := &thing{handle: h, auth: auth, policy: policy}
	var public [2]*tpm2.Public
	for i := range outs {
		switch out := outs[i].(type) {
		case *command.CreatePrimaryOut:
			public[i] = &out.OutPublic
			t.creation[i] = *out
		case *command.CreateLoadedOut:
			public[i] = &out.OutPublic
		}
	}
	t.named(public)
	g.objects = append(g.objects, t)
	return t
}

// refresh asks for the Name of an index, which changes with its attributes.
func (g *generator) refresh(t *thing) {
	s := g.newStep(tpm2.CCNVReadPublic)
	s.handles = []*thing{t}
	_, outs := g.run(s)
	if outs == nil {
		g.indices = slices.DeleteFunc(g.indices, func(o *thing) bool { return o == t })
		return
	}
	for i := range outs {
		out := outs[i].(*command.NVReadPublicOut)
		t.side[i].name = out.NVName
		t.nv = out.NVPublic
	}
	t.mixed = string(t.side[0].name) != string(t.side[1].name)
}

// spoil makes some commands wrong.
func (g *generator) spoil(s *step) {
	if s.info.Code == tpm2.CCContextLoad {
		return // the two requests have different sizes
	}
	b := bend{at: g.Uint32(), value: byte(g.Uint32())}
	switch n := g.IntN(100); {
	case n < 3:
		b.kind = structtest.Pick(g.Source, flipped, replaced, cut, extended)
		s.bend = b
	case n < 7:
		b.kind = structtest.Pick(g.Source, retagged, headed, headed, headed)
		s.bend = b
	case n < 14:
		b.kind = structtest.Pick(g.Source, flipped, replaced, cut, extended)
		s.inner = b
	case n < 17:
		s.wrong = true
	}
}
