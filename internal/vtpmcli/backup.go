package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// vtpmBackups are the subcommands of assay vtpm that take TPMs out of a root and
// bring them back.
func vtpmBackups(env *program.Env) []*cobra.Command {
	return []*cobra.Command{newVTPMBackupCmd(env), newVTPMExportCmd(env), newVTPMVerifyCmd(env), newVTPMRestoreCmd(env), newVTPMImportCmd(env), newVTPMRecoverCmd(env)}
}

// A vtpmCopy is a subcommand that works on the root itself, beside a daemon if
// there is one: locks on the states keep the two apart, and no file is written by
// another user's process.
type vtpmCopy struct {
	env    *program.Env
	root   *rootFlags
	format *program.OutputFormat
}

func newVTPMCopy(env *program.Env, cmd *cobra.Command) *vtpmCopy {
	return &vtpmCopy{env, addRootFlag(cmd), program.AddOutputFlag(cmd, "table", "json")}
}

// with runs f over the root.
func (c *vtpmCopy) with(ctx context.Context, f func(r *vtpm.Root, actor string) error) error {
	r, err := c.root.open(ctx, c.env)
	if err != nil {
		return err
	}
	return errors.Join(f(r, vtpm.Actor(uint32(os.Geteuid()))), r.Close()) // a user id is one of 32 bits
}

// show prints a result.
func (c *vtpmCopy) show(v any, table func(w io.Writer)) error {
	if *c.format == "json" {
		return program.PrintJSON(c.env, v)
	}
	t := tabwriter.NewWriter(c.env.Stdout, 0, 0, 2, ' ', 0)
	table(t)
	return t.Flush()
}

func newVTPMBackupCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup NAME --to FILE (--recipient age1... | --provider SPEC)",
		Short: "Write a TPM to an encrypted file",
		Long: `Write a TPM with all its secrets to a file, encrypted for age recipients, whose
private keys need not be on this machine, or by a key provider. Whether the keys
work is tried first; the file counts once it was read back from the disk, opened,
and the TPM in it could be started.

The TPM may run: the file then has what a loss of power would have left. Back up the
machine's disks at the same moment: what the guest sealed fits the disks of that time.`,
		Args: cobra.ExactArgs(1),
	}
	return vtpmBackupCommand(env, cmd, false)
}

func newVTPMExportCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export NAME --to FILE (--recipient age1... | --provider SPEC)",
		Short: "Write a TPM that moves to another site to an encrypted file",
		Long: `Write a TPM that does not run to a file, as "assay vtpm backup" does, for "assay vtpm
import" at another site. With --remove the TPM is deleted here once the file has been
checked. Without it the TPM is at both sites: started at both, it is two TPMs with
the same secrets.`,
		Args: cobra.ExactArgs(1),
	}
	return vtpmBackupCommand(env, cmd, true)
}

func vtpmBackupCommand(env *program.Env, cmd *cobra.Command, export bool) *cobra.Command {
	c := newVTPMCopy(env, cmd)
	o := vtpm.BackupOptions{Export: export}
	sure := false
	f := cmd.Flags()
	f.StringVar(&o.To, "to", "", "`FILE` to write; there must be none of that name")
	f.StringArrayVar(&o.Recipients, "recipient", nil, "age recipient `age1...`; may be repeated")
	f.StringVar(&o.Provider, "provider", "", "key provider, by name or `SPEC`")
	if export {
		f.BoolVar(&o.Remove, "remove", false, "delete the TPM here when the file has been checked")
		f.BoolVar(&sure, "yes", false, "do not ask: --remove deletes")
	}
	must(cmd.MarkFlagRequired("to"))
	cmd.MarkFlagsOneRequired("recipient", "provider")
	cmd.MarkFlagsMutuallyExclusive("recipient", "provider")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Name = args[0]
		if o.Remove && !sure {
			return program.RefusedBy(fmt.Errorf("export %s: --remove deletes the TPM here; --yes does it", o.Name))
		}
		return c.with(cmd.Context(), func(r *vtpm.Root, actor string) error {
			report, err := r.Backup(cmd.Context(), actor, o)
			if err != nil {
				return err
			}
			return c.show(report, func(w io.Writer) { showBackup(w, report) })
		})
	}
	return cmd
}

// must panics on a fault of this program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func showBackup(w io.Writer, b *vtpm.BackupReport) {
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("file", b.File)
	if !b.Opened {
		row("opens", "no")
		showWarnings(w, b.Warnings)
		return
	}
	row("tpm", b.TPM)
	row("id", b.ID)
	row("kind", b.Kind)
	row("machine", dash(b.VM))
	row("generation", b.Generation)
	if !b.Made.IsZero() {
		row("made", b.Made.Format(time.RFC3339))
	}
	keys := b.Method
	if b.Provider != "" {
		keys = fmt.Sprintf("key provider %q", b.Provider)
	}
	row("encrypted by", keys)
	row("opens", "yes, and the TPM in it starts")
	switch {
	case b.Removed:
		row("here", "deleted")
	case b.Older:
		row("here", fmt.Sprintf("the TPM has told of generation %d since: a restore goes back", b.Known))
	case b.Known > 0:
		row("here", fmt.Sprintf("nothing newer is known than generation %d", b.Known))
	default:
		row("here", "not known: whether it is the newest cannot be told")
	}
	showWarnings(w, b.Warnings)
}

func showWarnings(w io.Writer, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintf(w, "warning\t%s\n", text)
	}
}

func newVTPMVerifyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE|FOLDER",
		Short: "Open a backup of a TPM and say what is in it",
		Long: `Open a backup, an export, a .nvram file, or all of these in the folder of a virtual
machine's backup. Each is decrypted, and the TPM in it started and thrown away.
A folder without any is refused: a machine restored from it has lost all that its TPM
protected. Exit status 0: all open; 1: one does not, or there is none; 2: no such file.`,
		Args: cobra.ExactArgs(1),
	}
	c := newVTPMCopy(env, cmd)
	keys := addBackupKeys(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := keys.read()
		if err != nil {
			return err
		}
		return c.with(cmd.Context(), func(r *vtpm.Root, _ string) error {
			reports, err := r.Verify(cmd.Context(), args[0], k)
			if len(reports) == 0 {
				return backupRefusal(err)
			}
			shown := c.show(reports, func(w io.Writer) {
				for i, report := range reports {
					if i > 0 {
						fmt.Fprintln(w)
					}
					showBackup(w, report)
				}
			})
			return errors.Join(shown, backupRefusal(err))
		})
	}
	return cmd
}

// backupKeys are the flags that say what opens a backup.
type backupKeys struct {
	identities []string
	provider   string
}

func addBackupKeys(cmd *cobra.Command) *backupKeys {
	k := &backupKeys{}
	cmd.Flags().StringArrayVar(&k.identities, "identity", nil, "`FILE` of age identities; may be repeated")
	cmd.Flags().StringVar(&k.provider, "provider", "", "key provider of the backup, by name or `SPEC`, when it is not called as the backup says")
	return k
}

func (k *backupKeys) read() (vtpm.KeysFor, error) {
	out := vtpm.KeysFor{Provider: k.provider}
	for _, name := range k.identities {
		text, err := readIdentity(name)
		if err != nil {
			return out, fmt.Errorf("read age identity: %w", err)
		}
		out.Identities = append(out.Identities, text)
	}
	return out, nil
}

// maxIdentity bounds a file of age identities in bytes.
const maxIdentity = 1 << 20

func readIdentity(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxIdentity))
}

// backupRefusal gives an error its exit status: 1 for a backup that could be judged,
// and is of no use.
func backupRefusal(err error) error {
	var rollback *vtpm.RollbackError
	var fault *state.Fault
	switch {
	case errors.As(err, &rollback):
		return program.RefusedBy(fmt.Errorf("%w; --allow-rollback does it", err))
	case errors.As(err, &fault) && fault.Kind == state.Missing, errors.Is(err, backup.ErrFormat):
		return err
	case errors.As(err, &fault), errors.Is(err, vtpm.ErrRecord):
		return program.RefusedBy(err)
	}
	for _, kind := range []error{backup.ErrCut, backup.ErrDamaged, backup.ErrVersion, backup.ErrKey, backup.ErrNoState, vtpm.ErrExists} {
		if errors.Is(err, kind) {
			return program.RefusedBy(err)
		}
	}
	return err
}

func newVTPMRestoreCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a TPM of a backup",
		Long: `Make a TPM of a backup or of a .nvram file that was copied. --as copy, the default,
brings back the TPM itself, with its secrets and identity: under its own name it takes
the place of a state that is damaged, lost or newer. --as replace makes a new, empty
TPM for the same machine; what the old one protected is not in it.

The keys of both sides are tried before anything is changed, and a crash leaves what
was there or all of the TPM. A backup that is older than what its TPM has told since
is refused without --allow-rollback. The machine must be off.`,
		Args: cobra.ExactArgs(1),
	}
	w := newVTPMRestore(env, cmd, &vtpm.RestoreOptions{})
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return w.run(cmd.Context(), args[0]) }
	return cmd
}

// A vtpmRestore is a subcommand that makes a TPM of a file.
type vtpmRestore struct {
	*vtpmCopy
	keys *backupKeys
	vm   *vmFlags
	o    *vtpm.RestoreOptions
}

func newVTPMRestore(env *program.Env, cmd *cobra.Command, o *vtpm.RestoreOptions) *vtpmRestore {
	w := &vtpmRestore{newVTPMCopy(env, cmd), addBackupKeys(cmd), addVMFlags(cmd), o}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "`NAME` of the TPM here (default the one that it had)")
	f.StringVar(&o.Mode, "as", vtpm.ModeCopy, "`copy` or replace")
	f.BoolVar(&o.AllowRollback, "allow-rollback", false, "take a backup that is older than what the TPM has told since")
	addProviderFlag(cmd, &o.Provider)
	return w
}

func (w *vtpmRestore) run(ctx context.Context, from string) (err error) {
	w.o.From = from
	if w.o.Keys, err = w.keys.read(); err != nil {
		return err
	}
	if w.o.VM, err = w.vm.read(); err != nil {
		return err
	}
	return w.with(ctx, func(r *vtpm.Root, actor string) error {
		report, err := r.Restore(ctx, actor, *w.o)
		if err != nil {
			return backupRefusal(err)
		}
		return w.show(report, func(t io.Writer) { showRestored(t, report) })
	})
}

func showRestored(w io.Writer, r *vtpm.RestoreReport) {
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("tpm", r.TPM)
	row("id", r.ID)
	row("as", r.Mode)
	row("from", fmt.Sprintf("TPM %q, generation %d", r.From, r.Generation))
	row("machine", dash(r.VM))
	row("key provider", r.Provider)
	if r.RolledBack {
		row("rolled back", "yes: it has told of newer generations")
	}
	if r.Aside != "" {
		row("before", r.Aside)
	}
	showWarnings(w, r.Warnings)
}
