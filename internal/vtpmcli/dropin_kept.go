package vtpmcli

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/place"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// errStandIn answers what would keep a TPM that only stands in.
var errStandIn = errors.New("a TPM that stands in for one that is to come has nothing to keep")

// A keptTPM is the state of a drop-in's TPM on the disk.
type keptTPM struct {
	env     *program.Env
	place   *swtpmPlace
	keys    *dropInKeys
	profile *engine.Profile // of a TPM that is made; nil when none was asked for
	noLock  bool            // do not take swtpm's lock; the state's own is always taken
	// takesOver has a TPM that swtpm left here go on; otherwise it is no TPM.
	takesOver bool
	ledger    *place.Ledger
	file      *state.File // nil while it is not open
	lock      *os.File    // swtpm's lock of the folder; nil while it is not held
	seen      fs.FileInfo // the state's file when it was last opened or saved

	arriving    *engine.Profile   // of state that came and is not kept yet
	arrivingSum [sha256.Size]byte // digest of that state

	mu   sync.Mutex      // guards made
	made *engine.Profile // of the TPM that is open; nil while it is not
}

// newDropInRecord is kept with a TPM.
func newDropInRecord(p *engine.Profile) place.Record {
	return place.Record{MadeBy: "swtpm drop-in, assay " + program.Version(), Profile: p.Name}
}

// home is where the state is kept. It is named once this process has the root folder
// and the user that it stays with.
func (k *keptTPM) home() (*place.Home, error) {
	return place.New(place.Config{
		File: k.place.permanent, Provider: k.keys.provider, ProviderName: k.keys.name, Random: k.env.Rand, Now: k.env.Now,
		Ledger: k.ledger, Log: vtpmLog(k.env),
	})
}

// load gives the machine its TPM.
func (k *keptTPM) load() (frontend.TPM, error) { return k.start(k.open) }

// standIn opens what is kept, to be replaced by permanent state that has come.
func (k *keptTPM) standIn() (frontend.TPM, error) { return k.start(k.openArriving) }

func (k *keptTPM) start(open func(context.Context) (*engine.TPM, error)) (frontend.TPM, error) {
	if err := k.takeLock(); err != nil {
		return nil, err
	}
	t, err := k.reopen(context.Background(), open)
	if err != nil {
		vtpmLog(k.env).Error("the TPM does not start", slog.Any("error", err))
		return nil, errors.Join(err, k.dropLock())
	}
	k.look()
	return t, nil
}

// reopen opens the TPM. One whose file went away under this process does not become
// another unseen, unless its state has come from elsewhere.
func (k *keptTPM) reopen(ctx context.Context, open func(context.Context) (*engine.TPM, error)) (*engine.TPM, error) {
	if _, err := os.Lstat(k.place.permanent); k.seen != nil && k.arriving == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q went away while its TPM was off; a new start of this program makes a new TPM", k.place.permanent)
	}
	if k.file != nil {
		file := k.file
		k.file = nil
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	return open(ctx)
}

// look notes which file holds the state.
func (k *keptTPM) look() {
	info, err := os.Stat(k.place.permanent)
	if err == nil {
		k.seen = info
	}
}

// stale reports whether another file is in the place of the state.
func (k *keptTPM) stale() bool {
	info, err := os.Stat(k.place.permanent)
	return err != nil || k.seen == nil || !os.SameFile(info, k.seen)
}

// save keeps permanent state. It is called with the machine's lock.
func (k *keptTPM) save(permanent []byte) error {
	err := k.keepPermanent(permanent)
	if err != nil {
		vtpmLog(k.env).Error("the state of the TPM is not kept; it fails from now on", slog.Any("error", err))
	}
	return err
}

func (k *keptTPM) keepPermanent(permanent []byte) error {
	if k.arriving != nil && k.arrivingSum == sha256.Sum256(permanent) {
		return k.saveArrived(permanent)
	}
	k.arriving = nil // what came was refused or forgotten
	if k.file == nil {
		return errStandIn
	}
	defer k.look() // a file that grew is another
	err := k.file.SavePermanent(permanent)
	if fault := (*state.Fault)(nil); errors.As(err, &fault) && fault.Kind == state.Gone {
		return k.rewrite(permanent, err)
	}
	return err
}

// rewrite makes a state's file anew that was removed under a running TPM, as swtpm
// does, which writes a new file each time. One that was replaced stays as it is.
func (k *keptTPM) rewrite(permanent []byte, gone error) error {
	if _, err := os.Lstat(k.place.permanent); !errors.Is(err, fs.ErrNotExist) {
		return gone
	}
	home, err := k.home()
	if err != nil {
		return errors.Join(gone, err)
	}
	id := k.file.ID()
	if err := k.file.Close(); err != nil {
		return errors.Join(gone, err)
	}
	file, err := home.Create(context.Background(), id, permanent, newDropInRecord(k.profileNow()))
	if err != nil {
		return errors.Join(gone, err)
	}
	k.file = file
	vtpmLog(k.env).Warn("the state's file was removed under the TPM, and is written anew", slog.String("file", k.place.permanent))
	return nil
}

