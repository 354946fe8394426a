package differential

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// past is what a stream did before a command, as far as differences follow from it.
type past struct {
	voided  bool   // after the last TPM2_Shutdown a command changed what it had saved and libtpms does not watch
	refused bool   // a TPM2_Startup was refused since the power came
	clock   uint64 // the last value that TPM2_ClockSet took before the power went
	cleared bool   // TPM2_Clear came after the last TPM2_PCR_Allocate
	noOwner bool   // the owner's hierarchy is disabled
	hidden  bool   // between the last two startups libtpms wrote down no use of a protected object
	same    bool   // after the last TPM2_Shutdown a command set a value of the platform to what it was, or what begins anew, or the context of a session was refused
}

// A memory keeps what [past] says.
type memory struct {
	past
	orderly bool // TPM2_Shutdown was the last that changed what is saved
	set     uint64
	// allocated says that a TPM2_PCR_Allocate waits for the next TPM2_Startup(CLEAR).
	allocated bool
	audited   []tpm2.CC     // commands that were ever put under audit
	pins      []tpm2.Handle // PIN indices
	parts     []tpm2.Handle // those of which a write was of a part
	// stale says that the last startup may have left a mark of a use, which hides others.
	stale, started bool
	unprotected    bool   // no failed try counts, since recoveryTime or maxTries is 0
	maxTries       uint32 // 0 is the first, 3
	// platformAuth and platformPolicy are the platform's, the latter as parameters of
	// TPM2_SetPrimaryPolicy; nil is as they are after TPM2_Startup(CLEAR).
	platformAuth, platformPolicy []byte
}

// remember notes what a command did. in are its parameters.
func (m *memory) remember(o *Observation) {
	ran := o.RC == [2]tpm2.RC{}
	switch {
	case o.Code == tpm2.CCStartup && !ran:
		m.refused = m.refused || o.RC[0] == o.RC[1] && refused(o.RC[0], tpm2.RCValue)
	case o.Code == tpm2.CCStartup:
		m.orderly, m.started = false, true
		m.hidden, m.stale = m.stale, m.unprotected
		if len(o.Plain) == 2 && tpm2.StartupType(binary.BigEndian.Uint16(o.Plain)) == tpm2.StartupClear {
			m.platformAuth, m.platformPolicy, m.allocated, m.noOwner = nil, nil, false, false
		}
	case !ran:
	case o.Code == tpm2.CCPCRAllocate:
		m.allocated, m.cleared = true, false
	case o.Code == tpm2.CCClear:
		m.cleared = m.allocated
	case o.Code == tpm2.CCShutdown:
		m.voided, m.same, m.orderly, m.stale = false, false, true, false
	case o.Code == tpm2.CCClockSet && len(o.Plain) == 8:
		m.set = binary.BigEndian.Uint64(o.Plain)
	case o.Code == tpm2.CCCommit, o.Code == tpm2.CCECEphemeral, o.Code == tpm2.CCSetCommandCodeAuditStatus, slices.Contains(m.audited, o.Code):
		m.voided = m.voided || m.orderly
	}
	if ran && o.Code == tpm2.CCHierarchyControl && len(o.Plain) == 5 && tpm2.Handle(binary.BigEndian.Uint32(o.Plain)) == tpm2.HandleOwner {
		m.noOwner = o.Plain[4] == 0
	}
	if ran {
		m.guessing(o)
		m.written(o)
	}
	switch {
	case !ran:
		m.same = m.same || m.orderly && o.contextRefused()
	case o.Code == tpm2.CCSetCommandCodeAuditStatus:
		m.audit(o.Plain)
	case o.Code == tpm2.CCSetPrimaryPolicy, o.Code == tpm2.CCHierarchyChangeAuth, o.Code == tpm2.CCHierarchyControl:
		m.same = m.platform(o) && m.orderly || m.same
	}
}

