package differential

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// after takes over what a command brought when both ran it.
type after func(h tpm2.Handle, outs *[2]wire.Layout)

// both gives the two the same parameters.
func (s *step) both(in wire.Layout) { s.in = [2]wire.Layout{in, in} }

// pickHandle chooses something that a handle of this type can name.
func (g *generator) pickHandle(t command.HandleType) *thing {
	switch {
	case g.chance(3):
		t = structtest.Pick(g.Source, command.HandleObject, command.HandleNVIndex, command.HandlePCR, command.HandleEntity, command.HandleHierarchy)
	case g.chance(1):
		return &thing{handle: tpm2.Handle(g.Uint32()), mixed: true}
	}
	switch t {
	case command.HandleObject, command.HandlePersistent:
		return g.object(func(*thing) bool { return true })
	case command.HandleObjectOrNull:
		if g.chance(12) {
			return g.permanent[tpm2.HandleNull]
		}
		return g.object(func(*thing) bool { return true })
	case command.HandlePCR, command.HandlePCROrNull:
		return &thing{handle: structtest.Pick(g.Source, tpm2.Handle(16), 23, tpm2.Handle(g.IntN(24)))}
	case command.HandleNVIndex, command.HandleNVDefined:
		return g.index()
	case command.HandleNVAuth:
		return structtest.Pick(g.Source, g.index(), g.permanent[tpm2.HandleOwner], g.permanent[tpm2.HandlePlatform])
	case command.HandleHMACSession, command.HandlePolicySession, command.HandleAuthSession, command.HandleContext:
		return g.loaded(t)
	case command.HandleEntity, command.HandleEntityOrNull:
		return g.entity(t)
	case command.HandleParent:
		if g.chance(40) {
			return g.hierarchy(command.HandleHierarchyOrNull)
		}
		return g.parent()
	}
	return g.hierarchy(t)
}

// entity chooses anything that has an authValue.
func (g *generator) entity(t command.HandleType) *thing {
	switch g.IntN(5) {
	case 0:
		return g.index()
	case 1:
		return &thing{handle: tpm2.Handle(g.IntN(24))}
	case 2:
		if t == command.HandleEntityOrNull {
			return g.permanent[tpm2.HandleNull]
		}
		fallthrough
	case 3:
		return structtest.Pick(g.Source, g.permanent[tpm2.HandleOwner], g.permanent[tpm2.HandleEndorsement], g.permanent[tpm2.HandlePlatform], g.permanent[tpm2.HandleLockout])
	}
	return g.object(func(*thing) bool { return true })
}

// hierarchy chooses a permanent handle that the type allows.
func (g *generator) hierarchy(t command.HandleType) *thing {
	var of []*thing
	for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleLockout, tpm2.HandleNull} {
		if t.Check(h, tpm2.AllHandles()) == tpm2.RCSuccess {
			of = append(of, g.permanent[h])
		}
	}
	if len(of) == 0 || g.chance(1) {
		return g.permanent[tpm2.HandleOwner]
	}
	return of[g.IntN(len(of))]
}

// object chooses a loaded or persistent object that fits, else any.
func (g *generator) object(fits func(*thing) bool) *thing {
	var of []*thing
	for _, t := range g.objects {
		if fits(t) {
			of = append(of, t)
		}
	}
	if len(of) > 0 && !g.chance(5) {
		return of[g.IntN(len(of))]
	}
	if len(g.objects) > 0 && !g.chance(10) {
		return g.objects[g.IntN(len(g.objects))]
	}
	return &thing{handle: structtest.Pick(g.Source, tpm2.Handle(0x80000000)+tpm2.Handle(g.IntN(4)), 0x81000000+tpm2.Handle(g.IntN(4))), mixed: true}
}

// parent chooses a storage key.
func (g *generator) parent() *thing {
	return g.get(aStorageKey)
}

func (g *generator) index() *thing {
	if len(g.indices) > 0 && !g.chance(5) {
		return g.indices[g.IntN(len(g.indices))]
	}
	return &thing{handle: 0x01000000 + tpm2.Handle(g.IntN(8))}
}

// loaded chooses a session, or an object where a context may be one.
func (g *generator) loaded(t command.HandleType) *thing {
	if t == command.HandleContext && g.chance(50) {
		return g.object(func(*thing) bool { return true })
	}
	kind := tpm2.SessionHMAC
	if t == command.HandlePolicySession || t == command.HandleAuthSession && g.chance(50) {
		kind = structtest.Pick(g.Source, tpm2.SessionPolicy, tpm2.SessionPolicy, tpm2.SessionTrial)
	}
	if s := g.session(kind); s != nil {
		return s
	}
	return &thing{handle: 0x02000000}
}

