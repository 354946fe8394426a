package tpm2

import "github.com/assay-project/assay/wire"

// CC is a TPM_CC: the code of a command (Part 2, 6.5.2). What each command is
// made of is in package command.
type CC uint32

// Command codes. Those from [CCVerifySequenceComplete] on are of version 1.85.
const (
	CCNVUndefineSpaceSpecial     CC = 0x11f
	CCEvictControl               CC = 0x120
	CCHierarchyControl           CC = 0x121
	CCNVUndefineSpace            CC = 0x122
	CCChangeEPS                  CC = 0x124
	CCChangePPS                  CC = 0x125
	CCClear                      CC = 0x126
	CCClearControl               CC = 0x127
	CCClockSet                   CC = 0x128
	CCHierarchyChangeAuth        CC = 0x129
	CCNVDefineSpace              CC = 0x12a
	CCPCRAllocate                CC = 0x12b
	CCPCRSetAuthPolicy           CC = 0x12c
	CCPPCommands                 CC = 0x12d
	CCSetPrimaryPolicy           CC = 0x12e
	CCFieldUpgradeStart          CC = 0x12f
	CCClockRateAdjust            CC = 0x130
	CCCreatePrimary              CC = 0x131
	CCNVGlobalWriteLock          CC = 0x132
	CCGetCommandAuditDigest      CC = 0x133
	CCNVIncrement                CC = 0x134
	CCNVSetBits                  CC = 0x135
	CCNVExtend                   CC = 0x136
	CCNVWrite                    CC = 0x137
	CCNVWriteLock                CC = 0x138
	CCDictionaryAttackLockReset  CC = 0x139
	CCDictionaryAttackParameters CC = 0x13a
	CCNVChangeAuth               CC = 0x13b
	CCPCREvent                   CC = 0x13c
	CCPCRReset                   CC = 0x13d
	CCSequenceComplete           CC = 0x13e
	CCSetAlgorithmSet            CC = 0x13f
	CCSetCommandCodeAuditStatus  CC = 0x140
	CCFieldUpgradeData           CC = 0x141
	CCIncrementalSelfTest        CC = 0x142
	CCSelfTest                   CC = 0x143
	CCStartup                    CC = 0x144
	CCShutdown                   CC = 0x145
	CCStirRandom                 CC = 0x146
	CCActivateCredential         CC = 0x147
	CCCertify                    CC = 0x148
	CCPolicyNV                   CC = 0x149
	CCCertifyCreation            CC = 0x14a
	CCDuplicate                  CC = 0x14b
	CCGetTime                    CC = 0x14c
	CCGetSessionAuditDigest      CC = 0x14d
	CCNVRead                     CC = 0x14e
	CCNVReadLock                 CC = 0x14f
	CCObjectChangeAuth           CC = 0x150
	CCPolicySecret               CC = 0x151
	CCRewrap                     CC = 0x152
	CCCreate                     CC = 0x153
	CCECDHZGen                   CC = 0x154
	CCHMAC                       CC = 0x155 // TPM_CC_MAC, too
	CCImport                     CC = 0x156
	CCLoad                       CC = 0x157
	CCQuote                      CC = 0x158
	CCRSADecrypt                 CC = 0x159
	CCHMACStart                  CC = 0x15b // TPM_CC_MAC_Start, too
	CCSequenceUpdate             CC = 0x15c
	CCSign                       CC = 0x15d
	CCUnseal                     CC = 0x15e
	CCPolicySigned               CC = 0x160
	CCContextLoad                CC = 0x161
	CCContextSave                CC = 0x162
	CCECDHKeyGen                 CC = 0x163
	CCEncryptDecrypt             CC = 0x164
	CCFlushContext               CC = 0x165
	CCLoadExternal               CC = 0x167
	CCMakeCredential             CC = 0x168
	CCNVReadPublic               CC = 0x169
	CCPolicyAuthorize            CC = 0x16a
	CCPolicyAuthValue            CC = 0x16b
	CCPolicyCommandCode          CC = 0x16c
	CCPolicyCounterTimer         CC = 0x16d
	CCPolicyCpHash               CC = 0x16e
	CCPolicyLocality             CC = 0x16f
	CCPolicyNameHash             CC = 0x170
	CCPolicyOR                   CC = 0x171
	CCPolicyTicket               CC = 0x172
	CCReadPublic                 CC = 0x173
	CCRSAEncrypt                 CC = 0x174
	CCStartAuthSession           CC = 0x176
	CCVerifySignature            CC = 0x177
	CCECCParameters              CC = 0x178
	CCFirmwareRead               CC = 0x179
	CCGetCapability              CC = 0x17a
	CCGetRandom                  CC = 0x17b
	CCGetTestResult              CC = 0x17c
	CCHash                       CC = 0x17d
	CCPCRRead                    CC = 0x17e
	CCPolicyPCR                  CC = 0x17f
	CCPolicyRestart              CC = 0x180
	CCReadClock                  CC = 0x181
	CCPCRExtend                  CC = 0x182
	CCPCRSetAuthValue            CC = 0x183
	CCNVCertify                  CC = 0x184
	CCEventSequenceComplete      CC = 0x185
	CCHashSequenceStart          CC = 0x186
	CCPolicyPhysicalPresence     CC = 0x187
	CCPolicyDuplicationSelect    CC = 0x188
	CCPolicyGetDigest            CC = 0x189
	CCTestParms                  CC = 0x18a
	CCCommit                     CC = 0x18b
	CCPolicyPassword             CC = 0x18c
	CCZGen2Phase                 CC = 0x18d
	CCECEphemeral                CC = 0x18e
	CCPolicyNvWritten            CC = 0x18f
	CCPolicyTemplate             CC = 0x190
	CCCreateLoaded               CC = 0x191
	CCPolicyAuthorizeNV          CC = 0x192
	CCEncryptDecrypt2            CC = 0x193
	CCACGetCapability            CC = 0x194
	CCACSend                     CC = 0x195
	CCPolicyACSendSelect         CC = 0x196
	CCCertifyX509                CC = 0x197
	CCACTSetTimeout              CC = 0x198
	CCECCEncrypt                 CC = 0x199
	CCECCDecrypt                 CC = 0x19a
	CCPolicyCapability           CC = 0x19b
	CCPolicyParameters           CC = 0x19c
	CCNVDefineSpace2             CC = 0x19d
	CCNVReadPublic2              CC = 0x19e
	CCSetCapability              CC = 0x19f
	CCReadOnlyControl            CC = 0x1a0
	CCPolicyTransportSPDM        CC = 0x1a1
	CCVerifySequenceComplete     CC = 0x1a3
	CCSignSequenceComplete       CC = 0x1a4
	CCVerifyDigestSignature      CC = 0x1a5
	CCSignDigest                 CC = 0x1a6
	CCEncapsulate                CC = 0x1a7
	CCDecapsulate                CC = 0x1a8
	CCVerifySequenceStart        CC = 0x1a9
	CCSignSequenceStart          CC = 0x1aa

	// CCVendor is the bit that marks a vendor's command.
	CCVendor CC = 0x20000000
)

