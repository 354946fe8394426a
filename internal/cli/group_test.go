package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
)

// A mistyped "policy check" or "token verify" must not end as if all were good.
func TestUnknownSubcommandIsNotAYes(t *testing.T) {
	for _, line := range []string{"policy chekc x.policy", "token verfy x", "audit verfy", "principal lsit", "appraisal get x", "nonsense", "nonsense -x", "policy chekc --frobnicate x"} {
		var out, errs bytes.Buffer
		env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
		if got := Main(env, strings.Fields(line)); got != program.StatusUnusable || out.Len() > 0 || !strings.Contains(errs.String(), "unknown command") {
			t.Errorf("assay %s: status %d, output %q, errors %q", line, got, &out, &errs)
		}
	}
	for _, group := range []string{"policy", "audit"} {
		var out bytes.Buffer
		env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }}
		if got := Main(env, []string{group}); got != program.StatusOK || !strings.Contains(out.String(), "Available Commands") {
			t.Errorf("assay %s: status %d, %q", group, got, &out)
		}
	}
}

// "help" of what there is not must not end with 0 either.
func TestHelpKnowsOnlyCommandsThatThereAre(t *testing.T) {
	for line, want := range map[string]struct {
		status int
		says   string
	}{
		"help":                  {program.StatusOK, "Available Commands"},
		"help policy":           {program.StatusOK, "check       Find errors"},
		"help policy check":     {program.StatusOK, "FILE:LINE:COL"},
		"help help":             {program.StatusOK, "which flags"},
		"help nonsense":         {program.StatusUnusable, `unknown command "nonsense" for "assay"; "assay --help" lists the commands`},
		"help polcy":            {program.StatusUnusable, `did you mean "policy"?`},
		"help policy chekc":     {program.StatusUnusable, `unknown command "chekc" for "assay policy"; did you mean "check"?`},
		"help version x":        {program.StatusUnusable, `unknown command "x" for "assay version"`},
		"policy chekc x.policy": {program.StatusUnusable, `did you mean "check"?`},
		"polcy check":           {program.StatusUnusable, `did you mean "policy"?`},
	} {
		var out, errs bytes.Buffer
		env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
		got := Main(env, strings.Fields(line))
		said := &out
		if want.status != program.StatusOK {
			said = &errs
		}
		if got != want.status || !strings.Contains(said.String(), want.says) || want.status != program.StatusOK && out.Len() > 0 {
			t.Errorf("assay %s: status %d, output %q, errors %q, want %d and %q", line, got, &out, &errs, want.status, want.says)
		}
	}
}
