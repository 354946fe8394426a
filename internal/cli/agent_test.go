package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// An attester is assay-agent in a guest, beside a service.
type attester struct {
	t       *testing.T
	guest   *agenttest.Guest
	service *serving
	on      []string // flags that say which service
}

func newAttester(t *testing.T) *attester {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	s := startServing(t, data, nil)
	return &attester{t, agenttest.NewGuest(t, "good-uki"), s, []string{"--server", s.url, "--ca", filepath.Join(data, caFile), "--token-file", filepath.Join(data, tokenFile)}}
}

func (a *attester) process(out, errs *programtest.Buffer) agent.Process {
	return agent.Process{
		Root: a.guest.Root, Open: os.Open, WriteFile: os.WriteFile, Stdout: out, Stderr: errs,
		Machine: agent.Machine{Random: rand.Reader, TPM: func(name string) (agent.Device, error) {
			if name != "/dev/tpm0" { // a kernel without the resource manager
				return nil, fs.ErrNotExist
			}
			return a.guest.Device(), nil
		}},
	}
}

func (a *attester) run(args ...string) (out string, status int) {
	a.t.Helper()
	var stdout, stderr programtest.Buffer
	status = agent.Main(a.t.Context(), a.process(&stdout, &stderr), slices.Concat(args, a.on))
	return stdout.String() + stderr.String(), status
}

func TestTheAgentEnrolsItsTPMAndAttests(t *testing.T) {
	t.Parallel()
	a := newAttester(t)
	if out, status := a.run("attest"); status != 1 || !strings.Contains(out, "ak.untrusted") {
		t.Errorf("before its enrolment: status %d, %s", status, out)
	}
	if out, status := a.run("enrol", "--machine", "web-1"); status != 2 || !strings.Contains(out, "ek") {
		t.Errorf("an endorsement key without a certificate, on nobody's word: status %d, %s", status, out)
	}
	if out, status := a.run("enrol", "--machine", "web-1", "--trust-ek"); status != 0 || !strings.Contains(out, "credential-activation") {
		t.Fatalf("enrol: status %d, %s", status, out)
	}
	if out, status := a.run("attest"); status != 0 || !strings.Contains(out, `"trusted"`) {
		t.Errorf("attest: status %d, %s", status, out)
	}
	// The challenge by one command, its answer by another.
	out, status := a.run("challenge")
	if status != 0 {
		t.Fatalf("challenge: status %d, %s", status, out)
	}
	file := filepath.Join(t.TempDir(), "challenge.json")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := a.run("attest", "--challenge", file); status != 0 {
		t.Errorf("attest --challenge: status %d, %s", status, out)
	}
	a.guest.Extend(4, bytes.Repeat([]byte{1}, 32))
	if out, status := a.run("attest"); status != 1 || !strings.Contains(out, "eventlog.replay-mismatch") {
		t.Errorf("another boot: status %d, %s", status, out)
	}
}

// manufacture gives the guest's TPM endorsement keys and their certificates by a new
// authority, and returns the file of its root.
func (a *attester) manufacture(kinds ...ekca.Kind) (root string) {
	a.t.Helper()
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	provider, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	authority, err := ekca.CreateAuthority(a.t.Context(), filepath.Join(dir, "ca"), ekca.AuthorityOptions{Name: "Test"}, ekca.AuthorityConfig{Provider: provider, Random: rand.Reader, Now: time.Now})
	if err != nil {
		a.t.Fatal(err)
	}
	_, err = ekca.Manufacture(a.t.Context(), a.guest.TPM, authority, ekca.Options{TPM: "4c5bd8f2-6a64-4d0a-9a3a-6b7d7d1d9a01", Keys: kinds, Random: rand.Reader})
	if err != nil {
		a.t.Fatal(err)
	}
	a.guest.Boot("good-uki", "11111111-2222-3333-4444-555555555555")
	cert, _, _ := authority.Certificates()
	root = filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return root
}

func TestTheAgentEnrolsByTheCertificateInItsTPM(t *testing.T) {
	t.Parallel()
	for name, kinds := range map[string][]ekca.Kind{"P-256": {ekca.P256}, "P-384": {ekca.P384}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAttester(t)
			root := a.manufacture(kinds...)
			if out, status := a.run("enrol", "--machine", "web-1"); status != 2 || !strings.Contains(out, "ek.certificate-foreign") {
				t.Errorf("by an authority that nobody named: status %d, %s", status, out)
			}
			if out, status := a.service.admin(t, "anchor", "add", root); status != program.StatusOK {
				t.Fatalf("anchor add: status %d, %s", status, out)
			}
			if out, status := a.run("enrol", "--machine", "web-1"); status != 0 || !strings.Contains(out, "credential-activation") {
				t.Errorf("enrol: status %d, %s", status, out)
			}
			if out, status := a.run("attest"); status != 0 {
				t.Errorf("attest: status %d, %s", status, out)
			}
		})
	}
}

func TestTheAgentAttestsAgainAndAgain(t *testing.T) {
	t.Parallel()
	a := newAttester(t)
	if out, status := a.run("enrol", "--machine", "web-1", "--trust-ek"); status != 0 {
		t.Fatalf("enrol: status %d, %s", status, out)
	}
	kept := filepath.Join(t.TempDir(), "token")
	// once runs the command until it has printed its first decision.
	once := func() (d agent.Decision) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var stdout, stderr programtest.Buffer
		p := a.process(&stdout, &stderr)
		p.Stdout = writeFunc(func(b []byte) (int, error) { cancel(); return stdout.Write(b) })
		if status := agent.Main(ctx, p, slices.Concat([]string{"run", "--token-out", kept}, a.on)); status != 0 {
			t.Fatalf("run: status %d, %s", status, stderr.String())
		}
		if err := json.Unmarshal([]byte(stdout.String()), &d); err != nil {
			t.Fatalf("run prints %q, %s", stdout.String(), stderr.String())
		}
		return d
	}
	token := func() string {
		t.Helper()
		b, err := os.ReadFile(kept)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if d := once(); d.Verdict != "trusted" || d.Token == "" || token() != d.Token {
		t.Errorf("decision %+v, and the file has %q", d, token())
	}
	a.guest.Extend(4, bytes.Repeat([]byte{1}, 32))
	if d := once(); d.Verdict != "refused" || token() != "" {
		t.Errorf("decision %+v, and the file has %q", d, token())
	}
	for _, args := range [][]string{
		{"run", "--interval", "1s"},
		{"run", "--ak-handle", "7"},
		{"attest", "--tpm", "/dev/null"},
		{"attest", "--quote", "q", "--signature", "s", "--ak", "a"},
		{"attest", "--quote", "q"},
	} {
		if out, status := a.run(args...); status != 2 {
			t.Errorf("%q: status %d, %s", args, status, out)
		}
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }
