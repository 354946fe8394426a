package vtpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/keyprovider"
)

// provider opens a key provider, or finds it open: opening one may take a
// passphrase's work or a connection, and thousands of TPMs share it.
func (r *Root) provider(ctx context.Context, spec string) (keyprovider.Provider, error) {
	r.mu.Lock()
	p := r.providers[spec]
	r.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := r.cfg.Provider(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("open key provider %q: %w", spec, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first := r.providers[spec]; first != nil { // another caller was faster
		r.retired = append(r.retired, p)
		return first, nil
	}
	r.providers[spec] = p
	return p, nil
}

// dropProvider has the next use open the provider again, as when its keys changed.
// States that are open may still ask the old one: it is closed with the root.
func (r *Root) dropProvider(spec string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.providers[spec]; p != nil {
		r.retired = append(r.retired, p)
		delete(r.providers, spec)
	}
}

// withProvider calls f with the provider, and once more with one opened anew when
// f finds that it does not hold the key: keys may have been added since.
func (r *Root) withProvider(ctx context.Context, spec string, f func(keyprovider.Provider) error) error {
	for again := range 2 {
		p, err := r.provider(ctx, spec)
		if err != nil {
			return err
		}
		err = f(p)
		if again == 1 || !errors.Is(err, keyprovider.ErrUnknownKey) {
			return err
		}
		r.dropProvider(spec)
	}
	panic("unreachable")
}

// closeProviders forgets the keys of all.
func (r *Root) closeProviders() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, p := range r.providers {
		errs = append(errs, p.Close())
	}
	for _, p := range r.retired {
		errs = append(errs, p.Close())
	}
	clear(r.providers)
	r.retired = nil
	return errors.Join(errs...)
}
