package differential

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// authorize chooses how each handle of a command is authorized, and adds sessions
// for audit and encryption.
func (g *generator) authorize(s *step) {
	if s.info.NoSessions {
		return
	}
	for i := range s.info.Auths() {
		s.uses = append(s.uses, g.use(s, i))
	}
	if len(s.uses) < 3 && g.chance(6) {
		if t := g.session(tpm2.SessionHMAC); t != nil && !used(s, t) {
			s.uses = append(s.uses, use{t, g.attributes(s.info) | structtest.Pick(g.Source, 0, tpm2.SessionAudit)})
		}
	}
}

func used(s *step, t *thing) bool {
	return slices.ContainsFunc(s.uses, func(u use) bool { return u.session == t })
}

// use chooses the authorization of one handle.
func (g *generator) use(s *step, i int) use {
	t := s.handles[i]
	switch {
	case g.byPolicy(t, s, i):
		if p := g.satisfied(t, s); p != nil && !used(s, p) {
			return use{p, g.attributes(s.info)}
		}
	case g.chance(25):
		if h := g.session(tpm2.SessionHMAC); h != nil && !used(s, h) {
			return use{h, g.attributes(s.info)}
		}
	case g.chance(4):
		if len(g.sessions) > 0 {
			if any := g.sessions[g.IntN(len(g.sessions))]; !used(s, any) {
				return use{any, g.attributes(s.info)}
			}
		}
	}
	return use{attr: tpm2.SessionContinue}
}

// byPolicy decides whether a handle is authorized by its policy.
func (g *generator) byPolicy(t *thing, s *step, i int) bool {
	if t.policy == nil {
		return false
	}
	named := t.policy.kind == byCode || t.policy.kind == byCodeAndValue
	index := t.handle.Kind() == tpm2.KindNVIndex
	switch role := s.info.Handles[i].Role; {
	case named && t.policy.code != s.info.Code:
		return g.chance(8)
	case role == command.RoleDup, role == command.RoleAdmin && (index || t.attr(tpm2.AttrAdminWithPolicy)), named:
		return g.chance(95)
	case index && t.nv.Attributes&(tpm2.NVAuthRead|tpm2.NVAuthWrite) == 0, !index && role == command.RoleUser && t.public().Type != 0 && !t.attr(tpm2.AttrUserWithAuth):
		return g.chance(90)
	}
	return g.chance(40)
}

// attributes chooses session attributes, mostly sensible ones.
func (g *generator) attributes(i *command.Info) tpm2.SessionAttributes {
	a := tpm2.SessionContinue
	if g.chance(8) {
		a = 0
	}
	if i.DecryptFirst && g.chance(20) {
		a |= tpm2.SessionDecrypt
	}
	if i.EncryptFirst && g.chance(20) {
		a |= tpm2.SessionEncrypt
	}
	if g.chance(8) {
		a |= tpm2.SessionAudit
	}
	if g.chance(3) {
		a |= structtest.Pick(g.Source, tpm2.SessionAudit|tpm2.SessionAuditExclusive, tpm2.SessionAudit|tpm2.SessionAuditReset, tpm2.SessionAuditReset, tpm2.SessionEncrypt)
	}
	return a
}

// session returns a session of a kind, a new one when there is none.
func (g *generator) session(kind tpm2.SessionType) *thing {
	var of []*thing
	for _, t := range g.sessions {
		if t.handle.Kind() == tpm2.KindHMACSession == (kind == tpm2.SessionHMAC) {
			of = append(of, t)
		}
	}
	if len(of) > 0 && g.chance(80) {
		return of[g.IntN(len(of))]
	}
	return g.startSession(kind, nil)
}

