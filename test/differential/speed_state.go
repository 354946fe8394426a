package differential

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// stateRows are the commands about registers, indices and the TPM itself. Those that
// change permanent state have swtpm write its file, which a TPM of memory has none of:
// see [KeptRows].
func stateRows() []Row {
	none := new(command.None)
	platform, owner, lockout := tpm2.HandlePlatform, tpm2.HandleOwner, tpm2.HandleLockout
	rsa := tpm2.PublicParmsOf{Type: tpm2.AlgRSA, Parameters: rsaSigner().InPublic.Parameters}
	return []Row{
		{"PCR_Event, 1 KiB", 300, one(tpm2.CCPCREvent, &command.PCREventIn{EventData: make([]byte, 1024)}, 16)},
		{"PCR_Reset", 300, one(tpm2.CCPCRReset, none, 16)},
		{"PCR_SetAuthValue", 300, one(tpm2.CCPCRSetAuthValue, new(command.PCRSetAuthValueIn), 20)},
		{"PCR_SetAuthPolicy", 100, one(tpm2.CCPCRSetAuthPolicy, &command.PCRSetAuthPolicyIn{HashAlg: tpm2.AlgNull, PCRNum: 20}, platform)},
		{"PCR_Allocate", 100, one(tpm2.CCPCRAllocate, &command.PCRAllocateIn{PCRAllocation: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.PCRSelect{255, 255, 255}}}}, platform)},
		{"SetAlgorithmSet", 100, one(tpm2.CCSetAlgorithmSet, new(command.SetAlgorithmSetIn), platform)},
		{"NV_ReadPublic", 300, indexOf(0, 32, func(at tpm2.Handle) (work, error) { return always(tpm2.CCNVReadPublic, none, at) })},
		{"NV_Extend", 100, indexOf(tpm2.NVExtend, 32, func(at tpm2.Handle) (work, error) {
			return always(tpm2.CCNVExtend, &command.NVExtendIn{Data: make([]byte, 32)}, owner, at)
		})},
		{"NV_SetBits", 300, indexOf(tpm2.NVBits, 8, func(at tpm2.Handle) (work, error) {
			return always(tpm2.CCNVSetBits, &command.NVSetBitsIn{Bits: 1}, owner, at)
		})},
		{"NV_WriteLock", 300, indexOf(0, 32, func(at tpm2.Handle) (work, error) { return always(tpm2.CCNVWriteLock, none, owner, at) })},
		{"NV_ReadLock", 300, indexOf(0, 32, func(at tpm2.Handle) (work, error) { return always(tpm2.CCNVReadLock, none, owner, at) })},
		{"NV_GlobalWriteLock", 100, one(tpm2.CCNVGlobalWriteLock, none, owner)},
		{"GetTestResult", 300, one(tpm2.CCGetTestResult, none)},
		{"IncrementalSelfTest, SHA-256", 300, one(tpm2.CCIncrementalSelfTest, &command.IncrementalSelfTestIn{ToTest: []tpm2.Alg{tpm2.AlgSHA256}})},
		{"TestParms, RSA-2048", 300, one(tpm2.CCTestParms, &command.TestParmsIn{Parameters: rsa})},
		{"ClockRateAdjust, no change", 300, one(tpm2.CCClockRateAdjust, new(command.ClockRateAdjustIn), owner)},
		{"ClockSet", 100, func(*Served) (work, error) {
			return work{request: func(i int) ([]byte, error) {
				return encode(tpm2.CCClockSet, &command.ClockSetIn{NewTime: 1<<40 + uint64(i)<<20}, owner)
			}}, nil
		}},
		{"SetCommandCodeAuditStatus, no change", 100, one(tpm2.CCSetCommandCodeAuditStatus, &command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgNull}, owner)},
		{"DictionaryAttackLockReset", 100, one(tpm2.CCDictionaryAttackLockReset, none, lockout)},
		{"DictionaryAttackParameters", 100, one(tpm2.CCDictionaryAttackParameters, &command.DictionaryAttackParametersIn{NewMaxTries: 32, NewRecoveryTime: 600, LockoutRecovery: 1000}, lockout)},
		{"HierarchyChangeAuth", 100, one(tpm2.CCHierarchyChangeAuth, new(command.HierarchyChangeAuthIn), owner)},
		{"SetPrimaryPolicy", 100, one(tpm2.CCSetPrimaryPolicy, &command.SetPrimaryPolicyIn{HashAlg: tpm2.AlgNull}, owner)},
		{"HierarchyControl, no change", 300, one(tpm2.CCHierarchyControl, &command.HierarchyControlIn{Enable: owner, State: true}, platform)},
		{"ClearControl", 100, one(tpm2.CCClearControl, new(command.ClearControlIn), platform)},
		{"ChangeEPS", 30, one(tpm2.CCChangeEPS, none, platform)},
		{"ChangePPS", 30, one(tpm2.CCChangePPS, none, platform)},
		{"Clear", 30, one(tpm2.CCClear, none, lockout)},
	}
}

