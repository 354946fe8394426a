package frontend

import (
	"net"
	"sync"
	"time"
)

// sendTime is how long a client may take to accept an answer.
const sendTime = 10 * time.Second

// A stream is the connection below a link. One goroutine reads and writes.
type stream interface {
	// Read reads what is there, or waits for it until end; the zero time is for as
	// long as it takes.
	Read(b []byte, end time.Time) (int, error)
	// Write writes all of b, or gives up after sendTime.
	Write(b []byte) (int, error)
	// stop ends reads now and writes soon. Any goroutine may call it.
	stop()
	Close() error
}

// A connStream is a stream over any connection.
type connStream struct {
	conn net.Conn
	now  func() time.Time

	mu      sync.Mutex // guards stopped, and the deadlines against it
	stopped bool
	end     time.Time // the deadline of reads; only the serving goroutine uses it
}

// Read waits for data until end.
func (s *connStream) Read(b []byte, end time.Time) (int, error) {
	s.readBy(end)
	return s.conn.Read(b)
}

// readBy sets the deadline of reads, if it is another than before.
func (s *connStream) readBy(end time.Time) {
	if s.end.Equal(end) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.end = end
		s.conn.SetReadDeadline(end)
	}
}

// Write gives the client sendTime.
func (s *connStream) Write(b []byte) (int, error) {
	s.mu.Lock()
	if !s.stopped {
		s.conn.SetWriteDeadline(s.now().Add(sendTime))
	}
	s.mu.Unlock()
	return s.conn.Write(b)
}

func (s *connStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	now := s.now()
	s.conn.SetReadDeadline(now)
	s.conn.SetWriteDeadline(now.Add(stopTime))
}

// Close ends the connection.
func (s *connStream) Close() error { return s.conn.Close() }

// Threads are places for connections whose reads block a thread of the operating
// system. A connection in use has one, so that a cheap command costs the system
// calls that carry it and nothing of Go's poller, which takes longer than many a
// command; one that is silent for a moment gives its place back and waits in the
// poller, where thousands of TPMs cost no thread. Whoever finds no place stays
// there.
type Threads struct {
	free  chan struct{}
	every time.Duration // how often those who have a place are looked at

	mu   sync.Mutex         // guards what follows
	held map[holder]sighted // who has a place and is watched
	eyes *time.Timer        // the next look; nil while nobody is
}

// A holder is a connection that has a place.
type holder interface {
	// waits returns a number that is odd while the connection waits on its thread, and
	// never the same for two waits.
	waits() uint64
	// evict ends the wait of that number, and with it the connection.
	evict(wait uint64)
}

// sighted is how a holder was found: at which wait, and how often at that one.
type sighted struct {
	wait  uint64
	times int
}

// A wait on a thread ends by itself after [quiet], unless the client, who may have the
// socket too, has changed that. It is ended when it was seen at so many looks: one
// may come late after this process was stopped for a while.
const (
	lookTime = 2 * time.Second
	maxSeen  = 3
)

// NewThreads returns places for n connections, to be shared by the servers of a
// process.
func NewThreads(n int) *Threads {
	return &Threads{free: make(chan struct{}, n), every: lookTime, held: map[holder]sighted{}}
}

// take gives a place, if there is one.
func (t *Threads) take() bool {
	select {
	case t.free <- struct{}{}:
		return true
	default:
		return false
	}
}

// watch begins to look at h, whose waits end by themselves, until it gives its place back.
func (t *Threads) watch(h holder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[h] = sighted{}
	if t.eyes == nil {
		t.eyes = time.AfterFunc(t.every, t.look)
	}
}

// release takes the place back.
func (t *Threads) release(h holder) {
	t.mu.Lock()
	delete(t.held, h)
	t.mu.Unlock()
	<-t.free
}

// look ends the waits that do not end by themselves.
func (t *Threads) look() {
	stuck := map[holder]uint64{}
	t.mu.Lock()
	for h, s := range t.held {
		if now := h.waits(); now != s.wait || now%2 == 0 {
			s = sighted{wait: now}
		}
		s.times++
		t.held[h] = s
		if s.wait%2 == 1 && s.times >= maxSeen {
			stuck[h] = s.wait
		}
	}
	t.eyes = nil
	if len(t.held) > 0 {
		t.eyes = time.AfterFunc(t.every, t.look)
	}
	t.mu.Unlock()
	for h, wait := range stuck {
		h.evict(wait)
	}
}
