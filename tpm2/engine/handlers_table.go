package engine

import "github.com/assay-project/assay/tpm2"

// handlers has the function of each command that this engine runs, by code. A
// command without one is not offered.
var handlers = map[tpm2.CC]handler{
	tpm2.CCStartup:                    bind(startup),
	tpm2.CCShutdown:                   bind(shutdownCommand),
	tpm2.CCStirRandom:                 bind(stirRandom),
	tpm2.CCStartAuthSession:           bind(startAuthSession),
	tpm2.CCGetRandom:                  bind(getRandom),
	tpm2.CCPolicyRestart:              bind(policyRestart),
	tpm2.CCPCRAllocate:                bind(pcrAllocate),
	tpm2.CCPCRSetAuthPolicy:           bind(pcrSetAuthPolicy),
	tpm2.CCPCREvent:                   bind(pcrEvent),
	tpm2.CCPCRReset:                   bind(pcrReset),
	tpm2.CCGetCapability:              bind(getCapability),
	tpm2.CCPCRRead:                    bind(pcrRead),
	tpm2.CCPCRExtend:                  bind(pcrExtend),
	tpm2.CCPCRSetAuthValue:            bind(pcrSetAuthValue),
	tpm2.CCHierarchyControl:           bind(hierarchyControl),
	tpm2.CCSetPrimaryPolicy:           bind(setPrimaryPolicy),
	tpm2.CCChangePPS:                  bind(changePPS),
	tpm2.CCChangeEPS:                  bind(changeEPS),
	tpm2.CCClear:                      bind(clearCommand),
	tpm2.CCClearControl:               bind(clearControl),
	tpm2.CCHierarchyChangeAuth:        bind(hierarchyChangeAuth),
	tpm2.CCReadOnlyControl:            bind(readOnlyControl),
	tpm2.CCDictionaryAttackLockReset:  bind(dictionaryAttackLockReset),
	tpm2.CCDictionaryAttackParameters: bind(dictionaryAttackParameters),
	tpm2.CCReadClock:                  bind(readClock),
	tpm2.CCClockSet:                   bind(clockSet),
	tpm2.CCClockRateAdjust:            bind(clockRateAdjust),
	tpm2.CCPPCommands:                 bind(ppCommands),
	tpm2.CCSetAlgorithmSet:            bind(setAlgorithmSet),
	tpm2.CCFlushContext:               bind(flushContext),
	tpm2.CCEvictControl:               bind(evictControl),
}
