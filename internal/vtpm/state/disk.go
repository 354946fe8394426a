//go:build unix

package state

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
)

// disk is what this package asks of a file system. Tests put one in its place that
// fails and loses power.
type disk interface {
	open(path string) (handle, error)
	// view opens for reading only, as from a medium that cannot be written.
	view(path string) (handle, error)
	// begin makes a file that gets its name by commit.
	begin(path string) (pending, error)
	// link gives a file a second name, which must be free.
	link(from, to string) error
	// sweep removes what a crash left of begin.
	sweep(path string) error
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	io.WriterAt
	size() (int64, error)
	// sync makes the content durable.
	sync() error
	// lock is false when another has the file.
	lock() (bool, error)
	unlock() error
	// named reports whether path leads to this file.
	named(path string) (bool, error)
	// owner tells who has the lock, for people; empty when it cannot be told.
	owner() string
	Close() error
}

type pending interface {
	handle
	commit() error
	commitNew() error
	abort() error
}

// system is the disk of the operating system.
type system struct{}

type osFile struct {
	*os.File
	info os.FileInfo // as it was opened: which file it is does not change
}

type osPending struct {
	osFile
	p *durable.Pending
}

// errNotRegular is a folder, pipe, link or device in the place of a file.
var errNotRegular = errors.New("not a regular file")

func (system) open(path string) (handle, error) { return openFile(path, os.O_RDWR) }

func (system) view(path string) (handle, error) { return openFile(path, os.O_RDONLY) }

func openFile(path string, how int) (handle, error) {
	// O_NONBLOCK keeps a named pipe from stalling us until its mode is seen.
	f, err := os.OpenFile(path, how|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return osFile{f, info}, nil
}

func (system) begin(path string) (pending, error) {
	p, err := durable.Begin(path, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := p.Stat()
	if err != nil {
		return nil, errors.Join(err, p.Abort())
	}
	return osPending{osFile{p.File, info}, p}, nil
}

func (system) link(from, to string) error { return os.Link(from, to) }

func (system) sweep(path string) error { return durable.SweepOf(path) }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) sync() error { return dataSync(f.File) }

func (f osFile) lock() (bool, error) { return durable.Flock(f.File) }

// Close gives the lock back by itself: a process that this one is just starting has
// a copy of the file until it runs its program, and with that the lock.
func (f osFile) Close() error { return errors.Join(f.unlock(), f.File.Close()) }

func (f osFile) unlock() error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (f osFile) named(path string) (bool, error) {
	found, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(f.info, found), nil
}

func (f osFile) owner() string { return lockOwner(f.File) }

func (p osPending) commit() error    { return p.p.Commit() }
func (p osPending) commitNew() error { return p.p.CommitNew() }
func (p osPending) abort() error     { return p.p.Abort() }
