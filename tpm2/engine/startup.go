package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 9 of Part 3: TPM2_Startup and TPM2_Shutdown, and the state that they
// begin and end (Part 1, 12.2).

// resumption is what a startup makes of the last one's state (Part 1, 12.2.3).
type resumption uint8

const (
	tpmReset   resumption = iota // nothing was saved
	tpmRestart                   // saved, and Startup(CLEAR)
	tpmResume                    // saved, and Startup(STATE)
)

// newVolatile is the state after _TPM_Init. Presence and what the dynamic root of
// trust left behind are lines of the platform, and stay.
func (t *TPM) newVolatile() volatile {
	return volatile{
		failed:      t.torn, // power does not mend what a fault tore
		presence:    t.vol.presence,
		established: t.vol.established,
		startedAt:   t.cfg.Now().Milliseconds(),
		objects:     make([]*object, t.limits.Transient),
		sessions:    make([]*session, t.limits.Sessions),
		banks:       t.permanent.banks,
	}
}

// advance moves the TPM's time and clock on by what passed on the machine's
// (Part 1, 36), at the rate that TPM2_ClockRateAdjust set, and forgives failures:
// that hangs on what TPM2_DictionaryAttackParameters set, too, so that it comes also
// where no time passed.
func (t *TPM) advance() {
	gone := t.elapse()
	if !t.vol.started {
		return
	}
	if gone > 0 {
		t.setClock(t.orderly.clock + gone)
	}
	t.heal()
}

// elapse moves the time on, and returns by how many milliseconds.
func (t *TPM) elapse() uint64 {
	now := t.cfg.Now().Milliseconds()
	passed := now - t.vol.startedAt - int64(t.vol.time) // a time in milliseconds fits
	if passed <= 0 {
		return 0
	}
	gone := t.rated(passed)
	t.vol.time += gone
	t.vol.startedAt = now - int64(t.vol.time)
	return gone
}

// clockUpdate is the interval, in milliseconds, at which the clock is written
// to permanent state (TPM_PT_CLOCK_UPDATE).
const clockUpdate = 1 << 22

// setClock moves the clock. When it passes an update interval it becomes safe:
// it is beyond all that was told before a power loss (Part 1, 36.3.2).
func (t *TPM) setClock(clock uint64) {
	if clock/clockUpdate > t.orderly.clock/clockUpdate {
		t.orderly.clockSafe = true
		t.touch()
	}
	t.orderly.clock = clock
	// After an orderly shutdown the clock must stay exact.
	if t.permanent.orderlyState == shutdownClear || t.permanent.orderlyState == shutdownState {
		t.touch()
	}
}

// startup is TPM2_Startup (Part 3, 9.3).
func startup(c *call, in *command.StartupIn, _ *command.None) error {
	t := c.t
	if t.vol.started {
		return tpm2.RCInitialize
	}
	// PTP, 6.2: Startup comes from locality 0 or 3, or H-CRTM came first.
	if c.locality != 0 && c.locality != 3 && t.vol.hcrtm == nil {
		return tpm2.RCLocality
	}
	locality := c.locality
	if t.vol.hcrtm != nil {
		locality = hcrtmLocality
	}
	saved := t.permanent.saved
	kind := tpmReset
	if in.StartupType == tpm2.StartupState {
		if t.permanent.orderlyState != shutdownState || saved == nil {
			return parameter(tpm2.RCValue, 1)
		}
		if err := checkResumed(saved.locality, locality); err != nil {
			return err
		}
		kind = tpmResume
	} else if t.permanent.orderlyState == shutdownState && saved != nil {
		kind = tpmRestart
	}
	t.start(kind, locality)
	return nil
}

// hcrtmLocality stands for a startup after an H-CRTM (Part 1, 34.3).
const hcrtmLocality = 4

// checkResumed checks that a resume is as the startup before: both after an H-CRTM
// or neither, and from the same locality (Part 3, 9.3).
func checkResumed(before, now uint8) error {
	switch {
	case (before == hcrtmLocality) != (now == hcrtmLocality):
		return parameter(tpm2.RCValue, 1)
	case before != now:
		return tpm2.RCLocality
	}
	return nil
}

