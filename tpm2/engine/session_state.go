package engine

import (
	"math"

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
//
//go:noinline
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

// maxContextGap is what TPM_PT_CONTEXT_GAP_MAX says: the numbers of no two saved
// sessions differ by more.
const maxContextGap = 0xffff

// oldestSession returns the index and number of the session that was saved first
// of those that are; ok is false when none is.
func (t *TPM) oldestSession() (index uint32, number uint64, ok bool) {
	for i, n := range t.reset.contexts {
		if n > uint64(len(t.vol.sessions)) && (!ok || n < number) {
			index, number, ok = uint32(i), n, true
		}
	}
	return index, number, ok
}

// contextGap reports whether no number can be given to another saved session,
// because that of the oldest is too far behind (Part 1, 30.5). oldest is its index.
func (t *TPM) contextGap() (oldest uint32, full bool) {
	oldest, number, ok := t.oldestSession()
	return oldest, ok && t.reset.contextCounter-number > maxContextGap
}

// lastSlot reports whether one slot is free, and no more. With a full gap it is
// kept for the oldest session, without which none could be saved again.
func (t *TPM) lastSlot() bool {
	free := 0
	for _, s := range t.vol.sessions {
		if s == nil {
			free++
		}
	}
	return free == 1
}

// addSession gives s a handle and a slot (Part 3, 11.1).
func (t *TPM) addSession(s *session) error {
	slot, err := t.freeSessionSlot()
	if err != nil {
		return err
	}
	if _, full := t.contextGap(); full && t.lastSlot() {
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
		t.vol.sessions[n-1] = nil
	}
	if t.vol.exclusive != 0 && t.vol.exclusive.Index() == index {
		t.vol.exclusive = 0
	}
	t.reset.contexts[index] = 0
}

// nextSessionContext returns the number for the next session to be saved.
func (t *TPM) nextSessionContext() (uint64, error) {
	if _, full := t.contextGap(); full {
		return 0, tpm2.RCContextGap
	}
	if t.reset.contextCounter == math.MaxUint64 {
		return 0, tpm2.RCTooManyContexts
	}
	return t.reset.contextCounter, nil
}

// putAway frees the slot of a session that was saved.
func (t *TPM) putAway(s *session) {
	i := s.handle.Index()
	t.vol.sessions[t.reset.contexts[i]-1] = nil
	t.reset.contexts[i] = t.reset.contextCounter
	t.reset.contextCounter++
}

// savedAs reports whether the session of this index is saved, last with this number:
// an older context of it may not come back.
func (t *TPM) savedAs(index uint32, number uint64) bool {
	return t.sessionSaved(index) && t.reset.contexts[index] == number
}

// canBringBack reports why the saved session of this index cannot be loaded now.
func (t *TPM) canBringBack(index uint32) error {
	if _, err := t.freeSessionSlot(); err != nil {
		return err
	}
	if oldest, full := t.contextGap(); full && t.lastSlot() && index != oldest {
		return tpm2.RCContextGap
	}
	return nil
}

// bringBack puts a session that was saved into a slot, of which there is one.
func (t *TPM) bringBack(s *session) {
	slot, err := t.freeSessionSlot()
	if err != nil {
		panic(err) // canBringBack said otherwise
	}
	t.vol.sessions[slot] = s
	t.reset.contexts[s.handle.Index()] = uint64(slot + 1)
}

// dropLoaded frees the handles of loaded sessions, of which there are at most
// slots: when power goes only those that were saved survive (Part 1, 30.6).
func (s *stateReset) dropLoaded(slots int) {
	for i, n := range s.contexts {
		if n <= uint64(slots) {
			s.contexts[i] = 0
		}
	}
}

// boundTo reports whether the session is bound to the entity as it is now: with
// another authValue it is another entity (Part 1, 19.6.8).
func (t *TPM) boundTo(s *session, h tpm2.Handle) bool {
	return s.boundName != nil && string(s.boundName) == string(t.name(h)) && equal(s.boundAuth, t.authValue(h))
}

// renewPolicy makes a policy session, whose nonce changed, as good as new: a policy
// serves for one use, and its time starts with the nonce (Part 1, 19.7.10).
func (t *TPM) renewPolicy(s *session) {
	s.clearPolicy()
	s.startTime, s.epoch = t.vol.time, t.permanent.timeEpoch
}

// clearPolicy resets a policy session to what it was when it was started
// (SessionResetPolicyData of the reference).
func (s *session) clearPolicy() {
	s.assertions = assertions{digest: make([]byte, s.hash.DigestSize())}
}
