package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// HMACStartIn is the parameters of TPM2_HMAC_Start. It is TPM2_MAC_Start, too.
type HMACStartIn struct {
	Auth     []byte   // TPM2B_AUTH
	InScheme tpm2.Alg // a hash, AlgCMAC, or AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *HMACStartIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	tpm2.WireMACScheme(c, &in.InScheme)
}

// HashSequenceStartIn is the parameters of TPM2_HashSequenceStart.
type HashSequenceStartIn struct {
	Auth    []byte   // TPM2B_AUTH
	HashAlg tpm2.Alg // may be AlgNull
}

// Wire lays the parameters out.
func (in *HashSequenceStartIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	tpm2.WireHashOrNull(c, &in.HashAlg)
}

// SequenceUpdateIn is the parameters of TPM2_SequenceUpdate.
type SequenceUpdateIn struct {
	Buffer []byte // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (in *SequenceUpdateIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Buffer, tpm2.MaxBuffer)
}

// SequenceCompleteIn is the parameters of TPM2_SequenceComplete.
type SequenceCompleteIn struct {
	Buffer    []byte      // TPM2B_MAX_BUFFER
	Hierarchy tpm2.Handle // may be HandleNull
}

// Wire lays the parameters out.
func (in *SequenceCompleteIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Buffer, tpm2.MaxBuffer)
	c.Part(2)
	handle(c, &in.Hierarchy, HandleHierarchyOrNull)
}

// SequenceCompleteOut is what is returned by TPM2_SequenceComplete.
type SequenceCompleteOut struct {
	Result     []byte // TPM2B_DIGEST
	Validation tpm2.HashCheckTicket
}

// Wire lays the parameters out.
func (out *SequenceCompleteOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Result, tpm2.MaxDigest)
	out.Validation.Wire(c)
}

// EventSequenceCompleteIn is the parameters of TPM2_EventSequenceComplete.
type EventSequenceCompleteIn struct {
	Buffer []byte // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (in *EventSequenceCompleteIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Buffer, tpm2.MaxBuffer)
}

// EventSequenceCompleteOut is what is returned by TPM2_EventSequenceComplete.
type EventSequenceCompleteOut struct {
	Results tpm2.DigestValues
}

// Wire lays the parameters out.
func (out *EventSequenceCompleteOut) Wire(c *wire.Codec) {
	out.Results.Wire(c)
}
