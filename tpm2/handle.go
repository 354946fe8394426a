package tpm2

import (
	"fmt"

	"github.com/assay-project/assay/wire"
)

// Handle is a TPM_HANDLE: a resource of a TPM, of the kind that its upper byte
// says (Part 2, 7.1, 7.2).
type Handle uint32

// HandleKind is a TPM_HT, the upper byte of a handle (Part 2, 7.2).
type HandleKind uint8

// The values of TPM_HT.
const (
	KindPCR           HandleKind = 0x00
	KindNVIndex       HandleKind = 0x01
	KindHMACSession   HandleKind = 0x02 // TPM_HT_LOADED_SESSION in TPM_CAP_HANDLES
	KindPolicySession HandleKind = 0x03 // TPM_HT_SAVED_SESSION in TPM_CAP_HANDLES
	KindExternalNV    HandleKind = 0x11
	KindPermanentNV   HandleKind = 0x12
	KindPermanent     HandleKind = 0x40
	KindTransient     HandleKind = 0x80
	KindPersistent    HandleKind = 0x81
	KindAC            HandleKind = 0x90
)

// Permanent handles: TPM_RH and TPM_RS (Part 2, 7.4).
const (
	HandleOwner          Handle = 0x40000001
	HandleNull           Handle = 0x40000007
	HandleUnassigned     Handle = 0x40000008
	HandlePassword       Handle = 0x40000009 // TPM_RS_PW
	HandleLockout        Handle = 0x4000000a
	HandleEndorsement    Handle = 0x4000000b
	HandlePlatform       Handle = 0x4000000c
	HandlePlatformNV     Handle = 0x4000000d
	HandleAuth00         Handle = 0x40000010 // the first of a vendor's authorizations
	HandleAuthFF         Handle = 0x4000010f // and the last
	HandleACT0           Handle = 0x40000110 // the first authenticated countdown timer
	HandleACTF           Handle = 0x4000011f // and the last
	HandleFWOwner        Handle = 0x40000140
	HandleFWEndorsement  Handle = 0x40000141
	HandleFWPlatform     Handle = 0x40000142
	HandleFWNull         Handle = 0x40000143
	HandleSVNOwner       Handle = 0x40010000 // and 65,535 more, one for each security version; so the next three
	HandleSVNEndorsement Handle = 0x40020000
	HandleSVNPlatform    Handle = 0x40030000
	HandleSVNNull        Handle = 0x40040000

	// HandlePlatformPersistent is the first persistent handle of the platform's
	// half of the range (Part 2, 7.5).
	HandlePlatformPersistent Handle = 0x81800000
)

// Kind returns the kind of resource that h names.
func (h Handle) Kind() HandleKind { return HandleKind(h >> 24) }

// Index returns the number of h within its kind.
func (h Handle) Index() uint32 { return uint32(h & 0xffffff) }

// First returns the first handle of the kind.
func (k HandleKind) First() Handle { return Handle(k) << 24 }

// Wire lays out a TPM_HANDLE of any value.
func (h *Handle) Wire(c *wire.Codec) { wire.U32(c, h) }

func (h Handle) String() string {
	switch h {
	case HandleOwner:
		return "TPM_RH_OWNER"
	case HandleNull:
		return "TPM_RH_NULL"
	case HandlePassword:
		return "TPM_RS_PW"
	case HandleLockout:
		return "TPM_RH_LOCKOUT"
	case HandleEndorsement:
		return "TPM_RH_ENDORSEMENT"
	case HandlePlatform:
		return "TPM_RH_PLATFORM"
	case HandlePlatformNV:
		return "TPM_RH_PLATFORM_NV"
	}
	return fmt.Sprintf("%#08x", uint32(h))
}

