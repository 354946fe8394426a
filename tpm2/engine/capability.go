package engine

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 30 of Part 3: TPM2_GetCapability. All that it tells comes from the
// tables by which the TPM runs. The values of TPM_PT are in capability_pt.go.

// capBuffer is MAX_CAP_BUFFER: what a response may tell at once, with its
// capability and count (Part 2, 6.13).
const capBuffer = 1024

// room returns how many elements of a size fit, when count are asked for.
func room(count uint32, size int) int {
	return int(min(count, uint32((capBuffer-8)/size)))
}

// page returns the first elements of sorted from the first one that is at least
// property, and whether more follow.
func page[T any, K ~uint8 | ~uint16 | ~uint32](sorted []T, key func(T) K, property uint32, limit int) (out []T, more bool) {
	from := len(sorted)
	for i, e := range sorted {
		if uint64(key(e)) >= uint64(property) {
			from = i
			break
		}
	}
	rest := sorted[from:]
	if len(rest) > limit {
		return rest[:limit], true
	}
	return rest, false
}

func same[K any](k K) K { return k }

// getCapability is TPM2_GetCapability (Part 3, 30.2). Of the property only the bits
// count that a number of its kind has, as in the reference.
func getCapability(c *call, in *command.GetCapabilityIn, out *command.GetCapabilityOut) error {
	t, d := c.t, &out.CapabilityData
	d.Capability = in.Capability
	n := in.PropertyCount
	switch in.Capability {
	case tpm2.CapAlgs:
		d.Algorithms, out.MoreData = page(t.profile.algorithms(), func(p tpm2.AlgProperty) tpm2.Alg { return p.Alg }, in.Property&0xffff, room(n, 6))
	case tpm2.CapHandles:
		return t.capHandles(in, out)
	case tpm2.CapCommands:
		d.Commands, out.MoreData = page(t.commands(), tpm2.CommandAttributes.Code, in.Property, room(n, 4))
	case tpm2.CapPPCommands:
		d.CommandCodes, out.MoreData = page(t.profile.members(&t.permanent.presence), same[tpm2.CC], in.Property, room(n, 4))
	case tpm2.CapAuditCommands:
		d.CommandCodes, out.MoreData = page(t.profile.members(&t.permanent.auditCommands), same[tpm2.CC], in.Property, room(n, 4))
	case tpm2.CapPCRs:
		if in.Property != 0 {
			return parameter(tpm2.RCValue, 2)
		}
		// As in the reference, a count above zero asks for all banks: callers that
		// want one property send 1.
		if n > 0 {
			d.AssignedPCR = t.vol.banks
		}
		out.MoreData = n == 0
	case tpm2.CapTPMProperties:
		d.Properties, out.MoreData = t.capProperties(in.Property, room(n, 8))
	case tpm2.CapPCRProperties:
		d.PCRProperties, out.MoreData = page(pcrProperties(), func(p tpm2.TaggedPCRSelect) tpm2.PTPCR { return p.Tag }, in.Property, room(n, 8))
	case tpm2.CapECCCurves:
		d.ECCCurves, out.MoreData = page(t.profile.Curves, same[tpm2.ECCCurve], in.Property&0xffff, room(n, 2))
	case tpm2.CapAuthPolicies:
		if tpm2.Handle(in.Property).Kind() != tpm2.KindPermanent {
			return parameter(tpm2.RCValue, 2)
		}
		d.AuthPolicies, out.MoreData = page(t.authPolicies(), func(p tpm2.TaggedPolicy) tpm2.Handle { return p.Handle }, in.Property, room(n, 70))
	case tpm2.CapACT:
		if h := tpm2.Handle(in.Property); h < tpm2.HandleACT0 || h > tpm2.HandleACTF {
			return parameter(tpm2.RCValue, 2)
		}
	default:
		return parameter(tpm2.RCValue, 1)
	}
	return nil
}

