package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// A keptTPM is the state of a drop-in's TPM on the disk.
type keptTPM struct {
	env     *Env
	place   *swtpmPlace
	keys    *dropInKeys
	profile *engine.Profile // of a TPM that is made; nil when none was asked for
	file    *state.File     // nil while it is not open
	lock    *os.File        // swtpm's lock of the folder; nil while it is not held

	mu   sync.Mutex      // guards made
	made *engine.Profile // of the TPM that is open; nil while it is not
}

// dropInRecord is kept with a TPM.
type dropInRecord struct {
	Version int    `json:"version"`
	MadeBy  string `json:"madeBy"`
	Profile string `json:"profile"`
}

// parseDropInRecord reads what json.Marshal wrote of a [dropInRecord].
func parseDropInRecord(text []byte) (dropInRecord, error) {
	var r dropInRecord
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, err
	}
	if r.Version != 1 {
		return r, fmt.Errorf("version %d is not known", r.Version)
	}
	return r, nil
}

func (k *keptTPM) config() state.Config {
	return state.Config{Provider: k.keys.provider, ProviderName: k.keys.name, Random: k.env.Rand, Now: k.env.Now}
}

// load gives the machine its TPM.
func (k *keptTPM) load() (frontend.TPM, error) {
	if err := k.takeLock(); err != nil {
		return nil, err
	}
	t, err := k.open(context.Background())
	if err != nil {
		vtpmLog(k.env).Error("the TPM does not start", slog.Any("error", err))
		return nil, err
	}
	return t, nil
}

// save keeps permanent state. It is called with the machine's lock.
func (k *keptTPM) save(permanent []byte) error { return k.file.SavePermanent(permanent) }

// takeLock takes the lock that swtpm takes, so that neither serves a folder that
// the other does. The state's own lock is taken beside it.
func (k *keptTPM) takeLock() error {
	if k.place.lock == "" || k.lock != nil {
		return nil
	}
	f, err := os.OpenFile(k.place.lock, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o660)
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	whole := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &whole); err != nil {
		return errors.Join(fmt.Errorf("%q is locked: another process serves this TPM", k.place.lock), f.Close())
	}
	k.lock = f
	return nil
}

// profileNow is the profile of the TPM that is open, or else of the one that will be.
func (k *keptTPM) profileNow() *engine.Profile {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made != nil {
		return k.made
	}
	if k.profile != nil {
		return k.profile
	}
	p, err := engine.FindProfile(dropInProfile, 0)
	if err != nil {
		panic("unreachable: " + err.Error())
	}
	return p
}

func (k *keptTPM) setMade(p *engine.Profile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made = p
}

// open opens the TPM, or makes the first one of an empty place.
func (k *keptTPM) open(ctx context.Context) (*engine.TPM, error) {
	_, err := os.Lstat(k.place.permanent)
	if errors.Is(err, fs.ErrNotExist) {
		return k.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	file, content, err := state.Open(ctx, k.place.permanent, k.config())
	if err != nil {
		return nil, k.explain(err)
	}
	defer content.Destroy()
	for _, n := range file.Notices() {
		vtpmLog(k.env).Warn("state of the TPM", slog.String("notice", n.String()))
	}
	if k.profile != nil {
		return nil, errors.Join(fmt.Errorf("--profile: the TPM in %q has its profile already", k.place.permanent), file.Close())
	}
	t, err := engine.Restore(engineConfig(k.env), append([]byte(nil), content.Permanent...), nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore the TPM in %q: %w", k.place.permanent, err), file.Close())
	}
	record, err := parseDropInRecord(content.Meta)
	var made *engine.Profile
	if err == nil {
		made, err = engine.FindProfile(record.Profile, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record of the TPM in %q: %w", k.place.permanent, err), file.Close())
	}
	k.setMade(made)
	k.file = file
	return t, nil
}

// explain says what to do about a file that is swtpm's own: its header has version
// 1 or 2, the oldest version 1, and a length of 10 (struct blobheader).
func (k *keptTPM) explain(err error) error {
	head := make([]byte, 4)
	f, openErr := os.Open(k.place.permanent)
	if openErr != nil {
		return err
	}
	defer f.Close()
	if _, readErr := io.ReadFull(f, head); readErr == nil && head[0] <= 2 && head[1] == 1 && head[2] == 0 && head[3] == 10 {
		return fmt.Errorf("%w\nswtpm made it: assay vtpm import --swtpm %q takes the TPM over", err, filepath.Dir(k.place.permanent))
	}
	return err
}

// create makes a TPM. A place whose volatile state is there has had another.
func (k *keptTPM) create(ctx context.Context) (*engine.TPM, error) {
	profile := k.profileNow()
	t, err := engine.Manufacture(profile, engineConfig(k.env))
	if err != nil {
		return nil, err
	}
	permanent, err := t.Permanent()
	if err != nil {
		return nil, err
	}
	id, err := state.NewID(k.env.Rand)
	if err != nil {
		return nil, err
	}
	record, err := json.Marshal(dropInRecord{Version: 1, MadeBy: "swtpm drop-in, assay " + version, Profile: profile.Name})
	if err != nil {
		return nil, err
	}
	k.setMade(profile)
	k.file, err = state.Create(ctx, k.place.permanent, id, state.Content{Permanent: permanent, Meta: record}, k.config())
	return t, err
}

// close gives the state and the lock back.
func (k *keptTPM) close() error {
	var errs []error
	if k.file != nil {
		errs = append(errs, k.file.Close())
	}
	if k.lock != nil {
		errs = append(errs, k.lock.Close())
	}
	return errors.Join(errs...)
}

// volatileContext binds stored volatile state to its TPM.
func (k *keptTPM) volatileContext() seal.Context {
	return seal.Context{Purpose: "volatile state of a TPM", Name: k.file.ID().String()}
}

// Put seals volatile state into a file of its own, as swtpm has one.
func (k *keptTPM) Put(volatile []byte) error {
	sealed, err := keyprovider.Seal(context.Background(), k.keys.provider, k.env.Rand, k.volatileContext(), volatile)
	if err != nil {
		return err
	}
	return durable.WriteFile(k.place.volatile, sealed, 0o600)
}

// maxVolatile bounds the file of volatile state in bytes.
const maxVolatile = 1 << 20

// Get opens that file; nil when there is none.
func (k *keptTPM) Get() ([]byte, error) {
	f, err := os.OpenFile(k.place.volatile, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sealed, err := io.ReadAll(io.LimitReader(f, maxVolatile))
	if err != nil {
		return nil, err
	}
	text, err := keyprovider.Open(context.Background(), k.keys.provider, k.volatileContext(), sealed)
	if err != nil {
		err = fmt.Errorf("volatile state in %q: %w", k.place.volatile, err)
		vtpmLog(k.env).Error("the TPM does not resume", slog.Any("error", err))
		return nil, err
	}
	defer text.Destroy()
	return bytes.Clone(text.Expose()), nil
}

// Delete removes that file.
func (k *keptTPM) Delete() error {
	err := os.Remove(k.place.volatile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
