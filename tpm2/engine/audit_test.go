package engine_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// audited is the digest of an audit after one more command, by the book (Part 1,
// 18.7, 18.8, 32): the command has these parameters, and its response those.
func audited(old []byte, cc tpm2.CC, names, in, out []byte) []byte {
	code := be32(uint32(cc))
	return sum(old, sum(code, names, in), sum(be32(0), code, out))
}

// random runs an audited TPM2_GetRandom and returns its response's parameters.
func (m *machine) random(s *session, attributes ...tpm2.SessionAttributes) []byte {
	m.Helper()
	var out raw
	m.do(tpm2.CCGetRandom, nil, s.with("", attributes...), &command.GetRandomIn{BytesRequested: 8}, &out)
	return out
}

// sessionAudit asks for a session's digest.
func (m *machine) sessionAudit(s *session) tpm2.SessionAuditInfo {
	m.Helper()
	var out certified
	m.do(tpm2.CCGetSessionAuditDigest, handles(tpm2.HandleEndorsement, tpm2.HandleNull, s.handle), password("", ""),
		&command.GetSessionAuditDigestIn{InScheme: noScheme()}, &out)
	at, err := tpm2.ParseAttest(out.Info)
	if err != nil {
		m.Fatal(err)
	}
	return at.Attested.SessionAudit
}

func TestASessionAuditsItsCommands(t *testing.T) {
	m := newMachine(t)
	s := m.session(sessionConfig{})
	in := be16(8)
	m.fails(handleRC(tpm2.RCType, 3), tpm2.CCGetSessionAuditDigest, handles(tpm2.HandleEndorsement, tpm2.HandleNull, s.handle), password("", ""),
		&command.GetSessionAuditDigestIn{InScheme: noScheme()})
	want := audited(zeros(), tpm2.CCGetRandom, nil, in, m.random(s, tpm2.SessionAudit))
	want = audited(want, tpm2.CCGetRandom, nil, in, m.random(s, tpm2.SessionAudit, tpm2.SessionAuditExclusive))
	// The command that asks is not audited, and was the first of another kind.
	if got := m.sessionAudit(s); !cmp.Equal(got, tpm2.SessionAuditInfo{ExclusiveSession: true, SessionDigest: want}) {
		t.Errorf("GetSessionAuditDigest = %+v, want exclusive %x", got, want)
	}
	if got := m.sessionAudit(s); got.ExclusiveSession {
		t.Error("a session is exclusive still after another command")
	}
	m.fails(tpm2.RCExclusive, tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit|tpm2.SessionAuditExclusive), &command.GetRandomIn{BytesRequested: 8})
	want = audited(want, tpm2.CCGetRandom, nil, in, m.random(s, tpm2.SessionAudit))
	if got := m.sessionAudit(s); !bytes.Equal(got.SessionDigest, want) {
		t.Errorf("digest is %x, want %x", got.SessionDigest, want)
	}
	want = audited(zeros(), tpm2.CCGetRandom, nil, in, m.random(s, tpm2.SessionAudit, tpm2.SessionAuditReset))
	if got := m.sessionAudit(s); !cmp.Equal(got, tpm2.SessionAuditInfo{ExclusiveSession: true, SessionDigest: want}) {
		t.Errorf("after a reset: %+v, want exclusive %x", got, want)
	}
}

// A policy session cannot audit, and two cannot audit one command.
func TestWhatCannotAudit(t *testing.T) {
	m := newMachine(t)
	in := &command.GetRandomIn{BytesRequested: 8}
	p := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.fails(sessionRC(tpm2.RCAttributes, 1), tpm2.CCGetRandom, nil, p.with("", tpm2.SessionAudit), in)
	one, two := m.session(sessionConfig{}), m.session(sessionConfig{})
	both := append(one.with("", tpm2.SessionAudit), two.with("", tpm2.SessionAudit)...)
	m.fails(sessionRC(tpm2.RCAttributes, 2), tpm2.CCGetRandom, nil, both, in)
}

// From its second audit on a session is bound to nothing: its HMAC has the authValue.
func TestAnAuditSessionIsNotBound(t *testing.T) {
	m := newMachine(t)
	in := &command.HierarchyChangeAuthIn{NewAuth: []byte("owner")}
	m.do(tpm2.CCHierarchyChangeAuth, handles(tpm2.HandleOwner), password(""), in, nil)
	s := m.session(sessionConfig{bind: tpm2.HandleOwner, bindAuth: "owner"})
	set := func(to uint64, attributes ...tpm2.SessionAttributes) tpm2.RC {
		return m.run(tpm2.CCClockSet, handles(tpm2.HandleOwner), s.with("owner", attributes...), setClock(to).in, nil)
	}
	for i, attributes := range []tpm2.SessionAttributes{0, tpm2.SessionAudit} {
		if rc := set(anHour+uint64(i), attributes); rc != tpm2.RCSuccess {
			t.Fatalf("ClockSet %d by a bound session = %v", i, rc)
		}
	}
	if rc := set(anHour + 3); rc != sessionRC(tpm2.RCBadAuth, 1) {
		t.Errorf("ClockSet without the authValue in the HMAC = %v", rc)
	}
	s.boundName = nil
	if rc := set(anHour + 3); rc != tpm2.RCSuccess {
		t.Errorf("ClockSet with the authValue in the HMAC = %v", rc)
	}
}

