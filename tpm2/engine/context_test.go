package engine_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// save saves a context, which must work.
func (m *machine) save(h tpm2.Handle) tpm2.Context {
	m.Helper()
	var out command.ContextSaveOut
	m.do(tpm2.CCContextSave, handles(h), nil, nil, &out)
	return out.Context
}

// loadContext loads a context, which must work.
func (m *machine) loadContext(x tpm2.Context) tpm2.Handle {
	m.Helper()
	m.do(tpm2.CCContextLoad, nil, nil, &command.ContextLoadIn{Context: x}, nil)
	return m.handle
}

// refuses checks with what code a context is not loaded.
func (m *machine) refuses(want tpm2.RC, x tpm2.Context) {
	m.Helper()
	m.fails(want, tpm2.CCContextLoad, nil, nil, &command.ContextLoadIn{Context: x})
}

// restart shuts the TPM down and starts it again; without a shutdown when down is nil.
func (m *machine) restart(down *tpm2.StartupType, up tpm2.StartupType) {
	m.Helper()
	if down != nil {
		m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: *down}, nil)
	}
	m.tpm.PowerOn()
	m.startup(up)
}

func TestASavedObjectComesBackAsItWas(t *testing.T) {
	for name, tc := range map[string]struct {
		make  func(m *machine) tpm2.Handle
		saved tpm2.Handle
	}{
		"ECC primary": {func(m *machine) tpm2.Handle { return m.storage("") }, tpm2.SavedObject},
		"RSA child": {func(m *machine) tpm2.Handle {
			return m.child(m.storage(""), rsaTemplate(ordinary|fixed|tpm2.AttrSign), "", "")
		}, tpm2.SavedObject},
		"AES key": {func(m *machine) tpm2.Handle {
			return m.child(m.storage(""), symTemplate(ordinary|tpm2.AttrDecrypt), "", "")
		}, tpm2.SavedObject},
		"stClear": {func(m *machine) tpm2.Handle {
			return m.child(m.storage(""), eccTemplate(ordinary|fixed|tpm2.AttrSTClear|tpm2.AttrSign), "", "")
		}, tpm2.SavedSTClearObject},
		"sealed": {func(m *machine) tpm2.Handle {
			return m.child(m.storage(""), keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "", "secret")
		}, tpm2.SavedObject},
		"public only": {func(m *machine) tpm2.Handle { return m.publicOnly() }, tpm2.SavedObject},
		"NULL hierarchy": {func(m *machine) tpm2.Handle {
			return m.primary(tpm2.HandleNull, eccTemplate(ordinary|fixed|tpm2.AttrSign), "")
		}, tpm2.SavedObject},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			h := tc.make(m)
			var before, after command.ReadPublicOut
			m.do(tpm2.CCReadPublic, handles(h), nil, nil, &before)
			sensitive := *m.tpm.Sensitive(h)
			x := m.save(h)
			if x.SavedHandle != tc.saved {
				t.Errorf("savedHandle is %v, want %v", x.SavedHandle, tc.saved)
			}
			m.flush(h)
			back := m.loadContext(x)
			m.do(tpm2.CCReadPublic, handles(back), nil, nil, &after)
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("public area changed (-before +after):\n%s", d)
			}
			if d := cmp.Diff(sensitive, *m.tpm.Sensitive(back), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("sensitive area changed (-before +after):\n%s", d)
			}
			if again := m.loadContext(x); again == back {
				t.Errorf("a second load gave %v, too", again)
			}
		})
	}
}

// publicOnly loads the public area of a new key in the hierarchy of the owner.
func (m *machine) publicOnly() tpm2.Handle {
	m.Helper()
	in := &command.LoadExternalIn{InPublic: *m.public(m.storage("")), Hierarchy: tpm2.HandleOwner}
	m.do(tpm2.CCLoadExternal, nil, nil, in, nil)
	return m.handle
}

func TestAContextOfAParentStillProtects(t *testing.T) {
	m := newMachine(t)
	parent := m.storage("")
	made := m.create(parent, keyedHashTemplate(fixed|tpm2.AttrUserWithAuth), "", "secret")
	x := m.save(parent)
	m.flush(parent)
	parent = m.loadContext(x)
	h := m.load(parent, made)
	var out command.UnsealOut
	m.do(tpm2.CCUnseal, handles(h), password(""), nil, &out)
	if string(out.OutData) != "secret" {
		t.Errorf("Unseal = %q", out.OutData)
	}
}

