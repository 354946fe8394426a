package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/policy"
)

func newPolicyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, format, evaluate, explain and test policies",
		Long: "Work with policies: rules that decide, from the claims of verified evidence, whether a machine is trusted\n" +
			"and what its token says. docs/policy.md describes the language.",
	}
	cmd.AddCommand(
		newPolicyCheckCmd(env), newPolicyFmtCmd(env), newPolicyEvalCmd(env),
		newPolicyExplainCmd(env), newPolicyTestCmd(env), newPolicyLibraryCmd(env),
	)
	addAdminCmds(env, cmd, policyAdminCmds()...)
	return cmd
}

// addLenientFlag declares --lenient.
func addLenientFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("lenient", false, "read the text as an upload through the Azure-compatible API is read")
}

func parseMode(lenient bool) policy.Mode {
	if lenient {
		return policy.Lenient
	}
	return policy.Strict
}

// parsePolicyFile reads and parses a file. Text that is no policy is an error that
// begins with FILE:LINE:COL.
func parsePolicyFile(env *program.Env, name string, lenient bool) (*policy.Policy, error) {
	data, err := readInput(env, name)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(string(data), parseMode(lenient))
	if err != nil {
		return nil, placed(name, err)
	}
	return p, nil
}

// placed puts the file's name before the place in err.
func placed(name string, err error) error {
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%s:%w", name, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func newPolicyFmtCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fmt FILE",
		Short: "Print a policy in its canonical layout, comments kept",
		Long:  "Print a policy in its canonical layout. Words, signs and comments stay, so the meaning does; its hash changes with its text.\nExit status: 0 done, 2 not a policy.",
		Args:  cobra.ExactArgs(1),
	}
	write := cmd.Flags().BoolP("write", "w", false, "write the file instead of standard output")
	lenient := addLenientFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		data, err := readInput(env, args[0])
		if err != nil {
			return err
		}
		out, err := policy.Format(string(data), parseMode(*lenient))
		if err != nil {
			return placed(args[0], err)
		}
		if !*write || args[0] == "-" {
			_, err = fmt.Fprint(env.Stdout, out)
			return err
		}
		if out == string(data) {
			return nil
		}
		return replaceFile(args[0], out)
	}
	return cmd
}

// replaceFile writes beside the file and renames, so that a crash leaves the old
// text or the new one.
func replaceFile(name, text string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".policy-*")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Chmod(info.Mode().Perm()), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", name, err), os.Remove(tmp.Name()))
	}
	return nil
}

func newPolicyLibraryCmd(env *program.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "library [NAME]",
		Short: "List the policies that come with assay, or print one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := policy.Library()
			if err != nil {
				return err
			}
			for _, p := range all {
				switch {
				case len(args) == 0:
					_, err = fmt.Fprintln(env.Stdout, p.Name)
				case args[0] == p.Name:
					_, err = fmt.Fprint(env.Stdout, p.Text)
					return err
				}
				if err != nil {
					return err
				}
			}
			if len(args) > 0 {
				return fmt.Errorf("the library has no policy %q", args[0])
			}
			return nil
		},
	}
}

// placeOf returns where err says a text goes wrong.
func placeOf(err error) (policy.Pos, bool) {
	var syntax *policy.SyntaxError
	if !errors.As(err, &syntax) {
		return policy.Pos{}, false
	}
	return syntax.Pos, true
}
