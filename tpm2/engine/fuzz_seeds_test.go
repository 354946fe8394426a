package engine_test

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A meant is a command that succeeds in some scene.
type meant struct {
	cc      tpm2.CC
	handles []tpm2.Handle
	in      wire.Layout
}

// meaningful are commands of every chapter of Part 3, on what the scenes have.
func meaningful() []meant {
	var out []meant
	for _, chapter := range [][]meant{
		meantForAll(), meantForObjects(), meantForKeys(), meantForAttestation(), meantForPolicies(), meantForHierarchies(), meantForNV(),
	} {
		out = append(out, chapter...)
	}
	return out
}

const (
	sceneRSA, sceneECC, sceneRestricted = tpm2.Handle(0x80000000), tpm2.Handle(0x80000001), tpm2.Handle(0x80000002)
	sceneAES, sceneDerive, sceneSealed  = tpm2.Handle(0x80000000), tpm2.Handle(0x80000001), tpm2.Handle(0x80000002)
	sceneSession, scenePolicy           = tpm2.Handle(0x02000000), tpm2.Handle(0x03000001)
)

func meantForAll() []meant {
	pcr16 := selection(tpm2.AlgSHA256, 0, 16)
	return []meant{
		{tpm2.CCStartup, nil, &command.StartupIn{StartupType: tpm2.StartupClear}},
		{tpm2.CCStartup, nil, &command.StartupIn{StartupType: tpm2.StartupState}},
		{tpm2.CCShutdown, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}},
		{tpm2.CCSelfTest, nil, &command.SelfTestIn{}},
		{tpm2.CCIncrementalSelfTest, nil, &command.IncrementalSelfTestIn{ToTest: []tpm2.Alg{tpm2.AlgAES}}},
		{tpm2.CCGetTestResult, nil, nil},
		{tpm2.CCGetRandom, nil, &command.GetRandomIn{BytesRequested: 32}},
		{tpm2.CCStirRandom, nil, &command.StirRandomIn{InData: []byte("noise")}},
		{tpm2.CCGetCapability, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTFixed), PropertyCount: 99}},
		{tpm2.CCTestParms, nil, &command.TestParmsIn{Parameters: tpm2.PublicParmsOf{Type: tpm2.AlgECC, Parameters: eccTemplate(signing).Parameters}}},
		{tpm2.CCStartAuthSession, handles(tpm2.HandleNull, tpm2.HandleOwner), &command.StartAuthSessionIn{
			NonceCaller: make([]byte, 16), SessionType: tpm2.SessionPolicy, Symmetric: aes128(), AuthHash: tpm2.AlgSHA384,
		}},
		{tpm2.CCPCRRead, nil, &command.PCRReadIn{PCRSelectionIn: pcr16}},
		{tpm2.CCPCRExtend, handles(16), &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}}},
		{tpm2.CCPCREvent, handles(16), &command.PCREventIn{EventData: []byte("event")}},
		{tpm2.CCPCRReset, handles(16), nil},
		{tpm2.CCPCRAllocate, handles(tpm2.HandlePlatform), &command.PCRAllocateIn{PCRAllocation: pcr16}},
		{tpm2.CCReadClock, nil, nil},
		{tpm2.CCClockSet, handles(tpm2.HandleOwner), &command.ClockSetIn{NewTime: 1 << 30}},
		{tpm2.CCClockRateAdjust, handles(tpm2.HandleOwner), &command.ClockRateAdjustIn{RateAdjust: 1}},
		{tpm2.CCContextSave, handles(sceneRSA), nil},
		{tpm2.CCContextSave, handles(sceneSession), nil},
		{tpm2.CCContextSave, handles(scenePolicy), nil},
		{tpm2.CCFlushContext, nil, &command.FlushContextIn{FlushHandle: scenePolicy}},
		{tpm2.CCEvictControl, handles(tpm2.HandleOwner, sceneRSA), &command.EvictControlIn{PersistentHandle: 0x81000005}},
		{tpm2.CCEvictControl, handles(tpm2.HandleOwner, scenePersistent), &command.EvictControlIn{PersistentHandle: scenePersistent}},
		{tpm2.CCHash, nil, &command.HashIn{Data: []byte("data"), HashAlg: tpm2.AlgSHA3x256, Hierarchy: tpm2.HandleOwner}},
		{tpm2.CCHashSequenceStart, nil, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA512}},
		{tpm2.CCSequenceUpdate, handles(sceneRSA), &command.SequenceUpdateIn{Buffer: make([]byte, 200)}},
		{tpm2.CCSequenceComplete, handles(sceneRSA), &command.SequenceCompleteIn{Buffer: []byte("end"), Hierarchy: tpm2.HandleOwner}},
		{tpm2.CCSequenceComplete, handles(sceneECC), &command.SequenceCompleteIn{Buffer: []byte("end"), Hierarchy: tpm2.HandleNull}},
		{tpm2.CCEventSequenceComplete, handles(16, sceneRestricted), &command.EventSequenceCompleteIn{Buffer: []byte("end")}},
	}
}