func TestEverySavedContextHasItsNumber(t *testing.T) {
	m := newMachine(t)
	h := m.storage("")
	one, two := m.save(h), m.save(h)
	if one.Sequence != 1 || two.Sequence != 2 || one.Hierarchy != tpm2.HandleOwner {
		t.Errorf("contexts are %v and %v in %v, want 1 and 2 in the owner's", one.Sequence, two.Sequence, one.Hierarchy)
	}
	if bytes.Equal(one.ContextBlob, two.ContextBlob) {
		t.Error("two contexts of an object are the same")
	}
	s := m.session(sessionConfig{})
	if x := m.save(s.handle); x.Sequence != 4 || x.SavedHandle != s.handle || x.Hierarchy != tpm2.HandleNull {
		t.Errorf("context of a session is %d of %v in %v", x.Sequence, x.SavedHandle, x.Hierarchy)
	}
}

func TestAChangedContextIsRefused(t *testing.T) {
	m := newMachine(t)
	h := m.storage("")
	x := m.save(h)
	for i := range x.ContextBlob {
		y := x
		y.ContextBlob = bytes.Clone(x.ContextBlob)
		y.ContextBlob[i] ^= 1
		want := parameterRC(tpm2.RCIntegrity, 1)
		if i < 2 {
			want = tpm2.RCSize // the integrity value is longer than any digest
		}
		m.refuses(want, y)
	}
	for name, tc := range map[string]struct {
		change func(x *tpm2.Context)
		want   tpm2.RC
	}{
		"another number":                 {func(x *tpm2.Context) { x.Sequence++ }, parameterRC(tpm2.RCIntegrity, 1)},
		"another hierarchy":              {func(x *tpm2.Context) { x.Hierarchy = tpm2.HandleNull }, parameterRC(tpm2.RCIntegrity, 1)},
		"another kind":                   {func(x *tpm2.Context) { x.SavedHandle = tpm2.SavedSTClearObject }, parameterRC(tpm2.RCIntegrity, 1)},
		"said to be a session":           {func(x *tpm2.Context) { x.SavedHandle = 0x02000000 }, parameterRC(tpm2.RCIntegrity, 1)},
		"another size of integrity":      {func(x *tpm2.Context) { x.ContextBlob = append([]byte{0, 32}, x.ContextBlob[2:]...) }, parameterRC(tpm2.RCSize, 1)},
		"nothing":                        {func(x *tpm2.Context) { x.ContextBlob = nil }, tpm2.RCInsufficient},
		"integrity cut":                  {func(x *tpm2.Context) { x.ContextBlob = x.ContextBlob[:20] }, tpm2.RCInsufficient},
		"integrity alone":                {func(x *tpm2.Context) { x.ContextBlob = x.ContextBlob[:66] }, parameterRC(tpm2.RCSize, 1)},
		"less than a number":             {func(x *tpm2.Context) { x.ContextBlob = x.ContextBlob[:73] }, parameterRC(tpm2.RCSize, 1)},
		"end cut":                        {func(x *tpm2.Context) { x.ContextBlob = x.ContextBlob[:len(x.ContextBlob)-1] }, parameterRC(tpm2.RCIntegrity, 1)},
		"a byte more":                    {func(x *tpm2.Context) { x.ContextBlob = append(bytes.Clone(x.ContextBlob), 0) }, parameterRC(tpm2.RCIntegrity, 1)},
		"longer than any context may be": {func(x *tpm2.Context) { x.ContextBlob = make([]byte, 4000) }, parameterRC(tpm2.RCSize, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			y := x
			tc.change(&y)
			m.refuses(tc.want, y)
		})
	}
	m.in(t)
	m.loadContext(x)
}

func TestAContextSaysWhatItIs(t *testing.T) {
	m := newMachine(t)
	x := m.save(m.storage(""))
	for name, change := range map[string]func(b raw){
		"no kind of saved handle": func(b raw) { b[11] = 3 },
		"no hierarchy":            func(b raw) { b[15] = 0x0a },
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			in := raw(mustEncode(t, &x))
			change(in)
			m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCContextLoad, nil, nil, &in)
		})
	}
}

