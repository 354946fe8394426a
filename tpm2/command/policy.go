package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// PolicySignedIn is the parameters of TPM2_PolicySigned. Expiration is in
// seconds; a negative one asks for a ticket.
type PolicySignedIn struct {
	NonceTPM   []byte // TPM2B_NONCE
	CpHashA    []byte // TPM2B_DIGEST
	PolicyRef  []byte // TPM2B_NONCE
	Expiration int32
	Auth       tpm2.Signature
}

// Wire lays the parameters out.
func (in *PolicySignedIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NonceTPM, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.CpHashA, tpm2.MaxDigest)
	c.Part(3)
	c.Sized16(&in.PolicyRef, tpm2.MaxDigest)
	c.Part(4)
	signed32(c, &in.Expiration)
	c.Part(5)
	in.Auth.WireNotNull(c)
}

// PolicySignedOut is what is returned by TPM2_PolicySigned.
type PolicySignedOut struct {
	Timeout      []byte // TPM2B_TIMEOUT
	PolicyTicket tpm2.AuthTicket
}

// Wire lays the parameters out.
func (out *PolicySignedOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Timeout, tpm2.MaxTimeout)
	out.PolicyTicket.Wire(c)
}

// PolicySecretIn is the parameters of TPM2_PolicySecret. Expiration is in
// seconds; a negative one asks for a ticket.
type PolicySecretIn struct {
	NonceTPM   []byte // TPM2B_NONCE
	CpHashA    []byte // TPM2B_DIGEST
	PolicyRef  []byte // TPM2B_NONCE
	Expiration int32
}

// Wire lays the parameters out.
func (in *PolicySecretIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NonceTPM, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.CpHashA, tpm2.MaxDigest)
	c.Part(3)
	c.Sized16(&in.PolicyRef, tpm2.MaxDigest)
	c.Part(4)
	signed32(c, &in.Expiration)
}

// PolicySecretOut is what is returned by TPM2_PolicySecret.
type PolicySecretOut struct {
	Timeout      []byte // TPM2B_TIMEOUT
	PolicyTicket tpm2.AuthTicket
}

// Wire lays the parameters out.
func (out *PolicySecretOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Timeout, tpm2.MaxTimeout)
	out.PolicyTicket.Wire(c)
}

// PolicyTicketIn is the parameters of TPM2_PolicyTicket.
type PolicyTicketIn struct {
	Timeout   []byte // TPM2B_TIMEOUT
	CpHashA   []byte // TPM2B_DIGEST
	PolicyRef []byte // TPM2B_NONCE
	AuthName  []byte // TPM2B_NAME
	Ticket    tpm2.AuthTicket
}

// Wire lays the parameters out.
func (in *PolicyTicketIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Timeout, tpm2.MaxTimeout)
	c.Part(2)
	c.Sized16(&in.CpHashA, tpm2.MaxDigest)
	c.Part(3)
	c.Sized16(&in.PolicyRef, tpm2.MaxDigest)
	c.Part(4)
	c.Sized16(&in.AuthName, tpm2.MaxName)
	c.Part(5)
	in.Ticket.Wire(c)
}

// PolicyORIn is the parameters of TPM2_PolicyOR.
type PolicyORIn struct {
	PHashList []tpm2.Digest2B // two to eight
}

// Wire lays the parameters out.
func (in *PolicyORIn) Wire(c *wire.Codec) {
	c.Part(1)
	digestList(c, &in.PHashList)
}

// PolicyPCRIn is the parameters of TPM2_PolicyPCR.
type PolicyPCRIn struct {
	PCRDigest []byte // TPM2B_DIGEST
	PCRs      tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *PolicyPCRIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.PCRDigest, tpm2.MaxDigest)
	c.Part(2)
	in.PCRs.Wire(c)
}

// PolicyLocalityIn is the parameters of TPM2_PolicyLocality.
type PolicyLocalityIn struct {
	Locality tpm2.Locality
}

// Wire lays the parameters out.
func (in *PolicyLocalityIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U8(c, &in.Locality)
}

// PolicyNVIn is the parameters of TPM2_PolicyNV.
type PolicyNVIn struct {
	OperandB  []byte // TPM2B_OPERAND
	Offset    uint16
	Operation tpm2.Operation
}

