package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// CreatePrimaryIn is the parameters of TPM2_CreatePrimary.
type CreatePrimaryIn struct {
	InSensitive tpm2.SensitiveCreate // TPM2B_SENSITIVE_CREATE
	InPublic    tpm2.Public          // TPM2B_PUBLIC
	OutsideInfo []byte               // TPM2B_DATA
	CreationPCR tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *CreatePrimaryIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.InSensitive, tpm2.MaxSensitiveCreate)
	c.Part(2)
	c.Inner16((*tpm2.NamedPublic)(&in.InPublic), tpm2.MaxPublic)
	c.Part(3)
	c.Sized16(&in.OutsideInfo, tpm2.MaxData)
	c.Part(4)
	in.CreationPCR.Wire(c)
}

// CreatePrimaryOut is what is returned by TPM2_CreatePrimary.
type CreatePrimaryOut struct {
	OutPublic      tpm2.Public       // TPM2B_PUBLIC
	CreationData   tpm2.CreationData // TPM2B_CREATION_DATA
	CreationHash   []byte            // TPM2B_DIGEST
	CreationTicket tpm2.CreationTicket
	Name           []byte // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *CreatePrimaryOut) Wire(c *wire.Codec) {
	c.Inner16(&out.OutPublic, tpm2.MaxPublic)
	c.Inner16(&out.CreationData, tpm2.MaxCreationData)
	c.Sized16(&out.CreationHash, tpm2.MaxDigest)
	out.CreationTicket.Wire(c)
	c.Sized16(&out.Name, tpm2.MaxName)
}

// HierarchyControlIn is the parameters of TPM2_HierarchyControl.
type HierarchyControlIn struct {
	Enable tpm2.Handle // TPMI_RH_ENABLES
	State  bool
}

// Wire lays the parameters out.
func (in *HierarchyControlIn) Wire(c *wire.Codec) {
	c.Part(1)
	handle(c, &in.Enable, HandleEnables)
	c.Part(2)
	c.Bool(&in.State)
}

// SetPrimaryPolicyIn is the parameters of TPM2_SetPrimaryPolicy.
type SetPrimaryPolicyIn struct {
	AuthPolicy []byte   // TPM2B_DIGEST
	HashAlg    tpm2.Alg // may be AlgNull
}

// Wire lays the parameters out.
func (in *SetPrimaryPolicyIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.AuthPolicy, tpm2.MaxDigest)
	c.Part(2)
	tpm2.WireHashOrNull(c, &in.HashAlg)
}

// ClearControlIn is the parameters of TPM2_ClearControl.
type ClearControlIn struct {
	Disable bool
}

// Wire lays the parameters out.
func (in *ClearControlIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Bool(&in.Disable)
}

// HierarchyChangeAuthIn is the parameters of TPM2_HierarchyChangeAuth.
type HierarchyChangeAuthIn struct {
	NewAuth []byte // TPM2B_AUTH
}

// Wire lays the parameters out.
func (in *HierarchyChangeAuthIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NewAuth, tpm2.MaxDigest)
}

// ReadOnlyControlIn is the parameters of TPM2_ReadOnlyControl.
type ReadOnlyControlIn struct {
	State bool
}

// Wire lays the parameters out.
func (in *ReadOnlyControlIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Bool(&in.State)
}
