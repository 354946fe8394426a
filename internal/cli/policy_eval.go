package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/policy"
)

// policyResult is the JSON of assay policy eval.
type policyResult struct {
	Permitted bool            `json:"permitted"`
	Claims    []policyClaim   `json:"claims"`
	DecidedBy policy.Decision `json:"decidedBy"` // line 0: no permit rule fired
	// NotChecked are claims that were present and that no authorization rule looked at.
	NotChecked []string          `json:"notChecked"`
	Properties []policy.Property `json:"properties,omitempty"`
	Notes      []string          `json:"notes,omitempty"`
	program.Outcome
}

// noPolicyResult is the result of what could not be evaluated: nothing is permitted.
func noPolicyResult() *policyResult {
	return &policyResult{Claims: []policyClaim{}, NotChecked: []string{}}
}

type policyClaim struct {
	Type  string       `json:"type"`
	Value policy.Value `json:"value"`
}

func newPolicyResult(r *policy.Result) *policyResult {
	out := &policyResult{
		Permitted: r.Permitted(), Claims: []policyClaim{}, DecidedBy: r.DecidedBy(),
		NotChecked: r.NotChecked(), Properties: r.Properties(), Notes: r.Notes(),
	}
	for _, c := range r.Issued() {
		out.Claims = append(out.Claims, policyClaim{c.Type, c.Value})
	}
	return out
}

// policyInput is a policy with the claims that it is asked about.
type policyInput struct {
	file   string
	policy *policy.Policy
	claims []policy.Claim
}

// policyInputCmd makes a command that takes FILE and --claims.
func policyInputCmd(env *program.Env, use, short, long string, run func(in policyInput, asJSON bool) error) *cobra.Command {
	cmd := &cobra.Command{Use: use + " FILE --claims FILE", Short: short, Long: long, Args: cobra.ExactArgs(1)}
	lenient := addLenientFlag(cmd)
	claimsFile := cmd.Flags().String("claims", "", "`file` with the claims as JSON (required)")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if *claimsFile == "" {
			return program.Unusable(noPolicyResult(), errors.New("name a file with --claims"))
		}
		in := policyInput{file: args[0]}
		var err error
		if in.policy, err = parsePolicyFile(env, args[0], *lenient); err != nil {
			return program.Unusable(noPolicyResult(), err)
		}
		text, err := readInput(env, *claimsFile)
		if err != nil {
			return program.Unusable(noPolicyResult(), err)
		}
		if in.claims, err = policy.ParseClaims(string(text)); err != nil {
			return program.Unusable(noPolicyResult(), fmt.Errorf("%s: %w", *claimsFile, err))
		}
		return run(in, *format == "json")
	}
	return cmd
}

const policyEvalStatus = "\nExit status: 0 permitted, 1 denied, 2 an error of the policy, the claims or a rule."

func newPolicyEvalCmd(env *program.Env) *cobra.Command {
	return policyInputCmd(env, "eval", "Say what a policy decides about claims",
		"Say what a policy decides about claims, which claims it issues, and which ones no rule looked at."+policyEvalStatus,
		func(in policyInput, asJSON bool) error {
			r, err := in.policy.Evaluate(in.claims)
			if err != nil {
				return program.Unusable(noPolicyResult(), placedRule(in.file, err))
			}
			out := newPolicyResult(r)
			if asJSON {
				err = program.PrintJSON(env, out)
			} else {
				err = out.print(env.Stdout)
			}
			return policyStatus(r, err)
		})
}

// placedRule puts the file's name before an evaluation's error.
func placedRule(file string, err error) error { return fmt.Errorf("%s: %w", file, err) }

func policyStatus(r *policy.Result, err error) error {
	if err == nil && !r.Permitted() {
		return program.Refused()
	}
	return err
}

// print says the result in words.
func (r *policyResult) print(w io.Writer) error {
	var b strings.Builder
	switch {
	case r.Permitted:
		fmt.Fprintf(&b, "permitted by line %d: %s\n", r.DecidedBy.Line, r.DecidedBy.Rule)
	case r.DecidedBy.Line > 0:
		fmt.Fprintf(&b, "denied by line %d: %s\n", r.DecidedBy.Line, r.DecidedBy.Rule)
	default:
		fmt.Fprintln(&b, "denied: no permit rule fired")
	}
	for _, c := range r.Claims {
		fmt.Fprintf(&b, "issued %s = %s\n", c.Type, c.Value)
	}
	for _, p := range r.Properties {
		fmt.Fprintf(&b, "property %s = %s\n", p.Name, p.Value)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, name := range r.NotChecked {
		fmt.Fprintf(&b, "not checked: %s\n", name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// policyExplanation is the JSON of assay policy explain.
type policyExplanation struct {
	*policyResult
	Rules []policy.RuleTrace `json:"rules"`
}

func newPolicyExplainCmd(env *program.Env) *cobra.Command {
	return policyInputCmd(env, "explain", "Say rule by rule why a policy decides what it does",
		"Say for each rule whether it fired, which condition failed, and which claims it read."+policyEvalStatus,
		func(in policyInput, asJSON bool) error {
			x := in.policy.Explain(in.claims)
			out := policyExplanation{Rules: x.Rules, policyResult: newPolicyResult(x.Result)}
			if out.Rules == nil {
				out.Rules = []policy.RuleTrace{}
			}
			if x.Err != nil {
				out.Error = program.NewFault(x.Err, faultPlace)
			}
			var err error
			if asJSON {
				err = program.PrintJSON(env, out)
			} else {
				err = out.print(env.Stdout)
			}
			if x.Err != nil {
				return placedRule(in.file, x.Err)
			}
			return policyStatus(x.Result, err)
		})
}

func (x policyExplanation) print(w io.Writer) error {
	var b strings.Builder
	for _, r := range x.Rules {
		outcome := "did not fire"
		if r.Fired > 0 {
			outcome = fmt.Sprintf("fired %d times", r.Fired)
			if r.Fired == 1 {
				outcome = "fired"
			}
		}
		fmt.Fprintf(&b, "line %d %s: %s\n", r.Line, outcome, r.Rule)
		for _, c := range r.Read {
			fmt.Fprintf(&b, "    read %s = %s from %s\n", c.Type, shortened(c.Value.String()), c.Issuer)
		}
		if r.Unmet != "" {
			fmt.Fprintf(&b, "    no claim for %s\n", r.Unmet)
		}
		for _, c := range r.Made {
			fmt.Fprintf(&b, "    made %s = %s\n", c.Type, shortened(c.Value.String()))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil || x.Error != nil {
		return err
	}
	return x.policyResult.print(w)
}

// shortened keeps event lists from filling the screen; -o json has all of it.
func shortened(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + fmt.Sprintf("… (%d bytes)", len(s))
}
