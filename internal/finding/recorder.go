package finding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Limits of a recorder.
const (
	maxWaiting  = 4096
	recordTries = 3
	recordTime  = 20 * time.Second // of one try: many machines of a host may start at once
	recordAgain = time.Minute      // until what could not be kept is tried again
)

// A Recorder takes signals to a store in order, without holding up who gives them: the
// book is written by many processes, and durably. What cannot be kept waits, and is tried
// again: nobody says it a second time. It is safe for concurrent use.
type Recorder struct {
	store *Store
	now   func() time.Time
	fault func(error)

	mu      sync.Mutex // guards what follows
	waiting []Signal
	working bool
	closing bool
	work    sync.WaitGroup
	wake    chan struct{} // has something when what waits need not wait longer
}

// NewRecorder makes a recorder; fault is told of what could not be kept, and of what is
// given up.
func NewRecorder(s *Store, now func() time.Time, fault func(error)) *Recorder {
	return &Recorder{store: s, now: now, fault: fault, wake: make(chan struct{}, 1)}
}

// Record takes signals, and returns at once.
func (r *Recorder) Record(signals ...Signal) {
	if len(signals) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting)+len(signals) > maxWaiting {
		r.fault(fmt.Errorf("%d signals wait: %w", len(r.waiting), ErrFull))
		return
	}
	said := r.now()
	for _, s := range signals {
		if s.At.IsZero() {
			s.At = said
		}
		r.waiting = append(r.waiting, s)
	}
	r.hurry()
	if !r.working {
		r.working = true
		r.work.Go(r.drain)
	}
}

func (r *Recorder) hurry() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close waits until what was recorded is in the store, or given up.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closing = true
	r.hurry()
	r.mu.Unlock()
	r.work.Wait()
	r.mu.Lock()
	r.closing = false
	r.mu.Unlock()
}

// Flush waits until what was recorded before is in the store, or ctx ends.
func (r *Recorder) Flush(ctx context.Context) error {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		r.mu.Lock()
		idle := !r.working
		r.hurry()
		r.mu.Unlock()
		if idle {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("findings wait to be kept: %w", context.Cause(ctx))
		}
	}
}

// drain works until nothing waits.
func (r *Recorder) drain() {
	again := time.NewTimer(recordAgain)
	defer again.Stop()
	told := false
	for {
		r.mu.Lock()
		batch, last := slices.Clone(r.waiting), r.closing
		r.waiting = nil
		r.working = len(batch) > 0
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		err := r.keep(batch)
		if err == nil {
			told = false
			continue
		}
		if last || !told {
			r.fault(err)
			told = true
		}
		if last {
			continue // given up: whoever closes waits for us
		}
		r.mu.Lock()
		r.waiting = append(batch, r.waiting...)
		r.mu.Unlock()
		again.Reset(recordAgain)
		select {
		case <-again.C:
		case <-r.wake:
		}
	}
}

func (r *Recorder) keep(batch []Signal) (err error) {
	for range recordTries {
		if err = r.try(batch); err == nil {
			break
		}
	}
	return err
}

// try puts a batch into the book. One signal that does not fit keeps no other out.
func (r *Recorder) try(batch []Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	at := r.now().UTC()
	var unfit []error
	err := r.store.Update(ctx, at, func(b *Book) error {
		unfit = nil
		for _, s := range batch {
			unfit = append(unfit, b.Apply(at, s))
		}
		return nil
	})
	if problem := errors.Join(unfit...); err == nil && problem != nil {
		r.fault(problem)
	}
	return err
}
