package vtpmcli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/finding/route"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
)

// NewFindingCmd is "finding".
func NewFindingCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "finding",
		Short: "Alerts and recommendations about machines: what to know and what to do",
		Long: `Show what was found about the machines of this host, say that you look after it, or keep
it silent for a time and with a reason; and have it told to a webhook, to Alertmanager or
to a syslog. docs/findings.md explains each finding.`,
	}
	cmd.AddCommand(
		newFindingListCmd(env), newFindingShowCmd(env), newFindingAckCmd(env), newFindingSuppressCmd(env), newFindingUnsuppressCmd(env), newFindingSuppressionsCmd(env),
		newFindingDeliverCmd(env), newFindingTestCmd(env), newFindingRouteCmd(env),
	)
	return cmd
}

// Findings is where the findings of a host are kept.
func (h *Host) Findings(env *program.Env) (*finding.Store, error) { return h.flags.findings(env) }

func (f *rootFlags) findings(env *program.Env) (*finding.Store, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	return &finding.Store{Dir: filepath.Join(dir, finding.Folder), Random: env.Rand}, nil
}

// book reads the findings, and what is suppressed, as they stand now.
func (f *rootFlags) book(env *program.Env) (*finding.Book, error) {
	s, err := f.findings(env)
	if err != nil {
		return nil, err
	}
	return s.Load()
}

func newFindingListCmd(env *program.Env) *cobra.Command {
	var machine string
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the findings that last, the severest first",
		Args:  cobra.NoArgs,
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.Flags().StringVar(&machine, "vm", "", "only those of this `MACHINE`")
	cmd.Flags().BoolVar(&all, "all", false, "also those that have ended")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b, err := root.book(env)
		if err != nil {
			return err
		}
		found := slices.DeleteFunc(b.Findings(env.Now()), func(f finding.Finding) bool {
			return !all && f.State == finding.Resolved || cmd.Flags().Changed("vm") && f.Machine != machine
		})
		if *format == "json" {
			return program.PrintJSON(env, found)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		for i := range found {
			f := &found[i]
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", f.ID, f.State, f.Severity, cmp.Or(f.Machine, "(host)"), f.LastSeen.Format(time.RFC3339), titled(f))
		}
		return t.Flush()
	}
	return cmd
}

// titled is the title of a finding with its component.
func titled(f *finding.Finding) string {
	if f.Component == "" {
		return f.Title
	}
	return f.Title + ": " + f.Component
}

func newFindingShowCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a finding: why, what to do, and what became of it",
		Args:  cobra.ExactArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		b, err := root.book(env)
		if err != nil {
			return err
		}
		f, err := findingOf(b, args[0], env.Now())
		if err != nil {
			return err
		}
		if *format == "json" {
			return program.PrintJSON(env, f)
		}
		return printFinding(env.Stdout, &f)
	}
	return cmd
}

// findingOf finds a finding by its number on the command line.
func findingOf(b *finding.Book, id string, now time.Time) (finding.Finding, error) {
	n, err := strconv.Atoi(id)
	if err != nil {
		return finding.Finding{}, fmt.Errorf("%q is no number of a finding: see assay finding list", id)
	}
	return b.Finding(n, now)
}

