package vmcli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpmcli"
)

func newCheckCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "Say without booting whether a machine that is off will boot, and which PCR values that gives",
		Long: `Follow the boot chain of a machine's disk under its own keys, revocations and SBAT level.
Names the file that would be refused, its digest and why; what the disk does not
determine is said to be unknown. docs/images.md is the guide.

Exit status: 0 it boots, 1 it is refused, 2 the disk cannot be used, or whether it
boots cannot be known from it.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var f *machine.Forecast
		if err := h.with(cmd.Context(), func(r *machine.Root) (err error) {
			f, err = r.Check(cmd.Context(), args[0])
			if errors.Is(err, machine.ErrBusy) {
				err = fmt.Errorf("%w: only of one that is off it is known what its disk will hold at the next boot", err)
			}
			return err
		}); err != nil {
			return vtpmcli.UnusableImage(err)
		}
		return vtpmcli.PrintPrediction(env, *format, vtpmcli.Forecast(*f))
	}
	return cmd
}