// guessing notes what decides whether a startup counts the use of a protected object as
// a failed try.
func (m *memory) guessing(o *Observation) {
	switch {
	case o.Code == tpm2.CCClear:
		m.unprotected, m.maxTries = false, 0
	case o.Code == tpm2.CCDictionaryAttackParameters && len(o.Plain) >= 8:
		m.maxTries = binary.BigEndian.Uint32(o.Plain)
		m.unprotected = m.maxTries == 0 || binary.BigEndian.Uint32(o.Plain[4:]) == 0
	}
	if _, tries, ok := o.property(tpm2.PTLockoutCounter); ok {
		limit := m.maxTries
		if limit == 0 {
			limit = 3
		}
		m.stale, m.started = m.stale || m.started && tries >= limit, false
	}
}

// written notes which PIN indices there are, and whether a part of one was written.
func (m *memory) written(o *Observation) {
	switch {
	case o.Code == tpm2.CCNVDefineSpace:
		var in command.NVDefineSpaceIn
		if _, err := wire.DecodePrefix(o.Plain, &in); err != nil {
			return
		}
		this := func(h tpm2.Handle) bool { return h == in.PublicInfo.NVIndex }
		m.pins, m.parts = slices.DeleteFunc(m.pins, this), slices.DeleteFunc(m.parts, this)
		if isPIN(in.PublicInfo.Attributes) {
			m.pins = append(m.pins, in.PublicInfo.NVIndex)
		}
	case o.Code == tpm2.CCNVWrite && len(o.Handles) == 2 && binary.BigEndian.Uint16(o.Plain) < 8:
		if o.isPIN() || slices.Contains(m.pins, o.Handles[1]) {
			m.parts = append(m.parts, o.Handles[1])
		}
	}
}

// contextRefused reports whether both refused the whole context of a session: for
// want of room, or for its number.
func (o *Observation) contextRefused() bool {
	rc := o.RC[0]
	return o.Code == tpm2.CCContextLoad && rc == o.RC[1] &&
		(rc == tpm2.RCSessionMemory || rc == tpm2.RCContextGap || rc == tpm2.RCHandleValue.Of(tpm2.RCParameter, 1))
}

// platform notes what a command makes of the platform's values, and reports whether
// nothing changes that TPM2_Shutdown saved. Whether the platform hierarchy is
// enabled is not saved: each TPM2_Startup enables it.
func (m *memory) platform(o *Observation) (same bool) {
	if len(o.Handles) == 0 || o.Handles[0] != tpm2.HandlePlatform {
		return false
	}
	switch o.Code {
	case tpm2.CCHierarchyControl:
		return bytes.HasPrefix(o.Plain, binary.BigEndian.AppendUint32(nil, uint32(tpm2.HandlePlatform)))
	case tpm2.CCHierarchyChangeAuth:
		auth := bytes.TrimRight(o.Plain[min(2, len(o.Plain)):], "\x00")
		same, m.platformAuth = bytes.Equal(m.platformAuth, auth), auth
		return same
	}
	policy := o.Plain
	if bytes.Equal(policy, []byte{0, 0, 0, byte(tpm2.AlgNull)}) {
		policy = nil
	}
	same, m.platformPolicy = bytes.Equal(m.platformPolicy, policy), policy
	return same
}

// audit notes the commands of a set list.
func (m *memory) audit(plain []byte) {
	if len(plain) < 6 {
		return
	}
	list := plain[6:]
	for range binary.BigEndian.Uint32(plain[2:]) {
		if len(list) < 4 {
			return
		}
		m.audited = append(m.audited, tpm2.CC(binary.BigEndian.Uint32(list)))
		list = list[4:]
	}
}

// powerLost notes that the power went.
func (m *memory) powerLost() { m.clock, m.refused = max(m.clock, m.set), false }

// look compares, after a power loss, what shows whether the two took it in the
// same way. A difference in that would have others follow without end.
func (g *generator) look() {
	for _, s := range []*step{
		g.newStep(tpm2.CCReadClock),
		g.plain(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTLockoutCounter), PropertyCount: 1}),
		g.plain(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTStartupClear), PropertyCount: 1}),
	} {
		g.run(s)
	}
}
