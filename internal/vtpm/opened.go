package vtpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// An opened state is one whose key was found and whose record fits its place.
type opened struct {
	card    *Card
	file    *state.File
	record  *Record
	content state.Content
}

// openState opens the state of the TPM called name. The caller closes the file
// and destroys the content.
func (r *Root) openState(ctx context.Context, name string) (*opened, error) {
	card, err := r.readCard(name)
	if err != nil {
		return nil, err
	}
	o := &opened{card: card}
	if err := r.tryProviders(ctx, o); err != nil {
		return nil, fmt.Errorf("open state of TPM %q: %w", name, err)
	}
	err = o.check(name)
	if err == nil {
		err = r.mend(o)
	}
	if err != nil {
		o.content.Destroy()
		return nil, errors.Join(fmt.Errorf("open state of TPM %q: %w", name, err), o.file.Close())
	}
	return o, nil
}

// tryProviders opens the state with the first of the card's providers that holds
// its key.
func (r *Root) tryProviders(ctx context.Context, o *opened) error {
	var errs []error
	for n, spec := range o.card.Providers {
		err := r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
			cfg := r.stateConfig(p, spec, o.card.ID)
			cfg.Untold = r.withholds(o.card.Name)
			o.file, o.content, err = state.Open(ctx, r.StatePath(o.card.Name), cfg)
			return err
		})
		if err == nil {
			o.card.Providers = append([]string{spec}, append(o.card.Providers[:n:n], o.card.Providers[n+1:]...)...)
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Root) stateConfig(p keyprovider.Provider, spec string, id state.ID) state.Config {
	return state.Config{Provider: p, ProviderName: spec, Random: r.cfg.Random, Now: r.cfg.Now, Anchor: r.anchor, Want: id}
}

// check reads the record, and compares it with where it was found.
func (o *opened) check(name string) (err error) {
	if o.record, err = parseRecord(o.content.Meta); err != nil {
		return err
	}
	switch {
	case o.record.Name != name:
		return fmt.Errorf("it is the state of TPM %q: %w", o.record.Name, ErrRecord)
	case o.record.ID != o.card.ID:
		return fmt.Errorf("it is the state of TPM %s, its card says %s: %w", o.record.ID, o.card.ID, ErrRecord)
	}
	return nil
}

// mend has the card say what the sealed record does, after a crash between the two.
func (r *Root) mend(o *opened) error {
	want := o.record.card(o.card.Providers...)
	if want.VM == o.card.VM && want.Profile == o.card.Profile && want.Secrets == o.card.Secrets {
		return nil
	}
	o.card = want
	return r.writeCard(want)
}

// Withhold has the ledger told of nothing that this process saves of the TPM called name,
// until [Root.Tell], or until the function that it returns is called: for a TPM that comes
// from another host, and may turn out to be that host's still. A ledger that had heard of
// its generations here would take those of the TPM itself for older ones.
func (r *Root) Withhold(name string) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.withheld[name] {
		return func() {} // whoever asked first ends it
	}
	r.withheld[name] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.withheld, name)
	}
}

func (r *Root) withholds(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.withheld[name]
}

// Tell ends [Root.Withhold]: a TPM that runs is this host's, and the ledger knows its newest
// generation. What it cannot be told now it is with the next save.
func (r *Root) Tell(name string) error {
	r.mu.Lock()
	delete(r.withheld, name)
	i := r.running[name]
	r.mu.Unlock()
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.file.Tell()
}