// KeptRows are commands that change permanent state each time, for programs that all
// keep it in a file.
func KeptRows() []Row {
	other := func(i int) []byte { return binary.BigEndian.AppendUint32(make([]byte, 28), uint32(i)) }
	return []Row{
		{"NV_Write, 32 other bytes each time", 30, indexOf(0, 32, func(at tpm2.Handle) (work, error) {
			return work{request: func(i int) ([]byte, error) {
				return encode(tpm2.CCNVWrite, &command.NVWriteIn{Data: other(i + 1)}, tpm2.HandleOwner, at)
			}}, nil
		})},
		{"NV_Increment", 30, func(s *Served) (work, error) {
			at, err := s.define(tpm2.NVCounter, 8)
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCNVIncrement, new(command.None), tpm2.HandleOwner, at)
		}},
		{"NV_DefineSpace and NV_UndefineSpace", 30, func(*Served) (work, error) {
			p := nvPublic(0x01002000, 0, 32)
			return inTurn(sameTurn(tpm2.CCNVDefineSpace, &command.NVDefineSpaceIn{PublicInfo: p}, tpm2.HandleOwner),
				sameTurn(tpm2.CCNVUndefineSpace, new(command.None), tpm2.HandleOwner, p.NVIndex)), nil
		}},
		{"EvictControl, P-256, to and fro", 30, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			const kept = 0x81000001
			in := &command.EvictControlIn{PersistentHandle: kept}
			return inTurn(sameTurn(tpm2.CCEvictControl, in, tpm2.HandleOwner, k.Handle), sameTurn(tpm2.CCEvictControl, in, tpm2.HandleOwner, kept)), nil
		})},
	}
}

func nvPublic(at tpm2.Handle, kind tpm2.NVType, size uint16) tpm2.NVPublic {
	attr := tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVWriteSTClear | tpm2.NVReadSTClear | tpm2.NVNoDA
	if kind == tpm2.NVCounter {
		attr &^= tpm2.NVWriteSTClear
	}
	return tpm2.NVPublic{NVIndex: at, NameAlg: tpm2.AlgSHA256, Attributes: attr | kind.Attributes(), DataSize: size}
}

// define makes an index of the owner that no row has had.
func (s *Served) define(kind tpm2.NVType, size uint16) (tpm2.Handle, error) {
	s.indices++
	at := 0x01001000 + s.indices
	_, err := s.do(tpm2.CCNVDefineSpace, &command.NVDefineSpaceIn{PublicInfo: nvPublic(at, kind, size)}, nil, tpm2.HandleOwner)
	return at, err
}

// index makes an index that is written: zeros, or nothing but the kind's first value.
func (s *Served) index(kind tpm2.NVType, size uint16) (tpm2.Handle, error) {
	at, err := s.define(kind, size)
	if err != nil {
		return 0, err
	}
	cc, in := tpm2.CCNVWrite, wire.Layout(&command.NVWriteIn{Data: make([]byte, size)})
	switch kind {
	case tpm2.NVExtend:
		cc, in = tpm2.CCNVExtend, &command.NVExtendIn{Data: make([]byte, size)}
	case tpm2.NVBits:
		cc, in = tpm2.CCNVSetBits, &command.NVSetBitsIn{Bits: 1}
	}
	_, err = s.do(cc, in, nil, tpm2.HandleOwner, at)
	return at, err
}

// indexOf is a row about one index.
func indexOf(kind tpm2.NVType, size uint16, of func(at tpm2.Handle) (work, error)) func(*Served) (work, error) {
	return func(s *Served) (work, error) {
		at, err := s.index(kind, size)
		if err != nil {
			return work{}, err
		}
		return of(at)
	}
}
