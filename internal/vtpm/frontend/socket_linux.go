//go:build !386 && !s390x

package frontend

import (
	"syscall"
	"unsafe"
)

// The calls of package syscall that read and write sockets go by the file system, or
// carry addresses. A command of a microsecond is slower by them.

// receive reads what is there, or waits for it as the flags and the socket's mode say.
func receive(fd int, b []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		if errno != syscall.EINTR {
			return counted(n, errno)
		}
	}
}

// receiveOwn reads what is there of a socket that nobody else has. Go's scheduler need not
// hear of it, as it does not wait: of a socket that others have, too, it would for one of
// them who reads just then, and whose memory is not there, with a processor of Go's.
func receiveOwn(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return counted(n, errno)
		}
	}
}

// send sends what there is room for, whatever mode the socket is in. It never waits,
// so that Go's scheduler need not hear of it.
func send(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if errno != syscall.EINTR {
			return counted(n, errno)
		}
	}
}

// counted is the result of a call that counts bytes: at most the length of a slice.
func counted(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
