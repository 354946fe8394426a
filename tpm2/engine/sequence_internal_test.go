package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// everySequence is one sequence of each kind in the middle of a message.
func everySequence(t testing.TB, r structtest.Source) map[string]*sequence {
	t.Helper()
	sums, err := newHMAC(tpm2.AlgSHA384, r.UpTo(200))
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{3}, 24)
	mac, err := tpmcrypto.NewCMAC(tpm2.AlgAES, 192, key)
	if err != nil {
		t.Fatal(err)
	}
	one := func(a tpm2.Alg) []bankHash {
		h, err := newBankHash(a)
		if err != nil {
			t.Fatal(err)
		}
		return []bankHash{h}
	}
	mu, err := mldsa.NewMu(r.UpTo(100), r.UpTo(100))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*sequence{
		"hash":   {kind: hashSequence, sums: one(tpm2.AlgSHA1)},
		"HMAC":   {kind: hmacSequence, sums: sums},
		"CMAC":   {kind: cmacSequence, cmac: runningCMAC{bits: 192, key: key, mac: mac}},
		"sign":   {kind: signSequence, sums: one(tpm2.AlgSHA3x384), key: r.UpTo(tpm2.MaxName)},
		"verify": {kind: verifySequence, sums: one(tpm2.AlgSHA256), key: r.UpTo(tpm2.MaxName)},

		"sign by ML-DSA":       {kind: signMuSequence, mu: mu, key: r.UpTo(tpm2.MaxName)},
		"verify by HashML-DSA": {kind: verifyMuSequence, sums: one(tpm2.AlgSHA256), key: r.UpTo(tpm2.MaxName), context: r.UpTo(tpm2.MaxSignatureContext)},
	}
	for _, s := range out {
		s.auth = r.UpTo(tpm2.MaxDigest)
		s.write(r.UpTo(300))
	}
	return out
}

func TestEverySequenceSurvivesItsLayout(t *testing.T) {
	for seed := range uint64(20) {
		for name, s := range everySequence(t, structtest.New(seed)) {
			b, err := wire.Encode(s)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			back := new(sequence)
			if err := wire.Decode(b, back); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if again, err := wire.Encode(back); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s is %x, want %x (%v)", name, again, b, err)
			}
			if got, want := back.finish([]byte("end")), s.finish([]byte("end")); !bytes.Equal(got, want) {
				t.Errorf("%s ends with %x, want %x", name, got, want)
			}
			refuseOthers(t, name, b, func() wire.Layout { return new(sequence) })
		}
	}
}

func TestSequencesThatNobodyStartedAreRefused(t *testing.T) {
	every := everySequence(t, structtest.New(1))
	hash, hmac, cmac := every["hash"], every["HMAC"], every["CMAC"]
	mu := every["sign by ML-DSA"].mu
	mixed := []bankHash{hmac.sums[0], hash.sums[0]}
	for name, tc := range map[string]struct {
		s    *sequence
		want error
	}{
		"no kind":               {&sequence{sums: hash.sums}, wire.ErrSelector},
		"unknown kind":          {&sequence{kind: verifyMuSequence + 1, sums: hash.sums}, wire.ErrSelector},
		"a verification of old": {&sequence{kind: 6, sums: hash.sums}, wire.ErrSelector},
		"ML-DSA of old":         {&sequence{kind: 8, mu: mu}, wire.ErrSelector},
		"a message too long":    {&sequence{kind: verifySequence, sums: hash.sums, message: make([]byte, maxTicketMessage+2)}, wire.ErrSize},
		"a hash without a sum":  {&sequence{kind: hashSequence}, wire.ErrRange},
		"a hash of two":         {&sequence{kind: hashSequence, sums: hmac.sums}, wire.ErrRange},
		"an event without sums": {&sequence{kind: eventSequence}, wire.ErrRange},
		"an HMAC of one":        {&sequence{kind: hmacSequence, sums: hash.sums}, wire.ErrRange},
		"an HMAC of two hashes": {&sequence{kind: hmacSequence, sums: mixed}, wire.ErrRange},
		"a CMAC with a sum":     {&sequence{kind: cmacSequence, cmac: cmac.cmac, sums: hash.sums}, wire.ErrRange},
		"a CMAC of no key":      {&sequence{kind: cmacSequence, cmac: runningCMAC{bits: 128, key: cmac.cmac.key, mac: cmac.cmac.mac}}, wire.ErrRange},
		"a signature of mixed":  {&sequence{kind: signSequence, sums: mixed}, wire.ErrRange},
		"a signature of none":   {&sequence{kind: verifySequence}, wire.ErrRange},
		"ML-DSA of nothing":     {&sequence{kind: signMuSequence}, wire.ErrRange},
		"ML-DSA of both":        {&sequence{kind: verifyMuSequence, mu: mu, sums: hash.sums}, wire.ErrRange},
		"HashML-DSA of two":     {&sequence{kind: signMuSequence, sums: hmac.sums}, wire.ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := wire.Encode(loose{tc.s})
			if err != nil {
				t.Fatal(err)
			}
			if err := wire.Decode(b, new(sequence)); !errors.Is(err, tc.want) {
				t.Errorf("Decode = %v, want %v", err, tc.want)
			}
		})
	}
}

// loose lays out a sequence as sequence does, without its checks.
type loose struct{ s *sequence }

func (l loose) Wire(c *wire.Codec) {
	s := l.s
	c.Sized16(&s.auth, tpm2.MaxDigest)
	wire.List32(c, &s.sums, tpm2.MaxPCRSelections)
	wire.U8(c, &s.kind)
	wireFlags(c, &s.begun, &s.safe)
	c.Sized16(&s.head, 4)
	c.Sized16(&s.key, tpm2.MaxName)
	if s.kind.verifies() {
		c.Sized16(&s.message, maxTicketMessage+2)
	}
	switch s.kind {
	case cmacSequence:
		s.cmac.Wire(c)
	case signMuSequence, verifyMuSequence:
		s.wireMu(c)
	}
}

// A representative that has ended, of which the last byte tells, is none in progress.
func TestARepresentativeThatHasEndedIsRefused(t *testing.T) {
	b, err := wire.Encode(everySequence(t, structtest.New(1))["sign by ML-DSA"])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = 1
	if err := wire.Decode(b, new(sequence)); !errors.Is(err, wire.ErrRange) {
		t.Errorf("Decode = %v, want ErrRange", err)
	}
}
