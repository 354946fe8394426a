package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/place"
)

func newVTPMLedgerCmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{Use: "ledger", Short: "What tells an old or another TPM's state, where a TPM has no root"}
	group.AddCommand(newVTPMAcceptCmd(env))
	return group
}

// An accepting is what assay vtpm ledger accept is told.
type accepting struct {
	env      *program.Env
	root     *rootFlags
	ledger   ledgerFlags
	provider string
	key      string // as swtpm's --key
	keys     program.KeySource
}

func newVTPMAcceptCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept FOLDER | FILE",
		Short: "Have a state be that of its place, although it is older, another's or moved",
		Long: `A TPM of "assay vtpm serve --state" or of a drop-in for swtpm is known by the place of its
state. A state that was set back, put there from another place, copied or moved, or whose
ledger was lost, is not served. Without --yes this says what is wrong. With --yes the state
is that of its place from now on, as far as its newest good generation.

What a TPM did since an older state is lost, and others whom it told of it may refuse it.
Of a copy whose original is still in its place a TPM of its own is made; both have the
same secrets. Files that are replaced stay beside the state.

The user must be the one that the TPM runs as. The key provider is found as by the
drop-ins, or named.`,
		Args: cobra.ExactArgs(1),
	}
	a := &accepting{env: env, root: addRootFlag(cmd)}
	f := cmd.Flags()
	a.ledger.add(f)
	f.StringVar(&a.provider, "key-provider", "", "`SPEC` of who keeps the key of the state")
	f.StringVar(&a.keys.File, "key-file", "", "`FILE` of keys in place of a key provider")
	f.StringVar(&a.keys.Passphrase, "passphrase-file", "", "`FILE` whose first line opens the key file")
	f.StringVar(&a.key, "key", "", "`file=F|pwdfile=F`[,format=][,mode=][,kdf=], as of swtpm")
	sure := f.Bool("yes", false, "do it")
	cmd.MarkFlagsMutuallyExclusive("key-provider", "key-file", "key")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.run(cmd.Context(), args[0], string(*format), *sure)
	}
	return cmd
}

func (a *accepting) run(ctx context.Context, path, format string, sure bool) (err error) {
	file, err := stateFileOf(path)
	if err != nil {
		return err
	}
	if err := mustOwn(file); err != nil {
		return err
	}
	if filepath.Base(file) == serveStateFile {
		a.ledger.choose(a.env, func() (string, error) { return a.root.path(a.env) })
	} else if err := a.ledger.chooseDropIn(a.env); err != nil {
		return err
	}
	ledger := a.ledger.open()
	defer func() { err = errors.Join(err, ledger.Close()) }()
	keys, err := a.openKeys(ctx, filepath.Dir(file))
	if err != nil {
		return err
	}
	defer keys.Close()
	home, err := place.New(place.Config{
		File: file, Provider: keys, ProviderName: a.name(), Random: a.env.Rand, Now: a.env.Now, Ledger: ledger, Log: vtpmLog(a.env),
	})
	if err != nil {
		return err
	}
	if !sure {
		err := home.Diagnose(ctx)
		if errors.Is(err, place.ErrNothing) {
			return program.RefusedBy(err)
		}
		return program.RefusedBy(fmt.Errorf("%w\n--yes accepts it", err))
	}
	done, err := home.Accept(ctx)
	if err != nil {
		return program.RefusedBy(err)
	}
	return showAccepted(a.env, format, done)
}

// name is what the key provider is called in a state that is written anew.
func (a *accepting) name() string {
	switch {
	case a.key != "":
		return "--key"
	case a.keys.File != "":
		return "local:" + a.keys.File
	case a.provider != "":
		return a.provider
	}
	spec, err := dropInKeySpec(a.env)
	if err != nil {
		return ""
	}
	return spec
}

// openKeys opens who keeps the key of the state. What the file itself says of that is a
// claim, and nobody is asked for keys on the word of a claim.
func (a *accepting) openKeys(ctx context.Context, dir string) (closingProvider, error) {
	switch {
	case a.keys.File != "":
		return a.keys.Open(a.env, dir)
	case a.provider != "":
		return openKeySpec(ctx, a.env, a.provider)
	case a.key == "":
		spec, err := dropInKeySpec(a.env)
		if err == nil && spec == ephemeralKeys {
			err = fmt.Errorf("%s=%s keeps nothing", keyProviderEnv, ephemeralKeys)
		}
		if err != nil {
			return nil, err
		}
		return openKeySpec(ctx, a.env, spec)
	}
	w, err := parseWords("--key", a.key, swtpmKeyWords())
	if err != nil {
		return nil, err
	}
	p, old, err := keyOfWords(a.env, "--key", w)
	old.text.Destroy()
	return p, err
}

// stateFileOf is the state that a folder holds, or the file itself.
func stateFileOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return path, nil
	}
	var found []string
	for _, name := range []string{swtpmPermanent, serveStateFile} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			found = append(found, filepath.Join(path, name))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%q holds %d states of TPMs (%s or %s): name the file", path, len(found), swtpmPermanent, serveStateFile)
	}
	return found[0], nil
}

// mustOwn holds that the state stays with its user, who could not read it any more if
// another wrote it anew.
func mustOwn(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int64(st.Uid) == int64(os.Geteuid()) {
		return nil
	}
	name := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return fmt.Errorf("%q belongs to user %s: run this as that user (runuser -u %s -- assay vtpm ledger accept …)", file, name, name)
}

func showAccepted(env *program.Env, format string, a *place.Acceptance) error {
	if format == "json" {
		return program.PrintJSON(env, a)
	}
	t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("place", a.Place)
	row("tpm", a.TPM)
	if !a.Before.IsZero() {
		row("copy of", fmt.Sprintf("%s, which has the same secrets", a.Before))
	}
	was, _, _ := strings.Cut(a.Was, "\n")
	row("was", was)
	row("generation", a.Generation)
	for _, f := range a.Aside {
		row("before", f)
	}
	return t.Flush()
}
