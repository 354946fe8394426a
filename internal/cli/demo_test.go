package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/program"
)

func demoEnv(out, errs *bytes.Buffer) *program.Env {
	return &program.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: errs, Getenv: os.Getenv, Now: time.Now, Rand: rand.Reader}
}

func TestDemoShowsEveryDecisionAsItMustBe(t *testing.T) {
	var out, errs bytes.Buffer
	dir := filepath.Join(t.TempDir(), "demo")
	if status := Main(demoEnv(&out, &errs), []string{"demo", "--keep", dir}); status != 0 {
		t.Fatalf("demo: status %d\n%s%s", status, out.String(), errs.String())
	}
	for _, want := range []string{
		"TRUSTED", "baseline.mismatch", "quote.nonce-mismatch", "eventlog.data-mismatch", "ak.untrusted", "policy.denied",
		"6 of 6 decisions were as they must be", "verified   ES256",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the demonstration does not print %q", want)
		}
	}
	out.Reset()
	if status := Main(demoEnv(&out, &errs), []string{"audit", "verify", "--data", dir}); status != 0 {
		t.Errorf("audit verify of what the demonstration kept: status %d, %s%s", status, out.String(), errs.String())
	}
	for _, args := range [][]string{
		{"eventlog", filepath.Join(dir, "evidence/good.log")},
		{"appraise", filepath.Join(dir, "evidence/good.json"), "--trust-ak", filepath.Join(dir, "evidence/good.ak")},
	} {
		if status := Main(demoEnv(&out, &errs), args); status != 0 {
			t.Errorf("assay %v, which the demonstration recommends: status %d, %s", args, status, errs.String())
		}
	}
	if status := Main(demoEnv(&out, &errs), []string{"eventlog", "diff", filepath.Join(dir, "evidence/good.log"), filepath.Join(dir, "evidence/command-line.log")}); status != 1 {
		t.Errorf("assay eventlog diff of the two boots: status %d, want 1", status)
	}
}

func TestDemoKeepsNothingUnlessAsked(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	if status := Main(demoEnv(&out, &errs), []string{"demo", "-o", "json"}); status != 0 {
		t.Fatalf("demo: status %d, %s", status, errs.String())
	}
	var outcomes []struct {
		AsItMust bool `json:"asItMust"`
	}
	if err := json.Unmarshal(out.Bytes(), &outcomes); err != nil || len(outcomes) != len(demoSteps) {
		t.Errorf("demo -o json prints %d outcomes, %v, want %d", len(outcomes), err, len(demoSteps))
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("the demonstration left %v behind", left)
	}
}

func TestDemoTouchesNoExistingFolder(t *testing.T) {
	var out, errs bytes.Buffer
	if status := Main(demoEnv(&out, &errs), []string{"demo", "--keep", t.TempDir()}); status != 2 {
		t.Errorf("demo --keep of a folder that exists: status %d, want 2", status)
	}
}

func TestATokenIsShownByItsBeginning(t *testing.T) {
	token := "eyJhbGciOiJFUzI1NiIsImtpZCI6IkYzZWI3SlpEUjVPTFNJNWdnbmJreEx2"
	if got, want := shortTokens("token verify "+token+" --issuer x\ntoken "+token+"\n"), "token verify "+token[:40]+"… --issuer x\ntoken "+token[:40]+"…\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