// HandleLimits says how many handles of the kinds that a TPM numbers from zero
// there are: the upper ends of the ranges of Part 2, 7.5.
type HandleLimits struct {
	PCRs       uint32 // IMPLEMENTATION_PCR
	Sessions   uint32 // MAX_ACTIVE_SESSIONS, for each kind of session
	Transients uint32 // MAX_LOADED_OBJECTS

	FirmwareLimited bool // there are hierarchies limited by firmware or security version
	ExternalNV      bool // there are NV indices of TPM_HT_EXTERNAL_NV and TPM_HT_PERMANENT_NV
}

// AllHandles returns the widest limits: each handle of the kind.
func AllHandles() HandleLimits {
	return HandleLimits{PCRs: NumPCR, Sessions: 1 << 24, Transients: 1 << 24, FirmwareLimited: true, ExternalNV: true}
}

// IsPCR reports whether h is a PCR of a TPM with these limits.
func (l HandleLimits) IsPCR(h Handle) bool { return h.Kind() == KindPCR && h.Index() < l.PCRs }

// IsHMACSession reports whether h can be an HMAC session of such a TPM.
func (l HandleLimits) IsHMACSession(h Handle) bool {
	return h.Kind() == KindHMACSession && h.Index() < l.Sessions
}

// IsPolicySession reports whether h can be a policy or trial session of such a TPM.
func (l HandleLimits) IsPolicySession(h Handle) bool {
	return h.Kind() == KindPolicySession && h.Index() < l.Sessions
}

// IsTransient reports whether h can be a loaded object of such a TPM.
func (l HandleLimits) IsTransient(h Handle) bool {
	return h.Kind() == KindTransient && h.Index() < l.Transients
}

// IsObject reports whether h is in the range of transient or persistent objects.
func (l HandleLimits) IsObject(h Handle) bool {
	return l.IsTransient(h) || h.Kind() == KindPersistent
}

// IsSaved reports whether h is a TPMI_DH_SAVED (Part 2, 9.10): a session, or one
// of the three handles that stand for a kind of saved object.
func (l HandleLimits) IsSaved(h Handle) bool {
	return l.IsHMACSession(h) || l.IsPolicySession(h) || h >= SavedObject && h <= SavedSTClearObject
}

// The handles of saved objects (Part 2, 14.5, table 236).
const (
	SavedObject         Handle = 0x80000000 // an ordinary transient object
	SavedSequenceObject Handle = 0x80000001
	SavedSTClearObject  Handle = 0x80000002
)

// IsHierarchy reports whether h is a TPMI_RH_HIERARCHY or TPM_RH_NULL (Part 2, 9.13).
func (l HandleLimits) IsHierarchy(h Handle) bool {
	switch h {
	case HandleOwner, HandleEndorsement, HandlePlatform, HandleNull:
		return true
	case HandleFWOwner, HandleFWEndorsement, HandleFWPlatform, HandleFWNull:
		return l.FirmwareLimited
	}
	return l.FirmwareLimited && h >= HandleSVNOwner && h <= HandleSVNNull|0xffff
}

// IsNVIndex reports whether h is in the range of ordinary NV indices.
func (h Handle) IsNVIndex() bool { return h.Kind() == KindNVIndex }

// IsExternalNV reports whether h is an external NV index of such a TPM.
func (l HandleLimits) IsExternalNV(h Handle) bool {
	return l.ExternalNV && h.Kind() == KindExternalNV
}

// IsAnyNV reports whether h is a TPMI_RH_NV_INDEX of such a TPM, in any of the
// three ranges (Part 2, 9.25).
func (l HandleLimits) IsAnyNV(h Handle) bool {
	return h.IsNVIndex() || l.ExternalNV && (h.Kind() == KindExternalNV || h.Kind() == KindPermanentNV)
}

// wireHierarchy lays out a TPMI_RH_HIERARCHY+.
func wireHierarchy(c *wire.Codec, h *Handle) {
	h.Wire(c)
	if c.Err() == nil && !limits(c).IsHierarchy(*h) {
		c.Fail(refusal{RCValue, wire.ErrRange})
	}
}
