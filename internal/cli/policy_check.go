package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/policy"
)

// policyReport is the JSON of assay policy check.
type policyReport struct {
	File     string          `json:"file"`
	Good     bool            `json:"good"`
	Version  string          `json:"version,omitempty"`
	Hash     string          `json:"hash,omitempty"` // x-ms-policy-hash of the text
	Errors   []policyProblem `json:"errors"`
	Warnings []policyProblem `json:"warnings"`
	program.Outcome
}

// policyProblem is one error or warning at its place; Line 0 is the whole file.
type policyProblem struct {
	Line       int    `json:"line"`
	Col        int    `json:"col"`
	Name       string `json:"name"` // "syntax", "lenient", or the lint of docs/policy.md
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

func (p policyProblem) in(file string) string {
	text := fmt.Sprintf("%s:%d:%d: %s", file, p.Line, p.Col, p.Message)
	if p.Suggestion != "" {
		text += fmt.Sprintf(" (%s); %s", p.Name, p.Suggestion)
	}
	return text
}

func newPolicyCheckCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find errors in a policy, and rules that do not do what they seem to",
		Long: "Find errors in a policy, printed as FILE:LINE:COL: message, and warn on standard error of rules that do not\n" +
			"do what they seem to. A policy that permits every machine is an error unless --allow-vacuous is given.\n" +
			"Exit status: 0 good, 1 errors, 2 the file cannot be read.",
		Args: cobra.ExactArgs(1),
	}
	lenient := addLenientFlag(cmd)
	vacuous := cmd.Flags().Bool("allow-vacuous", false, "take a policy that permits every machine")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		data, err := readInput(env, args[0])
		if err != nil {
			return program.Unusable(newPolicyReport(args[0]), err)
		}
		r := checkPolicy(args[0], string(data), parseMode(*lenient), *vacuous)
		if err := printPolicyReport(env, r, *format == "json"); err != nil {
			return err
		}
		if !r.Good {
			return program.Refused()
		}
		return nil
	}
	return cmd
}

func newPolicyReport(file string) *policyReport {
	return &policyReport{File: file, Errors: []policyProblem{}, Warnings: []policyProblem{}}
}

func checkPolicy(file, text string, mode policy.Mode, allowVacuous bool) *policyReport {
	r := newPolicyReport(file)
	p, err := policy.Parse(text, mode)
	if err != nil {
		r.Errors = append(r.Errors, syntaxProblem(err))
		return r
	}
	r.Version, r.Hash = p.Version(), policy.Hash(text)
	for _, w := range p.Warnings() {
		r.Warnings = append(r.Warnings, policyProblem{Line: w.Line, Col: w.Col, Name: "lenient", Message: w.Message})
	}
	for _, f := range p.Lint(policyVocabulary()) {
		problem := policyProblem{f.Line, f.Col, f.Name, f.Message, f.Suggestion}
		if f.Severity == policy.SeverityError && !allowVacuous {
			problem.Suggestion += ", or allow it with --allow-vacuous"
			r.Errors = append(r.Errors, problem)
		} else {
			r.Warnings = append(r.Warnings, problem)
		}
	}
	r.Good = len(r.Errors) == 0
	return r
}

// syntaxProblem takes the place out of a parser's error.
func syntaxProblem(err error) policyProblem {
	out := policyProblem{Name: "syntax", Message: err.Error()}
	if at, ok := placeOf(err); ok {
		out.Line, out.Col = at.Line, at.Col
		out.Message = strings.TrimPrefix(out.Message, at.String()+": ")
	}
	return out
}

// printPolicyReport prints errors on standard output and warnings on standard
// error; as JSON, all is one value on standard output.
func printPolicyReport(env *program.Env, r *policyReport, asJSON bool) error {
	if asJSON {
		return program.PrintJSON(env, r)
	}
	for _, w := range r.Warnings {
		if _, err := fmt.Fprintln(env.Stderr, "warning: "+w.in(r.File)); err != nil {
			return err
		}
	}
	for _, e := range r.Errors {
		if _, err := fmt.Fprintln(env.Stdout, e.in(r.File)); err != nil {
			return err
		}
	}
	if !r.Good {
		return nil
	}
	_, err := fmt.Fprintf(env.Stdout, "%s: good, version %s, hash %s, %d warnings\n", r.File, r.Version, r.Hash, len(r.Warnings))
	return err
}