func meantForObjects() []meant {
	in := tpm2.SensitiveCreate{Data: []byte("sealed")}
	template := keyedHashTemplate(fixed | usable)
	external := outsideAES(bothUses)
	derived := tpm2.DeriveTemplate{Public: keyedHashTemplate(fixed | usable | tpm2.AttrSign)}
	derived.Unique = tpm2.Derive{Label: []byte("label"), Context: []byte("context")}
	derivedBytes, _ := wire.Encode(&derived)
	plain, _ := wire.Encode(&template)
	return []meant{
		{tpm2.CCCreate, handles(scenePersistent), &command.CreateIn{InSensitive: in, InPublic: template, CreationPCR: selection(tpm2.AlgSHA1, 0)}},
		{tpm2.CCCreate, handles(scenePersistent), &command.CreateIn{InPublic: eccTemplate(storing)}},
		{tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), &command.CreatePrimaryIn{InPublic: eccTemplate(storing)}},
		{tpm2.CCCreatePrimary, handles(tpm2.HandleEndorsement), &command.CreatePrimaryIn{InPublic: rsaTemplate(storing)}},
		{tpm2.CCCreateLoaded, handles(scenePersistent), &command.CreateLoadedIn{InSensitive: in, InPublic: plain}},
		{tpm2.CCCreateLoaded, handles(sceneDerive), &command.CreateLoadedIn{InPublic: derivedBytes}},
		{tpm2.CCLoadExternal, nil, external.external()},
		{tpm2.CCLoad, handles(scenePersistent), &command.LoadIn{InPrivate: make([]byte, 80), InPublic: template}},
		{tpm2.CCReadPublic, handles(scenePersistent), nil},
		{tpm2.CCUnseal, handles(sceneSealed), nil},
		{tpm2.CCObjectChangeAuth, handles(sceneSealed, scenePersistent), &command.ObjectChangeAuthIn{NewAuth: []byte("new")}},
		{tpm2.CCMakeCredential, handles(scenePersistent), &command.MakeCredentialIn{Credential: make([]byte, 16), ObjectName: make([]byte, 34)}},
		{tpm2.CCActivateCredential, handles(sceneECC, scenePersistent), &command.ActivateCredentialIn{CredentialBlob: make([]byte, 68), Secret: make([]byte, 68)}},
		{tpm2.CCDuplicate, handles(sceneRSA, sceneECC), &command.DuplicateIn{SymmetricAlg: aesCFB(128)}},
		{tpm2.CCDuplicate, handles(sceneRSA, tpm2.HandleNull), &command.DuplicateIn{SymmetricAlg: noSymmetric}},
		{tpm2.CCRewrap, handles(scenePersistent, sceneECC), &command.RewrapIn{InDuplicate: make([]byte, 80), Name: make([]byte, 34), InSymSeed: make([]byte, 68)}},
		{tpm2.CCImport, handles(scenePersistent), &command.ImportIn{ObjectPublic: external.public, Duplicate: make([]byte, 60), SymmetricAlg: noSymmetric}},
	}
}

