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
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// An Instance is a TPM of a root in this process: its open state, the engine, and
// the machine around it. Every change of permanent state is on the disk before
// the answer that depends on it leaves.
type Instance struct {
	root     *Root
	name     string
	actor    string
	card     *Card
	file     *state.File
	release  func()
	saves    *rate.Limiter
	notes    *rate.Limiter // of limits that were reached
	machine  *frontend.Machine
	volatile suspended

	reports sync.WaitGroup // events under way

	mu     sync.Mutex // guards what follows
	record *Record
	closed bool
}

// Open opens the TPM called name for this process alone. It has no power yet. The
// error wraps a [*state.Fault] when the state is damaged, rolled back or locked.
func (r *Root) Open(ctx context.Context, name, actor string) (_ *Instance, err error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	release, err := r.claim(name, "it is running")
	if err != nil {
		return nil, err
	}
	i := &Instance{root: r, name: name, actor: actor, release: release, saves: r.cfg.Limits.newSaves(), notes: rate.NewLimiter(rate.Every(time.Minute), 1)}
	i.volatile.i = i
	defer func() {
		if err != nil {
			release()
		}
	}()
	opened, err := r.openState(ctx, name)
	if err != nil {
		return nil, err
	}
	i.card, i.file, i.record = opened.card, opened.file, opened.record
	defer opened.content.Destroy()
	if err := i.boot(opened.content); err != nil {
		return nil, errors.Join(err, i.file.Close())
	}
	r.mu.Lock()
	r.running[name] = i
	r.mu.Unlock()
	return i, nil
}

// boot makes the engine of the state and the machine around it.
func (i *Instance) boot(c state.Content) error {
	t, err := i.restore(c.Permanent, nil)
	if err != nil {
		return fmt.Errorf("restore TPM %q: %w", i.name, err)
	}
	i.volatile.state = bytes.Clone(c.Volatile)
	i.machine = frontend.NewMachine(t, frontend.MachineConfig{Save: i.save, Restore: i.restore, Volatile: &i.volatile})
	return nil
}

// restore makes the engine of a state.
func (i *Instance) restore(permanent, volatile []byte) (frontend.TPM, error) {
	t, err := engine.Restore(i.root.engineConfig(i), permanent, volatile)
	if err != nil {
		return nil, err
	}
	i.volatile.tpm = t
	return i.guard(t), nil
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
	permanent, err := s.tpm.Permanent()
	if err != nil {
		return err
	}
	defer clear(permanent)
	if err := s.i.keep(permanent, volatile); err != nil {
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
	permanent, err := s.tpm.Permanent()
	if err != nil {
		return err
	}
	defer clear(permanent)
	if err := s.i.keep(permanent, nil); err != nil {
		return err
	}
	clear(s.state)
	s.state = nil
	return nil
}

// keep saves a generation with or without volatile state.
func (i *Instance) keep(permanent, volatile []byte) error {
	i.mu.Lock()
	meta, err := i.record.encode()
	i.mu.Unlock()
	if err != nil {
		return err
	}
	return i.file.Save(context.Background(), state.Content{Permanent: permanent, Volatile: volatile, Meta: meta})
}

func (i *Instance) guard(t frontend.TPM) frontend.TPM {
	return &guarded{t, i.root, i.limited}
}

// Machine is the platform around the TPM.
func (i *Instance) Machine() *frontend.Machine { return i.machine }

// Name is that of the TPM in its root.
func (i *Instance) Name() string { return i.name }

// Record is a copy of what is known of the TPM.
func (i *Instance) Record() Record {
	i.mu.Lock()
	defer i.mu.Unlock()
	return *i.record
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
	err := i.machine.Shutdown()
	i.reports.Wait()
	err = errors.Join(err, i.file.Close())
	i.root.mu.Lock()
	delete(i.root.running, i.name)
	i.root.mu.Unlock()
	i.release()
	return err
}

// save keeps permanent state. It is called with the machine's lock.
func (i *Instance) save(permanent []byte) error {
	ctx := context.Background()
	if !i.saves.Allow() {
		i.limited("its state is written too often")
		if err := i.saves.Wait(ctx); err != nil {
			return err
		}
	}
	err := i.file.SavePermanent(permanent)
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
	e := Event{Type: what, TPM: i.name, ID: i.card.ID.String(), Actor: i.actor, Outcome: outcome, Detail: detail(about)}
	i.reports.Go(func() { i.root.report(context.Background(), e) })
}

// engineConfig gives a TPM this machine's randomness and clock.
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

// An opened state is one whose key was found and whose record fits its place.
type opened struct {
	card    *Card
	file    *state.File
	record  *Record
	content state.Content
}

// openState opens the state of the TPM called name. The caller closes the file
// and destroys the content.
func (r *Root) openState(ctx context.Context, name string) (*opened, error) {
	card, err := r.readCard(name)
	if err != nil {
		return nil, err
	}
	o := &opened{card: card}
	if err := r.tryProviders(ctx, o); err != nil {
		return nil, fmt.Errorf("open state of TPM %q: %w", name, err)
	}
	if err := o.check(name); err != nil {
		o.content.Destroy()
		return nil, errors.Join(fmt.Errorf("open state of TPM %q: %w", name, err), o.file.Close())
	}
	return o, r.mend(o)
}

// tryProviders opens the state with the first of the card's providers that holds
// its key.
func (r *Root) tryProviders(ctx context.Context, o *opened) error {
	var errs []error
	for n, spec := range o.card.Providers {
		err := r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
			o.file, o.content, err = state.Open(ctx, r.StatePath(o.card.Name), r.stateConfig(p, spec, o.card.ID))
			return err
		})
		if err == nil {
			o.card.Providers = append([]string{spec}, append(o.card.Providers[:n:n], o.card.Providers[n+1:]...)...)
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Root) stateConfig(p keyprovider.Provider, spec string, id state.ID) state.Config {
	return state.Config{Provider: p, ProviderName: spec, Random: r.cfg.Random, Now: r.cfg.Now, Anchor: r.anchor, Want: id}
}

// check reads the record, and compares it with where it was found.
func (o *opened) check(name string) (err error) {
	if o.record, err = parseRecord(o.content.Meta); err != nil {
		return err
	}
	switch {
	case o.record.Name != name:
		return fmt.Errorf("it is the state of TPM %q: %w", o.record.Name, ErrRecord)
	case o.record.ID != o.card.ID:
		return fmt.Errorf("it is the state of TPM %s, its card says %s: %w", o.record.ID, o.card.ID, ErrRecord)
	}
	return nil
}

// mend has the card say what the sealed record does, after a crash between the two.
func (r *Root) mend(o *opened) error {
	want := o.record.card(o.card.Providers...)
	if want.VM == o.card.VM && want.Profile == o.card.Profile && want.Secrets == o.card.Secrets {
		return nil
	}
	o.card = want
	if err := r.writeCard(want); err != nil {
		o.content.Destroy()
		return errors.Join(err, o.file.Close())
	}
	return nil
}
