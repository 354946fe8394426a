package vmcli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

func newSnapshotCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Snapshots of a machine, with its memory while it runs",
		Long: `Keep a machine as it is in one moment, and set it back to that: its disks, the variables
of its firmware and its TPM together, and its memory when it runs. A machine that goes on
from its memory is in the boot that the snapshot is of, and has that boot's verdict.

Disks must be qcow2 images, which hold their own part of a snapshot. All else is in the
machine's home, encrypted.`,
	}
	cmd.AddCommand(newSnapshotCreateCmd(env), newSnapshotListCmd(env), newSnapshotRestoreCmd(env), newSnapshotDeleteCmd(env))
	return cmd
}

func newSnapshotCreateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME SNAPSHOT",
		Short: "Make a snapshot of a machine; one that runs stands still for it",
		Args:  cobra.ExactArgs(2),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			s, err := r.Snapshot(cmd.Context(), actor(), args[0], args[1])
			if err != nil {
				return err
			}
			return emit(env, *format, s, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "snapshot %s of %s is made, %s\n", s.Name, args[0], memoryWords(s))
				return err
			})
		})
	}
	return cmd
}

func memoryWords(s *machine.Snapshot) string {
	if s.Memory {
		return "with its memory"
	}
	return "of the machine while it is off"
}

func newSnapshotListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list NAME", Short: "List the snapshots of a machine, the oldest first", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			list, err := r.Snapshots(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return emit(env, *format, list, func(w io.Writer) error {
				t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
				fmt.Fprintln(t, "SNAPSHOT\tMADE\tBY\tBOOT\tMEMORY\tDISKS")
				for _, s := range list {
					memory := map[bool]string{true: "yes", false: "no"}[s.Memory]
					fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Name, s.Made.Format(time.RFC3339), program.Printable(s.By), s.Boot, memory, program.Printable(strings.Join(s.Disks, " ")))
				}
				return t.Flush()
			})
		})
	}
	return cmd
}

func newSnapshotRestoreCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore NAME SNAPSHOT",
		Short: "Set a machine back to a snapshot; what it did since is lost",
		Long: `Set a machine back to a snapshot: its disks, variables and TPM. One that runs loses its
power first. From a snapshot with memory it goes on at once where it was, in the boot that
the snapshot is of; --without-memory leaves it off, as after a loss of power in that moment.

The machine's events say who set it back, and how far its TPM went back. Once begun it is
not undone: after a crash the next start of the machine completes it.`,
		Args: cobra.ExactArgs(2),
	}
	h, service := addHostFlags(env, cmd), addServiceFlags(cmd)
	f := cmd.Flags()
	yes := f.Bool("yes", false, "do not ask: what the machine did since is lost")
	cold := f.Bool("without-memory", false, "leave the memory of the snapshot")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := service.issuer(); err != nil { // before anything changes
			return err
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			list, err := r.Snapshots(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			memory, there := false, false
			for _, s := range list {
				if s.Name == args[1] {
					memory, there = s.Memory && !*cold, true
				}
			}
			if !there {
				return fmt.Errorf("%s: snapshot %.80q: %w", args[0], args[1], machine.ErrNoSnapshot)
			}
			if !*yes {
				return program.RefusedBy(fmt.Errorf("restore %s of %s: what the machine did since then is lost, and its TPM goes back too; --yes does it", args[1], args[0]))
			}
			return h.restore(cmd, r, args, memory)
		})
	}
	return cmd
}

// restore sets a machine back, and has one with a memory go on.
func (h *hostFlags) restore(cmd *cobra.Command, r *machine.Root, args []string, memory bool) error {
	if err := r.SetBack(cmd.Context(), actor(), args[0], args[1], memory); err != nil {
		return err
	}
	if !memory {
		_, err := fmt.Fprintf(h.env.Stdout, "%s is what it was in %s, and is off\n", args[0], args[1])
		return err
	}
	dir, err := h.MachinesDir(h.env)
	if err != nil {
		return err
	}
	if err := spawn(cmd, filepath.Join(dir, args[0], "run", "supervisor.log")); err != nil {
		return errors.Join(fmt.Errorf("%s is what it was in %s, and does not go on; assay vm start tries again", args[0], args[1]), err)
	}
	_, err = fmt.Fprintf(h.env.Stdout, "%s goes on from %s\n", args[0], args[1])
	return err
}

func newSnapshotDeleteCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAME SNAPSHOT", Short: "Delete a snapshot; the machine stays as it is", Args: cobra.ExactArgs(2)}
	h := addHostFlags(env, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if err := r.DropSnapshot(cmd.Context(), actor(), args[0], args[1]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(env.Stdout, "snapshot %s of %s is deleted\n", args[1], args[0])
			return err
		})
	}
	return cmd
}
