package command

import "github.com/assay-project/assay/tpm2"

// Chapters of Part 3.
const (
	chapterStartUp                          = "Start-up"
	chapterTesting                          = "Testing"
	chapterSession                          = "Session Commands"
	chapterObject                           = "Object Commands"
	chapterDuplication                      = "Duplication Commands"
	chapterAsymmetricPrimitives             = "Asymmetric Primitives"
	chapterSymmetricPrimitives              = "Symmetric Primitives"
	chapterRandomNumberGenerator            = "Random Number Generator"
	chapterHashHmacEventSequences           = "Hash/HMAC/Event Sequences"
	chapterAttestation                      = "Attestation Commands"
	chapterEphemeralEcKeys                  = "Ephemeral EC Keys"
	chapterSigningAndSignatureVerification  = "Signing and Signature Verification"
	chapterCommandAudit                     = "Command Audit"
	chapterIntegrityCollection              = "Integrity Collection (PCR)"
	chapterEnhancedAuthorization            = "Enhanced Authorization (EA) Commands"
	chapterHierarchy                        = "Hierarchy Commands"
	chapterDictionaryAttackFunctions        = "Dictionary Attack Functions"
	chapterMiscellaneousManagementFunctions = "Miscellaneous Management Functions"
	chapterContextManagement                = "Context Management"
	chapterClocksAndTimers                  = "Clocks and Timers"
	chapterCapability                       = "Capability Commands"
	chapterNonVolatileStorage               = "Non-volatile Storage"
)

