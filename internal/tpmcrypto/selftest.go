package tpmcrypto

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"

	"github.com/assay-project/assay/tpm2"
)

// A selfTest computes something of one algorithm whose answer is known.
type selfTest struct {
	alg    tpm2.Alg
	run    func() ([]byte, error)
	answer string // what run returns, in hexadecimal
}

// SelfTests are the self-tests of one command (Part 3, 10). What several algorithms
// are built on is tested once, with the first of them that is run.
type SelfTests struct{ all []selfTest }

// NewSelfTests returns self-tests of which none has run.
func NewSelfTests() *SelfTests { return &SelfTests{selfTests(theSelfTestParts())} }

// Add adds the test of an algorithm that is not of this package. It returns an error
// for a wrong answer.
func (s *SelfTests) Add(a tpm2.Alg, run func() error) {
	s.all = append(s.all, selfTest{alg: a, run: func() ([]byte, error) { return nil, run() }})
}

// Algorithms returns those that there are tests of.
func (s *SelfTests) Algorithms() []tpm2.Alg {
	var out []tpm2.Alg
	for _, t := range s.all {
		out = append(out, t.alg)
	}
	return out
}

// Run computes known answers of one algorithm (FIPS 140-3, IG 10.3.A: one size of key
// and one curve will do, as the sizes share their code). The refusal is TPM_RC_VALUE for
// an algorithm that is not here, and TPM_RC_FAILURE for a wrong answer. Algorithms of
// FIPS 140-3 mode are tested by what is the same for all randomness.
func (s *SelfTests) Run(a tpm2.Alg) error {
	for _, t := range s.all {
		if t.alg != a {
			continue
		}
		got, err := t.run()
		if err != nil {
			return refuse(tpm2.RCFailure, "self-test of %s: %v", a.BankName(), err)
		}
		if hex.EncodeToString(got) != t.answer {
			return refuse(tpm2.RCFailure, "self-test of %s gives another answer", a.BankName())
		}
		return nil
	}
	return refuse(tpm2.RCValue, "no self-test of %s", a.BankName())
}

// selfTestParts are what the tests of asymmetric algorithms compute with.
type selfTestParts struct {
	rsa              func() (*RSAKey, error)
	p256, p384, p521 func() *curve
}

func theSelfTestParts() selfTestParts {
	return selfTestParts{testRSAKey, curveP256, curveP384, curveP521}
}

// SelfTestDRBG checks the random bit generator against its known answer (SP
// 800-90A, 11.3). The refusal is TPM_RC_FAILURE.
func SelfTestDRBG() error {
	got := make([]byte, 32)
	d, err := NewDRBG(bytes.NewReader(testPattern(2*seedSize)), []byte("self-test"))
	if err == nil {
		err = d.Reseed([]byte("reseed"))
	}
	if err == nil {
		err = d.Generate(got, []byte("generate"))
	}
	if err != nil || hex.EncodeToString(got) != drbgAnswer {
		return refuse(tpm2.RCFailure, "self-test of the random bit generator gives another answer")
	}
	return nil
}

// testPattern is the input of self-tests.
//
//go:noinline
func testPattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>5)
	}
	return b
}

// shorten keeps a long answer as its SHA-256.
func shorten(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, nil))
	return sum[:]
}

// expect turns a comparison into an error.
//
//go:noinline
func expect(ok bool, what string) error {
	if !ok {
		return refuse(tpm2.RCFailure, "%s", what)
	}
	return nil
}

func hashTest(a tpm2.Alg) func() ([]byte, error) {
	return func() ([]byte, error) { return Hash(a, []byte("abc")) }
}

// modeTest encrypts and decrypts in two parts.
func modeTest(mode tpm2.Alg) func() ([]byte, error) {
	return func() ([]byte, error) {
		key, iv, in := testPattern(32), testPattern(48)[32:], testPattern(64)
		if mode == tpm2.AlgECB {
			iv = nil
		}
		def := tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 256, Mode: mode}
		first, next, err := EncryptSym(def, key, iv, in[:16])
		if err != nil {
			return nil, err
		}
		second, last, err := EncryptSym(def, key, next, in[16:])
		if err != nil {
			return nil, err
		}
		out := append(first, second...)
		back, lastBack, err := DecryptSym(def, key, iv, out)
		if err == nil {
			err = expect(bytes.Equal(back, in) && bytes.Equal(last, lastBack), "decryption is not the inverse")
		}
		return shorten(out, last), err
	}
}

