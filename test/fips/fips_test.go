// Package fips builds assay-vtpm with the validated module, as make build FIPS=1 does,
// runs it, and sees what its TPMs say of themselves and do: the self-test, hashes,
// signatures, a quote, and ML-DSA, which the module has not. It does not show what of
// this the module computed: its own tests do. Start with TestTheValidatedModuleRunsTPMs.
package fips

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"filippo.io/mldsa"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// build builds the program; one test does all, since that takes the time of all others.
func build(t *testing.T) string {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_FIPS") == "" {
		t.Skip("ASSAY_REQUIRE_FIPS is not set: the validated module is compiled for this test alone")
	}
	program := filepath.Join(t.TempDir(), "assay-vtpm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/assay-vtpm")
	cmd.Env = append(os.Environ(), "GOFIPS140=certified", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// A machine is a program that serves one TPM.
type machine struct {
	*testing.T
	tpm    *client.TPM
	stop   func()
	stderr bytes.Buffer // whole after stop
}

// serve starts a TPM, in the mode that debug says, and its client.
func serve(t *testing.T, program, debug string, args ...string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "fips") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "tpm")
	m := &machine{T: t}
	cmd := exec.Command(program, slices.Concat([]string{"serve", "--swtpm-unix", socket}, args)...)
	cmd.Env = append(os.Environ(), "GODEBUG=fips140="+debug)
	cmd.Stderr = &m.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	stopped := false
	m.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if conn != nil {
			conn.Close()
		}
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, out)
		cmd.Wait()
	}
	t.Cleanup(m.stop)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		m.stop()
		t.Fatalf("serve %s: %q\n%s", args, line, &m.stderr)
	}
	if conn, err = net.Dial("unix", socket); err != nil {
		t.Fatal(err)
	}
	m.tpm = client.New(client.NewStream(conn), rand.Reader)
	if err := m.tpm.Startup(tpm2.StartupClear); err != nil {
		t.Fatal(err)
	}
	return m
}

// do runs a command that must succeed.
func (m *machine) do(cc tpm2.CC, in, out wire.Layout, handles ...client.Entity) tpm2.Handle {
	m.Helper()
	h, err := m.tpm.Run(&client.Command{Code: cc, Handles: handles, In: in, Out: out})
	if err != nil {
		m.Fatal(err)
	}
	return h
}

// modes is TPM_PT_MODES.
func (m *machine) modes() tpm2.ModeAttributes {
	m.Helper()
	var out command.GetCapabilityOut
	m.do(tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTModes), PropertyCount: 1}, &out)
	if l := out.CapabilityData.Properties; len(l) == 1 && l[0].Property == tpm2.PTModes {
		return tpm2.ModeAttributes(l[0].Value)
	}
	m.Fatalf("TPM_PT_MODES: %v", out.CapabilityData.Properties)
	return 0
}

// offersSHA1 tells an approved profile from another.
func (m *machine) offersSHA1() bool {
	m.Helper()
	_, err := m.tpm.Run(&client.Command{Code: tpm2.CCHash, In: &command.HashIn{HashAlg: tpm2.AlgSHA1, Hierarchy: tpm2.HandleNull}, Out: new(command.HashOut)})
	var rc tpm2.RC
	if err != nil && (!errors.As(err, &rc) || rc.Base() != tpm2.RCHash) {
		m.Fatal(err)
	}
	return err == nil
}

// key makes a primary signing key of a type.
func (m *machine) key(template tpm2.Public) (client.Entity, *tpm2.Public) {
	m.Helper()
	template.NameAlg = tpm2.AlgSHA256
	template.Attributes |= tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrSign
	var made command.CreatePrimaryOut
	h := m.do(tpm2.CCCreatePrimary, &command.CreatePrimaryIn{InPublic: template}, &made, client.Entity{Handle: tpm2.HandleOwner})
	return client.Entity{Handle: h, Name: made.Name}, &made.OutPublic
}