// restore makes a TPM of its state, and says why not.
func (k *keptTPM) restore(permanent, volatile []byte) (frontend.TPM, error) {
	t, err := engine.Restore(engineConfig(k.env), permanent, volatile)
	if err != nil {
		vtpmLog(k.env).Error("the TPM does not go on from its state", slog.Any("error", err))
		return nil, err
	}
	return t, nil
}

// takeLock takes the lock that swtpm takes, so that neither serves a folder that
// the other does. The state's own lock is taken beside it.
func (k *keptTPM) takeLock() error {
	if k.place.lock == "" || k.lock != nil || k.noLock {
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

// dropLock gives swtpm's lock up.
func (k *keptTPM) dropLock() error {
	if k.lock == nil {
		return nil
	}
	f := k.lock
	k.lock = nil
	return f.Close()
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
	p, err := engine.FindProfile(dropInProfile(), 0)
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
	if k.takesOver {
		if t, done, err := k.takeOver(ctx); done || err != nil {
			return t, err
		}
	}
	_, err := os.Lstat(k.place.permanent)
	if errors.Is(err, fs.ErrNotExist) {
		return k.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	return k.openBy(ctx, (*place.Home).Open)
}

// openArriving opens the TPM, whatever is kept, for state that came to take its place.
// Where nothing is kept a TPM stands in that is kept nowhere: should nothing come in its
// place, the next start finds the place as it was.
func (k *keptTPM) openArriving(ctx context.Context) (*engine.TPM, error) {
	if _, err := os.Lstat(k.place.permanent); errors.Is(err, fs.ErrNotExist) {
		return engine.Manufacture(k.profileNow(), engineConfig(k.env))
	}
	return k.openBy(ctx, (*place.Home).OpenArriving)
}

func (k *keptTPM) openBy(ctx context.Context, open func(*place.Home, context.Context) (*place.Opened, error)) (*engine.TPM, error) {
	home, err := k.home()
	if err != nil {
		return nil, err
	}
	o, err := open(home, ctx)
	if err != nil {
		return nil, k.explain(err)
	}
	defer o.Content.Destroy()
	t, made, err := k.revive(o)
	if err != nil {
		return nil, errors.Join(err, o.File.Close())
	}
	k.setMade(made)
	k.file = o.File
	return t, nil
}

// revive makes the TPM of an open state.
func (k *keptTPM) revive(o *place.Opened) (*engine.TPM, *engine.Profile, error) {
	if k.profile != nil && k.seen == nil {
		return nil, nil, fmt.Errorf("--profile: the TPM in %q has its profile already", k.place.permanent)
	}
	t, err := engine.Restore(engineConfig(k.env), append([]byte(nil), o.Content.Permanent...), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("restore the TPM in %q: %w", k.place.permanent, err)
	}
	made, err := engine.FindProfile(o.Record.Profile, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("record of the TPM in %q: %w", k.place.permanent, err)
	}
	return t, made, nil
}

// explain says what to do about a file that is swtpm's own.
func (k *keptTPM) explain(err error) error {
	head := make([]byte, 4)
	f, openErr := os.Open(k.place.permanent)
	if openErr != nil {
		return err
	}
	defer f.Close()
	if _, readErr := io.ReadFull(f, head); readErr == nil && looksLikeSWTPM(head) {
		return fmt.Errorf("%w\nswtpm made it: assay vtpm import --swtpm %q --name NAME takes the TPM over", err, filepath.Dir(k.place.permanent))
	}
	return err
}

// create makes a TPM in a place that has none.
func (k *keptTPM) create(ctx context.Context) (*engine.TPM, error) {
	home, err := k.home()
	if err == nil {
		err = home.Vacant()
	}
	if err != nil {
		return nil, err
	}
	return k.make(ctx)
}

func (k *keptTPM) make(ctx context.Context) (*engine.TPM, error) {
	if err := k.place.notTakingOver(); err != nil {
		return nil, err
	}
	profile := k.profileNow()
	t, err := newTPM(k.env, profile)
	if err != nil {
		return nil, err
	}
	id, err := state.NewID(k.env.Rand)
	if err != nil {
		return nil, err
	}
	return t, k.keep(ctx, t, id, profile)
}

// close gives the state and the lock back.
func (k *keptTPM) close() error {
	var errs []error
	if k.file != nil {
		errs = append(errs, k.file.Close())
		k.file = nil
	}
	return errors.Join(append(errs, k.ledger.Close(), k.dropLock())...)
}

// volatileContext binds stored volatile state to its TPM.
func (k *keptTPM) volatileContext() seal.Context {
	return seal.Context{Purpose: "volatile state of a TPM", Name: k.file.ID().String()}
}

// Put seals volatile state into a file of its own, as swtpm has one.
func (k *keptTPM) Put(volatile []byte) error {
	if k.file == nil {
		return errStandIn
	}
	sealed, err := keyprovider.Seal(context.Background(), k.keys.provider, k.env.Rand, k.volatileContext(), volatile)
	if err != nil {
		return err
	}
	return durable.WriteFile(k.place.volatile, sealed, 0o600)
}

// maxVolatile bounds the file of volatile state in bytes.
const maxVolatile = 1 << 20

// Get opens that file; nil when there is none, or no TPM that it may be of.
func (k *keptTPM) Get() ([]byte, error) {
	if k.file == nil {
		return nil, nil
	}
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
