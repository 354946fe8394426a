package tpm2

import (
	"errors"
	"fmt"

	"github.com/assay-project/assay/wire"
)

// Generated is TPM_GENERATED_VALUE, "\xffTCG" (Part 2, 6.2): a restricted key
// signs no data from outside that begins with it, so a signature by such a key
// under it vouches that the TPM made the structure.
const Generated = 0xff544347

// ErrMagic is a structure for signing that does not begin with [Generated].
var ErrMagic = errors.New("magic is not TPM_GENERATED_VALUE")

// AttestType is a TPMI_ST_ATTEST: what an [Attest] attests (Part 2, 10.12.10).
type AttestType uint16

// The values of TPMI_ST_ATTEST.
const (
	AttestNV           AttestType = 0x8014
	AttestCommandAudit AttestType = 0x8015
	AttestSessionAudit AttestType = 0x8016
	AttestCertify      AttestType = 0x8017
	AttestQuote        AttestType = 0x8018
	AttestTime         AttestType = 0x8019
	AttestCreation     AttestType = 0x801a
	AttestNVDigest     AttestType = 0x801c
)

func (t AttestType) valid() bool {
	return t >= AttestNV && t <= AttestCreation || t == AttestNVDigest
}

func (AttestType) refusal() RC { return RCSelector }

func (t AttestType) String() string {
	switch t {
	case AttestNV:
		return "NV certification"
	case AttestCommandAudit:
		return "command audit"
	case AttestSessionAudit:
		return "session audit"
	case AttestCertify:
		return "key certification"
	case AttestQuote:
		return "quote"
	case AttestTime:
		return "time attestation"
	case AttestCreation:
		return "creation certification"
	case AttestNVDigest:
		return "NV digest certification"
	}
	return fmt.Sprintf("%#04x", uint16(t))
}

// Attest is a TPMS_ATTEST: what a TPM signs about itself (Part 2, 10.12.12).
// Its magic is no member: the layout writes it and refuses any other ([ErrMagic]).
type Attest struct {
	Type            AttestType
	QualifiedSigner []byte // Qualified Name of the signing key
	ExtraData       []byte // the qualifying data of the caller: the nonce
	ClockInfo       ClockInfo
	FirmwareVersion uint64
	Attested        Attested
}

// Attested is a TPMU_ATTEST (Part 2, 10.12.11).
type Attested struct {
	Certify      CertifyInfo
	Creation     CreationInfo
	Quote        QuoteInfo
	CommandAudit CommandAuditInfo
	SessionAudit SessionAuditInfo
	Time         TimeAttestInfo
	NV           NVCertifyInfo
	NVDigest     NVDigestCertifyInfo
}

// Wire lays out a TPMS_ATTEST.
func (a *Attest) Wire(c *wire.Codec) {
	magic := uint32(Generated)
	wire.U32(c, &magic)
	c.Check(magic == Generated, ErrMagic)
	selector(c, &a.Type)
	c.Sized16(&a.QualifiedSigner, MaxName)
	c.Sized16(&a.ExtraData, MaxData)
	a.ClockInfo.Wire(c)
	wire.U64(c, &a.FirmwareVersion)
	switch a.Type {
	case AttestNV:
		a.Attested.NV.Wire(c)
	case AttestCommandAudit:
		a.Attested.CommandAudit.Wire(c)
	case AttestSessionAudit:
		a.Attested.SessionAudit.Wire(c)
	case AttestCertify:
		a.Attested.Certify.Wire(c)
	case AttestQuote:
		a.Attested.Quote.Wire(c)
	case AttestTime:
		a.Attested.Time.Wire(c)
	case AttestCreation:
		a.Attested.Creation.Wire(c)
	case AttestNVDigest:
		a.Attested.NVDigest.Wire(c)
	}
}

// ClockInfo is a TPMS_CLOCK_INFO (Part 2, 10.11.1). In what a key outside the
// endorsement and platform hierarchies signs, ResetCount and RestartCount carry
// an offset that is constant for the key and the TPM's owner (Part 1, 36.7).
type ClockInfo struct {
	Clock        uint64 // milliseconds while powered; steps back by TPM2_Clear, and by a power loss where Safe says so
	ResetCount   uint32 // TPM Resets since TPM2_Clear
	RestartCount uint32 // TPM Restarts and Resumes since the last Reset
	Safe         bool   // no value of Clock above this one was reported before
}

// Wire lays out a TPMS_CLOCK_INFO.
func (i *ClockInfo) Wire(c *wire.Codec) {
	wire.U64(c, &i.Clock)
	wire.U32(c, &i.ResetCount)
	wire.U32(c, &i.RestartCount)
	c.Bool(&i.Safe)
}

