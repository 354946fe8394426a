package differential

import (
	"maps"

	"github.com/assay-project/assay/tpm2"
)

// makers has, for commands whose random parameters would hardly ever be right,
// the function that makes better ones.
func makers() map[tpm2.CC]func(*generator, *step) after {
	all := objectMakers()
	maps.Copy(all, stateMakers())
	return all
}

func objectMakers() map[tpm2.CC]func(*generator, *step) after {
	return map[tpm2.CC]func(*generator, *step) after{
		tpm2.CCCreate:                    makeCreate,
		tpm2.CCCreatePrimary:             makeCreatePrimary,
		tpm2.CCCreateLoaded:              makeCreateLoaded,
		tpm2.CCLoad:                      makeLoad,
		tpm2.CCLoadExternal:              makeLoadExternal,
		tpm2.CCEvictControl:              makeEvictControl,
		tpm2.CCObjectChangeAuth:          makeObjectChangeAuth,
		tpm2.CCContextSave:               makeContextSave,
		tpm2.CCContextLoad:               makeContextLoad,
		tpm2.CCFlushContext:              makeFlush,
		tpm2.CCSign:                      makeSign,
		tpm2.CCVerifySignature:           makeVerifySignature,
		tpm2.CCHash:                      makeHash,
		tpm2.CCHMAC:                      makeHMAC,
		tpm2.CCHMACStart:                 makeHMACStart,
		tpm2.CCHashSequenceStart:         makeHashSequenceStart,
		tpm2.CCSequenceUpdate:            makeSequenceUpdate,
		tpm2.CCSequenceComplete:          makeSequenceComplete,
		tpm2.CCEventSequenceComplete:     makeEventSequenceComplete,
		tpm2.CCEncryptDecrypt:            makeEncryptDecrypt,
		tpm2.CCEncryptDecrypt2:           makeEncryptDecrypt2,
		tpm2.CCECDHKeyGen:                makeECDHKeyGen,
		tpm2.CCECDHZGen:                  makeECDHZGen,
		tpm2.CCZGen2Phase:                makeZGen2Phase,
		tpm2.CCCommit:                    makeCommit,
		tpm2.CCRSAEncrypt:                makeRSAEncrypt,
		tpm2.CCRSADecrypt:                makeRSADecrypt,
		tpm2.CCQuote:                     makeQuote,
		tpm2.CCCertify:                   makeCertify,
		tpm2.CCCertifyCreation:           makeCertifyCreation,
		tpm2.CCGetTime:                   makeGetTime,
		tpm2.CCGetSessionAuditDigest:     makeSessionAuditDigest,
		tpm2.CCGetCommandAuditDigest:     makeCommandAuditDigest,
		tpm2.CCNVCertify:                 makeNVCertify,
		tpm2.CCMakeCredential:            makeMakeCredential,
		tpm2.CCActivateCredential:        makeActivateCredential,
		tpm2.CCUnseal:                    makeUnseal,
		tpm2.CCRewrap:                    makeRewrap,
		tpm2.CCCertifyX509:               makeCertifyX509,
		tpm2.CCPolicyCounterTimer:        makePolicyCounterTimer,
		tpm2.CCSetCommandCodeAuditStatus: makeAuditStatus,
		tpm2.CCPCRSetAuthPolicy:          makePCRSetAuthPolicy,
		tpm2.CCNVUndefineSpaceSpecial:    makeNVUndefineSpecial,
		tpm2.CCNVUndefineSpace:           makeNVUndefine,
		tpm2.CCChangeEPS:                 makeChangeSeed,
		tpm2.CCChangePPS:                 makeChangeSeed,
		tpm2.CCHierarchyControl:          makeHierarchyControl,
		tpm2.CCDuplicate:                 makeDuplicate,
		tpm2.CCImport:                    makeImport,
	}
}

