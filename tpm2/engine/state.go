package engine

import "github.com/assay-project/assay/tpm2"

// authPolicy is a policy of a hierarchy or a group of PCRs; AlgNull is none.
type authPolicy struct {
	alg    tpm2.Alg
	digest []byte
}

// hierarchy is what the TPM keeps of a persistent hierarchy (Part 1, 13).
type hierarchy struct {
	seed   []byte // the primary seed: all primary keys derive from it
	proof  []byte // HMAC key of tickets and contexts
	auth   []byte // authValue, without trailing zeros
	policy authPolicy

	// originalSeed marks a seed that the first libtpms made; see Profile.Libtpms.
	originalSeed bool
}

// permanent is the state that every power loss leaves (PERSISTENT_DATA of the
// reference). Whoever changes it calls [TPM.touch].
type permanent struct {
	owner       hierarchy // storage hierarchy
	endorsement hierarchy
	platform    hierarchy // auth and policy are in stateClear
	lockout     hierarchy // auth and policy only

	disableClear bool

	dictionary dictionary

	totalResetCount uint64 // never reset; makes commands' nonces unique
	resetCount      uint32 // TPM Resets since TPM2_Clear (Part 1, 36.4)
	auditCounter    uint64
	auditAlg        tpm2.Alg
	auditCommands   commandSet // whose execution is audited
	presence        commandSet // that need physical presence
	algorithmSet    uint32
	timeEpoch       uint32 // changes when time may have stood still

	orderlyState shutdown            // how the TPM was last shut down
	banks        []tpm2.PCRSelection // from the next _TPM_Init on
	pcrPolicy    [pcrPolicyGroups]authPolicy

	nv      nvStore                 // defined indices
	objects map[tpm2.Handle]*object // persistent objects
	saved   *savedState             // made by TPM2_Shutdown; nil when none is valid
}

// shutdown says what TPM2_Shutdown, if any, came before the power went.
type shutdown uint8

const (
	shutdownNone   shutdown = iota // power was lost
	shutdownDAUsed                 // power was lost after a protected authValue was tried
	shutdownClear
	shutdownState
)

// orderly is the state that an orderly shutdown keeps exact (ORDERLY_DATA).
type orderly struct {
	clock     uint64 // milliseconds (Part 1, 36.3)
	clockSafe bool   // no higher clock was ever reported
}

// stateClear survives TPM Resume only (STATE_CLEAR_DATA).
type stateClear struct {
	ownerEnabled, endorsementEnabled, platformNVEnabled bool

	platformAuth   []byte
	platformPolicy authPolicy
	pcrAuth        [pcrAuthGroups][]byte
	readOnly       bool // TPM2_ReadOnlyControl
}

// stateReset survives TPM Resume and TPM Restart (STATE_RESET_DATA).
type stateReset struct {
	null           hierarchy // seed and proof of TPM_RH_NULL: new at each TPM Reset
	clearCount     uint32    // binds stClear objects' contexts
	restartCount   uint32
	contextID      uint64                    // of the next saved object context
	contexts       [maxActiveSessions]uint64 // see session.go
	contextCounter uint64
	auditDigest    []byte // of command audit; empty when nothing was audited
	pcrCounter     uint32 // PCR update counter
	commitCounter  uint64 // of TPM2_Commit
	commitNonce    []byte
	commits        commitSet
}

// volatile is the state that _TPM_Init ends.
type volatile struct {
	started         bool // TPM2_Startup succeeded
	failed          bool // failure mode
	platformEnabled bool // phEnable: always set at Startup (Part 3, 9.3)
	presence        bool
	reallocated     bool   // TPM2_PCR_Allocate awaits the next TPM Reset
	established     bool   // dynamic root of trust was measured
	startedAt       int64  // cfg.Now in milliseconds when time was zero, at the present rate
	time            uint64 // milliseconds since power on (Part 1, 36.2)
	hcrtm           *hcrtm // measurement in progress, or before Startup
	startupLocality uint8
	previous        shutdown // orderlyState before this Startup

	banks     []tpm2.PCRSelection // since _TPM_Init
	pcrs      pcrBanks
	objects   []*object // by slot; nil is free
	sessions  []*session
	exclusive tpm2.Handle // exclusive audit session, or 0
	heal      healing
	ratePPM   int32 // by which TPM2_ClockRateAdjust changed the rate of time and clock
	rateRest  int32 // of the last change of time, in parts of a million of a millisecond
	selfTest  selfTest
}

// touch notes that permanent state changed.
func (t *TPM) touch() { t.changed = true }