func meantForKeys() []meant {
	generator := tpm2.ECCPoint{
		X: []byte("\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96"),
		Y: []byte("\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5"),
	}
	kdf := tpm2.KDFScheme{Scheme: tpm2.AlgKDF2, HashAlg: tpm2.AlgSHA256}
	ecdsa := tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	pss := tpm2.SigScheme{Scheme: tpm2.AlgRSAPSS, HashAlg: tpm2.AlgSHA256}
	ticket := tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}
	signature := tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: generator.X, S: generator.Y}
	return []meant{
		{tpm2.CCRSAEncrypt, handles(sceneRSA), &command.RSAEncryptIn{Message: []byte("m"), InScheme: tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA1}}},
		{tpm2.CCRSAEncrypt, handles(sceneRSA), &command.RSAEncryptIn{Message: []byte("m"), InScheme: tpm2.RSADecrypt{Scheme: tpm2.AlgRSAES}}},
		{tpm2.CCRSADecrypt, handles(sceneRSA), &command.RSADecryptIn{CipherText: make([]byte, 128), InScheme: tpm2.RSADecrypt{Scheme: tpm2.AlgNull}}},
		{tpm2.CCECDHKeyGen, handles(sceneECC), nil},
		{tpm2.CCECDHZGen, handles(sceneECC), &command.ECDHZGenIn{InPoint: generator}},
		{tpm2.CCECCParameters, nil, &command.ECCParametersIn{CurveID: tpm2.CurveNISTP521}},
		{tpm2.CCECEphemeral, nil, &command.ECEphemeralIn{CurveID: tpm2.CurveNISTP256}},
		{tpm2.CCZGen2Phase, handles(sceneECC), &command.ZGen2PhaseIn{InQsB: generator, InQeB: generator, InScheme: tpm2.AlgECMQV}},
		{tpm2.CCECCEncrypt, handles(sceneECC), &command.ECCEncryptIn{PlainText: []byte("plain"), InScheme: kdf}},
		{tpm2.CCECCDecrypt, handles(sceneECC), &command.ECCDecryptIn{C1: generator, C2: []byte("cipher"), C3: make([]byte, 32), InScheme: kdf}},
		{tpm2.CCCommit, handles(sceneECC), &command.CommitIn{P1: generator}},
		{tpm2.CCEncryptDecrypt, handles(sceneAES), &command.EncryptDecryptIn{Mode: tpm2.AlgCBC, IVIn: make([]byte, 16), InData: make([]byte, 32)}},
		{tpm2.CCEncryptDecrypt2, handles(sceneAES), &command.EncryptDecrypt2In{Mode: tpm2.AlgCTR, IVIn: make([]byte, 16), InData: make([]byte, 33), Decrypt: true}},
		{tpm2.CCHMAC, handles(sceneHMACKey), &command.HMACIn{Buffer: []byte("data"), InScheme: tpm2.AlgNull}},
		{tpm2.CCHMAC, handles(sceneAES), &command.HMACIn{Buffer: []byte("data"), InScheme: tpm2.AlgCMAC}},
		{tpm2.CCHMACStart, handles(sceneHMACKey), &command.HMACStartIn{InScheme: tpm2.AlgNull}},
		{tpm2.CCSign, handles(sceneECC), &command.SignIn{Digest: make([]byte, 32), InScheme: ecdsa, Validation: ticket}},
		{tpm2.CCSign, handles(sceneRSA), &command.SignIn{Digest: make([]byte, 32), InScheme: pss, Validation: ticket}},
		{tpm2.CCVerifySignature, handles(sceneECC), &command.VerifySignatureIn{Digest: make([]byte, 32), Signature: signature}},
		{tpm2.CCEncapsulate, handles(sceneRSA), nil},
		{tpm2.CCDecapsulate, handles(sceneRSA), &command.DecapsulateIn{Ciphertext: make([]byte, 1088)}},
		{tpm2.CCSignSequenceStart, handles(sceneHMACKey), &command.SignSequenceStartIn{}},
		{tpm2.CCVerifySequenceStart, handles(sceneHMACKey), &command.VerifySequenceStartIn{}},
		{tpm2.CCSignDigest, handles(sceneHMACKey), &command.SignDigestIn{Digest: make([]byte, 32), Validation: ticket}},
		{tpm2.CCVerifyDigestSignature, handles(sceneECC), &command.VerifyDigestSignatureIn{Digest: make([]byte, 32), Signature: signature}},
	}
}