func testAES() ([]byte, error) {
	var out []byte
	for _, bits := range []uint16{128, 192, 256} {
		def := tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: bits, Mode: tpm2.AlgECB}
		key := testPattern(int(bits) / 8)
		c, _, err := EncryptSym(def, key, nil, testPattern(BlockSize))
		if err != nil {
			return nil, err
		}
		back, _, err := DecryptSym(def, key, nil, c)
		if err != nil || !bytes.Equal(back, testPattern(BlockSize)) {
			return nil, expect(false, "decryption is not the inverse")
		}
		out = append(out, c...)
	}
	return out, nil
}

func testCMAC() ([]byte, error) {
	c, err := NewCMAC(tpm2.AlgAES, 128, testPattern(16))
	if err != nil {
		return nil, err
	}
	c.Write(testPattern(40))
	return c.Sum(nil), nil
}

func testHMAC() ([]byte, error) { return HMAC(tpm2.AlgSHA256, testPattern(20), testPattern(50)) }

func testXOR() ([]byte, error) {
	b := testPattern(40)
	return b, XOR(tpm2.AlgSHA256, testPattern(16), []byte{1}, []byte{2}, b)
}

func testKDFa() ([]byte, error) {
	return tpm2.KDFa(tpm2.AlgSHA256, testPattern(32), "SELFTEST", []byte{1}, []byte{2}, 384)
}

func testKDFe() ([]byte, error) {
	return tpm2.KDFe(tpm2.AlgSHA256, testPattern(32), "SELFTEST", []byte{1}, []byte{2}, 384)
}

// maskTest is MGF1 for a first counter of 0, KDF2 for 1.
func maskTest(counter uint32) func() ([]byte, error) {
	return func() ([]byte, error) {
		h, err := hashOf(tpm2.AlgSHA256)
		out := make([]byte, 40)
		mgf(h, out, testPattern(32), counter)
		return out, err
	}
}

// testBytes reads a number of the table.
func testBytes(text string) []byte { return known(hex.DecodeString(text)) }

// testRSAKey loads the key with the inverse that it would find: a wrong one is told by
// each private operation.
func testRSAKey() (*RSAKey, error) {
	return LoadRSAInverse(testBytes(testModulus), 0, testBytes(testPrime), testBytes(testInverse))
}

// privateTest returns the key of p after its private operation gave the known answer,
// which it does once for all schemes: what these add is padding, and each tests its own.
func (p selfTestParts) privateTest() func() (*RSAKey, error) {
	return sync.OnceValues(func() (*RSAKey, error) {
		k, err := p.rsa()
		if err != nil {
			return nil, err
		}
		block, err := k.encodeDigest(nil, tpm2.AlgRSASSA, tpm2.AlgSHA256, testPattern(32))
		if err != nil {
			return nil, err
		}
		got, err := k.Decrypt(tpm2.RSAScheme{Scheme: tpm2.AlgNull}, nil, block)
		if err != nil {
			return nil, err
		}
		return k, expect(bytes.Equal(got, testBytes(testRSASSA)), "the private operation gives another answer")
	})
}

// rsaSignTest finds the block of a digest in the known signature, verifies that, and
// sees another digest refused.
func rsaSignTest(key func() (*RSAKey, error), scheme tpm2.Alg, signature string) func() ([]byte, error) {
	return func() ([]byte, error) {
		k, err := key()
		if err != nil {
			return nil, err
		}
		digest := testPattern(32)
		block, err := k.encodeDigest(bytes.NewReader(testPattern(32)), scheme, tpm2.AlgSHA256, digest)
		if err != nil {
			return nil, err
		}
		sig := testBytes(signature)
		if led, ok := k.public(sig); !ok || !bytes.Equal(led, block) {
			return nil, expect(false, "the block of a digest is another")
		}
		if fips140.Enabled() { // another signer, of the validated module
			if sig, err = k.Sign(bytes.NewReader(testPattern(32)), scheme, tpm2.AlgSHA256, digest); err != nil {
				return nil, err
			}
		}
		if err := k.Verify(scheme, tpm2.AlgSHA256, digest, sig); err != nil {
			return nil, err
		}
		digest[0] ^= 1
		if k.Verify(scheme, tpm2.AlgSHA256, digest, sig) == nil {
			return nil, expect(false, "a signature of another digest verifies")
		}
		return shorten(block), nil
	}
}

// rsaEncryptTest encrypts with known randomness, and finds the message in the block.
func rsaEncryptTest(key func() (*RSAKey, error), scheme tpm2.RSAScheme) func() ([]byte, error) {
	return func() ([]byte, error) {
		k, err := key()
		if err != nil {
			return nil, err
		}
		message, label := testPattern(32), []byte("L\x00")
		block, err := k.encodeMessage(bytes.NewReader(bytes.Repeat([]byte{0x5A}, 256)), scheme, label, message)
		if err != nil {
			return nil, err
		}
		c, ok := k.public(block)
		if !ok {
			return nil, expect(false, "the block of a message is not below the modulus")
		}
		back, found := decodeMessage(scheme.Scheme, crypto.SHA256, label, bytes.Clone(block))
		if found != 1 || !bytes.HasSuffix(back, message) {
			return nil, expect(false, "decoding is not the inverse")
		}
		label[0] ^= 1
		if scheme.Scheme == tpm2.AlgRSAES {
			block[1] ^= 1 // there is no label
		}
		if _, found := decodeMessage(scheme.Scheme, crypto.SHA256, label, block); found == 1 && scheme.Scheme != tpm2.AlgNull {
			return nil, expect(false, "wrong padding is taken")
		}
		return shorten(c), nil
	}
}

