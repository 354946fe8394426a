package vtpmcli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// vtpmRoot is a root of TPMs for a test of the command line.
type vtpmRoot struct {
	t   *testing.T
	dir string
}

func newVTPMRoot(t *testing.T) *vtpmRoot {
	t.Helper()
	r := &vtpmRoot{t, t.TempDir()}
	r.ok("key-provider", "add", "main", "local:"+filepath.Join(r.dir, "keys"), "--create")
	return r
}

// run runs assay with this root.
func (r *vtpmRoot) run(args ...string) (status int, out, errs string) {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	root := filepath.Join(r.dir, "root")
	env := &program.Env{
		Program: "assay", Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Now: time.Now, Rand: rand.Reader,
		Getenv: func(name string) string { return map[string]string{"ASSAY_VTPM_ROOT": root}[name] },
	}
	status = assay(env, args)
	return status, stdout.String(), stderr.String()
}

// ok runs assay, which must succeed.
func (r *vtpmRoot) ok(args ...string) string {
	r.t.Helper()
	status, out, errs := r.run(args...)
	if status != program.StatusOK {
		r.t.Fatalf("assay %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

func (r *vtpmRoot) file(name string) string { return filepath.Join(r.dir, name) }

func (r *vtpmRoot) write(name, text string) string {
	r.t.Helper()
	if err := os.WriteFile(r.file(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.file(name)
}

// peerTool skips the test without a program, unless the environment requires it.
func peerTool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("ASSAY_REQUIRE_OPENSSL") == "1" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// documentedCheck is what docs/vtpm-identity.md tells an outsider to run.
func documentedCheck(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/vtpm-identity.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "<!-- identity_test runs")
	_, block, sh := strings.Cut(block, "```sh\n")
	block, _, end := strings.Cut(block, "```")
	if !found || !sh || !end {
		t.Fatal("docs/vtpm-identity.md has no block that is marked for this test")
	}
	return block
}

func TestOutsiderVerifiesAnIdentityAsDocumented(t *testing.T) {
	peerTool(t, "sh", "jq", "openssl")
	r := newVTPMRoot(t)
	r.ok("vtpm", "ca", "init", "--name", "Example vTPM", "--url", "http://pki.example.org/vtpm")
	r.ok("vtpm", "create", "web-1")
	identity := r.ok("vtpm", "identity", "web-1", "-o", "json")
	root := r.ok("vtpm", "ca", "export-root")
	other := newVTPMRoot(t)
	other.ok("vtpm", "ca", "init")
	other.ok("vtpm", "create", "web-1")
	check := documentedCheck(t)
	for name, tc := range map[string]struct {
		identity, root string
		ok             bool
		says           string
	}{
		"as given":                  {identity, root, true, "ek.pem: OK"},
		"under another root":        {identity, other.ok("vtpm", "ca", "export-root"), false, "unable to get"},
		"with another TPM's key":    {mixed(t, identity, other.ok("vtpm", "identity", "web-1", "-o", "json"), "publicKey"), root, false, "differ"},
		"with another certificate":  {mixed(t, identity, other.ok("vtpm", "identity", "web-1", "-o", "json"), "certificate"), root, false, "unable to get"},
		"with a certificate broken": {strings.Replace(identity, "MII", "MIJ", 1), root, false, "ek.pem"},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"identity.json": tc.identity, "root.pem": tc.root} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "-euc", check)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err == nil) != tc.ok || !strings.Contains(string(out), tc.says) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if tc.ok && !strings.Contains(string(out), "2.23.133.8.1") {
			t.Errorf("%s: step 2 shows\n%s", name, out)
		}
	}
}

// mixed takes one member of each key from another identity.
func mixed(t *testing.T, identity, other, member string) string {
	t.Helper()
	var a, b map[string]any
	for text, to := range map[string]*map[string]any{identity: &a, other: &b} {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	for i, k := range a["keys"].([]any) {
		k.(map[string]any)[member] = b["keys"].([]any)[i].(map[string]any)[member]
	}
	out, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestThirdPartyCertificateOnTheCommandLine(t *testing.T) {
	peerTool(t, "openssl")
	r := newVTPMRoot(t)
	r.ok("vtpm", "create", "web-1")
	if out := r.ok("vtpm", "ek", "show", "web-1"); !strings.Contains(out, "none") {
		t.Errorf("without an authority there are certificates:\n%s", out)
	}
	csr := r.file("web-1.csr")
	if out := r.ok("vtpm", "ek", "csr", "web-1", "--key", "p384", "--out", csr); out != "" {
		t.Errorf("with --out it prints %q", out)
	}
	ssl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	ca, key, leaf := r.file("ca.pem"), r.file("ca.key"), r.file("leaf.pem")
	ssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", ca, "-subj", "/CN=Site")
	ssl("x509", "-req", "-in", csr, "-CA", ca, "-CAkey", key, "-CAcreateserial", "-days", "30", "-copy_extensions", "copyall", "-out", leaf)
	bare := r.file("bare.pem")
	ssl("x509", "-req", "-in", csr, "-CA", ca, "-CAkey", key, "-CAcreateserial", "-days", "30", "-out", bare)
	var bundle strings.Builder
	for _, name := range []string{leaf, ca} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bundle.WriteString(string(text))
	}
	for name, tc := range map[string]struct {
		file, says string
		status     int
	}{
		"no extensions":  {bare, "key usage lacks keyAgreement", program.StatusRefused},
		"an authority":   {ca, "no endorsement key of this TPM", program.StatusRefused},
		"no certificate": {r.write("x", "hello"), "no certificate", program.StatusUnusable},
		"no file":        {r.file("nosuch"), "no such file", program.StatusUnusable},
	} {
		if status, _, errs := r.run("vtpm", "ek", "install", "web-1", tc.file); status != tc.status || !strings.Contains(errs, tc.says) {
			t.Errorf("%s: status %d, %s", name, status, errs)
		}
	}
	out := r.ok("vtpm", "ek", "install", "web-1", r.write("bundle.pem", bundle.String()))
	if !strings.Contains(out, "certificate of p384 at 01c00016, 0 authorities") {
		t.Errorf("install says %q", out)
	}
	if out := r.ok("vtpm", "ek", "show", "web-1"); !strings.Contains(out, "CN=Site") {
		t.Errorf("show says\n%s", out)
	}
	if out := r.ok("vtpm", "audit", "list"); !strings.Contains(out, "requestCertificateTPMEvent") || !strings.Contains(out, "installCertificateTPMEvent") {
		t.Errorf("audit trail:\n%s", out)
	}
}

func TestAuthorityOnTheCommandLine(t *testing.T) {
	r := newVTPMRoot(t)
	if status, _, errs := r.run("vtpm", "ca", "show"); status != program.StatusUnusable || !strings.Contains(errs, "no certificate authority here") {
		t.Errorf("without one: %d, %s", status, errs)
	}
	if out := r.ok("vtpm", "ca", "init", "--url", "http://pki.example.org/vtpm"); !strings.Contains(out, "on this machine, sealed") {
		t.Errorf("init says\n%s", out)
	}
	if status, _, _ := r.run("vtpm", "ca", "init"); status == program.StatusOK {
		t.Error("a second one is made")
	}
	if out := r.ok("vtpm", "create", "web-1"); !strings.Contains(out, "3 keys, 3 with a certificate") {
		t.Errorf("create says %q", out)
	}
	var id struct {
		ID   string
		Keys []struct{ Serial string }
	}
	r.json(&id, "vtpm", "identity", "web-1")
	var v authorityView
	r.json(&v, "vtpm", "ca", "revoke", id.Keys[0].Serial, "--reason", "keyCompromise")
	if v.Issued != 3 || v.Revoked != 1 || v.Lists[0].Revoked != 1 || v.Lists[0].Number != "2" {
		t.Errorf("after one: %+v", v)
	}
	r.json(&v, "vtpm", "ca", "revoke", "--tpm", id.ID)
	if v.Revoked != 3 || v.Lists[0].Number != "3" {
		t.Errorf("after all: %+v", v)
	}
	if status, _, errs := r.run("vtpm", "ca", "revoke", "1234"); status != program.StatusRefused || !strings.Contains(errs, "issued no such certificate") {
		t.Errorf("another's: %d, %s", status, errs)
	}
	for _, args := range [][]string{{}, {id.Keys[0].Serial, "--tpm", id.ID}, {id.Keys[0].Serial, "--reason", "x"}} {
		if status, _, _ := r.run(append([]string{"vtpm", "ca", "revoke"}, args...)...); status != program.StatusUnusable {
			t.Errorf("revoke %v: %d", args, status)
		}
	}
	r.json(&v, "vtpm", "ca", "crl")
	if v.Lists[0].Number != "4" {
		t.Errorf("after crl: %+v", v.Lists)
	}
}

func (r *vtpmRoot) json(to any, args ...string) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.ok(append(args, "-o", "json")...)), to); err != nil {
		r.t.Fatal(err)
	}
}