func meantForAttestation() []meant {
	scheme := tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	creation := tpm2.CreationTicket{Hierarchy: tpm2.HandleOwner, Digest: make([]byte, 64)}
	return []meant{
		{tpm2.CCCertify, handles(scenePersistent, sceneECC), &command.CertifyIn{QualifyingData: []byte("q"), InScheme: scheme}},
		{tpm2.CCCertifyCreation, handles(sceneECC, scenePersistent), &command.CertifyCreationIn{CreationHash: make([]byte, 32), InScheme: scheme, CreationTicket: creation}},
		{tpm2.CCQuote, handles(sceneECC), &command.QuoteIn{InScheme: scheme, PCRSelect: selection(tpm2.AlgSHA256, 0, 7)}},
		{tpm2.CCQuote, handles(sceneRestricted), &command.QuoteIn{InScheme: noScheme(), PCRSelect: selection(tpm2.AlgSHA1, 17)}},
		{tpm2.CCGetTime, handles(tpm2.HandleEndorsement, sceneECC), &command.GetTimeIn{InScheme: scheme}},
		{tpm2.CCGetSessionAuditDigest, handles(tpm2.HandleEndorsement, sceneECC, sceneSession), &command.GetSessionAuditDigestIn{InScheme: scheme}},
		{tpm2.CCGetCommandAuditDigest, handles(tpm2.HandleEndorsement, tpm2.HandleNull), &command.GetCommandAuditDigestIn{InScheme: noScheme()}},
		{tpm2.CCCertifyX509, handles(scenePersistent, sceneECC), &command.CertifyX509In{InScheme: scheme, PartialCertificate: []byte{0x30, 0}}},
		{tpm2.CCNVCertify, handles(sceneRSA, tpm2.HandleOwner, sceneIndex), &command.NVCertifyIn{InScheme: scheme, Size: 8}},
		{tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), &command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetRandom}}},
		{tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), &command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgSHA384}},
	}
}

func meantForPolicies() []meant {
	p := handles(scenePolicy)
	two := []tpm2.Digest2B{make([]byte, 32), asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCDuplicate)))}
	signature := tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: make([]byte, 32)}
	return []meant{
		{tpm2.CCPolicyRestart, p, nil},
		{tpm2.CCPolicySigned, handles(sceneHMACKey, scenePolicy), &command.PolicySignedIn{Auth: signature}},
		{tpm2.CCPolicySecret, handles(tpm2.HandleEndorsement, scenePolicy), &command.PolicySecretIn{Expiration: -100}},
		{tpm2.CCPolicySecret, handles(sceneIndex+5, scenePolicy), &command.PolicySecretIn{}},
		{tpm2.CCPolicyTicket, p, &command.PolicyTicketIn{AuthName: be32(uint32(tpm2.HandleEndorsement)), Timeout: make([]byte, 8), Ticket: tpm2.AuthTicket{Tag: tpm2.TagAuthSecret, Hierarchy: tpm2.HandleOwner, Digest: make([]byte, 64)}}},
		{tpm2.CCPolicyOR, p, &command.PolicyORIn{PHashList: two}},
		{tpm2.CCPolicyPCR, p, &command.PolicyPCRIn{PCRs: selection(tpm2.AlgSHA256, 0)}},
		{tpm2.CCPolicyLocality, p, &command.PolicyLocalityIn{Locality: 1}},
		{tpm2.CCPolicyNV, handles(tpm2.HandleOwner, sceneIndex, scenePolicy), &command.PolicyNVIn{OperandB: []byte{5}, Offset: 7}},
		{tpm2.CCPolicyCounterTimer, p, &command.PolicyCounterTimerIn{OperandB: make([]byte, 8), Operation: tpm2.OpUnsignedGE}},
		{tpm2.CCPolicyCommandCode, p, &command.PolicyCommandCodeIn{Code: tpm2.CCSign}},
		{tpm2.CCPolicyPhysicalPresence, p, nil},
		{tpm2.CCPolicyCpHash, p, &command.PolicyCpHashIn{CpHashA: make([]byte, 32)}},
		{tpm2.CCPolicyNameHash, p, &command.PolicyNameHashIn{NameHash: make([]byte, 32)}},
		{tpm2.CCPolicyDuplicationSelect, p, &command.PolicyDuplicationSelectIn{NewParentName: make([]byte, 34)}},
		{tpm2.CCPolicyAuthorize, p, &command.PolicyAuthorizeIn{KeySign: make([]byte, 34), CheckTicket: tpm2.VerifiedTicket{Tag: tpm2.TagVerified, Hierarchy: tpm2.HandleNull}}},
		{tpm2.CCPolicyAuthorizeNV, handles(tpm2.HandleOwner, sceneIndex, scenePolicy), nil},
		{tpm2.CCPolicyAuthValue, p, nil},
		{tpm2.CCPolicyPassword, p, nil},
		{tpm2.CCPolicyGetDigest, p, nil},
		{tpm2.CCPolicyNvWritten, p, &command.PolicyNvWrittenIn{WrittenSet: true}},
		{tpm2.CCPolicyTemplate, p, &command.PolicyTemplateIn{TemplateHash: make([]byte, 32)}},
		{tpm2.CCPolicyCapability, p, &command.PolicyCapabilityIn{OperandB: make([]byte, 4), Operation: tpm2.OpUnsignedGE, Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTFixed)}},
		{tpm2.CCPolicyParameters, p, &command.PolicyParametersIn{PHash: make([]byte, 32)}},
	}
}

