package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 23 of Part 3, last part: an assertion about what the TPM is.

// policyCapability is TPM2_PolicyCapability (Part 3, 23.25).
func policyCapability(c *call, in *command.PolicyCapabilityIn, _ *command.None) error {
	s := c.policySession()
	if !s.trial {
		value, err := c.propertyOf(in.Capability, in.Property)
		if err != nil {
			return err
		}
		if err := checkProperty(value, in); err != nil {
			return err
		}
	}
	args := append([]byte(nil), in.OperandB...)
	args = binary.BigEndian.AppendUint16(args, in.Offset)
	args = binary.BigEndian.AppendUint16(args, uint16(in.Operation))
	args = binary.BigEndian.AppendUint32(args, uint32(in.Capability))
	args = binary.BigEndian.AppendUint32(args, in.Property)
	d, err := tpmcrypto.Hash(s.hash, args)
	if err != nil {
		return err
	}
	c.extendPolicy(s, d)
	return nil
}

// checkProperty compares the value of a property. What the TPM has not got is not
// equal to anything, and in no other relation.
func checkProperty(value []byte, in *command.PolicyCapabilityIn) error {
	offset := int(in.Offset)
	switch {
	case len(value) == 0:
		if in.Operation != tpm2.OpNEQ {
			return tpm2.RCPolicy
		}
	case offset > len(value):
		return parameter(tpm2.RCValue, 2)
	case len(in.OperandB) > len(value)-offset:
		return parameter(tpm2.RCSize, 1)
	case !compare(in.Operation, value[offset:offset+len(in.OperandB)], in.OperandB):
		return tpm2.RCPolicy
	}
	return nil
}

// propertyOf returns the bytes with which TPM2_GetCapability would tell the one
// property, nothing when the TPM has not got it.
func (c *call) propertyOf(kind tpm2.Capability, property uint32) ([]byte, error) {
	// There is one list of all banks, and no property of it.
	if kind == tpm2.CapPCRs {
		return nil, parameter(tpm2.RCValue, 4)
	}
	if kind == tpm2.CapAlgs || kind == tpm2.CapECCCurves {
		property &= 0xffff // as the reference does, which casts
	}
	ask := command.GetCapabilityIn{Capability: kind, Property: property, PropertyCount: 1}
	var told command.GetCapabilityOut
	if err := getCapability(c, &ask, &told); err != nil {
		// The two parameters of TPM2_GetCapability are the fourth and fifth here.
		rc := responseCode(err)
		_, n := rc.Subject()
		return nil, parameter(rc, n+3)
	}
	return encodeProperty(&told.CapabilityData, property)
}

// encodeProperty lays out the first element of a list if it is that of the property.
func encodeProperty(d *tpm2.CapabilityData, property uint32) ([]byte, error) {
	switch d.Capability {
	case tpm2.CapAlgs:
		return encodeFirst(d.Algorithms, func(p *tpm2.AlgProperty) bool { return uint32(p.Alg) == property })
	case tpm2.CapHandles:
		return encodeHandle(d.Handles, tpm2.Handle(property)), nil
	case tpm2.CapCommands:
		return encodeFirst(d.Commands, func(a *tpm2.CommandAttributes) bool { return uint32(a.Code()) == property })
	case tpm2.CapPPCommands, tpm2.CapAuditCommands:
		return encodeFirst(d.CommandCodes, func(cc *tpm2.CC) bool { return uint32(*cc) == property })
	case tpm2.CapTPMProperties:
		return encodeFirst(d.Properties, func(p *tpm2.TaggedProperty) bool { return uint32(p.Property) == property })
	case tpm2.CapPCRProperties:
		return encodeFirst(d.PCRProperties, func(p *tpm2.TaggedPCRSelect) bool { return uint32(p.Tag) == property })
	case tpm2.CapECCCurves:
		return encodeFirst(d.ECCCurves, func(v *tpm2.ECCCurve) bool { return uint32(*v) == property })
	case tpm2.CapAuthPolicies:
		return encodeFirst(d.AuthPolicies, func(p *tpm2.TaggedPolicy) bool { return uint32(p.Handle) == property })
	}
	return nil, nil
}

func encodeFirst[T any, P interface {
	*T
	wire.Layout
}](list []T, is func(*T) bool) ([]byte, error) {
	if len(list) == 0 || !is(&list[0]) {
		return nil, nil
	}
	return wire.Encode(P(&list[0]))
}

// encodeHandle is encodeFirst for handles. Sessions are listed by number, whatever
// their kind (Part 2, 7.3).
func encodeHandle(list []tpm2.Handle, h tpm2.Handle) []byte {
	session := h.Kind() == tpm2.KindHMACSession || h.Kind() == tpm2.KindPolicySession
	if len(list) == 0 || list[0] != h && !(session && list[0].Index() == h.Index()) {
		return nil
	}
	return binary.BigEndian.AppendUint32(nil, uint32(h))
}
