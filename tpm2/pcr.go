package tpm2

import (
	"iter"

	"github.com/assay-project/assay/wire"
)

const (
	// NumPCR is the number of PCRs of a PC Client TPM (PTP, 4.6.2).
	NumPCR = 24
	// MaxPCRSelections is the limit of a TPML_PCR_SELECTION: one for each hash known here.
	MaxPCRSelections = 8

	pcrSelectSize = NumPCR / 8 // PCR_SELECT_MIN and PCR_SELECT_MAX
)

// PCRSelect is the bitmap of a TPMS_PCR_SELECT; bit i%8 of byte i/8 is PCR i
// (Part 2, 10.6.1).
type PCRSelect [pcrSelectSize]byte

// SelectPCRs returns the bitmap of the given PCRs; those that no TPM has are left out.
func SelectPCRs(pcrs ...int) PCRSelect {
	var s PCRSelect
	for _, i := range pcrs {
		if i >= 0 && i < NumPCR {
			s[i/8] |= 1 << (i % 8)
		}
	}
	return s
}

// Set selects PCR i, which a TPM has.
func (s *PCRSelect) Set(i int) { s[i/8] |= 1 << (i % 8) }

// Has reports whether PCR i is selected.
func (s PCRSelect) Has(i int) bool {
	return i >= 0 && i < NumPCR && s[i/8]>>(i%8)&1 == 1
}

// All yields the selected PCRs in ascending order, the order in which a quote
// digests them (Part 3, 18.4).
func (s PCRSelect) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range NumPCR {
			if s.Has(i) && !yield(i) {
				return
			}
		}
	}
}

// Wire lays out a TPMS_PCR_SELECT. A PC Client TPM has 24 PCRs, so the bitmap
// has three bytes (Part 2, 10.6.1; PTP, 4.6.2).
func (s *PCRSelect) Wire(c *wire.Codec) {
	size := uint8(pcrSelectSize)
	wire.U8(c, &size)
	c.Check(size == pcrSelectSize, wire.ErrRange)
	c.Bytes(s[:])
}

// PCRSelection is a TPMS_PCR_SELECTION: a bank and PCRs of it (Part 2, 10.6.2).
type PCRSelection struct {
	Hash   Alg
	Select PCRSelect
}

// Wire lays out a TPMS_PCR_SELECTION.
func (s *PCRSelection) Wire(c *wire.Codec) {
	selector(c, (*algHash)(&s.Hash))
	s.Select.Wire(c)
}

// PCRSelections is a TPML_PCR_SELECTION (Part 2, 10.9.7).
type PCRSelections []PCRSelection

// Wire lays out a TPML_PCR_SELECTION.
func (l *PCRSelections) Wire(c *wire.Codec) {
	wire.List32(c, (*[]PCRSelection)(l), maxBanks(c))
}

// maxBanks is HASH_COUNT: lists by hash have one element for each that there is
// (Part 2, 10.9.6, 10.9.7).
func maxBanks(c *wire.Codec) int {
	o, ok := c.Context().(Offer)
	if !ok {
		return MaxPCRSelections
	}
	n := 0
	for _, a := range [...]Alg{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512, AlgSM3, AlgSHA3x256, AlgSHA3x384, AlgSHA3x512} {
		if o.OffersAlg(a) {
			n++
		}
	}
	return n
}
