package frontend

import (
	"os"
	"syscall"
	"unsafe"
)

// A bell waits for one socket without Go's scheduler: by an epoll instance of its own,
// which tells of what has come since it told last (EPOLLET), and costs a little less than
// poll(2) does. Who read as much as there was room for reads on before he waits. A read may
// also end at descriptors that a client sends along, or at urgent data, as no client of a TPM
// does: what comes behind them waits for more, or for the second signal.
type bell struct {
	fd    int
	event syscall.EpollEvent // of the one who waits
}

// edge is EPOLLET, of which package syscall has the negative.
const edge = 1 << 31

// newBell makes the bell of a socket.
func newBell(socket int) (*bell, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.EpollCtl(fd, syscall.EPOLL_CTL_ADD, socket, &syscall.EpollEvent{Events: syscall.EPOLLIN | edge}); err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return &bell{fd: fd}, nil
}

// wait waits until there is something, or there is a signal: by one Go stops who holds a
// processor, when it collects garbage or, while its monitor is awake, after 10 ms.
func (b *bell) wait() bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(b.fd), uintptr(unsafe.Pointer(&b.event)), 1, ^uintptr(0), 0, 0)
	return errno == 0 && n == 1
}

func (b *bell) close() error { return syscall.Close(b.fd) }
