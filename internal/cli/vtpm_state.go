package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2/engine"
)

// permanentFile holds the permanent state of a TPM, sealed.
const permanentFile = "tpm.permanent"

// vtpmContext binds the sealed state to its use.
func vtpmContext() seal.Context { return seal.Context{Purpose: "TPM state", Name: "permanent"} }

// vtpmState is a folder that keeps one TPM. It is locked for this process.
type vtpmState struct {
	env  *Env
	dir  string
	lock *durable.Lock
	keys *keyprovider.Local
	made bool // the key file is new: there can be no state yet
}

// openVTPMState opens a folder and its key file. Where neither is there, both
// are made; a key file that is gone is never replaced.
func openVTPMState(env *Env, dir string, keys keySource) (_ *vtpmState, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &vtpmState{env: env, dir: dir}
	if s.lock, err = durable.LockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := durable.Sweep(dir); err != nil {
		return nil, err
	}
	if err := s.firstKey(keys); err != nil {
		return nil, err
	}
	s.keys, err = keys.open(env, dir)
	return s, err
}

// firstKey makes the key file of a folder that has no state yet.
func (s *vtpmState) firstKey(keys keySource) error {
	if _, err := os.Lstat(s.file()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(keys.file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	passphrase, err := keys.phrase()
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	s.made = true
	return keyprovider.CreateFile(keys.file, s.env.Rand, passphrase)
}

func (s *vtpmState) file() string { return filepath.Join(s.dir, permanentFile) }

// load restores the TPM of the folder, or makes the first one: when its key file
// is as new, or when told so, since a state that is gone must not become another
// TPM unseen. A profile is fixed when a TPM is made, so asking for one later is an
// error.
func (s *vtpmState) load(env *Env, profile string, create bool) (*engine.TPM, error) {
	sealed, err := os.ReadFile(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		if !s.made && !create {
			return nil, fmt.Errorf("no %s in %q, and its key file was there before: is the folder the right one, or not mounted? --new makes a new TPM", permanentFile, s.dir)
		}
		t, err := manufacture(env, profile)
		if err != nil {
			return nil, err
		}
		state, err := t.Permanent()
		if err != nil {
			return nil, err
		}
		return t, s.save(state)
	}
	if err != nil {
		return nil, err
	}
	if profile != "" {
		return nil, fmt.Errorf("--profile: the TPM in %q has its profile already", s.dir)
	}
	state, err := keyprovider.Open(context.Background(), s.keys, vtpmContext(), sealed)
	if err != nil {
		return nil, fmt.Errorf("open state of the TPM in %q: %w", s.dir, err)
	}
	defer state.Destroy()
	t, err := engine.Restore(engineConfig(env), append([]byte(nil), state.Expose()...), nil)
	if err != nil {
		return nil, fmt.Errorf("restore the TPM in %q: %w", s.dir, err)
	}
	return t, nil
}

// save writes the permanent state, durably.
func (s *vtpmState) save(permanent []byte) error {
	sealed, err := keyprovider.Seal(context.Background(), s.keys, s.env.Rand, vtpmContext(), permanent)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.file(), sealed, 0o600)
}

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

// Close gives the folder back and forgets the keys.
func (s *vtpmState) Close() error {
	var errs []error
	if s.keys != nil {
		errs = append(errs, s.keys.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
