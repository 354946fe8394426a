package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/diskcopy"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
)

// claim takes the folder for the machine that comes, with nobody in it but what a try has
// left whose supervisor was killed. Another may have made a machine of that name since this
// one is awaited: with the lock held it is looked for, before anything is ended or removed.
func (a *arrival) claim() (lock *durable.Lock, err error) {
	if lock, err = a.root.takeFolder(a.o.Name); err != nil {
		return nil, err
	}
	if err = a.root.noMachine(a.o.Name); err == nil {
		err = a.endLeft()
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// endLeft ends the hypervisor of a try whose supervisor was killed: it has no machine.
func (a *arrival) endLeft() error {
	if f, err := a.root.foundBy(a.o.Name); err == nil && f.alive {
		if err := f.end(); err != nil {
			return err
		}
	}
	return durable.Remove(filepath.Join(a.root.dir(a.o.Name), runningFile))
}

// stage makes the home of the machine, without the card that would make it one of this
// host's, and its TPM. It has the lock, and gives it back after an error.
func (a *arrival) stage(ctx context.Context, lock *durable.Lock, keys *age.X25519Identity) (_ *Home, err error) {
	h, err := a.root.furnish(ctx, lock, a.actor, Card{Name: a.o.Name, ID: a.offer.ID, Provider: a.o.Provider})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if err := a.root.setCustody(h.Name(), custody{Machine: h.card.ID}); err != nil {
		return nil, err
	}
	if len(a.offer.Copy) > 0 {
		if err := a.makeDisks(ctx, h); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(h.setDefinition(a.offer.Definition), h.SetVariables(a.bags.Variables), h.SetHistory(new(integrity.History)), h.setLog(nil)); err != nil {
		return nil, err
	}
	return h, a.stageTPM(ctx, h, keys)
}

// errNotFree is what is wrong where a host that is overcommitted would take the machine.
var errNotFree = errors.New("what the disks of the machines here may still grow to is not free for others; assay vm receive --overcommit does not count it")

// checkRoom refuses disks that there is no room for.
func (a *arrival) checkRoom(ctx context.Context) error {
	root, leftover := a.root.cfg.Dir, filepath.Join(a.root.dir(a.o.Name), diskFolder)
	free, err := diskcopy.Free(root, leftover)
	if err == nil {
		err = diskcopy.Check(a.offer.Definition, a.offer.Copy, free)
	}
	if err != nil || a.o.Overcommit {
		return err
	}
	room, err := diskcopy.Room(ctx, root, leftover)
	if err != nil {
		return err
	}
	if err := diskcopy.Check(a.offer.Definition, a.offer.Copy, room); err != nil {
		return fmt.Errorf("%w; %w", err, errNotFree)
	}
	return nil
}

// makeDisks makes those that are copied. When others were made meanwhile not all may fit.
func (a *arrival) makeDisks(ctx context.Context, h *Home) error {
	if err := diskcopy.Make(ctx, a.root.cfg.Images, a.offer.Definition, a.offer.Copy, filepath.Join(h.dir, diskFolder)); err != nil || a.o.Overcommit {
		return err
	}
	return diskcopy.AllFit(ctx, a.root.cfg.Dir)
}

// clear removes what there is of a machine that did not arrive. The home was given back: a
// machine that another has made of it meanwhile stays.
func (a *arrival) clear() error {
	if _, err := a.root.Card(a.o.Name); !errors.Is(err, ErrLeftover) {
		return nil //nolint:nilerr // there is nothing, or another's
	}
	err := a.root.DeleteLeftovers(context.Background(), a.actor, a.o.Name)
	if errors.Is(err, ErrExists) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
