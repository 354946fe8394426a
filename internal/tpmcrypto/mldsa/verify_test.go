package mldsa

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	upstream "filippo.io/mldsa"
)

var sets = []Set{MLDSA44, MLDSA65, MLDSA87}

// A pair is a key for tests with the other implementation's view of it.
type pair struct {
	set    Set
	key    *Key
	public *upstream.PublicKey
}

func newPair(t testing.TB, s Set, seed byte) *pair {
	t.Helper()
	k, err := NewKey(s, bytes.Repeat([]byte{seed}, SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	private, err := expand(s, k.Seed())
	if err != nil {
		t.Fatal(err)
	}
	return &pair{s, k, private.PublicKey()}
}

// sign signs a message with no context, and returns its representative as well.
func (p *pair) sign(t testing.TB, message []byte) (mu, sig []byte) {
	t.Helper()
	mu = representative(p.key.Public(), message)
	sig, err := p.key.SignMu(mu)
	if err != nil {
		t.Fatal(err)
	}
	return mu, sig
}

// agree compares the two implementations.
func (p *pair) agree(t testing.TB, message, sig []byte) (ok bool) {
	t.Helper()
	got := p.set.Verify(p.key.Public(), representative(p.key.Public(), message), sig)
	want := upstream.Verify(p.public, message, sig, nil)
	if (got == nil) != (want == nil) {
		t.Errorf("set %d: Verify = %v, filippo.io/mldsa = %v", p.set, got, want)
	}
	return got == nil
}

func TestSignaturesVerify(t *testing.T) {
	for _, s := range sets {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			for i := range byte(8) {
				p := newPair(t, s, i)
				message := bytes.Repeat([]byte{i}, int(i))
				_, sig := p.sign(t, message)
				if !p.agree(t, message, sig) {
					t.Errorf("a signature by key %d does not verify", i)
				}
				if p.agree(t, append(message, 1), sig) {
					t.Errorf("a signature by key %d verifies another message", i)
				}
				other := newPair(t, s, i+1)
				if other.agree(t, message, sig) {
					t.Errorf("a signature by key %d verifies by another key", i)
				}
			}
		})
	}
}

// No bit of a signature or of the seed of A may change.
func TestChangedSignaturesAndKeysAreRefusedAsElsewhere(t *testing.T) {
	for _, s := range sets {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, s, 7)
			message := []byte("a message")
			_, sig := p.sign(t, message)
			par, _ := s.params()
			hints := len(sig) - par.omega - par.k
			r := rand.New(rand.NewPCG(1, uint64(s)))
			for _, region := range []struct{ from, to, tries int }{
				{0, par.challenge, 8}, {par.challenge, hints, 16}, {hints, hints + par.omega, 24}, {hints + par.omega, len(sig), 24},
			} {
				for range region.tries {
					at := region.from + r.IntN(region.to-region.from)
					bad := bytes.Clone(sig)
					bad[at] ^= 1 << r.IntN(8)
					if p.agree(t, message, bad) {
						t.Errorf("a signature with another byte %d verifies", at)
					}
				}
			}
			mu := representative(p.key.Public(), message)
			for range 16 {
				// One of t1 by a little may be within what the hints allow: μ has the whole key.
				public := bytes.Clone(p.key.Public())
				at := r.IntN(32)
				public[at] ^= 1 << r.IntN(8)
				if err := s.Verify(public, mu, sig); !errors.Is(err, ErrMismatch) {
					t.Errorf("by a key with another byte %d: Verify = %v, want ErrMismatch", at, err)
				}
			}
		})
	}
}