func TestWhatEndsSavedObjects(t *testing.T) {
	clearing, state := tpm2.StartupClear, tpm2.StartupState
	integrity := parameterRC(tpm2.RCIntegrity, 1)
	stClear := eccTemplate(ordinary | fixed | tpm2.AttrSTClear | tpm2.AttrSign)
	plain := eccTemplate(ordinary | fixed | tpm2.AttrSign)
	for name, tc := range map[string]struct {
		hierarchy tpm2.Handle
		template  tpm2.Public
		event     func(m *machine)
		want      tpm2.RC
	}{
		"nothing":             {tpm2.HandleOwner, plain, func(*machine) {}, 0},
		"TPM Resume":          {tpm2.HandleOwner, stClear, func(m *machine) { m.restart(&state, state) }, 0},
		"TPM Restart":         {tpm2.HandleOwner, plain, func(m *machine) { m.restart(&state, clearing) }, 0},
		"Restart and stClear": {tpm2.HandleOwner, stClear, func(m *machine) { m.restart(&state, clearing) }, integrity},
		"TPM Reset":           {tpm2.HandleOwner, plain, func(m *machine) { m.restart(&clearing, clearing) }, integrity},
		"loss of power":       {tpm2.HandleOwner, plain, func(m *machine) { m.restart(nil, clearing) }, integrity},
		"Clear":               {tpm2.HandleOwner, plain, func(m *machine) { m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil) }, integrity},
		"Clear, endorsement":  {tpm2.HandleEndorsement, plain, func(m *machine) { m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil) }, integrity},
		"Clear, platform":     {tpm2.HandlePlatform, plain, func(m *machine) { m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil) }, 0},
		"ChangePPS":           {tpm2.HandlePlatform, plain, func(m *machine) { m.do(tpm2.CCChangePPS, handles(tpm2.HandlePlatform), password(""), nil, nil) }, integrity},
		"ChangeEPS":           {tpm2.HandleEndorsement, plain, func(m *machine) { m.do(tpm2.CCChangeEPS, handles(tpm2.HandlePlatform), password(""), nil, nil) }, integrity},
		"disabled hierarchy": {tpm2.HandleOwner, plain, func(m *machine) {
			m.do(tpm2.CCHierarchyControl, handles(tpm2.HandleOwner), password(""), &command.HierarchyControlIn{Enable: tpm2.HandleOwner}, nil)
		}, parameterRC(tpm2.RCHierarchy, 1)},
		"no slot": {tpm2.HandleOwner, plain, func(m *machine) { m.storage(""); m.storage("") }, tpm2.RCObjectMemory},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			x := m.save(m.primary(tc.hierarchy, tc.template, ""))
			tc.event(m)
			if got := m.run(tpm2.CCContextLoad, nil, nil, &command.ContextLoadIn{Context: x}, nil); got != tc.want {
				t.Errorf("ContextLoad = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestASavedSequenceGoesOn(t *testing.T) {
	m := newMachine(t)
	m.do(tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA256}, nil)
	h := m.handle
	m.do(tpm2.CCSequenceUpdate, handles(h), password(""), &command.SequenceUpdateIn{Buffer: []byte("one ")}, nil)
	x := m.save(h)
	if x.SavedHandle != tpm2.SavedSequenceObject || x.Hierarchy != tpm2.HandleNull {
		t.Errorf("sequence is saved as %v in %v", x.SavedHandle, x.Hierarchy)
	}
	finish := func(h tpm2.Handle) []byte {
		var out command.SequenceCompleteOut
		m.do(tpm2.CCSequenceComplete, handles(h), password(""), &command.SequenceCompleteIn{Buffer: []byte("two"), Hierarchy: tpm2.HandleNull}, &out)
		return out.Result
	}
	want := finish(h)
	if got := finish(m.loadContext(x)); !bytes.Equal(got, want) {
		t.Errorf("digest of the loaded sequence is %x, want %x", got, want)
	}
}

