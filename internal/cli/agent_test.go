package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/internal/program/programtest"
)

// An attester is assay-agent in a guest, beside a service.
type attester struct {
	t     *testing.T
	guest *agenttest.Guest
	on    []string // flags that say which service
}

func newAttester(t *testing.T) *attester {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	s := startServing(t, data, nil)
	return &attester{t, agenttest.NewGuest(t, "good-uki"), []string{"--server", s.url, "--ca", filepath.Join(data, caFile), "--token-file", filepath.Join(data, tokenFile)}}
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
