//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockName is the file in a folder that carries its lock. It is removed only with its
// folder ([RemoveDir]), by who holds it.
const lockName = "lock"

// A Lock is one process's hold on a folder or on what a file stands for. The system releases it when the
// process ends, however it ends.
type Lock struct{ file *os.File }

// LockDir takes dir, which must exist, for this process alone. The error wraps
// [ErrLocked] when another process, or another Lock of this one, has it, and
// [ErrNoLocks] where a lock keeps nobody out. The caller closes the Lock.
func LockDir(dir string) (*Lock, error) {
	l, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", dir, err)
	}
	return l, nil
}

// LockFile is [LockDir] for what one file in a folder stands for. The file is made, and
// stays.
func LockFile(name string) (*Lock, error) {
	l, err := lockFile(name)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return l, nil
}

func lockFile(name string) (*Lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := Flock(f)
	if err == nil && !(locked && named(f)) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// named reports whether f still has its name: of a folder that was removed between the
// opening of its lock and the locking, nobody else would see the lock.
func named(f *os.File) bool {
	a, errA := f.Stat()
	b, errB := os.Lstat(f.Name())
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Close gives it back. It unlocks first: a process that this one is just
// starting has a copy of the file until it runs its program, and with that the lock.
func (l *Lock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}