// startSession starts a session; hash nil means any.
func (g *generator) startSession(kind tpm2.SessionType, hash *tpm2.Alg) *thing {
	if g.parted {
		return nil
	}
	if len(g.sessions) >= 3 && g.chance(95) {
		g.flushOne(&g.sessions)
	}
	cfg := client.SessionConfig{Type: kind, Hash: g.Hash(), Symmetric: structtest.Pick(g.Source,
		tpm2.SymDef{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}, tpm2.SymDef{Algorithm: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCFB},
		tpm2.SymDef{Algorithm: tpm2.AlgXOR, Hash: tpm2.AlgSHA256}, tpm2.SymDef{Algorithm: tpm2.AlgNull})}
	if hash != nil {
		cfg.Hash = *hash
	}
	t := &thing{hash: cfg.Hash}
	bind, salt := g.bindTo(), g.saltKey()
	o := &Observation{Stream: g.stream, Code: tpm2.CCStartAuthSession, Name: "TPM2_StartAuthSession"}
	g.steps++
	o.Step = g.steps
	for i := range g.tpms {
		c := cfg
		if bind != nil {
			e := bind.entity(i)
			c.Bind = &e
		}
		if salt != nil {
			c.Salt = &client.SaltKey{Handle: salt.handle, Public: salt.side[i].public}
		}
		g.taps[i].bend, g.taps[i].response = bend{}, nil
		session, err := g.tpms[i].StartSession(c)
		if g.taps[i].response == nil {
			return nil // no salt for such a key
		}
		_ = err // it is the response code that compares
		t.side[i].session = session
		o.Request[i], o.Response[i] = g.taps[i].request, g.taps[i].response
		o.RC[i] = rcOf(o.Response[i])
	}
	for _, at := range []int{10, 14} {
		o.Handles = append(o.Handles, tpm2.Handle(binary.BigEndian.Uint32(o.Request[0][at:])))
	}
	if o.RC[0] != o.RC[1] {
		o.Diff = "response code"
	} else if len(o.Response[0]) != len(o.Response[1]) {
		o.Diff = "size of the response"
	}
	g.observe(o)
	if o.RC[0] != 0 || o.RC[1] != 0 {
		g.parted = g.parted || (o.RC[0] == 0) != (o.RC[1] == 0)
		if refused(o.RC[0], tpm2.RCSessionMemory) {
			g.unknown()
		}
		return nil
	}
	t.handle = t.side[0].session.Handle()
	if t.handle != t.side[1].session.Handle() {
		g.parted = true
	}
	g.sessions = append(g.sessions, t)
	return t
}

func (g *generator) bindTo() *thing {
	if !g.chance(30) {
		return nil
	}
	t := g.pickHandle(command.HandleEntityOrNull)
	if t.side[0].name == nil && t.handle.Kind() != tpm2.KindPermanent && g.chance(90) {
		return nil // there is no such thing
	}
	if t.handle == tpm2.HandleNull {
		return nil // on the wire it is the same
	}
	return t
}

func (g *generator) saltKey() *thing {
	if !g.chance(30) {
		return nil
	}
	for _, t := range g.objects {
		if t.attr(tpm2.AttrDecrypt) && (t.public().Type == tpm2.AlgECC || t.public().Type == tpm2.AlgRSA) {
			return t
		}
	}
	return nil
}

// A recipe is a policy: commands that satisfy it, and its digest.
type recipe struct {
	recipeKey
	digest []byte
}

type recipeKey struct {
	kind recipeKind
	hash tpm2.Alg
	code tpm2.CC // for those with TPM2_PolicyCommandCode
}

type recipeKind uint8

const (
	byAuthValue recipeKind = iota
	byPassword
	byCode
	byPCR
	bySecret
	byLocality
	byCodeAndValue
	byEither
	byTime
	byWritten
	recipeKinds
)

// allows reports whether the policy is for one command, this one.
func (r *recipe) allows(cc tpm2.CC) bool {
	return (r.kind == byCode || r.kind == byCodeAndValue) && r.code == cc
}

