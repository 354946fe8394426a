//go:build !arm64 && !loong64 && !riscv64

package frontend

import (
	"syscall"
	"unsafe"
)

// sleepFor is poll(2) for one event, without a time. Go's scheduler does not hear of it.
func sleepFor(e *pollEvent) uintptr {
	n, _, _ := syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(e)), 1, ^uintptr(0))
	return n
}
