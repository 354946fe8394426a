// Package vtpm keeps virtual TPMs: a folder of many, each with its encrypted
// state, the machine that it belongs to and its history; and runs them, one or
// thousands in a process.
//
// A guest is hostile and reaches its own TPM only. Whoever is root on the host
// is not kept out: he can read the memory of the process that runs a TPM. What a
// state says was proved by opening it with its key; a [Card] and all else that
// lies in the folder in the clear is a claim.
//
// Read [Root] first, then [Instance], then [Daemon].
package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// Config is what a [Root] takes from its process.
type Config struct {
	// Dir is the folder. It is made when it is missing. Required.
	Dir string
	// Provider opens a key provider by its name or URI. Required.
	Provider func(ctx context.Context, spec string) (Provider, error)
	// DefaultProvider names the key provider of TPMs that are made without a choice;
	// nil for none.
	DefaultProvider func() string
	// Issuer certifies the endorsement keys of new TPMs; nil for none, as when a
	// third-party authority does it later.
	Issuer ekca.Issuer
	// Random and Now are this machine's. Required.
	Random io.Reader
	Now    func() time.Time
	// Event is told of every event, after the audit trail. May be nil.
	Event func(Event)
	// Log is told of what has no event; nil for none.
	Log *slog.Logger
	// Limits hold each TPM; the zero Limits are the defaults.
	Limits Limits
}

// A Provider is a key provider that can be closed.
type Provider interface {
	keyprovider.Provider
	io.Closer
}

// A Root is a folder of TPMs. It is safe for concurrent use, and several
// processes may have it open: locks on it and on each state keep them apart.
type Root struct {
	cfg    Config
	start  time.Time
	heavy  lane // of commands that look for primes
	starts lane // of states that are opened
	anchor *state.Ledger

	one chan struct{} // holds one value while this process has the folder's lock

	// reached is called between the steps of an operation, for tests that end the
	// process there; nil otherwise.
	reached func(step string)

	mu        sync.Mutex // guards what follows
	providers map[string]*shared
	reloads   uint64            // how often all providers were dropped
	set       fs.FileInfo       // of the list of key providers when it was last looked at; nil for none
	claimed   map[string]string // names of TPMs that this process uses, and for what
	running   map[string]*Instance
	withheld  map[string]bool // see Withhold
}

// The errors of a root that a caller acts on.
var (
	ErrName    = errors.New("not a name for a TPM: want letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
	ErrExists  = errors.New("there is a TPM of that name")
	ErrUnknown = errors.New("there is no TPM of that name")
	ErrBusy    = errors.New("the TPM is in use")
)

// OpenRoot opens a folder. What operations of an earlier process left half done
// is completed or undone first, and said in the audit trail.
func OpenRoot(ctx context.Context, cfg Config) (*Root, error) {
	if cfg.Dir == "" || cfg.Provider == nil || cfg.Random == nil || cfg.Now == nil {
		return nil, errors.New("a root of TPMs needs a folder, key providers, randomness and a clock")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Issuer == nil {
		cfg.Issuer = ekca.None{}
	}
	cfg.Limits = cfg.Limits.orDefault()
	r := &Root{
		cfg: cfg, start: cfg.Now(), heavy: newLane(cfg.Limits.Heavy), starts: newLane(cfg.Limits.Starts), one: make(chan struct{}, 1),
		providers: map[string]*shared{}, claimed: map[string]string{}, running: map[string]*Instance{}, withheld: map[string]bool{},
	}
	for _, dir := range []string{cfg.Dir, r.tpms(), r.pendingDir(), filepath.Join(cfg.Dir, "run")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open root of TPMs: %w", err)
		}
	}
	var err error
	if r.anchor, err = state.OpenLedger(filepath.Join(cfg.Dir, "anchors")); err != nil {
		return nil, err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return r, r.settle(ctx)
}

// Close forgets the keys of all providers. The instances were closed before.
func (r *Root) Close() error {
	r.dropProviders()
	return r.anchor.Close()
}

// Dir is the folder.
func (r *Root) Dir() string { return r.cfg.Dir }

// Trail is the audit trail of the root.
func (r *Root) Trail() Trail { return TrailOf(r.cfg.Dir) }

// TrailOf is the audit trail of the root in dir.
func TrailOf(dir string) Trail { return Trail{filepath.Join(dir, "audit.log")} }

// AdminSocket is where a daemon over this root takes requests.
func AdminSocket(dir string) string { return filepath.Join(dir, "run", "admin.sock") }

func (r *Root) tpms() string                { return filepath.Join(r.cfg.Dir, "tpms") }
func (r *Root) pendingDir() string          { return filepath.Join(r.cfg.Dir, "pending") }
func (r *Root) dir(name string) string      { return filepath.Join(r.tpms(), name) }
func (r *Root) cardPath(name string) string { return filepath.Join(r.dir(name), "tpm.json") }

// StatePath is the file that holds the state of the TPM called name.
func (r *Root) StatePath(name string) string { return filepath.Join(r.dir(name), name+".nvram") }

// checkName bounds names: they become names of files and sockets.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("%.80q: %w", name, ErrName)
	}
	return nil
}

