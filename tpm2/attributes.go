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
