package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Wire lays out the volatile state.
func (v *volatile) Wire(c *wire.Codec) {
	var unused bool // earlier versions kept there what orderlyState says as well
	wireFlags(c, &v.started, &v.failed, &v.platformEnabled, &v.presence, &v.reallocated, &v.established, &unused)
	wire.U64(c, &v.time)
	optional(c, &v.hcrtm)
	wire.U8(c, &v.startupLocality)
	c.Check(v.startupLocality <= 4, wire.ErrRange)
	v.previous.Wire(c)
	wire.List32(c, &v.banks, tpm2.MaxPCRSelections)
	v.pcrs.Wire(c)
	slots(c, &v.objects)
	slots(c, &v.sessions)
	v.exclusive.Wire(c)
	wire.U64(c, &v.heal.tries)
	wire.U64(c, &v.heal.lockout)
	c.Check(v.heal.tries <= v.time && v.heal.lockout <= v.time, wire.ErrRange)
	rate := uint32(v.ratePPM) // two's complement
	wire.U32(c, &rate)
	v.ratePPM = int32(rate)
	c.Check(-maxRate <= v.ratePPM && v.ratePPM <= maxRate, wire.ErrRange)
	rest := uint32(v.rateRest)
	wire.U32(c, &rest)
	v.rateRest = int32(rest)
	c.Check(-1_000_000 < v.rateRest && v.rateRest < 1_000_000, wire.ErrRange)
	v.selfTest.Wire(c)
}

// slots lays out a list of things that may be missing. The number of slots is
// the profile's, and set before decoding.
func slots[T any, P wire.LayoutOf[T]](c *wire.Codec, list *[]*T) {
	for i := range *list {
		optional[T, P](c, &(*list)[i])
	}
}

// Wire lays out a measurement in progress, or one that awaits TPM2_Startup.
func (h *hcrtm) Wire(c *wire.Codec) {
	wire.List32(c, &h.sums, tpm2.MaxPCRSelections)
	ended := h.digests != nil
	c.Bool(&ended)
	if !ended || c.Err() != nil {
		return
	}
	if c.Decoding() {
		h.digests = make([][]byte, len(h.sums))
	}
	for i := range h.digests {
		c.Raw(&h.digests[i], h.sums[i].alg.DigestSize())
	}
}

// Wire lays out the journal. When decoding, each record must be sound.
func (j *journal) Wire(c *wire.Codec) {
	wire.U64(c, &j.dropped)
	wire.U8(c, &j.locality)
	c.Sized32(&j.buf, maxJournal)
	if !c.Decoding() || c.Err() != nil {
		return
	}
	for rest := j.buf; len(rest) > 0; {
		var r JournalRecord
		var err error
		if rest, err = wire.DecodePrefix(rest, &r); err != nil {
			c.Fail(err)
			return
		}
	}
}
