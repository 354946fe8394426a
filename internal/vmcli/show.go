package vmcli

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// words are reasons as a person reads them. What they name may be the guest's.
func words(reasons []evidence.Reason) string {
	out := make([]string, 0, len(reasons))
	for _, r := range reasons {
		out = append(out, program.Printable(r.Message))
	}
	if len(out) == 0 {
		return "no reason is known"
	}
	return strings.Join(out, "; ")
}

func newListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the machines of this host, and how each is", Args: cobra.NoArgs}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			list, err := r.Statuses(cmd.Context())
			if err != nil {
				return err
			}
			return emit(env, *format, list, func(w io.Writer) error { return printList(w, list) })
		})
	}
	return cmd
}

func printList(w io.Writer, list []*machine.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATE\tBOOT\tPHASE\tEARLY\tLATE\tPROBLEM")
	for _, s := range list {
		boot, phase, early, late := "-", "-", "-", "-"
		if b := s.Boot; b != nil {
			boot, phase, early, late = strconv.FormatUint(b.Counter, 10), b.Phase, passed(b.Early), passed(b.Late)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.State, boot, phase, early, late, program.Printable(problemOf(s)))
	}
	return t.Flush()
}

// problemOf says what is wrong with a machine, to who is on its host.
func problemOf(s *machine.Status) string {
	words := s.Problem
	if s.Detail != "" {
		words += ": " + s.Detail
	}
	if k := s.LastKnown; k != nil {
		words += fmt.Sprintf("; it was %s at %s", k.State, k.Seen.Format(time.RFC3339))
	}
	return words
}

func passed(b *bool) string {
	switch {
	case b == nil:
		return "-"
	case *b:
		return "passed"
	}
	return "FAILED"
}

func newDescribeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "describe NAME", Short: "Tell all that is known of a machine", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			d, err := r.Describe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var move *machine.Migration
			if d.State == machine.StateRunning {
				if move, err = r.Moving(cmd.Context(), args[0]); err != nil {
					return err
				}
			}
			all := struct {
				*machine.Description
				Move *machine.Migration `json:"move,omitempty"` // while it is on its way to another host
			}{d, move}
			return emit(env, *format, all, func(w io.Writer) error { return printDescription(w, d, move) })
		})
	}
	return cmd
}

func printDescription(w io.Writer, d *machine.Description, move *machine.Migration) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%s\n", name, program.Printable(fmt.Sprint(value))) }
	row("name", d.Name)
	row("id", d.ID)
	row("state", d.State)
	if d.Problem != "" {
		row("problem", problemOf(&d.Status))
	}
	if move != nil {
		done, total := move.Bytes()
		row("on its way", fmt.Sprintf("to %s; %d of %d MiB of disks are copied", move.Address, done>>20, total>>20))
	}
	if def := d.Definition; def != nil {
		row("options", options(&def.Shielded))
		if more := moreOptions(def); more != "" {
			row("also", more)
		}
		row("key set", def.Keyset)
		row("integrity policy", def.Policy)
		row("guest", fmt.Sprintf("%s, %d processors, %d MiB, %s", def.GuestOS, def.CPUs, def.MemoryMiB, def.MachineType))
		for _, disk := range def.Disks {
			row("disk", fmt.Sprintf("%s (%s, %s)", disk.File, disk.Format, disk.Bus))
		}
	}
	if b := d.Boot; b != nil {
		row("boot", fmt.Sprintf("%d: %s; early %s, late %s", b.Counter, phaseWords(b.Phase), passed(b.Early), passed(b.Late)))
		if len(b.Reasons)+len(b.Refused) > 0 {
			row("because", words(append(b.Reasons, b.Refused...)))
		}
	}
	if a := d.Health; a != nil && (a.State != health.Unknown || len(a.Reasons) > 0) {
		text := cmp.Or(string(a.State), "unknown")
		if len(a.Reasons) > 0 {
			text += ": " + words(a.Reasons)
		}
		row("attestation", text)
	}
	if b := d.LastBoot; b != nil {
		row("last boot", fmt.Sprintf("%d of %s: early %s, late %s", b.Counter, b.Started.Format(time.RFC3339), outcome(b.Early), outcome(b.Late)))
	}
	for i, v := range d.Baselines {
		name := "baseline"
		if i == len(d.Baselines)-1 {
			name = "in force"
		}
		row(name, fmt.Sprintf("%d of %s, from boot %d, by %s: %s", v.Number, v.Made.Format(time.RFC3339), v.Boot, v.Actor, v.Reason))
	}
	return t.Flush()
}