func TestASavedSessionComesBackAsItWas(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{bind: tpm2.HandleOwner, symmetric: aes128()})
	use := func() {
		m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit, tpm2.SessionEncrypt), &command.GetRandomIn{BytesRequested: 8}, nil)
	}
	use()
	x := m.save(s.handle)
	m.fails(tpm2.RCReferenceS0, tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit), &command.GetRandomIn{BytesRequested: 8})
	m.fails(tpm2.RCReferenceH0, tpm2.CCContextSave, handles(s.handle), nil, nil)
	if h := m.loadContext(x); h != s.handle {
		t.Fatalf("session %v came back as %v", s.handle, h)
	}
	use()
	m.refuses(parameterRC(tpm2.RCHandleValue, 1), x) // it is loaded
	newer := m.save(s.handle)
	m.refuses(parameterRC(tpm2.RCHandleValue, 1), x) // it is old
	m.loadContext(newer)
	use()
	newer = m.save(s.handle)
	m.flush(s.handle)
	m.refuses(parameterRC(tpm2.RCHandleValue, 1), newer) // it has ended
}

func TestAPolicySessionKeepsItsAssertions(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.do(tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}, nil)
	digest := func() []byte {
		var out command.PolicyGetDigestOut
		m.do(tpm2.CCPolicyGetDigest, handles(s.handle), nil, nil, &out)
		return out.PolicyDigest
	}
	want := digest()
	m.loadContext(m.save(s.handle))
	if got := digest(); !bytes.Equal(got, want) {
		t.Errorf("policyDigest is %x, want %x", got, want)
	}
	m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCLoad})
}

func TestAnExclusiveSessionStaysSoWhileSaved(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{})
	m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit), &command.GetRandomIn{BytesRequested: 8}, nil)
	x := m.save(s.handle)
	m.loadContext(x)
	m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit, tpm2.SessionAuditExclusive), &command.GetRandomIn{BytesRequested: 8}, nil)
}

func TestSavedSessionsSurviveWhatLoadedOnesDoNot(t *testing.T) {
	clearing, state := tpm2.StartupClear, tpm2.StartupState
	for name, tc := range map[string]struct {
		down *tpm2.StartupType
		up   tpm2.StartupType
		want tpm2.RC
	}{
		"TPM Resume":  {&state, state, 0},
		"TPM Restart": {&state, clearing, 0},
		"TPM Reset":   {&clearing, clearing, parameterRC(tpm2.RCIntegrity, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			loaded := m.session(sessionConfig{})
			saved := m.session(sessionConfig{})
			x := m.save(saved.handle)
			m.restart(tc.down, tc.up)
			if got := m.run(tpm2.CCContextLoad, nil, nil, &command.ContextLoadIn{Context: x}, nil); got != tc.want {
				t.Errorf("ContextLoad = %v, want %v", got, tc.want)
			}
			m.fails(parameterRC(tpm2.RCHandleValue, 1), tpm2.CCFlushContext, nil, nil, &command.FlushContextIn{FlushHandle: loaded.handle})
			if next := m.session(sessionConfig{}); next.handle != loaded.handle {
				t.Errorf("the handle of the lost session is not used again: %v, want %v", next.handle, loaded.handle)
			}
		})
	}
}

func TestSessionMemoryAndHandles(t *testing.T) {
	m := newMachine(t)
	start := &command.StartAuthSessionIn{
		NonceCaller: make([]byte, 16), SessionType: tpm2.SessionHMAC, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256,
	}
	nobody := handles(tpm2.HandleNull, tpm2.HandleNull)
	var saved []tpm2.Context
	for range 61 {
		saved = append(saved, m.save(m.session(sessionConfig{}).handle))
	}
	for range 3 {
		m.session(sessionConfig{})
	}
	m.fails(tpm2.RCSessionMemory, tpm2.CCStartAuthSession, nobody, nil, start)
	m.refuses(tpm2.RCSessionMemory, saved[0])
	m.save(m.handle)
	m.fails(tpm2.RCSessionHandles, tpm2.CCStartAuthSession, nobody, nil, start)
	m.loadContext(saved[0])
}

// The gap of TPM_PT_CONTEXT_GAP_MAX: with one slot left only the oldest session
// can be loaded, and none can be saved.
func TestTheGapOfSessionContexts(t *testing.T) {
	m := newMachine(t)
	oldest := m.save(m.session(sessionConfig{}).handle)
	moving := m.session(sessionConfig{}).handle
	request := m.contextRequests(moving)
	for n := range 0xffff {
		if rc := request(); rc != tpm2.RCSuccess {
			t.Fatalf("save and load %d: %v", n, rc)
		}
	}
	m.fails(tpm2.RCContextGap, tpm2.CCContextSave, handles(moving), nil, nil)
	other := m.session(sessionConfig{}).handle // one slot is left
	start := &command.StartAuthSessionIn{
		NonceCaller: make([]byte, 16), SessionType: tpm2.SessionHMAC, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256,
	}
	m.fails(tpm2.RCContextGap, tpm2.CCStartAuthSession, handles(tpm2.HandleNull, tpm2.HandleNull), nil, start)
	m.flush(other)
	m.loadContext(oldest)
	m.save(moving)
}

