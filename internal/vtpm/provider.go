package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// A shared provider is open while it is the one of its spec, and for as long as a
// call to it is under way: opening one may take a passphrase's work or a connection,
// and thousands of TPMs share it.
type shared struct {
	Provider
	users   int  // calls under way; guarded by Root.mu
	retired bool // the last user closes it; guarded by Root.mu
}

// borrow opens a key provider, or finds it open. The caller gives it back.
func (r *Root) borrow(ctx context.Context, spec string) (*shared, error) {
	r.followSet()
	for {
		r.mu.Lock()
		p, turn := r.providers[spec], r.reloads
		if p != nil {
			p.users++
			r.mu.Unlock()
			return p, nil
		}
		r.mu.Unlock()
		opened, err := r.cfg.Provider(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("open key provider %q: %w", spec, err)
		}
		if p = r.share(spec, &shared{Provider: opened, users: 1}, turn); p != nil {
			return p, nil
		}
		r.shut(spec, opened) // another caller was faster, or its keys are those of before
	}
}

// share makes a provider that was opened after so many reloads the one of its spec;
// nil when it cannot be any more.
func (r *Root) share(spec string, p *shared, turn uint64) *shared {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.providers[spec] != nil || r.reloads != turn {
		return nil
	}
	r.providers[spec] = p
	return p
}

// giveBack ends a use.
func (r *Root) giveBack(spec string, p *shared) {
	r.mu.Lock()
	p.users--
	last := p.retired && p.users == 0
	r.mu.Unlock()
	if last {
		r.shut(spec, p)
	}
}

// shut closes a provider, which forgets its keys.
func (r *Root) shut(spec string, p Provider) {
	if err := p.Close(); err != nil {
		r.cfg.Log.Warn("close a key provider", slog.String("provider", spec), slog.Any("error", err))
	}
}

// dropProvider has the next use open the provider again, as when its keys changed.
// The keys that it held are forgotten once the calls under way have ended.
func (r *Root) dropProvider(spec string) {
	r.mu.Lock()
	p := r.retire(spec)
	r.mu.Unlock()
	if p != nil {
		r.shut(spec, p)
	}
}

// retire takes a provider out of use, and returns it when nobody uses it any more.
// The caller has mu.
func (r *Root) retire(spec string) *shared {
	p := r.providers[spec]
	delete(r.providers, spec)
	if p == nil {
		return nil
	}
	if p.retired = true; p.users > 0 {
		return nil
	}
	return p
}

// Reload has every key provider opened again at its next use. The keys that are held
// are forgotten: at once, or when the calls under way have ended. TPMs that run go on;
// each has the key of its own state.
func (r *Root) Reload(ctx context.Context, actor string) {
	r.dropProviders()
	r.report(ctx, Event{Type: EventReload, Actor: actor, Outcome: OutcomeDone})
}

func (r *Root) dropProviders() {
	r.mu.Lock()
	idle := map[string]*shared{}
	for spec := range r.providers {
		if p := r.retire(spec); p != nil {
			idle[spec] = p
		}
	}
	r.reloads++
	r.mu.Unlock()
	for spec, p := range idle {
		r.shut(spec, p)
	}
}

// followSet reloads when the list of key providers is another than it was: one that
// was taken off it, or has another key now, is not to serve on from memory.
func (r *Root) followSet() {
	now, err := os.Stat(filepath.Join(r.cfg.Dir, keyprovider.SetFile))
	if err != nil {
		now = nil
	}
	r.mu.Lock()
	changed := !sameFile(r.set, now)
	r.set = now
	r.mu.Unlock()
	if changed {
		r.dropProviders()
	}
}

// sameFile reports whether a name leads to the same content as before; nil is no file.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// A lent provider is that of a spec, whichever is open when it is asked: who keeps one
// keeps no keys in memory.
type lent struct {
	r    *Root
	spec string
}

// Wrap asks the provider that is open now.
func (l lent) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	p, err := l.r.borrow(ctx, l.spec)
	if err != nil {
		return nil, err
	}
	defer l.r.giveBack(l.spec, p)
	return p.Wrap(ctx, c, key)
}

// Unwrap asks the provider that is open now.
func (l lent) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	p, err := l.r.borrow(ctx, l.spec)
	if err != nil {
		return seal.Secret{}, err
	}
	defer l.r.giveBack(l.spec, p)
	return p.Unwrap(ctx, c, wrapped)
}

// withProvider calls f with the provider, which f may keep, and once more with one
// opened anew when f finds that it does not hold the key: keys may have been added since.
func (r *Root) withProvider(ctx context.Context, spec string, f func(keyprovider.Provider) error) error {
	for again := range 2 {
		p, err := r.borrow(ctx, spec)
		if err != nil {
			return err
		}
		err = f(lent{r, spec})
		r.giveBack(spec, p)
		if again == 1 || !errors.Is(err, keyprovider.ErrUnknownKey) {
			return err
		}
		r.dropProvider(spec)
	}
	panic("unreachable")
}