// testECCKey makes one of some keys on a curve.
func testECCKey(c *curve, name byte) (*ECCKey, error) {
	d, ok := c.scalar(append(testPattern(31), name))
	if !ok {
		return nil, expect(false, "scalar is not below the order")
	}
	return newECCKey(c, d), nil
}

// eccTest computes the public point of a key on P-256, and a multiple of the generator
// on the other curves: the products of P-384 and P-521, which are computed with the same
// formulas in other fields, without the tables of multiples that their first key makes
// (half a megabyte, and as long as all self-tests together).
func (p selfTestParts) eccTest() ([]byte, error) {
	k, err := testECCKey(p.p256(), 1)
	if err != nil {
		return nil, err
	}
	out := [][]byte{k.q}
	for _, c := range []*curve{p.p384(), p.p521()} {
		g, err := c.encode(tpm2.ECCPoint{X: c.params.Gx.Bytes(), Y: c.params.Gy.Bytes()})
		if err != nil {
			return nil, err
		}
		out = append(out, c.mult(testBytes(testMultiple), g))
	}
	return shorten(out...), nil
}

// eccSignTest signs, verifies, and sees another digest refused. An answer that
// randomness decides is not returned.
func (p selfTestParts) eccSignTest(scheme tpm2.Alg, sign func(*ECCKey, io.Reader, []byte) (r, s []byte, err error)) func() ([]byte, error) {
	return func() ([]byte, error) {
		k, err := testECCKey(p.p256(), 1)
		if err != nil {
			return nil, err
		}
		digest := testPattern(32)
		r, s, err := sign(k, bytes.NewReader(testPattern(64)), digest)
		if err != nil {
			return nil, err
		}
		if err := k.Verify(scheme, tpm2.AlgSHA256, digest, r, s); err != nil {
			return nil, err
		}
		digest[0] ^= 1
		if k.Verify(scheme, tpm2.AlgSHA256, digest, r, s) == nil {
			return nil, expect(false, "a signature of another digest verifies")
		}
		return knownUnlessFIPS(scheme != tpm2.AlgECDSA, r, s), nil
	}
}

func (p selfTestParts) ecdaaTest() ([]byte, error) {
	k, err := testECCKey(p.p256(), 1)
	if err != nil {
		return nil, err
	}
	r, s, err := k.SignECDAA(bytes.NewReader(testPattern(40)), tpm2.AlgSHA256, testPattern(30), testPattern(32))
	if err != nil {
		return nil, err
	}
	_, _, e, err := k.Commit(testPattern(30), nil, nil)
	return shorten(r, s, e.X, e.Y), err
}

// agreeTest agrees as one of the parties. What the other computes is the same, as the
// tests of the package show.
func (p selfTestParts) agreeTest(scheme tpm2.Alg) func() ([]byte, error) {
	return func() ([]byte, error) {
		var keys [4]*ECCKey
		for i := range keys {
			k, err := testECCKey(p.p256(), byte(i))
			if err != nil {
				return nil, err
			}
			keys[i] = k
		}
		a, a2, err := keys[0].TwoPhase(scheme, keys[1], keys[2].Point(), keys[3].Point())
		return shorten(a.X, a.Y, a2.X, a2.Y), err
	}
}

// testMLKEM checks a key, a secret that is shared and one that is not.
func testMLKEM() ([]byte, error) {
	var out []byte
	for _, set := range []tpm2.MLKEMSet{tpm2.MLKEM768, tpm2.MLKEM1024} {
		k, err := LoadMLKEM(set, testPattern(mlkemSeedSize))
		if err != nil {
			return nil, err
		}
		c, secret, err := EncapsulateMLKEM(bytes.NewReader(testPattern(32)), set, k.Public())
		if err != nil {
			return nil, err
		}
		got, err := k.Decapsulate(c)
		if err != nil || !Equal(got, secret) {
			return nil, expect(false, "the parties differ")
		}
		rejected, err := k.Decapsulate(make([]byte, len(c)))
		if err != nil {
			return nil, err
		}
		out = append(append(out, k.Public()...), rejected...)
	}
	return shorten(out), nil
}
