package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// ReadClockOut is what is returned by TPM2_ReadClock.
type ReadClockOut struct {
	CurrentTime tpm2.TimeInfo
}

// Wire lays the parameters out.
func (out *ReadClockOut) Wire(c *wire.Codec) {
	out.CurrentTime.Wire(c)
}

// ClockSetIn is the parameters of TPM2_ClockSet.
type ClockSetIn struct {
	NewTime uint64
}

// Wire lays the parameters out.
func (in *ClockSetIn) Wire(c *wire.Codec) {
	c.Part(1)
	wire.U64(c, &in.NewTime)
}

// ClockRateAdjustIn is the parameters of TPM2_ClockRateAdjust.
type ClockRateAdjustIn struct {
	RateAdjust tpm2.ClockAdjust
}

// Wire lays the parameters out.
func (in *ClockRateAdjustIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.RateAdjust.Wire(c)
}
