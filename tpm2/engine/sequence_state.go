package engine

import (
	"hash"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// sequenceKind is what a sequence computes; zero is none.
type sequenceKind uint8

const (
	hashSequence sequenceKind = iota + 1
	eventSequence
	hmacSequence
	cmacSequence
	signSequence // of version 1.85, as those that follow
	_            // verifications were laid out without the message for their ticket
	signMuSequence
	_
	verifySequence
	verifyMuSequence
)

// known reports whether there are sequences of the kind.
func (k sequenceKind) known() bool {
	return k >= hashSequence && k <= signSequence || k == signMuSequence || k.verifies()
}

// verifies reports whether the sequence is over a message whose signature is verified.
func (k sequenceKind) verifies() bool { return k == verifySequence || k == verifyMuSequence }

// ofMu is the kind of a sequence of a signature when its key, of ML-DSA or HashML-DSA,
// signs representatives.
func (k sequenceKind) ofMu() sequenceKind {
	if k.verifies() {
		return verifyMuSequence
	}
	return signMuSequence
}

// maxTicketMessage is the largest message that a command compares with a ticket:
// TPM2_PolicyAuthorize takes a digest and a nonce.
const maxTicketMessage = 2 * tpm2.MaxDigest

// A sequence is a hash, event, MAC or signature sequence in progress (Part 1, 32).
type sequence struct {
	kind  sequenceKind
	auth  []byte // authValue, without trailing zeros
	sums  []bankHash
	cmac  runningCMAC // of cmacSequence
	begun bool        // a first block came
	safe  bool        // it does not begin as what a TPM attests
	head  []byte      // the first bytes of the message, up to four
	key   []byte      // Name of the key of a sequence of a signature

	// The message of a verification, for its ticket: whole, or one byte more than
	// any ticket is compared with.
	message []byte

	context []byte    // of signMuSequence and verifyMuSequence
	mu      *mldsa.Mu // of ML-DSA; HashML-DSA has a hash in sums
}

// bankHash is a running hash by one algorithm. An HMAC has two: the inner one,
// and the outer one as it is after its key; Go's own HMAC cannot be kept.
type bankHash struct {
	alg tpm2.Alg
	sum hash.Hash
}

// runningCMAC is a CMAC in progress with its key.
type runningCMAC struct {
	bits uint16
	key  []byte
	mac  *tpmcrypto.CMAC
}

// newBankHash starts a hash by an algorithm of the profile.
func newBankHash(a tpm2.Alg) (bankHash, error) {
	ha, ok := a.Hash()
	if !ok {
		return bankHash{}, tpm2.RCHash
	}
	return bankHash{alg: a, sum: ha.New()}, nil
}

// The bytes that an HMAC's key is padded with (FIPS 198-1, 4).
const (
	ipad = 0x36
	opad = 0x5c
)

// newHMAC starts an HMAC (FIPS 198-1, 4).
func newHMAC(a tpm2.Alg, key []byte) ([]bankHash, error) {
	inner, err := newBankHash(a)
	if err != nil {
		return nil, err
	}
	outer, _ := newBankHash(a)
	block := make([]byte, inner.sum.BlockSize())
	if len(key) > len(block) {
		if key, err = tpmcrypto.Hash(a, key); err != nil {
			return nil, err
		}
	}
	copy(block, key)
	pad := func(by byte) []byte {
		for i := range block {
			block[i] ^= by
		}
		return block
	}
	inner.sum.Write(pad(ipad))
	outer.sum.Write(pad(ipad ^ opad))
	clear(block)
	return []bankHash{inner, outer}, nil
}

// write adds a part of the message.
func (s *sequence) write(b []byte) {
	switch {
	case s.kind == cmacSequence:
		s.cmac.mac.Write(b)
	case s.mu != nil:
		s.mu.Write(b)
	case s.hmac():
		s.sums[0].sum.Write(b)
	default:
		for _, h := range s.sums {
			h.sum.Write(b)
		}
	}
	if !s.begun {
		s.begun, s.safe = true, ticketSafe(b)
	}
	s.head = append(s.head, b[:min(len(b), 4-len(s.head))]...)
	if s.kind.verifies() {
		s.message = append(s.message, b[:min(len(b), maxTicketMessage+1-len(s.message))]...)
	}
}

// hmac reports whether the two hashes are those of an HMAC.
func (s *sequence) hmac() bool { return s.kind != eventSequence && len(s.sums) == 2 }

// finish returns the result of the message with a last part, for a sequence of
// any kind but an event sequence: the representative for ML-DSA, else a digest or MAC.
// The sequence stays as it is: the command may yet fail.
func (s *sequence) finish(last []byte) []byte {
	if s.kind == cmacSequence {
		m := *s.cmac.mac
		m.Write(last)
		return m.Sum(nil)
	}
	if s.mu != nil {
		return s.mu.Sum(last)
	}
	inner := s.sums[0].clone()
	inner.Write(last)
	if !s.hmac() {
		return inner.Sum(nil)
	}
	outer := s.sums[1].clone()
	digest := inner.Sum(nil)
	outer.Write(digest)
	return outer.Sum(digest[:0])
}

// clone copies a running hash.
func (b *bankHash) clone() hash.Hash {
	if h, ok := b.sum.(hash.Cloner); ok {
		c, err := h.Clone()
		if err != nil {
			panic(err)
		}
		return c
	}
	// The hashes of the validated module cannot: the copy is one that was saved.
	var c bankHash
	state, err := wire.Encode(b)
	if err == nil {
		err = wire.Decode(state, &c)
	}
	if err != nil {
		panic(err)
	}
	return c.sum
}

// complete reports whether the sequence has the hashes that its kind needs.
func (s *sequence) complete() bool {
	switch n := len(s.sums); s.kind {
	case hashSequence:
		return n == 1
	case eventSequence:
		return n > 0
	case hmacSequence:
		return n == 2 && s.sums[0].alg == s.sums[1].alg
	case signSequence, verifySequence:
		return n == 1 || n == 2 && s.sums[0].alg == s.sums[1].alg
	case signMuSequence, verifyMuSequence:
		return n == 1 && s.mu == nil || n == 0 && s.mu != nil
	}
	return len(s.sums) == 0
}

// wireRest lays out all but the authValue and the hashes.
func (s *sequence) wireRest(c *wire.Codec) {
	wire.U8(c, &s.kind)
	c.Check(s.kind.known(), wire.ErrSelector)
	wireFlags(c, &s.begun, &s.safe)
	c.Sized16(&s.head, 4)
	c.Sized16(&s.key, tpm2.MaxName)
	if s.kind.verifies() {
		c.Sized16(&s.message, maxTicketMessage+1)
	}
	switch s.kind {
	case cmacSequence:
		s.cmac.Wire(c)
	case signMuSequence, verifyMuSequence:
		s.wireMu(c)
	}
}

// wireMu lays out the context, and the representative in progress or nothing.
func (s *sequence) wireMu(c *wire.Codec) {
	c.Sized16(&s.context, tpm2.MaxSignatureContext)
	var state []byte
	if s.mu != nil {
		state = s.mu.State()
	}
	c.Sized16(&state, mldsa.StateSize)
	if !c.Decoding() || c.Err() != nil || len(state) == 0 {
		return
	}
	var err error
	if s.mu, err = mldsa.Restore(state); err != nil {
		c.Fail(wire.ErrRange)
	}
}

// Wire lays out the key and the state of a CMAC.
func (m *runningCMAC) Wire(c *wire.Codec) {
	wire.U16(c, &m.bits)
	c.Sized16(&m.key, tpm2.MaxSymKey)
	var state []byte
	if !c.Decoding() {
		state = m.mac.State()
	}
	c.Raw(&state, tpmcrypto.CMACStateSize)
	if !c.Decoding() || c.Err() != nil {
		return
	}
	var err error
	if m.mac, err = tpmcrypto.NewCMAC(tpm2.AlgAES, m.bits, m.key); err == nil {
		err = m.mac.Restore(state)
	}
	if err != nil {
		c.Fail(wire.ErrRange)
	}
}
