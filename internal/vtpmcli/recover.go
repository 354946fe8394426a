package vtpmcli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/state"
)

func newVTPMRecoverCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover NAME",
		Short: "Go back to a generation of a damaged state that is still good",
		Long: `Make a generation that is still good the newest of a TPM whose state is torn,
damaged, altered or rolled back: the last good one, or the one that --generation
names. Without --yes only what is wrong is said, and which generations are good.

What the TPM did since is lost, and others whom it told of it may refuse it. A backup
that is newer is better. The file as it was stays beside the state.`,
		Args: cobra.ExactArgs(1),
	}
	c := newVTPMCopy(env, cmd)
	generation, sure := uint64(0), false
	cmd.Flags().Uint64Var(&generation, "generation", 0, "`NUMBER` of the generation (default the last good one)")
	cmd.Flags().BoolVar(&sure, "yes", false, "do it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd.Context(), func(r *vtpm.Root, actor string) error {
			if !sure {
				return askRecover(r, cmd, args[0])
			}
			report, err := r.Recover(cmd.Context(), actor, args[0], generation)
			if err != nil {
				return backupRefusal(err)
			}
			return c.show(report, func(w io.Writer) {
				row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
				row("tpm", report.TPM)
				row("was", dash(report.Fault))
				row("newest now", fmt.Sprintf("what generation %d has", report.Generation))
				row("before", report.Aside)
			})
		})
	}
	return cmd
}

// askRecover says what is wrong and what could be done, and does nothing.
func askRecover(r *vtpm.Root, cmd *cobra.Command, name string) error {
	err := r.Diagnose(cmd.Context(), name)
	var fault *state.Fault
	switch {
	case err == nil:
		return program.RefusedBy(fmt.Errorf("the state of TPM %q is whole: nothing is to be recovered", name))
	case errors.As(err, &fault) && fault.LastGood() != 0:
		return program.RefusedBy(fmt.Errorf("%w; good generations: %v; --yes goes back to one", err, fault.Good))
	}
	return program.RefusedBy(err)
}
