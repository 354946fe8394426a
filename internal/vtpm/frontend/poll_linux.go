//go:build !arm64 && !loong64 && !riscv64

package frontend

import (
	"syscall"
	"time"
	"unsafe"
)

// waitFor is poll(2) of one event. Go's scheduler does not hear of it.
func waitFor(e *pollEvent, wait time.Duration) uintptr {
	n, _, _ := syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(e)), 1, uintptr(wait.Milliseconds()))
	return n
}
