package vmcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
)

// backups opens the machines and their backups for one operation.
func (h *hostFlags) backups(ctx context.Context, do func(*machine.Root, *vmbackup.Store) error) error {
	return h.with(ctx, func(r *machine.Root) error {
		s, err := vmbackup.New(vmbackup.Config{Machines: r, Provider: h.provider, Random: h.env.Rand, Now: h.env.Now})
		if err != nil {
			return err
		}
		return backupRefusal(do(r, s))
	})
}

// backupRefusal gives an error its exit status: 1 for what could be judged and is refused.
func backupRefusal(err error) error {
	var rollback *vtpm.RollbackError
	switch {
	case errors.As(err, &rollback), errors.Is(err, vmbackup.ErrWithoutTPM):
		return program.RefusedBy(fmt.Errorf("%w; --allow-rollback does it", err))
	case errors.Is(err, machine.ErrOriginal):
		return program.RefusedBy(fmt.Errorf("%w; --new-identity makes such a copy", err))
	case errors.Is(err, vmbackup.ErrOfHost):
		return program.RefusedBy(fmt.Errorf("%w; --use-disk FILE and --use-network DEVICE permit it", err))
	}
	if errors.Is(err, vmbackup.ErrShared) {
		return fmt.Errorf("%w: --without-shared does", err)
	}
	for _, kind := range []error{vmbackup.ErrCut, vmbackup.ErrDamaged, vmbackup.ErrVersion, vmbackup.ErrKey, vmbackup.ErrExists, machine.ErrBusy} {
		if errors.Is(err, kind) {
			return program.RefusedBy(err)
		}
	}
	return err
}

// progressStep is how far a line of progress goes on, in hundredths.
const progressStep = 10

// progress prints how far a long operation is, a line for each step.
func progress(w io.Writer) vmbackup.Progress {
	var last struct {
		phase string
		step  int64
	}
	return func(phase string, done, total int64) {
		step := int64(100)
		if total > 0 {
			step = done * 100 / total / progressStep * progressStep
		}
		if phase == last.phase && step == last.step {
			return
		}
		last.phase, last.step = phase, step
		fmt.Fprintf(w, "%s: %d of %d MiB of disks\n", phase, done>>20, total>>20)
	}
}

// maxPassphrase bounds a file with a passphrase in bytes.
const maxPassphrase = 1 << 10

// readPassphrase reads a passphrase, which ends with its line.
func readPassphrase(name string) (seal.Secret, error) {
	if name == "" {
		return seal.Secret{}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return seal.Secret{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassphrase+1))
	if err == nil && len(b) > maxPassphrase {
		err = fmt.Errorf("passphrase in %q has more than %d bytes", name, maxPassphrase)
	}
	return seal.NewSecret(bytes.TrimRight(b, "\r\n")), err
}

func newVMBackupCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup NAME FILE|FOLDER",
		Short: "Write a machine that does not run to one encrypted file",
		Long: `Write all of a machine to one encrypted file: its disks, its firmware's variables, its
TPM, its definition, its baselines and its log, all of one moment. The machine must be
off: while it runs these change at different moments, and no copy of them is of one.

The file is for age recipients, whose private keys need not be on this host, under a
passphrase, or by a key provider. It is opened again from the disk before it gets its
name. In a folder it is called NAME-TIME.assayvm.

Exit status: 0 it is written, 1 refused (the machine runs, a disk is shared or in use,
the name is taken), 2 it could not be done.`,
		Example: "  assay vm backup web-1 /backups --recipient age1...\n  assay vm backup web-1 web-1.assayvm --provider vault",
		Args:    cobra.ExactArgs(2),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var o vmbackup.Options
	var passphrase string
	var quiet bool
	f := cmd.Flags()
	f.StringArrayVar(&o.Recipients, "recipient", nil, "age recipient `age1...`; may be repeated")
	f.StringVar(&passphrase, "passphrase-file", "", "`FILE` with a passphrase in its first line")
	f.StringVar(&o.Provider, "provider", "", "key provider, by name or `SPEC`")
	f.BoolVar(&o.WithoutShared, "without-shared", false, "leave out disks that other machines write to as well")
	f.BoolVar(&quiet, "quiet", false, "print no progress")
	cmd.MarkFlagsOneRequired("recipient", "passphrase-file", "provider")
	cmd.MarkFlagsMutuallyExclusive("recipient", "passphrase-file", "provider")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.Name, o.To = args[0], args[1]
		if o.Passphrase, err = readPassphrase(passphrase); err != nil {
			return err
		}
		if !quiet {
			o.Progress = progress(env.Stderr)
		}
		return h.backups(cmd.Context(), func(_ *machine.Root, s *vmbackup.Store) error {
			report, err := s.Backup(cmd.Context(), actor(), o)
			if err != nil {
				return err
			}
			return emit(env, *format, report, func(w io.Writer) error { return showBackup(w, report) })
		})
	}
	return cmd
}

