package engine_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// unhex reads hexadecimal digits with spaces between.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// outsideCipher is an AES key of a mode.
func outsideCipher(t testing.TB, mode tpm2.Alg, key string, a tpm2.ObjectAttributes) *outside {
	t.Helper()
	o := &outside{public: symTemplate(a), sensitive: tpm2.Sensitive{Type: tpm2.AlgSymCipher, Bits: unhex(t, key)}}
	o.public.Parameters.SymCipher = tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: uint16(8 * len(o.sensitive.Bits)), Mode: mode}
	o.sensitive.SeedValue = bytes.Repeat([]byte{7}, 32)
	return o.bind()
}

const (
	aesKey128 = "2b7e151628aed2a6abf7158809cf4f3c"
	aesKey256 = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	// aesText is the plaintext of SP 800-38A, appendix F.
	aesText = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51" +
		"30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"
	aesIV      = "000102030405060708090a0b0c0d0e0f"
	aesCounter = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

// A cipherVector is an example of SP 800-38A, appendix F.
type cipherVector struct {
	mode            tpm2.Alg
	key, iv, cipher string
	next            string // initial value of what would follow
}

var cipherVectors = map[string]cipherVector{
	"F.1.1 ECB-AES128":  {tpm2.AlgECB, aesKey128, "", "3ad77bb40d7a3660a89ecaf32466ef97 f5d3d58503b9699de785895a96fdbaaf 43b1cd7f598ece23881b00e3ed030688 7b0c785e27e8ad3f8223207104725dd4", ""},
	"F.1.5 ECB-AES256":  {tpm2.AlgECB, aesKey256, "", "f3eed1bdb5d2a03c064b5a7e3db181f8 591ccb10d410ed26dc5ba74a31362870 b6ed21b99ca6f4f9f153e7b1beafed1d 23304b7a39f9f3ff067d8d8f9e24ecc7", ""},
	"F.2.1 CBC-AES128":  {tpm2.AlgCBC, aesKey128, aesIV, "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2 73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7", "3ff1caa1681fac09120eca307586e1a7"},
	"F.2.5 CBC-AES256":  {tpm2.AlgCBC, aesKey256, aesIV, "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d 39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b", "b2eb05e2c39be9fcda6c19078c6a9d1b"},
	"F.3.13 CFB-AES128": {tpm2.AlgCFB, aesKey128, aesIV, "3b3fd92eb72dad20333449f8e83cfb4a c8a64537a0b3a93fcde3cdad9f1ce58b 26751f67a3cbb140b1808cf187a4f4df c04b05357c5d1c0eeac4c66f9ff7f2e6", "c04b05357c5d1c0eeac4c66f9ff7f2e6"},
	"F.3.17 CFB-AES256": {tpm2.AlgCFB, aesKey256, aesIV, "dc7e84bfda79164b7ecd8486985d3860 39ffed143b28b1c832113c6331e5407b df10132415e54b92a13ed0a8267ae2f9 75a385741ab9cef82031623d55b1e471", "75a385741ab9cef82031623d55b1e471"},
	// What is left of an output feedback is its last output: cipher xor text.
	"F.4.1 OFB-AES128": {tpm2.AlgOFB, aesKey128, aesIV, "3b3fd92eb72dad20333449f8e83cfb4a 7789508d16918f03f53c52dac54ed825 9740051e9c5fecf64344f7a82260edcc 304c6528f659c77866a510d9c1d6ae5e", "c6d3416d29165c6fcb8e51a227ba994e"},
	"F.4.5 OFB-AES256": {tpm2.AlgOFB, aesKey256, aesIV, "dc7e84bfda79164b7ecd8486985d3860 4febdc6740d20b3ac88f6ad82a4fb08d 71ab47a086e86eedf39d1c5bba97c408 0126141d67f37be8538f5a8be740e484", "f7b93058b8bce0fffea41bf0012cd394"},
	"F.5.1 CTR-AES128": {tpm2.AlgCTR, aesKey128, aesCounter, "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff 5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee", "f0f1f2f3f4f5f6f7f8f9fafbfcfdff03"},
	"F.5.5 CTR-AES256": {tpm2.AlgCTR, aesKey256, aesCounter, "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5 2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6", "f0f1f2f3f4f5f6f7f8f9fafbfcfdff03"},
}

// cipher runs either command of encryption, which must answer the same.
func (m *machine) cipher(key tpm2.Handle, decrypt bool, mode tpm2.Alg, iv, data []byte) (out, next []byte) {
	m.Helper()
	var one command.EncryptDecryptOut
	m.do(tpm2.CCEncryptDecrypt, handles(key), password(""), &command.EncryptDecryptIn{Decrypt: decrypt, Mode: mode, IVIn: iv, InData: data}, &one)
	var two command.EncryptDecrypt2Out
	m.do(tpm2.CCEncryptDecrypt2, handles(key), password(""), &command.EncryptDecrypt2In{InData: data, Decrypt: decrypt, Mode: mode, IVIn: iv}, &two)
	if diff := cmp.Diff(command.EncryptDecryptOut(two), one); diff != "" {
		m.Errorf("EncryptDecrypt and EncryptDecrypt2 differ:\n%s", diff)
	}
	return two.OutData, two.IVOut
}

func TestCiphersAreNISTs(t *testing.T) {
	m := newMachine(t)
	text := unhex(t, aesText)
	for name, v := range cipherVectors {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.external(outsideCipher(t, v.mode, v.key, bothUses))
			defer m.flush(key)
			iv, want, next := unhex(t, v.iv), unhex(t, v.cipher), unhex(t, v.next)
			got, after := m.cipher(key, false, tpm2.AlgNull, iv, text)
			if !bytes.Equal(got, want) || !bytes.Equal(after, next) {
				t.Errorf("encryption = %x, %x, want %x, %x", got, after, want, next)
			}
			got, after = m.cipher(key, true, v.mode, iv, want)
			if !bytes.Equal(got, text) || !bytes.Equal(after, next) {
				t.Errorf("decryption = %x, %x, want %x, %x", got, after, text, next)
			}
		})
	}
}

// CVE-2026-21444 (and libtpms #207): the initial value that was returned was the
// one given, so that the second part of a stream was encrypted as the first.
func TestCVE2026x21444TheInitialValueReturnedIsUpdated(t *testing.T) {
	m := newMachine(t)
	text := unhex(t, aesText)
	for name, v := range cipherVectors {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			key := m.external(outsideCipher(t, v.mode, v.key, bothUses))
			defer m.flush(key)
			for _, decrypt := range []bool{false, true} {
				in, want := text, unhex(t, v.cipher)
				if decrypt {
					in, want = want, in
				}
				iv := unhex(t, v.iv)
				var got []byte
				for _, part := range [][]byte{in[:16], in[16:48], in[48:]} {
					out, next := m.cipher(key, decrypt, v.mode, iv, part)
					if v.mode != tpm2.AlgECB && bytes.Equal(next, iv) {
						t.Fatalf("initial value returned is that given: %x", next)
					}
					got, iv = append(got, out...), next
				}
				if !bytes.Equal(got, want) {
					t.Errorf("stream in parts (decrypt %t) = %x, want %x", decrypt, got, want)
				}
			}
		})
	}
}

// Stream modes take any size; a last part may be part of a block.
func TestStreamModesTakeAnySize(t *testing.T) {
	m := newMachine(t)
	text := bytes.Repeat([]byte{0x3c}, 1024)
	for _, mode := range []tpm2.Alg{tpm2.AlgCFB, tpm2.AlgCTR, tpm2.AlgOFB} {
		key := m.external(outsideCipher(t, mode, aesKey256, bothUses))
		for _, n := range []int{0, 1, 15, 16, 17, 1023, 1024} {
			c, next := m.cipher(key, false, mode, make([]byte, 16), text[:n])
			p, _ := m.cipher(key, true, mode, make([]byte, 16), c)
			if !bytes.Equal(p, text[:n]) || len(next) != 16 || n == 0 && !bytes.Equal(next, make([]byte, 16)) {
				t.Errorf("mode %#x, %d bytes: %x, initial value %x", mode, n, p, next)
			}
		}
		m.flush(key)
	}
}

