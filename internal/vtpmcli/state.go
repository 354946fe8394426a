package vtpmcli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/place"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// serveStateFile holds the state of the TPM of assay vtpm serve --state.
const serveStateFile = "tpm.nvram"

// vtpmState is a folder that keeps one TPM.
type vtpmState struct {
	env      *program.Env
	dir      string
	keys     closingProvider
	provider string // what the keys are called
	ledger   *place.Ledger
	file     *state.File // nil until load
	fresh    bool        // there can have been no TPM: the folder, or the key file, is as new
}

// openVTPMState opens a folder and the keys for it. Where there is neither a state
// nor a key file, that is made; a key file that is gone is never replaced.
func openVTPMState(ctx context.Context, env *program.Env, dir, provider string, keys program.KeySource) (_ *vtpmState, err error) {
	s := &vtpmState{env: env, dir: dir, provider: provider}
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	if keys.File == "" {
		opened, err := openKeySpec(ctx, env, provider)
		if err != nil {
			return nil, err
		}
		s.keys = keepRenewed(env, opened)
		return s, nil
	}
	s.provider = "local:" + keys.File
	if err := s.firstKey(keys); err != nil {
		return nil, err
	}
	local, err := keys.Open(env, dir)
	s.keys = local
	return s, err
}

// makeFolder makes the folder, and sees whether anything was ever in it.
func (s *vtpmState) makeFolder() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	s.fresh = len(entries) == 0
	return err
}

// firstKey makes the key file of a folder that has no state yet. A file that was
// there before may have had a TPM under it: then the folder is not fresh.
func (s *vtpmState) firstKey(keys program.KeySource) error {
	s.fresh = false
	if _, err := os.Lstat(s.path()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(keys.File); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	passphrase, err := keys.Phrase()
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	s.fresh = true
	return keyprovider.CreateFile(keys.File, s.env.Rand, passphrase)
}

func (s *vtpmState) path() string { return filepath.Join(s.dir, serveStateFile) }

// home is the place of the state.
func (s *vtpmState) home() (*place.Home, error) {
	return place.New(place.Config{
		File: s.path(), Provider: s.keys, ProviderName: s.provider, Random: s.env.Rand, Now: s.env.Now, Ledger: s.ledger, Log: vtpmLog(s.env),
	})
}

// load restores the TPM of the folder, or makes the first one: when there can have
// been none, or when told so, since a state that is gone must not become another
// TPM unseen. A profile is fixed when a TPM is made, so asking for one later is an
// error.
func (s *vtpmState) load(ctx context.Context, profile string, create bool) (*engine.TPM, error) {
	home, err := s.home()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.path()); errors.Is(err, fs.ErrNotExist) {
		if !create {
			if err := s.mustBeVacant(home); err != nil {
				return nil, err
			}
		}
		return s.create(ctx, home, profile)
	}
	o, err := home.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer o.Content.Destroy()
	s.file = o.File
	if profile != "" {
		return nil, fmt.Errorf("--profile: the TPM in %q has its profile already", s.dir)
	}
	t, err := engine.Restore(engineConfig(s.env), append([]byte(nil), o.Content.Permanent...), nil)
	if err != nil {
		return nil, fmt.Errorf("restore the TPM in %q: %w", s.dir, err)
	}
	return t, nil
}

// errVacant is a folder that should have a TPM and has none.
var errVacant = errors.New("is the folder not mounted? --new makes a new TPM")

// mustBeVacant sees that there can have been no TPM in the folder.
func (s *vtpmState) mustBeVacant(home *place.Home) error {
	if !s.fresh {
		return fmt.Errorf("no %s in %q, which was used before, or its key file was: is the folder the right one, or not mounted? --new makes a new TPM", serveStateFile, s.dir)
	}
	id, known, err := home.Known()
	if err == nil && known {
		err = fmt.Errorf("no %s in %q, where the ledger knows TPM %s: %w", serveStateFile, s.dir, id, errVacant)
	}
	return err
}

// create makes the TPM of the folder.
func (s *vtpmState) create(ctx context.Context, home *place.Home, profile string) (*engine.TPM, error) {
	t, err := manufacture(s.env, profile)
	if err != nil {
		return nil, err
	}
	permanent, err := t.Permanent()
	if err != nil {
		return nil, err
	}
	defer clear(permanent)
	id, err := state.NewID(s.env.Rand)
	if err != nil {
		return nil, err
	}
	s.file, err = home.Create(ctx, id, permanent, place.Record{MadeBy: "assay vtpm serve, assay " + program.Version(), Profile: cmp.Or(profile, engine.DefaultProfile())})
	return t, err
}

// save keeps the permanent state, durably.
func (s *vtpmState) save(permanent []byte) error { return s.file.SavePermanent(permanent) }

// serveTransit binds state that passes through QEMU, as in a migration, to that
// use: it is no state file, and neither kind is the other.
func serveTransit(kind frontend.BlobKind) seal.Context {
	return seal.Context{Purpose: "TPM state in transit", Name: kind.String()}
}

// export seals state that leaves this process. A destination opens it that has the
// same keys.
func (s *vtpmState) export(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	return keyprovider.Seal(context.Background(), s.keys, s.env.Rand, serveTransit(kind), blob)
}

// imported opens state that comes from a migration's source. State in the clear, or
// under other keys, is refused.
func (s *vtpmState) imported(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	secret, err := keyprovider.Open(context.Background(), s.keys, serveTransit(kind), blob)
	if err != nil {
		return nil, fmt.Errorf("the source of this state has other keys, or none: %w", err)
	}
	defer secret.Destroy()
	return append([]byte(nil), secret.Expose()...), nil
}

// Close gives the state back and forgets the keys.
func (s *vtpmState) Close() error {
	var err error
	if s.file != nil {
		err = s.file.Close()
	}
	return errors.Join(err, s.ledger.Close(), s.keys.Close())
}
