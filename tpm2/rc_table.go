package tpm2

// Response codes (Part 2, table 16).
const (
	RCSuccess RC = 0x000
	RCBadTag  RC = 0x01e // of a TPM 1.2

	RCInitialize      = rcVersion + 0x000
	RCFailure         = rcVersion + 0x001
	RCSequence        = rcVersion + 0x003
	RCPrivate         = rcVersion + 0x00b
	RCHMAC            = rcVersion + 0x019
	RCDisabled        = rcVersion + 0x020
	RCExclusive       = rcVersion + 0x021
	RCAuthType        = rcVersion + 0x024
	RCAuthMissing     = rcVersion + 0x025
	RCPolicy          = rcVersion + 0x026
	RCPCR             = rcVersion + 0x027
	RCPCRChanged      = rcVersion + 0x028
	RCUpgrade         = rcVersion + 0x02d
	RCTooManyContexts = rcVersion + 0x02e
	RCAuthUnavailable = rcVersion + 0x02f
	RCReboot          = rcVersion + 0x030
	RCUnbalanced      = rcVersion + 0x031
	RCCommandSize     = rcVersion + 0x042
	RCCommandCode     = rcVersion + 0x043
	RCAuthSize        = rcVersion + 0x044
	RCAuthContext     = rcVersion + 0x045
	RCNVRange         = rcVersion + 0x046
	RCNVSize          = rcVersion + 0x047
	RCNVLocked        = rcVersion + 0x048
	RCNVAuthorization = rcVersion + 0x049
	RCNVUninitialized = rcVersion + 0x04a
	RCNVSpace         = rcVersion + 0x04b
	RCNVDefined       = rcVersion + 0x04c
	RCBadContext      = rcVersion + 0x050
	RCCPHash          = rcVersion + 0x051
	RCParent          = rcVersion + 0x052
	RCNeedsTest       = rcVersion + 0x053
	RCNoResult        = rcVersion + 0x054
	RCSensitive       = rcVersion + 0x055
	RCReadOnly        = rcVersion + 0x056

	RCAsymmetric   = rcFormat1 + 0x001
	RCAttributes   = rcFormat1 + 0x002
	RCHash         = rcFormat1 + 0x003
	RCValue        = rcFormat1 + 0x004
	RCHierarchy    = rcFormat1 + 0x005
	RCKeySize      = rcFormat1 + 0x007
	RCMGF          = rcFormat1 + 0x008
	RCMode         = rcFormat1 + 0x009
	RCType         = rcFormat1 + 0x00a
	RCHandleValue  = rcFormat1 + 0x00b // TPM_RC_HANDLE
	RCKDF          = rcFormat1 + 0x00c
	RCRange        = rcFormat1 + 0x00d
	RCAuthFail     = rcFormat1 + 0x00e
	RCNonce        = rcFormat1 + 0x00f
	RCPP           = rcFormat1 + 0x010
	RCScheme       = rcFormat1 + 0x012
	RCSize         = rcFormat1 + 0x015
	RCSymmetric    = rcFormat1 + 0x016
	RCTag          = rcFormat1 + 0x017
	RCSelector     = rcFormat1 + 0x018
	RCInsufficient = rcFormat1 + 0x01a
	RCSignature    = rcFormat1 + 0x01b
	RCKey          = rcFormat1 + 0x01c
	RCPolicyFail   = rcFormat1 + 0x01d
	RCIntegrity    = rcFormat1 + 0x01f
	RCTicket       = rcFormat1 + 0x020
	RCReservedBits = rcFormat1 + 0x021
	RCBadAuth      = rcFormat1 + 0x022
	RCExpired      = rcFormat1 + 0x023
	RCPolicyCC     = rcFormat1 + 0x024
	RCBinding      = rcFormat1 + 0x025
	RCCurve        = rcFormat1 + 0x026
	RCECCPoint     = rcFormat1 + 0x027
	RCFWLimited    = rcFormat1 + 0x028
	RCSVNLimited   = rcFormat1 + 0x029
	RCParms        = rcFormat1 + 0x02a
	RCExtMu        = rcFormat1 + 0x02b // TPM_RC_EXT_MU, of version 1.85, as the next two
	RCOneShot      = rcFormat1 + 0x02c // TPM_RC_ONE_SHOT_SIGNATURE
	RCSignContext  = rcFormat1 + 0x02d // TPM_RC_SIGN_CONTEXT_KEY

	rcWarn           = rcVersion | rcWarning
	RCContextGap     = rcWarn + 0x001
	RCObjectMemory   = rcWarn + 0x002
	RCSessionMemory  = rcWarn + 0x003
	RCMemory         = rcWarn + 0x004
	RCSessionHandles = rcWarn + 0x005
	RCObjectHandles  = rcWarn + 0x006
	RCLocality       = rcWarn + 0x007
	RCYielded        = rcWarn + 0x008
	RCCanceled       = rcWarn + 0x009
	RCTesting        = rcWarn + 0x00a
	RCReferenceH0    = rcWarn + 0x010
	RCReferenceH1    = rcWarn + 0x011
	RCReferenceH2    = rcWarn + 0x012
	RCReferenceH3    = rcWarn + 0x013
	RCReferenceH4    = rcWarn + 0x014
	RCReferenceH5    = rcWarn + 0x015
	RCReferenceH6    = rcWarn + 0x016
	RCReferenceS0    = rcWarn + 0x018
	RCReferenceS1    = rcWarn + 0x019
	RCReferenceS2    = rcWarn + 0x01a
	RCReferenceS3    = rcWarn + 0x01b
	RCReferenceS4    = rcWarn + 0x01c
	RCReferenceS5    = rcWarn + 0x01d
	RCReferenceS6    = rcWarn + 0x01e
	RCNVRate         = rcWarn + 0x020
	RCLockout        = rcWarn + 0x021
	RCRetry          = rcWarn + 0x022
	RCNVUnavailable  = rcWarn + 0x023
)