func TestEncryptDecryptIsRefused(t *testing.T) {
	cbc, open := outsideCipher(t, tpm2.AlgCBC, aesKey128, bothUses), outsideCipher(t, tpm2.AlgNull, aesKey128, bothUses)
	decrypts, encrypts := outsideCipher(t, tpm2.AlgCBC, aesKey128, usable|tpm2.AttrDecrypt), outsideCipher(t, tpm2.AlgCBC, aesKey128, usable|tpm2.AttrSign)
	cmac := outsideCipher(t, tpm2.AlgCMAC, aesKey128, usable|tpm2.AttrSign)
	ecb := outsideCipher(t, tpm2.AlgECB, aesKey128, bothUses)
	iv, block := make([]byte, 16), make([]byte, 16)
	checks := map[string]keyCheck{}
	for name, tc := range map[string]struct {
		key      *outside
		decrypt  bool
		mode     tpm2.Alg
		iv, data []byte
		one, two tpm2.RC
	}{
		"an HMAC key":        {outsideHMAC(usable|tpm2.AttrSign, "key"), false, tpm2.AlgNull, iv, block, handleRC(tpm2.RCKey, 1), handleRC(tpm2.RCKey, 1)},
		"encryption":         {decrypts, false, tpm2.AlgNull, iv, block, handleRC(tpm2.RCAttributes, 1), handleRC(tpm2.RCAttributes, 1)},
		"decryption":         {encrypts, true, tpm2.AlgNull, iv, block, handleRC(tpm2.RCAttributes, 1), handleRC(tpm2.RCAttributes, 1)},
		"a CMAC key":         {cmac, false, tpm2.AlgCBC, iv, block, handleRC(tpm2.RCMode, 1), handleRC(tpm2.RCMode, 1)},
		"another mode":       {cbc, false, tpm2.AlgCTR, iv, block, parameterRC(tpm2.RCMode, 2), parameterRC(tpm2.RCMode, 3)},
		"no mode":            {open, false, tpm2.AlgNull, iv, block, parameterRC(tpm2.RCMode, 2), parameterRC(tpm2.RCMode, 3)},
		"a short iv":         {cbc, false, tpm2.AlgNull, iv[1:], block, parameterRC(tpm2.RCSize, 3), parameterRC(tpm2.RCSize, 4)},
		"no iv":              {cbc, false, tpm2.AlgNull, nil, block, parameterRC(tpm2.RCSize, 3), parameterRC(tpm2.RCSize, 4)},
		"an iv of ECB":       {ecb, false, tpm2.AlgNull, iv, block, parameterRC(tpm2.RCSize, 3), parameterRC(tpm2.RCSize, 4)},
		"half a block":       {cbc, false, tpm2.AlgNull, iv, block[8:], parameterRC(tpm2.RCSize, 4), parameterRC(tpm2.RCSize, 1)},
		"half a block, back": {cbc, true, tpm2.AlgNull, iv, block[8:], parameterRC(tpm2.RCSize, 4), parameterRC(tpm2.RCSize, 1)},
		"half a block, ECB":  {ecb, false, tpm2.AlgNull, nil, block[8:], parameterRC(tpm2.RCSize, 4), parameterRC(tpm2.RCSize, 1)},
		"half a block, open": {open, false, tpm2.AlgCBC, iv, block[8:], parameterRC(tpm2.RCSize, 4), parameterRC(tpm2.RCSize, 1)},
	} {
		checks[name+" (1)"] = keyCheck{tc.key, tpm2.CCEncryptDecrypt, &command.EncryptDecryptIn{Decrypt: tc.decrypt, Mode: tc.mode, IVIn: tc.iv, InData: tc.data}, tc.one}
		checks[name+" (2)"] = keyCheck{tc.key, tpm2.CCEncryptDecrypt2, &command.EncryptDecrypt2In{Decrypt: tc.decrypt, Mode: tc.mode, IVIn: tc.iv, InData: tc.data}, tc.two}
	}
	refused(t, checks)
	m := newMachine(t)
	storage := m.primary(tpm2.HandleOwner, symTemplate(storing), "")
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCEncryptDecrypt2, handles(storage), password(""), &command.EncryptDecrypt2In{Decrypt: true, Mode: tpm2.AlgNull, IVIn: iv})
}

func TestHashesAreTheStandards(t *testing.T) {
	m := newMachine(t)
	data := bytes.Repeat([]byte("abc"), 100)
	for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512} {
		ha, _ := a.Hash()
		want := ha.New()
		want.Write(data)
		var h command.HashOut
		m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: data, HashAlg: a, Hierarchy: tpm2.HandleNull}, &h)
		if !bytes.Equal(h.OutHash, want.Sum(nil)) {
			t.Errorf("Hash by %s = %x, want %x", a.BankName(), h.OutHash, want.Sum(nil))
		}
	}
	in := raw{0, 0, 0, 0x12, 0x40, 0, 0, 7} // SM3-256
	m.fails(parameterRC(tpm2.RCHash, 2), tpm2.CCHash, nil, nil, &in)
	in = raw{0, 0, 0, 0x0b, 0x40, 0, 0, 0x0a} // TPM_RH_LOCKOUT
	m.fails(parameterRC(tpm2.RCValue, 3), tpm2.CCHash, nil, nil, &in)
}