// commands lists the commands of the TPM by code.
func (t *TPM) commands() []tpm2.CommandAttributes {
	if t.offered == nil {
		t.offered = t.profile.commands()
	}
	return t.offered
}

// commands lists the commands of the profile by code.
func (p *Profile) commands() []tpm2.CommandAttributes {
	var out []tpm2.CommandAttributes
	for _, i := range command.All() {
		if p.Has(i.Code) {
			out = append(out, i.Attr)
		}
	}
	return out
}

// members lists the commands of the profile that are in a set, by code.
func (p *Profile) members(s *commandSet) []tpm2.CC {
	var out []tpm2.CC
	for _, i := range command.All() {
		if p.Has(i.Code) && s.has(i.Code) {
			out = append(out, i.Code)
		}
	}
	return out
}

// algorithms lists the algorithms of the profile by number, with what they are for.
func (p *Profile) algorithms() []tpm2.AlgProperty {
	sorted := slices.Clone(p.Algorithms)
	slices.Sort(sorted)
	out := make([]tpm2.AlgProperty, 0, len(sorted))
	for _, a := range sorted {
		out = append(out, tpm2.AlgProperty{Alg: a, Properties: algAttributes(a)})
	}
	return out
}

// algAttributes says what an algorithm is for (Algorithm Registry, table 3).
func algAttributes(a tpm2.Alg) tpm2.AlgAttributes {
	switch a {
	case tpm2.AlgRSA, tpm2.AlgECC:
		return tpm2.AlgAsymmetric | tpm2.AlgObject
	case tpm2.AlgMLKEM:
		return tpm2.AlgAsymmetric | tpm2.AlgObject | tpm2.AlgEncrypting
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		return tpm2.AlgAsymmetric | tpm2.AlgObject | tpm2.AlgSigning
	case tpm2.AlgHMAC:
		return tpm2.AlgIsHash | tpm2.AlgSigning
	case tpm2.AlgAES:
		return tpm2.AlgSymmetric
	case tpm2.AlgMGF1:
		return tpm2.AlgIsHash | tpm2.AlgMethod
	case tpm2.AlgKeyedHash:
		return tpm2.AlgIsHash | tpm2.AlgObject | tpm2.AlgSigning | tpm2.AlgEncrypting
	case tpm2.AlgXOR:
		return tpm2.AlgIsHash | tpm2.AlgSymmetric
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr:
		return tpm2.AlgAsymmetric | tpm2.AlgSigning
	case tpm2.AlgRSAES, tpm2.AlgOAEP:
		return tpm2.AlgAsymmetric | tpm2.AlgEncrypting
	case tpm2.AlgECDH, tpm2.AlgECMQV:
		return tpm2.AlgAsymmetric | tpm2.AlgMethod
	case tpm2.AlgKDF1, tpm2.AlgKDF2, tpm2.AlgKDFa:
		return tpm2.AlgIsHash | tpm2.AlgMethod
	case tpm2.AlgSymCipher:
		return tpm2.AlgObject
	case tpm2.AlgCMAC:
		return tpm2.AlgSymmetric | tpm2.AlgSigning
	case tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB:
		return tpm2.AlgSymmetric | tpm2.AlgEncrypting
	}
	return tpm2.AlgIsHash // what is left
}

