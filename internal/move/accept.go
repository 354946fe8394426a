package move

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// maxHandshake is how long a client may take to show its ticket, and maxStrangers how many may
// be about to at a time: the one that came first makes room for the next.
const (
	maxHandshake = 10 * time.Second
	maxStrangers = 64
)

// Accept waits for a client that has the ticket; others are sent away, and hold nobody up
// unless more than 64 of them come within one handshake. It
// ends with ctx, and the listener, which is one of TCP, with it.
func Accept(ctx context.Context, l net.Listener, cfg *tls.Config, now func() time.Time) (*Link, error) {
	timed, ok := l.(interface{ SetDeadline(t time.Time) error })
	if !ok {
		return nil, errors.New("a listener without deadlines cannot be left again")
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	h := &hall{cfg: cfg, enough: func() { timed.SetDeadline(time.Unix(1, 0)) }} //nolint:errcheck // it is closed then
	err := h.open(ctx, l, now)
	if conn := h.clear(); conn != nil {
		// Nobody sets it any more.
		if err := timed.SetDeadline(time.Time{}); err != nil && ctx.Err() == nil {
			return nil, errors.Join(err, conn.Close())
		}
		return NewLink(conn), nil
	}
	return nil, errors.Join(err, context.Cause(ctx))
}

// A hall has the clients that are about to show a ticket.
type hall struct {
	cfg    *tls.Config
	enough func() // ends the wait for another
	busy   sync.WaitGroup
	mu     sync.Mutex // guards what follows
	inside []net.Conn // the first first
	first  *tls.Conn  // that has shown it
	closed bool
}

// open lets clients in until one has shown the ticket.
func (h *hall) open(ctx context.Context, l net.Listener, now func() time.Time) error {
	for {
		raw, err := l.Accept()
		if err != nil {
			return err
		}
		if !h.enter(raw) {
			return raw.Close()
		}
		h.busy.Go(func() {
			conn := tls.Server(raw, h.cfg)
			err := raw.SetDeadline(now().Add(maxHandshake))
			if err == nil {
				err = conn.HandshakeContext(ctx)
			}
			if err == nil {
				err = raw.SetDeadline(time.Time{})
			}
			h.leave(raw, conn, err == nil)
		})
	}
}

// enter takes a client in; false once one has shown the ticket.
func (h *hall) enter(raw net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first != nil {
		return false
	}
	if len(h.inside) == maxStrangers {
		h.inside[0].Close()
		h.inside = h.inside[1:]
	}
	h.inside = append(h.inside, raw)
	return true
}

// leave ends the wait of a client, and of all where it is the first that has shown the ticket.
func (h *hall) leave(raw net.Conn, conn *tls.Conn, shown bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.inside, raw)
	if i < 0 || !shown || h.first != nil || h.closed {
		raw.Close()
	} else {
		h.first = conn
		h.enough()
	}
	if i >= 0 {
		h.inside = slices.Delete(h.inside, i, i+1)
	}
}

// clear sends everybody else away, and returns the one that has shown the ticket.
func (h *hall) clear() *tls.Conn {
	h.mu.Lock()
	h.closed = true
	for _, raw := range h.inside {
		raw.Close()
	}
	h.mu.Unlock()
	h.busy.Wait()
	return h.first
}