// table has the commands in the order of Part 3's chapters. Of Attr it gives
// the bits nv, extensive and flushed; the rest follows.
var table = []Info{
	{
		Code: tpm2.CCStartup, Name: "TPM2_Startup", Chapter: chapterStartUp,
		Attr: tpm2.CommandNV, NoSessions: true,
		New: pair[StartupIn, None],
	},
	{
		Code: tpm2.CCShutdown, Name: "TPM2_Shutdown", Chapter: chapterStartUp,
		Attr: tpm2.CommandNV,
		New:  pair[ShutdownIn, None],
	},

	{
		Code: tpm2.CCSelfTest, Name: "TPM2_SelfTest", Chapter: chapterTesting,
		Attr: tpm2.CommandNV,
		New:  pair[SelfTestIn, None],
	},
	{
		Code: tpm2.CCIncrementalSelfTest, Name: "TPM2_IncrementalSelfTest", Chapter: chapterTesting,
		Attr: tpm2.CommandNV,
		New:  pair[IncrementalSelfTestIn, IncrementalSelfTestOut],
	},
	{
		Code: tpm2.CCGetTestResult, Name: "TPM2_GetTestResult", Chapter: chapterTesting,
		EncryptFirst: true,
		New:          pair[None, GetTestResultOut],
	},

	{
		Code: tpm2.CCStartAuthSession, Name: "TPM2_StartAuthSession", Chapter: chapterSession,
		Handles: []Handle{{"tpmKey", HandleObjectOrNull, RoleNone}, {"bind", HandleEntityOrNull, RoleNone}}, Response: "sessionHandle",
		DecryptFirst: true, EncryptFirst: true,
		New: pair[StartAuthSessionIn, StartAuthSessionOut],
	},
	{
		Code: tpm2.CCPolicyRestart, Name: "TPM2_PolicyRestart", Chapter: chapterSession,
		Handles: []Handle{{"sessionHandle", HandlePolicySession, RoleNone}},
	},

	{
		Code: tpm2.CCCreate, Name: "TPM2_Create", Chapter: chapterObject,
		Handles:      []Handle{{"parentHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true, NotReadOnly: true,
		New: pair[CreateIn, CreateOut],
	},
	{
		Code: tpm2.CCLoad, Name: "TPM2_Load", Chapter: chapterObject,
		Handles: []Handle{{"parentHandle", HandleObject, RoleUser}}, Response: "objectHandle",
		DecryptFirst: true, EncryptFirst: true,
		New: pair[LoadIn, LoadOut],
	},
	{
		Code: tpm2.CCLoadExternal, Name: "TPM2_LoadExternal", Chapter: chapterObject,
		Response:     "objectHandle",
		DecryptFirst: true, EncryptFirst: true,
		New: pair[LoadExternalIn, LoadExternalOut],
	},
	{
		Code: tpm2.CCReadPublic, Name: "TPM2_ReadPublic", Chapter: chapterObject,
		Handles:      []Handle{{"objectHandle", HandleObject, RoleNone}},
		EncryptFirst: true,
		New:          pair[None, ReadPublicOut],
	},
	{
		Code: tpm2.CCActivateCredential, Name: "TPM2_ActivateCredential", Chapter: chapterObject,
		Handles:      []Handle{{"activateHandle", HandleObject, RoleAdmin}, {"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ActivateCredentialIn, ActivateCredentialOut],
	},
	{
		Code: tpm2.CCMakeCredential, Name: "TPM2_MakeCredential", Chapter: chapterObject,
		Handles:      []Handle{{"handle", HandleObject, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[MakeCredentialIn, MakeCredentialOut],
	},
	{
		Code: tpm2.CCUnseal, Name: "TPM2_Unseal", Chapter: chapterObject,
		Handles:      []Handle{{"itemHandle", HandleObject, RoleUser}},
		EncryptFirst: true,
		New:          pair[None, UnsealOut],
	},
	{
		Code: tpm2.CCObjectChangeAuth, Name: "TPM2_ObjectChangeAuth", Chapter: chapterObject,
		Handles:      []Handle{{"objectHandle", HandleObject, RoleAdmin}, {"parentHandle", HandleObject, RoleNone}},
		DecryptFirst: true, EncryptFirst: true, NotReadOnly: true,
		New: pair[ObjectChangeAuthIn, ObjectChangeAuthOut],
	},
	{
		Code: tpm2.CCCreateLoaded, Name: "TPM2_CreateLoaded", Chapter: chapterObject,
		Handles: []Handle{{"parentHandle", HandleParent, RoleUser}}, Response: "objectHandle",
		DecryptFirst: true, EncryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[CreateLoadedIn, CreateLoadedOut],
	},

	{
		Code: tpm2.CCDuplicate, Name: "TPM2_Duplicate", Chapter: chapterDuplication,
		Handles:      []Handle{{"objectHandle", HandleObject, RoleDup}, {"newParentHandle", HandleObjectOrNull, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[DuplicateIn, DuplicateOut],
	},
	{
		Code: tpm2.CCRewrap, Name: "TPM2_Rewrap", Chapter: chapterDuplication,
		Handles:      []Handle{{"oldParent", HandleObjectOrNull, RoleUser}, {"newParent", HandleObjectOrNull, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[RewrapIn, RewrapOut],
	},
	{
		Code: tpm2.CCImport, Name: "TPM2_Import", Chapter: chapterDuplication,
		Handles:      []Handle{{"parentHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ImportIn, ImportOut],
	},

	{
		Code: tpm2.CCRSAEncrypt, Name: "TPM2_RSA_Encrypt", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[RSAEncryptIn, RSAEncryptOut],
	},
	{
		Code: tpm2.CCRSADecrypt, Name: "TPM2_RSA_Decrypt", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[RSADecryptIn, RSADecryptOut],
	},
	{
		Code: tpm2.CCECDHKeyGen, Name: "TPM2_ECDH_KeyGen", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		EncryptFirst: true,
		New:          pair[None, ECDHKeyGenOut],
	},
	{
		Code: tpm2.CCECDHZGen, Name: "TPM2_ECDH_ZGen", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ECDHZGenIn, ECDHZGenOut],
	},
	{
		Code: tpm2.CCECCParameters, Name: "TPM2_ECC_Parameters", Chapter: chapterAsymmetricPrimitives,
		New: pair[ECCParametersIn, ECCParametersOut],
	},
	{
		Code: tpm2.CCZGen2Phase, Name: "TPM2_ZGen_2Phase", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyA", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ZGen2PhaseIn, ZGen2PhaseOut],
	},
	{
		Code: tpm2.CCECCEncrypt, Name: "TPM2_ECC_Encrypt", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ECCEncryptIn, ECCEncryptOut],
	},
	{
		Code: tpm2.CCECCDecrypt, Name: "TPM2_ECC_Decrypt", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[ECCDecryptIn, ECCDecryptOut],
	},
	{
		Code: tpm2.CCEncapsulate, Name: "TPM2_Encapsulate", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		EncryptFirst: true, Version185: true,
		New: pair[None, EncapsulateOut],
	},
	{
		Code: tpm2.CCDecapsulate, Name: "TPM2_Decapsulate", Chapter: chapterAsymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true, Version185: true,
		New: pair[DecapsulateIn, DecapsulateOut],
	},

	{
		Code: tpm2.CCEncryptDecrypt, Name: "TPM2_EncryptDecrypt", Chapter: chapterSymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		EncryptFirst: true,
		New:          pair[EncryptDecryptIn, EncryptDecryptOut],
	},
	{
		Code: tpm2.CCEncryptDecrypt2, Name: "TPM2_EncryptDecrypt2", Chapter: chapterSymmetricPrimitives,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[EncryptDecrypt2In, EncryptDecrypt2Out],
	},
	{
		Code: tpm2.CCHash, Name: "TPM2_Hash", Chapter: chapterSymmetricPrimitives,
		DecryptFirst: true, EncryptFirst: true,
		New: pair[HashIn, HashOut],
	},
	{
		Code: tpm2.CCHMAC, Name: "TPM2_HMAC", Chapter: chapterSymmetricPrimitives,
		Handles:      []Handle{{"handle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[HMACIn, HMACOut],
	},

	{
		Code: tpm2.CCGetRandom, Name: "TPM2_GetRandom", Chapter: chapterRandomNumberGenerator,
		EncryptFirst: true,
		New:          pair[GetRandomIn, GetRandomOut],
	},
	{
		Code: tpm2.CCStirRandom, Name: "TPM2_StirRandom", Chapter: chapterRandomNumberGenerator,
		Attr: tpm2.CommandNV, DecryptFirst: true,
		New: pair[StirRandomIn, None],
	},

	{
		Code: tpm2.CCHMACStart, Name: "TPM2_HMAC_Start", Chapter: chapterHashHmacEventSequences,
		Handles: []Handle{{"handle", HandleObject, RoleUser}}, Response: "sequenceHandle",
		DecryptFirst: true,
		New:          pair[HMACStartIn, None],
	},
	{
		Code: tpm2.CCHashSequenceStart, Name: "TPM2_HashSequenceStart", Chapter: chapterHashHmacEventSequences,
		Response:     "sequenceHandle",
		DecryptFirst: true,
		New:          pair[HashSequenceStartIn, None],
	},
	{
		Code: tpm2.CCSequenceUpdate, Name: "TPM2_SequenceUpdate", Chapter: chapterHashHmacEventSequences,
		Handles:      []Handle{{"sequenceHandle", HandleObject, RoleUser}},
		DecryptFirst: true,
		New:          pair[SequenceUpdateIn, None],
	},
	{
		Code: tpm2.CCSequenceComplete, Name: "TPM2_SequenceComplete", Chapter: chapterHashHmacEventSequences,
		Handles: []Handle{{"sequenceHandle", HandleObject, RoleUser}},
		Attr:    tpm2.CommandFlushed, DecryptFirst: true, EncryptFirst: true,
		New: pair[SequenceCompleteIn, SequenceCompleteOut],
	},
	{
		Code: tpm2.CCEventSequenceComplete, Name: "TPM2_EventSequenceComplete", Chapter: chapterHashHmacEventSequences,
		Handles: []Handle{{"pcrHandle", HandlePCROrNull, RoleUser}, {"sequenceHandle", HandleObject, RoleUser}},
		Attr:    tpm2.CommandNV | tpm2.CommandFlushed, DecryptFirst: true,
		New: pair[EventSequenceCompleteIn, EventSequenceCompleteOut],
	},
	{
		Code: tpm2.CCVerifySequenceStart, Name: "TPM2_VerifySequenceStart", Chapter: chapterHashHmacEventSequences,
		Handles: []Handle{{"keyHandle", HandleObject, RoleNone}}, Response: "sequenceHandle",
		DecryptFirst: true, Version185: true,
		New: pair[VerifySequenceStartIn, None],
	},
	{
		Code: tpm2.CCSignSequenceStart, Name: "TPM2_SignSequenceStart", Chapter: chapterHashHmacEventSequences,
		Handles: []Handle{{"keyHandle", HandleObject, RoleNone}}, Response: "sequenceHandle",
		DecryptFirst: true, Version185: true,
		New: pair[SignSequenceStartIn, None],
	},

	{
		Code: tpm2.CCCertify, Name: "TPM2_Certify", Chapter: chapterAttestation,
		Handles:      []Handle{{"objectHandle", HandleObject, RoleAdmin}, {"signHandle", HandleObjectOrNull, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[CertifyIn, CertifyOut],
	},
	{
		Code: tpm2.CCCertifyCreation, Name: "TPM2_CertifyCreation", Chapter: chapterAttestation,
		Handles:      []Handle{{"signHandle", HandleObjectOrNull, RoleUser}, {"objectHandle", HandleObject, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[CertifyCreationIn, CertifyCreationOut],
	},
	{
		Code: tpm2.CCQuote, Name: "TPM2_Quote", Chapter: chapterAttestation,
		Handles:      []Handle{{"signHandle", HandleObjectOrNull, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[QuoteIn, QuoteOut],
	},
	{
		Code: tpm2.CCGetSessionAuditDigest, Name: "TPM2_GetSessionAuditDigest", Chapter: chapterAttestation,
		Handles:      []Handle{{"privacyAdminHandle", HandleEndorsement, RoleUser}, {"signHandle", HandleObjectOrNull, RoleUser}, {"sessionHandle", HandleHMACSession, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[GetSessionAuditDigestIn, GetSessionAuditDigestOut],
	},
	{
		Code: tpm2.CCGetCommandAuditDigest, Name: "TPM2_GetCommandAuditDigest", Chapter: chapterAttestation,
		Handles: []Handle{{"privacyHandle", HandleEndorsement, RoleUser}, {"signHandle", HandleObjectOrNull, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, EncryptFirst: true,
		New: pair[GetCommandAuditDigestIn, GetCommandAuditDigestOut],
	},
	{
		Code: tpm2.CCGetTime, Name: "TPM2_GetTime", Chapter: chapterAttestation,
		Handles:      []Handle{{"privacyAdminHandle", HandleEndorsement, RoleUser}, {"signHandle", HandleObjectOrNull, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[GetTimeIn, GetTimeOut],
	},
	{
		Code: tpm2.CCCertifyX509, Name: "TPM2_CertifyX509", Chapter: chapterAttestation,
		Handles:      []Handle{{"objectHandle", HandleObject, RoleAdmin}, {"signHandle", HandleObjectOrNull, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[CertifyX509In, CertifyX509Out],
	},

	{
		Code: tpm2.CCCommit, Name: "TPM2_Commit", Chapter: chapterEphemeralEcKeys,
		Handles:      []Handle{{"signHandle", HandleObject, RoleUser}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[CommitIn, CommitOut],
	},
	{
		Code: tpm2.CCECEphemeral, Name: "TPM2_EC_Ephemeral", Chapter: chapterEphemeralEcKeys,
		EncryptFirst: true,
		New:          pair[ECEphemeralIn, ECEphemeralOut],
	},

	{
		Code: tpm2.CCVerifySignature, Name: "TPM2_VerifySignature", Chapter: chapterSigningAndSignatureVerification,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		DecryptFirst: true,
		New:          pair[VerifySignatureIn, VerifySignatureOut],
	},
	{
		Code: tpm2.CCSign, Name: "TPM2_Sign", Chapter: chapterSigningAndSignatureVerification,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true,
		New:          pair[SignIn, SignOut],
	},
	{
		Code: tpm2.CCVerifySequenceComplete, Name: "TPM2_VerifySequenceComplete", Chapter: chapterSigningAndSignatureVerification,
		Handles: []Handle{{"sequenceHandle", HandleObject, RoleUser}, {"keyHandle", HandleObject, RoleNone}},
		Attr:    tpm2.CommandFlushed, Version185: true,
		New: pair[VerifySequenceCompleteIn, VerifySequenceCompleteOut],
	},
	{
		Code: tpm2.CCVerifyDigestSignature, Name: "TPM2_VerifyDigestSignature", Chapter: chapterSigningAndSignatureVerification,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleNone}},
		DecryptFirst: true, Version185: true,
		New: pair[VerifyDigestSignatureIn, VerifyDigestSignatureOut],
	},
	{
		Code: tpm2.CCSignSequenceComplete, Name: "TPM2_SignSequenceComplete", Chapter: chapterSigningAndSignatureVerification,
		Handles: []Handle{{"sequenceHandle", HandleObject, RoleUser}, {"keyHandle", HandleObject, RoleUser}},
		Attr:    tpm2.CommandFlushed, DecryptFirst: true, Version185: true,
		New: pair[SignSequenceCompleteIn, SignSequenceCompleteOut],
	},
	{
		Code: tpm2.CCSignDigest, Name: "TPM2_SignDigest", Chapter: chapterSigningAndSignatureVerification,
		Handles:      []Handle{{"keyHandle", HandleObject, RoleUser}},
		DecryptFirst: true, Version185: true,
		New: pair[SignDigestIn, SignDigestOut],
	},

	{
		Code: tpm2.CCSetCommandCodeAuditStatus, Name: "TPM2_SetCommandCodeAuditStatus", Chapter: chapterCommandAudit,
		Handles: []Handle{{"auth", HandleProvision, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
		New: pair[SetCommandCodeAuditStatusIn, None],
	},

	{
		Code: tpm2.CCPCRExtend, Name: "TPM2_PCR_Extend", Chapter: chapterIntegrityCollection,
		Handles: []Handle{{"pcrHandle", HandlePCROrNull, RoleUser}},
		Attr:    tpm2.CommandNV,
		New:     pair[PCRExtendIn, None],
	},
	{
		Code: tpm2.CCPCREvent, Name: "TPM2_PCR_Event", Chapter: chapterIntegrityCollection,
		Handles: []Handle{{"pcrHandle", HandlePCROrNull, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true,
		New: pair[PCREventIn, PCREventOut],
	},
	{
		Code: tpm2.CCPCRRead, Name: "TPM2_PCR_Read", Chapter: chapterIntegrityCollection,
		New: pair[PCRReadIn, PCRReadOut],
	},
	{
		Code: tpm2.CCPCRAllocate, Name: "TPM2_PCR_Allocate", Chapter: chapterIntegrityCollection,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
		New: pair[PCRAllocateIn, PCRAllocateOut],
	},
	{
		Code: tpm2.CCPCRSetAuthPolicy, Name: "TPM2_PCR_SetAuthPolicy", Chapter: chapterIntegrityCollection,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[PCRSetAuthPolicyIn, None],
	},
	{
		Code: tpm2.CCPCRSetAuthValue, Name: "TPM2_PCR_SetAuthValue", Chapter: chapterIntegrityCollection,
		Handles:      []Handle{{"pcrHandle", HandlePCR, RoleUser}},
		DecryptFirst: true, NotReadOnly: true,
		New: pair[PCRSetAuthValueIn, None],
	},
	{
		Code: tpm2.CCPCRReset, Name: "TPM2_PCR_Reset", Chapter: chapterIntegrityCollection,
		Handles: []Handle{{"pcrHandle", HandlePCR, RoleUser}},
		Attr:    tpm2.CommandNV,
	},

	{
		Code: tpm2.CCPolicySigned, Name: "TPM2_PolicySigned", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"authObject", HandleObject, RoleNone}, {"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[PolicySignedIn, PolicySignedOut],
	},
	{
		Code: tpm2.CCPolicySecret, Name: "TPM2_PolicySecret", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"authHandle", HandleEntity, RoleUser}, {"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[PolicySecretIn, PolicySecretOut],
	},
	{
		Code: tpm2.CCPolicyTicket, Name: "TPM2_PolicyTicket", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyTicketIn, None],
	},
	{
		Code: tpm2.CCPolicyOR, Name: "TPM2_PolicyOR", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
		New:     pair[PolicyORIn, None],
	},
	{
		Code: tpm2.CCPolicyPCR, Name: "TPM2_PolicyPCR", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyPCRIn, None],
	},
	{
		Code: tpm2.CCPolicyLocality, Name: "TPM2_PolicyLocality", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
		New:     pair[PolicyLocalityIn, None],
	},
	{
		Code: tpm2.CCPolicyNV, Name: "TPM2_PolicyNV", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}, {"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyNVIn, None],
	},
	{
		Code: tpm2.CCPolicyCounterTimer, Name: "TPM2_PolicyCounterTimer", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyCounterTimerIn, None],
	},
	{
		Code: tpm2.CCPolicyCommandCode, Name: "TPM2_PolicyCommandCode", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
		New:     pair[PolicyCommandCodeIn, None],
	},
	{
		Code: tpm2.CCPolicyPhysicalPresence, Name: "TPM2_PolicyPhysicalPresence", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
	},
	{
		Code: tpm2.CCPolicyCpHash, Name: "TPM2_PolicyCpHash", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyCpHashIn, None],
	},
	{
		Code: tpm2.CCPolicyNameHash, Name: "TPM2_PolicyNameHash", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyNameHashIn, None],
	},
	{
		Code: tpm2.CCPolicyDuplicationSelect, Name: "TPM2_PolicyDuplicationSelect", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyDuplicationSelectIn, None],
	},
	{
		Code: tpm2.CCPolicyAuthorize, Name: "TPM2_PolicyAuthorize", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyAuthorizeIn, None],
	},
	{
		Code: tpm2.CCPolicyAuthValue, Name: "TPM2_PolicyAuthValue", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
	},
	{
		Code: tpm2.CCPolicyPassword, Name: "TPM2_PolicyPassword", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
	},
	{
		Code: tpm2.CCPolicyGetDigest, Name: "TPM2_PolicyGetDigest", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		EncryptFirst: true,
		New:          pair[None, PolicyGetDigestOut],
	},
	{
		Code: tpm2.CCPolicyNvWritten, Name: "TPM2_PolicyNvWritten", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"policySession", HandlePolicySession, RoleNone}},
		New:     pair[PolicyNvWrittenIn, None],
	},
	{
		Code: tpm2.CCPolicyTemplate, Name: "TPM2_PolicyTemplate", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyTemplateIn, None],
	},
	{
		Code: tpm2.CCPolicyAuthorizeNV, Name: "TPM2_PolicyAuthorizeNV", Chapter: chapterEnhancedAuthorization,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}, {"policySession", HandlePolicySession, RoleNone}},
	},
	{
		Code: tpm2.CCPolicyCapability, Name: "TPM2_PolicyCapability", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyCapabilityIn, None],
	},
	{
		Code: tpm2.CCPolicyParameters, Name: "TPM2_PolicyParameters", Chapter: chapterEnhancedAuthorization,
		Handles:      []Handle{{"policySession", HandlePolicySession, RoleNone}},
		DecryptFirst: true,
		New:          pair[PolicyParametersIn, None],
	},

	{
		Code: tpm2.CCCreatePrimary, Name: "TPM2_CreatePrimary", Chapter: chapterHierarchy,
		Handles: []Handle{{"primaryHandle", HandleHierarchyOrNull, RoleUser}}, Response: "objectHandle",
		DecryptFirst: true, EncryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[CreatePrimaryIn, CreatePrimaryOut],
	},
	{
		Code: tpm2.CCHierarchyControl, Name: "TPM2_HierarchyControl", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandleBaseHierarchy, RoleUser}},
		Attr:    tpm2.CommandNV | tpm2.CommandExtensive, NotReadOnly: true, Presence: PPSettable,
		New: pair[HierarchyControlIn, None],
	},
	{
		Code: tpm2.CCSetPrimaryPolicy, Name: "TPM2_SetPrimaryPolicy", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandleHierarchyPolicy, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[SetPrimaryPolicyIn, None],
	},
	{
		Code: tpm2.CCChangePPS, Name: "TPM2_ChangePPS", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV | tpm2.CommandExtensive, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCChangeEPS, Name: "TPM2_ChangeEPS", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV | tpm2.CommandExtensive, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCClear, Name: "TPM2_Clear", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandleClear, RoleUser}},
		Attr:    tpm2.CommandNV | tpm2.CommandExtensive, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCClearControl, Name: "TPM2_ClearControl", Chapter: chapterHierarchy,
		Handles: []Handle{{"auth", HandleClear, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
		New: pair[ClearControlIn, None],
	},
	{
		Code: tpm2.CCHierarchyChangeAuth, Name: "TPM2_HierarchyChangeAuth", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandleHierarchyAuth, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[HierarchyChangeAuthIn, None],
	},
	{
		Code: tpm2.CCReadOnlyControl, Name: "TPM2_ReadOnlyControl", Chapter: chapterHierarchy,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, Presence: PPSettable,
		New: pair[ReadOnlyControlIn, None],
	},

	{
		Code: tpm2.CCDictionaryAttackLockReset, Name: "TPM2_DictionaryAttackLockReset", Chapter: chapterDictionaryAttackFunctions,
		Handles: []Handle{{"lockHandle", HandleLockout, RoleUser}},
		Attr:    tpm2.CommandNV,
	},
	{
		Code: tpm2.CCDictionaryAttackParameters, Name: "TPM2_DictionaryAttackParameters", Chapter: chapterDictionaryAttackFunctions,
		Handles: []Handle{{"lockHandle", HandleLockout, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true,
		New: pair[DictionaryAttackParametersIn, None],
	},

	{
		Code: tpm2.CCPPCommands, Name: "TPM2_PP_Commands", Chapter: chapterMiscellaneousManagementFunctions,
		Handles: []Handle{{"auth", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPAlways,
		New: pair[PPCommandsIn, None],
	},
	{
		Code: tpm2.CCSetAlgorithmSet, Name: "TPM2_SetAlgorithmSet", Chapter: chapterMiscellaneousManagementFunctions,
		Handles: []Handle{{"authHandle", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true,
		New: pair[SetAlgorithmSetIn, None],
	},

	{
		Code: tpm2.CCContextSave, Name: "TPM2_ContextSave", Chapter: chapterContextManagement,
		Handles:    []Handle{{"saveHandle", HandleContext, RoleNone}},
		NoSessions: true,
		New:        pair[None, ContextSaveOut],
	},
	{
		Code: tpm2.CCContextLoad, Name: "TPM2_ContextLoad", Chapter: chapterContextManagement,
		Response:   "loadedHandle",
		NoSessions: true,
		New:        pair[ContextLoadIn, None],
	},
	{
		Code: tpm2.CCFlushContext, Name: "TPM2_FlushContext", Chapter: chapterContextManagement,
		NoSessions: true,
		New:        pair[FlushContextIn, None],
	},
	{
		Code: tpm2.CCEvictControl, Name: "TPM2_EvictControl", Chapter: chapterContextManagement,
		Handles: []Handle{{"auth", HandleProvision, RoleUser}, {"objectHandle", HandleObject, RoleNone}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
		New: pair[EvictControlIn, None],
	},

	{
		Code: tpm2.CCReadClock, Name: "TPM2_ReadClock", Chapter: chapterClocksAndTimers,
		New: pair[None, ReadClockOut],
	},
	{
		Code: tpm2.CCClockSet, Name: "TPM2_ClockSet", Chapter: chapterClocksAndTimers,
		Handles: []Handle{{"auth", HandleProvision, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
		New: pair[ClockSetIn, None],
	},
	{
		Code: tpm2.CCClockRateAdjust, Name: "TPM2_ClockRateAdjust", Chapter: chapterClocksAndTimers,
		Handles:     []Handle{{"auth", HandleProvision, RoleUser}},
		NotReadOnly: true, Presence: PPSettable,
		New: pair[ClockRateAdjustIn, None],
	},

	{
		Code: tpm2.CCGetCapability, Name: "TPM2_GetCapability", Chapter: chapterCapability,
		New: pair[GetCapabilityIn, GetCapabilityOut],
	},
	{
		Code: tpm2.CCTestParms, Name: "TPM2_TestParms", Chapter: chapterCapability,
		New: pair[TestParmsIn, None],
	},

	{
		Code: tpm2.CCNVDefineSpace, Name: "TPM2_NV_DefineSpace", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleProvision, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[NVDefineSpaceIn, None],
	},
	{
		Code: tpm2.CCNVUndefineSpace, Name: "TPM2_NV_UndefineSpace", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleProvision, RoleUser}, {"nvIndex", HandleNVDefined, RoleNone}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCNVUndefineSpaceSpecial, Name: "TPM2_NV_UndefineSpaceSpecial", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"nvIndex", HandleNVDefined, RoleAdmin}, {"platform", HandlePlatform, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCNVReadPublic, Name: "TPM2_NV_ReadPublic", Chapter: chapterNonVolatileStorage,
		Handles:      []Handle{{"nvIndex", HandleNVIndex, RoleNone}},
		EncryptFirst: true,
		New:          pair[None, NVReadPublicOut],
	},
	{
		Code: tpm2.CCNVWrite, Name: "TPM2_NV_Write", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV, DecryptFirst: true,
		New: pair[NVWriteIn, None],
	},
	{
		Code: tpm2.CCNVIncrement, Name: "TPM2_NV_Increment", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV, NotReadOnly: true,
	},
	{
		Code: tpm2.CCNVExtend, Name: "TPM2_NV_Extend", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV, DecryptFirst: true,
		New: pair[NVExtendIn, None],
	},
	{
		Code: tpm2.CCNVSetBits, Name: "TPM2_NV_SetBits", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV,
		New:     pair[NVSetBitsIn, None],
	},
	{
		Code: tpm2.CCNVWriteLock, Name: "TPM2_NV_WriteLock", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV,
	},
	{
		Code: tpm2.CCNVGlobalWriteLock, Name: "TPM2_NV_GlobalWriteLock", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleProvision, RoleUser}},
		Attr:    tpm2.CommandNV, NotReadOnly: true, Presence: PPSettable,
	},
	{
		Code: tpm2.CCNVRead, Name: "TPM2_NV_Read", Chapter: chapterNonVolatileStorage,
		Handles:      []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		EncryptFirst: true,
		New:          pair[NVReadIn, NVReadOut],
	},
	{
		Code: tpm2.CCNVReadLock, Name: "TPM2_NV_ReadLock", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		Attr:    tpm2.CommandNV,
	},
	{
		Code: tpm2.CCNVChangeAuth, Name: "TPM2_NV_ChangeAuth", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"nvIndex", HandleNVIndex, RoleAdmin}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true,
		New: pair[NVChangeAuthIn, None],
	},
	{
		Code: tpm2.CCNVCertify, Name: "TPM2_NV_Certify", Chapter: chapterNonVolatileStorage,
		Handles:      []Handle{{"signHandle", HandleObjectOrNull, RoleUser}, {"authHandle", HandleNVAuth, RoleUser}, {"nvIndex", HandleNVIndex, RoleNone}},
		DecryptFirst: true, EncryptFirst: true,
		New: pair[NVCertifyIn, NVCertifyOut],
	},
	{
		Code: tpm2.CCNVDefineSpace2, Name: "TPM2_NV_DefineSpace2", Chapter: chapterNonVolatileStorage,
		Handles: []Handle{{"authHandle", HandleProvision, RoleUser}},
		Attr:    tpm2.CommandNV, DecryptFirst: true, NotReadOnly: true, Presence: PPSettable,
		New: pair[NVDefineSpace2In, None],
	},
	{
		Code: tpm2.CCNVReadPublic2, Name: "TPM2_NV_ReadPublic2", Chapter: chapterNonVolatileStorage,
		Handles:      []Handle{{"nvIndex", HandleNVIndex, RoleNone}},
		EncryptFirst: true,
		New:          pair[None, NVReadPublic2Out],
	},
}
