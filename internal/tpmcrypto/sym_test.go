package tpmcrypto_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pattern is deterministic data without a period that a block could hide.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>5)
	}
	return b
}

const (
	plain38A  = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	key128    = "2b7e151628aed2a6abf7158809cf4f3c"
	key192    = "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b"
	key256    = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	iv38A     = "000102030405060708090a0b0c0d0e0f"
	counter38 = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

// SP 800-38A, annex F. The longer keys are told by their first block.
var modes38A = []struct {
	mode         tpm2.Alg
	key, iv, out string
}{
	{tpm2.AlgECB, key128, "", "3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf43b1cd7f598ece23881b00e3ed0306887b0c785e27e8ad3f8223207104725dd4"},
	{tpm2.AlgECB, key192, "", "bd334f1d6e45f25ff712a214571fa5cc"},
	{tpm2.AlgECB, key256, "", "f3eed1bdb5d2a03c064b5a7e3db181f8"},
	{tpm2.AlgCBC, key128, iv38A, "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
	{tpm2.AlgCBC, key192, iv38A, "4f021db243bc633d7178183a9fa071e8"},
	{tpm2.AlgCBC, key256, iv38A, "f58c4c04d6e5f1ba779eabfb5f7bfbd6"},
	{tpm2.AlgCFB, key128, iv38A, "3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b26751f67a3cbb140b1808cf187a4f4dfc04b05357c5d1c0eeac4c66f9ff7f2e6"},
	{tpm2.AlgCFB, key192, iv38A, "cdc80d6fddf18cab34c25909c99a4174"},
	{tpm2.AlgCFB, key256, iv38A, "dc7e84bfda79164b7ecd8486985d3860"},
	{tpm2.AlgOFB, key128, iv38A, "3b3fd92eb72dad20333449f8e83cfb4a7789508d16918f03f53c52dac54ed8259740051e9c5fecf64344f7a82260edcc304c6528f659c77866a510d9c1d6ae5e"},
	{tpm2.AlgOFB, key192, iv38A, "cdc80d6fddf18cab34c25909c99a4174"},
	{tpm2.AlgOFB, key256, iv38A, "dc7e84bfda79164b7ecd8486985d3860"},
	{tpm2.AlgCTR, key128, counter38, "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"},
	{tpm2.AlgCTR, key192, counter38, "1abc932417521ca24f2b0459fe7e6e0b"},
	{tpm2.AlgCTR, key256, counter38, "601ec313775789a5b7a7f504bbf3d228"},
}

func symDef(mode tpm2.Alg, key []byte) tpm2.SymDefObject {
	return tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: uint16(8 * len(key)), Mode: mode}
}

func TestModesGiveTheAnswersOfSP80038A(t *testing.T) {
	for _, tc := range modes38A {
		key, iv, out := unhex(t, tc.key), unhex(t, tc.iv), unhex(t, tc.out)
		in := unhex(t, plain38A)[:len(out)]
		def := symDef(tc.mode, key)
		if got, _, err := tpmcrypto.EncryptSym(def, key, iv, in); err != nil || !bytes.Equal(got, out) {
			t.Errorf("EncryptSym(%s, %d bits) = %x, %v; want %x", tc.mode.BankName(), def.KeyBits, got, err, out)
		}
		if got, _, err := tpmcrypto.DecryptSym(def, key, iv, out); err != nil || !bytes.Equal(got, in) {
			t.Errorf("DecryptSym(%s, %d bits) = %x, %v; want %x", tc.mode.BankName(), def.KeyBits, got, err, in)
		}
	}
}

// libtpms issue 207, and again CVE-2026-21444: the initial value that was returned was
// the one given.
func TestLibtpms207AStreamInPartsEqualsTheWhole(t *testing.T) {
	data := pattern(16*8 + 5)
	for _, mode := range []tpm2.Alg{tpm2.AlgECB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgOFB, tpm2.AlgCTR} {
		for _, keyHex := range []string{key128, key192, key256} {
			key := unhex(t, keyHex)
			def, in, iv := symDef(mode, key), data, unhex(t, "fffffffffffffffffffffffffffffffd")
			if mode == tpm2.AlgECB {
				iv = nil
			}
			if mode == tpm2.AlgECB || mode == tpm2.AlgCBC {
				in = data[:16*8]
			}
			whole, wholeIV, err := tpmcrypto.EncryptSym(def, key, iv, in)
			if err != nil {
				t.Fatal(err)
			}
			for name, f := range map[string]func(tpm2.SymDefObject, []byte, []byte, []byte) ([]byte, []byte, error){"encrypt": tpmcrypto.EncryptSym, "decrypt": tpmcrypto.DecryptSym} {
				from, want := in, whole
				if name == "decrypt" {
					from, want = whole, in
				}
				var got []byte
				v := iv
				for _, n := range []int{16, 0, 48, len(from) - 64} {
					part, next, err := f(def, key, v, from[len(got):len(got)+n])
					if err != nil {
						t.Fatal(err)
					}
					if n > 0 && mode != tpm2.AlgECB && bytes.Equal(next, v) {
						t.Errorf("%s %s: initial value after %d bytes is the one before", name, mode.BankName(), n)
					}
					got, v = append(got, part...), next
				}
				if !bytes.Equal(got, want) || !bytes.Equal(v, wholeIV) {
					t.Errorf("%s %s %d in parts = %x, %x; want %x, %x", name, mode.BankName(), def.KeyBits, got, v, want, wholeIV)
				}
			}
		}
	}
}

func TestInitialValueAfterPartOfABlock(t *testing.T) {
	key, iv, in := unhex(t, key128), unhex(t, iv38A), unhex(t, plain38A)[:20]
	for mode, want := range map[tpm2.Alg]string{
		tpm2.AlgCFB: "c8a64537000000000000000000000000", // ciphertext, then zeros
		tpm2.AlgOFB: "d9a4dada0892239f6b8b3d7680e15674", // the second block of the key stream of F.4.1
		tpm2.AlgCTR: "000102030405060708090a0b0c0d0e11",
	} {
		_, got, err := tpmcrypto.EncryptSym(symDef(mode, key), key, iv, in)
		if err != nil || fmt.Sprintf("%x", got) != want {
			t.Errorf("initial value of %s = %x, %v; want %s", mode.BankName(), got, err, want)
		}
	}
}

func TestSymRefusals(t *testing.T) {
	key, iv := make([]byte, 16), make([]byte, 16)
	for name, tc := range map[string]struct {
		def           tpm2.SymDefObject
		key, iv, data []byte
		want          tpm2.RC
	}{
		"other cipher":      {tpm2.SymDefObject{Algorithm: tpm2.AlgSM4, KeyBits: 128, Mode: tpm2.AlgCFB}, key, iv, nil, tpm2.RCSymmetric},
		"other size":        {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 64, Mode: tpm2.AlgCFB}, key[:8], iv, nil, tpm2.RCKeySize},
		"key of other size": {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCFB}, key, iv, nil, tpm2.RCKeySize},
		"other mode":        {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCMAC}, key, iv, nil, tpm2.RCMode},
		"short value":       {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCTR}, key, iv[:15], nil, tpm2.RCSize},
		"ECB with a value":  {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgECB}, key, iv, nil, tpm2.RCSize},
		"part in CBC":       {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCBC}, key, iv, iv[:9], tpm2.RCSize},
		"part in ECB":       {tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgECB}, key, nil, iv[:9], tpm2.RCSize},
	} {
		if _, _, err := tpmcrypto.EncryptSym(tc.def, tc.key, tc.iv, tc.data); !errors.Is(err, tc.want) {
			t.Errorf("%s: EncryptSym = %v, want %v", name, err, tc.want)
		}
		if _, _, err := tpmcrypto.DecryptSym(tc.def, tc.key, tc.iv, tc.data); !errors.Is(err, tc.want) {
			t.Errorf("%s: DecryptSym = %v, want %v", name, err, tc.want)
		}
	}
}

