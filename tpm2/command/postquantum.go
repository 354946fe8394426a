package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// EncapsulateOut is what is returned by TPM2_Encapsulate.
type EncapsulateOut struct {
	SharedSecret []byte // TPM2B_SHARED_SECRET
	Ciphertext   []byte // TPM2B_KEM_CIPHERTEXT
}

// Wire lays the parameters out.
func (out *EncapsulateOut) Wire(c *wire.Codec) {
	c.Sized16(&out.SharedSecret, tpm2.MaxDigest)
	c.Sized16(&out.Ciphertext, tpm2.MaxMLKEMCiphertext)
}

// DecapsulateIn is the parameters of TPM2_Decapsulate.
type DecapsulateIn struct {
	Ciphertext []byte // TPM2B_KEM_CIPHERTEXT
}

// Wire lays the parameters out.
func (in *DecapsulateIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Ciphertext, tpm2.MaxMLKEMCiphertext)
}

// DecapsulateOut is what is returned by TPM2_Decapsulate.
type DecapsulateOut struct {
	SharedSecret []byte // TPM2B_SHARED_SECRET
}

// Wire lays the parameters out.
func (out *DecapsulateOut) Wire(c *wire.Codec) {
	c.Sized16(&out.SharedSecret, tpm2.MaxDigest)
}

// SignSequenceStartIn is the parameters of TPM2_SignSequenceStart.
type SignSequenceStartIn struct {
	Auth    []byte // TPM2B_AUTH
	Context []byte // TPM2B_SIGNATURE_CTX
}

// Wire lays the parameters out.
func (in *SignSequenceStartIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.Context, tpm2.MaxSignatureContext)
}

// VerifySequenceStartIn is the parameters of TPM2_VerifySequenceStart.
type VerifySequenceStartIn struct {
	Auth    []byte // TPM2B_AUTH
	Hint    []byte // TPM2B_SIGNATURE_HINT
	Context []byte // TPM2B_SIGNATURE_CTX
}

// Wire lays the parameters out.
func (in *VerifySequenceStartIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.Hint, tpm2.MaxSignatureHint)
	c.Part(3)
	c.Sized16(&in.Context, tpm2.MaxSignatureContext)
}

// SignSequenceCompleteIn is the parameters of TPM2_SignSequenceComplete.
type SignSequenceCompleteIn struct {
	Buffer []byte // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (in *SignSequenceCompleteIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Buffer, tpm2.MaxBuffer)
}

// SignSequenceCompleteOut is what is returned by TPM2_SignSequenceComplete.
type SignSequenceCompleteOut struct {
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *SignSequenceCompleteOut) Wire(c *wire.Codec) {
	out.Signature.Wire(c)
}

// VerifySequenceCompleteIn is the parameters of TPM2_VerifySequenceComplete.
type VerifySequenceCompleteIn struct {
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (in *VerifySequenceCompleteIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.Signature.WireNotNull(c)
}

// VerifySequenceCompleteOut is what is returned by TPM2_VerifySequenceComplete.
type VerifySequenceCompleteOut struct {
	Validation tpm2.VerifiedTicket
}

// Wire lays the parameters out.
func (out *VerifySequenceCompleteOut) Wire(c *wire.Codec) {
	out.Validation.Wire(c)
}

// SignDigestIn is the parameters of TPM2_SignDigest.
type SignDigestIn struct {
	Context    []byte // TPM2B_SIGNATURE_CTX
	Digest     []byte // TPM2B_DIGEST
	Validation tpm2.HashCheckTicket
}

// Wire lays the parameters out.
func (in *SignDigestIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Context, tpm2.MaxSignatureContext)
	c.Part(2)
	c.Sized16(&in.Digest, tpm2.MaxDigest)
	c.Part(3)
	in.Validation.Wire(c)
}

// SignDigestOut is what is returned by TPM2_SignDigest.
type SignDigestOut struct {
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *SignDigestOut) Wire(c *wire.Codec) {
	out.Signature.Wire(c)
}

// VerifyDigestSignatureIn is the parameters of TPM2_VerifyDigestSignature.
type VerifyDigestSignatureIn struct {
	Context   []byte // TPM2B_SIGNATURE_CTX
	Digest    []byte // TPM2B_DIGEST
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (in *VerifyDigestSignatureIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Context, tpm2.MaxSignatureContext)
	c.Part(2)
	c.Sized16(&in.Digest, tpm2.MaxDigest)
	c.Part(3)
	in.Signature.WireNotNull(c)
}

// VerifyDigestSignatureOut is what is returned by TPM2_VerifyDigestSignature.
type VerifyDigestSignatureOut struct {
	Validation tpm2.VerifiedTicket
}

// Wire lays the parameters out.
func (out *VerifyDigestSignatureOut) Wire(c *wire.Codec) {
	out.Validation.Wire(c)
}
