package vtpmcli

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
)

// keepRenewed has the credential of a provider renewed until that is closed.
func keepRenewed(env *program.Env, p *keyprovider.Opened) *keyprovider.Kept {
	log := vtpmLog(env)
	return keyprovider.KeepRenewed(p, keyprovider.Renewal{Random: env.Rand, Failed: func(err error, again time.Duration) {
		log.Warn("the credential of a key provider was not renewed", slog.String("error", err.Error()), slog.Duration("again", again.Round(time.Second)))
	}})
}

// followEvery is how often the list of key providers is looked at.
const followEvery = time.Minute

// A tokenKeeper renews the tokens of the key providers of a root while a process lives:
// also of those that it does not ask for days, which would find their token ended.
type tokenKeeper struct {
	env  *program.Env
	file string
	kept map[string]*keyprovider.Kept // by spec
	said string                       // the last fault that was told
}

// keepTokens makes this a process that lives long: tokens are renewed until stop is called.
func (f *rootFlags) keepTokens(ctx context.Context, env *program.Env) (stop func() error, err error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	f.long = true
	k := &tokenKeeper{env: env, file: filepath.Join(dir, keyprovider.SetFile), kept: map[string]*keyprovider.Kept{}}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { k.run(ctx) })
	return func() error {
		cancel()
		done.Wait()
		return k.drop(nil)
	}, nil
}

func (k *tokenKeeper) run(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		k.tell(k.follow(ctx))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// follow takes up the tokens of providers that are new on the list, and lets those of
// others go.
func (k *tokenKeeper) follow(ctx context.Context) error {
	set, err := keyprovider.LoadSet(k.file)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	var errs []error
	for _, c := range set.List() {
		spec := c.Spec.String()
		if !c.Spec.TokenEnds() || listed[spec] {
			continue
		}
		listed[spec] = true
		if k.kept[spec] != nil {
			continue
		}
		p, err := keyprovider.OpenSpec(ctx, c.Name, providerEnv(k.env, set))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k.kept[spec] = keepRenewed(k.env, p)
	}
	return errors.Join(append(errs, k.drop(listed))...)
}

// drop lets the tokens go that are not listed.
func (k *tokenKeeper) drop(listed map[string]bool) error {
	var errs []error
	for spec, p := range k.kept {
		if !listed[spec] {
			errs = append(errs, p.Close())
			delete(k.kept, spec)
		}
	}
	return errors.Join(errs...)
}

// tell logs a fault once.
func (k *tokenKeeper) tell(err error) {
	if err == nil {
		k.said = ""
		return
	}
	if text := err.Error(); text != k.said {
		k.said = text
		vtpmLog(k.env).Warn("the tokens of key providers are not renewed", slog.String("error", text))
	}
}
