package vtpm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// An Instance is a TPM of a root in this process: the machine around it and, from
// its first power on, its open state and the engine. Every change of permanent
// state is on the disk before the answer that depends on it leaves.
type Instance struct {
	root    *Root
	name    string
	id      state.ID
	actor   string
	ctx     context.Context // ends when the instance closes
	cancel  context.CancelFunc
	release func()
	saves   *rate.Limiter
	notes   *rate.Limiter // of limits that were reached
	turns   *rate.Limiter // of starts that fail, and of state that arrives
	machine *frontend.Machine
	reports sync.WaitGroup // events under way
	follow  func(Measured) // nil when nobody reads the journal

	// What the machine uses, with its lock, from the first power on.
	tpm      frontend.TPM
	file     *state.File
	volatile suspended

	rotating sync.Mutex // held while the providers on the card change; taken before mu

	mu      sync.Mutex // guards what follows
	card    *Card      // is not changed in place
	record  *Record    // nil until the state is open
	arrived *arrival
	journey *seal.Key // of state in transit; nil for the key provider
	closed  bool
}

// Prepare takes the TPM called name for this process. Its state is opened when
// the machine first gets power, so that a guest which migrates here finds it free.
func (r *Root) Prepare(ctx context.Context, name, actor string) (*Instance, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	release, err := r.claim(name, "it is running")
	if err != nil {
		return nil, err
	}
	card, err := r.readCard(name)
	if err != nil {
		release()
		return nil, err
	}
	i := &Instance{
		root: r, name: name, id: card.ID, actor: actor, release: release, card: card,
		saves: r.cfg.Limits.newSaves(), notes: rate.NewLimiter(rate.Every(time.Minute), 1), turns: r.cfg.Limits.newTurns(),
	}
	i.volatile.i = i
	i.ctx, i.cancel = context.WithCancel(ctx)
	i.machine = frontend.NewMachine(nil, frontend.MachineConfig{
		Load: i.load, Save: i.save, Restore: i.restore, Volatile: &i.volatile,
		ExportBlob: i.exportBlob, ImportBlob: i.importBlob,
		Unlock: func() error { return i.file.Release() },
		Lock:   func() error { return i.file.Reacquire() },
	})
	return i, nil
}

// Open is [Root.Prepare] with the state opened at once. The error wraps a
// [*state.Fault] when it is damaged, rolled back or locked.
func (r *Root) Open(ctx context.Context, name, actor string) (*Instance, error) {
	i, err := r.Prepare(ctx, name, actor)
	if err != nil {
		return nil, err
	}
	if err := i.machine.Load(); err != nil {
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

// load opens the state and makes the engine, once. A key provider that does not
// answer is tried again for a while; nothing is lost by that.
func (i *Instance) load() (frontend.TPM, error) {
	if i.tpm != nil {
		return i.tpm, nil
	}
	start := i.root.cfg.Now()
	err := i.loadOnce()
	if err != nil && !i.turns.Allow() {
		i.limited("it fails to start again and again")
		return nil, err
	}
	if err != nil {
		i.report(EventStart, OutcomeFailed, map[string]string{"error": err.Error()})
		return nil, err
	}
	i.root.mu.Lock()
	i.root.running[i.name] = i
	i.root.mu.Unlock()
	i.report(EventStart, OutcomeDone, map[string]int64{"microseconds": i.root.cfg.Now().Sub(start).Microseconds()})
	return i.tpm, nil
}

func (i *Instance) loadOnce() error {
	o, err := i.openState()
	if err != nil {
		return err
	}
	defer o.content.Destroy()
	t, err := i.restore(o.content.Permanent, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("restore TPM %q: %w", i.name, err), o.file.Close())
	}
	i.volatile.state = bytes.Clone(o.content.Volatile)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return errors.Join(fmt.Errorf("TPM %q: it is stopping: %w", i.name, ErrBusy), o.file.Close())
	}
	i.tpm, i.file, i.card, i.record = t, o.file, o.card, o.record
	return nil
}

// The pauses between tries to reach a key provider.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// openState opens the state, a few TPMs at a time.
func (i *Instance) openState() (*opened, error) {
	limits := &i.root.cfg.Limits
	if !i.root.starts.enter(limits.StartTime) {
		return nil, fmt.Errorf("start TPM %q: too many others start: %w", i.name, ErrBusy)
	}
	defer i.root.starts.leave()
	ctx, cancel := context.WithTimeout(i.ctx, limits.StartTime)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		o, err := i.root.openState(ctx, i.name)
		if err == nil || !errors.Is(err, keyprovider.ErrUnavailable) && !errors.Is(err, state.ProviderDown) {
			return o, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w (tried for %v; the next start tries again)", err, limits.StartTime)
		}
	}
}