func TestRootIsTakenOffTheMachine(t *testing.T) {
	r := newVTPMRoot(t)
	r.ok("vtpm", "ca", "init")
	phrase, key := r.write("phrase", "correct horse battery staple\n"), r.file("root.key")
	for name, args := range map[string][]string{
		"removal without a copy": {"--remove"}, "no passphrase": {"--key-out", key}, "a short one": {"--key-out", key, "--passphrase-file", r.write("short", "x")},
	} {
		if status, _, _ := r.run(append([]string{"vtpm", "ca", "export-root"}, args...)...); status != program.StatusUnusable {
			t.Errorf("%s: %d", name, status)
		}
	}
	out := r.ok("vtpm", "ca", "export-root", "--key-out", key, "--passphrase-file", phrase, "--remove")
	if !strings.Contains(out, "BEGIN CERTIFICATE") {
		t.Errorf("export-root prints %q", out)
	}
	if text, err := os.ReadFile(key); err != nil || !strings.Contains(string(text), "ENCRYPTED PRIVATE KEY") {
		t.Errorf("%q, %v", text, err)
	}
	if out := r.ok("vtpm", "ca", "show"); !strings.Contains(out, "not on this machine") {
		t.Errorf("show says\n%s", out)
	}
	r.ok("vtpm", "create", "web-1")
	if status, _, errs := r.run("vtpm", "ca", "export-root", "--key-out", r.file("again"), "--passphrase-file", phrase); status == program.StatusOK || !strings.Contains(errs, "not at hand") {
		t.Errorf("once more: %d, %s", status, errs)
	}
}

