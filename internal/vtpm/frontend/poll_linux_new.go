//go:build arm64 || loong64 || riscv64

package frontend

import (
	"syscall"
	"time"
	"unsafe"
)

// waitFor is poll(2) of one event, by the only call for it that these machines have: it
// copies the time to and fro, where poll does not.
func waitFor(e *pollEvent, wait time.Duration) uintptr {
	t := syscall.NsecToTimespec(wait.Nanoseconds())
	n, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(e)), 1, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
	return n
}