// created is after TPM2_Create.
func (g *generator) created(parent *thing, auth []byte, policy *recipe, sealed bool) after {
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		b := &blob{parent: parent, auth: auth, policy: policy, sealed: sealed}
		for i := range outs {
			out := outs[i].(*command.CreateOut)
			b.private[i], b.public[i] = out.OutPrivate, out.OutPublic
		}
		g.blobs = append(g.blobs, b)
		if g.chance(70) {
			g.load(b)
		}
	}
}

func (g *generator) load(b *blob) *thing {
	s := g.newStep(tpm2.CCLoad)
	g.keep = append(g.keep, b.parent)
	g.room(s.info)
	g.loadStep(s, b)
	g.prepare(s)
	h, outs := g.run(s)
	if outs == nil {
		return nil
	}
	g.settle(s)
	return g.loadedBlob(b, h)
}

func (g *generator) loadStep(s *step, b *blob) {
	s.handles = []*thing{b.parent}
	for i := range s.in {
		s.in[i] = &command.LoadIn{InPrivate: b.private[i], InPublic: b.public[i]}
	}
}

func (g *generator) loadedBlob(b *blob, h tpm2.Handle) *thing {
	t := &thing{handle: h, auth: b.auth, policy: b.policy, blob: b, sealed: b.sealed, hierarchy: b.parent.hierarchy}
	t.named([2]*tpm2.Public{&b.public[0], &b.public[1]})
	g.objects = append(g.objects, t)
	return t
}

func makeCreate(g *generator, s *step) after {
	s.handles[0] = g.parent()
	sensitive, public, policy := g.newObject()
	s.both(&command.CreateIn{InSensitive: sensitive, InPublic: *public, OutsideInfo: g.UpTo(10), CreationPCR: g.selections()})
	return g.created(s.handles[0], sensitive.UserAuth, policy, public.Type == tpm2.AlgKeyedHash && len(sensitive.Data) > 0)
}

func makeCreatePrimary(g *generator, s *step) after {
	sensitive, public, policy := g.newObject()
	if g.chance(40) {
		public, sensitive.Data = g.storage(), nil
		policy = nil
	}
	s.both(&command.CreatePrimaryIn{InSensitive: sensitive, InPublic: *public, OutsideInfo: g.UpTo(10), CreationPCR: g.selections()})
	return func(h tpm2.Handle, outs *[2]wire.Layout) {
		g.addObject(h, outs, sensitive.UserAuth, policy).hierarchy = s.handles[0].handle
	}
}

func makeCreateLoaded(g *generator, s *step) after {
	sensitive, public, policy := g.newObject()
	template, err := wire.Encode(public)
	if err != nil {
		return nil
	}
	if s.handles[0].public().Type == tpm2.AlgKeyedHash {
		sensitive.Data, public.AuthPolicy, policy = nil, nil, nil
		public.Attributes &^= tpm2.AttrSensitiveDataOrigin
		if template, err = wire.Encode(&tpm2.DeriveTemplate{Public: *public, Unique: tpm2.Derive{Label: g.UpTo(32), Context: g.UpTo(32)}}); err != nil {
			return nil
		}
	}
	s.both(&command.CreateLoadedIn{InSensitive: sensitive, InPublic: template})
	return func(h tpm2.Handle, outs *[2]wire.Layout) { g.addObject(h, outs, sensitive.UserAuth, policy) }
}

func makeLoad(g *generator, s *step) after {
	if len(g.blobs) == 0 {
		return nil
	}
	b := g.blobs[g.IntN(len(g.blobs))]
	g.loadStep(s, b)
	if g.chance(10) {
		s.handles[0] = g.parent()
	}
	return func(h tpm2.Handle, _ *[2]wire.Layout) { g.loadedBlob(b, h) }
}

func makeLoadExternal(g *generator, s *step) after {
	in := &command.LoadExternalIn{Hierarchy: structtest.Pick(g.Source, tpm2.HandleNull, tpm2.HandleNull, g.Hierarchy())}
	if len(g.objects) > 0 && g.chance(25) {
		return g.loadPublic(s, in)
	}
	auth := g.authValue()
	p, sensitive := g.known()
	p.Attributes &^= tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrRestricted
	if sensitive.AuthValue = auth; g.chance(5) {
		p.Attributes ^= 1 << structtest.Pick(g.Source, 1, 2, 4, 5, 6, 7, 10, 11, 16, 17, 18)
	}
	in.InPublic, in.InPrivate.Sensitive = *p, sensitive
	if g.chance(30) {
		in.InPrivate.Sensitive, in.Hierarchy = nil, g.Hierarchy()
	}
	s.both(in)
	return func(h tpm2.Handle, _ *[2]wire.Layout) {
		t := &thing{handle: h, auth: auth, publicOnly: in.InPrivate.Sensitive == nil}
		t.named([2]*tpm2.Public{p, p})
		g.objects = append(g.objects, t)
	}
}

