package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// NewKeyProviderCmd is "key-provider".
func NewKeyProviderCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key-provider",
		Short: "Who holds the keys that virtual TPMs are encrypted under",
		Long: `Configure key providers for a root of virtual TPMs, and change their keys. SPEC is

  local:PATH                          a key file; ?passphrase-file=F, or ?tpm=/dev/tpmrm0&pcrs=sha256:7
  vault:https://HOST/MOUNT/keys/NAME  Vault or OpenBao; ?token-file=F, or ?role-id=R&secret-id-file=F
  kmip://HOST/KEY-ID                  a KMIP server; ?ca=F&cert=F&key=F; /?name=NAME finds the key
  pkcs11:token=T;object=LABEL         a token; ?module-path=LIB&pin-source=file:F
  trusted:https://HOST                keys for attested hosts only

A secret never stands in a SPEC, only where it is: docs/key-providers.md has every
option, and what each kind protects against.`,
	}
	cmd.AddCommand(
		newProviderAddCmd(env), newProviderListCmd(env), newProviderTestCmd(env), newProviderRotateCmd(env),
		newProviderMigrateCmd(env), newProviderDefaultCmd(env), newProviderRemoveCmd(env),
	)
	return cmd
}

// providerEnv is what providers may touch of this process.
func providerEnv(env *program.Env, set *keyprovider.Set) keyprovider.Env {
	out := keyprovider.Env{Random: env.Rand, Now: env.Now, Getenv: env.Getenv, Set: set}
	// The program beside this one, if it is there; else the one in $PATH.
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "assay-pkcs11")
		if _, err := os.Stat(beside); err == nil {
			out.PKCS11 = beside
		}
	}
	return out
}

// providerSet is the file of providers of a root.
func (f *rootFlags) providerSet(env *program.Env) (file string, set *keyprovider.Set, err error) {
	dir, err := f.path(env)
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(dir, keyprovider.SetFile)
	set, err = keyprovider.LoadSet(file)
	return file, set, err
}

// openProvider opens a configured provider, or one by its spec.
func (f *rootFlags) openProvider(ctx context.Context, env *program.Env, text string) (*keyprovider.Opened, error) {
	_, set, err := f.providerSet(env)
	if err != nil {
		return nil, err
	}
	return keyprovider.OpenSpec(ctx, text, providerEnv(env, set))
}

// providerTest is the JSON of a round trip.
type providerTest struct {
	KeyID  string `json:"keyId"`
	Wrap   int64  `json:"wrapMicroseconds"`
	Unwrap int64  `json:"unwrapMicroseconds"`
}

// providerResult is the JSON of assay key-provider add and test.
type providerResult struct {
	Provider string `json:"provider"`
	Kind     string `json:"kind"`
	Spec     string `json:"spec"`
	Default  bool   `json:"default"`
	providerTest
}

func testProvider(ctx context.Context, env *program.Env, p *keyprovider.Opened) (providerTest, error) {
	r, err := keyprovider.Test(ctx, p, providerEnv(env, nil))
	if err != nil {
		return providerTest{}, providerFault(err)
	}
	return providerTest{r.KeyID, r.Wrap.Microseconds(), r.Unwrap.Microseconds()}, nil
}

// providerFault ends with status 1 when it is the provider that says no, and says what
// helps.
func providerFault(err error) error {
	switch {
	case errors.Is(err, keyprovider.ErrUnavailable):
		return program.RefusedBy(fmt.Errorf("%w; try again when it is there: nothing was changed", err))
	case errors.Is(err, keyprovider.ErrRefused):
		return program.RefusedBy(fmt.Errorf("%w; mend the credential or the permission: asking again does not help", err))
	case errors.Is(err, keyprovider.ErrUnknownKey):
		return program.RefusedBy(fmt.Errorf("%w; --create makes a key where the provider can", err))
	case errors.Is(err, keyprovider.ErrGarbage), errors.Is(err, seal.ErrOpen):
		return program.RefusedBy(err)
	}
	return err
}

// An adding is what assay key-provider add is told.
type adding struct {
	root       *rootFlags
	create     bool
	def        bool
	withoutTry bool
}

