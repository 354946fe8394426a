package authenticode_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/sigdb"
)

// missing ends a test for want of what make setup puts there: it is skipped, or fails
// where it must run.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") != "" {
		t.Fatalf("%s is not there: run make setup", what)
	}
	t.Skipf("%s is not there", what)
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

// bootFile reads a file of Debian's signed packages.
func bootFile(t *testing.T, name string) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(cache, "assay-test", name))
	if err != nil {
		missing(t, name)
	}
	return b
}

func write(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// run reports whether a program said yes.
func run(t *testing.T, name string, args ...string) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return err == nil
}

func TestSbverifyAndOsslsigncodeAgreeOnImages(t *testing.T) {
	sbverify, sbsign, osslsigncode := tool(t, "sbverify"), tool(t, "sbsign"), tool(t, "osslsigncode")
	by := issue(t, 0, "signer", nil)
	dir := t.TempDir()
	certFile := write(t, dir, "cert.pem", pemOf("CERTIFICATE", by.cert.Raw))
	keyFile := write(t, dir, "key.pem", pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(by.key)))
	plain := write(t, dir, "plain.efi", makeImage(3))
	theirs := filepath.Join(dir, "theirs.efi")
	if !run(t, sbsign, "--key", keyFile, "--cert", certFile, "--output", theirs, plain) {
		t.Fatal("sbsign refuses the image")
	}
	ossl := filepath.Join(dir, "ossl.efi")
	if !run(t, osslsigncode, "sign", "-certs", certFile, "-key", keyFile, "-h", "sha256", "-in", plain, "-out", ossl) {
		t.Fatal("osslsigncode refuses the image")
	}
	ours := write(t, dir, "ours.efi", sign(t, makeImage(3), by))
	keys := authenticode.NewKeys(list(t, cert(by)), list(t))
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for _, name := range []string{theirs, ossl, ours} {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := parse(t, good).Verify(keys); v == nil || !run(t, sbverify, "--cert", certFile, name) {
			t.Fatalf("%s: %v, %v; or sbverify says no", filepath.Base(name), v, err)
		}
		// Firmware refuses changes in the headers and in the content's type that sbverify
		// does not look at; it does not look at the revision of a WIN_CERTIFICATE.
		for range 25 {
			b, at := bytes.Clone(good), random.IntN(len(good))
			b[at] ^= 1 << random.IntN(8)
			i, err := authenticode.Parse(bytes.NewReader(b), int64(len(b)))
			var v *authenticode.Verified
			if err == nil {
				v, err = i.Verify(keys)
			}
			if theirs := run(t, sbverify, "--cert", certFile, write(t, dir, "changed.efi", b)); v != nil && !theirs && at&^9 != 0x604 {
				t.Errorf("%s, byte %#x: we say yes, sbverify no\nwas %x\nis  %x", filepath.Base(name), at, good[at-12:at+4], b[at-12:at+4])
			} else if v == nil && theirs && (at < 0x80 || at >= 0x200) && (at < 0x630 || at >= 0x650) {
				t.Errorf("%s, byte %#x: we say no (%v), sbverify yes", filepath.Base(name), at, err)
			}
		}
	}
}

func TestSbverifySeesBothSignatures(t *testing.T) {
	sbverify := tool(t, "sbverify")
	a, b := issue(t, 0, "a", nil), issue(t, 1, "b", nil)
	dir := t.TempDir()
	image := write(t, dir, "twice.efi", sign(t, sign(t, makeImage(0), a), b))
	for _, by := range []*signer{a, b} {
		if !run(t, sbverify, "--cert", write(t, dir, "cert.pem", pemOf("CERTIFICATE", by.cert.Raw)), image) {
			t.Error("sbverify does not take our second signature")
		}
	}
}

func TestDebiansDualSignedShimStartsUnderEitherAuthority(t *testing.T) {
	b := bootFile(t, "shimx64.efi.signed")
	image := parse(t, b)
	all, err := image.Signatures()
	if err != nil {
		t.Fatal(err)
	}
	year := map[int]sigdb.Signature{}
	for n, name := range map[int]string{1: "microsoft-uefi-ca-2011.der", 2: "microsoft-uefi-ca-2023.der"} {
		der, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		year[n] = sigdb.Signature{Type: sigdb.X509, Data: der}
	}
	if len(all) == 1 {
		t.Skip("this shim has one signature")
	}
	other := []sigdb.Signature{{Type: sigdb.SHA256, Data: make([]byte, 32)}}
	for name, tc := range map[string]struct {
		db, dbx []sigdb.Signature
		want    bool
	}{
		"2011":                     {[]sigdb.Signature{year[1]}, other, true},
		"2023":                     {[]sigdb.Signature{year[2]}, other, true},
		"both":                     {[]sigdb.Signature{year[1], year[2]}, other, true},
		"neither":                  {nil, other, false},
		"2023, and 2011 forbidden": {[]sigdb.Signature{year[2]}, []sigdb.Signature{year[1]}, false},
	} {
		if v, err := image.Verify(authenticode.NewKeys(list(t, tc.db...), list(t, tc.dbx...))); (v != nil) != tc.want {
			t.Errorf("%s: Verify = %v, %v, want %v", name, v, err, tc.want)
		}
	}
}

// TestDigestsOfDebiansImagesAreThoseThatWereMeasured has the digests that a TPM
// recorded, by the size of the file: other versions of a package are passed over.
func TestDigestsOfDebiansImagesAreThoseThatWereMeasured(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		size       int
	}{
		{"shimx64.efi.signed", "80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8", 1048504},
		{"grubx64.efi.signed", "a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265", 4183488},
		{"vmlinuz", "5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31", 14186432},
	} {
		b := bootFile(t, tc.name)
		got, err := parse(t, b).Digest(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == tc.size && hex.EncodeToString(got) != tc.want {
			t.Errorf("%s: digest %x, measured %s", tc.name, got, tc.want)
		}
	}
}
