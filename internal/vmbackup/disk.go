package vmbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/fleet"
)

// A source is a disk of a machine that is read for a backup.
type source struct {
	file      *os.File
	size      int64
	allocated int64 // bytes of it that are no holes, about
	changed   time.Time
}

// openSource opens a disk that nobody writes to.
func openSource(d *fleet.Disk) (_ *source, err error) {
	f, err := os.Open(d.File)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("disk %q: %w", d.File, err), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeDevice {
		return nil, errors.New("it is neither a file nor a block device")
	}
	s := &source{file: f, changed: info.ModTime()}
	if s.size, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if s.size > maxDiskBytes {
		return nil, fmt.Errorf("%d bytes are more than %d", s.size, int64(maxDiskBytes))
	}
	s.allocated = s.size
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err == nil && info.Mode().IsRegular() {
		s.allocated = min(s.size, stat.Blocks*512)
	}
	if err := notInUse(f); err != nil {
		return nil, err
	}
	// An image that leads to another file is not all of the disk.
	_, err = disk.Open(f, s.size, disk.Format(d.Format))
	return s, err
}

// QEMU locks the bytes of an image from 100 on by what it may do with it
// (block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE).
const (
	lockFirst = 100
	lockBytes = 164
)

// notInUse refuses an image that a hypervisor has open.
func notInUse(f *os.File) error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: lockFirst, Len: lockBytes}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return nil //nolint:nilerr // a file system without locks: the times are compared, too
	}
	if l.Type != unix.F_UNLCK {
		return fmt.Errorf("%w: another program has it open, as a hypervisor does", ErrInUse)
	}
	return nil
}

// unchanged refuses a disk that was written to while it was read.
func (s *source) unchanged() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if !info.ModTime().Equal(s.changed) || info.Mode().IsRegular() && info.Size() != s.size {
		return fmt.Errorf("%w: it was written to meanwhile", ErrInUse)
	}
	return notInUse(s.file)
}

// block is how much of a disk is looked at for zeros.
const block = 64 << 10

// read gives what is not zeros, in ascending order.
func (s *source) read(ctx context.Context, take func(at int64, b []byte) error, progress func(n int)) error {
	buf := make([]byte, maxExtent)
	for at := int64(0); at < s.size; {
		begin, end, err := s.data(at)
		if err != nil || begin >= s.size {
			return err
		}
		for at = begin; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), end-at)]
			if _, err := s.file.ReadAt(b, at); err != nil {
				return fmt.Errorf("read at %d: %w", at, err)
			}
			if err := nonzero(at, b, take); err != nil {
				return err
			}
			at += int64(len(b))
			progress(len(b))
		}
	}
	return nil
}

// data is where the next bytes are that are no hole (lseek(2)). Where the file system
// does not say, all are.
func (s *source) data(at int64) (begin, end int64, err error) {
	fd := int(s.file.Fd())
	begin, err = unix.Seek(fd, at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return s.size, s.size, nil
	}
	if err != nil {
		return at, s.size, nil //nolint:nilerr // a device has no holes
	}
	end, err = unix.Seek(fd, begin, unix.SEEK_HOLE)
	return begin, min(end, s.size), err
}

var zeros = make([]byte, block)

// nonzero gives the runs of blocks that are not all zeros.
func nonzero(at int64, b []byte, take func(at int64, b []byte) error) error {
	begin := -1
	for i := 0; i <= len(b); i += block {
		end := min(i+block, len(b))
		empty := i >= len(b) || bytes.Equal(b[i:end], zeros[:end-i])
		if !empty && begin < 0 {
			begin = i
		}
		if empty && begin >= 0 {
			if err := take(at+int64(begin), b[begin:i]); err != nil {
				return err
			}
			begin = -1
		}
	}
	if begin >= 0 { // the last block was a short one
		return take(at+int64(begin), b[begin:])
	}
	return nil
}

// nowhere is a sink that keeps nothing.
type nowhere struct{}

func (nowhere) begin(diskPart) error       { return nil }
func (nowhere) extent(int64, []byte) error { return nil }
func (nowhere) end() error                 { return nil }

// A folder is a sink of files with names.
type folder struct {
	dir   string
	names map[int]string
	file  *os.File
}

func (f *folder) begin(p diskPart) (err error) {
	f.file, err = os.OpenFile(filepath.Join(f.dir, f.names[p.Index]), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.file.Truncate(p.Size)
}

func (f *folder) extent(at int64, b []byte) error {
	_, err := f.file.WriteAt(b, at)
	return err
}

// end makes the file durable.
func (f *folder) end() error {
	err := errors.Join(f.file.Sync(), f.file.Close())
	f.file = nil
	return err
}

// close makes the names durable, and closes a file that was not ended.
func (f *folder) close() error {
	if f.file != nil {
		f.file.Close()
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// CopyDisk makes a file of a disk that nobody writes to; its holes stay. The file is
// durable when it returns nil, and gone after an error.
func CopyDisk(ctx context.Context, d *fleet.Disk, to string, p Progress) (err error) {
	s, err := openSource(d)
	if err != nil {
		return err
	}
	defer s.file.Close()
	out := &folder{dir: filepath.Dir(to), names: map[int]string{0: filepath.Base(to)}}
	if err := out.begin(diskPart{Size: s.size}); err != nil {
		return err
	}
	err = s.read(ctx, out.extent, p.counter("copy", s.allocated))
	if err = errors.Join(err, s.unchanged()); err == nil {
		err = out.end()
	}
	if err = errors.Join(err, out.close()); err != nil {
		return errors.Join(fmt.Errorf("disk %q: %w", d.File, err), os.Remove(to))
	}
	return nil
}
