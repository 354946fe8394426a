package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// tool returns a program that others wrote. Without it the test is skipped, unless
// the environment says that it must be there.
func tool(t *testing.T, name, require string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv(require) == "1" {
		t.Fatalf("%s is set, and %v", require, err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func openssl(t *testing.T) string {
	t.Helper()
	return tool(t, "openssl", "ASSAY_REQUIRE_OPENSSL")
}

// run runs a program for its output; ok is whether it ends with 0.
func run(t *testing.T, in []byte, name string, args ...string) (out string, ok bool) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

func mustRun(t *testing.T, in []byte, name string, args ...string) string {
	t.Helper()
	out, ok := run(t, in, name, args...)
	if !ok {
		t.Fatalf("%s %v: %s", name, args, out)
	}
	return out
}

func save(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// lists gives openssl the revocation lists of an authority, in PEM.
func lists(t *testing.T, ssl, dir string, a *Authority) string {
	t.Helper()
	var all []byte
	for _, by := range []string{byIssuing, byRoot} {
		all = append(all, mustRun(t, nil, ssl, "crl", "-inform", "DER", "-in", a.public(by+listSuffix))...)
	}
	return save(t, dir, "lists.pem", all)
}

func TestOpenSSLVerifiesCertificatesAndLists(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	a := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), a, all())
	root, middle := save(t, dir, "root.pem", encodePEM(a.root.Raw)), save(t, dir, "ca.pem", encodePEM(a.issuing.cert.Raw))
	verify := func(leaf string) (string, bool) {
		return run(t, nil, ssl, "verify", "-attime", "1795348800", "-x509_strict", "-CAfile", root, "-untrusted", middle, "-crl_check_all", "-CRLfile", lists(t, ssl, dir, a), leaf)
	}
	for _, k := range got.Keys {
		leaf := save(t, dir, string(k.Kind)+".pem", encodePEM(k.Certificate))
		if out, ok := verify(leaf); !ok {
			t.Errorf("%s: %s", k.Kind, out)
		}
	}
	leaf := filepath.Join(dir, "rsa2048.pem")
	text := mustRun(t, nil, ssl, "x509", "-in", leaf, "-noout", "-text")
	for _, want := range []string{
		"Dec 31 23:59:59 9999 GMT", "X509v3 Key Usage: critical\n                Key Encipherment\n", "2.23.133.8.1",
		"X509v3 Subject Alternative Name: critical\n                DirName:/2.23.133.2.1=id:58595A20/2.23.133.2.2=SW Assay/2.23.133.2.3=id:00010000",
		"CPS: " + testCPS, "TCG Trusted Platform Endorsement", "URI:" + testURL + "/ca.crl",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl does not read %q in\n%s", want, text)
		}
	}
	if err := a.Revoke(context.Background(), hexSerial(mustParse(t, got.Keys[0].Certificate).SerialNumber), KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if out, ok := verify(leaf); ok || !strings.Contains(out, "certificate revoked") {
		t.Errorf("revoked: %s", out)
	}
	if out, ok := verify(filepath.Join(dir, "p256.pem")); !ok {
		t.Errorf("not revoked: %s", out)
	}
}

func TestOpenSSLVerifiesThePlatformCertificate(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	a := newAuthority(t, served())
	got := mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}, Platform: testPlatform()})
	parts := elementsOf(t, got.Platform)
	info := save(t, dir, "info", parts[0])
	signature := save(t, dir, "signature", content(t, parts[2])[1:]) // behind the count of unused bits
	key := save(t, dir, "key.pem", []byte(mustRun(t, encodePEM(a.platform.cert.Raw), ssl, "x509", "-noout", "-pubkey")))
	mustRun(t, nil, ssl, "dgst", "-sha256", "-verify", key, "-signature", signature, info)
	if out := mustRun(t, got.Platform, ssl, "asn1parse", "-inform", "DER"); !strings.Contains(out, strings.ToUpper(hex.EncodeToString([]byte("Standard PC (Q35 + ICH9, 2009)")))) || !strings.Contains(out, "99991231235959Z") {
		t.Errorf("openssl reads\n%s", out)
	}
}

