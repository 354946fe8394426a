package tpmcrypto_test

import (
	"bytes"
	"crypto/fips140"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// The accumulated vectors of C2SP's CCTV collection: all inputs come from SHAKE128
// of nothing, all outputs go into SHAKE128, and 32 bytes of that are known.

func TestMLKEM768GivesTheAccumulatedAnswersOfCCTV(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the validated module brings its own randomness")
	}
	in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	seed, reject := make([]byte, 64), make([]byte, 1088)
	for range 100 {
		in.Read(seed)
		k, err := tpmcrypto.LoadMLKEM(tpm2.MLKEM768, seed)
		if err != nil {
			t.Fatal(err)
		}
		c, secret, err := tpmcrypto.EncapsulateMLKEM(in, tpm2.MLKEM768, k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Decapsulate(c); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("Decapsulate = %x, %v; want %x", got, err, secret)
		}
		in.Read(reject)
		rejected, err := k.Decapsulate(reject)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{k.Public(), c, secret, rejected} {
			out.Write(b)
		}
	}
	sum := make([]byte, 32)
	out.Read(sum)
	if got, want := hex.EncodeToString(sum), "1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415"; got != want {
		t.Errorf("100 keys give %s, want %s", got, want)
	}
}

func TestMLKEMKeys(t *testing.T) {
	for set, sizes := range map[tpm2.MLKEMSet][2]int{tpm2.MLKEM768: {1184, 1088}, tpm2.MLKEM1024: {1568, 1568}} {
		k, err := tpmcrypto.GenerateMLKEM(newDRBG(t), set)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tpmcrypto.LoadMLKEM(set, k.Seed())
		if err != nil || !bytes.Equal(again.Public(), k.Public()) || len(k.Public()) != sizes[0] {
			t.Errorf("set %d: LoadMLKEM = %v, public key of %d bytes", set, err, len(k.Public()))
		}
		c, secret, err := tpmcrypto.EncapsulateMLKEM(newDRBG(t), set, k.Public())
		if err != nil || len(c) != sizes[1] || len(secret) != 32 {
			t.Fatalf("set %d: EncapsulateMLKEM = %d bytes, %d bytes, %v", set, len(c), len(secret), err)
		}
		if got, err := again.Decapsulate(c); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("set %d: Decapsulate = %x, %v; want %x", set, got, err, secret)
		}
		other := bytes.Clone(c)
		other[0] ^= 1
		if got, err := k.Decapsulate(other); err != nil || bytes.Equal(got, secret) {
			t.Errorf("set %d: Decapsulate of another ciphertext = %x, %v", set, got, err)
		}
		for _, bad := range [][]byte{nil, c[1:], append(bytes.Clone(c), 0)} {
			if _, err := k.Decapsulate(bad); !errors.Is(err, tpm2.RCSize) {
				t.Errorf("set %d: Decapsulate of %d bytes = %v, want TPM_RC_SIZE", set, len(bad), err)
			}
		}
		for _, bad := range [][]byte{nil, k.Public()[1:], append(bytes.Clone(k.Public()), 0), bytes.Repeat([]byte{0xFF}, sizes[0])} {
			if _, _, err := tpmcrypto.EncapsulateMLKEM(newDRBG(t), set, bad); !errors.Is(err, tpm2.RCKey) {
				t.Errorf("set %d: EncapsulateMLKEM with a key of %d bytes = %v, want TPM_RC_KEY", set, len(bad), err)
			}
		}
		if _, err := tpmcrypto.LoadMLKEM(set, k.Seed()[1:]); !errors.Is(err, tpm2.RCKeySize) {
			t.Errorf("LoadMLKEM of 63 bytes = %v, want TPM_RC_KEY_SIZE", err)
		}
	}
	for _, set := range []tpm2.MLKEMSet{0, tpm2.MLKEM512, 4} {
		_, err1 := tpmcrypto.GenerateMLKEM(newDRBG(t), set)
		_, _, err2 := tpmcrypto.EncapsulateMLKEM(newDRBG(t), set, make([]byte, 800))
		if !errors.Is(err1, tpm2.RCParms) || !errors.Is(err2, tpm2.RCParms) {
			t.Errorf("set %d: %v, %v; want TPM_RC_PARMS", set, err1, err2)
		}
	}
	if _, err := tpmcrypto.GenerateMLKEM(bytes.NewReader(nil), tpm2.MLKEM768); !errors.Is(err, io.EOF) {
		t.Errorf("GenerateMLKEM without randomness = %v", err)
	}
}

func FuzzPostQuantum(f *testing.F) {
	kem, err := tpmcrypto.LoadMLKEM(tpm2.MLKEM768, pattern(64))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kem.Public())
	f.Add(make([]byte, 1088))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, secret, err := tpmcrypto.EncapsulateMLKEM(newDRBG(t), tpm2.MLKEM768, b); err == nil && (len(c) != 1088 || len(secret) != 32) {
			t.Errorf("EncapsulateMLKEM = %d bytes, %d bytes", len(c), len(secret))
		}
		if secret, err := kem.Decapsulate(b); err == nil && len(secret) != 32 {
			t.Errorf("Decapsulate = %d bytes", len(secret))
		}
	})
}

func TestMLKEMPublicKeysAreChecked(t *testing.T) {
	k, err := tpmcrypto.LoadMLKEM(tpm2.MLKEM768, make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set    tpm2.MLKEMSet
		public []byte
		want   error
	}{
		"good":                   {tpm2.MLKEM768, k.Public(), nil},
		"of another set":         {tpm2.MLKEM1024, k.Public(), tpm2.RCKey},
		"short":                  {tpm2.MLKEM768, k.Public()[1:], tpm2.RCKey},
		"coefficients too large": {tpm2.MLKEM768, bytes.Repeat([]byte{0xff}, 1184), tpm2.RCKey},
		"ML-KEM-512":             {tpm2.MLKEM512, make([]byte, 800), tpm2.RCParms},
	} {
		if err := tpmcrypto.CheckMLKEM(tc.set, tc.public); !errors.Is(err, tc.want) {
			t.Errorf("%s: CheckMLKEM = %v, want %v", name, err, tc.want)
		}
	}
}
