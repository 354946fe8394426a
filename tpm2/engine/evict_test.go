package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

func (m *machine) evict(auth, h, at tpm2.Handle) tpm2.RC {
	m.Helper()
	return m.run(tpm2.CCEvictControl, handles(auth, h), password(""), &command.EvictControlIn{PersistentHandle: at}, nil)
}

func TestPersistentObjectsStay(t *testing.T) {
	clearing := tpm2.StartupClear
	m := newMachine(t)
	h := m.storage("auth")
	name := m.name(h)
	m.persist(owner, h, ownerPersistent)
	m.flush(h)
	m.restart(&clearing, clearing)
	if got := m.name(ownerPersistent); !bytes.Equal(got, name) {
		t.Errorf("Name of the persistent object is %x, want %x", got, name)
	}
	m.do(tpm2.CCCreate, handles(ownerPersistent), password("auth"), &command.CreateIn{InPublic: eccTemplate(fixed | ordinary | tpm2.AttrSign)}, nil)
	if got := m.evict(owner, ownerPersistent, ownerPersistent); got != 0 {
		t.Errorf("EvictControl of a persistent object = %v", got)
	}
	if got, want := m.exists(ownerPersistent), handleRC(tpm2.RCHandleValue, 1); got != want {
		t.Errorf("removed object: %v, want %v", got, want)
	}
}

func TestWhatCanBePersistent(t *testing.T) {
	storageKey := eccTemplate(fixed | ordinary | storageUse)
	by := func(h tpm2.Handle) func(m *machine) tpm2.Handle {
		return func(m *machine) tpm2.Handle { return m.primary(h, storageKey, "") }
	}
	attributes := handleRC(tpm2.RCAttributes, 2)
	for name, tc := range map[string]struct {
		object func(m *machine) tpm2.Handle
		auth   tpm2.Handle
		at     tpm2.Handle
		want   tpm2.RC
	}{
		"owner's by owner":                {by(owner), owner, ownerPersistent, 0},
		"endorsement's by owner":          {by(endorsement), owner, ownerPersistent, 0},
		"platform's by platform":          {by(platform), platform, platformPersistent, 0},
		"last of the owner's range":       {by(owner), owner, 0x817fffff, 0},
		"last of the platform's range":    {by(platform), platform, 0x81ffffff, 0},
		"platform's by owner":             {by(platform), owner, ownerPersistent, handleRC(tpm2.RCHierarchy, 2)},
		"owner's by platform":             {by(owner), platform, platformPersistent, handleRC(tpm2.RCHierarchy, 2)},
		"endorsement's by platform":       {by(endorsement), platform, platformPersistent, handleRC(tpm2.RCHierarchy, 2)},
		"owner's in the platform's range": {by(owner), owner, platformPersistent, parameterRC(tpm2.RCRange, 1)},
		"platform's in the owner's range": {by(platform), platform, ownerPersistent, parameterRC(tpm2.RCRange, 1)},
		"by the endorsement authority":    {by(endorsement), endorsement, ownerPersistent, handleRC(tpm2.RCValue, 1)},
		"of the NULL hierarchy":           {by(tpm2.HandleNull), owner, ownerPersistent, attributes},
		"a child in the NULL hierarchy": {func(m *machine) tpm2.Handle {
			return m.child(by(tpm2.HandleNull)(m), eccTemplate(fixed|ordinary|tpm2.AttrSign), "", "")
		}, owner, ownerPersistent, attributes},
		"stClear": {func(m *machine) tpm2.Handle {
			return m.primary(owner, eccTemplate(fixed|ordinary|tpm2.AttrSign|tpm2.AttrSTClear), "")
		}, owner, ownerPersistent, attributes},
		"a child of an stClear parent": {func(m *machine) tpm2.Handle {
			return m.child(m.primary(owner, eccTemplate(fixed|ordinary|storageUse|tpm2.AttrSTClear), ""), eccTemplate(fixed|ordinary|tpm2.AttrSign), "", "")
		}, owner, ownerPersistent, attributes},
		"a public area": {(*machine).publicOnly, owner, ownerPersistent, attributes},
		"from outside": {func(m *machine) tpm2.Handle {
			m.do(tpm2.CCLoadExternal, nil, nil, outsideAES(usable|tpm2.AttrDecrypt).external(), nil)
			return m.handle
		}, owner, ownerPersistent, attributes},
		"a sequence": {func(m *machine) tpm2.Handle {
			m.do(tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA256}, nil)
			return m.handle
		}, owner, ownerPersistent, attributes},
		"at a handle that is taken":            {func(m *machine) tpm2.Handle { h := by(owner)(m); m.persist(owner, h, ownerPersistent); return h }, owner, ownerPersistent, tpm2.RCNVDefined},
		"removed under another handle":         {persisted(owner), owner, 0x81000002, handleRC(tpm2.RCHandleValue, 2)},
		"owner's removed by platform":          {persisted(owner), platform, ownerPersistent, 0},
		"platform's removed by owner":          {persisted(platform), owner, platformPersistent, handleRC(tpm2.RCHierarchy, 2)},
		"platform's removed by platform":       {persisted(platform), platform, platformPersistent, 0},
		"at a handle that is not persistent":   {by(owner), owner, 0x80000001, parameterRC(tpm2.RCValue, 1)},
		"an object that does not exist":        {func(*machine) tpm2.Handle { return 0x80000002 }, owner, ownerPersistent, tpm2.RCReferenceH0 + 1},
		"a persistent one that does not exist": {func(*machine) tpm2.Handle { return ownerPersistent }, owner, ownerPersistent, handleRC(tpm2.RCHandleValue, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			h := tc.object(m)
			params := raw(handleBytes(tc.at))
			if got := m.run(tpm2.CCEvictControl, handles(tc.auth, h), password(""), &params, nil); got != tc.want {
				t.Errorf("EvictControl = %v, want %v", got, tc.want)
			}
		})
	}
}