// verify checks a signature of a message without the TPM.
func (m *machine) verify(p *tpm2.Public, message []byte, s *tpm2.Signature) {
	m.Helper()
	v, err := tpm2.NewVerifier(p)
	if err != nil {
		m.Fatal(err)
	}
	if err := v.Verify(message, s); err != nil {
		m.Errorf("signature by %v: %v", p.Type, err)
	}
}

// works runs the full self-test, a hash sequence of several buffers, a signature and a
// quote by keys of both kinds.
func (m *machine) works() {
	m.Helper()
	m.do(tpm2.CCSelfTest, &command.SelfTestIn{FullTest: true}, nil)
	message := bytes.Repeat([]byte("message "), 400)
	h := m.do(tpm2.CCHashSequenceStart, &command.HashSequenceStartIn{HashAlg: tpm2.AlgSHA256}, nil)
	sequence := client.Entity{Handle: h, Name: []byte{}}
	for part := range slices.Chunk(message, tpm2.MaxBuffer) {
		m.do(tpm2.CCSequenceUpdate, &command.SequenceUpdateIn{Buffer: part}, nil, sequence)
	}
	var hashed command.SequenceCompleteOut
	m.do(tpm2.CCSequenceComplete, &command.SequenceCompleteIn{Hierarchy: tpm2.HandleNull}, &hashed, sequence)
	digest := sha256.Sum256(message)
	if !bytes.Equal(hashed.Result, digest[:]) {
		m.Errorf("the digest of a sequence is %x, want %x", hashed.Result, digest)
	}
	rsa := tpm2.Public{Type: tpm2.AlgRSA}
	rsa.Parameters.RSA = tpm2.RSAParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgRSAPSS, HashAlg: tpm2.AlgSHA256}, KeyBits: 2048}
	ecc := tpm2.Public{Type: tpm2.AlgECC}
	ecc.Parameters.ECC = tpm2.ECCParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}, CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull}}
	for _, template := range []tpm2.Public{rsa, ecc} {
		key, public := m.key(template)
		var signed command.SignOut
		m.do(tpm2.CCSign, &command.SignIn{Digest: digest[:], InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}, &signed, key)
		m.verify(public, message, &signed.Signature)
		var quoted command.QuoteOut
		m.do(tpm2.CCQuote, &command.QuoteIn{InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}, PCRSelect: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.PCRSelect{0xFF, 0, 0}}}}, &quoted, key)
		m.verify(public, quoted.Quoted, &quoted.Signature)
		if err := m.tpm.Flush(key.Handle); err != nil {
			m.Error(err)
		}
	}
}

// The TPMs of a FIPS build: the approved profile says FIPS 140-3 and is the one that is
// made without a choice; another works too, says nothing, and whoever makes it is told.
func TestTheValidatedModuleRunsTPMs(t *testing.T) {
	program := build(t)
	const warning = "FIPS 140-3 does not approve"
	for name, tc := range map[string]struct {
		debug string
		args  []string
		modes tpm2.ModeAttributes
		sha1  bool
		warns bool
	}{
		"no choice":           {"on", nil, tpm2.ModeFIPS140v3, false, false},
		"default":             {"on", []string{"--profile", "default"}, 0, true, true},
		"the module is off":   {"off", nil, 0, true, false},
		"off, and fips":       {"off", []string{"--profile", "fips"}, 0, false, false},
		"post-quantum, by it": {"on", []string{"--profile", "post-quantum"}, 0, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t, program, tc.debug, append([]string{"--ephemeral"}, tc.args...)...)
			if got := m.modes(); got != tc.modes {
				t.Errorf("TPM_PT_MODES is %#x, want %#x", got, tc.modes)
			}
			if got := m.offersSHA1(); got != tc.sha1 {
				t.Errorf("SHA-1 is offered: %t, want %t", got, tc.sha1)
			}
			m.works()
			if strings.HasPrefix(name, "post-quantum") {
				m.signsByMLDSA()
			}
			m.stop()
			if got := strings.Contains(m.stderr.String(), warning); got != tc.warns {
				t.Errorf("a warning: %t, want %t\n%s", got, tc.warns, &m.stderr)
			}
		})
	}
	t.Run("a TPM that was there goes on", func(t *testing.T) { goesOn(t, program) })
	t.Run("by the name of swtpm_setup", func(t *testing.T) { setUp(t, program, warning) })
}

