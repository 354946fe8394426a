package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// CertifyIn is the parameters of TPM2_Certify.
type CertifyIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *CertifyIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
}

// CertifyOut is what is returned by TPM2_Certify.
type CertifyOut struct {
	CertifyInfo []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature   tpm2.Signature
}

// Wire lays the parameters out.
func (out *CertifyOut) Wire(c *wire.Codec) {
	c.Sized16(&out.CertifyInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// CertifyCreationIn is the parameters of TPM2_CertifyCreation.
type CertifyCreationIn struct {
	QualifyingData []byte         // TPM2B_DATA
	CreationHash   []byte         // TPM2B_DIGEST
	InScheme       tpm2.SigScheme // AlgNull: as the key says
	CreationTicket tpm2.CreationTicket
}

// Wire lays the parameters out.
func (in *CertifyCreationIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	c.Sized16(&in.CreationHash, tpm2.MaxDigest)
	c.Part(3)
	in.InScheme.Wire(c)
	c.Part(4)
	in.CreationTicket.Wire(c)
}

// CertifyCreationOut is what is returned by TPM2_CertifyCreation.
type CertifyCreationOut struct {
	CertifyInfo []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature   tpm2.Signature
}

// Wire lays the parameters out.
func (out *CertifyCreationOut) Wire(c *wire.Codec) {
	c.Sized16(&out.CertifyInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// QuoteIn is the parameters of TPM2_Quote.
type QuoteIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
	PCRSelect      tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *QuoteIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	in.PCRSelect.Wire(c)
}

// QuoteOut is what is returned by TPM2_Quote.
type QuoteOut struct {
	Quoted    []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *QuoteOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Quoted, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// GetSessionAuditDigestIn is the parameters of TPM2_GetSessionAuditDigest.
type GetSessionAuditDigestIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *GetSessionAuditDigestIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
}

// GetSessionAuditDigestOut is what is returned by TPM2_GetSessionAuditDigest.
type GetSessionAuditDigestOut struct {
	AuditInfo []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *GetSessionAuditDigestOut) Wire(c *wire.Codec) {
	c.Sized16(&out.AuditInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// GetCommandAuditDigestIn is the parameters of TPM2_GetCommandAuditDigest.
type GetCommandAuditDigestIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *GetCommandAuditDigestIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
}

// GetCommandAuditDigestOut is what is returned by TPM2_GetCommandAuditDigest.
type GetCommandAuditDigestOut struct {
	AuditInfo []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *GetCommandAuditDigestOut) Wire(c *wire.Codec) {
	c.Sized16(&out.AuditInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// GetTimeIn is the parameters of TPM2_GetTime.
type GetTimeIn struct {
	QualifyingData []byte         // TPM2B_DATA
	InScheme       tpm2.SigScheme // AlgNull: as the key says
}

// Wire lays the parameters out.
func (in *GetTimeIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.QualifyingData, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
}

// GetTimeOut is what is returned by TPM2_GetTime.
type GetTimeOut struct {
	TimeInfo  []byte // TPM2B_ATTEST: the bytes that are signed; see tpm2.ParseAttest
	Signature tpm2.Signature
}

// Wire lays the parameters out.
func (out *GetTimeOut) Wire(c *wire.Codec) {
	c.Sized16(&out.TimeInfo, tpm2.MaxAttest)
	out.Signature.Wire(c)
}

// CertifyX509In is the parameters of TPM2_CertifyX509.
type CertifyX509In struct {
	Reserved           []byte         // TPM2B_DATA
	InScheme           tpm2.SigScheme // AlgNull: as the key says
	PartialCertificate []byte         // TPM2B_MAX_BUFFER
}

// Wire lays the parameters out.
func (in *CertifyX509In) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Reserved, tpm2.MaxData)
	c.Part(2)
	in.InScheme.Wire(c)
	c.Part(3)
	c.Sized16(&in.PartialCertificate, tpm2.MaxBuffer)
}

// CertifyX509Out is what is returned by TPM2_CertifyX509.
type CertifyX509Out struct {
	AddedToCertificate []byte // TPM2B_MAX_BUFFER
	TBSDigest          []byte // TPM2B_DIGEST
	Signature          tpm2.Signature
}

// Wire lays the parameters out.
func (out *CertifyX509Out) Wire(c *wire.Codec) {
	c.Sized16(&out.AddedToCertificate, tpm2.MaxBuffer)
	c.Sized16(&out.TBSDigest, tpm2.MaxDigest)
	out.Signature.Wire(c)
}
