package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// StartAuthSessionIn is the parameters of TPM2_StartAuthSession.
type StartAuthSessionIn struct {
	NonceCaller   []byte // TPM2B_NONCE
	EncryptedSalt []byte // TPM2B_ENCRYPTED_SECRET
	SessionType   tpm2.SessionType
	Symmetric     tpm2.SymDef
	AuthHash      tpm2.Alg
}

// Wire lays the parameters out.
func (in *StartAuthSessionIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NonceCaller, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.EncryptedSalt, tpm2.MaxEncryptedSecret)
	c.Part(3)
	in.SessionType.Wire(c)
	c.Part(4)
	in.Symmetric.Wire(c)
	c.Part(5)
	tpm2.WireHash(c, &in.AuthHash)
}

// StartAuthSessionOut is what is returned by TPM2_StartAuthSession.
type StartAuthSessionOut struct {
	NonceTPM []byte // TPM2B_NONCE
}

// Wire lays the parameters out.
func (out *StartAuthSessionOut) Wire(c *wire.Codec) {
	c.Sized16(&out.NonceTPM, tpm2.MaxDigest)
}
