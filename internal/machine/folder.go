package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/seal"
)

// takeHome takes a folder for this process alone. A folder that cannot be locked for
// another reason than that somebody has it is not busy.
func takeHome(dir string) (*durable.Lock, error) {
	lock, err := durable.LockDir(dir)
	if errors.Is(err, durable.ErrLocked) {
		return nil, ErrBusy
	}
	return lock, err
}

// takeFolder takes the folder of a machine that is to be made, or is there.
func (r *Root) takeFolder(name string) (*durable.Lock, error) {
	if err := os.MkdirAll(filepath.Join(r.dir(name), runFolder), 0o700); err != nil {
		return nil, err
	}
	lock, err := takeHome(r.dir(name))
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return lock, nil
}

// makeHome makes the folder and its key, for a machine with an identity or a new one; the
// card, which makes it a machine, is last.
func (r *Root) makeHome(ctx context.Context, actor, name, provider, id string) (*Home, error) {
	lock, err := r.takeFolder(name)
	if err != nil {
		return nil, err
	}
	return r.furnish(ctx, lock, actor, Card{Name: name, ID: id, Provider: provider})
}

// furnish is makeHome in a folder that was taken; after an error that is given back.
func (r *Root) furnish(ctx context.Context, lock *durable.Lock, actor string, of Card) (_ *Home, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	if err := r.clearAway(ctx, actor, of.Name); err != nil {
		return nil, err
	}
	p, err := r.cfg.Provider(ctx, of.Provider)
	if err != nil {
		return nil, fmt.Errorf("key provider %q: %w", of.Provider, err)
	}
	defer p.Close() //nolint:errcheck // nothing depends on it any more
	of.Version, of.Created = homecard.Version, r.cfg.Now().UTC()
	h := &Home{dir: r.dir(of.Name), lock: lock, random: r.cfg.Random, card: &of}
	if of.ID == "" {
		if h.card.ID, err = newUUID(r.cfg.Random); err != nil {
			return nil, err
		}
	}
	secret, err := seal.Random(r.cfg.Random, seal.KeySize)
	if err != nil {
		return nil, err
	}
	h.key = seal.Key{ID: homeKeyID, Secret: secret}
	return h, h.card.Seal(ctx, p, r.cfg.Random, secret)
}

// noMachine refuses a name that a machine has, also one whose card cannot be read.
func (r *Root) noMachine(name string) error {
	if _, err := r.Card(name); !errors.Is(err, ErrUnknown) {
		return errors.Join(fmt.Errorf("machine %q: %w", name, ErrExists), err)
	}
	return nil
}

// clearAway makes a folder empty that another Create or Delete left half done. With the
// lock held it is looked at again: another may have made the machine meanwhile.
func (r *Root) clearAway(ctx context.Context, actor, name string) error {
	if err := r.noMachine(name); err != nil {
		return err
	}
	if err := r.notAlive(name); err != nil {
		return err
	}
	if c := r.custody(name); c.Machine != "" {
		if err := r.dropTPM(ctx, name, c.Machine, actor); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(r.dir(name))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != lockFile && e.Name() != runFolder {
			if err := os.RemoveAll(filepath.Join(r.dir(name), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// notAlive refuses what must not be done under a hypervisor that runs, or may.
func (r *Root) notAlive(name string) error {
	f, err := r.foundBy(name)
	switch {
	case err != nil:
	case f.alive:
		err = fmt.Errorf("its hypervisor runs: stop it first: %w", ErrBusy)
	case f.unknown:
		err = fmt.Errorf("%s; assay vm stop --force says that none runs, and a restart of the host proves it: %w", f.problem(), ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("machine %q: %w", name, err)
	}
	return nil
}
