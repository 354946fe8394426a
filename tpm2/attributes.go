package tpm2

import (
	"fmt"
	"strings"

	"github.com/assay-project/assay/wire"
)

// ObjectAttributes is a TPMA_OBJECT (Part 2, 8.3).
type ObjectAttributes uint32

// The bits of a TPMA_OBJECT.
const (
	AttrFixedTPM             ObjectAttributes = 1 << 1  // cannot be duplicated
	AttrSTClear              ObjectAttributes = 1 << 2  // saved contexts die with TPM Reset or Restart
	AttrFixedParent          ObjectAttributes = 1 << 4  // the parent cannot change
	AttrSensitiveDataOrigin  ObjectAttributes = 1 << 5  // the TPM made the secret itself
	AttrUserWithAuth         ObjectAttributes = 1 << 6  // authValue authorizes the user role
	AttrAdminWithPolicy      ObjectAttributes = 1 << 7  // only policy authorizes the admin role
	AttrFirmwareLimited      ObjectAttributes = 1 << 8  // usable only under the firmware that made it
	AttrSVNLimited           ObjectAttributes = 1 << 9  // usable from a security version on
	AttrNoDA                 ObjectAttributes = 1 << 10 // exempt from dictionary attack protection
	AttrEncryptedDuplication ObjectAttributes = 1 << 11 // duplication must be encrypted
	AttrRestricted           ObjectAttributes = 1 << 16 // signs or decrypts only what the TPM made or knows
	AttrDecrypt              ObjectAttributes = 1 << 17
	AttrSign                 ObjectAttributes = 1 << 18 // signs; for symmetric keys, encrypts
	AttrX509Sign             ObjectAttributes = 1 << 19 // signs only X.509 certificates
)

// attributeNames are the names of Part 2, table 37, by bit.
var attributeNames = [32]string{
	1: "fixedTPM", 2: "stClear", 4: "fixedParent", 5: "sensitiveDataOrigin",
	6: "userWithAuth", 7: "adminWithPolicy", 8: "firmwareLimited", 9: "svnLimited",
	10: "noDA", 11: "encryptedDuplication", 16: "restricted", 17: "decrypt", 18: "sign", 19: "x509sign",
}

const attrReserved = 1<<0 | 1<<3 | 0xf<<12 | 0xfff<<20

// Has reports whether all bits of want are set.
func (a ObjectAttributes) Has(want ObjectAttributes) bool { return a&want == want }

// String lists the names of the bits that are set: "fixedTPM|restricted|sign".
func (a ObjectAttributes) String() string {
	var names []string
	for bit, name := range attributeNames {
		if a>>bit&1 == 0 {
			continue
		}
		if name == "" {
			name = fmt.Sprintf("bit %d", bit)
		}
		names = append(names, name)
	}
	return strings.Join(names, "|")
}

// Wire lays out a TPMA_OBJECT; reserved bits are zero (Part 2, 8.3.2).
func (a *ObjectAttributes) Wire(c *wire.Codec) {
	wire.U32(c, a)
	c.Check(*a&attrReserved == 0, wire.ErrReserved)
}

// CommandAttributes is a TPMA_CC: what a command takes and changes (Part 2, 8.9).
type CommandAttributes uint32

// The bits of a TPMA_CC.
const (
	CommandNV        CommandAttributes = 1 << 22 // may write NV
	CommandExtensive CommandAttributes = 1 << 23 // may flush any number of loaded contexts
	CommandFlushed   CommandAttributes = 1 << 24 // flushes the context of a handle it was given
	CommandRHandle   CommandAttributes = 1 << 28 // its response has a handle
	CommandVendor    CommandAttributes = 1 << 29

	commandCHandlesShift = 25
)

// Code returns the command code without its vendor bit.
func (a CommandAttributes) Code() CC { return CC(a & 0xffff) }

// CHandles returns the number of handles in the handle area of the command.
func (a CommandAttributes) CHandles() int { return int(a >> commandCHandlesShift & 7) }

// Has reports whether all bits of want are set.
func (a CommandAttributes) Has(want CommandAttributes) bool { return a&want == want }

// NewCommandAttributes returns the TPMA_CC of a command with this code, number
// of handles (0 to 7) and bits.
func NewCommandAttributes(code CC, handles int, bits CommandAttributes) CommandAttributes {
	a := CommandAttributes(code&0xffff) | bits | CommandAttributes(handles&7)<<commandCHandlesShift
	if code&CCVendor != 0 {
		a |= CommandVendor
	}
	return a
}

// Wire lays out a TPMA_CC.
func (a *CommandAttributes) Wire(c *wire.Codec) { wire.U32(c, a) }

// SessionAttributes is a TPMA_SESSION: how a session is used in one command (Part 2, 8.4).
type SessionAttributes uint8

