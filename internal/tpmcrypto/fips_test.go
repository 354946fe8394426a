package tpmcrypto_test

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// counted is randomness that others may replace, with what was taken of it.
type counted struct {
	*rand.ChaCha8
	n int
}

func (c *counted) Read(p []byte) (int, error) { c.n += len(p); return c.ChaCha8.Read(p) }
func (c *counted) Fresh() bool                { return true }

// stream is randomness that decides the result.
type stream struct{ *counted }

func (stream) Fresh() bool { return false }

// In FIPS 140-3 mode the validated module makes the keys that need not be those of one
// stream, with its own randomness; elsewhere, and for primary keys, all comes from the
// reader.
func TestTheValidatedModuleMakesKeys(t *testing.T) {
	makers := map[string]func(r *counted, isStream bool) error{}
	for _, id := range []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521} {
		makers[fmt.Sprintf("a key on %v", id)] = func(r *counted, isStream bool) (err error) {
			if isStream {
				_, err = tpmcrypto.GenerateECC(stream{r}, id)
			} else {
				_, err = tpmcrypto.GenerateECC(r, id)
			}
			return err
		}
	}
	makers["an RSA key"] = func(r *counted, isStream bool) (err error) {
		if isStream {
			_, err = tpmcrypto.GenerateRSA(stream{r}, 2048, 0)
		} else {
			_, err = tpmcrypto.GenerateRSA(r, 2048, 0)
		}
		return err
	}
	for name, make := range makers {
		for _, isStream := range []bool{false, true} {
			r := &counted{ChaCha8: rand.NewChaCha8([32]byte{1})}
			if err := make(r, isStream); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if byModule := r.n == 0; byModule != (fips140.Enabled() && !isStream) {
				t.Errorf("%s, stream %t, FIPS 140-3 mode %t: %d bytes were read", name, isStream, fips140.Enabled(), r.n)
			}
		}
	}
}

// The secret of ECDH is the x-coordinate of the product that TPM2_ECDH_ZGen returns,
// whoever computes it.
func TestASharedSecretIsTheXOfTheProduct(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	for _, id := range []tpm2.ECCCurve{tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521, tpm2.CurveBNP256} {
		k, err := tpmcrypto.GenerateECC(r, id)
		if err != nil {
			t.Fatal(err)
		}
		public, secret, err := k.Share(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Shared(public)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%v: Shared = %x, %v, want %x as Share", id, got, err, secret)
		}
		whole, err := k.Multiply(public)
		if err != nil || !bytes.Equal(whole.X, secret) || len(secret) != len(public.X) {
			t.Errorf("%v: Multiply = %x, %v, want %x as Share", id, whole.X, err, secret)
		}
		public.Y = bytes.Clone(public.Y)
		public.Y[0] ^= 1
		if _, err := k.Shared(public); !errors.Is(err, tpm2.RCECCPoint) {
			t.Errorf("%v: Shared with a point off the curve = %v, want TPM_RC_ECC_POINT", id, err)
		}
	}
}

// OAEP's round trip and its refusals are the same in each mode.
func TestOAEPRefusesTheSameInEachMode(t *testing.T) {
	k, err := tpmcrypto.GenerateRSA(rand.NewChaCha8([32]byte{3}), 2048, 0)
	if err != nil {
		t.Fatal(err)
	}
	scheme := tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	c, err := k.Encrypt(rand.NewChaCha8([32]byte{4}), scheme, []byte("L\x00"), []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Decrypt(scheme, []byte("L\x00"), c); err != nil || string(got) != "message" {
		t.Errorf("Decrypt = %q, %v", got, err)
	}
	for name, tc := range map[string]struct {
		label, c []byte
		want     tpm2.RC
	}{
		"another label":             {[]byte("M\x00"), c, tpm2.RCValue},
		"another ciphertext":        {[]byte("L\x00"), append(bytes.Clone(c[:255]), c[255]^1), tpm2.RCValue},
		"a ciphertext that is long": {[]byte("L\x00"), append([]byte{0}, c...), tpm2.RCSize},
		"one above the modulus":     {[]byte("L\x00"), bytes.Repeat([]byte{0xFF}, 256), tpm2.RCValue},
	} {
		if got, err := k.Decrypt(scheme, tc.label, tc.c); !errors.Is(err, tc.want) {
			t.Errorf("%s: Decrypt = %x, %v, want %v", name, got, err, tc.want)
		}
	}
	if _, err := k.Encrypt(rand.NewChaCha8([32]byte{4}), scheme, nil, make([]byte, 191)); !errors.Is(err, tpm2.RCValue) {
		t.Errorf("Encrypt of 191 bytes = %v, want TPM_RC_VALUE", err)
	}
}
