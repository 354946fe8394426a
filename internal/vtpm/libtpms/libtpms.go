// Package libtpms reads the state that swtpm keeps of a TPM 2.0, so that a TPM can
// move to this project.
//
// What is read is what the files say: their digest or HMAC, where they have one,
// finds damage and a wrong key, not an older copy. A [State] holds every secret of
// the TPM in the clear. Nothing is written in this format.
//
// Read [Open] first. The formats are those of swtpm (swtpm_nvstore.c, tlv.h) and of
// libtpms (NVMarshal.c), PERSISTENT_ALL versions 1 to 4, which swtpm 0.1 to 0.11
// write.
package libtpms

import (
	"errors"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// The failures that a caller acts on; each comes wrapped with what is wrong and where.
var (
	// ErrFormat is what is no state of swtpm, or is damaged.
	ErrFormat = errors.New("not a TPM 2.0 state of swtpm")
	// ErrVersion is a state that only a newer reader understands.
	ErrVersion = errors.New("state of swtpm is of a newer version")
	// ErrKey is an encrypted state without its key, or with another one.
	ErrKey = errors.New("the state of swtpm does not open with this key")
)

// State is the permanent state of a TPM (PERSISTENT_ALL).
type State struct {
	Profile string // the profile's JSON; empty before libtpms 0.10

	Owner, Endorsement, Platform Hierarchy
	Lockout                      Hierarchy // has neither seed nor proof

	DisableClear    bool
	TotalResetCount uint64
	ResetCount      uint32
	Dictionary      Dictionary
	Shutdown        uint16 // orderlyState: TPM_SU of the last shutdown, and flags
	AuditAlg        tpm2.Alg
	AuditCounter    uint64
	AlgorithmSet    uint32
	TimeEpoch       uint64

	Clock     uint64 // milliseconds
	ClockSafe bool

	Banks       []tpm2.PCRSelection // allocated PCRs from the next start on
	PCRPolicies []Policy

	// Presence and AuditCommands are sets of commands, as bits. Before libtpms 0.10 only
	// commands that it had were numbered; compressed says so.
	Presence, AuditCommands []byte
	compressed              bool

	Indices    []Index
	Objects    []Object
	MaxCounter uint64 // highest value that any counter had
}

// Suspended reports whether the TPM was shut down for TPM Resume (Part 1, 12.2.3).
func (s *State) Suspended() bool { return s.Shutdown&suStateMask == suState }

// The parts of orderlyState: above them are flags (Global.h of the reference).
const (
	suStateMask = 0x3FFF
	suState     = uint16(tpm2.StartupState)
	suDAUsed    = 0xFFFE
)

// A Hierarchy is what the TPM keeps of one (Part 1, 13).
type Hierarchy struct {
	Seed, Proof []byte
	Auth        []byte
	Policy      Policy
	Level       tpmcrypto.SeedLevel // how primary RSA keys come from Seed
}

// A Policy is a policy's digest; with TPM_ALG_NULL, none.
type Policy struct {
	Alg    tpm2.Alg
	Digest []byte
}

// Dictionary is the protection against guessing (Part 1, 19.8).
type Dictionary struct {
	FailedTries, MaxTries         uint32
	RecoveryTime, LockoutRecovery uint32 // seconds
	LockoutEnabled                bool
}

// An Index is a defined NV index (Part 1, 37).
type Index struct {
	Public tpm2.NVPublic
	Auth   []byte
	Data   []byte // DataSize bytes
}

// An Object is a persistent object.
type Object struct {
	Handle        tpm2.Handle
	Public        tpm2.Public
	PublicOnly    bool
	Sensitive     tpm2.Sensitive // empty when PublicOnly
	Name          []byte
	QualifiedName []byte
	Hierarchy     tpm2.Handle
	Primary       bool
	STClear       bool
	Parent        bool // a storage or derivation parent
	Derivation    bool
}
