package vtpmcli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTheStoreOfARunningMachineIsLeftAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vars.fd")
	if err := os.WriteFile(name, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := notInUse(name); err != nil {
		t.Errorf("nobody has it open: %v", err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	// QEMU has shared locks on single bytes of its images, of the open file.
	const fOFDSetlk = 37
	lock := syscall.Flock_t{Type: syscall.F_RDLCK, Whence: io.SeekStart, Start: 100, Len: 1}
	if err := syscall.FcntlFlock(f.Fd(), fOFDSetlk, &lock); err != nil {
		t.Fatal(err)
	}
	if err := notInUse(name); !errors.Is(err, errInUse) {
		t.Errorf("notInUse = %v, want %v", err, errInUse)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := notInUse(name); err != nil {
		t.Errorf("the lock is gone: %v", err)
	}
}
