package vtpmcli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/libtpms"
)

// vtpmImport is the command line of assay vtpm import.
type vtpmImport struct {
	*vtpmRestore
	swtpm        string
	key          *SwtpmKey
	dryRun, sure bool
}

func newVTPMImportCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE | --swtpm DIR --name NAME",
		Short: "Make a TPM of what another site exported, or of one of swtpm",
		Long: `Make a TPM of a file that "assay vtpm export" wrote at another site, with its secrets
and identity, as "assay vtpm restore" does. Give --identity for age recipients, or
--provider when the key provider that the file names is called otherwise here.
--key-provider says who keeps the TPM's key from now on.

With --swtpm, make it of the state folder of an swtpm that does not run: seeds,
persistent objects, NV, authorizations. The guest finds the TPM that it knows; also
the keys that it makes again from the seeds are the same. What cannot be taken over
is named, and nothing is done then without --yes. The folder stays as it is.`,
		Args: cobra.MaximumNArgs(1),
	}
	w := &vtpmImport{vtpmRestore: newVTPMRestore(env, cmd, &vtpm.RestoreOptions{Import: true})}
	f := cmd.Flags()
	f.StringVar(&w.swtpm, "swtpm", "", "`DIR` with the state of an swtpm")
	w.key = AddSwtpmKeyFlags(cmd)
	f.BoolVar(&w.dryRun, "dry-run", false, "with --swtpm: say what would be taken over and what not")
	f.BoolVar(&w.sure, "yes", false, "with --swtpm: go on when something cannot be taken over")
	for _, other := range []string{"identity", "provider", "as", "allow-rollback"} {
		cmd.MarkFlagsMutuallyExclusive("swtpm", other)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case w.swtpm == "" && len(args) == 1:
			return w.run(cmd.Context(), args[0])
		case w.swtpm == "":
			return errors.New("import what? Give a FILE that was exported, or --swtpm DIR")
		case len(args) == 1:
			return errors.New("import takes a FILE or --swtpm, not both")
		case w.o.Name == "":
			return errors.New("--name is missing: swtpm gives its TPMs none")
		}
		return w.move(cmd.Context())
	}
	return cmd
}

// move takes over a TPM of swtpm.
func (w *vtpmImport) move(ctx context.Context) error {
	vm, err := w.vm.read()
	if err != nil {
		return err
	}
	o := vtpm.MoveOptions{
		Dir: w.swtpm, Name: w.o.Name, Provider: w.o.Provider, VM: vm,
		Key: w.key.Read, AcceptLosses: w.sure, DryRun: w.dryRun,
	}
	return w.with(ctx, func(r *vtpm.Root, actor string) error {
		report, err := r.Move(ctx, actor, o)
		if report == nil {
			return SwtpmRefusal(err)
		}
		shown := w.show(report, func(t io.Writer) { showMoved(t, report) })
		var losses *vtpm.LossesError
		if errors.As(err, &losses) {
			err = program.RefusedBy(fmt.Errorf("%w; --yes goes on without them", err))
		}
		return errors.Join(shown, err)
	})
}

// SwtpmRefusal gives an error its exit status: 1 for a state that is one, and cannot
// be had.
func SwtpmRefusal(err error) error {
	if errors.Is(err, libtpms.ErrKey) || errors.Is(err, libtpms.ErrRunning) || errors.Is(err, libtpms.ErrVersion) {
		return program.RefusedBy(err)
	}
	return err
}

// maxSwtpmKey bounds the files of swtpm's keys and passphrases, in bytes.
const maxSwtpmKey = 1 << 16

// A SwtpmKey says where the key of an encrypted state of swtpm is.
type SwtpmKey struct{ file, passphraseFile string }

// AddSwtpmKeyFlags has a command take that key.
func AddSwtpmKeyFlags(cmd *cobra.Command) *SwtpmKey {
	k := &SwtpmKey{}
	f := cmd.Flags()
	f.StringVar(&k.file, "swtpm-key", "", "`FILE` with swtpm's key in hex (its --key file=)")
	f.StringVar(&k.passphraseFile, "swtpm-passphrase-file", "", "`FILE` with swtpm's passphrase, used to its last byte (its --key pwdfile=)")
	cmd.MarkFlagsMutuallyExclusive("swtpm-key", "swtpm-passphrase-file")
	return k
}

// ErrNoSwtpmKey is an encrypted state whose key was not named.
var ErrNoSwtpmKey = errors.New("give --swtpm-key or --swtpm-passphrase-file")

// Read reads the key of an encrypted state, as swtpm reads it.
func (k *SwtpmKey) Read(bits int) (libtpms.Key, error) {
	name := k.passphraseFile
	if k.file != "" {
		name = k.file
	}
	if name == "" {
		return nil, fmt.Errorf("the state is encrypted with AES-%d: %w", bits, ErrNoSwtpmKey)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSwtpmKey))
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if k.file == "" {
		return libtpms.PassphraseKey(text, bits)
	}
	key, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"))
	if err != nil || len(key) != bits/8 {
		clear(key)
		return nil, fmt.Errorf("%q is no key of %d bits in hex", name, bits)
	}
	return key, nil
}

func showMoved(w io.Writer, m *vtpm.MoveReport) {
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("tpm", m.TPM)
	if m.Made {
		row("id", m.ID)
	}
	row("from", "swtpm: "+m.From)
	row("profile", m.Profile)
	row("machine", dash(m.VM))
	row("key provider", m.Provider)
	row("persistent objects", dash(strings.Join(m.Objects, " ")))
	row("NV indices", dash(strings.Join(m.Indices, " ")))
	row("keys from seeds", "the same")
	for _, l := range m.Losses {
		row("not taken over", fmt.Sprintf("%s: %s", l.What, l.Why))
	}
	if !m.Made {
		row("made", "no")
	}
	showWarnings(w, m.Warnings)
}