// QuoteInfo is a TPMS_QUOTE_INFO (Part 2, 10.12.4).
type QuoteInfo struct {
	PCRSelect []PCRSelection
	PCRDigest []byte // over the selected PCRs in order, by the hash of the signing scheme
}

// Wire lays out a TPMS_QUOTE_INFO.
func (q *QuoteInfo) Wire(c *wire.Codec) {
	wire.List32(c, &q.PCRSelect, MaxPCRSelections)
	c.Sized16(&q.PCRDigest, MaxDigest)
}

// CertifyInfo is a TPMS_CERTIFY_INFO (Part 2, 10.12.3).
type CertifyInfo struct{ Name, QualifiedName []byte }

// Wire lays out a TPMS_CERTIFY_INFO.
func (i *CertifyInfo) Wire(c *wire.Codec) {
	c.Sized16(&i.Name, MaxName)
	c.Sized16(&i.QualifiedName, MaxName)
}

// CreationInfo is a TPMS_CREATION_INFO (Part 2, 10.12.7).
type CreationInfo struct{ ObjectName, CreationHash []byte }

// Wire lays out a TPMS_CREATION_INFO.
func (i *CreationInfo) Wire(c *wire.Codec) {
	c.Sized16(&i.ObjectName, MaxName)
	c.Sized16(&i.CreationHash, MaxDigest)
}

// CommandAuditInfo is a TPMS_COMMAND_AUDIT_INFO (Part 2, 10.12.5).
type CommandAuditInfo struct {
	AuditCounter  uint64
	DigestAlg     Alg
	AuditDigest   []byte
	CommandDigest []byte
}

// Wire lays out a TPMS_COMMAND_AUDIT_INFO.
func (i *CommandAuditInfo) Wire(c *wire.Codec) {
	wire.U64(c, &i.AuditCounter)
	selector(c, (*algHash)(&i.DigestAlg))
	c.Sized16(&i.AuditDigest, MaxDigest)
	c.Sized16(&i.CommandDigest, MaxDigest)
}

// SessionAuditInfo is a TPMS_SESSION_AUDIT_INFO (Part 2, 10.12.6).
type SessionAuditInfo struct {
	ExclusiveSession bool
	SessionDigest    []byte
}

// Wire lays out a TPMS_SESSION_AUDIT_INFO.
func (i *SessionAuditInfo) Wire(c *wire.Codec) {
	c.Bool(&i.ExclusiveSession)
	c.Sized16(&i.SessionDigest, MaxDigest)
}

// TimeAttestInfo is a TPMS_TIME_ATTEST_INFO (Part 2, 10.12.2).
type TimeAttestInfo struct {
	Time            TimeInfo
	FirmwareVersion uint64
}

// Wire lays out a TPMS_TIME_ATTEST_INFO.
func (i *TimeAttestInfo) Wire(c *wire.Codec) {
	i.Time.Wire(c)
	wire.U64(c, &i.FirmwareVersion)
}

// TimeInfo is a TPMS_TIME_INFO (Part 2, 10.11.2).
type TimeInfo struct {
	Time      uint64 // milliseconds since the TPM was powered
	ClockInfo ClockInfo
}

// Wire lays out a TPMS_TIME_INFO.
func (i *TimeInfo) Wire(c *wire.Codec) {
	wire.U64(c, &i.Time)
	i.ClockInfo.Wire(c)
}

// NVCertifyInfo is a TPMS_NV_CERTIFY_INFO (Part 2, 10.12.8).
type NVCertifyInfo struct {
	IndexName  []byte
	Offset     uint16
	NVContents []byte
}

// Wire lays out a TPMS_NV_CERTIFY_INFO.
func (i *NVCertifyInfo) Wire(c *wire.Codec) {
	c.Sized16(&i.IndexName, MaxName)
	wire.U16(c, &i.Offset)
	c.Sized16(&i.NVContents, MaxNVBuffer)
}

// NVDigestCertifyInfo is a TPMS_NV_DIGEST_CERTIFY_INFO (Part 2, 10.12.9).
type NVDigestCertifyInfo struct{ IndexName, NVDigest []byte }

// Wire lays out a TPMS_NV_DIGEST_CERTIFY_INFO.
func (i *NVDigestCertifyInfo) Wire(c *wire.Codec) {
	c.Sized16(&i.IndexName, MaxName)
	c.Sized16(&i.NVDigest, MaxDigest)
}

// ParseAttest decodes a TPMS_ATTEST that fills all of b. The result aliases b.
func ParseAttest(b []byte) (*Attest, error) {
	a := new(Attest)
	if err := wire.Decode(b, a); err != nil {
		return nil, fmt.Errorf("decode TPMS_ATTEST: %w", err)
	}
	return a, nil
}
