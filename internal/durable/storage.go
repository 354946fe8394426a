//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Errors that a file system gives, not a file: state cannot be kept on it.
var (
	// ErrNoLocks is a file system that has no locks, or lets everybody have the same one.
	ErrNoLocks = errors.New("the file system does not lock files")
	// ErrNoSync is a file system that does not make files durable when asked to.
	ErrNoSync = errors.New("the file system does not make files durable")
)

// lacking names what err says that the file system lacks: err itself when it says
// nothing of the kind. POSIX has EINVAL for fsync of what does not support it.
func lacking(err, what error) error {
	for _, e := range []error{syscall.ENOLCK, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EINVAL} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", what, err)
		}
	}
	return err
}

// Synced names in the error of a sync what the file system lacks ([ErrNoSync]).
func Synced(err error) error { return lacking(err, ErrNoSync) }

// Flock takes f for this descriptor alone, without waiting (flock(2)). It is false when
// another has it. A file system on which the lock keeps nobody out, as some that are
// reached over a network or implemented by programs, is an error, [ErrNoLocks]. What
// other machines do with the same file is not seen here.
func Flock(f *os.File) (bool, error) {
	err := flock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err == nil {
		err = keepsOut(f)
	}
	return err == nil, lacking(err, ErrNoLocks)
}

// keepsOut tries to take a lock that is taken. A file that goes by another name by now
// is not tried.
func keepsOut(f *os.File) error {
	other, err := os.OpenFile(f.Name(), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer other.Close()
	a, errA := f.Stat()
	b, errB := other.Stat()
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return errors.Join(errA, errB)
	}
	if err := flock(other); !errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.Join(ErrNoLocks, err)
	}
	return nil
}

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