// PT is a TPM_PT: a property that TPM2_GetCapability tells (Part 2, 6.13).
type PT uint32

// Fixed properties, which change only with the firmware.
const (
	PTFixed PT = 0x100

	PTFamilyIndicator   = PTFixed + 0
	PTLevel             = PTFixed + 1
	PTRevision          = PTFixed + 2 // times 100 up to 1.83; from 184 on the version itself
	PTDayOfYear         = PTFixed + 3
	PTYear              = PTFixed + 4
	PTManufacturer      = PTFixed + 5
	PTVendorString1     = PTFixed + 6
	PTVendorString2     = PTFixed + 7
	PTVendorString3     = PTFixed + 8
	PTVendorString4     = PTFixed + 9
	PTVendorTPMType     = PTFixed + 10
	PTFirmwareVersion1  = PTFixed + 11
	PTFirmwareVersion2  = PTFixed + 12
	PTInputBuffer       = PTFixed + 13
	PTHRTransientMin    = PTFixed + 14
	PTHRPersistentMin   = PTFixed + 15
	PTHRLoadedMin       = PTFixed + 16
	PTActiveSessionsMax = PTFixed + 17
	PTPCRCount          = PTFixed + 18
	PTPCRSelectMin      = PTFixed + 19
	PTContextGapMax     = PTFixed + 20
	PTNVCountersMax     = PTFixed + 22
	PTNVIndexMax        = PTFixed + 23
	PTMemory            = PTFixed + 24
	PTClockUpdate       = PTFixed + 25
	PTContextHash       = PTFixed + 26
	PTContextSym        = PTFixed + 27
	PTContextSymSize    = PTFixed + 28
	PTOrderlyCount      = PTFixed + 29
	PTMaxCommandSize    = PTFixed + 30
	PTMaxResponseSize   = PTFixed + 31
	PTMaxDigest         = PTFixed + 32
	PTMaxObjectContext  = PTFixed + 33
	PTMaxSessionContext = PTFixed + 34
	PTPSFamilyIndicator = PTFixed + 35
	PTPSLevel           = PTFixed + 36
	PTPSRevision        = PTFixed + 37
	PTPSDayOfYear       = PTFixed + 38
	PTPSYear            = PTFixed + 39
	PTSplitMax          = PTFixed + 40
	PTTotalCommands     = PTFixed + 41
	PTLibraryCommands   = PTFixed + 42
	PTVendorCommands    = PTFixed + 43
	PTNVBufferMax       = PTFixed + 44
	PTModes             = PTFixed + 45
	PTMaxCapBuffer      = PTFixed + 46
	PTFirmwareSVN       = PTFixed + 47
	PTFirmwareMaxSVN    = PTFixed + 48
	PTMLParameterSets   = PTFixed + 49 // of version 1.85
)