func printFinding(w io.Writer, f *finding.Finding) error {
	fmt.Fprintf(w, "%d: %s, %s severity, %s: %s\n", f.ID, cmp.Or(f.Machine, "(host)"), f.Severity, f.State, titled(f))
	fmt.Fprintf(w, "%s. %s\n", f.Kind, f.Meaning)
	fmt.Fprintf(w, "seen %d times, from %s to %s", f.Count, f.FirstSeen.Format(time.RFC3339), f.LastSeen.Format(time.RFC3339))
	if f.BootCounter > 0 {
		fmt.Fprintf(w, ", last in boot %d", f.BootCounter)
	}
	fmt.Fprintln(w)
	for _, r := range f.Reasons {
		fmt.Fprintf(w, "  %s: %s", r.Code, r.Message)
		if r.Component != "" {
			fmt.Fprintf(w, " (%s)", r.Component)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "likely: %s\nto do: %s\n", strings.Join(f.Causes, "; or "), f.Action)
	if s := f.Suppression; s != nil {
		fmt.Fprintf(w, "suppressed until %s by %s: %s\n", s.Until.Format(time.RFC3339), s.Author, s.Reason)
	}
	for _, h := range f.History {
		who := ""
		if h.Author != "" {
			who = " by " + h.Author
		}
		if h.Text != "" {
			who += ": " + h.Text
		}
		fmt.Fprintf(w, "%s %s%s\n", h.Time.Format(time.RFC3339), h.State, who)
	}
	return nil
}

// author is who runs this command.
func author() string { return vtpm.Actor(uint32(os.Geteuid())) } // a user id is one of 32 bits

func newFindingAckCmd(env *program.Env) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use:   "ack ID…",
		Short: "Say that you look after findings",
		Long: `Say that you look after findings. That holds for what is shown: the same kind for other
reasons is open again. An event, such as a TPM that was cleared, has no end of its own, and
is over when somebody acknowledges it. Exit status 1: it has ended.`,
		Args: cobra.MinimumNArgs(1),
	}
	root := addRootFlag(cmd)
	cmd.Flags().StringVar(&note, "note", "", "`TEXT` to keep with it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := root.findings(env)
		if err != nil {
			return err
		}
		now := env.Now()
		err = s.Update(cmd.Context(), now, func(b *finding.Book) error {
			for _, id := range args {
				f, err := findingOf(b, id, now)
				if err != nil {
					return err
				}
				if err := b.Acknowledge(f.ID, finding.Note{Author: author(), Time: now, Text: note}); err != nil {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, finding.ErrOver) {
			return program.RefusedBy(err)
		}
		return err
	}
	return cmd
}

// aboutFlags say which findings a suppression is about.
type aboutFlags struct {
	*rootFlags
	machine, kind, component string
}

func addAboutFlags(cmd *cobra.Command) *aboutFlags {
	a := &aboutFlags{rootFlags: addRootFlag(cmd)}
	cmd.Flags().StringVar(&a.machine, "vm", "", "`MACHINE`, in place of an ID")
	cmd.Flags().StringVar(&a.kind, "kind", "", "`KIND`, such as finding.secure-boot-off, in place of an ID")
	cmd.Flags().StringVar(&a.component, "component", "", "only this `COMPONENT`, such as a kernel module")
	return a
}

// about is what is named by a number, or by machine and kind.
func (a *aboutFlags) about(b *finding.Book, args []string, now time.Time) (finding.Suppression, error) {
	named := a.machine != "" && a.kind != ""
	switch {
	case len(args) == 1 && a.machine == "" && a.kind == "" && a.component == "":
		f, err := findingOf(b, args[0], now)
		return finding.Suppression{Kind: f.Kind, Machine: f.Machine, Component: f.Component}, err
	case len(args) == 0 && named:
		return finding.Suppression{Kind: evidence.Code(a.kind), Machine: a.machine, Component: a.component}, nil
	}
	return finding.Suppression{}, errors.New("name a finding by its number, or by --vm and --kind")
}

func newFindingSuppressCmd(env *program.Env) *cobra.Command {
	var reason, length string
	cmd := &cobra.Command{
		Use:   "suppress ID | suppress --vm MACHINE --kind KIND",
		Short: "Keep a finding silent for a time, and say why",
		Long: `Keep a finding silent until its time is over, also when it is not there yet: such as
finding.attestation-unhealthy of a machine that must run with secure boot off. It stays in
the list, with your reason, and is told again when the time is over and it lasts.`,
		Args: cobra.MaximumNArgs(1),
	}
	a := addAboutFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` that says why")
	cmd.Flags().StringVar(&length, "for", "", "for how `LONG`: 90d, 12h, or until a time of RFC 3339; at most 366 days")
	cmd.MarkFlagRequired("reason") //nolint:errcheck // the flag is there
	cmd.MarkFlagRequired("for")    //nolint:errcheck // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.findings(env)
		if err != nil {
			return err
		}
		now := env.Now()
		until, err := endOf(now, length)
		if err != nil {
			return err
		}
		return s.Update(cmd.Context(), now, func(b *finding.Book) error {
			about, err := a.about(b, args, now)
			if err != nil {
				return err
			}
			about.Reason, about.Author, about.Made, about.Until = reason, author(), now, until
			return b.Suppress(about)
		})
	}
	return cmd
}

// endOf reads how long something lasts: days, a duration, or its end.
func endOf(now time.Time, length string) (time.Time, error) {
	if days, ok := strings.CutSuffix(length, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 10000 {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(length); err == nil {
		return now.Add(d), nil
	}
	if at, err := time.Parse(time.RFC3339, length); err == nil {
		return at, nil
	}
	return time.Time{}, fmt.Errorf("--for %q is neither as 90d or 12h nor a time of RFC 3339", length)
}

func newFindingUnsuppressCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unsuppress ID | unsuppress --vm MACHINE --kind KIND",
		Short: "End a suppression before its time",
		Long:  "End the suppressions of a kind and a machine before their time. Exit status 1: there is none.",
		Args:  cobra.MaximumNArgs(1),
	}
	a := addAboutFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.findings(env)
		if err != nil {
			return err
		}
		now, n := env.Now(), 0
		err = s.Update(cmd.Context(), now, func(b *finding.Book) error {
			about, err := a.about(b, args, now)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				about.Component = "" // whatever suppresses it
			}
			n = b.Unsuppress(about, now)
			return nil
		})
		if err == nil && n == 0 {
			return program.RefusedBy(errors.New("there is no such suppression"))
		}
		return err
	}
	return cmd
}

func newFindingSuppressionsCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suppressions",
		Short: "List what is suppressed, also where there is no such finding yet",
		Args:  cobra.NoArgs,
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		b, err := root.book(env)
		if err != nil {
			return err
		}
		list := b.Suppressions(env.Now())
		if *format == "json" {
			return program.PrintJSON(env, list)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		for _, s := range list {
			fmt.Fprintf(t, "%s\t%s\tuntil %s\tby %s: %s\n", cmp.Or(s.Machine, "(host)"), strings.TrimSpace(string(s.Kind)+" "+s.Component), s.Until.Format(time.RFC3339), s.Author, s.Reason)
		}
		return t.Flush()
	}
	return cmd
}

// deliverer sends the findings of a store.
func (f *rootFlags) deliverer(env *program.Env) (*route.Deliverer, error) {
	s, err := f.findings(env)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &route.Deliverer{Store: s, Host: host, Now: env.Now, Log: slog.New(slog.NewJSONHandler(env.Stderr, nil))}, nil
}

func newFindingDeliverCmd(env *program.Env) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "deliver",
		Short: "Send findings along their routes, until it is stopped",
		Long: `Send what is queued along the routes, and what comes, until SIGTERM or SIGINT. One process
of a host does; others wait for its end. With --once each route is tried once. Exit
status 1: with --once something is left, or another process delivers.`,
		Args: cobra.NoArgs,
	}
	root := addRootFlag(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "try once, and end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := root.deliverer(env)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if !once {
			if err := d.Run(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		}
		left, err := d.Once(ctx)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d changes are left", left)
			return program.RefusedBy(err)
		}
		if errors.Is(err, route.ErrBusy) {
			return program.RefusedBy(err)
		}
		return err
	}
	return cmd
}

func newFindingTestCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test-alert [ROUTE]",
		Short: "Send a test alert along each route, or one",
		Long:  "Send a test alert now, without the queue, and say which receivers took it. Exit status 1: one did not.",
		Args:  cobra.MaximumNArgs(1),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := root.deliverer(env)
		if err != nil {
			return err
		}
		outcomes, err := d.Try(cmd.Context(), strings.Join(args, ""))
		if err != nil {
			return err
		}
		if *format == "json" {
			err = program.PrintJSON(env, outcomes)
		}
		failed := false
		for _, o := range outcomes {
			failed = failed || !o.Sent
			if *format != "json" {
				fmt.Fprintf(env.Stdout, "%s: %s\n", o.Route, cmp.Or(o.Problem, "sent"))
			}
		}
		if err == nil && failed {
			return program.Refused()
		}
		return err
	}
	return cmd
}
