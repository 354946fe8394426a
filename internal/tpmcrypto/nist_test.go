package tpmcrypto_test

import (
	"bytes"
	"crypto/fips140"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// A vector is one of testdata: its section, where it stands, and its numbers by name.
type vector struct {
	testing.TB
	section []string
	line    int
	fields  map[string]string
}

// vectors reads a file of testdata: sections in brackets, vectors between empty lines.
func vectors(t *testing.T, name string) (out []*vector) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var section []string
	fresh := true
	for i, line := range strings.Split(string(text), "\n") {
		key, value, ok := strings.Cut(line, " = ")
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Split(strings.Trim(line, "[]"), ", ")
			fresh = true
		case !ok:
			fresh = true
		default:
			if fresh {
				out = append(out, &vector{t, section, i + 1, map[string]string{}})
			}
			fresh = false
			out[len(out)-1].fields[key] = value
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no vectors", name)
	}
	return out
}

// bytes is a field in hexadecimal, which may have an odd number of digits.
func (v *vector) bytes(name string) []byte {
	v.Helper()
	text, ok := v.fields[name]
	if !ok {
		v.Fatalf("line %d: no %s", v.line, name)
	}
	b, err := hex.DecodeString(strings.Repeat("0", len(text)%2) + text)
	if err != nil {
		v.Fatalf("line %d: %s: %v", v.line, name, err)
	}
	return b
}

// number is a field in decimal.
func (v *vector) number(name string) int {
	v.Helper()
	n, err := strconv.Atoi(v.fields[name])
	if err != nil {
		v.Fatalf("line %d: %s: %v", v.line, name, err)
	}
	return n
}

// hash is the hash of that name in the section.
func (v *vector) hash(at int) tpm2.Alg {
	v.Helper()
	for name, a := range map[string]tpm2.Alg{
		"SHA1": tpm2.AlgSHA1, "SHA256": tpm2.AlgSHA256, "SHA384": tpm2.AlgSHA384, "SHA512": tpm2.AlgSHA512,
		"SHA3-256": tpm2.AlgSHA3x256, "SHA3-384": tpm2.AlgSHA3x384, "SHA3-512": tpm2.AlgSHA3x512,
	} {
		if name == strings.Replace(v.section[at], "SHA-", "SHA", 1) {
			return a
		}
	}
	v.Fatalf("line %d: hash %q", v.line, v.section[at])
	return 0
}

// curve is the curve of that name in the section.
func (v *vector) curve() tpm2.ECCCurve {
	v.Helper()
	c, ok := map[string]tpm2.ECCCurve{"P-256": tpm2.CurveNISTP256, "P-384": tpm2.CurveNISTP384, "P-521": tpm2.CurveNISTP521}[v.section[0]]
	if !ok {
		v.Fatalf("line %d: curve %q", v.line, v.section[0])
	}
	return c
}

// digest is the digest of the field Msg.
func (v *vector) digest(a tpm2.Alg) []byte {
	v.Helper()
	d, err := tpmcrypto.Hash(a, v.bytes("Msg"))
	if err != nil {
		v.Fatal(err)
	}
	return d
}

// passes compares a verification with the field Result; its refusal is TPM_RC_SIGNATURE.
func (v *vector) passes(err error) {
	v.Helper()
	if want := v.fields["Result"] == "P"; (err == nil) != want {
		v.Errorf("line %d: Verify = %v, want it to pass: %t", v.line, err, want)
	}
}

func TestDigestsAreNISTs(t *testing.T) {
	for _, name := range []string{"sha.txt", "sha3.txt"} {
		for _, v := range vectors(t, name) {
			a := v.hash(0)
			got, err := tpmcrypto.Hash(a, v.bytes("Msg")[:v.number("Len")/8])
			if err != nil || !bytes.Equal(got, v.bytes("MD")) {
				t.Errorf("%s, line %d: Hash = %x, %v, want %x", name, v.line, got, err, v.bytes("MD"))
			}
		}
	}
}

func TestECDSAVerifiesAsNISTDoes(t *testing.T) {
	for _, v := range vectors(t, "ecdsa-sigver.txt") {
		v.section = strings.Split(v.section[0], ",")
		a := v.hash(1)
		k, err := tpmcrypto.NewECCPublic(v.curve(), tpm2.ECCPoint{X: v.bytes("Qx"), Y: v.bytes("Qy")})
		if err == nil {
			err = k.Verify(tpm2.AlgECDSA, a, v.digest(a), v.bytes("R"), v.bytes("S"))
		}
		v.passes(err) // some points are not on their curve
	}
}