// recipe returns a policy for the hash, or nil; with want one that allows this.
func (g *generator) recipe(hash tpm2.Alg, want ...tpm2.CC) *recipe {
	codes := []tpm2.CC{tpm2.CCDuplicate, tpm2.CCDuplicate, tpm2.CCCertify, tpm2.CCObjectChangeAuth, tpm2.CCActivateCredential, tpm2.CCNVChangeAuth, tpm2.CCNVUndefineSpaceSpecial, tpm2.CCUnseal}
	key := recipeKey{recipeKind(g.IntN(int(recipeKinds))), hash, structtest.Pick(g.Source, codes...)}
	if len(want) > 0 {
		key.kind, key.code = structtest.Pick(g.Source, byCode, byCode, byCodeAndValue), structtest.Pick(g.Source, want...)
	}
	return g.learn(key)
}

// learn asks the TPMs for the digest of a policy; nil when they have none.
func (g *generator) learn(key recipeKey) *recipe {
	if r, ok := g.recipes[key]; ok {
		return r
	}
	t := g.startSession(tpm2.SessionTrial, &key.hash)
	if t == nil {
		return nil
	}
	r := &recipe{recipeKey: key}
	g.play(t, r)
	get := g.newStep(tpm2.CCPolicyGetDigest)
	get.handles = []*thing{t}
	if _, outs := g.run(get); outs != nil {
		r.digest = outs[0].(*command.PolicyGetDigestOut).PolicyDigest
	}
	g.run(g.plain(tpm2.CCFlushContext, &command.FlushContextIn{FlushHandle: t.handle}))
	g.sessions = slices.DeleteFunc(g.sessions, func(o *thing) bool { return o == t })
	if len(r.digest) != key.hash.DigestSize() {
		return nil
	}
	g.recipes[key] = r
	return r
}

// play runs the commands of a policy in a session.
func (g *generator) play(t *thing, r *recipe) {
	do := func(cc tpm2.CC, in wire.Layout, first ...*thing) {
		s := g.plain(cc, in)
		s.handles = append(first, t)
		g.run(s)
	}
	none := new(command.None)
	flags := func(auth, password bool) {
		for i := range t.side {
			t.side[i].session.AuthValue, t.side[i].session.Password = auth, password
		}
	}
	switch r.kind {
	case byAuthValue:
		do(tpm2.CCPolicyAuthValue, none)
		flags(true, false)
	case byPassword:
		do(tpm2.CCPolicyPassword, none)
		flags(false, true)
	case byCode:
		do(tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: r.code})
	case byPCR:
		do(tpm2.CCPolicyPCR, &command.PolicyPCRIn{PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(1, 23)}}})
	case bySecret:
		do(tpm2.CCPolicySecret, &command.PolicySecretIn{}, g.permanent[tpm2.HandleOwner])
	case byLocality:
		do(tpm2.CCPolicyLocality, &command.PolicyLocalityIn{Locality: 1})
	case byCodeAndValue:
		do(tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: r.code})
		do(tpm2.CCPolicyAuthValue, none)
		flags(true, false)
	case byTime: // which is not negative
		do(tpm2.CCPolicyCounterTimer, &command.PolicyCounterTimerIn{OperandB: []byte{0}, Operation: tpm2.OpUnsignedGE})
	case byWritten: // an index that it is for
		do(tpm2.CCPolicyNvWritten, &command.PolicyNvWrittenIn{WrittenSet: true})
	case byEither:
		do(tpm2.CCPolicyOR, &command.PolicyORIn{PHashList: []tpm2.Digest2B{make([]byte, r.hash.DigestSize()), bytes.Repeat([]byte{1}, r.hash.DigestSize())}})
	}
}

// satisfied returns a policy session in which the policy of t was satisfied.
func (g *generator) satisfied(t *thing, _ *step) *thing {
	s := g.startSession(tpm2.SessionPolicy, &t.policy.hash)
	if s != nil {
		g.play(s, t.policy)
	}
	return s
}
