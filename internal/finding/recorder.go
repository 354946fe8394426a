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
)

// A Recorder takes signals to a store in order, without holding up who gives them: the
// book is written by many processes, and durably. It is safe for concurrent use.
type Recorder struct {
	store *Store
	now   func() time.Time
	fault func(error)

	mu      sync.Mutex // guards what follows
	waiting []Signal
	working bool
	work    sync.WaitGroup
}

// NewRecorder makes a recorder; fault is told of each signal that could not be kept.
func NewRecorder(s *Store, now func() time.Time, fault func(error)) *Recorder {
	return &Recorder{store: s, now: now, fault: fault}
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
	r.waiting = append(r.waiting, signals...)
	if !r.working {
		r.working = true
		r.work.Go(r.drain)
	}
}

// Close waits until what was recorded is in the store, or given up.
func (r *Recorder) Close() { r.work.Wait() }

// drain works until nothing waits.
func (r *Recorder) drain() {
	for {
		r.mu.Lock()
		batch := slices.Clone(r.waiting)
		r.waiting = nil
		r.working = len(batch) > 0
		r.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		r.keep(batch)
	}
}

func (r *Recorder) keep(batch []Signal) {
	var err error
	for range recordTries {
		if err = r.try(batch); err == nil {
			return
		}
	}
	r.fault(err)
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
