//go:build arm64 || loong64 || riscv64

package frontend

import (
	"syscall"
	"unsafe"
)

// sleepFor is poll(2) for one event, without a time, by the only call for it that these
// machines have. Go's scheduler does not hear of it.
func sleepFor(e *pollEvent) uintptr {
	n, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(e)), 1, 0, 0, 0, 0)
	return n
}
