package frontend

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// A gate waits in Go's poller for one socket that is not in it: by an epoll instance that
// is. The socket wakes it only while somebody waits, and else costs the poller nothing,
// nor a thread that listens to that.
type gate struct {
	socket int

	// Of the one who waits:
	file  *os.File // the instance
	raw   syscall.RawConn
	try   func(uintptr) bool // take, bound once
	event syscall.EpollEvent
}

// newGate makes the gate of a socket.
func newGate(socket int) (*gate, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or package os keeps it from the poller
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	g := &gate{socket: socket, file: os.NewFile(uintptr(fd), "gate")}
	g.try = g.take
	if g.raw, err = g.file.SyscallConn(); err == nil {
		err = os.NewSyscallError("epoll_ctl", syscall.EpollCtl(fd, syscall.EPOLL_CTL_ADD, socket, &syscall.EpollEvent{}))
	}
	if err == nil {
		err = g.file.SetReadDeadline(time.Time{}) // fails for what is not in the poller
	}
	if err != nil {
		g.file.Close()
		return nil, err
	}
	return g, nil
}

// wait returns when one of the events is so, or with the error of the file's deadline.
func (g *gate) wait(events uint32) error {
	g.event = syscall.EpollEvent{Events: events | syscall.EPOLLONESHOT}
	var errno syscall.Errno
	if err := g.raw.Control(func(fd uintptr) {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_CTL, fd, syscall.EPOLL_CTL_MOD, uintptr(g.socket), uintptr(unsafe.Pointer(&g.event)), 0, 0)
	}); err != nil {
		return err
	}
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return g.raw.Read(g.try)
}

// take takes the event, if there is one; false is to be called again when there is.
func (g *gate) take(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&g.event)), 1, 0, 0, 0)
	return errno != 0 && errno != syscall.EINTR || n == 1
}
