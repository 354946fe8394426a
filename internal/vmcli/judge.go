package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

func checkMatrix(env *program.Env, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m, err := fleet.ParseMatrix(text)
	if err != nil {
		return program.RefusedBy(fmt.Errorf("%s: %w", file, err))
	}
	_, err = fmt.Fprintf(env.Stdout, "%s has %d rows\n", file, len(m.Rows))
	return err
}

// printDifferences shows differences, those that decide first.
func printDifferences(w io.Writer, all []baseline.Difference) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "nothing differs")
		return err
	}
	for _, judged := range []bool{true, false} {
		for _, d := range all {
			if d.Judged != judged {
				continue
			}
			head := "decides"
			if !judged {
				head = "informs"
			}
			if _, err := fmt.Fprintf(w, "%s  PCR %d, %s boot: %s\n", head, d.PCR, d.Phase, program.Printable(d.Words)); err != nil {
				return err
			}
			printSides(w, &d)
			if judged && d.Cause != "" {
				fmt.Fprintf(w, "         likely: %s\n", program.Printable(d.Cause))
			}
			if judged && d.Action != "" {
				fmt.Fprintf(w, "         do: %s\n", program.Printable(d.Action))
			}
		}
	}
	return nil
}

func printSides(w io.Writer, d *baseline.Difference) {
	for _, s := range []struct {
		name string
		side *baseline.Side
	}{{"old", d.Old}, {"new", d.New}} {
		if s.side != nil {
			text := strings.TrimSpace(s.side.Digest + " " + s.side.Detail)
			if s.side.Signer != "" {
				text += ", signed by " + s.side.Signer
			}
			fmt.Fprintf(w, "         %s: %s\n", s.name, program.Printable(text))
		}
	}
}

func newDiffCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "diff NAME --boot A..B",
		Short:   "What a boot measured otherwise than another, by component",
		Example: "  assay vm diff web-1 --boot 41..42",
		Args:    cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	boots := cmd.Flags().String("boot", "", "`A..B`: compare boot B with boot A (default the last two)")
	policy := cmd.Flags().String("integrity-policy", "", "what decides: `default` or gce")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			history, err := r.History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			a, b, err := machine.LastTwo(history)
			if *boots != "" {
				a, b, err = parseRange(*boots)
			}
			if err != nil {
				return fmt.Errorf("diff %s: %w", args[0], err)
			}
			c, err := machine.Compare(history, a, b, *policy)
			if err != nil {
				return err
			}
			if err := emit(env, *format, c, func(w io.Writer) error { return printDifferences(w, c.Differences) }); err != nil {
				return err
			}
			if !c.Passed() {
				return program.Refused()
			}
			return nil
		})
	}
	return cmd
}

func parseRange(text string) (a, b uint64, err error) {
	from, to, ok := strings.Cut(text, "..")
	if ok {
		a, err = strconv.ParseUint(from, 10, 64)
	}
	if ok && err == nil {
		b, err = strconv.ParseUint(to, 10, 64)
	}
	if !ok || err != nil {
		return 0, 0, fmt.Errorf("--boot %q: want two numbers, as 41..42", text)
	}
	return a, b, nil
}

func newWhyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Why the last boot passed or failed: each component that changed, and what to do",
		Long: `Compare the last boot with the baseline that it was judged by. "decides" lines made it
fail, "informs" lines did not, and "refused" lines are of a boot that started no operating
system: what the host found on the disk, and the words of the console, which prove nothing.

Exit status: 0 it passed; 1 it failed, ended early, or was compared with nothing.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	boot := cmd.Flags().Uint64("boot", 0, "boot `N` (default the last)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			out, err := r.Reason(cmd.Context(), args[0], *boot)
			if err != nil {
				return err
			}
			if err := emit(env, *format, out, func(w io.Writer) error { return printWhy(w, out) }); err != nil {
				return err
			}
			if c := out.Comparison; c == nil || !c.Passed() {
				return program.Refused() // what was compared with nothing has not passed either
			}
			return nil
		})
	}
	return cmd
}

func printWhy(w io.Writer, r *machine.Reasoned) error {
	b := &r.Boot
	fmt.Fprintf(w, "boot %d of %s: early %s, late %s; baseline %d\n", b.Counter, b.Started.Format(time.RFC3339), outcome(b.Early), outcome(b.Late), b.Baseline)
	for _, reason := range r.Refused {
		fmt.Fprintf(w, "refused  %s\n", program.Printable(reason.Message))
	}
	if r.Comparison == nil {
		_, err := fmt.Fprintln(w, program.Printable(r.Note))
		return err
	}
	return printDifferences(w, r.Comparison.Differences)
}

// A learning makes a boot that somebody has seen the baseline.
type learning struct {
	env    *program.Env
	root   reviewed
	cmd    *cobra.Command
	name   string
	boot   uint64 // whose list was seen; 0 is none
	seen   string // the list's own digest; empty where only the boot was named
	yes    bool
	dry    bool
	reason string
	format program.OutputFormat
}

// A reviewed has boots to learn from: a [machine.Root].
type reviewed interface {
	Review(ctx context.Context, name string) (*machine.Review, error)
	Approve(ctx context.Context, actor, name string, seen integrity.Seen, why string) ([]integrity.Notice, error)
}

func (l *learning) run(ctx context.Context) error {
	review, err := l.root.Review(ctx, l.name)
	if err != nil {
		return err
	}
	other := l.seen != "" && l.seen != review.Digest
	if l.yes && l.boot == review.Boot && !other && !l.dry {
		return l.approve(ctx, review.Seen)
	}
	if err := emit(l.env, l.format, review, func(w io.Writer) error {
		fmt.Fprintf(w, "boot %d of %s would become the baseline:\n", review.Boot, l.name)
		if review.First {
			fmt.Fprintln(w, "there is no baseline yet; this is all that it measured, to be known or refused:")
		}
		return printDifferences(w, review.Changes)
	}); err != nil || l.dry {
		return err
	}
	why := "nothing was learned"
	switch {
	case l.boot == review.Boot && other:
		why = fmt.Sprintf("nothing was learned: boot %d has measured something else since the list was seen, as after a snapshot was restored, or the baseline is another", l.boot)
	case l.boot != 0 && l.boot != review.Boot:
		why = fmt.Sprintf("nothing was learned: the list that was seen is of boot %d, and the latest boot is %d", l.boot, review.Boot)
	}
	return program.RefusedBy(fmt.Errorf("update %s: %s; this accepts the list above: %s", l.name, why, l.command(review.Seen)))
}

// approve accepts the list of the boot that was named. A guest that has restarted since, or
// went on in a snapshot, is refused by the machine.
func (l *learning) approve(ctx context.Context, seen integrity.Seen) error {
	notices, err := l.root.Approve(ctx, actor(), l.name, seen, l.reason)
	if err != nil {
		return err
	}
	return emit(l.env, l.format, notices, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "boot %d of %s is the baseline now\n", l.boot, l.name)
		return err
	})
}

// command accepts the list of a boot, on the host that this command line is about.
func (l *learning) command(seen integrity.Seen) string {
	line := []string{"assay vm update", l.name, "--learn-integrity-policy --boot", strconv.FormatUint(seen.Boot, 10), "--seen", seen.Digest, "--yes"}
	for _, name := range []string{"root", "reason"} {
		if f := l.cmd.Flags().Lookup(name); f != nil && f.Changed {
			line = append(line, "--"+name, shellWord(f.Value.String()))
		}
	}
	return strings.Join(line, " ")
}

// shellWord quotes a word for a shell where that is needed (POSIX.1-2017, XCU 2.2.2).
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func newBaselineCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "baseline", Short: "The baselines of a machine: who approved them, and back to an earlier one"}
	list := &cobra.Command{Use: "list NAME", Short: "List the baselines of a machine; the last is in force", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, list)
	format := program.AddOutputFlag(list, "table", "json")
	list.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			d, err := r.Describe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return emit(env, *format, d.Baselines, func(w io.Writer) error {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "NUMBER\tMADE\tBOOT\tBY\tREASON")
				for _, v := range d.Baselines { // the last is in force
					fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\n", v.Number, v.Made.Format(time.RFC3339), v.Boot, program.Printable(v.Actor), program.Printable(v.Reason))
				}
				return t.Flush()
			})
		})
	}
	cmd.AddCommand(list, newRestoreCmd(env), newApproveNextCmd(env))
	return cmd
}

func newRestoreCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore NAME NUMBER",
		Short: "Put an earlier baseline in force again, as a new one",
		Args:  cobra.ExactArgs(2),
	}
	h := addHostFlags(env, cmd)
	why := cmd.Flags().String("reason", "", "`TEXT` that is kept with it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		number, err := strconv.Atoi(args[1])
		if err != nil {
			return fmt.Errorf("baseline %q is no number", args[1])
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			notices, err := r.Restore(cmd.Context(), actor(), args[0], number, *why)
			if err == nil {
				err = printEvents(env.Stdout, notices)
			}
			return err
		})
	}
	return cmd
}

// planning is what is to be approved, and how it is shown.
type planning struct {
	image   *machine.Image
	options machine.PlanOptions
	yes     bool
	format  program.OutputFormat
}

// planNext shows what the next boot of a machine will show otherwise, and approves it.
func (h *hostFlags) planNext(ctx context.Context, r *machine.Root, name string, p planning) error {
	_, seen, err := r.ForeseeImage(ctx, name, p.image)
	if err != nil {
		return err
	}
	if err := emit(h.env, p.format, seen, func(w io.Writer) error { return printForeseen(w, seen) }); err != nil {
		return err
	}
	switch {
	case !seen.Changes():
		return nil
	case !p.yes:
		return program.RefusedBy(fmt.Errorf("approve-next %s: --yes approves this for one boot", name))
	}
	p.options.Seen = seen
	if err := r.PlanNext(ctx, actor(), name, p.options); err != nil || p.format == "json" {
		return err
	}
	_, err = fmt.Fprintf(h.env.Stdout, "the next boot of %s is approved, if it measures this, for %s\n", name, p.options.For)
	return err
}

// imageOf finds the image that a flag names; nil for none.
func (h *hostFlags) imageOf(name, format string) (*machine.Image, error) {
	switch {
	case name == "" && format == "":
		return nil, nil
	case name == "" || format != "" && !strings.Contains(name, "/"):
		return nil, errors.New("--image-format goes with an --image that is a file")
	case !slices.Contains([]string{"", string(disk.Raw), string(disk.QCOW2)}, format):
		return nil, fmt.Errorf("--image-format %.20q is none of raw, qcow2", format)
	case strings.Contains(name, "/"):
		file, err := filepath.Abs(name)
		if format == "" {
			format = string(disk.Raw)
			if strings.HasSuffix(file, ".qcow2") {
				format = string(disk.QCOW2)
			}
		}
		return &machine.Image{File: file, Format: format}, err
	}
	g, err := h.gallery()
	if err != nil {
		return nil, err
	}
	i, err := g.Get(name)
	if err != nil {
		return nil, err
	}
	return &machine.Image{File: g.Disk(i), Format: i.Format, Name: i.Ref()}, nil
}

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

--image says what the disk will hold by then, where it is not on it yet: a file, which has
a slash in its name, or an image of the gallery. Nothing is written to the machine's disk.

Exit status: 0 approved, or nothing changes; 1 something changes and --yes was not given.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var yes, drop bool
	var life time.Duration
	var why, image, lies string
	f := cmd.Flags()
	f.StringVar(&image, "image", "", "`FILE` or NAME[@VERSION] of the gallery that the disk will hold")
	f.StringVar(&lies, "image-format", "", "how the disk lies in FILE: raw or qcow2 (default: qcow2 for names that end so, else raw)")
	f.BoolVar(&yes, "yes", false, "approve what is shown")
	f.BoolVar(&drop, "drop", false, "take an approval back")
	f.DurationVar(&life, "for", 24*time.Hour, "how long the approval waits for its boot, at most 720h")
	f.StringVar(&why, "reason", "", "`TEXT` that is kept with it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if drop {
				return r.DropPlan(cmd.Context(), actor(), args[0])
			}
			of, err := h.imageOf(image, lies)
			if err != nil {
				return err
			}
			return h.planNext(cmd.Context(), r, args[0], planning{of, machine.PlanOptions{Reason: why, For: life}, yes, *format})
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