// contextRequests returns a function that saves and loads a session, quickly.
func (m *machine) contextRequests(h tpm2.Handle) func() tpm2.RC {
	save := binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x62}, uint32(h))
	return func() tpm2.RC {
		r := m.tpm.Execute(0, save)
		if rc := tpm2.RC(binary.BigEndian.Uint32(r[6:])); rc != tpm2.RCSuccess {
			return rc
		}
		load := append([]byte{0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x61}, r[10:]...)
		binary.BigEndian.PutUint32(load[2:], uint32(len(load)))
		r = m.tpm.Execute(0, load)
		return tpm2.RC(binary.BigEndian.Uint32(r[6:]))
	}
}

// FuzzContextLoad loads what nobody saved: only the saved context itself is taken.
func FuzzContextLoad(f *testing.F) {
	m := newMachine(f)
	object, session := m.save(m.storage("")), m.save(m.session(sessionConfig{}).handle)
	f.Add(mustEncode(f, &object))
	f.Add(mustEncode(f, &session))
	f.Fuzz(func(t *testing.T, in []byte) {
		m.in(t)
		params := raw(in)
		if m.run(tpm2.CCContextLoad, nil, nil, &params, nil) != tpm2.RCSuccess {
			return
		}
		switch {
		case bytes.Equal(in, mustEncode(t, &object)):
			m.flush(m.handle)
		case bytes.Equal(in, mustEncode(t, &session)):
			session = m.save(m.handle)
		default:
			t.Errorf("context %x was loaded", in)
		}
	})
}

func BenchmarkContext(b *testing.B) {
	for name, template := range map[string]tpm2.Public{
		"ECC": eccTemplate(fixed | ordinary | storageUse), "RSA": rsaTemplate(fixed | ordinary | storageUse),
	} {
		m := newMachine(b)
		h := m.primary(tpm2.HandleOwner, template, "")
		b.Run("save "+name, func(b *testing.B) { m.in(b); m.benchmark(b, tpm2.CCContextSave, h, nil) })
		x := &exchange{m: m, cc: tpm2.CCContextLoad}
		in := command.ContextLoadIn{Context: m.save(h)}
		request := x.request(&in)
		m.flush(h)
		b.Run("load and flush "+name, func(b *testing.B) {
			m.in(b)
			b.ReportAllocs()
			for b.Loop() {
				if rc := x.parse(m.tpm.Execute(0, request), nil); rc != tpm2.RCSuccess {
					b.Fatal(rc)
				}
				m.flush(m.handle)
			}
		})
	}
}

// The context of an RSA key keeps what its first use took long to find, once there
// was one; the key of either context signs.
func TestASavedRSAKeyKeepsWhatItsUseFound(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the module prepares keys for itself")
	}
	m := newMachine(t)
	o := outsideRSA(t, usable|tpm2.AttrSign)
	h := m.external(o)
	in := signIn(sum())
	in.InScheme.Scheme = tpm2.AlgRSASSA
	var size []int
	for range 3 {
		x := m.save(h)
		size = append(size, len(x.ContextBlob))
		m.flush(h)
		h = m.loadContext(x)
		var out command.SignOut
		m.do(tpm2.CCSign, handles(h), password(""), in, &out)
		m.do(tpm2.CCVerifySignature, handles(h), nil, &command.VerifySignatureIn{Digest: in.Digest, Signature: out.Signature}, nil)
	}
	if more := len(o.public.Unique.RSA) / 2; size[1] != size[0]+more || size[2] != size[1] {
		t.Errorf("contexts before and after uses have %d bytes, want %d more from the first use on", size, more)
	}
	if x := m.save(m.loadPublic(o.public)); len(x.ContextBlob) >= size[0] {
		t.Errorf("the context of the public key alone has %d bytes", len(x.ContextBlob))
	}
}
