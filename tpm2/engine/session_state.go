package engine

import (
	"github.com/assay-project/assay/tpm2"
)

// maxActiveSessions is MAX_ACTIVE_SESSIONS: loaded and saved ones (PTP: 64).
const maxActiveSessions = 64

// A session is an HMAC, policy or trial session (Part 1, 19.6; SESSION of the
// reference).
type session struct {
	handle    tpm2.Handle
	policy    bool // policy or trial
	trial     bool
	hash      tpm2.Alg
	symmetric tpm2.SymDef
	key       []byte // sessionKey
	nonce     []byte // nonceTPM
	startTime uint64 // vol.time when it was started
	epoch     uint32 // permanent.timeEpoch then

	boundName, boundAuth  []byte // of the entity it is bound to; name nil when none
	daBound, lockoutBound bool

	audit       bool // was used for audit
	auditDigest []byte

	assertions
	includeAuth bool // of the present command
}

// assertions are what the policy commands set on a policy session: the digest
// of what was asserted, and what remains to be checked when it is used.
type assertions struct {
	digest          []byte
	timeout         uint64 // vol.time at which it ends; 0 is never
	commandCode     tpm2.CC
	locality        tpm2.Locality // 0 is any
	pcrMark         uint32        // see TPM.pcrMark: when PCRs were first read; 0 is never
	bound           boundHash
	boundDigest     []byte // cpHash, nameHash, templateHash or parameterHash
	authValueNeeded bool
	passwordNeeded  bool
	presenceNeeded  bool
	checkWritten    bool
	written         bool
}

// boundHash says which hash of a command a policy session is limited to.
type boundHash uint8

const (
	boundNothing boundHash = iota
	boundCPHash
	boundNameHash
	boundTemplate
	boundParameters
)

// session returns a loaded session, nil when the handle names none.
func (t *TPM) session(h tpm2.Handle) *session {
	i := h.Index()
	if h.Kind() != tpm2.KindHMACSession && h.Kind() != tpm2.KindPolicySession || i >= maxActiveSessions {
		return nil
	}
	slot := t.reset.contexts[i]
	if slot == 0 || slot > uint64(len(t.vol.sessions)) {
		return nil
	}
	return t.vol.sessions[slot-1]
}

// sessionSaved reports whether the session of this number is saved.
func (t *TPM) sessionSaved(index uint32) bool {
	return index < maxActiveSessions && t.reset.contexts[index] > uint64(len(t.vol.sessions))
}

// freeSessionSlot returns a free slot for a loaded session.
func (t *TPM) freeSessionSlot() (int, error) {
	for i, s := range t.vol.sessions {
		if s == nil {
			return i, nil
		}
	}
	return 0, tpm2.RCSessionMemory
}

// contextGap reports whether number may not be given to another saved context,
// because the oldest saved session is too far behind (Part 1, 30.5).
func (t *TPM) contextGap() bool {
	oldest, any := t.oldestSession()
	return any && t.reset.contextCounter-oldest >= maxContextGap
}

// maxContextGap is what TPM_PT_CONTEXT_GAP_MAX says.
const maxContextGap = 0xffff

func (t *TPM) oldestSession() (number uint64, any bool) {
	for _, n := range t.reset.contexts {
		if n > uint64(len(t.vol.sessions)) && (!any || n < number) {
			number, any = n, true
		}
	}
	return number, any
}

// addSession gives s a handle and a slot (Part 3, 11.1).
func (t *TPM) addSession(s *session) error {
	slot, err := t.freeSessionSlot()
	if err != nil {
		return err
	}
	// Part 3, 11.1: a full gap only lets the oldest session be loaded.
	if t.contextGap() {
		return tpm2.RCContextGap
	}
	for i, n := range t.reset.contexts {
		if n != 0 {
			continue
		}
		kind := tpm2.KindHMACSession
		if s.policy {
			kind = tpm2.KindPolicySession
		}
		s.handle = kind.First() + tpm2.Handle(i)
		t.reset.contexts[i] = uint64(slot + 1)
		t.vol.sessions[slot] = s
		return nil
	}
	return tpm2.RCSessionHandles
}

// flushSession ends the session of this number, loaded or saved.
func (t *TPM) flushSession(index uint32) {
	n := t.reset.contexts[index]
	if n == 0 {
		return
	}
	if n <= uint64(len(t.vol.sessions)) {
		if s := t.vol.sessions[n-1]; s != nil && s.handle == t.vol.exclusive {
			t.vol.exclusive = 0
		}
		t.vol.sessions[n-1] = nil
	}
	t.reset.contexts[index] = 0
}

// boundTo reports whether the session is bound to the entity as it is now: with
// another authValue it is another entity (Part 1, 19.6.8).
func (t *TPM) boundTo(s *session, h tpm2.Handle) bool {
	return s.boundName != nil && string(s.boundName) == string(t.name(h)) && equal(s.boundAuth, t.authValue(h))
}

// clearPolicy resets a policy session to what it was when it was started
// (SessionResetPolicyData of the reference).
func (s *session) clearPolicy() {
	s.assertions = assertions{digest: make([]byte, s.hash.DigestSize())}
}
