package frontend

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// polled is a socket in Go's poller, read and written by system calls of its own: those
// of package net go by the file system, and wait for nothing but the poller.
type polled struct {
	now func() time.Time

	// Of the serving goroutine:
	raw syscall.RawConn // of file
	// These give RawConn.Read and Write what they do; bound once.
	tryRead, trySend func(uintptr) bool
	buf              []byte // what they do it to, and what came of it
	n                int
	err              error
	patience         time.Duration // how long a write may take

	mu      sync.Mutex // guards all below, which the serving goroutine writes
	file    *os.File   // nil while the socket is not in the poller
	stopped bool
}

// take begins to serve the socket of conn, and closes that; false, and conn as it was, if
// it is none.
func (p *polled) take(conn net.Conn) bool {
	raw := socketOf(conn)
	if raw == nil {
		return false
	}
	p.tryRead, p.trySend = p.readOnce, p.sendOnce
	fd := dup(raw)
	if p.poll(fd) != nil {
		syscall.Close(fd)
		return false
	}
	conn.Close()
	return true
}

// socketOf returns the socket of conn; nil if that is none, or no longer.
func socketOf(conn net.Conn) syscall.RawConn {
	switch conn.(type) {
	case *net.UnixConn, *net.TCPConn:
	default:
		return nil // a wrapper has its own Read and Write
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	return raw
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

// poll hands a socket to the poller.
func (p *polled) poll(fd int) error {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file, p.raw = f, raw
	if p.stopped {
		p.end()
	}
	return nil
}

// read reads what is there, or waits for it in the poller.
func (p *polled) read(b []byte, end time.Time) (int, error) {
	if err := p.readDeadline(end); err != nil {
		return 0, err
	}
	p.buf, p.n, p.err = b, 0, nil
	err := p.raw.Read(p.tryRead)
	if err = errors.Join(err, p.err); err != nil {
		return 0, err
	}
	if p.n == 0 {
		return 0, io.EOF
	}
	return p.n, nil
}

// readOnce reads if something is there; false is to be called again when it is. Not
// by the socket's mode: who passed it may still hold it, and take O_NONBLOCK away.
func (p *polled) readOnce(fd uintptr) bool {
	p.n, p.err = receive(int(fd), p.buf, syscall.MSG_DONTWAIT)
	if errors.Is(p.err, syscall.EAGAIN) {
		p.err = nil
		return false
	}
	return true
}

func (p *polled) readDeadline(end time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return os.ErrDeadlineExceeded
	}
	return p.file.SetReadDeadline(end)
}

// write writes all of b, and waits in the poller for room.
func (p *polled) write(b []byte) (int, error) {
	p.buf, p.n, p.err = b, 0, nil
	if err := p.writeDeadline(); err != nil {
		return 0, err
	}
	err := p.raw.Write(p.trySend)
	return p.n, errors.Join(err, p.err)
}

// sendOnce sends as much as there is room for; false is to be called again when
// there is more.
func (p *polled) sendOnce(fd uintptr) bool {
	n, err := send(int(fd), p.buf[p.n:])
	p.n += n
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	p.err = err
	return err != nil || p.n == len(p.buf)
}

func (p *polled) writeDeadline() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil // stop has set it
	}
	return p.file.SetWriteDeadline(p.now().Add(p.patience))
}

// end ends reads now and writes soon.
func (p *polled) end() {
	if p.file != nil {
		now := p.now()
		p.file.SetReadDeadline(now)
		p.file.SetWriteDeadline(now.Add(stopTime))
	}
}
