package frontend

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// quiet is how long a connection may be silent on a thread of its own.
const quiet = 20 * time.Millisecond

// yieldTime is how long a busy connection may hold its processor.
const yieldTime = 4 * time.Millisecond

// A threadStream is a stream over a socket that reads on a thread while the client
// is busy, and in Go's poller while it is not.
type threadStream struct {
	polled
	threads *Threads

	// Of the serving goroutine:
	yielded time.Time

	wait    atomic.Uint64 // waits on the thread that began and that ended
	evicted atomic.Bool

	// The socket in blocking mode, with a place of threads; or -1. The serving goroutine
	// writes it, under polled.mu.
	fd int
}

// newThreadStream takes over the socket of conn, or returns nil if that is none.
func newThreadStream(conn net.Conn, threads *Threads, now func() time.Time) stream {
	s := &threadStream{polled: polled{now: now, patience: sendTime}, threads: threads, fd: -1}
	if !s.take(conn) {
		return nil
	}
	return s
}

// park gives the place back.
func (s *threadStream) park() error {
	if err := s.poll(s.fd); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fd = -1
	s.threads.release(s)
	return nil
}

// unpark takes the socket out of the poller, if there is a place. A server that stops
// has no use for a thread, which would not hear of it.
func (s *threadStream) unpark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || !s.threads.take() {
		return
	}
	fd := dup(s.raw)
	if fd < 0 {
		s.threads.release(s)
		return
	}
	s.file.Close()
	s.fd, s.file, s.raw = fd, nil, nil
	_ = syscall.SetNonblock(fd, false) // fails for no socket
	wait := syscall.NsecToTimeval(quiet.Nanoseconds())
	// Without it a client that falls silent would keep its place; it would be the
	// only one to notice.
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait)
	s.threads.watch(s)
}

// Read reads on the thread or waits in the poller.
func (s *threadStream) Read(b []byte, end time.Time) (int, error) {
	if s.fd >= 0 {
		// A deadline is met in the poller, which the read comes to when the client is quiet.
		now := s.now()
		if !end.IsZero() && now.After(end) {
			return 0, os.ErrDeadlineExceeded
		}
		s.yield(now)
		n, err := s.receive(b)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == nil && s.evicted.Load():
			return 0, errHeld
		case err == nil:
			return 0, io.EOF
		case !errors.Is(err, syscall.EAGAIN):
			return 0, err
		}
		if err := s.park(); err != nil {
			return 0, err
		}
	}
	n, err := s.read(b, end)
	if err == nil {
		s.unpark()
	}
	return n, err
}

// receive reads on the thread. Who watches is told of the wait, which should end by itself.
func (s *threadStream) receive(b []byte) (int, error) {
	s.wait.Add(1)
	defer s.wait.Add(1)
	return receive(s.fd, b, 0)
}

// errHeld is a client that has changed how long its socket may wait.
var errHeld = errors.New("the client holds a thread: it waits longer than it was told to")

func (s *threadStream) waits() uint64 { return s.wait.Load() }

func (s *threadStream) evict(wait uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 && s.wait.Load() == wait {
		s.evicted.Store(true)
		s.wake()
	}
}

// yield lets other goroutines run, now and then: what holds a processor for longer
// than 10 ms, be it by system calls that each end at once, has Go's monitor wake
// every 20 us to take it away.
func (s *threadStream) yield(now time.Time) {
	if now.Sub(s.yielded) > yieldTime {
		s.yielded = now
		runtime.Gosched()
	}
}

// Write sends b at once where the socket has room for it, as it has for a client
// that takes its answers; else it waits in the poller.
func (s *threadStream) Write(b []byte) (int, error) {
	if s.fd >= 0 {
		n, err := send(s.fd, b)
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
		if err := s.park(); err != nil {
			return n, err
		}
		rest, err := s.Write(b[n:])
		return n + rest, err
	}
	return s.write(b)
}

func (s *threadStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.wake()
}

// wake ends a read, wherever it waits.
func (s *threadStream) wake() {
	if s.fd >= 0 {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_RD) // or the client has gone
	}
	s.end()
}

// Close ends the connection and gives its place back.
func (s *threadStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		s.threads.release(s)
		fd := s.fd
		s.fd = -1
		return syscall.Close(fd)
	}
	return s.file.Close()
}
