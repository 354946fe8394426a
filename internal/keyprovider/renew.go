package keyprovider

import (
	"context"
	"encoding/binary"
	"io"
	"time"
)

// A Renewal says how [KeepRenewed] works.
type Renewal struct {
	// Random spreads the requests of many processes; required.
	Random io.Reader
	// Failed is told each failure and when the next try is; nil tells nobody.
	Failed func(err error, again time.Duration)
}

// The pauses of a renewal.
const (
	shortestPause = time.Second // however little is left of a credential
	firstRetry    = 5 * time.Second
	longestRetry  = 5 * time.Minute
	// lookAgain is for a credential that does not end: its file may get one that does.
	lookAgain = time.Hour
)

// A Kept provider prolongs its credential until it is closed, for processes that live
// long and ask seldom. It is safe for concurrent use.
type Kept struct {
	*Opened
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing is renewed any more
}

// KeepRenewed has the credential of p prolonged from now on, where p has one that ends.
// It takes p over: who closes the result closes p.
func KeepRenewed(p *Opened, r Renewal) *Kept {
	k := &Kept{Opened: p, cancel: func() {}, done: make(chan struct{})}
	if _, ok := p.holder.(renewer); !ok {
		close(k.done)
		return k
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	go func() {
		defer close(k.done)
		r.run(ctx, p)
	}()
	return k
}

// run renews until ctx ends.
func (r *Renewal) run(ctx context.Context, p *Opened) {
	retry := firstRetry
	for {
		next, err := p.Renew(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && next == 0:
			next, retry = retry, min(2*retry, longestRetry)
		case next == 0:
			next, retry = lookAgain, firstRetry
		default:
			retry = firstRetry
		}
		next = max(r.spread(next), shortestPause)
		if err != nil && r.Failed != nil {
			r.Failed(err, next)
		}
		t := time.NewTimer(next)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// spread takes up to a fifth off a pause: processes that started together do not ask
// together for ever.
func (r *Renewal) spread(d time.Duration) time.Duration {
	var b [2]byte
	if _, err := io.ReadFull(r.Random, b[:]); err != nil {
		return d
	}
	return d - d/5*time.Duration(binary.BigEndian.Uint16(b[:]))/0xffff
}

// Close stops renewing, waits for that, and closes the provider.
func (k *Kept) Close() error {
	k.cancel()
	<-k.done
	return k.Opened.Close()
}
