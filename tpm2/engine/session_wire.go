package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Wire lays out all that a saved context and a snapshot keep of a session. When
// decoding, the session shares the bytes of the input.
func (s *session) Wire(c *wire.Codec) {
	s.handle.Wire(c)
	tied := s.boundName != nil
	wireFlags(c, &s.policy, &s.trial, &tied, &s.daBound, &s.lockoutBound, &s.audit)
	wire.U16(c, &s.hash)
	c.Check(s.hash.DigestSize() != 0, wire.ErrSelector)
	s.symmetric.Wire(c)
	c.Sized16(&s.key, tpm2.MaxDigest)
	c.Sized16(&s.nonce, tpm2.MaxDigest)
	wire.U64(c, &s.startTime)
	wire.U32(c, &s.epoch)
	c.Sized16(&s.boundName, tpm2.MaxName)
	c.Check(tied || len(s.boundName) == 0, wire.ErrRange)
	c.Sized16(&s.boundAuth, tpm2.MaxDigest)
	if c.Decoding() && !tied {
		s.boundName = nil
	}
	c.Sized16(&s.auditDigest, tpm2.MaxDigest)
	s.assertions.wire(c)
}

func (a *assertions) wire(c *wire.Codec) {
	wireFlags(c, &a.authValueNeeded, &a.passwordNeeded, &a.presenceNeeded, &a.checkWritten, &a.written)
	c.Sized16(&a.digest, tpm2.MaxDigest)
	wire.U64(c, &a.timeout)
	wire.U32(c, &a.commandCode)
	wire.U8(c, &a.locality)
	wire.U32(c, &a.pcrMark)
	wire.U8(c, &a.bound)
	c.Check(a.bound <= boundParameters, wire.ErrSelector)
	c.Sized16(&a.boundDigest, tpm2.MaxDigest)
}
