package vtpmcli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// errInUse is a file that a running machine has open.
var errInUse = errors.New("a running machine has it open: shut it down first")

// fOFDGetlk is F_OFD_GETLK of fcntl(2): who else has a lock, of another open file.
const fOFDGetlk = 36

// notInUse looks for the locks that QEMU takes on the images of a running machine.
// A machine that was started with file.locking=off has none.
func notInUse(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing is written
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), fOFDGetlk, &lock); err != nil {
		return fmt.Errorf("%s: look for locks: %w", name, err)
	}
	if lock.Type != syscall.F_UNLCK {
		return fmt.Errorf("%s: %w", name, errInUse)
	}
	return nil
}
