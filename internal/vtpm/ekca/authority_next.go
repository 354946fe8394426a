package ekca

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// NextAuthority gives the authority in dir a new issuing key and a new key for platform
// certificates, certified by the root, and opens it. The keys of before certify nothing
// any more; what they certified stays good until it is revoked, and they sign lists on.
// The root's key is taken from the folder when rootKey is nil. It takes effect by one
// atomic write at the end: before that, what is there is as it was.
//
// An authority of before that is still open somewhere is told by [ErrStale].
func NextAuthority(ctx context.Context, dir string, rootKey crypto.Signer, cfg AuthorityConfig) (*Authority, error) {
	a, err := OpenAuthority(ctx, dir, cfg)
	if err != nil {
		return nil, err
	}
	if err := a.next(ctx, rootKey); err != nil {
		return nil, fmt.Errorf("make the next issuing authority: %w", err)
	}
	return OpenAuthority(ctx, dir, cfg)
}

// mayFollow holds that there can be a next generation, and returns the root's key.
func (a *Authority) mayFollow(ctx context.Context, rootKey crypto.Signer) (crypto.Signer, error) {
	switch {
	case a.file.Foreign:
		return nil, errors.New("the issuing key is with somebody else: his authority makes the next one")
	case a.cfg.Provider == nil:
		return nil, ErrNoKey
	case a.number >= maxGenerations:
		return nil, fmt.Errorf("there are %d already", a.number)
	case !a.cfg.Now().Before(a.root.NotAfter):
		return nil, fmt.Errorf("the root ended at %s: make a new authority", a.root.NotAfter)
	}
	if rootKey == nil {
		var err error
		if rootKey, err = a.openKey(ctx, a.cfg.Provider, byRoot); err != nil {
			return nil, err
		}
	}
	if !sameKey(rootKey.Public(), a.root.PublicKey) {
		return nil, errors.New("the key is not the root's")
	}
	return rootKey, nil
}

// unused holds that the generation has certified nothing: its keys may be those of an
// authority whose file was set back, and they sign its lists.
func (a *Authority) unused() error {
	signers := a.signers()
	return a.walk(func(e *journalEntry) error {
		if _, ours := signers[e.By]; ours && e.Type == entryIssue {
			return fmt.Errorf("the journal has certificates by %q, which the authority's file does not know: it was set back; restore the newest one", e.By)
		}
		return nil
	})
}

// next makes the generation. The authority is of no use afterwards.
func (a *Authority) next(ctx context.Context, rootKey crypto.Signer) error {
	rootKey, err := a.mayFollow(ctx, rootKey)
	if err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	a.older = append(a.older, a.generation)
	a.generation = generation{number: a.number + 1}
	if err := a.unused(); err != nil {
		return err
	}
	for by := range a.signers() { // of a run that a crash ended: they certified nothing
		if err := os.Remove(a.path(by + keySuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := a.makeIssuing(ctx, rootKey, a.cfg.Now().UTC()); err != nil {
		return err
	}
	if err := a.makePlatformKey(ctx); err != nil {
		return err
	}
	if err := a.publishCertificates(); err != nil {
		return err
	}
	if err := a.updateLists(); err != nil {
		return err
	}
	file := a.file
	file.Version, file.Oldest, file.Generation = authorityVersion, authorityVersion, a.number
	return a.writeFile(&file)
}
