//go:build linux && (386 || s390x)

package frontend

import (
	"errors"
	"syscall"
)

// These machines have no system calls of their own for sockets in package syscall.

// receive reads what is there, or waits for it as the flags and the socket's mode say.
func receive(fd int, b []byte, flags uintptr) (int, error) {
	return ignoringEINTR(func() (int, error) {
		n, _, err := syscall.Recvfrom(fd, b, int(flags))
		return n, err
	})
}

// receiveOwn reads what is there of a socket that nobody else has.
func receiveOwn(fd int, b []byte) (int, error) { return receive(fd, b, syscall.MSG_DONTWAIT) }

// send sends what there is room for, whatever mode the socket is in.
func send(fd int, b []byte) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return syscall.SendmsgN(fd, b, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	})
}

// ignoringEINTR calls f until no signal interrupts it. Its count is not negative.
func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
