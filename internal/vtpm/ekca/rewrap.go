package ekca

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
)

// A Rewrapping says how the keys of an authority are sealed anew.
type Rewrapping struct {
	From, To keyprovider.Provider
	// Name is what To is called from then on, KeyID its newest key.
	Name, KeyID string
	Random      io.Reader
}

// Rewrap seals the private keys in an authority's folder anew, one file after the
// other, and returns how many it did. A file is replaced whole, once it is seen to open.
// It may be stopped and run again: what is under the newest key is passed over. Between
// two runs neither provider alone opens all. An authority that is open goes on.
func Rewrap(ctx context.Context, dir string, r Rewrapping) (done int, err error) {
	a := &Authority{dir: dir}
	if err := a.readFile(); err != nil {
		return 0, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+keySuffix))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		by := strings.TrimSuffix(filepath.Base(name), keySuffix)
		changed, err := a.rewrapKey(ctx, by, &r)
		if err != nil {
			return done, fmt.Errorf("key %q of the authority: %w", by, err)
		}
		if changed {
			done++
		}
	}
	return done, a.rename(ctx, r.Name)
}

// rename notes another provider, in the file as it is now: the authority may have had
// its next generation since.
func (a *Authority) rename(ctx context.Context, provider string) error {
	for {
		if err := a.readFile(); err != nil {
			return err
		}
		if a.file.Provider == provider {
			return nil
		}
		a.number = a.file.newest()
		unlock, err := a.lock(ctx)
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return err
		}
		defer unlock()
		next := a.file
		next.Provider = provider
		return a.writeFile(&next)
	}
}

// NotUnder counts the private keys in an authority's folder that are sealed by another
// key than the named one.
func NotUnder(dir, keyID string) (n int, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+keySuffix))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		sealed, err := readBounded(name, maxSealedKey)
		if err != nil {
			return n, err
		}
		under, err := keyprovider.WrappedUnder(sealed)
		if err != nil {
			return n, err
		}
		if under != keyID {
			n++
		}
	}
	return n, nil
}

// rewrapKey seals one key anew, unless it is under the newest key already.
func (a *Authority) rewrapKey(ctx context.Context, by string, r *Rewrapping) (bool, error) {
	sealed, err := readBounded(a.path(by+keySuffix), maxSealedKey)
	if err != nil {
		return false, err
	}
	under, err := keyprovider.WrappedUnder(sealed)
	if err != nil || under == r.KeyID {
		return false, err
	}
	c := a.keyContext(by)
	text, err := keyprovider.Open(ctx, r.From, c, sealed)
	if errors.Is(err, keyprovider.ErrUnknownKey) {
		text, err = keyprovider.Open(ctx, r.To, c, sealed) // a run that was stopped came here before
	}
	if err != nil {
		return false, err
	}
	defer text.Destroy()
	again, err := keyprovider.Seal(ctx, r.To, r.Random, c, text.Expose())
	if err != nil {
		return false, err
	}
	proof, err := keyprovider.Open(ctx, r.To, c, again)
	if err != nil {
		return false, err
	}
	defer proof.Destroy()
	if subtle.ConstantTimeCompare(proof.Expose(), text.Expose()) != 1 {
		return false, errors.New("sealed anew it opens to another text")
	}
	return true, durable.WriteFile(a.path(by+keySuffix), again, 0o600)
}
