package tpmcrypto_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// SP 800-38B, annex D, as corrected in 2016, and RFC 4493.
var cmacAnswers = []struct {
	key  string
	n    int // bytes of plain38A
	want string
}{
	{key128, 0, "bb1d6929e95937287fa37d129b756746"},
	{key128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
	{key128, 20, "7d85449ea6ea19c823a7bf78837dfade"},
	{key128, 40, "dfa66747de9ae63030ca32611497c827"},
	{key128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
	{key192, 0, "d17ddf46adaacde531cac483de7a9367"},
	{key192, 64, "a1d5df0eed790f794d77589659f39a11"},
	{key256, 0, "028962f61b7bf89efc6b551f4667d983"},
	{key256, 64, "e1992190549f6ed5696a2c056c315410"},
}

func TestCMACGivesTheAnswersOfSP80038B(t *testing.T) {
	for _, tc := range cmacAnswers {
		key, in, want := unhex(t, tc.key), unhex(t, plain38A)[:tc.n], unhex(t, tc.want)
		for cut := range tc.n + 1 {
			c, err := tpmcrypto.NewCMAC(tpm2.AlgAES, uint16(8*len(key)), key)
			if err != nil {
				t.Fatal(err)
			}
			c.Write(in[:cut])
			c.Sum(nil) // changes nothing
			saved := c.State()
			c.Reset()
			if err := c.Restore(saved); err != nil {
				t.Fatal(err)
			}
			c.Write(in[cut:])
			if got := c.Sum([]byte{7}); !bytes.Equal(got[1:], want) || got[0] != 7 {
				t.Fatalf("CMAC of %d bytes, cut at %d = %x, want %x", tc.n, cut, got, want)
			}
		}
	}
}

func TestCMACRefusals(t *testing.T) {
	if _, err := tpmcrypto.NewCMAC(tpm2.AlgCamellia, 128, make([]byte, 16)); !errors.Is(err, tpm2.RCSymmetric) {
		t.Errorf("NewCMAC of Camellia = %v", err)
	}
	if _, err := tpmcrypto.NewCMAC(tpm2.AlgAES, 128, make([]byte, 15)); !errors.Is(err, tpm2.RCKeySize) {
		t.Errorf("NewCMAC with 15 bytes = %v", err)
	}
	c, err := tpmcrypto.NewCMAC(tpm2.AlgAES, 128, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range [][]byte{nil, make([]byte, 16), make([]byte, 18), append(make([]byte, 16), 17)} {
		if err := c.Restore(state); !errors.Is(err, tpm2.RCValue) {
			t.Errorf("Restore(%x) = %v, want TPM_RC_VALUE", state, err)
		}
	}
}

// RFC 4231, test case 2, and RFC 2202, test case 2.
func TestHMACGivesTheAnswersOfRFC4231(t *testing.T) {
	for a, want := range map[tpm2.Alg]string{
		tpm2.AlgSHA1:   "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
		tpm2.AlgSHA256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		tpm2.AlgSHA384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
		tpm2.AlgSHA512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
	} {
		got, err := tpmcrypto.HMAC(a, []byte("Jefe"), []byte("what do ya want "), []byte("for nothing?"))
		if err != nil || !tpmcrypto.Equal(got, unhex(t, want)) {
			t.Errorf("HMAC by %s = %x, %v; want %s", a.BankName(), got, err, want)
		}
	}
	if _, err := tpmcrypto.HMAC(tpm2.AlgSM3, nil); !errors.Is(err, tpm2.RCHash) {
		t.Errorf("HMAC by SM3 = %v, want TPM_RC_HASH", err)
	}
	if tpmcrypto.Equal([]byte{1}, []byte{2}) || tpmcrypto.Equal([]byte{1}, nil) {
		t.Error("Equal says that different values are equal")
	}
}