func TestTheNextAuthorityIsMadeByTheExportedRoot(t *testing.T) {
	r := newVTPMRoot(t)
	r.ok("vtpm", "ca", "init", "--url", "http://pki.example.org/vtpm")
	r.ok("vtpm", "create", "web-1")
	phrase, key := r.write("phrase", "correct horse battery staple\n"), r.file("root.key")
	r.ok("vtpm", "ca", "export-root", "--key-out", key, "--passphrase-file", phrase, "--remove")
	if status, _, errs := r.run("vtpm", "ca", "next"); status != program.StatusRefused || !strings.Contains(errs, "--root-key") {
		t.Errorf("without the root's key: %d, %s", status, errs)
	}
	if status, _, errs := r.run("vtpm", "ca", "next", "--root-key", key, "--passphrase-file", r.write("wrong", "another horse\n")); status == program.StatusOK || !strings.Contains(errs, "passphrase") {
		t.Errorf("with a wrong passphrase: %d, %s", status, errs)
	}
	// A daemon has the authority open from before.
	root := filepath.Join(r.dir, "root")
	env := &program.Env{Stderr: io.Discard, Now: time.Now, Rand: rand.Reader, Getenv: func(string) string { return "" }}
	cfg, err := (&rootFlags{dir: root}).config(env)
	if err != nil {
		t.Fatal(err)
	}
	daemon := cfg.Issuer.(*rootIssuer)
	if _, err := daemon.authority(t.Context()); err != nil {
		t.Fatal(err)
	}
	var view authorityView
	r.json(&view, "vtpm", "ca", "next", "--root-key", key, "--passphrase-file", phrase)
	if view.Generation != 2 || view.RootKeyHere || len(view.Older) != 1 || len(view.Lists) != 5 {
		t.Errorf("next shows %+v", view)
	}
	if out := r.ok("vtpm", "ca", "show"); !strings.Contains(out, "number 2, until 20") || !strings.Contains(out, "list of platform2") {
		t.Errorf("show says\n%s", out)
	}
	r.ok("vtpm", "create", "web-2")
	var one, two struct{ Chain []string }
	r.json(&one, "vtpm", "identity", "web-1")
	r.json(&two, "vtpm", "identity", "web-2")
	if one.Chain[0] != view.Older[0] || two.Chain[0] != view.Issuing {
		t.Error("a TPM has another's authority in it")
	}
	if err := daemon.Revoke(t.Context(), "1", ekca.Superseded); !errors.Is(err, ekca.ErrNotIssued) {
		t.Errorf("Revoke by a daemon that was started before = %v, want %v", err, ekca.ErrNotIssued)
	}
	a, err := daemon.authority(t.Context())
	if err != nil || a.Info().Generation != 2 {
		t.Errorf("the daemon has generation %d, %v", a.Info().Generation, err)
	}
}

