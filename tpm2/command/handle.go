package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// HandleType is an interface type for handles (Part 2, chapter 9): which
// handles may stand in a place. The zero value allows none.
type HandleType uint8

// The interface types for handles; those with OrNull are Part 2's "+" types and
// allow TPM_RH_NULL, or TPM_RS_PW where that is the null of the type.
const (
	_                           HandleType = iota
	HandleObject                           // TPMI_DH_OBJECT
	HandleObjectOrNull                     // TPMI_DH_OBJECT+
	HandleParent                           // TPMI_DH_PARENT+
	HandlePersistent                       // TPMI_DH_PERSISTENT
	HandleEntity                           // TPMI_DH_ENTITY
	HandleEntityOrNull                     // TPMI_DH_ENTITY+
	HandlePCR                              // TPMI_DH_PCR
	HandlePCROrNull                        // TPMI_DH_PCR+
	HandleAuthSession                      // TPMI_SH_AUTH_SESSION
	HandleAuthSessionOrPassword            // TPMI_SH_AUTH_SESSION+
	HandleHMACSession                      // TPMI_SH_HMAC
	HandlePolicySession                    // TPMI_SH_POLICY
	HandleContext                          // TPMI_DH_CONTEXT
	HandleSaved                            // TPMI_DH_SAVED
	HandleHierarchy                        // TPMI_RH_HIERARCHY
	HandleHierarchyOrNull                  // TPMI_RH_HIERARCHY+
	HandleEnables                          // TPMI_RH_ENABLES
	HandleHierarchyAuth                    // TPMI_RH_HIERARCHY_AUTH
	HandleHierarchyPolicy                  // TPMI_RH_HIERARCHY_POLICY
	HandleBaseHierarchy                    // TPMI_RH_BASE_HIERARCHY
	HandlePlatform                         // TPMI_RH_PLATFORM
	HandleOwner                            // TPMI_RH_OWNER
	HandleEndorsement                      // TPMI_RH_ENDORSEMENT
	HandleEndorsementOrNull                // TPMI_RH_ENDORSEMENT+
	HandleProvision                        // TPMI_RH_PROVISION
	HandleClear                            // TPMI_RH_CLEAR
	HandleNVAuth                           // TPMI_RH_NV_AUTH
	HandleLockout                          // TPMI_RH_LOCKOUT
	HandleNVIndex                          // TPMI_RH_NV_INDEX
	HandleNVDefined                        // TPMI_RH_NV_DEFINED_INDEX
)

// Check returns TPM_RC_SUCCESS when h may stand in a place of type t on a TPM
// with these limits, else TPM_RC_VALUE, which is what all types of Part 2,
// chapter 9 refuse with. It does not say whether h names anything.
func (t HandleType) Check(h tpm2.Handle, limits tpm2.HandleLimits) tpm2.RC {
	if t.allows(h, limits) {
		return tpm2.RCSuccess
	}
	return tpm2.RCValue
}

func (t HandleType) allows(h tpm2.Handle, l tpm2.HandleLimits) bool {
	switch t {
	case HandleObject:
		return l.IsObject(h)
	case HandleObjectOrNull:
		return h == tpm2.HandleNull || l.IsObject(h)
	case HandleParent:
		return l.IsHierarchy(h) || l.IsObject(h)
	case HandlePersistent:
		return h.Kind() == tpm2.KindPersistent
	case HandleEntity:
		return isEntity(h, l)
	case HandleEntityOrNull:
		return h == tpm2.HandleNull || isEntity(h, l)
	case HandlePCR:
		return l.IsPCR(h)
	case HandlePCROrNull:
		return h == tpm2.HandleNull || l.IsPCR(h)
	case HandleAuthSession:
		return l.IsHMACSession(h) || l.IsPolicySession(h)
	case HandleAuthSessionOrPassword:
		return h == tpm2.HandlePassword || l.IsHMACSession(h) || l.IsPolicySession(h)
	case HandleHMACSession:
		return l.IsHMACSession(h)
	case HandlePolicySession:
		return l.IsPolicySession(h)
	case HandleContext:
		return l.IsHMACSession(h) || l.IsPolicySession(h) || l.IsTransient(h)
	case HandleSaved:
		return l.IsSaved(h)
	case HandleNVAuth:
		return h == tpm2.HandleOwner || h == tpm2.HandlePlatform || h.IsNVIndex()
	case HandleNVIndex:
		return l.IsAnyNV(h)
	case HandleNVDefined:
		return h.IsNVIndex() || l.IsExternalNV(h)
	}
	return t.allowsPermanent(h, l)
}

// allowsPermanent is [HandleType.allows] for the types of permanent handles only.
func (t HandleType) allowsPermanent(h tpm2.Handle, l tpm2.HandleLimits) bool {
	owner, endorsement := h == tpm2.HandleOwner, h == tpm2.HandleEndorsement
	platform, lockout, null := h == tpm2.HandlePlatform, h == tpm2.HandleLockout, h == tpm2.HandleNull
	switch t {
	case HandleHierarchy:
		return l.IsHierarchy(h) && !null
	case HandleHierarchyOrNull:
		return l.IsHierarchy(h)
	case HandleEnables:
		return owner || endorsement || platform || h == tpm2.HandlePlatformNV
	case HandleHierarchyAuth:
		return owner || endorsement || platform || lockout
	case HandleHierarchyPolicy:
		return owner || endorsement || platform || lockout || h >= tpm2.HandleACT0 && h <= tpm2.HandleACTF
	case HandleBaseHierarchy:
		return owner || endorsement || platform
	case HandlePlatform:
		return platform
	case HandleOwner:
		return owner
	case HandleEndorsement:
		return endorsement
	case HandleEndorsementOrNull:
		return endorsement || null
	case HandleProvision:
		return owner || platform
	case HandleClear:
		return platform || lockout
	case HandleLockout:
		return lockout
	}
	return false
}

// isEntity says what TPMI_DH_ENTITY allows: all that has an authorization (Part 2, 9.6).
func isEntity(h tpm2.Handle, l tpm2.HandleLimits) bool {
	switch h {
	case tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleLockout:
		return true
	}
	return l.IsObject(h) || l.IsPCR(h) || h.IsNVIndex() || h >= tpm2.HandleAuth00 && h <= tpm2.HandleAuthFF
}

// handle lays out a parameter that is a handle of type t.
func handle(c *wire.Codec, h *tpm2.Handle, t HandleType) {
	h.Wire(c)
	if c.Err() != nil {
		return
	}
	limits := tpm2.AllHandles()
	if o, ok := c.Context().(tpm2.Offer); ok {
		limits = o.HandleLimits()
	}
	if rc := t.Check(*h, limits); rc != tpm2.RCSuccess {
		c.Fail(tpm2.Refuse(rc, wire.ErrRange))
	}
}

// signed32 lays out an INT32 in two's complement (Part 2, 5.2).
func signed32(c *wire.Codec, v *int32) {
	u := uint32(*v)
	wire.U32(c, &u)
	*v = int32(u)
}

// maxDigests is the limit of a TPML_DIGEST (Part 2, 10.9.5).
const maxDigests = 8

// digestList lays out a TPML_DIGEST as a parameter of a command: it has at least
// two elements (Part 2, 10.9.5).
func digestList(c *wire.Codec, l *[]tpm2.Digest2B) {
	wire.List32(c, l, maxDigests)
	c.Check(len(*l) >= 2, wire.ErrSize)
}