// restore makes the engine of a state.
func (i *Instance) restore(permanent, volatile []byte) (frontend.TPM, error) {
	t, err := engine.Restore(i.root.engineConfig(i), permanent, volatile)
	if err != nil {
		return nil, err
	}
	i.volatile.tpm = t
	g := &guarded{t, i.root, i.limited}
	if i.follow == nil {
		return g, nil
	}
	return &followed{TPM: g, engine: t, tell: i.follow, restored: volatile != nil}, nil
}

// Machine is the platform around the TPM.
func (i *Instance) Machine() *frontend.Machine { return i.machine }

// Name is that of the TPM in its root.
func (i *Instance) Name() string { return i.name }

// Generation is the number of the last generation of the TPM's state that was saved; 0 until
// its state is open.
func (i *Instance) Generation() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.file == nil {
		return 0
	}
	return i.file.Generation()
}

// Record is a copy of what is known of the TPM; ok is false until its state is open.
func (i *Instance) Record() (rec Record, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.record == nil {
		return Record{}, false
	}
	return *i.record, true
}

func (i *Instance) provider() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.card.Providers[0]
}

// Close takes the power away in good order, and gives the state back.
func (i *Instance) Close() error {
	i.mu.Lock()
	closed := i.closed
	i.closed = true
	i.mu.Unlock()
	if closed {
		return nil
	}
	i.cancel()
	err := i.machine.Shutdown()
	if i.file != nil {
		err = errors.Join(err, i.file.Close())
		i.root.mu.Lock()
		delete(i.root.running, i.name)
		i.root.mu.Unlock()
		outcome, about := OutcomeDone, map[string]string{}
		if err != nil {
			outcome, about["error"] = OutcomeFailed, err.Error()
		}
		i.report(EventStop, outcome, about)
	}
	i.reports.Wait()
	i.release()
	return err
}

// save keeps permanent state. It is called with the machine's lock.
func (i *Instance) save(permanent []byte) error {
	if !i.saves.Allow() {
		i.limited("its state is written too often")
		if err := i.saves.Wait(context.Background()); err != nil {
			return err
		}
	}
	keep := i.file.SavePermanent
	if i.arriving(permanent) {
		keep = i.saveArrived
	}
	err := keep(permanent)
	if err != nil {
		i.report(EventSaveFailed, OutcomeFailed, map[string]string{"error": err.Error()})
	}
	return err
}

// limited tells that the TPM was held to a limit, once in a while: a guest that
// runs into one all the time does not fill the trail.
func (i *Instance) limited(what string) {
	if i.notes.Allow() {
		i.report(EventLimit, OutcomeDone, map[string]string{"limit": what})
	}
}

// report tells an event of a running TPM without holding it up.
func (i *Instance) report(what EventType, outcome string, about any) {
	e := Event{Type: what, TPM: i.name, ID: i.id.String(), Actor: i.actor, Outcome: outcome, Detail: detail(about)}
	i.reports.Go(func() { i.root.report(context.Background(), e) })
}

// engineConfig gives a TPM this machine's randomness and clock. i is nil for one
// that no guest uses.
func (r *Root) engineConfig(i *Instance) engine.Config {
	return engine.Config{
		Random: r.cfg.Random,
		Now:    func() time.Duration { return r.cfg.Now().Sub(r.start) },
		Panic: func(value any, stack []byte) {
			if i == nil {
				return
			}
			r.cfg.Log.Error("a TPM is in failure mode by a fault of this program",
				slog.String("tpm", i.name), slog.Any("panic", value), slog.String("stack", string(stack)))
			i.report(EventFault, OutcomeFailed, map[string]string{"panic": fmt.Sprint(value)})
		},
	}
}

// suspended keeps the volatile state of a suspended TPM in its file. The machine
// calls it with its lock.
type suspended struct {
	i     *Instance
	tpm   *engine.TPM
	state []byte // what Get gives
}

// Put saves the volatile state with the permanent state that it goes with.
func (s *suspended) Put(volatile []byte) error {
	if err := s.keep(volatile); err != nil {
		return err
	}
	s.state = volatile
	return nil
}

// Get returns what Put kept, in this process or one before.
func (s *suspended) Get() ([]byte, error) { return s.state, nil }

// Delete removes it.
func (s *suspended) Delete() error {
	if s.state == nil {
		return nil
	}
	if err := s.keep(nil); err != nil {
		return err
	}
	clear(s.state)
	s.state = nil
	return nil
}

// keep saves a generation with or without volatile state.
func (s *suspended) keep(volatile []byte) error {
	permanent, err := s.tpm.Permanent()
	if err != nil {
		return err
	}
	defer clear(permanent)
	s.i.mu.Lock()
	meta, err := s.i.record.encode()
	s.i.mu.Unlock()
	if err != nil {
		return err
	}
	return s.i.file.Save(context.Background(), state.Content{Permanent: permanent, Volatile: volatile, Meta: meta})
}