// setUp: what libvirt calls makes the same choice.
func setUp(t *testing.T, program, warning string) {
	dir := t.TempDir()
	for _, name := range []string{"assay-vtpm", "swtpm", "swtpm_setup"} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(debug, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, name), args...)
		cmd.Env = append(os.Environ(), "GODEBUG=fips140="+debug, "HOME="+dir, "XDG_CONFIG_HOME="+dir,
			"ASSAY_VTPM_ROOT="+filepath.Join(dir, "root"), "ASSAY_KEY_PROVIDER=local:"+filepath.Join(dir, "keys"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("on", "assay-vtpm", "key-provider", "add", "main", "local:"+filepath.Join(dir, "keys"), "--create")
	for name, tc := range map[string]struct {
		debug string
		args  []string
		want  string
		warns bool
	}{
		"no choice":  {"on", nil, "fips", false},
		"another's":  {"on", []string{"--profile-name", "default-v1"}, "compatible", true},
		"module off": {"off", nil, "compatible", false},
	} {
		state := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		said := run(tc.debug, "swtpm_setup", append([]string{"--tpm2", "--tpm-state", state}, tc.args...)...)
		if got := strings.Contains(said, warning); got != tc.warns {
			t.Errorf("%s: a warning: %t, want %t\n%s", name, got, tc.warns, said)
		}
		if got := run(tc.debug, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--print-info", "0x20"); !strings.Contains(got, `"ActiveProfile":{"Name":"`+tc.want+`"`) {
			t.Errorf("%s: swtpm --print-info tells %s, want profile %s", name, got, tc.want)
		}
	}
}

// signsByMLDSA: ML-DSA works in FIPS mode as what is not approved, by code that is not
// the module's.
func (m *machine) signsByMLDSA() {
	m.Helper()
	template := tpm2.Public{Type: tpm2.AlgMLDSA}
	template.Parameters.MLDSA.ParameterSet = tpm2.MLDSA65
	key, public := m.key(template)
	h := m.do(tpm2.CCSignSequenceStart, &command.SignSequenceStartIn{}, nil, key)
	var signed command.SignSequenceCompleteOut
	m.do(tpm2.CCSignSequenceComplete, &command.SignSequenceCompleteIn{Buffer: []byte("message")}, &signed, client.Entity{Handle: h, Name: []byte{}}, key)
	std, err := mldsa.NewPublicKey(mldsa.MLDSA65(), public.Unique.MLDSA)
	if err != nil {
		m.Fatal(err)
	}
	if err := mldsa.Verify(std, []byte("message"), signed.Signature.MLDSA, nil); err != nil {
		m.Errorf("the signature by ML-DSA does not verify: %v", err)
	}
}

// goesOn: a TPM is of its profile wherever it is served, and TPM_PT_MODES tells where.
func goesOn(t *testing.T, program string) {
	for name, tc := range map[string]struct {
		made   string
		served []tpm2.ModeAttributes // with the module off and on
	}{
		"default": {"default", []tpm2.ModeAttributes{0, 0}},
		"fips":    {"fips", []tpm2.ModeAttributes{0, tpm2.ModeFIPS140v3}},
	} {
		dir := t.TempDir()
		args := []string{"--state", filepath.Join(dir, "tpm"), "--key-file", filepath.Join(dir, "keys"), "--ledger", filepath.Join(dir, "ledger")}
		serve(t, program, "off", append(slices.Clone(args), "--profile", tc.made)...).stop()
		for i, debug := range []string{"off", "on"} {
			m := serve(t, program, debug, args...)
			if got := m.modes(); got != tc.served[i] {
				t.Errorf("%s with the module %s: TPM_PT_MODES is %#x, want %#x", name, debug, got, tc.served[i])
			}
			m.do(tpm2.CCSelfTest, &command.SelfTestIn{FullTest: true}, nil)
			m.stop()
		}
	}
}
