package vtpmcli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// siteAuthority writes the key and the certificate of an authority, as a site of
// swtpm's has them, and the configuration that names them.
func siteAuthority(t *testing.T) (dir string, cert *x509.Certificate) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"sign.pem":   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})),
		"issuer.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"conf":       "# of a site\nstatedir = " + dir + "\nsigningkey=${SITE}/sign.pem\nissuercert = " + dir + "/issuer.pem\ncertserial = " + dir + "/serial\n",
		"options":    "--tpm-manufacturer IBM\n--tpm-model \"swtpm libtpms\"\n--tpm-version 2\n--platform-manufacturer Fedora\n--platform-version=2.1\n--platform-model QEMU\n",
		"serial":     "41",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, cert
}

// asProgram runs a drop-in, and returns its status and what it said.
func asProgram(t *testing.T, site, name string, args ...string) (status int, said string) {
	t.Helper()
	var out bytes.Buffer
	env := &program.Env{
		Program: name, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Now: time.Now, Rand: rand.Reader,
		Getenv: func(name string) string { return map[string]string{"SITE": site, "PASSWORD": "secret"}[name] },
	}
	status = assay(env, args)
	return status, out.String()
}

const (
	pointX = "61eaf811ea582656ca2a835dd1b9cd63eb196d7ff62711d6e9b8f85e580a47ca"
	pointY = "a51efdc71fd6c791a24a75beb50526aa81b44cc598e65b2d5e116084aea4cb5b"
)

func TestLocalCACertifiesByTheAuthorityOfTheSite(t *testing.T) {
	t.Parallel()
	dir, issuer := siteAuthority(t)
	args := []string{
		"--ek", "x=" + pointX + ",y=" + pointY, "--dir", dir, "--vmid", "vm1,O=x", "--tpm2", "--configfile", dir + "/conf", "--optsfile", dir + "/options",
		"--tpm-spec-family", "2.0", "--tpm-spec-revision", "183", "--tpm-spec-level", "0", "--tpm-model", "assay",
	}
	for i, kind := range []string{"ek", "platform"} {
		if status, said := asProgram(t, dir, "swtpm_localca", append(args, "--type", kind)...); status != 0 {
			t.Fatalf("%s: status %d: %s", kind, status, said)
		}
		der, err := os.ReadFile(filepath.Join(dir, kind+".cert"))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil || cert.Subject.CommonName != "vm1,O=x" || cert.SerialNumber.Int64() != int64(42+i) {
			t.Errorf("%s: %v, subject %v, serial number %v", kind, err, cert.Subject, cert.SerialNumber)
		}
		// The command line has the word, the file the rest.
		if kind == "ek" && (!bytes.Contains(der, []byte("assay")) || bytes.Contains(der, []byte("swtpm libtpms")) || !bytes.Contains(der, []byte("IBM"))) {
			t.Errorf("ek: model or maker is not as asked for: %q", der)
		}
	}
	for name, more := range map[string][]string{
		"an unknown kind":                {"--type", "x"},
		"a point off the curve":          {"--type", "ek", "--ek", "x=" + pointX + ",y=" + pointX},
		"a modulus that is none":         {"--type", "ek", "--ek", "xyz"},
		"signing of a TPM 1.2":           {"--type", "ek", "--tpm2=false", "--allow-signing"},
		"a configuration that is absent": {"--type", "ek", "--configfile", dir + "/nosuch"},
	} {
		if status, said := asProgram(t, dir, "swtpm_localca", append(args, more...)...); status == 0 {
			t.Errorf("%s: is taken: %s", name, said)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte("statedir="+dir+"\nissuercert=x\nsigningkey=pkcs11:token=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, said := asProgram(t, dir, "swtpm_localca", append(args, "--type", "ek")...); status == 0 || !strings.Contains(said, "assay vtpm ca") {
		t.Errorf("a key in a token: status %d: %s", status, said)
	}
}

func TestCertIssuesAsItIsTold(t *testing.T) {
	t.Parallel()
	dir, issuer := siteAuthority(t)
	out := filepath.Join(dir, "out")
	args := []string{
		"--tpm2", "--signkey", dir + "/sign.pem", "--issuercert", dir + "/issuer.pem", "--out-cert", out, "--ecc-x", pointX, "--ecc-y", pointY, "--pem",
		"--tpm-manufacturer", "IBM", "--tpm-model", "m", "--tpm-version", "1", "--subject", "CN=vm1,OU=foo,L=New York,ST=NY,C=US",
	}
	if status, said := asProgram(t, dir, "swtpm_cert", append(args, "--days", "10", "--serial", "0x10")...); status != 0 {
		t.Fatalf("status %d: %s", status, said)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil || cert.SerialNumber.Int64() != 16 || cert.Subject.String() != "CN=vm1,OU=foo,L=New York,ST=NY,C=US" ||
		cert.NotAfter.Sub(cert.NotBefore).Round(time.Hour) != 240*time.Hour {
		t.Errorf("%v, %v, serial number %v, until %v", err, cert.Subject, cert.SerialNumber, cert.NotAfter)
	}
	for name, more := range map[string][]string{
		"a serial number of 21 bytes": {"--serial", "1461501637330902918203684832716283019655932542976"},
		"another's certificate":       {"--issuercert", out},
		"a name of no kind":           {"--subject", "X=1"},
		"a maker that is missing":     {"--tpm-manufacturer", ""},
		"a key in a TPM":              {"--signkey", "tpmkey:file=x"},
		"an exponent that is even":    {"--modulus", "ab", "--exponent", "2"},
		"something more":              {"more"},
	} {
		if status, said := asProgram(t, dir, "swtpm_cert", append(args, more...)...); status == 0 {
			t.Errorf("%s: is taken: %s", name, said)
		}
	}
	if status, said := asProgram(t, dir, "swtpm_cert", "--print-capabilities"); status != 0 || !strings.Contains(said, "cmdarg-signkey-pwd") {
		t.Errorf("--print-capabilities: status %d: %s", status, said)
	}
}

func TestCertTakesItsPasswordWhereItIsSaidToBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := &program.Env{Getenv: func(name string) string { return map[string]string{"PASSWORD": "secret"}[name] }}
	for _, spec := range []string{"secret", "pass:secret", "env:PASSWORD", "file:" + file} {
		if got, err := (&certOptions{passwordSpec: spec}).signingPassword(env); err != nil || string(got) != "secret" {
			t.Errorf("%s: %q, %v", spec, got, err)
		}
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 300), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&certOptions{passwordSpec: "file:" + file}).signingPassword(env); err == nil {
		t.Error("a password of 300 bytes is taken")
	}
}