// restrictedSigner creates a key that signs only what the TPM hashed.
func (m *machine) restrictedSigner() tpm2.Handle {
	m.Helper()
	p := eccTemplate(signing | tpm2.AttrRestricted)
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	return m.primary(tpm2.HandleOwner, p, "")
}

// A ticket says that data do not begin as what a TPM attests; with it a
// restricted key signs their digest, and without it not.
func TestTicketsOfHashes(t *testing.T) {
	m := newMachine(t)
	signer := m.restrictedSigner()
	for name, tc := range map[string]struct {
		data      string
		hierarchy tpm2.Handle
		ticket    bool
	}{
		"data":                     {"some data", tpm2.HandleOwner, true},
		"of another hierarchy":     {"some data", tpm2.HandlePlatform, true},
		"nothing":                  {"", tpm2.HandleOwner, true},
		"less than the magic":      {"\xffTC", tpm2.HandleOwner, true},
		"nearly the magic":         {"\xffTCH", tpm2.HandleOwner, true},
		"the magic":                {"\xffTCG", tpm2.HandleOwner, false},
		"the magic and more":       {"\xffTCG and more", tpm2.HandleOwner, false},
		"no ticket was asked for":  {"some data", tpm2.HandleNull, false},
		"the magic somewhere else": {" \xffTCG", tpm2.HandleOwner, true},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			var h command.HashOut
			m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: []byte(tc.data), HashAlg: tpm2.AlgSHA256, Hierarchy: tc.hierarchy}, &h)
			m.checkTicket(signer, h.OutHash, h.Validation, tc.hierarchy, tc.ticket)
		})
	}
}

// checkTicket checks that a ticket is one of the hierarchy and serves, or is the
// NULL ticket and does not.
func (m *machine) checkTicket(signer tpm2.Handle, digest []byte, got tpm2.HashCheckTicket, h tpm2.Handle, good bool) {
	m.Helper()
	in := &command.SignIn{Digest: digest, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, Validation: got}
	if !good {
		if got.Hierarchy != tpm2.HandleNull || len(got.Digest) != 0 {
			m.Errorf("ticket = %+v, want the NULL ticket", got)
		}
		m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSign, handles(signer), password(""), in)
		return
	}
	if got.Hierarchy != h || len(got.Digest) == 0 {
		m.Errorf("ticket = %+v, want one of %v", got, h)
	}
	m.do(tpm2.CCSign, handles(signer), password(""), in, nil)
	in.Digest = bytes.Clone(digest)
	in.Digest[0] ^= 1
	m.fails(parameterRC(tpm2.RCTicket, 3), tpm2.CCSign, handles(signer), password(""), in)
}

func TestMACsAreTheStandards(t *testing.T) {
	m := newMachine(t)
	// RFC 4231, 4.3.
	key := m.external(outsideHMAC(usable|tpm2.AttrSign, "Jefe"))
	for _, scheme := range []tpm2.Alg{tpm2.AlgNull, tpm2.AlgSHA256} {
		var out command.HMACOut
		m.do(tpm2.CCHMAC, handles(key), password(""), &command.HMACIn{Buffer: []byte("what do ya want for nothing?"), InScheme: scheme}, &out)
		if want := unhex(t, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"); !bytes.Equal(out.OutMAC, want) {
			t.Errorf("HMAC = %x, want %x", out.OutMAC, want)
		}
	}
	m.flush(key)
	// RFC 4493, 4: examples 1 to 4.
	key = m.external(outsideCipher(t, tpm2.AlgCMAC, aesKey128, usable|tpm2.AttrSign))
	for n, want := range map[int]string{
		0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		var out command.HMACOut
		m.do(tpm2.CCHMAC, handles(key), password(""), &command.HMACIn{Buffer: unhex(t, aesText)[:n], InScheme: tpm2.AlgNull}, &out)
		if !bytes.Equal(out.OutMAC, unhex(t, want)) {
			t.Errorf("CMAC of %d bytes = %x, want %s", n, out.OutMAC, want)
		}
	}
}