// The bits of a TPMA_SESSION.
const (
	SessionContinue       SessionAttributes = 1 << 0
	SessionAuditExclusive SessionAttributes = 1 << 1
	SessionAuditReset     SessionAttributes = 1 << 2
	SessionDecrypt        SessionAttributes = 1 << 5 // the first parameter is encrypted
	SessionEncrypt        SessionAttributes = 1 << 6 // the first response parameter is to be
	SessionAudit          SessionAttributes = 1 << 7

	sessionReserved = 0x3 << 3
)

// Has reports whether all bits of want are set.
func (a SessionAttributes) Has(want SessionAttributes) bool { return a&want == want }

// Wire lays out a TPMA_SESSION; reserved bits are zero.
func (a *SessionAttributes) Wire(c *wire.Codec) {
	wire.U8(c, a)
	c.Check(*a&sessionReserved == 0, wire.ErrReserved)
}

// Locality is a TPMA_LOCALITY: a set of localities 0 to 4, or one of the
// extended localities 32 to 255 (Part 2, 8.5).
type Locality uint8

// LocalitySet returns the set of one locality from 0 to 4, or the extended
// locality itself; 0, no set at all, for what is neither.
func LocalitySet(locality uint8) Locality {
	switch {
	case locality <= 4:
		return 1 << locality
	case locality >= 32:
		return Locality(locality)
	}
	return 0
}

// Extended reports whether l is an extended locality and no set.
func (l Locality) Extended() bool { return l>>5 != 0 }

// Has reports whether the locality is in the set, or is the extended one.
func (l Locality) Has(locality uint8) bool {
	if l.Extended() {
		return uint8(l) == locality
	}
	return locality <= 4 && l>>locality&1 == 1
}

// PermanentAttributes is a TPMA_PERMANENT (Part 2, 8.6).
type PermanentAttributes uint32

// The bits of a TPMA_PERMANENT.
const (
	PermanentOwnerAuthSet       PermanentAttributes = 1 << 0
	PermanentEndorsementAuthSet PermanentAttributes = 1 << 1
	PermanentLockoutAuthSet     PermanentAttributes = 1 << 2
	PermanentDisableClear       PermanentAttributes = 1 << 8
	PermanentInLockout          PermanentAttributes = 1 << 9
	PermanentTPMGeneratedEPS    PermanentAttributes = 1 << 10
)

// StartupClearAttributes is a TPMA_STARTUP_CLEAR (Part 2, 8.7).
type StartupClearAttributes uint32

// The bits of a TPMA_STARTUP_CLEAR.
const (
	StartupClearPHEnable   StartupClearAttributes = 1 << 0
	StartupClearSHEnable   StartupClearAttributes = 1 << 1
	StartupClearEHEnable   StartupClearAttributes = 1 << 2
	StartupClearPHEnableNV StartupClearAttributes = 1 << 3
	StartupClearReadOnly   StartupClearAttributes = 1 << 4
	StartupClearOrderly    StartupClearAttributes = 1 << 31
)

// MemoryAttributes is a TPMA_MEMORY (Part 2, 8.8).
type MemoryAttributes uint32

// The bits of a TPMA_MEMORY.
const (
	MemorySharedRAM         MemoryAttributes = 1 << 0
	MemorySharedNV          MemoryAttributes = 1 << 1
	MemoryObjectCopiedToRAM MemoryAttributes = 1 << 2
)

// ModeAttributes is a TPMA_MODES (Part 2, 8.10).
type ModeAttributes uint32

// The bits of a TPMA_MODES.
const (
	ModeFIPS140v2 ModeAttributes = 1 << 0
	ModeFIPS140v3 ModeAttributes = 1 << 1
)

// AlgAttributes is a TPMA_ALGORITHM: what an algorithm is for (Part 2, 8.2).
type AlgAttributes uint32

// The bits of a TPMA_ALGORITHM.
const (
	AlgAsymmetric AlgAttributes = 1 << 0
	AlgSymmetric  AlgAttributes = 1 << 1
	AlgIsHash     AlgAttributes = 1 << 2
	AlgObject     AlgAttributes = 1 << 3
	AlgSigning    AlgAttributes = 1 << 8
	AlgEncrypting AlgAttributes = 1 << 9
	AlgMethod     AlgAttributes = 1 << 10

	algReserved = 0xf<<4 | 0x1fffff<<11
)

// Wire lays out a TPMA_ALGORITHM; reserved bits are zero.
func (a *AlgAttributes) Wire(c *wire.Codec) {
	wire.U32(c, a)
	c.Check(*a&algReserved == 0, wire.ErrReserved)
}

// ACTAttributes is a TPMA_ACT (Part 2, 8.12).
type ACTAttributes uint32

// The bits of a TPMA_ACT.
const (
	ACTSignaled         ACTAttributes = 1 << 0
	ACTPreserveSignaled ACTAttributes = 1 << 1

	actReserved = 0x3fffffff << 2
)

// Wire lays out a TPMA_ACT; reserved bits are zero.
func (a *ACTAttributes) Wire(c *wire.Codec) {
	wire.U32(c, a)
	c.Check(*a&actReserved == 0, wire.ErrReserved)
}