// Each check has an input that only it refuses.
func TestEachCheckRefuses(t *testing.T) {
	for _, s := range sets {
		p := newPair(t, s, 3)
		message := []byte("a message")
		mu, sig := p.sign(t, message)
		par, _ := s.params()
		at := func(change func(hints, ends []byte)) []byte {
			bad := bytes.Clone(sig)
			hints := bad[len(bad)-par.omega-par.k:]
			change(hints[:par.omega], hints[par.omega:])
			return bad
		}
		// large puts a coefficient of z in the place of the first.
		large := func(c int) []byte {
			bad := bytes.Clone(sig)
			v := par.gamma1() - c
			z := bad[par.challenge:]
			z[0], z[1] = byte(v), byte(v>>8)
			mask := byte(1<<(par.zBits-16) - 1)
			z[2] = z[2]&^mask | byte(v>>16)&mask
			return bad
		}
		for name, tc := range map[string]struct {
			public, mu, sig []byte
			want            error
		}{
			"good":                       {p.key.Public(), mu, sig, nil},
			"a short key":                {p.key.Public()[1:], mu, sig, ErrSize},
			"a long key":                 {append(bytes.Clone(p.key.Public()), 0), mu, sig, ErrSize},
			"a short representative":     {p.key.Public(), mu[1:], sig, ErrSize},
			"a short signature":          {p.key.Public(), mu, sig[1:], ErrSize},
			"a long signature":           {p.key.Public(), mu, append(bytes.Clone(sig), 0), ErrSize},
			"the largest response":       {p.key.Public(), mu, large(par.gamma1() - par.beta - 1), ErrMismatch},
			"too large a response":       {p.key.Public(), mu, large(par.gamma1() - par.beta), ErrNorm},
			"the least response":         {p.key.Public(), mu, large(par.beta + 1 - par.gamma1()), ErrMismatch},
			"too small a response":       {p.key.Public(), mu, large(par.beta - par.gamma1()), ErrNorm},
			"two hints the wrong way":    {p.key.Public(), mu, at(func(h, _ []byte) { h[0], h[1] = h[1], h[0] }), ErrHint},
			"a hint twice":               {p.key.Public(), mu, at(func(h, _ []byte) { h[1] = h[0] }), ErrHint},
			"a hint behind the last":     {p.key.Public(), mu, at(func(h, e []byte) { h[e[len(e)-1]] = 1 }), ErrHint},
			"an end before the last":     {p.key.Public(), mu, at(func(_, e []byte) { e[1] = e[0] - 1 }), ErrHint},
			"more hints than there are":  {p.key.Public(), mu, at(func(h, e []byte) { fill(h, e, par.omega+1) }), ErrHint},
			"as many hints as there are": {p.key.Public(), mu, at(func(h, e []byte) { fill(h, e, par.omega) }), ErrMismatch},
			"another challenge":          {p.key.Public(), mu, append([]byte{sig[0] ^ 1}, sig[1:]...), ErrMismatch},
		} {
			if err := s.Verify(tc.public, tc.mu, tc.sig); !errors.Is(err, tc.want) {
				t.Errorf("set %d, %s: Verify = %v, want %v", s, name, err, tc.want)
			}
			if len(tc.mu) == MuSize && len(tc.public) == s.PublicSize() {
				p.agree(t, message, tc.sig)
			}
		}
	}
	if err := Set(45).Verify(nil, make([]byte, MuSize), nil); !errors.Is(err, ErrSize) {
		t.Errorf("Set(45).Verify = %v, want ErrSize", err)
	}
}

// fill gives the first polynomial all hints, and says that there are so many.
func fill(hints, ends []byte, count int) {
	for i := range hints {
		hints[i] = byte(i)
	}
	for i := range ends {
		ends[i] = byte(count)
	}
}

func TestSetsHaveTheSizesOfTheStandard(t *testing.T) {
	for s, want := range map[Set][2]int{ // table 2
		MLDSA44: {1312, 2420}, MLDSA65: {1952, 3309}, MLDSA87: {2592, 4627}, 0: {}, 45: {},
	} {
		if got := [2]int{s.PublicSize(), s.SignatureSize()}; got != want {
			t.Errorf("sizes of set %d = %v, want %v", s, got, want)
		}
	}
}

func TestKeysAreRefused(t *testing.T) {
	for name, call := range map[string]func() error{
		"another set":   func() error { _, err := NewKey(45, make([]byte, SeedSize)); return err },
		"a short seed":  func() error { _, err := NewKey(MLDSA44, make([]byte, SeedSize-1)); return err },
		"a long digest": func() error { _, err := newPair(t, MLDSA44, 1).key.SignMu(make([]byte, MuSize+1)); return err },
	} {
		if err := call(); !errors.Is(err, ErrSize) {
			t.Errorf("%s: %v, want ErrSize", name, err)
		}
	}
}

// Both implementations say the same of any bytes and of a good signature with a change.
func FuzzVerify(f *testing.F) {
	message := []byte("message")
	pairs, good := map[Set]*pair{}, map[Set][]byte{}
	for i, s := range sets {
		pairs[s] = newPair(f, s, byte(i))
		_, good[s] = pairs[s].sign(f, message)
		f.Add(byte(i), uint16(0), byte(0), good[s])
		f.Add(byte(i), uint16(len(good[s])-1), byte(1), good[s])
		f.Add(byte(i), uint16(len(good[s])-20), byte(3), good[s])
	}
	f.Fuzz(func(t *testing.T, which byte, at uint16, change byte, sig []byte) {
		s := sets[int(which)%len(sets)]
		if pairs[s].agree(t, message, sig) != bytes.Equal(sig, good[s]) {
			t.Error("another signature verifies, or the good one does not")
		}
		changed := bytes.Clone(good[s])
		changed[int(at)%len(changed)] ^= change
		if pairs[s].agree(t, message, changed) != (change == 0) {
			t.Errorf("a signature with byte %d changed by %#x: verifies = %v", at, change, change != 0)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, s := range sets {
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			p := newPair(b, s, 1)
			mu, sig := p.sign(b, []byte("message"))
			public := p.key.Public()
			for b.Loop() {
				if err := s.Verify(public, mu, sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
