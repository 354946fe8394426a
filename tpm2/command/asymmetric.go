package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// RSAEncryptIn is the parameters of TPM2_RSA_Encrypt.
type RSAEncryptIn struct {
	Message  []byte          // TPM2B_PUBLIC_KEY_RSA
	InScheme tpm2.RSADecrypt // AlgNull: as the key says
	Label    []byte          // TPM2B_DATA
}

// Wire lays the parameters out.
func (in *RSAEncryptIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Message, tpm2.MaxRSAKeyBytes)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	c.Sized16(&in.Label, tpm2.MaxData)
}

// RSAEncryptOut is what is returned by TPM2_RSA_Encrypt.
type RSAEncryptOut struct {
	OutData []byte // TPM2B_PUBLIC_KEY_RSA
}

// Wire lays the parameters out.
func (out *RSAEncryptOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutData, tpm2.MaxRSAKeyBytes)
}

// RSADecryptIn is the parameters of TPM2_RSA_Decrypt.
type RSADecryptIn struct {
	CipherText []byte          // TPM2B_PUBLIC_KEY_RSA
	InScheme   tpm2.RSADecrypt // AlgNull: as the key says
	Label      []byte          // TPM2B_DATA
}

// Wire lays the parameters out.
func (in *RSADecryptIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.CipherText, tpm2.MaxRSAKeyBytes)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	c.Sized16(&in.Label, tpm2.MaxData)
}

// RSADecryptOut is what is returned by TPM2_RSA_Decrypt.
type RSADecryptOut struct {
	Message []byte // TPM2B_PUBLIC_KEY_RSA
}

// Wire lays the parameters out.
func (out *RSADecryptOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Message, tpm2.MaxRSAKeyBytes)
}

// ECDHKeyGenOut is what is returned by TPM2_ECDH_KeyGen.
type ECDHKeyGenOut struct {
	ZPoint   tpm2.ECCPoint // TPM2B_ECC_POINT
	PubPoint tpm2.ECCPoint // TPM2B_ECC_POINT
}

// Wire lays the parameters out.
func (out *ECDHKeyGenOut) Wire(c *wire.Codec) {
	c.Inner16(&out.ZPoint, tpm2.MaxECCPoint)
	c.Inner16(&out.PubPoint, tpm2.MaxECCPoint)
}

// ECDHZGenIn is the parameters of TPM2_ECDH_ZGen.
type ECDHZGenIn struct {
	InPoint tpm2.ECCPoint // TPM2B_ECC_POINT
}

// Wire lays the parameters out.
func (in *ECDHZGenIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.InPoint, tpm2.MaxECCPoint)
}

// ECDHZGenOut is what is returned by TPM2_ECDH_ZGen.
type ECDHZGenOut struct {
	OutPoint tpm2.ECCPoint // TPM2B_ECC_POINT
}

// Wire lays the parameters out.
func (out *ECDHZGenOut) Wire(c *wire.Codec) {
	c.Inner16(&out.OutPoint, tpm2.MaxECCPoint)
}

// ECCParametersIn is the parameters of TPM2_ECC_Parameters.
type ECCParametersIn struct {
	CurveID tpm2.ECCCurve
}

// Wire lays the parameters out.
func (in *ECCParametersIn) Wire(c *wire.Codec) {
	c.Part(1)
	tpm2.WireCurve(c, &in.CurveID)
}

// ECCParametersOut is what is returned by TPM2_ECC_Parameters.
type ECCParametersOut struct {
	Parameters tpm2.ECCDetail
}

// Wire lays the parameters out.
func (out *ECCParametersOut) Wire(c *wire.Codec) {
	out.Parameters.Wire(c)
}

// ZGen2PhaseIn is the parameters of TPM2_ZGen_2Phase.
type ZGen2PhaseIn struct {
	InQsB    tpm2.ECCPoint // TPM2B_ECC_POINT
	InQeB    tpm2.ECCPoint // TPM2B_ECC_POINT
	InScheme tpm2.Alg      // AlgECDH, AlgECMQV or AlgSM2
	Counter  uint16
}

// Wire lays the parameters out.
func (in *ZGen2PhaseIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.InQsB, tpm2.MaxECCPoint)
	c.Part(2)
	c.Inner16(&in.InQeB, tpm2.MaxECCPoint)
	c.Part(3)
	tpm2.WireKeyExchange(c, &in.InScheme)
	c.Part(4)
	wire.U16(c, &in.Counter)
}

// ZGen2PhaseOut is what is returned by TPM2_ZGen_2Phase.
type ZGen2PhaseOut struct {
	OutZ1 tpm2.ECCPoint // TPM2B_ECC_POINT
	OutZ2 tpm2.ECCPoint // TPM2B_ECC_POINT
}

// Wire lays the parameters out.
func (out *ZGen2PhaseOut) Wire(c *wire.Codec) {
	c.Inner16(&out.OutZ1, tpm2.MaxECCPoint)
	c.Inner16(&out.OutZ2, tpm2.MaxECCPoint)
}

// ECCEncryptIn is the parameters of TPM2_ECC_Encrypt.
type ECCEncryptIn struct {
	PlainText []byte         // TPM2B_MAX_BUFFER
	InScheme  tpm2.KDFScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *ECCEncryptIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.PlainText, tpm2.MaxBuffer)
	c.Part(2)
	in.InScheme.Wire(c)
}

// ECCEncryptOut is what is returned by TPM2_ECC_Encrypt. C1 is the ephemeral
// point, C2 the text, C3 its integrity value.
type ECCEncryptOut struct {
	C1 tpm2.ECCPoint // TPM2B_ECC_POINT
	C2 []byte        // TPM2B_MAX_BUFFER
	C3 []byte        // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (out *ECCEncryptOut) Wire(c *wire.Codec) {
	c.Inner16(&out.C1, tpm2.MaxECCPoint)
	c.Sized16(&out.C2, tpm2.MaxBuffer)
	c.Sized16(&out.C3, tpm2.MaxDigest)
}

// ECCDecryptIn is the parameters of TPM2_ECC_Decrypt.
type ECCDecryptIn struct {
	C1       tpm2.ECCPoint  // TPM2B_ECC_POINT
	C2       []byte         // TPM2B_MAX_BUFFER
	C3       []byte         // TPM2B_DIGEST
	InScheme tpm2.KDFScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *ECCDecryptIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.C1, tpm2.MaxECCPoint)
	c.Part(2)
	c.Sized16(&in.C2, tpm2.MaxBuffer)
	c.Part(3)
	c.Sized16(&in.C3, tpm2.MaxDigest)
	c.Part(4)
	in.InScheme.Wire(c)
}

// ECCDecryptOut is what is returned by TPM2_ECC_Decrypt.
type ECCDecryptOut struct {
	PlainText []byte // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (out *ECCDecryptOut) Wire(c *wire.Codec) {
	c.Sized16(&out.PlainText, tpm2.MaxBuffer)
}