func meantForHierarchies() []meant {
	platform, owner, lockout := handles(tpm2.HandlePlatform), handles(tpm2.HandleOwner), handles(tpm2.HandleLockout)
	return []meant{
		{tpm2.CCHierarchyControl, platform, &command.HierarchyControlIn{Enable: tpm2.HandleOwner}},
		{tpm2.CCHierarchyControl, platform, &command.HierarchyControlIn{Enable: tpm2.HandlePlatformNV}},
		{tpm2.CCSetPrimaryPolicy, lockout, &command.SetPrimaryPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256}},
		{tpm2.CCChangePPS, platform, nil},
		{tpm2.CCChangeEPS, platform, nil},
		{tpm2.CCClear, lockout, nil},
		{tpm2.CCClearControl, platform, &command.ClearControlIn{Disable: true}},
		{tpm2.CCHierarchyChangeAuth, owner, &command.HierarchyChangeAuthIn{NewAuth: []byte("new")}},
		{tpm2.CCReadOnlyControl, platform, &command.ReadOnlyControlIn{State: false}},
		{tpm2.CCDictionaryAttackLockReset, lockout, nil},
		{tpm2.CCDictionaryAttackParameters, lockout, &command.DictionaryAttackParametersIn{NewMaxTries: 9, NewRecoveryTime: 9, LockoutRecovery: 9}},
		{tpm2.CCPPCommands, platform, &command.PPCommandsIn{SetList: []tpm2.CC{tpm2.CCClear}}},
		{tpm2.CCSetAlgorithmSet, platform, &command.SetAlgorithmSetIn{}},
		{tpm2.CCPCRSetAuthPolicy, platform, &command.PCRSetAuthPolicyIn{AuthPolicy: make([]byte, 32), HashAlg: tpm2.AlgSHA256, PCRNum: 20}},
		{tpm2.CCPCRSetAuthValue, handles(20), &command.PCRSetAuthValueIn{Auth: make([]byte, 32)}},
	}
}

func meantForNV() []meant {
	at := func(i int) []tpm2.Handle { return handles(tpm2.HandleOwner, sceneIndex+tpm2.Handle(i)) }
	p := tpm2.NVPublic{NVIndex: sceneIndex + 9, NameAlg: tpm2.AlgSHA384, DataSize: 99, Attributes: tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVWriteDefine}
	return []meant{
		{tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: p}},
		{tpm2.CCNVDefineSpace2, handles(tpm2.HandleOwner), &command.NVDefineSpace2In{PublicInfo: tpm2.NVPublic2{HandleType: tpm2.KindNVIndex, Public: p}}},
		{tpm2.CCNVUndefineSpace, at(1), nil},
		{tpm2.CCNVUndefineSpaceSpecial, handles(sceneIndex, tpm2.HandlePlatform), nil},
		{tpm2.CCNVReadPublic, handles(sceneIndex), nil},
		{tpm2.CCNVReadPublic2, handles(sceneIndex), nil},
		{tpm2.CCNVWrite, at(0), &command.NVWriteIn{Data: []byte("ab"), Offset: 6}},
		{tpm2.CCNVWrite, at(5), &command.NVWriteIn{Data: []byte{0, 0, 0, 1, 0, 0, 0, 2}}},
		{tpm2.CCNVIncrement, at(1), nil},
		{tpm2.CCNVSetBits, at(2), &command.NVSetBitsIn{Bits: 1 << 63}},
		{tpm2.CCNVExtend, at(3), &command.NVExtendIn{Data: []byte("more")}},
		{tpm2.CCNVWriteLock, at(0), nil},
		{tpm2.CCNVReadLock, at(0), nil},
		{tpm2.CCNVGlobalWriteLock, handles(tpm2.HandleOwner), nil},
		{tpm2.CCNVRead, at(1), &command.NVReadIn{Size: 8}},
		{tpm2.CCNVRead, handles(sceneIndex+4, sceneIndex+4), &command.NVReadIn{Size: 4, Offset: 4}},
		{tpm2.CCNVChangeAuth, handles(sceneIndex), &command.NVChangeAuthIn{NewAuth: []byte("new")}},
	}
}