// start brings the state up after all checks passed.
func (t *TPM) start(kind resumption, locality uint8) {
	t.vol.previous = t.permanent.orderlyState
	t.startDictionary()
	saved := t.permanent.saved
	if kind != tpmReset {
		t.reset = saved.reset
		t.reset.restartCount++
		if t.inherited {
			t.renewCommitments()
		}
	}
	t.inherited = false
	switch kind {
	case tpmReset:
		t.startReset()
		t.startClear()
	case tpmRestart:
		t.startClear()
	case tpmResume:
		t.clear = saved.clear
	}
	t.vol.platformEnabled = true
	t.vol.startupLocality = locality
	t.startPCRs(kind, locality)
	t.startNV(kind)
	t.startClock()
	t.permanent.saved = nil
	t.permanent.orderlyState = shutdownNone
	t.vol.started = true
	t.touch()
	t.record(JournalRecord{Kind: JournalStartup, Locality: locality, Detail: uint8(kind)})
	t.recordBanks()
}

// startReset makes what a TPM Reset makes anew (Part 1, 12.2.3.1).
func (t *TPM) startReset() {
	t.permanent.totalResetCount++
	t.permanent.resetCount++
	t.reset = stateReset{
		null:           hierarchy{seed: t.newBytes(seedSize), proof: t.newBytes(seedSize), policy: authPolicy{alg: tpm2.AlgNull}},
		contextCounter: uint64(t.limits.Sessions) + 1,
		commitNonce:    t.newBytes(seedSize),
	}
}

// startClear sets what TPM Reset and TPM Restart set (Part 3, 9.3).
func (t *TPM) startClear() {
	t.clear = stateClear{
		ownerEnabled: true, endorsementEnabled: true, platformNVEnabled: true,
		platformPolicy: authPolicy{alg: tpm2.AlgNull},
	}
	t.reset.clearCount++
}

// startPCRs initializes the PCRs, restores those that a resume keeps, and
// extends PCR 0 with what the H-CRTM measured.
func (t *TPM) startPCRs(kind resumption, locality uint8) {
	initial := locality
	if t.vol.hcrtm != nil {
		initial = hcrtmLocality // Part 1, 34.3: PCR 0 starts at 4 before the H-CRTM extends it
	}
	t.vol.pcrs = t.newPCRs(initial)
	if kind == tpmResume {
		t.restorePCRs(t.permanent.saved.pcrs)
	} else {
		t.endHCRTM()
	}
	t.vol.hcrtm = nil
	// A saved policy session that read PCRs is told of those that start anew.
	for pcr := range pcrTable {
		if kind != tpmResume || !pcrTable[pcr].saved {
			t.pcrChanged(pcr)
		}
	}
}

// startClock says whether the clock can be trusted: not after a power loss
// without shutdown (Part 1, 36.3.2). The time began anew, so that what was to
// expire at a time of before is over, a saved policy session too.
func (t *TPM) startClock() {
	t.permanent.timeEpoch++
	if t.vol.previous == shutdownNone || t.vol.previous == shutdownDAUsed {
		// The clock went on unseen until the power went, and goes on from the value last
		// kept: one after it may have been told before, which Safe says.
		t.orderly.clockSafe = false
	}
	t.setClock(t.orderly.clock + t.vol.time) // it goes on from power on
}

// startDictionary counts a power loss as a failure where it may hide one, and
// starts the recovery times anew (Part 1, 19.8.7).
func (t *TPM) startDictionary() {
	d := &t.permanent.dictionary
	// Part 3, 25.3, speaks of a reboot; in the reference any startup is one.
	if d.lockoutRecovery == 0 {
		d.lockoutEnabled = true
	}
	if t.permanent.orderlyState == shutdownDAUsed && d.recoveryTime != 0 && d.failedTries < d.maxTries {
		d.failedTries++
	}
	t.vol.heal = healing{tries: t.vol.time, lockout: t.vol.time}
}

// shutdownCommand is TPM2_Shutdown (Part 3, 9.4).
func shutdownCommand(c *call, in *command.ShutdownIn, _ *command.None) error {
	t := c.t
	if in.ShutdownType == tpm2.StartupState && !t.canSaveState() {
		return tpm2.RCType.Of(tpm2.RCParameter, 1)
	}
	t.permanent.orderlyState = shutdownClear
	if in.ShutdownType == tpm2.StartupState {
		t.permanent.orderlyState = shutdownState
	}
	t.permanent.saved, t.inherited = t.saveState(), false
	t.touch()
	t.record(JournalRecord{Kind: JournalShutdown, Locality: c.locality, Detail: uint8(in.ShutdownType)})
	return nil
}

