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
type Threads struct{ free chan struct{} }

// NewThreads returns places for n connections, to be shared by the servers of a
// process.
func NewThreads(n int) *Threads { return &Threads{make(chan struct{}, n)} }

func (t *Threads) take() bool {
	select {
	case t.free <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *Threads) release() { <-t.free }
