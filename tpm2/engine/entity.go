package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// present checks that a handle names something that can be used now, and gives
// the response code when it does not: TPM_RC_REFERENCE_H0 stands for a transient
// entity that is not loaded, to be numbered by the caller.
func (t *TPM) present(h tpm2.Handle) error {
	switch h.Kind() {
	case tpm2.KindPermanent:
		if t.hierarchyOf(h) == nil {
			return tpm2.RCValue // a vendor's authorization or a timer, of which there are none
		}
		if !t.enabled(h) {
			return tpm2.RCHierarchy
		}
	case tpm2.KindTransient:
		if t.object(h) == nil {
			return tpm2.RCReferenceH0
		}
	case tpm2.KindPersistent:
		// Part 3, 28.5: objects of a disabled hierarchy are not there.
		if o := t.permanent.objects[h]; o == nil || !t.enabled(o.hierarchy) {
			return tpm2.RCHandleValue
		}
	case tpm2.KindHMACSession, tpm2.KindPolicySession:
		s := t.session(h)
		if s == nil {
			return tpm2.RCReferenceH0
		}
		if s.policy != (h.Kind() == tpm2.KindPolicySession) {
			return tpm2.RCHandleValue
		}
	case tpm2.KindNVIndex:
		if !t.indexAccessible(h) {
			return tpm2.RCHandleValue
		}
	}
	return nil
}

// indexAccessible reports whether an NV index is defined and its hierarchy enabled.
func (t *TPM) indexAccessible(h tpm2.Handle) bool {
	x := t.permanent.nv.index(h)
	switch {
	case x == nil:
		return false
	case x.public.Attributes.Has(tpm2.NVPlatformCreate):
		return t.clear.platformNVEnabled
	}
	return t.clear.ownerEnabled
}

// name returns the Name of the entity that h names (Part 1, 16): of an object or
// index its computed Name, else the handle itself.
func (t *TPM) name(h tpm2.Handle) []byte {
	switch h.Kind() {
	case tpm2.KindTransient, tpm2.KindPersistent:
		if o := t.object(h); o != nil {
			return o.name
		}
	case tpm2.KindNVIndex:
		if x := t.permanent.nv.index(h); x != nil {
			return x.name()
		}
	}
	return binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(h))
}

// authValue returns the authValue of an entity, without trailing zeros.
func (t *TPM) authValue(h tpm2.Handle) []byte {
	switch h.Kind() {
	case tpm2.KindPermanent:
		return t.hierarchyAuth(h)
	case tpm2.KindTransient, tpm2.KindPersistent:
		if o := t.object(h); o != nil {
			return o.authValue()
		}
	case tpm2.KindNVIndex:
		if x := t.permanent.nv.index(h); x != nil {
			return x.authValue()
		}
	case tpm2.KindPCR:
		return t.pcrAuth(int(h))
	}
	return nil
}

// policyOf returns the authPolicy of an entity; AlgNull when it has none.
func (t *TPM) policyOf(h tpm2.Handle) authPolicy {
	switch h.Kind() {
	case tpm2.KindPermanent:
		return t.hierarchyPolicy(h)
	case tpm2.KindTransient, tpm2.KindPersistent:
		if o := t.object(h); o != nil {
			return authPolicy{alg: o.public.NameAlg, digest: o.public.AuthPolicy}
		}
	case tpm2.KindNVIndex:
		if x := t.permanent.nv.index(h); x != nil {
			return authPolicy{alg: x.public.NameAlg, digest: x.public.AuthPolicy}
		}
	case tpm2.KindPCR:
		return t.pcrPolicyOf(int(h))
	}
	return authPolicy{alg: tpm2.AlgNull}
}

// protected reports whether a wrong authValue of the entity counts against the
// dictionary attack limit (Part 1, 19.8).
func (t *TPM) protected(h tpm2.Handle) bool {
	switch h.Kind() {
	case tpm2.KindPermanent:
		return h == tpm2.HandleLockout
	case tpm2.KindTransient, tpm2.KindPersistent:
		o := t.object(h)
		return o != nil && !o.attr(tpm2.AttrNoDA)
	case tpm2.KindNVIndex:
		x := t.permanent.nv.index(h)
		return x != nil && !x.public.Attributes.Has(tpm2.NVNoDA)
	}
	return false
}

// authValueAvailable reports whether the authValue of the entity may authorize
// the role in the command (Part 1, 19.7): userWithAuth and adminWithPolicy of an
// object, AUTHREAD and AUTHWRITE of an index.
func (c *call) authValueAvailable(h tpm2.Handle, role command.Role) bool {
	switch h.Kind() {
	case tpm2.KindPermanent:
		return c.t.hierarchyOf(h) != nil
	case tpm2.KindPCR:
		return true
	case tpm2.KindTransient, tpm2.KindPersistent:
		return objectAuthAvailable(c.t.object(h), role)
	case tpm2.KindNVIndex:
		x := c.t.permanent.nv.index(h)
		if c.info.WritesNV() {
			return x.public.Attributes.Has(tpm2.NVAuthWrite)
		}
		// As in the reference, the authValue of a PIN index needs no AUTHREAD.
		if x.pin() {
			return x.pinUsable()
		}
		return x.public.Attributes.Has(tpm2.NVAuthRead)
	}
	return false
}

func objectAuthAvailable(o *object, role command.Role) bool {
	switch {
	case o.publicOnly:
		return false
	case o.sequence != nil:
		return true
	case role == command.RoleAdmin:
		return !o.attr(tpm2.AttrAdminWithPolicy)
	case role == command.RoleUser:
		return o.attr(tpm2.AttrUserWithAuth)
	}
	return false
}

// policyAvailable reports whether the entity has a policy that may authorize the
// command. required says that nothing but a policy may.
func (c *call) policyAvailable(h tpm2.Handle, required bool) bool {
	switch h.Kind() {
	case tpm2.KindTransient, tpm2.KindPersistent:
		// An empty policy may be tried: no session has its digest.
		o := c.t.object(h)
		return !o.publicOnly && o.sequence == nil
	case tpm2.KindPCR:
		return pcrTable[h.Index()].group
	}
	if len(c.t.policyOf(h).digest) == 0 {
		return false
	}
	if h.Kind() != tpm2.KindNVIndex || required {
		return true
	}
	a := c.t.permanent.nv.index(h).public.Attributes
	if c.info.WritesNV() {
		return a.Has(tpm2.NVPolicyWrite)
	}
	return a.Has(tpm2.NVPolicyRead)
}

// policyRequired reports whether only a policy session may authorize the role
// (Part 1, 19.2): the DUP role, the ADMIN role but of objects without
// adminWithPolicy, and PCRs that have a policy.
func (c *call) policyRequired(h tpm2.Handle, role command.Role) bool {
	switch role {
	case command.RoleDup:
		return true
	case command.RoleAdmin:
		o := c.t.object(h)
		return o == nil || o.attr(tpm2.AttrAdminWithPolicy)
	}
	return h.Kind() == tpm2.KindPCR && c.t.pcrPolicyOf(int(h)).alg != tpm2.AlgNull
}
