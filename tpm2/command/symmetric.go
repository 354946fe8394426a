package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// EncryptDecryptIn is the parameters of TPM2_EncryptDecrypt.
type EncryptDecryptIn struct {
	Decrypt bool
	Mode    tpm2.Alg // AlgNull: as the key says
	IVIn    []byte   // TPM2B_IV
	InData  []byte   // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (in *EncryptDecryptIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Bool(&in.Decrypt)
	c.Part(2)
	tpm2.WireCipherMode(c, &in.Mode)
	c.Part(3)
	c.Sized16(&in.IVIn, tpm2.MaxIV)
	c.Part(4)
	c.Sized16(&in.InData, tpm2.MaxBuffer)
}

// EncryptDecryptOut is what is returned by TPM2_EncryptDecrypt.
type EncryptDecryptOut struct {
	OutData []byte // TPM2B_MAX_BUFFER
	IVOut   []byte // TPM2B_IV
}

// Wire lays the parameters out.
func (out *EncryptDecryptOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutData, tpm2.MaxBuffer)
	c.Sized16(&out.IVOut, tpm2.MaxIV)
}

// EncryptDecrypt2In is the parameters of TPM2_EncryptDecrypt2.
type EncryptDecrypt2In struct {
	InData  []byte // TPM2B_MAX_BUFFER
	Decrypt bool
	Mode    tpm2.Alg // AlgNull: as the key says
	IVIn    []byte   // TPM2B_IV
}

// Wire lays the parameters out.
func (in *EncryptDecrypt2In) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.InData, tpm2.MaxBuffer)
	c.Part(2)
	c.Bool(&in.Decrypt)
	c.Part(3)
	tpm2.WireCipherMode(c, &in.Mode)
	c.Part(4)
	c.Sized16(&in.IVIn, tpm2.MaxIV)
}

// EncryptDecrypt2Out is what is returned by TPM2_EncryptDecrypt2.
type EncryptDecrypt2Out struct {
	OutData []byte // TPM2B_MAX_BUFFER
	IVOut   []byte // TPM2B_IV
}

// Wire lays the parameters out.
func (out *EncryptDecrypt2Out) Wire(c *wire.Codec) {
	c.Sized16(&out.OutData, tpm2.MaxBuffer)
	c.Sized16(&out.IVOut, tpm2.MaxIV)
}

// HashIn is the parameters of TPM2_Hash. Hierarchy is that of the ticket;
// TPM_RH_NULL asks for none.
type HashIn struct {
	Data      []byte // TPM2B_MAX_BUFFER
	HashAlg   tpm2.Alg
	Hierarchy tpm2.Handle // may be HandleNull
}

// Wire lays the parameters out.
func (in *HashIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Data, tpm2.MaxBuffer)
	c.Part(2)
	tpm2.WireHash(c, &in.HashAlg)
	c.Part(3)
	handle(c, &in.Hierarchy, HandleHierarchyOrNull)
}

// HashOut is what is returned by TPM2_Hash.
type HashOut struct {
	OutHash    []byte // TPM2B_DIGEST
	Validation tpm2.HashCheckTicket
}

// Wire lays the parameters out.
func (out *HashOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutHash, tpm2.MaxDigest)
	out.Validation.Wire(c)
}

// HMACIn is the parameters of TPM2_HMAC. It is TPM2_MAC, too, which has the same
// code; there InScheme is called so.
type HMACIn struct {
	Buffer   []byte   // TPM2B_MAX_BUFFER
	InScheme tpm2.Alg // a hash, AlgCMAC, or AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *HMACIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Buffer, tpm2.MaxBuffer)
	c.Part(2)
	tpm2.WireMACScheme(c, &in.InScheme)
}

// HMACOut is what is returned by TPM2_HMAC.
type HMACOut struct {
	OutMAC []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (out *HMACOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutMAC, tpm2.MaxDigest)
}
