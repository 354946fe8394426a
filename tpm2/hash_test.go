package tpm2_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// Sum is the digest that the streaming hash gives, however the message is cut.
func TestSumIsTheDigestOfTheParts(t *testing.T) {
	message := make([]byte, 700)
	for i := range message {
		message[i] = byte(i * 7)
	}
	for _, a := range []tpm2.Alg{
		tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512,
		tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512,
	} {
		h, ok := a.Hash()
		if !ok {
			t.Fatalf("%s has no hash", a.BankName())
		}
		for _, n := range []int{0, 1, 255, 256, 257, 700} {
			sum := h.New()
			sum.Write(message[:n])
			want := sum.Sum([]byte("before"))
			for cut := range 3 {
				at := n * cut / 2
				got, ok := a.Sum([]byte("before"), message[:at], nil, message[at:n])
				if !ok || !bytes.Equal(got, want) {
					t.Errorf("%s of %d bytes cut at %d = %x, %v, want %x", a.BankName(), n, at, got, ok, want)
				}
			}
			if got, ok := a.Sum([]byte("before"), message[:n]); !ok || !bytes.Equal(got, want) {
				t.Errorf("%s of %d bytes = %x, %v, want %x", a.BankName(), n, got, ok, want)
			}
		}
	}
}

func TestSumOfWhatIsNoHashIsNone(t *testing.T) {
	for _, a := range []tpm2.Alg{tpm2.AlgNull, tpm2.AlgSM3, tpm2.AlgRSA, 0} {
		if got, ok := a.Sum(nil, []byte("x")); ok || got != nil {
			t.Errorf("Sum by %#x = %x, %v, want nothing", uint16(a), got, ok)
		}
	}
}

// A PCR is extended in place: the digest may go where its own input is.
func TestSumMayOverwriteItsInput(t *testing.T) {
	pcr := make([]byte, 32)
	want, _ := tpm2.AlgSHA256.Sum(nil, pcr, []byte("event"))
	tpm2.AlgSHA256.Sum(pcr[:0], pcr, []byte("event"))
	if !bytes.Equal(pcr, want) {
		t.Errorf("extended in place to %x, want %x", pcr, want)
	}
}

func TestSumOfShortPartsTakesNoMemory(t *testing.T) {
	dst, part := make([]byte, 0, tpm2.MaxDigest), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { tpm2.AlgSHA384.Sum(dst, part, part) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}