func TestOpenSSLAuthorityCertifiesARequest(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	tpm := newEngine(t)
	mustManufacture(t, tpm, None{}, Options{})
	ca, caKey := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	mustRun(t, nil, ssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", caKey, "-out", ca, "-days", "3650", "-subj", "/CN=Site")
	for _, k := range DefaultKeys() {
		csr := save(t, dir, string(k)+".csr", request(t, tpm, k))
		if out := mustRun(t, nil, ssl, "req", "-inform", "DER", "-in", csr, "-noout", "-verify", "-text"); !strings.Contains(out, "verify OK") || !strings.Contains(out, "CN = web-1") {
			t.Errorf("%s: openssl says\n%s", k, out)
		}
		leaf := mustRun(t, nil, ssl, "x509", "-req", "-inform", "DER", "-in", csr, "-CA", ca, "-CAkey", caKey, "-CAcreateserial", "-days", "365", "-copy_extensions", "copyall")
		text, err := os.ReadFile(ca)
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := ParseBundle([]byte(leaf[strings.Index(leaf, "-----BEGIN"):] + string(text)))
		if err != nil {
			t.Fatal(err)
		}
		at := bundle[0].NotBefore.Add(time.Hour)
		got, err := Install(context.Background(), scratch(t, tpm), bundle, InstallOptions{At: at, Random: rand.Reader})
		if err != nil || got.Kind != k {
			t.Errorf("%s: Install = %+v, %v", k, got, err)
		}
	}
}

func TestOpenSSLReadsTheExportedRoot(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	a := newAuthority(t, AuthorityOptions{})
	exported, err := a.ExportRoot(context.Background(), a.cfg.Provider, phrase(goodPhrase))
	if err != nil {
		t.Fatal(err)
	}
	key := save(t, dir, "root.key", exported)
	public := mustRun(t, nil, ssl, "pkey", "-in", key, "-passin", "pass:"+goodPhrase, "-pubout")
	if want := mustRun(t, encodePEM(a.root.Raw), ssl, "x509", "-noout", "-pubkey"); public != want {
		t.Errorf("public key is\n%s, the certificate's is\n%s", public, want)
	}
	if out, ok := run(t, nil, ssl, "pkey", "-in", key, "-passin", "pass:wrong", "-pubout"); ok {
		t.Errorf("opens with any passphrase: %s", out)
	}
}

// The issuing key stays with openssl, in place of an HSM.
func TestIssuingKeyMayBeElsewhere(t *testing.T) {
	ssl, dir := openssl(t), t.TempDir()
	root := newForeign(t, "Site root", nil, noon.AddDate(-1, 0, 0), noon.AddDate(9, 0, 0))
	issuing := newForeign(t, "Site", root, noon.AddDate(-1, 0, 0), noon.AddDate(8, 0, 0))
	text, err := x509.MarshalPKCS8PrivateKey(issuing.key)
	if err != nil {
		t.Fatal(err)
	}
	key := save(t, dir, "key.der", text)
	o := AuthorityOptions{
		Name: "Here", IssuingCert: issuing.cert, RootCert: root.cert,
		SignerCommand: []string{ssl, "pkeyutl", "-sign", "-inkey", key, "-keyform", "DER"},
	}
	a := newAuthority(t, o)
	if a.HasRoot() || !a.Info().Foreign {
		t.Error("a root is made here")
	}
	if _, err := os.Stat(a.path(byIssuing + keySuffix)); err == nil {
		t.Error("an issuing key is made here")
	}
	a = reopen(t, a, a.cfg)
	got := mustManufacture(t, newEngine(t), a, Options{Keys: []Kind{P256}, Platform: testPlatform()})
	if err := mustParse(t, got.Keys[0].Certificate).CheckSignatureFrom(issuing.cert); err != nil {
		t.Error(err)
	}
	if err := a.Revoke(context.Background(), hexSerial(mustParse(t, got.Keys[0].Certificate).SerialNumber), Superseded); err != nil {
		t.Error(err)
	}
	if list, err := a.List(byIssuing); err != nil || list.CheckSignatureFrom(issuing.cert) != nil {
		t.Errorf("list: %v", err)
	}
	remove(t, key)
	_, err = Manufacture(context.Background(), transport(newEngine(t)), a, Options{Keys: []Kind{P256}, Random: rand.Reader})
	if err == nil || !strings.Contains(err.Error(), "key.der") {
		t.Errorf("without the key: %v", err)
	}
	for name, bad := range map[string]AuthorityOptions{
		"the root itself":     {Name: "x", IssuingCert: root.cert, RootCert: root.cert},
		"another root":        {Name: "x", IssuingCert: issuing.cert, RootCert: newForeign(t, "Other", nil, noon, noon.AddDate(1, 0, 0)).cert},
		"no authority":        {Name: "x", IssuingCert: mustParse(t, got.Keys[0].Certificate), RootCert: root.cert},
		"nothing that signs":  {Name: "x", IssuingCert: issuing.cert, RootCert: root.cert},
		"another key signing": {Name: "x", IssuingCert: issuing.cert, RootCert: root.cert, SignerCommand: []string{"/bin/cat"}},
	} {
		cfg := a.cfg
		cfg.Signer = nil
		if _, err := CreateAuthority(context.Background(), filepath.Join(t.TempDir(), "ca"), bad, cfg); err == nil {
			t.Errorf("%s: makes an authority", name)
		}
	}
}

// tpm2-tools read the certificates through swtpm's protocol.
func TestTPM2ToolsReadTheCertificates(t *testing.T) {
	const require = "ASSAY_REQUIRE_TPM_TOOLS"
	get, nvread := tool(t, "tpm2_getekcertificate", require), tool(t, "tpm2_nvread", require)
	a := newAuthority(t, AuthorityOptions{})
	tpm := newEngine(t)
	made := mustManufacture(t, tpm, a, all())
	tpm.PowerOn()
	conn := "swtpm:path=" + serve(t, tpm)
	dir := t.TempDir()
	mustRun(t, nil, "tpm2_startup", "-T", conn, "-c")
	rsa, ecc := filepath.Join(dir, "rsa"), filepath.Join(dir, "ecc")
	mustRun(t, nil, get, "-T", conn, "-X", "-o", rsa, "-o", ecc)
	for i, name := range []string{rsa, ecc} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, made.Keys[i].Certificate) {
			t.Errorf("certificate of %s: %d bytes, %v", made.Keys[i].Kind, len(got), err)
		}
	}
	for index, want := range map[string][]byte{"0x1c00016": made.Keys[2].Certificate, "0x1c00100": a.issuing.cert.Raw, "0x1c08000": made.Platform, "0x1c90100": made.Keys[5].Certificate} {
		out := filepath.Join(dir, index)
		mustRun(t, nil, nvread, "-T", conn, "-o", out, index)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("index %s: %d bytes, want %d, %v", index, len(got), len(want), err)
		}
	}
	pub := filepath.Join(dir, "ek.pem")
	mustRun(t, nil, "tpm2_readpublic", "-T", conn, "-c", "0x81010001", "-f", "pem", "-o", pub, "-Q")
	if got, err := os.ReadFile(pub); err != nil || !strings.Contains(string(got), "PUBLIC KEY") {
		t.Errorf("%q, %v", got, err)
	}
	mustRun(t, nil, "tpm2_createek", "-T", conn, "-G", "rsa", "-c", filepath.Join(dir, "ctx"), "-u", filepath.Join(dir, "again.pem"), "-f", "pem", "-Q")
	again, err := os.ReadFile(filepath.Join(dir, "again.pem"))
	if first, _ := os.ReadFile(pub); err != nil || !bytes.Equal(first, again) {
		t.Errorf("tpm2_createek makes another key: %v", err)
	}
}

// serve serves a TPM at a socket until the test ends.
func serve(t *testing.T, tpm frontend.TPM) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ekca") // names of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "tpm")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	control, err := net.Listen("unix", path+".ctrl") // where the TCTI looks for it
	if err != nil {
		t.Fatal(err)
	}
	m := frontend.NewMachine(tpm, frontend.MachineConfig{})
	m.PowerOn()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- frontend.ServeSWTPM(ctx, m, l, frontend.SWTPMConfig{Control: control}, frontend.Config{Now: time.Now})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}
