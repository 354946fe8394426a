package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 29 of Part 3: clocks and timers.

// maxClock is the highest value that TPM2_ClockSet takes (Part 3, 29.3).
const maxClock = 0xffff_0000_0000_0000

// readClock is TPM2_ReadClock (Part 3, 29.2).
func readClock(c *call, _ *command.None, out *command.ReadClockOut) error {
	out.CurrentTime = tpm2.TimeInfo{Time: c.t.vol.time, ClockInfo: c.t.clockInfo()}
	return nil
}

// clockInfo is the TPMS_CLOCK_INFO of the moment.
func (t *TPM) clockInfo() tpm2.ClockInfo {
	return tpm2.ClockInfo{
		Clock: t.orderly.clock, ResetCount: t.permanent.resetCount,
		RestartCount: t.reset.restartCount, Safe: t.orderly.clockSafe,
	}
}

// clockSet is TPM2_ClockSet (Part 3, 29.3): the clock goes forward only.
func clockSet(c *call, in *command.ClockSetIn, _ *command.None) error {
	if in.NewTime > maxClock || in.NewTime < c.t.orderly.clock {
		return parameter(tpm2.RCValue, 1)
	}
	c.t.setClock(in.NewTime)
	c.t.touch()
	return nil
}

// The steps of TPM2_ClockRateAdjust, which are the reference's, and their sum's
// bound, in parts of a million (Part 3, 29.4; Part 1, 36.3: at most 15 %).
const (
	fineStep   = 33
	mediumStep = 1_000
	coarseStep = 10_000
	maxRate    = 150_000
)

// clockRateAdjust is TPM2_ClockRateAdjust (Part 3, 29.4).
func clockRateAdjust(c *call, in *command.ClockRateAdjustIn, _ *command.None) error {
	steps := [...]int32{-coarseStep, -mediumStep, -fineStep, 0, fineStep, mediumStep, coarseStep}
	rate := c.t.vol.ratePPM + steps[in.RateAdjust+3]
	c.t.vol.ratePPM = max(-maxRate, min(rate, maxRate))
	return nil
}

// TimeStopped says that the time may have stood still while there was power: what was to
// expire at a time is over, as at TPM2_Startup. The time itself goes on where it was.
func (t *TPM) TimeStopped() {
	if !t.vol.started || t.vol.failed {
		return // TPM2_Startup comes first, and does the same
	}
	t.permanent.timeEpoch++
	t.touch()
}

// rated returns how far time and clock go when so many milliseconds pass. What is
// less than a millisecond counts the next time.
func (t *TPM) rated(passed int64) uint64 {
	change := passed*int64(t.vol.ratePPM) + int64(t.vol.rateRest)
	t.vol.rateRest = int32(change % 1_000_000)
	return uint64(passed + change/1_000_000) // not negative: a rate is less than 1
}
