//go:build unix

// Package durable keeps files whole across a crash: after power is lost a file
// holds its old content or its new content, never a part of either.
//
// It relies on what POSIX says of fsync and rename; it cannot help with a disk
// that acknowledges what it did not keep, and it does not detect later damage.
// It needs a file system that renames atomically and knows hard links. Start
// with [WriteFile] and [LockDir]. POSIX.1-2024, fsync and rename.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

var (
	// ErrExists is returned, wrapped, by [CreateFile] for a name that is taken.
	ErrExists = errors.New("file exists")
	// ErrLocked is returned, wrapped, by [LockDir] for a folder that another process holds.
	ErrLocked = errors.New("locked by another process")
)

// The name of a file that is being written; a crash may leave one behind.
const (
	tempPrefix = ".durable-"
	tempSuffix = ".tmp"
)

// WriteFile puts data under name, in place of what was there. When it returns
// nil the new content survives a crash; when it returns an error, or the machine
// stops before, name holds the old content or the new, whole.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	if err := write(disk{}, name, data, perm); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// CreateFile is [WriteFile] for a name that must not exist: of several callers
// one succeeds, and the others get [ErrExists].
func CreateFile(name string, data []byte, perm fs.FileMode) error {
	if err := create(disk{}, name, data, perm); err != nil {
		return fmt.Errorf("create %q: %w", name, err)
	}
	return nil
}

// Remove takes a file away. When it returns nil the name stays gone after a crash; one
// that was gone already is no error.
func Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := (disk{}).syncDir(filepath.Dir(name)); err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	return nil
}

// RemoveDir takes a folder away with all that is in it. Its name goes first: a crash
// leaves the whole folder, or what lies under the name temp beside it, which the next
// call with that temp removes. The holder of the folder's lock keeps it to the end.
func RemoveDir(dir, temp string) error {
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Rename(dir, temp); err != nil {
		return err
	}
	if err := (disk{}).syncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("remove %q: %w", dir, err)
	}
	return os.RemoveAll(temp)
}

// Sweep removes the unfinished files that a crash left in dir. Call it while
// nothing writes there, as after [LockDir].
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep %q: %w", dir, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep %q: %w", dir, err)
		}
	}
	return nil
}

// layer is the part of a file system that the protocol below uses.
type layer interface {
	// temp makes a file with content, gives it perm and syncs it.
	temp(dir string, data []byte, perm fs.FileMode) (name string, err error)
	rename(from, to string) error
	// link gives a file a second name, which must be free.
	link(from, to string) error
	remove(name string) error
	// syncDir makes the names in a folder durable.
	syncDir(dir string) error
}

// write syncs the content before any name points to it: a rename that became
// durable first would show a torn file.
func write(l layer, name string, data []byte, perm fs.FileMode) error {
	dir := filepath.Dir(name)
	temp, err := l.temp(dir, data, perm)
	if err != nil {
		return err
	}
	if err := l.rename(temp, name); err != nil {
		return errors.Join(err, l.remove(temp))
	}
	return l.syncDir(dir)
}

// create uses link, not rename, because link alone refuses a name that exists.
func create(l layer, name string, data []byte, perm fs.FileMode) error {
	dir := filepath.Dir(name)
	temp, err := l.temp(dir, data, perm)
	if err != nil {
		return err
	}
	err = l.link(temp, name)
	if errors.Is(err, fs.ErrExist) {
		err = ErrExists
	}
	if err := errors.Join(err, l.remove(temp)); err != nil {
		return err
	}
	return l.syncDir(dir)
}

// disk is the layer of the operating system.
type disk struct{}

func (disk) temp(dir string, data []byte, perm fs.FileMode) (string, error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return "", err
	}
	if err := fill(f, data, perm); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func fill(f *os.File, data []byte, perm fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = Synced(f.Sync())
	}
	return errors.Join(err, f.Close())
}

func (disk) rename(from, to string) error { return os.Rename(from, to) }
func (disk) link(from, to string) error   { return os.Link(from, to) }
func (disk) remove(name string) error     { return os.Remove(name) }

func (disk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(Synced(d.Sync()), d.Close())
}