func newProviderAddCmd(env *program.Env) *cobra.Command {
	var a adding
	cmd := &cobra.Command{
		Use:   "add NAME SPEC",
		Short: "Give a key provider a name, after a round trip through it",
		Long: `Give a key provider a name. The first of a root is the one that is used when none is
named. A key is wrapped and unwrapped first: what does not work is not added.

--create makes the key: the key file, the key of the transit engine (aes256-gcm96), of
the KMIP server (?name=NAME) or of the token. Keep a copy of a key file where no copy of
the TPMs is: who loses it loses them all.`,
		Args: cobra.ExactArgs(2),
	}
	a.root = addRootFlag(cmd)
	cmd.Flags().BoolVar(&a.create, "create", false, "make the key; it is an error when there is one")
	cmd.Flags().BoolVar(&a.def, "default", false, "use it when no provider is named")
	cmd.Flags().BoolVar(&a.withoutTry, "no-test", false, "do not try it: it is not reachable now")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := a.add(cmd.Context(), env, args[0], args[1])
		if err != nil {
			return err
		}
		return printProvider(env, string(*format), &r, "added")
	}
	return cmd
}

func (a *adding) add(ctx context.Context, env *program.Env, name, text string) (r providerResult, err error) {
	file, set, err := a.root.providerSet(env)
	if err != nil {
		return r, err
	}
	if text, err = absoluteSpec(text); err != nil {
		return r, err
	}
	spec, err := keyprovider.ParseSpec(text)
	if err != nil {
		return r, err
	}
	c := keyprovider.Configured{Name: name, Spec: spec, Added: env.Now()}
	if err := set.Add(c); err != nil { // before anything is made, and again below
		return r, err
	}
	if spec, err = a.complete(ctx, env, spec); err != nil {
		return r, err
	}
	c.Spec = spec
	if !a.withoutTry {
		p, err := keyprovider.OpenSpec(ctx, spec.String(), providerEnv(env, nil))
		if err != nil {
			return r, providerFault(err)
		}
		defer p.Close()
		if r.providerTest, err = testProvider(ctx, env, p); err != nil {
			return r, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return r, err
	}
	err = keyprovider.UpdateSet(file, func(s *keyprovider.Set) error {
		if err := s.Add(c); err != nil {
			return err
		}
		if a.def {
			if err := s.MakeDefault(name); err != nil {
				return err
			}
		}
		r.Default = s.Default() == name
		return nil
	})
	r.Provider, r.Kind, r.Spec = name, spec.Kind(), spec.String()
	return r, err
}

// complete returns the spec by which the provider is opened, and makes its key if told to.
func (a *adding) complete(ctx context.Context, env *program.Env, spec keyprovider.Spec) (keyprovider.Spec, error) {
	do := keyprovider.Find
	if a.create {
		do = keyprovider.Create
	}
	done, err := do(ctx, spec, providerEnv(env, nil))
	if err != nil {
		return spec, providerFault(err)
	}
	return done, nil
}

// absoluteSpec makes the path of a key file independent of the folder that we are in.
func absoluteSpec(text string) (string, error) {
	rest, ok := strings.CutPrefix(text, keyprovider.KindLocal+":")
	if !ok || rest == "" || rest[0] == '/' || rest[0] == '?' {
		return text, nil
	}
	path, options, query := strings.Cut(rest, "?")
	path, err := filepath.Abs(path)
	if query {
		path += "?" + options
	}
	return keyprovider.KindLocal + ":" + path, err
}

// printProvider prints a provider and how long a round trip took.
func printProvider(env *program.Env, format string, r *providerResult, what string) error {
	if format == "json" {
		return program.PrintJSON(env, r)
	}
	fmt.Fprintf(env.Stdout, "%s %s (%s)", what, r.Provider, r.Spec)
	if r.Default {
		fmt.Fprint(env.Stdout, ", the default")
	}
	if r.KeyID != "" {
		fmt.Fprintf(env.Stdout, "\nkey %s: wrap %s, unwrap %s", r.KeyID, time.Duration(r.Wrap)*time.Microsecond, time.Duration(r.Unwrap)*time.Microsecond)
	}
	_, err := fmt.Fprintln(env.Stdout)
	return err
}

// providerRow is one provider in the JSON of assay key-provider list.
type providerRow struct {
	Name    string    `json:"name"`
	Kind    string    `json:"kind"`
	Spec    string    `json:"spec"`
	Added   time.Time `json:"added"`
	Default bool      `json:"default"`
}

func newProviderListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the configured key providers", Args: cobra.NoArgs}
	root := addRootFlag(cmd)
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		_, set, err := root.providerSet(env)
		if err != nil {
			return err
		}
		rows := []providerRow{}
		for _, c := range set.List() {
			rows = append(rows, providerRow{c.Name, c.Spec.Kind(), c.Spec.String(), c.Added, c.Name == set.Default()})
		}
		if *format == "json" {
			return program.PrintJSON(env, rows)
		}
		t := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "NAME\tDEFAULT\tADDED\tSPEC")
		for _, r := range rows {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.Name, map[bool]string{true: "yes", false: "-"}[r.Default], r.Added.Format(time.DateOnly), r.Spec)
		}
		return t.Flush()
	}
	return cmd
}

func newProviderTestCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test [NAME | SPEC]",
		Short: "Wrap a key and unwrap it again, and say how long it took",
		Long: `Wrap a new key, unwrap it and compare, and see that it does not unwrap for another use.
Without a name the default is tried. Exit status 1: it does not work, and why.`,
		Args: cobra.MaximumNArgs(1),
	}
	root := addRootFlag(cmd)
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, set, err := root.providerSet(env)
		if err != nil {
			return err
		}
		if _, _, err := set.Resolve(strings.Join(args, "")); err != nil {
			return err
		}
		p, err := root.openProvider(cmd.Context(), env, strings.Join(args, ""))
		if err != nil {
			return providerFault(err)
		}
		defer p.Close()
		r := providerResult{Provider: p.Name(), Kind: p.Spec().Kind(), Spec: p.Spec().String(), Default: p.Name() != "" && p.Name() == set.Default()}
		if r.providerTest, err = testProvider(cmd.Context(), env, p); err != nil {
			return err
		}
		return printProvider(env, string(*format), &r, "works:")
	}
	return cmd
}

func newProviderDefaultCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "default NAME", Short: "Use a key provider when none is named", Args: cobra.ExactArgs(1)}
	root := addRootFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		file, _, err := root.providerSet(env)
		if err != nil {
			return err
		}
		return keyprovider.UpdateSet(file, func(s *keyprovider.Set) error { return s.MakeDefault(args[0]) })
	}
	return cmd
}

func newProviderRemoveCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take the name of a key provider away, when nothing is under its keys",
		Long: `Take a key provider out of the list. It is refused (exit status 1) while a TPM of the
root, or its certificate authority, is sealed by it: migrate them first. Keys are not
destroyed: backups that were made before may need them.`,
		Args: cobra.ExactArgs(1),
	}
	root := addRootFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file, set, err := root.providerSet(env)
		if err != nil {
			return err
		}
		c, ok := set.Lookup(args[0])
		if !ok {
			return fmt.Errorf("%w: %q", keyprovider.ErrNoProvider, args[0])
		}
		users, err := root.usersOf(cmd.Context(), env, &c)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return program.RefusedBy(fmt.Errorf("%d things are sealed by key provider %q (%s): migrate them first", len(users), c.Name, firstOf(users, 5)))
		}
		return keyprovider.UpdateSet(file, func(s *keyprovider.Set) error { return s.Remove(c.Name) })
	}
	return cmd
}

// firstOf joins the first n of many.
func firstOf(all []string, n int) string {
	if len(all) <= n {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:n], ", "), len(all)-n)
}

// usersOf lists what is sealed by a provider, under its name, its spec, or as the default.
func (f *rootFlags) usersOf(ctx context.Context, env *program.Env, c *keyprovider.Configured) ([]string, error) {
	var out []string
	client, err := f.client(ctx, env)
	if err != nil {
		return nil, err
	}
	list, err := client.list(ctx)
	if err = errors.Join(err, client.close()); err != nil {
		return nil, err
	}
	for _, s := range list {
		if uses(s.Provider, c) {
			out = append(out, s.Name)
		}
	}
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	if authorityUses(dir, c) {
		out = append(out, "the certificate authority")
	}
	things, err := f.sealedBy(env, c)
	for _, s := range things {
		out = append(out, s.what)
	}
	return out, err
}

// authorityUses reports whether a root's certificate authority is sealed by a provider,
// or may be: one that cannot be read is not taken for none.
func authorityUses(dir string, c *keyprovider.Configured) bool {
	by, err := ekca.ProviderOf(filepath.Join(dir, authorityDir))
	if errors.Is(err, ekca.ErrNoAuthority) {
		return false
	}
	return err != nil || uses(by, c)
}

func uses(provider string, c *keyprovider.Configured) bool {
	return provider == c.Name || provider == c.Spec.String()
}
