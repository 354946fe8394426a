package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
)

// Status says how a machine is, whoever runs it. It opens no home and needs no key.
func (r *Root) Status(ctx context.Context, name string) (*Status, error) {
	card, err := r.Card(name)
	if errors.Is(err, ErrDamaged) {
		return &Status{Name: name, State: StateDamaged, Problem: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(Status)
	_, _, err = r.call(ctx, name, request{Verb: verbStatus}, out)
	if err == nil {
		return out, nil
	}
	if !errors.Is(err, errNotRunning) {
		return nil, err
	}
	f, err := r.found(card)
	switch {
	case err != nil:
		return &Status{Name: name, ID: card.ID, State: StateDamaged, Problem: err.Error()}, nil
	case f.alive:
		return &Status{
			Name: name, ID: card.ID, State: StateUnsupervised, PID: f.PID, Since: f.Started,
			Problem: fmt.Sprintf("its hypervisor, process %d, runs without a supervisor, and so without its TPM: assay vm stop --force ends it", f.PID),
		}, nil
	case f.was:
		return &Status{
			Name: name, ID: card.ID, State: StateLost, Since: f.Started,
			Problem: f.problem(),
		}, nil
	}
	return &Status{Name: name, ID: card.ID, State: StateStopped}, nil
}

// Stop stops a machine that runs: its guest is asked to, and after a while it is ended.
// With force it is ended at once, and so is a hypervisor without a supervisor. It returns
// when the machine has ended.
func (r *Root) Stop(ctx context.Context, actor, name string, force bool) error {
	card, err := r.Card(name)
	if err != nil {
		return err
	}
	_, _, err = r.call(ctx, name, request{Verb: verbStop, Actor: actor, Force: force}, nil)
	if err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	if err != nil {
		f, ferr := r.found(card)
		if ferr == nil && f.unknown && force {
			return r.forget(ctx, name)
		}
		if ferr != nil || !f.alive {
			return errors.Join(err, ferr)
		}
		if !force {
			return fmt.Errorf("machine %q: its hypervisor, process %d, runs without a supervisor: --force ends it", name, f.PID)
		}
		if err := f.end(); err != nil {
			return err
		}
	}
	return r.awaitEnd(ctx, card)
}

// forget takes an operator's word that no hypervisor of a machine runs.
func (r *Root) forget(ctx context.Context, name string) error {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(h.forget(), h.Close())
}

// awaitEnd waits until nobody has the home and no hypervisor is left.
func (r *Root) awaitEnd(ctx context.Context, card *Card) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _, err := r.call(ctx, card.Name, request{Verb: verbStatus}, nil)
		if f, ferr := r.found(card); errors.Is(err, errNotRunning) && ferr == nil && !f.alive {
			// What follows finds the home free.
			if lock, err := durable.LockDir(r.dir(card.Name)); err == nil {
				return lock.Close()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("machine %q has not ended yet: %w", card.Name, ctx.Err())
		}
	}
}

// Reset presses the reset button of a machine.
func (r *Root) Reset(ctx context.Context, actor, name string) error {
	if _, err := r.Card(name); err != nil {
		return err
	}
	_, _, err := r.call(ctx, name, request{Verb: verbReset, Actor: actor}, nil)
	return err
}

// Console attaches to the first serial port of a machine that runs.
func (r *Root) Console(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	conn, in, err := r.call(ctx, name, request{Verb: verbConsole}, nil)
	if err != nil {
		return nil, err
	}
	return &attached{in, conn}, nil
}

// attached is a console: what came with the answer is read first.
type attached struct {
	in io.Reader
	io.WriteCloser
}

func (a *attached) Read(b []byte) (int, error) { return a.in.Read(b) }

// ask has the supervisor of a machine answer, or where there is none, offline, with the
// home opened here.
func ask[T any](ctx context.Context, r *Root, name string, q request, offline func(*Home) (T, error)) (out T, err error) {
	if _, err := r.Card(name); err != nil {
		return out, err
	}
	if _, _, err = r.call(ctx, name, q, &out); !errors.Is(err, errNotRunning) {
		return out, err
	}
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return offline(h)
}

// openSoon opens a home that another process is about to give back.
func (r *Root) openSoon(ctx context.Context, name string) (*Home, error) {
	const patience = 2 * time.Second
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		h, err := r.Open(ctx, name)
		if !errors.Is(err, ErrBusy) {
			return h, err
		}
		select {
		case <-tick.C:
		case <-late.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Events are what happened to a machine, the oldest first.
func (r *Root) Events(ctx context.Context, name string) ([]integrity.Notice, error) {
	return ask(ctx, r, name, request{Verb: verbReadLog}, (*Home).Events)
}

// ConsoleText is what a machine printed in its last boot, words of the guest.
func (r *Root) ConsoleText(ctx context.Context, name string) (string, error) {
	return ask(ctx, r, name, request{Verb: verbConsoleOf}, func(h *Home) (string, error) {
		text, err := h.open(consoleFile)
		if err != nil {
			return "", err
		}
		defer text.Destroy()
		return string(text.Expose()), nil
	})
}

// History are the baselines and boots of a machine.
func (r *Root) History(ctx context.Context, name string) (*integrity.History, error) {
	text, err := ask(ctx, r, name, request{Verb: verbHistory}, func(h *Home) (*rawHistory, error) {
		history, err := h.History()
		return &rawHistory{history}, err
	})
	if err != nil {
		return nil, err
	}
	return text.History, nil
}

// rawHistory is read as strictly from a supervisor as from the home.
type rawHistory struct{ *integrity.History }

func (h *rawHistory) UnmarshalJSON(b []byte) (err error) {
	h.History, err = integrity.ParseHistory(b)
	return err
}

// Describe says all that is known of a machine.
func (r *Root) Describe(ctx context.Context, name string) (*Description, error) {
	status, err := r.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	if status.State == StateDamaged {
		return &Description{Status: *status}, nil
	}
	out, err := ask(ctx, r, name, request{Verb: verbDescribe}, func(h *Home) (*Description, error) {
		d, err := h.Definition()
		if err != nil {
			return nil, err
		}
		history, err := h.History()
		if err != nil {
			return nil, err
		}
		status.Shield = &d.Shielded
		return &Description{Status: *status, Definition: d, Baselines: versionsOf(history), LastBoot: last(BootsOf(history))}, nil
	})
	return out, err
}

func last(boots []BootSummary) *BootSummary {
	if len(boots) == 0 {
		return nil
	}
	return &boots[len(boots)-1]
}

// Review says what would change if the latest boot of a machine became its baseline.
func (r *Root) Review(ctx context.Context, name string) (*Review, error) {
	return ask(ctx, r, name, request{Verb: verbReview}, func(h *Home) (*Review, error) {
		m, _, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		return review(m)
	})
}

// Approve makes the boot that was reviewed the baseline of a machine.
func (r *Root) Approve(ctx context.Context, actor, name string, boot uint64, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbApprove, Actor: actor, Boot: boot, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Approve(boot, actor, why)
	})
}

// Restore puts an earlier baseline of a machine in force again.
func (r *Root) Restore(ctx context.Context, actor, name string, number int, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbRestore, Actor: actor, Baseline: number, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Restore(number, actor, why)
	})
}

func (r *Root) judgeAnew(ctx context.Context, name string, q request, change func(*integrity.Monitor) ([]integrity.Notice, error)) ([]integrity.Notice, error) {
	return ask(ctx, r, name, q, func(h *Home) ([]integrity.Notice, error) {
		m, history, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		notices, err := change(m)
		if err != nil {
			return nil, err
		}
		if err := h.SetHistory(history); err != nil {
			return nil, err
		}
		return notices, r.logAll(h, notices)
	})
}

// offline is the judge of a machine that does not run, over its last boot.
func (r *Root) offline(h *Home) (*integrity.Monitor, *integrity.History, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, err
	}
	history, err := h.History()
	if err != nil {
		return nil, nil, err
	}
	m, err := r.newMonitor(d, history, nil)
	return m, history, err
}

// logAll keeps events of a machine that does not run.
func (r *Root) logAll(h *Home, notices []integrity.Notice) error {
	for _, n := range notices {
		if err := h.Log(n); err != nil {
			return err
		}
		if r.cfg.Event != nil {
			r.cfg.Event(n)
		}
	}
	return nil
}
