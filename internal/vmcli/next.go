package vmcli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

func newApproveNextCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve-next NAME",
		Short: "Say what the next boot of a machine that is off will show otherwise, and approve that once",
		Long: `Compare what a machine's disk and variables will give with its baseline, before it boots:
after an update of its image, its kernel or its keys. --yes approves it: the boot that
measures exactly this, and otherwise what the baseline has, passes and becomes the
baseline. Any other boot is judged as before. The approval is for one boot, and ends.

Registers that the disk does not determine are shown as unknown and must be as in the
baseline: an approval never covers them.

Exit status: 0 approved, or nothing changes; 1 something changes and --yes was not given.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var yes, drop bool
	var life time.Duration
	var why string
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "approve what is shown")
	f.BoolVar(&drop, "drop", false, "take an approval back")
	f.DurationVar(&life, "for", 24*time.Hour, "how long the approval waits for its boot, at most 720h")
	f.StringVar(&why, "reason", "", "`TEXT` that is kept with it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if drop {
				return r.DropPlan(cmd.Context(), actor(), args[0])
			}
			_, seen, err := r.Foresee(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := emit(env, *format, seen, func(w io.Writer) error { return printForeseen(w, seen) }); err != nil {
				return err
			}
			switch {
			case !seen.Changes():
				return nil
			case !yes:
				return program.RefusedBy(fmt.Errorf("approve-next %s: --yes approves this for one boot", args[0]))
			}
			return r.PlanNext(cmd.Context(), actor(), args[0], machine.PlanOptions{Reason: why, For: life, Seen: seen})
		})
	}
	return cmd
}

func printForeseen(w io.Writer, f *machine.Foreseen) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "PCR\tNEXT BOOT\tDECIDES\tBASELINE %d\tWILL BE\n", f.Baseline)
	for _, r := range f.Registers {
		decides := "no"
		if r.Judged {
			decides = "yes"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%.16s\t%.16s\n", r.PCR, r.State, decides, r.Old, r.New)
	}
	return t.Flush()
}
