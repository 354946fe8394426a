package tpmcrypto_test

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"filippo.io/mldsa"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

var mldsaSets = map[tpm2.MLDSASet]mldsa.Parameters{tpm2.MLDSA44: mldsa.MLDSA44(), tpm2.MLDSA65: mldsa.MLDSA65(), tpm2.MLDSA87: mldsa.MLDSA87()}

func startMu(t testing.TB, public, context []byte) *tpmcrypto.MLDSAMu {
	t.Helper()
	mu, err := tpmcrypto.NewMLDSAMu(public, context)
	if err != nil {
		t.Fatal(err)
	}
	return mu
}

func signMu(t testing.TB, k *tpmcrypto.MLDSAKey, mu []byte) []byte {
	t.Helper()
	sig, err := k.SignMu(mu)
	if err != nil {
		t.Fatal(err)
	}
	return sig
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
			mu := startMu(t, k.Public(), nil).Sum(nil)
			sig := signMu(t, k, mu)
			if err := tpmcrypto.VerifyMLDSAMu(set, k.Public(), mu, sig); err != nil {
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

// A message in parts, with the representative saved between them, has the signature
// that the other implementation verifies of the whole.
func TestMLDSAMessageInParts(t *testing.T) {
	for set, params := range mldsaSets {
		k, err := tpmcrypto.GenerateMLDSA(newDRBG(t), set)
		if err != nil {
			t.Fatal(err)
		}
		message, context := pattern(1000), []byte("context")
		mu := startMu(t, k.Public(), context)
		mu.Write(message[:137])
		state := mu.State()
		if len(state) != tpmcrypto.MLDSAMuStateSize {
			t.Errorf("State has %d bytes", len(state))
		}
		if mu, err = tpmcrypto.RestoreMLDSAMu(state); err != nil {
			t.Fatal(err)
		}
		mu.Write(message[137:900])
		mu.Sum([]byte("something else"))
		again, err := tpmcrypto.LoadMLDSA(set, k.Seed())
		if err != nil {
			t.Fatal(err)
		}
		sig := signMu(t, again, mu.Sum(message[900:]))
		public, err := mldsa.NewPublicKey(params, k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if err := mldsa.Verify(public, message, sig, &mldsa.Options{Context: string(context)}); err != nil {
			t.Errorf("set %d: Verify of filippo.io/mldsa = %v", set, err)
		}
		if p, s := tpmcrypto.MLDSASizes(set); p != len(k.Public()) || s != len(sig) {
			t.Errorf("MLDSASizes(%d) = %d, %d", set, p, s)
		}
	}
}

func TestMLDSASignaturesAreRefused(t *testing.T) {
	for set := range mldsaSets {
		k, err := tpmcrypto.GenerateMLDSA(newDRBG(t), set)
		if err != nil {
			t.Fatal(err)
		}
		mu := startMu(t, k.Public(), []byte("context")).Sum(pattern(1000))
		sig := signMu(t, k, mu)
		bad := bytes.Clone(sig)
		bad[7] ^= 1
		for name, tc := range map[string]struct {
			set             tpm2.MLDSASet
			public, mu, sig []byte
			want            error
		}{
			"good":                 {set, k.Public(), mu, sig, nil},
			"another message":      {set, k.Public(), startMu(t, k.Public(), []byte("context")).Sum(pattern(999)), sig, tpm2.RCSignature},
			"another context":      {set, k.Public(), startMu(t, k.Public(), nil).Sum(pattern(1000)), sig, tpm2.RCSignature},
			"another signature":    {set, k.Public(), mu, bad, tpm2.RCSignature},
			"no signature":         {set, k.Public(), mu, nil, tpm2.RCSignature},
			"a short key":          {set, k.Public()[1:], mu, sig, tpm2.RCKey},
			"another set":          {set%3 + 1, k.Public(), mu, sig, tpm2.RCKey},
			"no set":               {4, k.Public(), mu, sig, tpm2.RCParms},
			"short representative": {set, k.Public(), mu[1:], sig, tpm2.RCSize},
		} {
			if err := tpmcrypto.VerifyMLDSAMu(tc.set, tc.public, tc.mu, tc.sig); !errors.Is(err, tc.want) {
				t.Errorf("set %d, %s: VerifyMLDSAMu = %v, want %v", set, name, err, tc.want)
			}
		}
		if _, err := k.SignMu(mu[1:]); !errors.Is(err, tpm2.RCSize) {
			t.Errorf("SignMu of 63 bytes = %v, want TPM_RC_SIZE", err)
		}
		if _, err := tpmcrypto.LoadMLDSA(set, make([]byte, 31)); !errors.Is(err, tpm2.RCKeySize) {
			t.Errorf("LoadMLDSA of 31 bytes = %v, want TPM_RC_KEY_SIZE", err)
		}
	}
	if _, err := tpmcrypto.GenerateMLDSA(newDRBG(t), 4); !errors.Is(err, tpm2.RCParms) {
		t.Errorf("GenerateMLDSA of set 4 = %v, want TPM_RC_PARMS", err)
	}
	if _, err := tpmcrypto.GenerateMLDSA(bytes.NewReader(nil), tpm2.MLDSA44); !errors.Is(err, io.EOF) {
		t.Errorf("GenerateMLDSA without randomness = %v", err)
	}
}

func TestMLDSARepresentativesAreRefused(t *testing.T) {
	if _, err := tpmcrypto.NewMLDSAMu(nil, make([]byte, 256)); !errors.Is(err, tpm2.RCSize) {
		t.Errorf("NewMLDSAMu with a context of 256 bytes = %v, want TPM_RC_SIZE", err)
	}
	good := startMu(t, nil, nil).State()
	ended := bytes.Clone(good)
	ended[len(ended)-1] = 1
	for _, state := range [][]byte{nil, []byte("no state"), good[1:], ended, append(bytes.Clone(good), 0), make([]byte, len(good))} {
		if _, err := tpmcrypto.RestoreMLDSAMu(state); !errors.Is(err, tpm2.RCValue) {
			t.Errorf("RestoreMLDSAMu of %d bytes = %v, want TPM_RC_VALUE", len(state), err)
		}
	}
	for name, tc := range map[string]struct {
		context []byte
		hash    tpm2.Alg
		digest  []byte
		want    error
	}{
		"good":           {make([]byte, 255), tpm2.AlgSHA256, make([]byte, 32), nil},
		"SHA-1":          {nil, tpm2.AlgSHA1, make([]byte, 20), tpm2.RCHash},
		"no hash":        {nil, tpm2.AlgNull, nil, tpm2.RCHash},
		"a short digest": {nil, tpm2.AlgSHA512, make([]byte, 63), tpm2.RCSize},
		"a long context": {make([]byte, 256), tpm2.AlgSHA256, make([]byte, 32), tpm2.RCSize},
	} {
		if _, err := tpmcrypto.HashMLDSAMu(nil, tc.context, tc.hash, tc.digest); !errors.Is(err, tc.want) {
			t.Errorf("%s: HashMLDSAMu = %v, want %v", name, err, tc.want)
		}
		if got, want := tpmcrypto.HashMLDSA(tc.hash), tc.want != error(tpm2.RCHash); got != want {
			t.Errorf("HashMLDSA(%#x) = %v", tc.hash, got)
		}
	}
}

// The representative of HashML-DSA is made of the parts that FIPS 204, algorithm 4
// names, of which the object identifiers are written out here.
func TestHashMLDSARepresentatives(t *testing.T) {
	public, digest := pattern(1312), pattern(64)
	for hash, oid := range map[tpm2.Alg]string{
		tpm2.AlgSHA256: "0609608648016503040201", tpm2.AlgSHA384: "0609608648016503040202", tpm2.AlgSHA512: "0609608648016503040203",
		tpm2.AlgSHA3x256: "0609608648016503040208", tpm2.AlgSHA3x384: "0609608648016503040209", tpm2.AlgSHA3x512: "060960864801650304020a",
	} {
		message := append(sha3.SumSHAKE256(public, 64), 1, 3, 'c', 't', 'x')
		der, err := hex.DecodeString(oid)
		if err != nil {
			t.Fatal(err)
		}
		message = append(append(message, der...), digest[:hash.DigestSize()]...)
		got, err := tpmcrypto.HashMLDSAMu(public, []byte("ctx"), hash, digest[:hash.DigestSize()])
		if want := sha3.SumSHAKE256(message, 64); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: HashMLDSAMu = %x, %v; want %x", hash.BankName(), got, err, want)
		}
	}
}
