package vtpmcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// rootFlags say where the root of virtual TPMs is.
type rootFlags struct {
	dir string
	// long is a process that lives long: the credentials of key providers are renewed.
	long bool
}

// addRootFlag declares --root.
func addRootFlag(cmd *cobra.Command) *rootFlags {
	f := &rootFlags{}
	cmd.Flags().StringVar(&f.dir, "root", "", "`DIR` of the TPMs (default $ASSAY_VTPM_ROOT, else /var/lib/assay/vtpm for root and $XDG_STATE_HOME/assay/vtpm for others)")
	return f
}

// path is the root's folder.
func (f *rootFlags) path(env *program.Env) (string, error) {
	if f.dir != "" {
		return f.dir, nil
	}
	return defaultVTPMRoot(env)
}

// defaultVTPMRoot is the root of TPMs when none is named.
func defaultVTPMRoot(env *program.Env) (string, error) {
	if dir := env.Getenv("ASSAY_VTPM_ROOT"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/assay/vtpm", nil
	}
	if dir := env.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "assay", "vtpm"), nil
	}
	if home := env.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "state", "assay", "vtpm"), nil
	}
	return "", errors.New("no folder for TPMs: give --root, or set ASSAY_VTPM_ROOT")
}

// open opens the root for this process.
func (f *rootFlags) open(ctx context.Context, env *program.Env) (*vtpm.Root, error) {
	cfg, err := f.config(env)
	if err != nil {
		return nil, err
	}
	return vtpm.OpenRoot(ctx, cfg)
}

func (f *rootFlags) config(env *program.Env) (vtpm.Config, error) {
	dir, err := f.path(env)
	if err != nil {
		return vtpm.Config{}, err
	}
	set := filepath.Join(dir, keyprovider.SetFile)
	provider := func(ctx context.Context, spec string) (vtpm.Provider, error) {
		// Read each time: a daemon sees providers that were added since.
		s, err := keyprovider.LoadSet(set)
		if err != nil {
			return nil, err
		}
		e := providerEnv(env, s)
		e.FollowFiles = true
		p, err := keyprovider.OpenSpec(ctx, spec, e)
		if err != nil {
			return nil, err
		}
		if f.long && (p.Name() == "" || !p.Spec().TokenEnds()) { // keepTokens has the others
			return keepRenewed(env, p), nil
		}
		return p, nil
	}
	return vtpm.Config{
		Dir: dir, Random: env.Rand, Now: env.Now, Log: vtpmLog(env),
		Provider: provider, Issuer: &rootIssuer{env: env, dir: filepath.Join(dir, authorityDir), provider: provider},
		DefaultProvider: func() string {
			s, err := keyprovider.LoadSet(set)
			if err != nil {
				return ""
			}
			return s.Default()
		},
		Event: func(e vtpm.Event) { logTPMEvent(env, &e) },
	}, nil
}

// logTPMEvent writes an event as one line of JSON.
func logTPMEvent(env *program.Env, e *vtpm.Event) {
	slog.New(slog.NewJSONHandler(env.Stderr, nil)).Info("vtpm event",
		slog.String("type", string(e.Type)), slog.String("tpm", e.TPM), slog.String("id", e.ID),
		slog.String("actor", e.Actor), slog.String("outcome", e.Outcome), slog.Any("detail", e.Detail))
}

// machine takes the TPM called name for this process. With now its state is opened
// at once, else when its hypervisor gives it power.
func (f *rootFlags) machine(ctx context.Context, env *program.Env, name string, now bool) (*frontend.Machine, func() error, error) {
	stop, err := f.keepTokens(ctx, env)
	if err != nil {
		return nil, nil, err
	}
	root, err := f.open(ctx, env)
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	take := root.Prepare
	if now {
		take = root.Open
	}
	i, err := take(ctx, name, vtpm.Actor(uint32(os.Geteuid()))) // a user id is one of 32 bits
	if err != nil {
		return nil, nil, errors.Join(err, root.Close(), stop())
	}
	return i.Machine(), func() error { return errors.Join(i.Close(), root.Close(), stop()) }, nil
}

// ask carries out a request: by the daemon of the root when there is one, else in
// this process. Result is JSON.
func (f *rootFlags) ask(ctx context.Context, env *program.Env, q *vtpm.Request) (json.RawMessage, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	result, err := vtpm.Call(ctx, dir, q)
	if !errors.Is(err, vtpm.ErrNoDaemon) {
		return result, err
	}
	if q.Verb == vtpm.VerbStart || q.Verb == vtpm.VerbStop || q.Verb == vtpm.VerbReload {
		return nil, fmt.Errorf("%w: \"assay vtpm daemon --root %s\" does", err, dir)
	}
	root, err := f.open(ctx, env)
	if err != nil {
		return nil, err
	}
	v, err := root.Handle(ctx, vtpm.Actor(uint32(os.Geteuid())), q) // a user id is one of 32 bits
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