// name returns the standard's name of a code without a number, "" for none.
func (r RC) name() string {
	switch r {
	case RCSuccess:
		return "TPM_RC_SUCCESS"
	case RCBadTag:
		return "TPM_RC_BAD_TAG"
	case RCInitialize:
		return "TPM_RC_INITIALIZE"
	case RCFailure:
		return "TPM_RC_FAILURE"
	case RCSequence:
		return "TPM_RC_SEQUENCE"
	case RCPrivate:
		return "TPM_RC_PRIVATE"
	case RCHMAC:
		return "TPM_RC_HMAC"
	case RCDisabled:
		return "TPM_RC_DISABLED"
	case RCExclusive:
		return "TPM_RC_EXCLUSIVE"
	case RCAuthType:
		return "TPM_RC_AUTH_TYPE"
	case RCAuthMissing:
		return "TPM_RC_AUTH_MISSING"
	case RCPolicy:
		return "TPM_RC_POLICY"
	case RCPCR:
		return "TPM_RC_PCR"
	case RCPCRChanged:
		return "TPM_RC_PCR_CHANGED"
	case RCUpgrade:
		return "TPM_RC_UPGRADE"
	case RCTooManyContexts:
		return "TPM_RC_TOO_MANY_CONTEXTS"
	case RCAuthUnavailable:
		return "TPM_RC_AUTH_UNAVAILABLE"
	case RCReboot:
		return "TPM_RC_REBOOT"
	case RCUnbalanced:
		return "TPM_RC_UNBALANCED"
	case RCCommandSize:
		return "TPM_RC_COMMAND_SIZE"
	case RCCommandCode:
		return "TPM_RC_COMMAND_CODE"
	case RCAuthSize:
		return "TPM_RC_AUTH_SIZE"
	case RCAuthContext:
		return "TPM_RC_AUTH_CONTEXT"
	case RCNVRange:
		return "TPM_RC_NV_RANGE"
	case RCNVSize:
		return "TPM_RC_NV_SIZE"
	case RCNVLocked:
		return "TPM_RC_NV_LOCKED"
	case RCNVAuthorization:
		return "TPM_RC_NV_AUTHORIZATION"
	case RCNVUninitialized:
		return "TPM_RC_NV_UNINITIALIZED"
	case RCNVSpace:
		return "TPM_RC_NV_SPACE"
	case RCNVDefined:
		return "TPM_RC_NV_DEFINED"
	case RCBadContext:
		return "TPM_RC_BAD_CONTEXT"
	case RCCPHash:
		return "TPM_RC_CPHASH"
	case RCParent:
		return "TPM_RC_PARENT"
	case RCNeedsTest:
		return "TPM_RC_NEEDS_TEST"
	case RCNoResult:
		return "TPM_RC_NO_RESULT"
	case RCSensitive:
		return "TPM_RC_SENSITIVE"
	case RCReadOnly:
		return "TPM_RC_READ_ONLY"
	case RCAsymmetric:
		return "TPM_RC_ASYMMETRIC"
	case RCAttributes:
		return "TPM_RC_ATTRIBUTES"
	case RCHash:
		return "TPM_RC_HASH"
	case RCValue:
		return "TPM_RC_VALUE"
	case RCHierarchy:
		return "TPM_RC_HIERARCHY"
	case RCKeySize:
		return "TPM_RC_KEY_SIZE"
	case RCMGF:
		return "TPM_RC_MGF"
	case RCMode:
		return "TPM_RC_MODE"
	case RCType:
		return "TPM_RC_TYPE"
	case RCHandleValue:
		return "TPM_RC_HANDLE"
	case RCKDF:
		return "TPM_RC_KDF"
	case RCRange:
		return "TPM_RC_RANGE"
	case RCAuthFail:
		return "TPM_RC_AUTH_FAIL"
	case RCNonce:
		return "TPM_RC_NONCE"
	case RCPP:
		return "TPM_RC_PP"
	case RCScheme:
		return "TPM_RC_SCHEME"
	case RCSize:
		return "TPM_RC_SIZE"
	case RCSymmetric:
		return "TPM_RC_SYMMETRIC"
	case RCTag:
		return "TPM_RC_TAG"
	case RCSelector:
		return "TPM_RC_SELECTOR"
	case RCInsufficient:
		return "TPM_RC_INSUFFICIENT"
	case RCSignature:
		return "TPM_RC_SIGNATURE"
	case RCKey:
		return "TPM_RC_KEY"
	case RCPolicyFail:
		return "TPM_RC_POLICY_FAIL"
	case RCIntegrity:
		return "TPM_RC_INTEGRITY"
	case RCTicket:
		return "TPM_RC_TICKET"
	case RCReservedBits:
		return "TPM_RC_RESERVED_BITS"
	case RCBadAuth:
		return "TPM_RC_BAD_AUTH"
	case RCExpired:
		return "TPM_RC_EXPIRED"
	case RCPolicyCC:
		return "TPM_RC_POLICY_CC"
	case RCBinding:
		return "TPM_RC_BINDING"
	case RCCurve:
		return "TPM_RC_CURVE"
	case RCECCPoint:
		return "TPM_RC_ECC_POINT"
	case RCFWLimited:
		return "TPM_RC_FW_LIMITED"
	case RCSVNLimited:
		return "TPM_RC_SVN_LIMITED"
	case RCParms:
		return "TPM_RC_PARMS"
	case RCExtMu:
		return "TPM_RC_EXT_MU"
	case RCOneShot:
		return "TPM_RC_ONE_SHOT_SIGNATURE"
	case RCSignContext:
		return "TPM_RC_SIGN_CONTEXT_KEY"
	case RCContextGap:
		return "TPM_RC_CONTEXT_GAP"
	case RCObjectMemory:
		return "TPM_RC_OBJECT_MEMORY"
	case RCSessionMemory:
		return "TPM_RC_SESSION_MEMORY"
	case RCMemory:
		return "TPM_RC_MEMORY"
	case RCSessionHandles:
		return "TPM_RC_SESSION_HANDLES"
	case RCObjectHandles:
		return "TPM_RC_OBJECT_HANDLES"
	case RCLocality:
		return "TPM_RC_LOCALITY"
	case RCYielded:
		return "TPM_RC_YIELDED"
	case RCCanceled:
		return "TPM_RC_CANCELED"
	case RCTesting:
		return "TPM_RC_TESTING"
	case RCReferenceH0:
		return "TPM_RC_REFERENCE_H0"
	case RCReferenceH1:
		return "TPM_RC_REFERENCE_H1"
	case RCReferenceH2:
		return "TPM_RC_REFERENCE_H2"
	case RCReferenceH3:
		return "TPM_RC_REFERENCE_H3"
	case RCReferenceH4:
		return "TPM_RC_REFERENCE_H4"
	case RCReferenceH5:
		return "TPM_RC_REFERENCE_H5"
	case RCReferenceH6:
		return "TPM_RC_REFERENCE_H6"
	case RCReferenceS0:
		return "TPM_RC_REFERENCE_S0"
	case RCReferenceS1:
		return "TPM_RC_REFERENCE_S1"
	case RCReferenceS2:
		return "TPM_RC_REFERENCE_S2"
	case RCReferenceS3:
		return "TPM_RC_REFERENCE_S3"
	case RCReferenceS4:
		return "TPM_RC_REFERENCE_S4"
	case RCReferenceS5:
		return "TPM_RC_REFERENCE_S5"
	case RCReferenceS6:
		return "TPM_RC_REFERENCE_S6"
	case RCNVRate:
		return "TPM_RC_NV_RATE"
	case RCLockout:
		return "TPM_RC_LOCKOUT"
	case RCRetry:
		return "TPM_RC_RETRY"
	case RCNVUnavailable:
		return "TPM_RC_NV_UNAVAILABLE"
	}
	return ""
}
