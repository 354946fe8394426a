//go:build unix

package libtpms

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ErrRunning is a state folder that swtpm uses.
var ErrRunning = errors.New("swtpm runs on this state: shut its machine down first")

// LockDir takes a state folder as swtpm does, by a lock on the file .lock, so that
// it is not started meanwhile; a folder without that file is not used by a swtpm
// that locks. The function that it returns gives the folder back.
func LockDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state of swtpm: %w", err)
	}
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &l); err != nil {
		f.Close()
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("%q: %w", dir, ErrRunning)
		}
		return nil, fmt.Errorf("lock %q: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
