package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// VerifySignatureIn is the parameters of TPM2_VerifySignature.
type VerifySignatureIn struct {
	Digest    []byte // TPM2B_DIGEST
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (in *VerifySignatureIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Digest, tpm2.MaxDigest)
	c.Part(2)
	in.Signature.WireNotNull(c)
}

// VerifySignatureOut is what is returned by TPM2_VerifySignature.
type VerifySignatureOut struct {
	Validation tpm2.VerifiedTicket
}

// Wire lays the parameters out.
func (out *VerifySignatureOut) Wire(c *wire.Codec) {
	out.Validation.Wire(c)
}

// SignIn is the parameters of TPM2_Sign.
type SignIn struct {
	Digest     []byte         // TPM2B_DIGEST
	InScheme   tpm2.SigScheme // AlgNull: as the key says
	Validation tpm2.HashCheckTicket
}

// Wire lays the parameters out.
func (in *SignIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Digest, tpm2.MaxDigest)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	in.Validation.Wire(c)
}

// SignOut is what is returned by TPM2_Sign.
type SignOut struct {
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *SignOut) Wire(c *wire.Codec) {
	out.Signature.Wire(c)
}