// A key without a scheme of its own takes the caller's.
func TestOpenKeysMakeAnyMAC(t *testing.T) {
	m := newMachine(t)
	o := outsideHMAC(bothUses, "key")
	o.public.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
	key := m.external(o)
	want := hmac.New(sha256.New, []byte("key"))
	want.Write([]byte("data"))
	out, err := gotpm.Hmac{
		Handle: gotpm.AuthHandle{Handle: gotpm.TPMHandle(key), Name: gotpm.TPM2BName{Buffer: m.name(key)}, Auth: gotpm.PasswordAuth(nil)},
		Buffer: gotpm.TPM2BMaxBuffer{Buffer: []byte("data")}, HashAlg: gotpm.TPMAlgSHA256,
	}.Execute(m)
	if err != nil || !bytes.Equal(out.OutHMAC.Buffer, want.Sum(nil)) {
		t.Errorf("HMAC by go-tpm = %x, %v, want %x", out, err, want.Sum(nil))
	}
	m.flush(key)
	cipher := m.external(outsideCipher(t, tpm2.AlgNull, aesKey128, bothUses))
	var c command.HMACOut
	m.do(tpm2.CCHMAC, handles(cipher), password(""), &command.HMACIn{InScheme: tpm2.AlgCMAC}, &c)
	if want := "bb1d6929e95937287fa37d129b756746"; hex.EncodeToString(c.OutMAC) != want {
		t.Errorf("CMAC = %x, want %s", c.OutMAC, want)
	}
}

// badMACs are faults of HMAC_Start as of HMAC.
func badMACs(t *testing.T) map[string]keyCheck {
	key, open := outsideHMAC(usable|tpm2.AttrSign, "key"), outsideHMAC(bothUses, "key")
	open.public.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
	sealed := outsideHMAC(usable, "data")
	cipher, cmac := outsideCipher(t, tpm2.AlgCFB, aesKey128, bothUses), outsideCipher(t, tpm2.AlgCMAC, aesKey128, usable|tpm2.AttrSign)
	in := map[string]struct {
		key    *outside
		scheme tpm2.Alg
		want   tpm2.RC
	}{
		"an ECC key":                  {outsideECC(t, usable|tpm2.AttrSign), tpm2.AlgNull, handleRC(tpm2.RCType, 1)},
		"another hash":                {key, tpm2.AlgSHA1, parameterRC(tpm2.RCValue, 2)},
		"CMAC by a key with a hash":   {key, tpm2.AlgCMAC, parameterRC(tpm2.RCValue, 2)},
		"no scheme":                   {open, tpm2.AlgNull, parameterRC(tpm2.RCValue, 2)},
		"CMAC by a keyed hash object": {open, tpm2.AlgCMAC, parameterRC(tpm2.RCScheme, 2)},
		"CMAC by a key in CFB mode":   {cipher, tpm2.AlgCMAC, parameterRC(tpm2.RCValue, 2)},
		"a key in CFB mode":           {cipher, tpm2.AlgNull, parameterRC(tpm2.RCScheme, 2)},
		"a hash by a CMAC key":        {cmac, tpm2.AlgSHA256, parameterRC(tpm2.RCValue, 2)},
		"sealed data":                 {sealed, tpm2.AlgSHA256, handleRC(tpm2.RCKey, 1)},
		"an XOR key":                  {outsideHMAC(usable|tpm2.AttrDecrypt, "key"), tpm2.AlgNull, handleRC(tpm2.RCKey, 1)},
	}
	out := map[string]keyCheck{}
	for name, tc := range in {
		out[name] = keyCheck{tc.key, tpm2.CCHMAC, &command.HMACIn{InScheme: tc.scheme}, tc.want}
		out[name+", started"] = keyCheck{tc.key, tpm2.CCHMACStart, &command.HMACStartIn{InScheme: tc.scheme}, tc.want}
	}
	return out
}

func TestMACsAreRefused(t *testing.T) {
	refused(t, badMACs(t))
	m := newMachine(t)
	key := m.primary(tpm2.HandleOwner, keyedHashTemplate(signing|tpm2.AttrRestricted), "")
	for cc, in := range map[tpm2.CC]wire.Layout{
		tpm2.CCHMAC: &command.HMACIn{InScheme: tpm2.AlgNull}, tpm2.CCHMACStart: &command.HMACStartIn{InScheme: tpm2.AlgNull},
	} {
		m.fails(handleRC(tpm2.RCAttributes, 1), cc, handles(key), password(""), in)
	}
}
