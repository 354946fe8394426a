package cli

import (
	"bytes"
	"strings"
	"testing"
)

// A mistyped "policy check" or "token verify" must not end as if all were good.
func TestUnknownSubcommandIsNotAYes(t *testing.T) {
	for _, line := range []string{"policy chekc x.policy", "token verfy x", "audit verfy", "principal lsit", "appraisal get x", "nonsense"} {
		var out, errs bytes.Buffer
		env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
		if got := Main(env, strings.Fields(line)); got != exitUnusable || out.Len() > 0 || !strings.Contains(errs.String(), "unknown command") {
			t.Errorf("assay %s: status %d, output %q, errors %q", line, got, &out, &errs)
		}
	}
	for _, group := range []string{"policy", "audit"} {
		var out bytes.Buffer
		env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Getenv: func(string) string { return "" }}
		if got := Main(env, []string{group}); got != exitOK || !strings.Contains(out.String(), "Available Commands") {
			t.Errorf("assay %s: status %d, %q", group, got, &out)
		}
	}
}