func handleBytes(h tpm2.Handle) []byte {
	return []byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}

// persisted makes a persistent object of a hierarchy, and no transient one.
func persisted(hierarchy tpm2.Handle) func(m *machine) tpm2.Handle {
	return func(m *machine) tpm2.Handle {
		at, auth := ownerPersistent, owner
		if hierarchy == platform {
			at, auth = platformPersistent, platform
		}
		h := m.primary(hierarchy, eccTemplate(fixed|ordinary|storageUse), "")
		m.persist(auth, h, at)
		m.flush(h)
		return at
	}
}

func TestRoomForPersistentObjects(t *testing.T) {
	m := newMachine(t)
	h := m.storage("")
	for i := range tpm2.Handle(64) {
		m.persist(owner, h, 0x81000000+i)
	}
	if got := m.evict(owner, h, 0x81000100); got != tpm2.RCNVSpace {
		t.Errorf("EvictControl of one more = %v, want TPM_RC_NV_SPACE", got)
	}
	if got := m.evict(owner, 0x81000000, 0x81000000); got != 0 {
		t.Errorf("EvictControl of the first = %v", got)
	}
	m.persist(owner, h, 0x81000100)
}

func TestAFlushedThingIsGone(t *testing.T) {
	m := newMachine(t)
	object := m.storage("")
	hmac, policy := m.session(sessionConfig{}).handle, m.session(sessionConfig{kind: tpm2.SessionPolicy}).handle
	saved := m.session(sessionConfig{}).handle
	m.save(saved)
	flush := func(h tpm2.Handle) tpm2.RC {
		params := raw(handleBytes(h))
		return m.run(tpm2.CCFlushContext, nil, nil, &params, nil)
	}
	for _, h := range []tpm2.Handle{object, hmac, policy, saved} {
		if got := flush(h); got != 0 {
			t.Errorf("FlushContext(%v) = %v", h, got)
		}
		if got, want := flush(h), parameterRC(tpm2.RCHandleValue, 1); got != want {
			t.Errorf("second FlushContext(%v) = %v, want %v", h, got, want)
		}
	}
	for _, h := range []tpm2.Handle{ownerPersistent, owner, 0, 0x01000001, 0x02000040, 0x80000003, 0xffffffff} {
		if got, want := flush(h), parameterRC(tpm2.RCValue, 1); got != want {
			t.Errorf("FlushContext(%v) = %v, want %v", h, got, want)
		}
	}
}

// Flushing an exclusive audit session, loaded or saved, ends exclusivity.
func TestAFlushedSessionIsNotExclusive(t *testing.T) {
	for name, put := range map[string]func(m *machine, h tpm2.Handle){
		"loaded": func(*machine, tpm2.Handle) {}, "saved": func(m *machine, h tpm2.Handle) { m.save(h) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			random := &command.GetRandomIn{BytesRequested: 8}
			s := m.session(sessionConfig{})
			m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit), random, nil)
			put(m, s.handle)
			m.flush(s.handle)
			next := m.session(sessionConfig{}) // of the same handle
			m.do(tpm2.CCGetRandom, nil, next.with("", tpm2.SessionAudit), random, nil)
			other := m.session(sessionConfig{})
			m.do(tpm2.CCGetRandom, nil, other.with("", tpm2.SessionAudit), random, nil)
			m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, next.with("", tpm2.SessionAudit, tpm2.SessionAuditExclusive), random)
		})
	}
}
