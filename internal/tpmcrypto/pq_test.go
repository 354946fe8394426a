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

func TestMLDSAGivesTheAccumulatedAnswersOfCCTV(t *testing.T) {
	for set, want := range map[tpm2.MLDSASet]string{
		tpm2.MLDSA44: "d51148e1f9f4fa1a723a6cf42e25f2a99eb5c1b378b3d2dbbd561b1203beeae4",
		tpm2.MLDSA65: "8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199",
		tpm2.MLDSA87: "8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b",
	} {
		in, out := sha3.NewSHAKE128(), sha3.NewSHAKE128()
		for range 100 {
			k, err := tpmcrypto.GenerateMLDSA(in, set)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := k.Sign(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := tpmcrypto.VerifyMLDSA(set, k.Public(), nil, nil, sig); err != nil {
				t.Fatal(err)
			}
			out.Write(k.Public())
			out.Write(sig)
		}
		sum := make([]byte, 32)
		out.Read(sum)
		if got := hex.EncodeToString(sum); got != want {
			t.Errorf("100 keys of set %d give %s, want %s", set, got, want)
		}
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

func TestMLDSAMessageInParts(t *testing.T) {
	for _, set := range []tpm2.MLDSASet{tpm2.MLDSA44, tpm2.MLDSA65, tpm2.MLDSA87} {
		k, err := tpmcrypto.GenerateMLDSA(newDRBG(t), set)
		if err != nil {
			t.Fatal(err)
		}
		message, context := pattern(1000), []byte("context")
		want, err := k.Sign(message, context)
		if err != nil {
			t.Fatal(err)
		}
		mu, err := tpmcrypto.NewMLDSAMu(k.Public(), context)
		if err != nil {
			t.Fatal(err)
		}
		mu.Write(message[:137])
		if mu, err = tpmcrypto.RestoreMLDSAMu(mu.State()); err != nil {
			t.Fatal(err)
		}
		mu.Write(message[137:])
		again, err := tpmcrypto.LoadMLDSA(set, k.Seed())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.SignMu(mu.Sum()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("set %d: SignMu of a message in parts differs, %v", set, err)
		}
		if err := tpmcrypto.VerifyMLDSA(set, k.Public(), message, context, want); err != nil {
			t.Errorf("set %d: VerifyMLDSA = %v", set, err)
		}
		bad := bytes.Clone(want)
		bad[7] ^= 1
		for name, tc := range map[string]struct {
			public, message, context, sig []byte
			want                          tpm2.RC
		}{
			"message":   {k.Public(), message[1:], context, want, tpm2.RCSignature},
			"context":   {k.Public(), message, nil, want, tpm2.RCSignature},
			"signature": {k.Public(), message, context, bad, tpm2.RCSignature},
			"none":      {k.Public(), message, context, nil, tpm2.RCSignature},
			"key":       {k.Public()[1:], message, context, want, tpm2.RCKey},
			"long":      {k.Public(), message, make([]byte, 256), want, tpm2.RCSize},
		} {
			if err := tpmcrypto.VerifyMLDSA(set, tc.public, tc.message, tc.context, tc.sig); !errors.Is(err, tc.want) {
				t.Errorf("set %d, %s: VerifyMLDSA = %v, want %v", set, name, err, tc.want)
			}
		}
		if _, err := k.SignMu(make([]byte, 63)); !errors.Is(err, tpm2.RCSize) {
			t.Errorf("SignMu of 63 bytes = %v, want TPM_RC_SIZE", err)
		}
		if _, err := k.Sign(nil, make([]byte, 256)); !errors.Is(err, tpm2.RCSize) {
			t.Errorf("Sign with a context of 256 bytes = %v, want TPM_RC_SIZE", err)
		}
		if _, err := tpmcrypto.LoadMLDSA(set, make([]byte, 31)); !errors.Is(err, tpm2.RCKeySize) {
			t.Errorf("LoadMLDSA of 31 bytes = %v, want TPM_RC_KEY_SIZE", err)
		}
	}
	if _, err := tpmcrypto.GenerateMLDSA(newDRBG(t), 4); !errors.Is(err, tpm2.RCParms) {
		t.Errorf("GenerateMLDSA of set 4 = %v, want TPM_RC_PARMS", err)
	}
	if err := tpmcrypto.VerifyMLDSA(0, nil, nil, nil, nil); !errors.Is(err, tpm2.RCParms) {
		t.Errorf("VerifyMLDSA of set 0 = %v, want TPM_RC_PARMS", err)
	}
	ended, err := tpmcrypto.NewMLDSAMu(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended.Sum()
	for _, state := range [][]byte{nil, []byte("no state"), ended.State(), append(ended.State(), 0), make([]byte, len(ended.State()))} {
		if _, err := tpmcrypto.RestoreMLDSAMu(state); !errors.Is(err, tpm2.RCValue) {
			t.Errorf("RestoreMLDSAMu of %d bytes = %v, want TPM_RC_VALUE", len(state), err)
		}
	}
	if _, err := tpmcrypto.GenerateMLDSA(bytes.NewReader(nil), tpm2.MLDSA44); !errors.Is(err, io.EOF) {
		t.Errorf("GenerateMLDSA without randomness = %v", err)
	}
}

func FuzzPostQuantum(f *testing.F) {
	kem, err := tpmcrypto.LoadMLKEM(tpm2.MLKEM768, pattern(64))
	if err != nil {
		f.Fatal(err)
	}
	dsa, err := tpmcrypto.LoadMLDSA(tpm2.MLDSA44, pattern(32))
	if err != nil {
		f.Fatal(err)
	}
	sig, err := dsa.Sign(pattern(5), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kem.Public())
	f.Add(make([]byte, 1088))
	f.Add(dsa.Public())
	f.Add(sig)
	mu, err := tpmcrypto.NewMLDSAMu(dsa.Public(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mu.State())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, secret, err := tpmcrypto.EncapsulateMLKEM(newDRBG(t), tpm2.MLKEM768, b); err == nil && (len(c) != 1088 || len(secret) != 32) {
			t.Errorf("EncapsulateMLKEM = %d bytes, %d bytes", len(c), len(secret))
		}
		if secret, err := kem.Decapsulate(b); err == nil && len(secret) != 32 {
			t.Errorf("Decapsulate = %d bytes", len(secret))
		}
		if err := tpmcrypto.VerifyMLDSA(tpm2.MLDSA44, dsa.Public(), pattern(5), nil, b); (err == nil) != bytes.Equal(b, sig) {
			t.Errorf("VerifyMLDSA of another signature = %v", err)
		}
		if err := tpmcrypto.VerifyMLDSA(tpm2.MLDSA44, b, pattern(5), nil, sig); (err == nil) != bytes.Equal(b, dsa.Public()) {
			t.Errorf("VerifyMLDSA by another key = %v", err)
		}
		if mu, err := tpmcrypto.RestoreMLDSAMu(b); err == nil {
			mu.Write(b)
			if len(mu.Sum()) != tpmcrypto.MLDSAMuSize {
				t.Error("a restored message has another size")
			}
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
