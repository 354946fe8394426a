package engine

// rated returns how far the clock goes in a time: TPM2_ClockRateAdjust changes
// its rate, not that of the time (Part 3, 29.4).
func (t *TPM) rated(passed uint64) uint64 {
	return passed + uint64(int64(passed)*int64(t.vol.ratePPM)/1_000_000)
}
