package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// NVDefineSpaceIn is the parameters of TPM2_NV_DefineSpace.
type NVDefineSpaceIn struct {
	Auth       []byte        // TPM2B_AUTH
	PublicInfo tpm2.NVPublic // TPM2B_NV_PUBLIC
}

// Wire lays the parameters out.
func (in *NVDefineSpaceIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	c.Inner16(&in.PublicInfo, tpm2.MaxNVPublic)
}

// NVReadPublicOut is what is returned by TPM2_NV_ReadPublic.
type NVReadPublicOut struct {
	NVPublic tpm2.NVPublic // TPM2B_NV_PUBLIC
	NVName   []byte        // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *NVReadPublicOut) Wire(c *wire.Codec) {
	c.Inner16(&out.NVPublic, tpm2.MaxNVPublic)
	c.Sized16(&out.NVName, tpm2.MaxName)
}

// NVWriteIn is the parameters of TPM2_NV_Write.
type NVWriteIn struct {
	Data   []byte // TPM2B_MAX_NV_BUFFER
	Offset uint16
}

// Wire lays the parameters out.
func (in *NVWriteIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Data, tpm2.MaxNVBuffer)
	c.Part(2)
	wire.U16(c, &in.Offset)
}

// NVExtendIn is the parameters of TPM2_NV_Extend.
type NVExtendIn struct {
	Data []byte // TPM2B_MAX_NV_BUFFER
}

// Wire lays the parameters out.
func (in *NVExtendIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Data, tpm2.MaxNVBuffer)
}

// NVSetBitsIn is the parameters of TPM2_NV_SetBits.
type NVSetBitsIn struct {
	Bits uint64
}

// Wire lays the parameters out.
func (in *NVSetBitsIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U64(c, &in.Bits)
}

// NVReadIn is the parameters of TPM2_NV_Read.
type NVReadIn struct {
	Size   uint16
	Offset uint16
}

// Wire lays the parameters out.
func (in *NVReadIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U16(c, &in.Size)
	c.Part(2)
	wire.U16(c, &in.Offset)
}

// NVReadOut is what is returned by TPM2_NV_Read.
type NVReadOut struct {
	Data []byte // TPM2B_MAX_NV_BUFFER
}

// Wire lays the parameters out.
func (out *NVReadOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Data, tpm2.MaxNVBuffer)
}

// NVChangeAuthIn is the parameters of TPM2_NV_ChangeAuth.
type NVChangeAuthIn struct {
	NewAuth []byte // TPM2B_AUTH
}

// Wire lays the parameters out.
func (in *NVChangeAuthIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NewAuth, tpm2.MaxDigest)
}

// NVCertifyIn is the parameters of TPM2_NV_Certify. Size and Offset of zero ask
// for the digest of the contents.
type NVCertifyIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
	Size           uint16
	Offset         uint16
}

// Wire lays the parameters out.
func (in *NVCertifyIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	wire.U16(c, &in.Size)
	c.Part(4)
	wire.U16(c, &in.Offset)
}

// NVCertifyOut is what is returned by TPM2_NV_Certify.
type NVCertifyOut struct {
	CertifyInfo []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature   tpm2.Signature
}

// Wire lays the parameters out.
func (out *NVCertifyOut) Wire(c *wire.Codec) {
	c.Sized16(&out.CertifyInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// NVDefineSpace2In is the parameters of TPM2_NV_DefineSpace2.
type NVDefineSpace2In struct {
	Auth       []byte         // TPM2B_AUTH
	PublicInfo tpm2.NVPublic2 // TPM2B_NV_PUBLIC_2
}

// Wire lays the parameters out.
func (in *NVDefineSpace2In) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Auth, tpm2.MaxDigest)
	c.Part(2)
	c.Inner16(&in.PublicInfo, tpm2.MaxNVPublic)
}

// NVReadPublic2Out is what is returned by TPM2_NV_ReadPublic2.
type NVReadPublic2Out struct {
	NVPublic tpm2.NVPublic2 // TPM2B_NV_PUBLIC_2
	NVName   []byte         // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *NVReadPublic2Out) Wire(c *wire.Codec) {
	c.Inner16(&out.NVPublic, tpm2.MaxNVPublic)
	c.Sized16(&out.NVName, tpm2.MaxName)
}
