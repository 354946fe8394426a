package tpm

import (
	"math"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// Counters are a TPM's clock and boot counters as a genuine quote told them
// (TPMS_CLOCK_INFO; Part 2, 10.11.1).
type Counters struct {
	Clock   uint64 // milliseconds
	Reset   uint32 // resetCount
	Restart uint32 // restartCount
	Safe    bool
}

func countersOf(c *tpm2.ClockInfo) Counters {
	return Counters{Clock: c.Clock, Reset: c.ResetCount, Restart: c.RestartCount, Safe: c.Safe}
}

// unsafeLag is how far Clock may fall back over a TPM Reset without an orderly
// shutdown: the longest interval at which a TPM stores it (Part 1, 36.3.2:
// 2^22 ms, some 70 minutes).
const unsafeLag = 1 << 22

// follows reports whether c can be what a TPM says after it has said last.
//
// resetCount and restartCount carry a constant offset unless the key is in the
// endorsement or platform hierarchy (Part 1, 36.7), so that they may wrap: only
// the signed difference means something. While both stand still, Clock may be
// window older, because two quotes can overtake each other on their way.
func (c Counters) follows(last Counters, window time.Duration) *evidence.Refusal {
	resets, restarts := c.Reset-last.Reset, c.Restart-last.Restart
	lag := uint64(0)
	switch {
	case resets > math.MaxInt32:
		return evidence.Refuse(codeRolledBack, "resetCount went back by %d since the last quote", -resets)
	case resets == 0 && restarts > math.MaxInt32:
		return evidence.Refuse(codeRolledBack, "restartCount went back by %d since the last quote, in the same boot", -restarts)
	case resets == 0 && restarts == 0:
		lag = uint64(max(window, 0) / time.Millisecond) // not negative
		// Part 1, 36.3.3: Safe is cleared only by a start of the TPM.
		if last.Safe && !c.Safe {
			return evidence.Refuse(codeRolledBack, "the clock became unsafe without a new boot")
		}
	case !c.Safe:
		lag = unsafeLag
	}
	if last.Clock > c.Clock && last.Clock-c.Clock > lag {
		return evidence.Refuse(codeRolledBack, "the clock went back by %d ms since the last quote, at most %d are explained", last.Clock-c.Clock, lag)
	}
	return nil
}

// Latest returns whichever of two readings of the same TPM was made later: what to
// keep for the next quote.
func (c Counters) Latest(other Counters) Counters {
	resets, restarts := c.Reset-other.Reset, c.Restart-other.Restart
	switch {
	case resets != 0:
		if resets > math.MaxInt32 {
			return other
		}
	case restarts != 0:
		if restarts > math.MaxInt32 {
			return other
		}
	case c.Clock < other.Clock:
		return other
	}
	return c
}
