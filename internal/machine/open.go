package machine

import (
	"context"
	"errors"
	"time"
)

// leaveTime is how long one is awaited who may take longer: what was given away is deleted once.
const leaveTime = 10 * time.Second

// openSoon opens a home that another process is about to give back, as who only looks at a
// machine is.
func (r *Root) openSoon(ctx context.Context, name string) (h *Home, err error) {
	err = again(ctx, r.pace.look, func() error {
		h, err = r.Open(ctx, name)
		return err
	})
	return h, err
}

// again does what has to be done with a home until no other process has it, or for some time.
func again(ctx context.Context, wait time.Duration, do func() error) error {
	late := time.NewTimer(wait)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := do()
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-tick.C:
		case <-late.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// whenFree does what has to be done with the home of a machine that is off: at once, or soon
// where somebody looks at it. Who has the home of a machine that runs is not waited for.
func (r *Root) whenFree(ctx context.Context, name string, do func() error) error {
	err := do()
	if !errors.Is(err, ErrBusy) {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	if _, _, runs := r.call(asking, name, request{Verb: verbStatus}, nil); !errors.Is(runs, errNotRunning) {
		return err
	}
	return again(ctx, r.pace.look, do)
}

// openOff opens the home of a machine that is off, also while somebody looks at it.
func (r *Root) openOff(ctx context.Context, name string) (h *Home, err error) {
	err = r.whenFree(ctx, name, func() error {
		h, err = r.Open(ctx, name)
		return err
	})
	return h, err
}