// disorder voids an orderly shutdown when what it saved has changed since, so that
// no resume brings back a PCR, a saved session or a counter that went on (Part 3, 9.4).
// The reference marks places that change such state; here the state is compared,
// which finds EC commitments and command audit, too, that it passes over.
func (t *TPM) disorder(cc tpm2.CC) {
	if t.permanent.orderlyState != shutdownClear && t.permanent.orderlyState != shutdownState {
		return
	}
	switch cc {
	case tpm2.CCShutdown:
		return
	case tpm2.CCClear, tpm2.CCChangeEPS, tpm2.CCChangePPS: // whatever they found
	default:
		if t.keptState().same(t.saveState()) {
			return
		}
	}
	t.unorder()
}

// unorder makes the present shutdown no orderly one.
func (t *TPM) unorder() {
	if t.permanent.orderlyState == shutdownClear || t.permanent.orderlyState == shutdownState {
		t.permanent.orderlyState = shutdownNone
		t.permanent.saved = nil
		t.touch()
	}
}

// canSaveState refuses TPM2_Shutdown(STATE) once PCRs were reallocated: the
// saved values would not fit (Part 3, 9.4).
func (t *TPM) canSaveState() bool { return !t.vol.reallocated }

// savedState is what TPM2_Shutdown keeps: for a resume or restart if it is
// TPM2_Shutdown(STATE), and in any case to see whether it stays orderly.
type savedState struct {
	clear    stateClear
	reset    stateReset
	pcrs     pcrBanks
	locality uint8
}

func (t *TPM) saveState() *savedState {
	s := &savedState{clear: t.clear, reset: t.reset, locality: t.vol.startupLocality}
	s.reset.dropLoaded(len(t.vol.sessions))
	s.pcrs = append(s.pcrs, t.vol.pcrs...)
	for i := range s.pcrs {
		for pcr := range pcrTable {
			if !pcrTable[pcr].saved {
				s.pcrs[i].values[pcr] = [tpm2.MaxDigest]byte{}
			}
		}
	}
	return s
}

// same reports whether two savings are of equal state.
func (s *savedState) same(other *savedState) bool {
	if s == nil {
		return false
	}
	one, err := wire.Encode(s)
	if err != nil {
		panic(err)
	}
	two, err := wire.Encode(other)
	if err != nil {
		panic(err)
	}
	return equal(one, two)
}

// restorePCRs brings back the PCRs that TPM2_Shutdown(STATE) saved.
func (t *TPM) restorePCRs(saved pcrBanks) {
	for i := range saved {
		b := t.bank(saved[i].alg)
		if b == nil {
			continue
		}
		for pcr := range b.values {
			if pcrTable[pcr].saved && b.selected.Has(pcr) {
				b.values[pcr] = saved[i].values[pcr]
			}
		}
	}
}

// seedSize is the size in bytes of primary seeds and proofs.
const seedSize = 64

// manufacture makes the state of a new TPM (Part 1, 12.3).
func (t *TPM) manufacture() {
	none := authPolicy{alg: tpm2.AlgNull}
	fresh := func() hierarchy {
		return hierarchy{seed: t.newBytes(seedSize), proof: t.newBytes(seedSize), policy: none}
	}
	t.permanent = permanent{
		owner: fresh(), endorsement: fresh(), platform: fresh(), lockout: hierarchy{policy: none},
		dictionary: newDictionary(),
		auditAlg:   ticketHash,
		// Nobody was ever told a time: the first startup is as after an orderly shutdown.
		orderlyState: shutdownClear,
		nv:           newNVStore(),
		objects:      map[tpm2.Handle]*object{},
	}
	t.permanent.presence.set(tpm2.CCPPCommands, true)
	t.permanent.auditCommands.set(tpm2.CCSetCommandCodeAuditStatus, true)
	for i := range t.permanent.pcrPolicy {
		t.permanent.pcrPolicy[i] = none
	}
	for _, a := range t.profile.Banks {
		s := tpm2.PCRSelection{Hash: a}
		for _, on := range t.profile.Allocated {
			if on == a {
				s.Select = tpm2.PCRSelect{0xff, 0xff, 0xff}
			}
		}
		t.permanent.banks = append(t.permanent.banks, s)
	}
	t.orderly.clockSafe = true
	t.touch()
}
