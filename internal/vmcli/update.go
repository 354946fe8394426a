package vmcli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

func newUpdateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change a machine that does not run, or learn its baseline anew",
		Long: `Change a machine. What the change brings is listed: which registers will have other
values, and so what the guest sealed to them, and what is lost. --dry-run lists and
changes nothing. Every change takes effect at a start: the machine must be off.

--learn-integrity-policy makes the latest boot the baseline, of a machine that runs or
not: the change is shown as a list, and below it the command that accepts it. When the
machine has booted again since, or has gone on in a snapshot and measured something else,
nothing is learned. --boot N --yes without --seen accepts what boot N is by now.`,
		Args: cobra.ExactArgs(1),
	}
	h, d := addHostFlags(env, cmd), addDefinitionFlags(cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var dry, yes, learn bool
	var boot uint64
	var seen, why string
	f := cmd.Flags()
	f.BoolVar(&dry, "dry-run", false, "list the effects and change nothing")
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&learn, "learn-integrity-policy", false, "make the latest boot the baseline")
	f.Uint64Var(&boot, "boot", 0, "accept the list that was shown of boot `N`; with --learn-integrity-policy --yes")
	f.StringVar(&seen, "seen", "", "accept the list of this `DIGEST` and no other; with --boot")
	f.StringVar(&why, "reason", "", "`TEXT` that is kept with the change")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch given := d.given(); {
		case learn && len(given) > 0:
			return fmt.Errorf("--learn-integrity-policy changes no option of the machine: give %s in an update of its own", strings.Join(given, ", "))
		case !learn && f.Changed("boot"):
			return errors.New("--boot is the boot that --learn-integrity-policy accepts")
		case f.Changed("seen") && !f.Changed("boot"):
			return errors.New("--seen goes with the --boot that it is of")
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if learn {
				l := learning{env: env, root: r, cmd: cmd, name: args[0], boot: boot, seen: seen, yes: yes, dry: dry, reason: why, format: *format}
				return l.run(cmd.Context())
			}
			effects, err := r.Update(cmd.Context(), actor(), args[0], machine.UpdateOptions{Change: d.change, DryRun: dry, Confirm: yes, Reason: why})
			if err != nil && !errors.Is(err, machine.ErrConfirm) {
				return err
			}
			if err == nil && !dry {
				h.recommend(cmd.Context(), r, args[0])
			}
			if perr := printEffects(env, *format, effects); perr != nil {
				return perr
			}
			if err != nil {
				return program.RefusedBy(fmt.Errorf("update %s: %w; --yes does it", args[0], err))
			}
			return nil
		})
	}
	return cmd
}

// change changes a whole definition by the flags that were given.
func (f *definitionFlags) change(d *fleet.Definition) error {
	if err := f.apply(d); err != nil {
		return err
	}
	d.Complete()
	return nil
}

func printEffects(env *program.Env, format program.OutputFormat, effects []fleet.Effect) error {
	if effects == nil {
		effects = []fleet.Effect{}
	}
	return emit(env, format, effects, func(w io.Writer) error {
		if len(effects) == 0 {
			_, err := fmt.Fprintln(w, "nothing changes")
			return err
		}
		for _, e := range effects {
			line := fmt.Sprintf("%s: %s, was %s: %s", e.Member, e.New, e.Old, e.Words)
			if len(e.PCRs) > 0 {
				line += fmt.Sprintf("; other values in PCR %s", joined(e.PCRs))
			}
			if e.Destroys {
				line = "DESTROYS " + line
			}
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	})
}

func joined(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}