func TestAuthorityIsServed(t *testing.T) {
	r := newVTPMRoot(t)
	r.ok("vtpm", "ca", "init", "--url", "http://pki.example.org/vtpm")
	if status, _, errs := r.run("vtpm", "ca", "serve", "--listen", "0.0.0.0:0"); status != program.StatusUnusable || !strings.Contains(errs, "loopback") {
		t.Errorf("on all addresses: %d, %s", status, errs)
	}
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	root := filepath.Join(r.dir, "root")
	env := &program.Env{Stdout: in, Stderr: io.Discard, Now: time.Now, Rand: rand.Reader, Getenv: func(string) string { return "" }}
	done := make(chan error, 1)
	go func() { done <- serveCA(ctx, env, &rootFlags{dir: root}, "127.0.0.1:0", true) }()
	line := make([]byte, 128)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err, <-done)
	}
	url, found := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "serving ")
	if !found {
		t.Fatalf("it says %q", line[:n])
	}
	for _, name := range []string{"ca.cer", "ca.crl", "platform.crl", "root.cer", "root.crl", "chain.pem"} {
		got, err := http.Get(url + "/vtpm/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if got.Body.Close(); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", name, got.Status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestIssuingProgramOnTheCommandLine(t *testing.T) {
	r := newVTPMRoot(t)
	issuer := r.write("issuer", "#!/bin/sh\ncat >/dev/null\necho '{}'\n")
	if err := os.Chmod(issuer, 0o700); err != nil {
		t.Fatal(err)
	}
	r.ok("vtpm", "ca", "init", "--program", issuer)
	if out := r.ok("vtpm", "create", "web-1"); !strings.Contains(out, "3 keys, 0 with a certificate") {
		t.Errorf("create says %q", out)
	}
	r.ok("vtpm", "clear", "web-1", "--yes")
	r.write("issuer", "#!/bin/sh\necho 'no paper' >&2\nexit 1\n")
	if status, _, errs := r.run("vtpm", "create", "web-2"); status == program.StatusOK || !strings.Contains(errs, "no paper") {
		t.Errorf("one that fails: %d, %s", status, errs)
	}
	if out := r.ok("vtpm", "list"); strings.Contains(out, "web-2") {
		t.Errorf("it is made all the same:\n%s", out)
	}
}