// moreOptions are those of a definition that are set beside the three.
func moreOptions(d *fleet.Definition) string {
	var out []string
	for _, o := range []struct {
		on   bool
		what string
	}{
		{d.Agent, "an agent attests"},
		{d.ApproveFirst, "the first boot is approved by a person"},
		{d.StopOnFailure, "it is stopped when a boot fails"},
		{d.Virtualization, "virtualization-based security"},
		{d.TPM == "tis", "TPM on TIS"},
		{d.Image != "", "made from the image " + d.Image},
		{d.Host != "", "runs on host " + d.Host},
		{d.Site != "", "runs at site " + d.Site},
	} {
		if o.on {
			out = append(out, o.what)
		}
	}
	return strings.Join(out, ", ")
}

func outcome(o integrity.Outcome) string {
	if o == integrity.NotReached {
		return "not reached"
	}
	return string(o)
}

func newEventsCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events NAME",
		Short: "What happened to a machine: starts, reports, changes",
		Long: `Print the events of a machine, the oldest first. -o gce gives those that Google's
Shielded VMs have, in the shape of their log; json gives all, with every field.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json", "gce")
	boot := cmd.Flags().Uint64("boot", 0, "only those of boot `N`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			all, err := r.Events(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			list := []integrity.Notice{}
			for _, n := range all {
				if *boot == 0 || n.BootCounter == *boot {
					list = append(list, n)
				}
			}
			if *format == "gce" {
				card, err := r.Card(args[0])
				if err != nil {
					return err
				}
				return program.PrintJSON(env, integrity.GCELog(card.ID, list))
			}
			return emit(env, *format, list, func(w io.Writer) error { return printEvents(w, list) })
		})
	}
	return cmd
}

func printEvents(w io.Writer, list []integrity.Notice) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range list {
		n := &list[i]
		verdict := ""
		if n.Report != nil {
			ok := n.Passed()
			verdict = passed(&ok)
		}
		if n.Health != "" {
			verdict = n.Health
		}
		why := ""
		if len(n.Reasons) > 0 {
			why = words(n.Reasons)
		}
		if n.Actor != "" {
			why = strings.TrimSpace("by " + n.Actor + " " + why)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", n.Time.Format(time.RFC3339), n.BootCounter, program.Printable(n.Type), program.Printable(verdict), program.Printable(why))
	}
	return t.Flush()
}

func newBootsCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "boots NAME", Short: "The boots of a machine that are kept", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			history, err := r.History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			boots := machine.BootsOf(history)
			return emit(env, *format, boots, func(w io.Writer) error {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "BOOT\tSTARTED\tBASELINE\tEARLY\tLATE")
				for _, b := range boots {
					fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\n", b.Counter, b.Started.Format(time.RFC3339), b.Baseline, outcome(b.Early), outcome(b.Late))
				}
				return t.Flush()
			})
		})
	}
	return cmd
}

func newProfilesCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "profiles", Short: "What --profile off, baseline, hardened and strict set", Args: cobra.NoArgs}
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		all := fleet.Presets()
		return emit(env, *format, all, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			for i := range all {
				p := &all[i]
				fmt.Fprintf(t, "%s\t%s\n\t%s; policy %s, deadline %d s\n", p.Name, p.Meaning, options(&p.Shielded), p.Policy, p.Deadline)
			}
			return t.Flush()
		})
	}
	return cmd
}

// NewSupportMatrixCmd is "support-matrix".
func NewSupportMatrixCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "support-matrix",
		Short: "Which machines are supported: firmware, machine type, guest, features",
		Long: `Print the support matrix as JSON. It is data: a file support-matrix.json in the root
replaces the one that comes with the program, and assay support-matrix --check FILE
says whether one can be used.`,
		Args: cobra.NoArgs,
	}
	h := addHostFlags(env, cmd)
	check := cmd.Flags().String("check", "", "read `FILE`, and say what is wrong with it")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *check != "" {
			return checkMatrix(env, *check)
		}
		m, err := h.matrix()
		if err != nil {
			return err
		}
		return program.PrintJSON(env, m)
	}
	return cmd
}