// Names are the TPMs of the root, sorted.
func (r *Root) Names() ([]string, error) {
	entries, err := os.ReadDir(r.tpms())
	if err != nil {
		return nil, fmt.Errorf("list TPMs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// has reports whether there is a TPM called name.
func (r *Root) has(name string) (bool, error) {
	_, err := os.Lstat(r.dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (r *Root) mustHave(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	ok, err := r.has(name)
	if err == nil && !ok {
		err = fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return err
}

// The folder's lock is only held while names or the audit trail change.
const (
	lockWait = 10 * time.Second
	lockPoll = 2 * time.Millisecond
	// reportWait is longer than an operation holds the folder whose key provider is
	// slow: what happened meanwhile is not to be missing from the trail.
	reportWait = 2 * time.Minute
)

// lock takes the folder for this call.
func (r *Root) lock(ctx context.Context) (unlock func(), err error) {
	return r.lockWithin(ctx, lockWait)
}

func (r *Root) lockWithin(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case r.one <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("lock %q: %w", r.cfg.Dir, ctx.Err())
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		l, err := durable.LockDir(r.cfg.Dir)
		if err == nil {
			return func() { l.Close(); <-r.one }, nil //nolint:errcheck // nothing to write back
		}
		if errors.Is(err, durable.ErrLocked) {
			select {
			case <-poll.C:
				continue
			case <-ctx.Done():
			}
		}
		<-r.one
		return nil, err
	}
}

// claim takes the TPM called name for one use in this process; the lock on its
// state keeps other processes away.
func (r *Root) claim(name, use string) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if by, taken := r.claimed[name]; taken {
		return nil, fmt.Errorf("TPM %q: %s: %w", name, by, ErrBusy)
	}
	r.claimed[name] = use
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.claimed, name)
	}, nil
}

// step marks a point between two steps of an operation.
func (r *Root) step(name string) {
	if r.reached != nil {
		r.reached(name)
	}
}

// note writes an event to the audit trail and tells it to the process. The caller
// has the folder's lock.
func (r *Root) note(e Event, durable bool) error {
	e.Time = r.cfg.Now()
	err := r.Trail().append(e.entry(), durable)
	if r.cfg.Event != nil {
		r.cfg.Event(e)
	}
	return err
}

// report is note for what happens while no operation runs. That the trail cannot
// be written is logged: a TPM goes on.
func (r *Root) report(ctx context.Context, e Event) {
	unlock, err := r.lockWithin(ctx, reportWait)
	if err == nil {
		err = r.note(e, false)
		unlock()
	}
	if err != nil {
		r.cfg.Log.ErrorContext(ctx, "audit trail is not written", slog.String("event", string(e.Type)), slog.String("tpm", e.TPM), slog.Any("error", err))
	}
}
