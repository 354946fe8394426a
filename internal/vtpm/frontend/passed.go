//go:build unix

package frontend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// maxPassed bounds the files that a client has passed and not used.
const maxPassed = 4

// errFiles ends a connection whose client passes files as if they cost nothing.
var errFiles = errors.New("client passes too many files")

// A passedFile came with some of the bytes from..to of the stream: the kernel ends
// a read behind the message that files came with, not before it (unix(7)).
type passedFile struct {
	fd       int
	from, to uint64
}

// A passStream is a stream over a unix socket whose client may pass files.
type passStream struct {
	connStream
	unix  *net.UnixConn
	total uint64 // bytes read
	files []passedFile
}

// Read reads data and keeps the files that came with it.
func (s *passStream) Read(b []byte, end time.Time) (int, error) {
	s.readBy(end)
	var oob [64]byte // room for maxPassed descriptors in one message; of more, MSG_CTRUNC tells
	n, oobn, flags, _, err := s.unix.ReadMsgUnix(b, oob[:])
	from := s.total
	s.total += uint64(max(n, 0))
	passErr := s.keep(oob[:oobn], from)
	if flags&syscall.MSG_CTRUNC != 0 || len(s.files) > maxPassed {
		passErr = errFiles
	}
	if passErr != nil {
		return 0, passErr // and Close closes what came
	}
	return max(n, 0), err
}

// keep notes the descriptors of a control message.
func (s *passStream) keep(oob []byte, from uint64) error {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for i := range messages {
		if h := messages[i].Header; h.Level != syscall.SOL_SOCKET || h.Type != syscall.SCM_RIGHTS {
			continue
		}
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return fmt.Errorf("control message: %w", err)
		}
		for _, fd := range fds {
			s.files = append(s.files, passedFile{fd, from, s.total})
		}
	}
	return nil
}

// take returns the one file that came with the bytes before used; all others that
// did are closed, and more than one is none.
func (s *passStream) take(used uint64) (int, error) {
	fd, count := -1, 0
	for len(s.files) > 0 && s.files[0].from < used {
		if fd >= 0 {
			syscall.Close(fd)
		}
		fd = s.files[0].fd
		s.files = s.files[1:]
		count++
	}
	if count == 1 {
		return fd, nil
	}
	if fd >= 0 {
		syscall.Close(fd)
	}
	return -1, fmt.Errorf("%d files came with the command, want one", count)
}

// drop closes the files of bytes that have been used.
func (s *passStream) drop(used uint64) {
	for len(s.files) > 0 && s.files[0].to <= used {
		syscall.Close(s.files[0].fd)
		s.files = s.files[1:]
	}
}

// Close ends the connection and closes what nobody took.
func (s *passStream) Close() error {
	s.drop(s.total)
	return s.connStream.Close()
}

// takeFile returns the file that came with the command that was just read.
func (l *link) takeFile() (int, error) {
	s, ok := l.stream.(*passStream)
	if !ok {
		return -1, errors.New("the control channel is no unix socket")
	}
	return s.take(s.total - uint64(l.end-l.start))
}

// dropFiles closes the files that came with commands that did not want them.
func (l *link) dropFiles() {
	if s, ok := l.stream.(*passStream); ok {
		s.drop(s.total - uint64(l.end-l.start))
	}
}

// connOf makes a connection of a descriptor that a client passed, which must be a
// connected stream socket: whoever passes a file has opened it, and what a read
// of another kind does, this process may not do with it. The descriptor is used up.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "passed file")
	defer f.Close()
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("the file is no socket: %w", err)
	}
	if kind != syscall.SOCK_STREAM {
		return nil, errors.New("the file is no stream socket")
	}
	if _, err := syscall.Getpeername(fd); err != nil {
		return nil, fmt.Errorf("the socket is not connected: %w", err)
	}
	return net.FileConn(f)
}
