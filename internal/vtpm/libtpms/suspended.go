package libtpms

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// What TPM2_Shutdown(STATE) kept for TPM Resume is read to get past it: a TPM is
// moved while its machine is off.

const (
	resetMagic   = 0x01102332
	resetVersion = 4
	clearMagic   = 0x98897667
	pcrsMagic    = 0x7372eabc
	authsMagic   = 0x6be82eaf
)

// wireStateReset reads STATE_RESET_DATA.
func wireStateReset(c *wire.Codec) {
	var h header
	h.wire(c, "STATE_RESET_DATA", resetMagic, resetVersion)
	var b []byte
	var contexts uint16
	c.Sized16(&b, seedSize) // nullProof
	c.Sized16(&b, seedSize) // nullSeed
	pass(c, 4+8)            // clearCount, objectContextID
	wire.U16(c, &contexts)
	check(c, contexts <= 1024, ErrFormat, "STATE_RESET_DATA: %d contexts", contexts)
	if h.version <= 3 {
		pass(c, int(contexts))
	} else {
		pass(c, 2*int(contexts)+2) // and their mask
	}
	pass(c, 8) // contextCounter
	c.Sized16(&b, tpm2.MaxDigest)
	pass(c, 4+4) // restartCount, pcrCounter
	skip(c, "commitCounter")
	if h.version >= 2 {
		skip(c, "STATE_RESET_DATA")
	}
}

// wireStateClear reads STATE_CLEAR_DATA.
func wireStateClear(c *wire.Codec) {
	var h header
	h.wire(c, "STATE_CLEAR_DATA", clearMagic, otherVersion)
	var b []byte
	pass(c, 3+2) // shEnable, ehEnable, phEnableNV, platformAlg
	c.Sized16(&b, tpm2.MaxDigest)
	c.Sized16(&b, tpm2.MaxDigest)
	wirePCRs(c)
	wireAuths(c)
	if h.version >= 2 {
		skip(c, "STATE_CLEAR_DATA")
	}
}

// wirePCRs reads PCR_SAVE: banks up to one of TPM_ALG_NULL.
func wirePCRs(c *wire.Codec) {
	var h header
	h.wire(c, "PCR_SAVE", pcrsMagic, otherVersion)
	pass(c, 2) // how many PCRs
	for c.Err() == nil {
		var alg tpm2.Alg
		wire.U16(c, &alg)
		if alg == tpm2.AlgNull {
			break
		}
		var b []byte
		c.Sized16(&b, tpm2.NumPCR*tpm2.MaxDigest)
	}
	if h.version >= 2 {
		skip(c, "PCR_SAVE")
	}
}

// wireAuths reads PCR_AUTHVALUE.
func wireAuths(c *wire.Codec) {
	var h header
	h.wire(c, "PCR_AUTHVALUE", authsMagic, otherVersion)
	var n uint16
	wire.U16(c, &n)
	for i := 0; i < int(n) && c.Err() == nil; i++ {
		var b []byte
		c.Sized16(&b, tpm2.MaxDigest)
	}
	if h.version >= 2 {
		skip(c, "PCR_AUTHVALUE")
	}
}

// pass reads n bytes that are not taken over.
func pass(c *wire.Codec, n int) {
	var b []byte
	if c.Err() == nil {
		c.Raw(&b, n)
	}
}
