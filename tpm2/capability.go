package tpm2

import "github.com/assay-project/assay/wire"

// CapabilityData is a TPMS_CAPABILITY_DATA (Part 2, 10.10.2). Capability says
// which member is meant.
type CapabilityData struct {
	Capability    Capability
	Algorithms    []AlgProperty
	Handles       []Handle
	Commands      []CommandAttributes
	CommandCodes  []CC // of CapPPCommands and CapAuditCommands
	AssignedPCR   PCRSelections
	Properties    []TaggedProperty
	PCRProperties []TaggedPCRSelect
	ECCCurves     []ECCCurve
	AuthPolicies  []TaggedPolicy
	ACTData       []ACTData
	PubKeys       []Public2B
	SPDMSessions  []SPDMSession
}

// Wire lays out a TPMS_CAPABILITY_DATA.
func (d *CapabilityData) Wire(c *wire.Codec) {
	d.Capability.Wire(c)
	if c.Err() != nil {
		return
	}
	switch d.Capability {
	case CapAlgs:
		wire.List32(c, &d.Algorithms, MaxCapList)
	case CapHandles:
		wire.List32(c, &d.Handles, MaxCapList)
	case CapCommands:
		wire.List32(c, &d.Commands, MaxCapList)
	case CapPPCommands, CapAuditCommands:
		wire.List32(c, &d.CommandCodes, MaxCCs)
	case CapPCRs:
		d.AssignedPCR.Wire(c)
	case CapTPMProperties:
		wire.List32(c, &d.Properties, MaxCapList)
	case CapPCRProperties:
		wire.List32(c, &d.PCRProperties, MaxCapList)
	case CapECCCurves:
		wire.List32(c, &d.ECCCurves, MaxCapList)
	case CapAuthPolicies:
		wire.List32(c, &d.AuthPolicies, MaxCapList)
	case CapACT:
		wire.List32(c, &d.ACTData, MaxCapList)
	case CapPubKeys:
		wire.List32(c, &d.PubKeys, MaxCapList)
	case CapSPDMSessionInfo:
		wire.List32(c, &d.SPDMSessions, MaxCapList)
	default:
		c.Fail(wire.ErrSelector) // what vendors define
	}
}

// Wire lays out a TPM_CAP.
func (p *Capability) Wire(c *wire.Codec) { choice(c, p, wire.U32) }

// Wire lays out a TPM_CC of any value.
func (code *CC) Wire(c *wire.Codec) { wire.U32(c, code) }

// Wire lays out a TPM_ALG_ID of any value.
func (a *Alg) Wire(c *wire.Codec) { wire.U16(c, a) }

// Wire lays out a TPM_ECC_CURVE of any value.
func (v *ECCCurve) Wire(c *wire.Codec) { wire.U16(c, v) }

// AlgProperty is a TPMS_ALG_PROPERTY (Part 2, 10.8.1).
type AlgProperty struct {
	Alg        Alg
	Properties AlgAttributes
}

// Wire lays out a TPMS_ALG_PROPERTY.
func (p *AlgProperty) Wire(c *wire.Codec) {
	p.Alg.Wire(c)
	p.Properties.Wire(c)
}

// TaggedProperty is a TPMS_TAGGED_PROPERTY (Part 2, 10.8.2).
type TaggedProperty struct {
	Property PT
	Value    uint32
}

// Wire lays out a TPMS_TAGGED_PROPERTY.
func (p *TaggedProperty) Wire(c *wire.Codec) {
	wire.U32(c, &p.Property)
	wire.U32(c, &p.Value)
}

// TaggedPCRSelect is a TPMS_TAGGED_PCR_SELECT: the PCRs that have an attribute (Part 2, 10.8.3).
type TaggedPCRSelect struct {
	Tag    PTPCR
	Select PCRSelect
}

// Wire lays out a TPMS_TAGGED_PCR_SELECT.
func (s *TaggedPCRSelect) Wire(c *wire.Codec) {
	wire.U32(c, &s.Tag)
	s.Select.Wire(c)
}

// TaggedPolicy is a TPMS_TAGGED_POLICY: the policy of a permanent handle (Part 2, 10.8.4).
type TaggedPolicy struct {
	Handle     Handle
	PolicyHash HA
}

// Wire lays out a TPMS_TAGGED_POLICY.
func (p *TaggedPolicy) Wire(c *wire.Codec) {
	p.Handle.Wire(c)
	p.PolicyHash.Wire(c)
}

// ACTData is a TPMS_ACT_DATA: an authenticated countdown timer (Part 2, 10.8.5).
type ACTData struct {
	Handle     Handle
	Timeout    uint32 // seconds; 0 has expired
	Attributes ACTAttributes
}

// Wire lays out a TPMS_ACT_DATA.
func (d *ACTData) Wire(c *wire.Codec) {
	d.Handle.Wire(c)
	wire.U32(c, &d.Timeout)
	d.Attributes.Wire(c)
}

// SPDMSession is a TPMS_SPDM_SESSION_INFO: who speaks over the transport (Part 2, 10.8.6).
type SPDMSession struct{ ReqKeyName, TPMKeyName []byte }

// Wire lays out a TPMS_SPDM_SESSION_INFO.
func (s *SPDMSession) Wire(c *wire.Codec) {
	c.Sized16(&s.ReqKeyName, MaxName)
	c.Sized16(&s.TPMKeyName, MaxName)
}

// ECCDetail is a TPMS_ALGORITHM_DETAIL_ECC: the parameters of a curve (Part 2, 11.2.5.7).
type ECCDetail struct {
	CurveID ECCCurve
	KeySize uint16 // in bits
	KDF     KDFScheme
	Sign    ECCScheme
	P, A, B []byte // the field and the equation
	Gx, Gy  []byte // the base point
	N, H    []byte // its order and the cofactor
}

// Wire lays out a TPMS_ALGORITHM_DETAIL_ECC.
func (d *ECCDetail) Wire(c *wire.Codec) {
	d.CurveID.Wire(c)
	wire.U16(c, &d.KeySize)
	d.KDF.Wire(c)
	d.Sign.Wire(c)
	for _, v := range []*[]byte{&d.P, &d.A, &d.B, &d.Gx, &d.Gy, &d.N, &d.H} {
		c.Sized16(v, MaxECCKeyBytes)
	}
}