// commandAudit asks for the digest of command audit, with the endorsement key or
// without a signature.
func (m *machine) commandAudit(key tpm2.Handle) tpm2.CommandAuditInfo {
	m.Helper()
	var out certified
	m.do(tpm2.CCGetCommandAuditDigest, handles(tpm2.HandleEndorsement, key), password("", ""),
		&command.GetCommandAuditDigestIn{InScheme: noScheme()}, &out)
	at, err := tpm2.ParseAttest(out.Info)
	if err != nil {
		m.Fatal(err)
	}
	return at.Attested.CommandAudit
}

func TestCommandsAreAudited(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleEndorsement, restrictedKey(), "")
	audit := func(in command.SetCommandCodeAuditStatusIn) {
		t.Helper()
		m.do(tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), password(""), &in, nil)
	}
	list := func(cc ...tpm2.CC) []byte {
		var out []byte
		for _, c := range cc {
			out = append(out, be32(uint32(c))...)
		}
		return sum(out)
	}
	if got := m.commandAudit(tpm2.HandleNull); got.DigestAlg != tpm2.AlgSHA512 || len(got.AuditDigest) != 0 || got.AuditCounter != 0 {
		t.Errorf("audit of a new TPM is %+v", got)
	}
	audit(command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgSHA256})
	if got := m.commandAudit(tpm2.HandleNull); got.DigestAlg != tpm2.AlgSHA256 || len(got.AuditDigest) != 0 || got.AuditCounter != 0 {
		t.Errorf("a change of the hash is audited: %+v", got)
	}
	in := command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetRandom, tpm2.CCShutdown, 0x1ff}}
	audit(in)
	want := audited(zeros(), tpm2.CCSetCommandCodeAuditStatus, be32(uint32(tpm2.HandleOwner)), mustEncode(t, &in), nil)
	s := m.session(sessionConfig{})
	want = audited(want, tpm2.CCGetRandom, nil, be16(8), m.random(s, tpm2.SessionAudit))
	m.do(tpm2.CCReadClock, nil, nil, nil, nil)
	told := tpm2.CommandAuditInfo{
		AuditCounter: 1, DigestAlg: tpm2.AlgSHA256, AuditDigest: want, CommandDigest: list(tpm2.CCSetCommandCodeAuditStatus, tpm2.CCGetRandom),
	}
	for range 2 {
		if d := cmp.Diff(told, m.commandAudit(tpm2.HandleNull)); d != "" {
			t.Errorf("command audit (-want +got):\n%s", d)
		}
	}
	if d := cmp.Diff(told, m.commandAudit(key)); d != "" {
		t.Errorf("signed command audit (-want +got):\n%s", d)
	}
	// The signature took the digest.
	if got := m.commandAudit(key); len(got.AuditDigest) != 0 || got.AuditCounter != 1 {
		t.Errorf("after it was signed the audit is %+v", got)
	}
	m.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{}, nil)
	audit(command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgSHA256, ClearList: []tpm2.CC{tpm2.CCGetRandom, tpm2.CCSetCommandCodeAuditStatus}})
	if got := m.commandAudit(key); got.AuditCounter != 2 || !bytes.Equal(got.CommandDigest, list(tpm2.CCSetCommandCodeAuditStatus)) {
		t.Errorf("after it was cleared the audit is %+v", got)
	}
}

func TestTheHashAndTheListOfAuditDoNotChangeAtOnce(t *testing.T) {
	m := newMachine(t)
	for _, in := range []*command.SetCommandCodeAuditStatusIn{
		{AuditAlg: tpm2.AlgSHA256, SetList: []tpm2.CC{tpm2.CCGetRandom}},
		{AuditAlg: tpm2.AlgSHA256, ClearList: []tpm2.CC{tpm2.CCGetRandom}},
	} {
		m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), password(""), in)
	}
	if got := m.commandAudit(tpm2.HandleNull); got.DigestAlg != tpm2.AlgSHA512 {
		t.Errorf("a refused command changed the hash to %v", got.DigestAlg)
	}
	m.do(tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandlePlatform), password(""),
		&command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgSHA512, SetList: []tpm2.CC{tpm2.CCGetRandom}}, nil)
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapAuditCommands, PropertyCount: 9}, &out)
	if want := []tpm2.CC{tpm2.CCSetCommandCodeAuditStatus, tpm2.CCGetRandom}; !slices.Equal(out.CapabilityData.CommandCodes, want) {
		t.Errorf("audited commands are %v, want %v", out.CapabilityData.CommandCodes, want)
	}
}
