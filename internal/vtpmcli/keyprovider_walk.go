package vtpmcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A rootClient carries out many requests on a root: by its daemon when there is one,
// else in this process, which then has the root for itself.
type rootClient struct {
	ask   func(ctx context.Context, q *vtpm.Request) (json.RawMessage, error)
	close func() error
}

func (f *rootFlags) client(ctx context.Context, env *program.Env) (*rootClient, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	_, err = vtpm.Call(ctx, dir, &vtpm.Request{Verb: vtpm.VerbList})
	if err == nil {
		ask := func(ctx context.Context, q *vtpm.Request) (json.RawMessage, error) { return vtpm.Call(ctx, dir, q) }
		return &rootClient{ask, func() error { return nil }}, nil
	}
	if !errors.Is(err, vtpm.ErrNoDaemon) {
		return nil, err
	}
	root, err := f.open(ctx, env)
	if err != nil {
		return nil, err
	}
	ask := func(ctx context.Context, q *vtpm.Request) (json.RawMessage, error) {
		v, err := root.Handle(ctx, vtpm.Actor(uint32(os.Geteuid())), q) // a user id is one of 32 bits
		if err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
	return &rootClient{ask, root.Close}, nil
}

func (c *rootClient) list(ctx context.Context) ([]vtpm.Summary, error) {
	text, err := c.ask(ctx, &vtpm.Request{Verb: vtpm.VerbList})
	if err != nil {
		return nil, err
	}
	var list []vtpm.Summary
	return list, json.Unmarshal(text, &list)
}

// rewrapped is the JSON of assay key-provider rotate and migrate.
type rewrapped struct {
	Provider  string         `json:"provider"` // under whose key all are to be
	KeyID     string         `json:"keyId"`
	Done      int            `json:"rewrapped"`
	Already   int            `json:"already"`   // under that key before
	Authority int            `json:"authority"` // keys of the certificate authority that were sealed anew
	Sealed    int            `json:"sealed"`    // homes of machines and key sets whose keys were sealed anew
	Failed    []failedRewrap `json:"failed"`
	DryRun    bool           `json:"dryRun"` // nothing was changed: rewrapped and authority say what would be
}

type failedRewrap struct {
	TPM   string `json:"tpm"` // or a machine or a key set; empty for the certificate authority
	Error string `json:"error"`
}

// A rewrapping is one walk over the TPMs of a root.
type rewrapping struct {
	env    *program.Env
	dir    string
	client *rootClient
	newKey bool // of a dry run: there would be another key than result.KeyID
	result rewrapped
}

// walk wraps the keys of TPMs anew under the key result.KeyID of the provider, one by
// one; running ones go on. What fails is noted, and the others are done.
func (w *rewrapping) walk(ctx context.Context, tpms []vtpm.Summary) error {
	w.result.Failed = []failedRewrap{}
	bar := newProgress(w.env, len(tpms))
	defer bar.end()
	for _, t := range tpms {
		if err := ctx.Err(); err != nil {
			return err
		}
		bar.step(t.Name)
		if !w.newKey && t.Provider == w.result.Provider && w.under(t.Name) == w.result.KeyID {
			w.result.Already++
			continue
		}
		if w.result.DryRun {
			w.result.Done++
			continue
		}
		_, err := w.client.ask(ctx, &vtpm.Request{Verb: vtpm.VerbRotateKey, Name: t.Name, Provider: w.result.Provider})
		if err != nil {
			w.result.Failed = append(w.result.Failed, failedRewrap{t.Name, err.Error()})
			continue
		}
		w.result.Done++
	}
	return nil
}

// under is the key that a TPM's file says it needs; "" when it cannot be read.
func (w *rewrapping) under(name string) string {
	info, err := state.Inspect(filepath.Join(w.dir, "tpms", name, name+".nvram"))
	if err != nil {
		return ""
	}
	id, err := keyprovider.KeyIDOf(info.Wrapped)
	if err != nil {
		return ""
	}
	return id
}

func newProviderRotateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Make a new key, and wrap the keys of all TPMs, machines and key sets of the provider anew under it",
		Long: `Have a key provider make a new key, and wrap the keys of all TPMs, homes of machines and
key sets of the root that it serves anew under it, one by one. Running TPMs go on, whether a daemon has the root or
not. It may be stopped at any point: older keys still open what they wrapped, and
--rewrap-only finishes the work without making one more key. Exit status 1: some TPMs
could not be done, and why. --dry-run asks the provider for its newest key, and says what
would be done.

Older keys stay where they are: backups that were made before need them. Who had an old
key and an old copy of a TPM has what was in it.`,
		Args: cobra.ExactArgs(1),
	}
	root := addRootFlag(cmd)
	only := cmd.Flags().Bool("rewrap-only", false, "make no new key: finish a rotation that was stopped")
	dry := addDryRunFlag(cmd)
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := root.rotateProvider(cmd.Context(), env, args[0], !*only, *dry)
		if err != nil {
			return err
		}
		return printRewrapped(env, string(*format), r)
	}
	return cmd
}

func addDryRunFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("dry-run", false, "change nothing, and say what would be done")
}

// rotateProvider makes a new key, keeps the spec that names it, and walks.
func (f *rootFlags) rotateProvider(ctx context.Context, env *program.Env, name string, makeKey, dry bool) (*rewrapped, error) {
	file, set, err := f.providerSet(env)
	if err != nil {
		return nil, err
	}
	before, ok := set.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", keyprovider.ErrNoProvider, name)
	}
	w := &rewrapping{env: env, newKey: makeKey && dry, result: rewrapped{Provider: name, DryRun: dry}}
	if makeKey && !dry {
		p, err := f.openProvider(ctx, env, name)
		if err != nil {
			return nil, providerFault(err)
		}
		next, err := p.Rotate(ctx)
		if err = errors.Join(err, p.Close()); err != nil {
			return nil, providerFault(err)
		}
		if err := keyprovider.UpdateSet(file, func(s *keyprovider.Set) error { return s.Replace(name, next) }); err != nil {
			return nil, fmt.Errorf("the new key is made (%s) and could not be kept: %w", next, err)
		}
	}
	return f.rewrapAll(ctx, w, &before)
}

// rewrapAll wraps anew under the newest key of the provider of w what the provider from
// has wrapped, and looks at what only its owner can.
func (f *rootFlags) rewrapAll(ctx context.Context, w *rewrapping, from *keyprovider.Configured) (*rewrapped, error) {
	env := w.env
	p, err := f.openProvider(ctx, env, w.result.Provider)
	if err != nil {
		return nil, providerFault(err)
	}
	defer p.Close()
	id, err := p.KeyID(ctx)
	if err != nil {
		return nil, providerFault(err)
	}
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	client, err := f.client(ctx, env)
	if err != nil {
		return nil, err
	}
	w.dir, w.client, w.result.KeyID = dir, client, id
	list, err := client.list(ctx)
	if err != nil {
		return nil, errors.Join(err, client.close())
	}
	var mine []vtpm.Summary
	for _, t := range list {
		if uses(t.Provider, from) {
			mine = append(mine, t)
		}
	}
	if err := errors.Join(w.walk(ctx, mine), client.close()); err != nil {
		return nil, err
	}
	if authorityUses(dir, from) {
		if w.result.Authority, err = f.rewrapAuthority(ctx, w, from, p); err != nil {
			w.result.Failed = append(w.result.Failed, failedRewrap{"", fmt.Sprintf("certificate authority: %v", err)})
		}
	}
	if err := f.rewrapSealed(ctx, w, from, p); err != nil {
		w.result.Failed = append(w.result.Failed, failedRewrap{"", fmt.Sprintf("homes of machines and key sets: %v", err)})
	}
	return &w.result, nil
}

// rewrapAuthority seals the keys of the root's certificate authority anew.
func (f *rootFlags) rewrapAuthority(ctx context.Context, w *rewrapping, from *keyprovider.Configured, to *keyprovider.Opened) (int, error) {
	dir := filepath.Join(w.dir, authorityDir)
	if w.result.DryRun {
		under := w.result.KeyID
		if w.newKey {
			under = ""
		}
		return ekca.NotUnder(dir, under)
	}
	old, err := f.openProvider(ctx, w.env, from.Name)
	if err != nil {
		return 0, err
	}
	defer old.Close()
	return ekca.Rewrap(ctx, dir, ekca.Rewrapping{From: old, To: to, Name: to.Name(), KeyID: w.result.KeyID, Random: w.env.Rand})
}

func newProviderMigrateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --from A --to B",
		Short: "Wrap the keys of all TPMs of one key provider anew under another's",
		Long: `Wrap the keys of all TPMs of the root that key provider A serves anew under the newest
key of B, one by one. Running TPMs go on. It may be stopped at any point and run again;
until a TPM is done A opens it. Exit status 1: some TPMs could not be done, and why.
--dry-run asks B for its newest key, and says what would be done.`,
		Args: cobra.NoArgs,
	}
	root := addRootFlag(cmd)
	from := cmd.Flags().String("from", "", "`NAME` of the provider that serves now")
	to := cmd.Flags().String("to", "", "`NAME` of the provider that is to serve")
	cmd.MarkFlagRequired("from") //nolint:errcheck // the flag is there
	cmd.MarkFlagRequired("to")   //nolint:errcheck // the flag is there
	dry := addDryRunFlag(cmd)
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, set, err := root.providerSet(env)
		if err != nil {
			return err
		}
		old, ok := set.Lookup(*from)
		if _, there := set.Lookup(*to); !ok || !there || *from == *to {
			return fmt.Errorf("%w: --from %q and --to %q want two that are", keyprovider.ErrNoProvider, *from, *to)
		}
		w := &rewrapping{env: env, result: rewrapped{Provider: *to, DryRun: *dry}}
		r, err := root.rewrapAll(cmd.Context(), w, &old)
		if err != nil {
			return err
		}
		return printRewrapped(env, string(*format), r)
	}
	return cmd
}

func printRewrapped(env *program.Env, format string, r *rewrapped) error {
	if format == "json" {
		if err := program.PrintJSON(env, r); err != nil {
			return err
		}
	} else if r.DryRun {
		fmt.Fprintf(env.Stdout, "would wrap %d TPMs anew, and seal %d keys of the certificate authority and those of %d machines and key sets; %d TPMs are under the newest key of %s; nothing was changed\n", r.Done, r.Authority, r.Sealed, r.Already, r.Provider)
	} else {
		fmt.Fprintf(env.Stdout, "%d TPMs wrapped anew under key %s of %s, %d were already, %d failed\n", r.Done, r.KeyID, r.Provider, r.Already, len(r.Failed))
		if r.Authority > 0 {
			fmt.Fprintf(env.Stdout, "%d keys of the certificate authority sealed anew\n", r.Authority)
		}
		if r.Sealed > 0 {
			fmt.Fprintf(env.Stdout, "the keys of %d machines and key sets sealed anew\n", r.Sealed)
		}
		for _, f := range r.Failed {
			fmt.Fprintf(env.Stdout, "  %s: %s\n", dash(f.TPM), f.Error)
		}
	}
	if len(r.Failed) > 0 {
		return program.Refused()
	}
	return nil
}

// A progress is a line on a terminal that says how far a walk has come.
type progress struct {
	env   *program.Env
	n, of int
	start time.Time
	shown time.Time
	on    bool
}

func newProgress(env *program.Env, of int) *progress {
	f, ok := env.Stderr.(*os.File)
	if ok {
		info, err := f.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return &progress{env: env, of: of, start: env.Now(), on: ok}
}

// step shows the next thing, ten times a second at most.
func (p *progress) step(what string) {
	p.n++
	if now := p.env.Now(); p.on && now.Sub(p.shown) > 100*time.Millisecond {
		p.shown = now
		fmt.Fprintf(p.env.Stderr, "\r\x1b[K%d of %d%s: %s", p.n, p.of, p.left(now), what)
	}
}

// left estimates what is still to come, once there is something to judge by.
func (p *progress) left(now time.Time) string {
	done, spent := p.n-1, now.Sub(p.start)
	if done == 0 || spent < 3*time.Second {
		return ""
	}
	left := spent / time.Duration(done) * time.Duration(p.of-done)
	return fmt.Sprintf(", %s left", left.Round(time.Second))
}

func (p *progress) end() {
	if p.on {
		fmt.Fprint(p.env.Stderr, "\r\x1b[K")
	}
}