// showBackup prints what a backup has.
func showBackup(out io.Writer, r *vmbackup.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%s\n", name, program.Printable(fmt.Sprint(value))) }
	row("file", r.File)
	row("machine", fmt.Sprintf("%s, %s", r.Machine, r.ID))
	row("made", fmt.Sprintf("%s by %s, after boot %d", r.Made.Format(time.RFC3339), r.By, r.BootCounter))
	if r.Provider != "" {
		row("encrypted by", fmt.Sprintf("key provider %q", r.Provider))
	} else {
		row("encrypted by", r.Method)
	}
	if r.TPM > 0 {
		row("tpm", fmt.Sprintf("generation %d", r.TPM))
	}
	for _, d := range r.Disks {
		if d.Left != "" {
			row("disk", fmt.Sprintf("%s is not in it: %s", d.File, d.Left))
			continue
		}
		row("disk", fmt.Sprintf("%s, %d bytes", d.File, d.Size))
	}
	row("size", fmt.Sprintf("%d bytes", r.Bytes))
	for _, text := range r.Warnings {
		row("warning", text)
	}
	return w.Flush()
}

const restoreHelp = `Make a machine of a file that "assay vm backup" wrote: here, or at another site with
another root and another key provider. It is the machine itself, with its id, its TPM
and its baselines; its disks lie in its home and are deleted with it. A crash leaves the
whole machine or none.

Refused is a machine whose original is here (delete that first, or give the copy an id
and an empty TPM of its own by --new-identity), and a backup that is older than what is
known here of the machine's TPM, without --allow-rollback. The machine's log says that
it was restored, from when and by whom, and whether it went back.

A backup names files and devices of a host: shared disks, which are not in it, and tap
devices. The machine gets those that --use-disk and --use-network name, and is refused
with others: whoever knows a recipient can write a backup.

--dry-run opens and checks all of the file, and makes nothing.

Exit status: 0 it is made, 1 refused, 2 it could not be done.`

func newVMRestoreCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "restore FILE",
		Short:   "Make a machine of a backup, here or at another site",
		Long:    restoreHelp,
		Example: "  assay vm restore web-1.assayvm --identity key.txt --dry-run\n  assay vm restore web-1.assayvm --name web-2 --new-identity",
		Args:    cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var o vmbackup.RestoreOptions
	var passphrase string
	var identities []string
	var quiet bool
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "`NAME` of the machine here (default the one that it had)")
	f.StringArrayVar(&identities, "identity", nil, "`FILE` of age identities; may be repeated")
	f.StringVar(&passphrase, "passphrase-file", "", "`FILE` with the passphrase in its first line")
	f.StringVar(&o.Keys.Provider, "provider", "", "key provider of the backup, by name or `SPEC`, when it is not called as the backup says")
	f.StringVar(&o.Provider, "key-provider", "", "`SPEC` of the key provider of the machine's home and TPM from now on (default the root's default)")
	f.BoolVar(&o.NewIdentity, "new-identity", false, "make another machine of it, with an id and an empty TPM of its own")
	f.BoolVar(&o.AllowRollback, "allow-rollback", false, "take a backup that is older than what the machine's TPM has told since")
	f.StringArrayVar(&o.Disks, "use-disk", nil, "shared disk `FILE` of this host that the machine may use as the backup says; may be repeated")
	f.StringArrayVar(&o.Networks, "use-network", nil, "tap `DEVICE` of this host that the machine may use as the backup says; may be repeated")
	f.BoolVar(&o.DryRun, "dry-run", false, "open and check all of the backup, and make nothing")
	f.BoolVar(&quiet, "quiet", false, "print no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.From = args[0]
		if o.Keys.Passphrase, err = readPassphrase(passphrase); err != nil {
			return err
		}
		for _, name := range identities {
			text, err := os.ReadFile(name)
			if err != nil {
				return fmt.Errorf("read age identity: %w", err)
			}
			o.Keys.Identities = append(o.Keys.Identities, text)
		}
		if !quiet {
			o.Progress = progress(env.Stderr)
		}
		return h.backups(cmd.Context(), func(r *machine.Root, s *vmbackup.Store) error {
			out, err := s.Restore(cmd.Context(), actor(), o)
			if err != nil {
				return err
			}
			if !o.DryRun {
				h.recommend(cmd.Context(), r, out.Machine)
			}
			return emit(env, *format, out, func(w io.Writer) error { return showRestored(w, out) })
		})
	}
	return cmd
}

func showRestored(out io.Writer, r *vmbackup.Restored) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%s\n", name, program.Printable(fmt.Sprint(value))) }
	if r.DryRun {
		row("dry run", "the backup is whole; nothing was made")
	}
	row("machine", r.Machine)
	if r.ID != "" {
		row("id", r.ID)
	}
	row("from", fmt.Sprintf("%s of %s by %s, after boot %d", r.Backup.Machine, r.Backup.Made.Format(time.RFC3339), r.Backup.By, r.Backup.BootCounter))
	row("key provider", r.Provider)
	for _, file := range r.Disks {
		row("disk", file)
	}
	if r.RolledBack {
		row("rolled back", "yes")
	}
	for _, text := range r.Warnings {
		row("warning", text)
	}
	return w.Flush()
}