// Variable properties.
const (
	PTVar PT = 0x200

	PTPermanent         = PTVar + 0
	PTStartupClear      = PTVar + 1
	PTHRNVIndex         = PTVar + 2
	PTHRLoaded          = PTVar + 3
	PTHRLoadedAvail     = PTVar + 4
	PTHRActive          = PTVar + 5
	PTHRActiveAvail     = PTVar + 6
	PTHRTransientAvail  = PTVar + 7
	PTHRPersistent      = PTVar + 8
	PTHRPersistentAvail = PTVar + 9
	PTNVCounters        = PTVar + 10
	PTNVCountersAvail   = PTVar + 11
	PTAlgorithmSet      = PTVar + 12
	PTLoadedCurves      = PTVar + 13
	PTLockoutCounter    = PTVar + 14
	PTMaxAuthFail       = PTVar + 15
	PTLockoutInterval   = PTVar + 16
	PTLockoutRecovery   = PTVar + 17
	PTNVWriteRecovery   = PTVar + 18
	PTAuditCounter0     = PTVar + 19
	PTAuditCounter1     = PTVar + 20
)

// PTPCR is a TPM_PT_PCR: an attribute of which TPM2_GetCapability tells the PCRs
// that have it (Part 2, 6.14).
type PTPCR uint32

// The values of TPM_PT_PCR.
const (
	PTPCRSave        PTPCR = 0x00
	PTPCRExtendL0    PTPCR = 0x01
	PTPCRResetL0     PTPCR = 0x02
	PTPCRExtendL1    PTPCR = 0x03
	PTPCRResetL1     PTPCR = 0x04
	PTPCRExtendL2    PTPCR = 0x05
	PTPCRResetL2     PTPCR = 0x06
	PTPCRExtendL3    PTPCR = 0x07
	PTPCRResetL3     PTPCR = 0x08
	PTPCRExtendL4    PTPCR = 0x09
	PTPCRResetL4     PTPCR = 0x0a
	PTPCRNoIncrement PTPCR = 0x11
	PTPCRDRTMReset   PTPCR = 0x12
	PTPCRPolicy      PTPCR = 0x13
	PTPCRAuth        PTPCR = 0x14
)

// Capability is a TPM_CAP: a kind of thing that TPM2_GetCapability lists (Part 2, 6.12).
type Capability uint32

// The values of TPM_CAP.
const (
	CapAlgs            Capability = 0x0
	CapHandles         Capability = 0x1
	CapCommands        Capability = 0x2
	CapPPCommands      Capability = 0x3
	CapAuditCommands   Capability = 0x4
	CapPCRs            Capability = 0x5
	CapTPMProperties   Capability = 0x6
	CapPCRProperties   Capability = 0x7
	CapECCCurves       Capability = 0x8
	CapAuthPolicies    Capability = 0x9
	CapACT             Capability = 0xa
	CapPubKeys         Capability = 0xb
	CapSPDMSessionInfo Capability = 0xc
	CapVendorProperty  Capability = 0x100
)

func (c Capability) valid() bool { return c <= CapSPDMSessionInfo || c == CapVendorProperty }
func (Capability) refusal() RC   { return RCValue }

// Tag is a TPM_ST: what kind of structure follows (Part 2, 6.9).
type Tag uint16