// Wire lays the parameters out.
func (in *PolicyNVIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.OperandB, tpm2.MaxDigest)
	c.Part(2)
	wire.U16(c, &in.Offset)
	c.Part(3)
	in.Operation.Wire(c)
}

// PolicyCounterTimerIn is the parameters of TPM2_PolicyCounterTimer.
type PolicyCounterTimerIn struct {
	OperandB  []byte // TPM2B_OPERAND
	Offset    uint16
	Operation tpm2.Operation
}

// Wire lays the parameters out.
func (in *PolicyCounterTimerIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.OperandB, tpm2.MaxDigest)
	c.Part(2)
	wire.U16(c, &in.Offset)
	c.Part(3)
	in.Operation.Wire(c)
}

// PolicyCommandCodeIn is the parameters of TPM2_PolicyCommandCode.
type PolicyCommandCodeIn struct {
	Code tpm2.CC
}

// Wire lays the parameters out.
func (in *PolicyCommandCodeIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Code.Wire(c)
}

// PolicyCpHashIn is the parameters of TPM2_PolicyCpHash.
type PolicyCpHashIn struct {
	CpHashA []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (in *PolicyCpHashIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.CpHashA, tpm2.MaxDigest)
}

// PolicyNameHashIn is the parameters of TPM2_PolicyNameHash.
type PolicyNameHashIn struct {
	NameHash []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (in *PolicyNameHashIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NameHash, tpm2.MaxDigest)
}

// PolicyDuplicationSelectIn is the parameters of TPM2_PolicyDuplicationSelect.
type PolicyDuplicationSelectIn struct {
	ObjectName    []byte // TPM2B_NAME
	NewParentName []byte // TPM2B_NAME
	IncludeObject bool
}

// Wire lays the parameters out.
func (in *PolicyDuplicationSelectIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.ObjectName, tpm2.MaxName)
	c.Part(2)
	c.Sized16(&in.NewParentName, tpm2.MaxName)
	c.Part(3)
	c.Bool(&in.IncludeObject)
}

// PolicyAuthorizeIn is the parameters of TPM2_PolicyAuthorize.
type PolicyAuthorizeIn struct {
	ApprovedPolicy []byte // TPM2B_DIGEST
	PolicyRef      []byte // TPM2B_NONCE
	KeySign        []byte // TPM2B_NAME
	CheckTicket    tpm2.VerifiedTicket
}

// Wire lays the parameters out.
func (in *PolicyAuthorizeIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.ApprovedPolicy, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.PolicyRef, tpm2.MaxDigest)
	c.Part(3)
	c.Sized16(&in.KeySign, tpm2.MaxName)
	c.Part(4)
	in.CheckTicket.Wire(c)
}

// PolicyGetDigestOut is what is returned by TPM2_PolicyGetDigest.
type PolicyGetDigestOut struct {
	PolicyDigest []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (out *PolicyGetDigestOut) Wire(c *wire.Codec) {
	c.Sized16(&out.PolicyDigest, tpm2.MaxDigest)
}

// PolicyNvWrittenIn is the parameters of TPM2_PolicyNvWritten.
type PolicyNvWrittenIn struct {
	WrittenSet bool
}

// Wire lays the parameters out.
func (in *PolicyNvWrittenIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Bool(&in.WrittenSet)
}

// PolicyTemplateIn is the parameters of TPM2_PolicyTemplate.
type PolicyTemplateIn struct {
	TemplateHash []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (in *PolicyTemplateIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.TemplateHash, tpm2.MaxDigest)
}

// PolicyCapabilityIn is the parameters of TPM2_PolicyCapability.
type PolicyCapabilityIn struct {
	OperandB   []byte // TPM2B_OPERAND
	Offset     uint16
	Operation  tpm2.Operation
	Capability tpm2.Capability
	Property   uint32
}

// Wire lays the parameters out.
func (in *PolicyCapabilityIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.OperandB, tpm2.MaxDigest)
	c.Part(2)
	wire.U16(c, &in.Offset)
	c.Part(3)
	in.Operation.Wire(c)
	c.Part(4)
	in.Capability.Wire(c)
	c.Part(5)
	wire.U32(c, &in.Property)
}

// PolicyParametersIn is the parameters of TPM2_PolicyParameters.
type PolicyParametersIn struct {
	PHash []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (in *PolicyParametersIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.PHash, tpm2.MaxDigest)
}