func TestCFBInPlaceEqualsTheMode(t *testing.T) {
	key, iv, in := unhex(t, key192), unhex(t, iv38A), pattern(37)
	want, _, err := tpmcrypto.EncryptSym(symDef(tpm2.AlgCFB, key), key, iv, in)
	if err != nil {
		t.Fatal(err)
	}
	got := bytes.Clone(in)
	if err := tpmcrypto.EncryptCFB(key, iv, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("EncryptCFB = %x, %v; want %x", got, err, want)
	}
	if err := tpmcrypto.DecryptCFB(key, iv, got); err != nil || !bytes.Equal(got, in) {
		t.Errorf("DecryptCFB = %x, %v; want %x", got, err, in)
	}
	zero, none := bytes.Clone(in), bytes.Clone(in)
	if err := errors.Join(tpmcrypto.EncryptCFB(key, make([]byte, 16), zero), tpmcrypto.EncryptCFB(key, nil, none)); err != nil || !bytes.Equal(zero, none) {
		t.Errorf("EncryptCFB without a value = %x, %v; with zeros %x", none, err, zero)
	}
	if err := tpmcrypto.EncryptCFB(key[:15], iv, got); !errors.Is(err, tpm2.RCKeySize) {
		t.Errorf("EncryptCFB with 15 bytes of key = %v", err)
	}
	if err := tpmcrypto.EncryptCFB(key, iv[:1], got); !errors.Is(err, tpm2.RCSize) {
		t.Errorf("EncryptCFB with 1 byte of value = %v", err)
	}
}

func TestXORIsAMaskOfKDFa(t *testing.T) {
	for _, n := range []int{0, 1, 32, 33, 500} { // as far as KDFa of tpm2 reaches
		b := pattern(n)
		if err := tpmcrypto.XOR(tpm2.AlgSHA256, []byte("key"), []byte("u"), []byte("vv"), b); err != nil {
			t.Fatal(err)
		}
		want := pattern(n)
		if n > 0 {
			mask, err := tpm2.KDFa(tpm2.AlgSHA256, []byte("key"), "XOR", []byte("u"), []byte("vv"), 8*n)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				want[i] ^= mask[i]
			}
		}
		if !bytes.Equal(b, want) {
			t.Errorf("XOR of %d bytes = %x, want %x", n, b, want)
		}
	}
	if err := tpmcrypto.XOR(tpm2.AlgSM3, nil, nil, nil, nil); !errors.Is(err, tpm2.RCHash) {
		t.Errorf("XOR by SM3 = %v, want TPM_RC_HASH", err)
	}
}
