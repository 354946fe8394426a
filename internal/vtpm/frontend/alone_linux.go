package frontend

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// An aloneStream is a stream over a socket for a process that has one TPM to serve, and
// one processor to do it ([Config].Alone).
//
// Between the commands of a client that is quick it sleeps in the kernel and keeps the
// processor of Go's scheduler, which is not told; else it waits in the poller. A sleep
// that Go is told of has its monitor thread wake when it ends, and look around every
// 20 us for a while: several times the cost of a command that comes by itself.
type aloneStream struct {
	polled
	clients *atomic.Int32

	// Of the serving goroutine:
	fd      int       // of polled.file
	quick   bool      // the last wait was shorter than hold
	yielded time.Time // when it last let others run
	slept   time.Time // and those, too, that wait for the poller
	event   pollEvent
}

// pollEvent is struct pollfd of poll(2).
type pollEvent struct {
	fd      int32
	events  int16
	revents int16
}

const pollIn = 1 // POLLIN

// hold is how long a client may be silent while it has the processor, and others, such as
// one who connects, have to wait: two ticks of the kernel's clock.
const hold = 8 * time.Millisecond

// sleepTime is how long a client that never lets it wait may keep the others from the
// poller.
const sleepTime = 100 * time.Millisecond

// newAloneStream takes over the socket of conn, or returns nil if that is none. Clients is
// how many the server has.
func newAloneStream(conn net.Conn, clients *atomic.Int32, now func() time.Time) stream {
	s := &aloneStream{polled: polled{now: now, patience: sendTime}, clients: clients}
	if !s.take(conn) {
		return nil
	}
	// The descriptor is this file's until Close, which the serving goroutine calls.
	_ = s.raw.Control(func(fd uintptr) { s.fd = int(fd) }) // fails for a closed file
	return s
}

// Read waits for the client with the processor while it is quick, and gives that away as
// soon as the client is silent, another has come, or others have waited for yieldTime.
func (s *aloneStream) Read(b []byte, end time.Time) (int, error) {
	begin := s.now()
	if s.mayHold(begin, end) && s.sleep() {
		n, err := receiveNow(s.fd, b)
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case !errors.Is(err, syscall.EAGAIN):
			return n, err
		}
	}
	n, err := s.read(b, end)
	s.yielded = s.now()
	s.quick = s.yielded.Sub(begin) < hold
	s.yield()
	return n, err
}

func (s *aloneStream) mayHold(now, end time.Time) bool {
	return s.quick && s.clients.Load() == 1 && now.Sub(s.yielded) < yieldTime && (end.IsZero() || now.Before(end))
}

// yield lets others run where the read from the poller has not: there was something to
// read. Those that wait for the poller run when nobody else can, which is by a sleep.
func (s *aloneStream) yield() {
	switch {
	case s.waited:
		s.slept = s.yielded
	case s.yielded.Sub(s.slept) < sleepTime:
		runtime.Gosched()
	default:
		time.Sleep(time.Microsecond) // until the poller has been asked
		s.slept = s.now()
	}
}

// sleep waits until something can be read, for at most hold; a signal ends it, too: by
// one Go asks for the processor. That time is not the client's to change, as a socket's
// own are. One that ended before the kernel's next tick would have the kernel set its
// clock for each command, which takes as long as many a command.
func (s *aloneStream) sleep() bool {
	s.event = pollEvent{fd: int32(s.fd), events: pollIn} // a descriptor
	return waitFor(&s.event, hold) == 1
}

// Write sends b at once where the socket has room for it, as it has for a client that
// takes its answers; else it waits in the poller.
func (s *aloneStream) Write(b []byte) (int, error) {
	n, err := send(s.fd, b)
	if n == len(b) || err != nil && !errors.Is(err, syscall.EAGAIN) {
		return n, err
	}
	rest, err := s.write(b[n:])
	return n + rest, err
}

func (s *aloneStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	s.end()
}

// Close ends the connection.
func (s *aloneStream) Close() error { return s.file.Close() }
