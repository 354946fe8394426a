package differential

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// isLimited reports whether a handle is of a hierarchy that is limited to firmware or
// to a security version.
func isLimited(h tpm2.Handle) bool {
	return h >= tpm2.HandleFWOwner && h <= tpm2.HandleFWNull || h >= tpm2.HandleSVNOwner && h <= tpm2.HandleSVNNull|0xffff
}

// isOptional reports whether only the reference simulator has this permanent handle.
func isOptional(h tpm2.Handle) bool {
	return isLimited(h) || h >= tpm2.HandleACT0 && h <= tpm2.HandleACTF
}

// limited reports whether we refuse the request for the handle of a hierarchy that is
// limited.
func (o *Observation) limited() bool {
	if o.RC[0].Base() != tpm2.RCValue {
		return false
	}
	switch class, n := o.RC[0].Subject(); class {
	case tpm2.RCHandle:
		at := 10 + 4*(n-1)
		return len(o.Request[0]) >= at+4 && isLimited(tpm2.Handle(binary.BigEndian.Uint32(o.Request[0][at:])))
	case tpm2.RCParameter:
		r := o.read()
		return r.rc == o.RC[0] && isLimited(tpm2.Handle(r.whole))
	}
	return false
}

// optionalListed reports whether two lists of permanent handles, or of their policies,
// differ only by those that only the reference simulator has.
func (o *Observation) optionalListed() bool {
	in, ok := o.read().in.(*command.GetCapabilityIn)
	if !ok || o.RC != [2]tpm2.RC{} || in.Capability != tpm2.CapHandles && in.Capability != tpm2.CapAuthPolicies || tpm2.Handle(in.Property).Kind() != tpm2.KindPermanent {
		return false
	}
	var more [2]bool
	var lists [2][]tpm2.TaggedPolicy
	for i := range lists {
		var out command.GetCapabilityOut
		if wire.Decode(o.Params[i], &out) != nil {
			return false
		}
		more[i], lists[i] = out.MoreData, out.CapabilityData.AuthPolicies
		for _, h := range out.CapabilityData.Handles {
			lists[i] = append(lists[i], tpm2.TaggedPolicy{Handle: h})
		}
	}
	ours, theirs := lists[0], slices.DeleteFunc(slices.Clone(lists[1]), func(p tpm2.TaggedPolicy) bool { return isOptional(p.Handle) })
	same := func(a, b tpm2.TaggedPolicy) bool {
		return a.Handle == b.Handle && a.PolicyHash.HashAlg == b.PolicyHash.HashAlg && bytes.Equal(a.PolicyHash.Digest, b.PolicyHash.Digest)
	}
	if len(theirs) > len(ours) || !slices.EqualFunc(theirs, ours[:len(theirs)], same) {
		return false
	}
	dropped := len(theirs) < len(lists[1])
	return more[1] && (dropped || len(theirs) == len(ours) && !more[0]) || !more[1] && dropped && len(theirs) == len(ours)
}

// longPoint reports whether a coordinate of TPM2_ECC_Decrypt is longer than those of
// the smallest curve.
func (o *Observation) longPoint() bool {
	in, ok := o.read().in.(*command.ECCDecryptIn)
	return ok && max(len(in.C1.X), len(in.C1.Y)) > 32
}
