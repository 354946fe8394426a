package frontend

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
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
	threads *Threads
	now     func() time.Time

	// Of the serving goroutine:
	raw syscall.RawConn // of file
	// These give RawConn.Read and Write what they do; bound once.
	tryRead, trySend func(uintptr) bool
	buf              []byte // what they do it to, and what came of it
	n                int
	err              error
	yielded          time.Time
	timed            bool          // a read on the thread ends after quiet
	patience         time.Duration // how long Write may take

	wait    atomic.Uint64 // waits on the thread that began and that ended
	evicted atomic.Bool

	mu      sync.Mutex // guards all below, which the serving goroutine writes
	fd      int        // the socket in blocking mode, with a place of threads; or -1
	file    *os.File   // the socket in the poller; or nil
	stopped bool
}

// newThreadStream takes over the socket of conn, or returns nil if that is none.
func newThreadStream(conn net.Conn, threads *Threads, now func() time.Time) stream {
	switch conn.(type) {
	case *net.UnixConn, *net.TCPConn:
	default:
		return nil // a wrapper has its own Read and Write
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	s := &threadStream{threads: threads, now: now, fd: -1, patience: sendTime}
	fd := dup(raw)
	if s.poll(fd) != nil {
		syscall.Close(fd)
		return nil
	}
	conn.Close()
	s.tryRead, s.trySend = s.readOnce, s.sendOnce
	return s
}

// dup returns a second descriptor of a socket; -1 when there is none to be had.
func dup(raw syscall.RawConn) int {
	fd := -1
	raw.Control(func(old uintptr) {
		r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if errno == 0 {
			fd = int(r) // a descriptor
		}
	})
	return fd
}

// poll hands the socket to the poller.
func (s *threadStream) poll(fd int) error {
	if fd < 0 {
		return syscall.EBADF
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "connection")
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fd, s.file, s.raw = -1, f, raw
	if s.stopped {
		s.end()
	}
	return nil
}

// park gives the place back.
func (s *threadStream) park() error {
	if err := s.poll(s.fd); err != nil {
		return err
	}
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
	if s.timed = false; !s.threads.kept {
		s.limit()
	}
}

// limit has reads on the thread end when the client is quiet.
func (s *threadStream) limit() {
	wait := syscall.NsecToTimeval(quiet.Nanoseconds())
	// Without it a client that falls silent would keep its place; it would be the
	// only one to notice.
	_ = syscall.SetsockoptTimeval(s.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait)
	s.timed = true
	s.threads.watch(s)
}

// Read reads on the thread or waits in the poller.
func (s *threadStream) Read(b []byte, end time.Time) (int, error) {
	if s.fd >= 0 {
		if err := s.bound(end); err != nil {
			return 0, err
		}
		s.yield()
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
	if err := s.readDeadline(end); err != nil {
		return 0, err
	}
	s.buf, s.n, s.err = b, 0, nil
	err := s.raw.Read(s.tryRead)
	if err = errors.Join(err, s.err); err != nil {
		return 0, err
	}
	if s.n == 0 {
		return 0, io.EOF
	}
	s.unpark()
	return s.n, nil
}

// receive reads on the thread. Who watches is told of a wait that should end by itself.
func (s *threadStream) receive(b []byte) (int, error) {
	if !s.timed {
		return receive(s.fd, b, 0)
	}
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
		s.end()
	}
}

// bound holds a read on the thread to its deadline, if it has one: that is met in
// the poller, which the read comes to when the client is quiet.
func (s *threadStream) bound(end time.Time) error {
	if end.IsZero() {
		return nil
	}
	if s.now().After(end) {
		return os.ErrDeadlineExceeded
	}
	if !s.timed {
		s.limit()
	}
	return nil
}

// yield lets other goroutines run, now and then: what holds a processor for longer
// than 10 ms, be it by system calls that each end at once, has Go's monitor wake
// every 20 us to take it away.
func (s *threadStream) yield() {
	if now := s.now(); now.Sub(s.yielded) > yieldTime {
		s.yielded = now
		runtime.Gosched()
	}
}

// readOnce reads if something is there; false is to be called again when it is. Not
// by the socket's mode: who passed it may still hold it, and take O_NONBLOCK away.
func (s *threadStream) readOnce(fd uintptr) bool {
	s.n, s.err = receive(int(fd), s.buf, syscall.MSG_DONTWAIT)
	if errors.Is(s.err, syscall.EAGAIN) {
		s.err = nil
		return false
	}
	return true
}

func (s *threadStream) readDeadline(end time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return os.ErrDeadlineExceeded
	}
	return s.file.SetReadDeadline(end)
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
	s.buf, s.n, s.err = b, 0, nil
	if err := s.writeDeadline(); err != nil {
		return 0, err
	}
	err := s.raw.Write(s.trySend)
	return s.n, errors.Join(err, s.err)
}

// sendOnce sends as much as there is room for; false is to be called again when
// there is more.
func (s *threadStream) sendOnce(fd uintptr) bool {
	n, err := send(int(fd), s.buf[s.n:])
	s.n += n
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	s.err = err
	return err != nil || s.n == len(s.buf)
}

func (s *threadStream) writeDeadline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil // stop has set it
	}
	return s.file.SetWriteDeadline(s.now().Add(s.patience))
}

func (s *threadStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.end()
}

// end wakes the goroutine that reads, wherever it does.
func (s *threadStream) end() {
	if s.fd >= 0 {
		_ = syscall.Shutdown(s.fd, syscall.SHUT_RD) // or the client has gone
	}
	if s.file != nil {
		now := s.now()
		s.file.SetReadDeadline(now)
		s.file.SetWriteDeadline(now.Add(stopTime))
	}
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