// loadPublic loads the public area of another object.
func (g *generator) loadPublic(s *step, in *command.LoadExternalIn) after {
	of := g.objects[g.IntN(len(g.objects))]
	if of.side[0].public == nil {
		return nil
	}
	in.Hierarchy = g.Hierarchy()
	for i := range s.in {
		c := *in
		c.InPublic = *of.side[i].public
		s.in[i] = &c
	}
	return func(h tpm2.Handle, _ *[2]wire.Layout) {
		t := &thing{handle: h, publicOnly: true}
		t.named([2]*tpm2.Public{of.side[0].public, of.side[1].public})
		g.objects = append(g.objects, t)
	}
}

// known is a key that is the same for both: its secret is ours.
func (g *generator) known() (*tpm2.Public, *tpm2.Sensitive) {
	p := g.template()
	if g.chance(30) {
		p.Type = tpm2.AlgRSA
		p.Parameters.RSA = tpm2.RSAParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: structtest.Pick(g.Source, tpm2.RSAScheme{Scheme: tpm2.AlgNull}, g.rsaScheme()), KeyBits: 2048}
		p.Attributes |= structtest.Pick(g.Source, tpm2.AttrSign, tpm2.AttrDecrypt, tpm2.AttrSign|tpm2.AttrDecrypt)
	}
	s, err := g.secrets(p)
	if err != nil {
		return p, &tpm2.Sensitive{Type: p.Type}
	}
	return p, s
}

func (g *generator) rsaScheme() (s tpm2.RSAScheme) {
	g.Fill(&s)
	return s
}

// Read fills b, so that a generator is a source for keys.
func (g *generator) Read(b []byte) (int, error) { return copy(b, g.Bytes(len(b))), nil }

func makeEvictControl(g *generator, s *step) after {
	h := structtest.Pick[tpm2.Handle](g.Source, 0x81000000, 0x81000000, 0x81800000) + tpm2.Handle(g.IntN(3))
	t := s.handles[1]
	if g.chance(90) {
		t = g.object(func(t *thing) bool {
			return usable(t) && t.handle.Kind() == tpm2.KindTransient && t.hierarchy != 0 && t.hierarchy != tpm2.HandleNull && !t.attr(tpm2.AttrSTClear)
		})
		if s.handles[0] = g.permanent[tpm2.HandleOwner]; t.hierarchy == tpm2.HandlePlatform {
			s.handles[0] = g.permanent[tpm2.HandlePlatform]
			h = 0x81800000 + tpm2.Handle(g.IntN(3))
		}
		s.handles[1] = t
	}
	if t.handle.Kind() == tpm2.KindPersistent {
		h = t.handle
	}
	s.both(&command.EvictControlIn{PersistentHandle: h})
	return func(tpm2.Handle, *[2]wire.Layout) {
		if t.handle == h {
			g.objects = slices.DeleteFunc(g.objects, func(o *thing) bool { return o.handle == h })
			return
		}
		c := *t
		c.handle = h
		g.objects = append(g.objects, &c)
	}
}

func makeObjectChangeAuth(g *generator, s *step) after {
	auth, t := g.authValue(), g.get(aChild)
	if s.handles[0] = t; t.blob != nil {
		s.handles[1] = t.blob.parent
	}
	s.both(&command.ObjectChangeAuthIn{NewAuth: auth})
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		if t.blob == nil {
			return
		}
		b := *t.blob
		b.auth = auth
		for i := range outs {
			b.private[i] = outs[i].(*command.ObjectChangeAuthOut).OutPrivate
		}
		g.blobs = append(g.blobs, &b)
	}
}

func makeContextSave(g *generator, s *step) after {
	t := s.handles[0]
	return func(_ tpm2.Handle, outs *[2]wire.Layout) {
		c := &saved{of: t, session: t.handle.Kind() != tpm2.KindTransient}
		for i := range outs {
			c.context[i] = outs[i].(*command.ContextSaveOut).Context
		}
		g.saved = append(g.saved, c)
		if c.session {
			g.sessions = slices.DeleteFunc(g.sessions, func(o *thing) bool { return o == t })
		}
	}
}

func makeContextLoad(g *generator, s *step) after {
	if len(g.saved) == 0 {
		return nil
	}
	n := g.IntN(len(g.saved))
	c := g.saved[n]
	for i := range s.in {
		s.in[i] = &command.ContextLoadIn{Context: c.context[i]}
	}
	return func(h tpm2.Handle, _ *[2]wire.Layout) {
		t := *c.of
		t.handle = h
		if c.session {
			g.sessions = append(g.sessions, &t)
			return
		}
		g.objects = append(g.objects, &t)
	}
}

func makeFlush(g *generator, s *step) after {
	t := g.pickHandle(command.HandleContext)
	s.both(&command.FlushContextIn{FlushHandle: t.handle})
	return func(tpm2.Handle, *[2]wire.Layout) {
		same := func(o *thing) bool { return o.handle == t.handle }
		g.objects, g.sessions = slices.DeleteFunc(g.objects, same), slices.DeleteFunc(g.sessions, same)
	}
}
