package vtpmcli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
)

// machinesDir is the folder of the homes of machines in a root.
const machinesDir = "machines"

// A sealedThing is something of a root beside TPMs and the authority that a provider has
// sealed: the key of a machine's home, or the private keys of a key set.
type sealedThing struct {
	what, provider, under string
	rewrap                func(ctx context.Context, from, to keyprovider.Provider, name string) error
}

// sealedBy lists what a provider has sealed, under its name, its spec, or as the default.
// What cannot be read is an error: it may need any provider.
func (f *rootFlags) sealedBy(env *program.Env, by *keyprovider.Configured) ([]sealedThing, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	homes, err := homecard.List(filepath.Join(dir, machinesDir))
	if err != nil {
		return nil, err
	}
	var out []sealedThing
	for _, h := range homes {
		out = append(out, sealedThing{"machine " + h.Card.Name, h.Card.Provider, h.Card.Under(), func(ctx context.Context, from, to keyprovider.Provider, name string) error {
			return h.Rewrap(ctx, from, to, name, env.Rand)
		}})
	}
	sets := &keysets.Root{Dir: filepath.Join(dir, keysetsDir)}
	names, err := sets.List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := sets.Load(name)
		if err != nil {
			return nil, err
		}
		if s.HasKeys() {
			out = append(out, sealedThing{"key set " + name, s.Provider, s.Under(), func(ctx context.Context, from, to keyprovider.Provider, spec string) error {
				return sets.Update(name, func(s *keysets.Stored) (*keysets.Stored, error) { return s.Rewrap(ctx, from, to, spec, env.Rand) })
			}})
		}
	}
	mine := out[:0]
	for _, s := range out {
		if uses(s.provider, by) {
			mine = append(mine, s)
		}
	}
	return mine, nil
}

// rewrapSealed seals homes and key sets anew.
func (f *rootFlags) rewrapSealed(ctx context.Context, w *rewrapping, from *keyprovider.Configured, to *keyprovider.Opened) error {
	things, err := f.sealedBy(w.env, from)
	if err != nil {
		return err
	}
	var old *keyprovider.Opened
	for _, s := range things {
		if !w.newKey && s.provider == w.result.Provider && s.under == w.result.KeyID {
			continue
		}
		if w.result.DryRun {
			w.result.Sealed++
			continue
		}
		if old == nil {
			if old, err = f.openProvider(ctx, w.env, from.Name); err != nil {
				return err
			}
			defer old.Close()
		}
		if err := s.rewrap(ctx, old, to, w.result.Provider); err != nil {
			w.result.Failed = append(w.result.Failed, failedRewrap{s.what, fmt.Sprintf("%s: %v", s.what, err)})
			continue
		}
		w.result.Sealed++
	}
	return nil
}