func stateMakers() map[tpm2.CC]func(*generator, *step) after {
	return map[tpm2.CC]func(*generator, *step) after{
		tpm2.CCNVDefineSpace:              makeNVDefine,
		tpm2.CCNVWrite:                    makeNV,
		tpm2.CCNVRead:                     makeNV,
		tpm2.CCNVIncrement:                makeNV,
		tpm2.CCNVExtend:                   makeNV,
		tpm2.CCNVSetBits:                  makeNV,
		tpm2.CCNVWriteLock:                makeNV,
		tpm2.CCNVReadLock:                 makeNV,
		tpm2.CCNVChangeAuth:               makeNVChangeAuth,
		tpm2.CCHierarchyChangeAuth:        makeHierarchyChangeAuth,
		tpm2.CCSetPrimaryPolicy:           makeSetPrimaryPolicy,
		tpm2.CCClear:                      makeClear,
		tpm2.CCDictionaryAttackParameters: makeDAParameters,
		tpm2.CCSelfTest:                   makeSelfTest,
		tpm2.CCPCRExtend:                  makePCRExtend,
		tpm2.CCPCRRead:                    makePCRRead,
		tpm2.CCGetCapability:              makeGetCapability,
		tpm2.CCPolicyAuthorize:            makePolicyAuthorize,
		tpm2.CCPolicySecret:               makePolicySecret,
		tpm2.CCPolicyTicket:               makePolicyTicket,
		tpm2.CCPolicySigned:               makePolicySigned,
		tpm2.CCPolicyOR:                   makePolicyOR,
		tpm2.CCPolicyPCR:                  makePolicyPCR,
		tpm2.CCPolicyNV:                   makePolicyNV,
		tpm2.CCPolicyAuthorizeNV:          makePolicyAuthorizeNV,
		tpm2.CCPolicyLocality:             makePolicyLocality,
		tpm2.CCPolicyCommandCode:          makePolicyCommandCode,
		tpm2.CCPolicyCpHash:               makePolicyHash,
		tpm2.CCPolicyNameHash:             makePolicyHash,
		tpm2.CCPolicyTemplate:             makePolicyHash,
	}
}

// weights say how often, in percent of its turns, a command is taken; without one it is 20.
var weights = map[tpm2.CC]int{
	tpm2.CCCreate: 60, tpm2.CCCreatePrimary: 50, tpm2.CCCreateLoaded: 40, tpm2.CCLoadExternal: 60, tpm2.CCLoad: 40,
	tpm2.CCSign: 50, tpm2.CCVerifySignature: 30, tpm2.CCHash: 20, tpm2.CCHMAC: 40, tpm2.CCSequenceUpdate: 40, tpm2.CCSequenceComplete: 30,
	tpm2.CCNVDefineSpace: 60, tpm2.CCNVWrite: 80, tpm2.CCNVRead: 80, tpm2.CCNVUndefineSpace: 30, tpm2.CCNVExtend: 30, tpm2.CCNVIncrement: 40, tpm2.CCNVSetBits: 30,
	tpm2.CCUnseal: 60, tpm2.CCReadPublic: 40, tpm2.CCGetCapability: 40, tpm2.CCEncryptDecrypt2: 40,
	tpm2.CCStartup: 3, tpm2.CCShutdown: 4, tpm2.CCClear: 2, tpm2.CCChangePPS: 1, tpm2.CCChangeEPS: 1, tpm2.CCHierarchyControl: 4, tpm2.CCHierarchyChangeAuth: 8,
	tpm2.CCPCRAllocate: 2, tpm2.CCSetAlgorithmSet: 2, tpm2.CCSelfTest: 2, tpm2.CCIncrementalSelfTest: 2, tpm2.CCClearControl: 4, tpm2.CCPPCommands: 5,
	tpm2.CCDictionaryAttackLockReset: 40, tpm2.CCDictionaryAttackParameters: 15, tpm2.CCClockSet: 10, tpm2.CCTestParms: 15,
	// Not of libtpms 0.9.2, or not ours: see [Differences].
	tpm2.CCReadOnlyControl: 0, tpm2.CCNVDefineSpace2: 0, tpm2.CCNVReadPublic2: 0, tpm2.CCECCEncrypt: 0, tpm2.CCECCDecrypt: 0, tpm2.CCPolicyParameters: 0, tpm2.CCPolicyCapability: 0,
}