func TestECDHIsNISTs(t *testing.T) {
	for _, v := range vectors(t, "ecc-cdh.txt") {
		k, err := tpmcrypto.LoadECC(v.curve(), v.bytes("dIUT"))
		if err != nil {
			t.Fatal(err)
		}
		// NIST has more leading zeros than the field of P-521 has bytes.
		if p := k.Point(); !bytes.HasSuffix(v.bytes("QIUTx"), p.X) || !bytes.HasSuffix(v.bytes("QIUTy"), p.Y) {
			t.Errorf("line %d: the public point is %x, %x", v.line, p.X, p.Y)
		}
		peer, want := tpm2.ECCPoint{X: v.bytes("QCAVSx"), Y: v.bytes("QCAVSy")}, v.bytes("ZIUT")
		if got, err := k.Shared(peer); err != nil || !bytes.Equal(got, want) {
			t.Errorf("line %d: Shared = %x, %v, want %x", v.line, got, err, want)
		}
		if got, err := k.Multiply(peer); err != nil || !bytes.Equal(got.X, want) {
			t.Errorf("line %d: Multiply = %x, %v, want %x", v.line, got.X, err, want)
		}
	}
}

// exponent is the field e.
func (v *vector) exponent() uint32 {
	v.Helper()
	n, err := strconv.ParseUint(v.fields["e"], 16, 32)
	if err != nil {
		v.Fatalf("line %d: e: %v", v.line, err)
	}
	return uint32(n)
}

func TestRSAVerifiesAsNISTDoes(t *testing.T) {
	for _, v := range vectors(t, "rsa-sigver.txt") {
		scheme := map[string]tpm2.Alg{"RSASSA": tpm2.AlgRSASSA, "RSAPSS": tpm2.AlgRSAPSS}[v.section[0]]
		a := v.hash(2)
		k, err := tpmcrypto.NewRSAPublic(v.bytes("n"), v.exponent())
		if err != nil {
			t.Fatalf("line %d: %v", v.line, err)
		}
		v.passes(k.Verify(scheme, a, v.digest(a), v.bytes("S")))
	}
}

// Where the seed is known encryption gives the ciphertext, too.
func TestOAEPIsThatOfOthers(t *testing.T) {
	for _, v := range vectors(t, "oaep.txt") {
		k, err := tpmcrypto.LoadRSA(v.bytes("n"), v.exponent(), v.bytes("p"))
		if err != nil {
			t.Fatalf("line %d: %v", v.line, err)
		}
		scheme := tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: v.hash(1)}
		if got, err := k.Decrypt(scheme, nil, v.bytes("C")); err != nil || !bytes.Equal(got, v.bytes("M")) {
			t.Errorf("line %d: Decrypt = %x, %v, want %x", v.line, got, err, v.bytes("M"))
		}
		if v.section[0] == "encrypt" {
			if got, err := k.Encrypt(bytes.NewReader(v.bytes("seed")), scheme, nil, v.bytes("M")); err != nil || !bytes.Equal(got, v.bytes("C")) {
				t.Errorf("line %d: Encrypt = %x, %v, want %x", v.line, got, err, v.bytes("C"))
			}
		}
	}
}

// KDFe is the one-step derivation of SP 800-56C over use, a zero, and the parties: what
// stands before the first zero of the vectors' information is the use.
func TestKDFeIsNISTs(t *testing.T) {
	for _, v := range vectors(t, "kdf-onestep.txt") {
		use, parties, ok := bytes.Cut(v.bytes("Info"), []byte{0})
		want := v.bytes("DKM")
		got, err := tpm2.KDFe(v.hash(0), v.bytes("Z"), string(use), parties, nil, 8*len(want))
		if !ok || err != nil || !bytes.Equal(got, want) {
			t.Errorf("line %d: KDFe = %x, %v, want %x", v.line, got, err, want)
		}
	}
}

func TestMLKEM1024IsNISTs(t *testing.T) {
	for _, v := range vectors(t, "mlkem-1024.txt") {
		if v.section[0] == "keyGen" {
			k, err := tpmcrypto.LoadMLKEM(tpm2.MLKEM1024, append(v.bytes("d"), v.bytes("z")...))
			if err != nil || !bytes.Equal(k.Public(), v.bytes("ek")) {
				t.Errorf("line %d: LoadMLKEM makes another public key, %v", v.line, err)
			}
			continue
		}
		if fips140.Enabled() {
			continue // the module has randomness of its own
		}
		c, secret, err := tpmcrypto.EncapsulateMLKEM(bytes.NewReader(v.bytes("m")), tpm2.MLKEM1024, v.bytes("ek"))
		if err != nil || !bytes.Equal(c, v.bytes("c")) || !bytes.Equal(secret, v.bytes("k")) {
			t.Errorf("line %d: EncapsulateMLKEM = ..., %x, %v, want %x", v.line, secret, err, v.bytes("k"))
		}
	}
}