// The values of TPM_ST; those that [AttestType] lists are left out.
const (
	TagResponseCommand Tag = 0x00c4 // of the answer to what is no TPM 2.0 command
	TagNull            Tag = 0x8000
	TagNoSessions      Tag = 0x8001
	TagSessions        Tag = 0x8002
	TagCreation        Tag = 0x8021
	TagVerified        Tag = 0x8022
	TagAuthSecret      Tag = 0x8023
	TagHashCheck       Tag = 0x8024
	TagAuthSigned      Tag = 0x8025
	TagMessageVerified Tag = 0x8026 // of version 1.85
	TagDigestVerified  Tag = 0x8027 // of version 1.85
	TagFUManifest      Tag = 0x8029
)

// StartupType is a TPM_SU (Part 2, 6.10).
type StartupType uint16

// The values of TPM_SU.
const (
	StartupClear StartupType = 0x0000
	StartupState StartupType = 0x0001
)

func (s StartupType) valid() bool { return s <= StartupState }
func (StartupType) refusal() RC   { return RCValue }

// Wire lays out a TPM_SU.
func (s *StartupType) Wire(c *wire.Codec) { choice(c, s, wire.U16) }

// SessionType is a TPM_SE (Part 2, 6.11).
type SessionType uint8

// The values of TPM_SE.
const (
	SessionHMAC   SessionType = 0x00
	SessionPolicy SessionType = 0x01
	SessionTrial  SessionType = 0x03
)

func (s SessionType) valid() bool { return s <= SessionPolicy || s == SessionTrial }
func (SessionType) refusal() RC   { return RCValue }

// Wire lays out a TPM_SE.
func (s *SessionType) Wire(c *wire.Codec) { choice(c, s, wire.U8) }

// Operation is a TPM_EO: how a policy compares operands (Part 2, 6.8).
type Operation uint16

// The values of TPM_EO: A is what the TPM knows, B what the policy names.
const (
	OpEQ         Operation = 0x0000
	OpNEQ        Operation = 0x0001
	OpSignedGT   Operation = 0x0002
	OpUnsignedGT Operation = 0x0003
	OpSignedLT   Operation = 0x0004
	OpUnsignedLT Operation = 0x0005
	OpSignedGE   Operation = 0x0006
	OpUnsignedGE Operation = 0x0007
	OpSignedLE   Operation = 0x0008
	OpUnsignedLE Operation = 0x0009
	OpBitSet     Operation = 0x000a // all bits of B are set in A
	OpBitClear   Operation = 0x000b // all bits of B are clear in A
)

func (o Operation) valid() bool { return o <= OpBitClear }
func (Operation) refusal() RC   { return RCValue }

// Wire lays out a TPM_EO.
func (o *Operation) Wire(c *wire.Codec) { choice(c, o, wire.U16) }

// ClockAdjust is a TPM_CLOCK_ADJUST (Part 2, 6.7).
type ClockAdjust int8

// The values of TPM_CLOCK_ADJUST.
const (
	ClockCoarseSlower ClockAdjust = -3
	ClockMediumSlower ClockAdjust = -2
	ClockFineSlower   ClockAdjust = -1
	ClockNoChange     ClockAdjust = 0
	ClockFineFaster   ClockAdjust = 1
	ClockMediumFaster ClockAdjust = 2
	ClockCoarseFaster ClockAdjust = 3
)

// Wire lays out a TPM_CLOCK_ADJUST.
func (a *ClockAdjust) Wire(c *wire.Codec) {
	v := uint8(*a)
	wire.U8(c, &v)
	*a = ClockAdjust(v)
	c.Check(*a >= ClockCoarseSlower && *a <= ClockCoarseFaster, wire.ErrRange)
}

// MLKEMSet is a TPMI_MLKEM_PARAMETER_SET (version 1.85).
type MLKEMSet uint16

// The parameter sets of FIPS 203.
const (
	MLKEM512  MLKEMSet = 0x0001
	MLKEM768  MLKEMSet = 0x0002
	MLKEM1024 MLKEMSet = 0x0003
)

func (s MLKEMSet) valid() bool { return s >= MLKEM512 && s <= MLKEM1024 }
func (MLKEMSet) refusal() RC   { return RCParms }

// MLDSASet is a TPMI_MLDSA_PARAMETER_SET (version 1.85).
type MLDSASet uint16

// The parameter sets of FIPS 204.
const (
	MLDSA44 MLDSASet = 0x0001
	MLDSA65 MLDSASet = 0x0002
	MLDSA87 MLDSASet = 0x0003
)

func (s MLDSASet) valid() bool { return s >= MLDSA44 && s <= MLDSA87 }
func (MLDSASet) refusal() RC   { return RCParms }
