package mldsa

import (
	"bytes"
	"crypto"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	upstream "filippo.io/mldsa"
)

func startMu(t testing.TB, public, context []byte) *Mu {
	t.Helper()
	mu, err := NewMu(public, context)
	if err != nil {
		t.Fatal(err)
	}
	return mu
}

// The accumulated vectors of C2SP's CCTV collection: all inputs come from SHAKE128
// of nothing, all outputs go into SHAKE128, and 32 bytes of that are known. One of ten
// goes through this package.
func TestAccumulatedAnswersOfCCTV(t *testing.T) {
	for set, want := range map[Set]string{
		MLDSA44: "d51148e1f9f4fa1a723a6cf42e25f2a99eb5c1b378b3d2dbbd561b1203beeae4",
		MLDSA65: "8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199",
		MLDSA87: "8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b",
	} {
		t.Run(fmt.Sprint(set), func(t *testing.T) {
			t.Parallel()
			in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
			seed := make([]byte, SeedSize)
			for i := range 100 {
				in.Read(seed)
				private, err := expand(set, seed)
				if err != nil {
					t.Fatal(err)
				}
				sig, err := private.SignDeterministic(nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if i%10 == 0 {
					checkAccumulated(t, set, seed, sig)
				}
				out.Write(private.PublicKey().Bytes())
				out.Write(sig)
			}
			sum := make([]byte, 32)
			out.Read(sum)
			if got := hex.EncodeToString(sum); got != want {
				t.Errorf("100 keys give %s, want %s", got, want)
			}
		})
	}
}

// checkAccumulated signs an empty message as well, and verifies it.
func checkAccumulated(t *testing.T, set Set, seed, want []byte) {
	t.Helper()
	k, err := NewKey(set, seed)
	if err != nil {
		t.Fatal(err)
	}
	mu := startMu(t, k.Public(), nil).Sum(nil)
	if got, err := k.SignMu(mu); err != nil || !bytes.Equal(got, want) {
		t.Errorf("SignMu gives another signature, %v", err)
	}
	if err := set.Verify(k.Public(), mu, want); err != nil {
		t.Errorf("Verify = %v", err)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(3*i + i>>8)
	}
	return b
}

// A message in parts, with the representative saved between them, has the signature
// that the other implementation verifies of the whole.
func TestAMessageInParts(t *testing.T) {
	for _, set := range sets {
		p := newPair(t, set, 9)
		message, context := pattern(1000), []byte("context")
		mu := startMu(t, p.key.Public(), context)
		mu.Write(message[:137])
		mu, err := Restore(mu.State())
		if err != nil {
			t.Fatal(err)
		}
		mu.Write(message[137:900])
		mu.Sum([]byte("something else"))
		again, err := NewKey(set, p.key.Seed())
		if err != nil {
			t.Fatal(err)
		}
		sig, err := again.SignMu(mu.Sum(message[900:]))
		if err != nil {
			t.Fatal(err)
		}
		if err := upstream.Verify(p.public, message, sig, &upstream.Options{Context: string(context)}); err != nil {
			t.Errorf("set %d: Verify of filippo.io/mldsa = %v", set, err)
		}
	}
}

func TestStatesAreRefused(t *testing.T) {
	good := startMu(t, nil, nil).State()
	if len(good) != StateSize {
		t.Errorf("State has %d bytes, want %d", len(good), StateSize)
	}
	ended := bytes.Clone(good)
	ended[len(ended)-1] = 1
	for _, state := range [][]byte{nil, []byte("no state"), good[1:], ended, append(bytes.Clone(good), 0), make([]byte, len(good))} {
		if _, err := Restore(state); !errors.Is(err, ErrState) {
			t.Errorf("Restore of %d bytes = %v, want ErrState", len(state), err)
		}
	}
}

func TestRepresentativesAreRefused(t *testing.T) {
	if _, err := NewMu(nil, make([]byte, MaxContext+1)); !errors.Is(err, ErrSize) {
		t.Errorf("NewMu with a context of 256 bytes = %v, want ErrSize", err)
	}
	for name, tc := range map[string]struct {
		context []byte
		hash    crypto.Hash
		digest  []byte
		want    error
	}{
		"good":           {make([]byte, MaxContext), crypto.SHA256, make([]byte, 32), nil},
		"SHA-1":          {nil, crypto.SHA1, make([]byte, 20), ErrHash},
		"no hash":        {nil, 0, nil, ErrHash},
		"a short digest": {nil, crypto.SHA512, make([]byte, 63), ErrSize},
		"a long context": {make([]byte, MaxContext+1), crypto.SHA256, make([]byte, 32), ErrSize},
	} {
		if _, err := HashMu(nil, tc.context, tc.hash, tc.digest); !errors.Is(err, tc.want) {
			t.Errorf("%s: HashMu = %v, want %v", name, err, tc.want)
		}
		if got, want := Hashes(tc.hash), !errors.Is(tc.want, ErrHash); got != want {
			t.Errorf("%s: Hashes = %v, want %v", name, got, want)
		}
	}
}

// The representative of HashML-DSA is made of the parts that 5.4, algorithm 4, names,
// of which the object identifiers are written out here.
func TestRepresentativesOfDigests(t *testing.T) {
	public, digest := pattern(1312), pattern(64)
	for hash, oid := range map[crypto.Hash]string{
		crypto.SHA256: "0609608648016503040201", crypto.SHA384: "0609608648016503040202", crypto.SHA512: "0609608648016503040203",
		crypto.SHA3_256: "0609608648016503040208", crypto.SHA3_384: "0609608648016503040209", crypto.SHA3_512: "060960864801650304020a",
	} {
		message := append(sha3.SumSHAKE256(public, 64), 1, 3, 'c', 't', 'x')
		der, err := hex.DecodeString(oid)
		if err != nil {
			t.Fatal(err)
		}
		message = append(append(message, der...), digest[:hash.Size()]...)
		got, err := HashMu(public, []byte("ctx"), hash, digest[:hash.Size()])
		if want := sha3.SumSHAKE256(message, 64); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: HashMu = %x, %v; want %x", hash, got, err, want)
		}
	}
}

// A self-test fails for another answer, and for representatives that are wrong or the
// same for all messages.
func TestSelfTests(t *testing.T) {
	for name, run := range map[string]func() error{"ML-DSA": SelfTest, "HashML-DSA": HashSelfTest} {
		if err := run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	const answer = "a6f4084aa6d30323497b5b0cf3565f42b8feae995006daa6c6ea569021ad5f34"
	good := func(public, message []byte) ([]byte, error) {
		m, err := NewMu(public, []byte("context"))
		return m.Sum(message), err
	}
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		mu     func(public, message []byte) ([]byte, error)
		answer string
		want   error
	}{
		"good":              {good, answer, nil},
		"another answer":    {good, "b" + answer[1:], errSelfTest},
		"one for all":       {func(public, _ []byte) ([]byte, error) { return good(public, selfTestMessage()) }, answer, errSelfTest},
		"of another length": {func([]byte, []byte) ([]byte, error) { return make([]byte, MuSize-1), nil }, answer, ErrSize},
		"broken":            {func([]byte, []byte) ([]byte, error) { return nil, broken }, answer, broken},
	} {
		if err := selfTest(tc.mu, tc.answer); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add(startMu(f, nil, nil).State())
	f.Fuzz(func(t *testing.T, b []byte) {
		if mu, err := Restore(b); err == nil {
			mu.Write(b)
			if len(mu.Sum(b)) != MuSize {
				t.Error("a restored message has another size")
			}
		}
	})
}