// capHandles lists handles of the kind of the property.
func (t *TPM) capHandles(in *command.GetCapabilityIn, out *command.GetCapabilityOut) error {
	var all []tpm2.Handle
	switch kind := tpm2.Handle(in.Property).Kind(); kind {
	case tpm2.KindPCR:
		for i := range tpm2.NumPCR {
			all = append(all, tpm2.Handle(i))
		}
	case tpm2.KindNVIndex:
		for h := range t.permanent.nv.indices {
			all = append(all, h)
		}
	case tpm2.KindHMACSession, tpm2.KindPolicySession:
		all = t.sessionHandles(kind == tpm2.KindPolicySession)
		in.Property = in.Property & 0xffffff
		out.CapabilityData.Handles, out.MoreData = page(all, tpm2.Handle.Index, in.Property, room(in.PropertyCount, 4))
		return nil
	case tpm2.KindPermanent:
		all = []tpm2.Handle{
			tpm2.HandleOwner, tpm2.HandleNull, tpm2.HandlePassword, tpm2.HandleLockout,
			tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandlePlatformNV,
		}
	case tpm2.KindTransient:
		for i, o := range t.vol.objects {
			if o != nil {
				all = append(all, tpm2.KindTransient.First()+tpm2.Handle(i))
			}
		}
	case tpm2.KindPersistent:
		for h := range t.permanent.objects {
			all = append(all, h)
		}
	default:
		return parameter(tpm2.RCHandleValue, 2)
	}
	slices.Sort(all)
	out.CapabilityData.Handles, out.MoreData = page(all, same[tpm2.Handle], in.Property, room(in.PropertyCount, 4))
	return nil
}

// sessionHandles lists the loaded sessions, or the saved ones, by number. A
// saved session has no kind that the TPM knows: all are told as HMAC sessions.
func (t *TPM) sessionHandles(saved bool) []tpm2.Handle {
	var out []tpm2.Handle
	for i := range uint32(maxActiveSessions) {
		if saved && t.sessionSaved(i) {
			out = append(out, tpm2.KindHMACSession.First()+tpm2.Handle(i))
		}
		if s := t.session(tpm2.KindHMACSession.First() + tpm2.Handle(i)); !saved && s != nil {
			out = append(out, s.handle)
		}
	}
	return out
}

// authPolicies lists the policies of the permanent entities that can have one.
func (t *TPM) authPolicies() []tpm2.TaggedPolicy {
	var out []tpm2.TaggedPolicy
	for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleLockout, tpm2.HandleEndorsement, tpm2.HandlePlatform} {
		p := t.hierarchyPolicy(h)
		out = append(out, tpm2.TaggedPolicy{Handle: h, PolicyHash: tpm2.HA{HashAlg: p.alg, Digest: p.digest}})
	}
	return out
}

// pcrProperties lists the attributes of the PCRs (Part 2, 6.14).
func pcrProperties() []tpm2.TaggedPCRSelect {
	tags := []tpm2.PTPCR{tpm2.PTPCRSave}
	for l := range tpm2.PTPCR(5) {
		tags = append(tags, tpm2.PTPCRExtendL0+2*l, tpm2.PTPCRResetL0+2*l)
	}
	tags = append(tags, tpm2.PTPCRNoIncrement, tpm2.PTPCRDRTMReset, tpm2.PTPCRPolicy, tpm2.PTPCRAuth)
	out := make([]tpm2.TaggedPCRSelect, 0, len(tags))
	for _, tag := range tags {
		p := tpm2.TaggedPCRSelect{Tag: tag}
		for pcr := range pcrTable {
			if pcrTable[pcr].has(tag) {
				p.Select.Set(pcr)
			}
		}
		out = append(out, p)
	}
	return out
}

// has reports whether the PCR has the attribute.
func (a pcrAttributes) has(tag tpm2.PTPCR) bool {
	switch {
	case tag == tpm2.PTPCRSave:
		return a.saved
	case tag == tpm2.PTPCRNoIncrement:
		return a.noIncrement
	case tag == tpm2.PTPCRDRTMReset:
		return a.dynamic()
	case tag == tpm2.PTPCRPolicy, tag == tpm2.PTPCRAuth:
		return a.group
	case tag > tpm2.PTPCRResetL4:
		return false
	case tag%2 == 1:
		return allowed(a.extend, uint8(tag-tpm2.PTPCRExtendL0)/2)
	}
	return allowed(a.reset, uint8(tag-tpm2.PTPCRResetL0)/2)
}
