package engine

import (
	"github.com/assay-project/assay/tpm2"
)

// What the TPM says of itself. The vendor strings begin with "SW", by which
// tools know a software TPM. The TCG registers manufacturers and has none of this
// name: the placeholder is that of its reference code, which software knows.
const (
	manufacturer  = "XYZ "
	vendorString1 = "SW  "
	vendorString2 = "Assa"
	vendorString3 = "y   "

	// firmwareVersion changes when the engine behaves in another way; a quote tells it.
	firmwareVersion1 = 0x0001_0000
	firmwareVersion2 = 0
)

// word packs a string of four bytes as TPM_PT values have them.
func word(s string) uint32 {
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

// groupSize is the number of properties in a group: PT_FIXED and PT_VAR (Part 2, 6.13).
const groupSize = 0x100

// capProperties lists properties from the given one, within its group.
func (t *TPM) capProperties(from uint32, limit int) (out []tpm2.TaggedProperty, more bool) {
	var all []tpm2.TaggedProperty
	switch {
	case from < uint32(tpm2.PTVar):
		if t.fixed == nil {
			t.fixed = append(t.fixedProperties(), t.profile.parameterSets()...)
		}
		all = t.fixed
	case from < uint32(tpm2.PTVar)+groupSize:
		all = t.variableProperties()
	}
	return page(all, func(p tpm2.TaggedProperty) tpm2.PT { return p.Property }, from, limit)
}

// specification returns what PT_REVISION, PT_DAY_OF_YEAR and PT_YEAR say.
func (p *Profile) specification() (revision, day, year uint32) {
	if p.Version185 {
		return 185, 1, 0 // errata 1: from 1.85 on the day is their version, and there is no year
	}
	return 183, 25, 2024
}

// modes is TPM_PT_MODES (Part 2, 8.10): FIPS 140-3 where the profile has approved
// algorithms only and the validated module computes. The category of the last command's
// service, bits 3:2, is not told and stays "no security service".
func (t *TPM) modes() tpm2.ModeAttributes {
	if t.profile.FIPS && t.validated {
		return tpm2.ModeFIPS140v3
	}
	return 0
}

// fixedProperties are those that do not change while the firmware does not (PT_FIXED).
func (t *TPM) fixedProperties() []tpm2.TaggedProperty {
	revision, day, year := t.profile.specification()
	n := uint32(len(t.commands()))
	l := &t.limits
	size := func(n int) uint32 { return uint32(n) } // limits of a profile are small
	return []tpm2.TaggedProperty{
		{Property: tpm2.PTFamilyIndicator, Value: word("2.0\x00")},
		{Property: tpm2.PTLevel, Value: 0},
		{Property: tpm2.PTRevision, Value: revision},
		{Property: tpm2.PTDayOfYear, Value: day},
		{Property: tpm2.PTYear, Value: year},
		{Property: tpm2.PTManufacturer, Value: word(manufacturer)},
		{Property: tpm2.PTVendorString1, Value: word(vendorString1)},
		{Property: tpm2.PTVendorString2, Value: word(vendorString2)},
		{Property: tpm2.PTVendorString3, Value: word(vendorString3)},
		{Property: tpm2.PTVendorString4, Value: 0},
		{Property: tpm2.PTVendorTPMType, Value: 1},
		{Property: tpm2.PTFirmwareVersion1, Value: firmwareVersion1},
		{Property: tpm2.PTFirmwareVersion2, Value: firmwareVersion2},
		{Property: tpm2.PTInputBuffer, Value: tpm2.MaxBuffer},
		{Property: tpm2.PTHRTransientMin, Value: size(l.Transient)},
		{Property: tpm2.PTHRPersistentMin, Value: size(l.Persistent)},
		{Property: tpm2.PTHRLoadedMin, Value: size(l.Sessions)},
		{Property: tpm2.PTActiveSessionsMax, Value: maxActiveSessions},
		{Property: tpm2.PTPCRCount, Value: tpm2.NumPCR},
		{Property: tpm2.PTPCRSelectMin, Value: tpm2.NumPCR / 8},
		{Property: tpm2.PTContextGapMax, Value: maxContextGap},
		{Property: tpm2.PTNVCountersMax, Value: 0}, // no limit but that of indices
		{Property: tpm2.PTNVIndexMax, Value: size(l.NVIndex)},
		{Property: tpm2.PTMemory, Value: uint32(tpm2.MemorySharedNV | tpm2.MemoryObjectCopiedToRAM)},
		{Property: tpm2.PTClockUpdate, Value: clockUpdate},
		{Property: tpm2.PTContextHash, Value: uint32(tpm2.AlgSHA512)},
		{Property: tpm2.PTContextSym, Value: uint32(tpm2.AlgAES)},
		{Property: tpm2.PTContextSymSize, Value: 256},
		{Property: tpm2.PTOrderlyCount, Value: orderlyCount},
		{Property: tpm2.PTMaxCommandSize, Value: size(l.Command)},
		{Property: tpm2.PTMaxResponseSize, Value: size(l.Command)},
		{Property: tpm2.PTMaxDigest, Value: size(t.profile.maxDigest())},
		{Property: tpm2.PTMaxObjectContext, Value: t.profile.maxContext()},
		{Property: tpm2.PTMaxSessionContext, Value: t.profile.maxContext()},
		{Property: tpm2.PTPSFamilyIndicator, Value: 1}, // PC Client
		{Property: tpm2.PTPSLevel, Value: 0},
		{Property: tpm2.PTPSRevision, Value: 0x106},
		{Property: tpm2.PTPSDayOfYear, Value: 28},
		{Property: tpm2.PTPSYear, Value: 2025},
		{Property: tpm2.PTSplitMax, Value: 0x80},
		{Property: tpm2.PTTotalCommands, Value: n},
		{Property: tpm2.PTLibraryCommands, Value: n},
		{Property: tpm2.PTVendorCommands, Value: 0},
		{Property: tpm2.PTNVBufferMax, Value: size(l.NVBuffer)},
		{Property: tpm2.PTModes, Value: uint32(t.modes())},
		{Property: tpm2.PTMaxCapBuffer, Value: capBuffer},
	}
}

// orderlyCount is how far an orderly counter may go before it is written to
// permanent state (Part 1, 37.2.7).
const orderlyCount = 0xff

// maxContext bounds the blob of a saved context (Part 2, 14.5): as libtpms has it, but
// for the private keys of ML-DSA.
func (p *Profile) maxContext() uint32 {
	if p.OffersAlg(tpm2.AlgMLDSA) || p.OffersAlg(tpm2.AlgHashMLDSA) {
		return tpm2.MaxContext
	}
	return 2592
}

// left is what a limit leaves of a number: a state that was taken over may have more.
func left(limit int, n uint32) uint32 { return uint32(max(limit-int(n), 0)) }

// countersAvailable is how many more counters there is room for.
func (t *TPM) countersAvailable() uint32 {
	nv := &t.permanent.nv
	return uint32(max(min(t.limits.NVIndices-len(nv.indices), (t.limits.NVBytes-nv.bytes())/8), 0))
}

// variableProperties are those that change (PT_VAR).
func (t *TPM) variableProperties() []tpm2.TaggedProperty {
	loaded := uint32(len(t.sessionHandles(false)))
	active := loaded + uint32(len(t.sessionHandles(true)))
	transient := uint32(0)
	for _, o := range t.vol.objects {
		if o == nil {
			transient++
		}
	}
	d := &t.permanent.dictionary
	nv := &t.permanent.nv
	persistent := uint32(len(t.permanent.objects))
	return []tpm2.TaggedProperty{
		{Property: tpm2.PTPermanent, Value: uint32(t.permanentAttributes())},
		{Property: tpm2.PTStartupClear, Value: uint32(t.startupClearAttributes())},
		{Property: tpm2.PTHRNVIndex, Value: uint32(len(nv.indices))},
		{Property: tpm2.PTHRLoaded, Value: loaded},
		{Property: tpm2.PTHRLoadedAvail, Value: left(t.limits.Sessions, loaded)},
		{Property: tpm2.PTHRActive, Value: active},
		{Property: tpm2.PTHRActiveAvail, Value: maxActiveSessions - active},
		{Property: tpm2.PTHRTransientAvail, Value: transient},
		{Property: tpm2.PTHRPersistent, Value: persistent},
		{Property: tpm2.PTHRPersistentAvail, Value: left(t.limits.Persistent, persistent)},
		{Property: tpm2.PTNVCounters, Value: nv.counters()},
		{Property: tpm2.PTNVCountersAvail, Value: t.countersAvailable()},
		{Property: tpm2.PTAlgorithmSet, Value: t.permanent.algorithmSet},
		{Property: tpm2.PTLoadedCurves, Value: uint32(len(t.profile.Curves))},
		{Property: tpm2.PTLockoutCounter, Value: d.failedTries},
		{Property: tpm2.PTMaxAuthFail, Value: d.maxTries},
		{Property: tpm2.PTLockoutInterval, Value: d.recoveryTime},
		{Property: tpm2.PTLockoutRecovery, Value: d.lockoutRecovery},
		{Property: tpm2.PTNVWriteRecovery, Value: 0},
		{Property: tpm2.PTAuditCounter0, Value: uint32(t.permanent.auditCounter >> 32)},
		{Property: tpm2.PTAuditCounter1, Value: uint32(t.permanent.auditCounter)},
	}
}

// permanentAttributes is the TPMA_PERMANENT of the moment (Part 2, 8.6).
func (t *TPM) permanentAttributes() tpm2.PermanentAttributes {
	a := tpm2.PermanentTPMGeneratedEPS
	set := func(on bool, bit tpm2.PermanentAttributes) {
		if on {
			a |= bit
		}
	}
	p := &t.permanent
	set(len(p.owner.auth) != 0, tpm2.PermanentOwnerAuthSet)
	set(len(p.endorsement.auth) != 0, tpm2.PermanentEndorsementAuthSet)
	set(len(p.lockout.auth) != 0, tpm2.PermanentLockoutAuthSet)
	set(p.disableClear, tpm2.PermanentDisableClear)
	set(p.dictionary.failedTries >= p.dictionary.maxTries, tpm2.PermanentInLockout)
	return a
}

// startupClearAttributes is the TPMA_STARTUP_CLEAR of the moment (Part 2, 8.7).
func (t *TPM) startupClearAttributes() tpm2.StartupClearAttributes {
	var a tpm2.StartupClearAttributes
	set := func(on bool, bit tpm2.StartupClearAttributes) {
		if on {
			a |= bit
		}
	}
	set(t.vol.platformEnabled, tpm2.StartupClearPHEnable)
	set(t.clear.ownerEnabled, tpm2.StartupClearSHEnable)
	set(t.clear.endorsementEnabled, tpm2.StartupClearEHEnable)
	set(t.clear.platformNVEnabled, tpm2.StartupClearPHEnableNV)
	set(t.clear.readOnly, tpm2.StartupClearReadOnly)
	set(t.vol.previous == shutdownClear || t.vol.previous == shutdownState, tpm2.StartupClearOrderly)
	return a
}
