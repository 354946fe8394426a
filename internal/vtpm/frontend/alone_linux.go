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

// An aloneStream is a stream over a socket for a process that has one TPM to serve, and
// a processor to spare ([Config].Alone).
//
// Between the commands of a client that is quick it sleeps in the kernel and holds a
// processor of Go's scheduler, which is not told, as a goroutine that computes would;
// else it waits in the poller. A sleep that Go is told of has its monitor thread wake
// when it ends, and look around every 20 us for a while: several times the cost of a
// command that comes by itself.
type aloneStream struct {
	clients *atomic.Int32
	now     func() time.Time

	// Of the serving goroutine:
	gate     *gate
	bell     *bell
	quick    int           // waits in the poller, in a row, that were brief
	holds    bool          // a processor
	more     bool          // may be there: as much was read as there was room for
	patience time.Duration // how long Write may take

	stopped atomic.Bool
	mu      sync.Mutex // guards what follows, which the serving goroutine writes
	fd      int        // -1 when it is closed
	writing bool       // it waits for room, or did when it waited last
	end     time.Time  // of writes, once it is stopped
}

const (
	// brief is how long a client may be silent that is to be taken for quick. Who holds a
	// processor for it looks at no clock: the second signal in one silence, 20 to 40 ms
	// after its beginning where nobody collects garbage, has him give it back.
	brief = 8 * time.Millisecond
	// trusted is after how many waits that were brief a client is taken for quick.
	trusted = 3
)

// newAloneStream takes over the socket of conn, or returns nil if that is none. Clients is
// how many the server has.
func newAloneStream(conn net.Conn, clients *atomic.Int32, now func() time.Time) stream {
	raw := socketOf(conn)
	if raw == nil {
		return nil
	}
	s := &aloneStream{clients: clients, now: now, patience: sendTime, fd: dup(raw)}
	if s.fd < 0 {
		return nil
	}
	var err error
	if s.gate, err = newGate(s.fd); err != nil {
		syscall.Close(s.fd)
		return nil
	}
	if s.bell, err = newBell(s.fd); err != nil {
		s.gate.file.Close()
		syscall.Close(s.fd)
		return nil
	}
	conn.Close()
	return s
}

// Read waits for the client with a processor while it is quick and the only one, and
// without as soon as it is silent.
func (s *aloneStream) Read(b []byte, end time.Time) (int, error) {
	signals := 0
	for !s.stopped.Load() {
		holds := s.quick >= trusted && end.IsZero() && s.clients.Load() == 1
		if holds != s.holds {
			s.change(holds)
		}
		if holds {
			if !s.more && !s.bell.wait() {
				if signals++; signals > 1 {
					s.quick = 0
				}
				runtime.Gosched()
				continue
			}
		} else if err := s.waitIn(end); err != nil {
			return 0, err
		}
		n, err := receiveOwn(s.fd, b)
		s.more = n == len(b)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
	}
	return 0, os.ErrDeadlineExceeded
}

// waitIn waits in the poller for something to read, and counts whether that was brief.
func (s *aloneStream) waitIn(end time.Time) error {
	begin := s.now()
	err := s.wait(syscall.EPOLLIN, end)
	if s.quick++; err != nil || s.now().Sub(begin) > brief {
		s.quick = 0
	}
	return err
}

// change begins or ends to hold a processor. Who begins has listened to the poller just
// before; another thread must for all else. A goroutine that begins has one look for
// work, and end up there.
func (s *aloneStream) change(holds bool) {
	if s.holds = holds; holds {
		go func() {}()
	}
}

// wait waits in the poller until the socket has one of the events: for something to read
// until end, for room until then and, once the stream is stopped, no longer than that
// allows.
func (s *aloneStream) wait(events uint32, end time.Time) error {
	if err := s.waitUntil(events == syscall.EPOLLOUT, end); err != nil {
		return err
	}
	return s.gate.wait(events)
}

func (s *aloneStream) waitUntil(writing bool, end time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing = writing; s.stopped.Load() {
		if !writing {
			return os.ErrDeadlineExceeded
		}
		end = s.end
	}
	return s.gate.file.SetReadDeadline(end)
}

// Write sends b at once where the socket has room for it, as it has for a client that
// takes its answers; else it waits in the poller.
func (s *aloneStream) Write(b []byte) (int, error) {
	n, err := send(s.fd, b)
	if n == len(b) {
		return n, nil
	}
	end := s.now().Add(s.patience)
	for err == nil || errors.Is(err, syscall.EAGAIN) {
		if err := s.wait(syscall.EPOLLOUT, end); err != nil {
			return n, err
		}
		var more int
		more, err = send(s.fd, b[n:])
		if n += more; n == len(b) {
			return n, nil
		}
	}
	return n, err
}

func (s *aloneStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return
	}
	end := s.now()
	s.end = end.Add(stopTime)
	s.stopped.Store(true)
	if s.writing {
		end = s.end
	}
	s.gate.file.SetReadDeadline(end)
	_ = syscall.Shutdown(s.fd, syscall.SHUT_RD) // ends a sleep; or the client has gone
}

// Close ends the connection.
func (s *aloneStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(s.gate.file.Close(), s.bell.close(), syscall.Close(s.fd))
	s.fd = -1
	return err
}
