package vtpmcli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
)

// writeBlob puts a blob in the place of a regular file, whole or not at all, and durably; a
// link to one is followed first. Mode and owner of a file that is there stay. What is no
// regular file is written to, as /dev/stdout: swtpm_ioctl takes any name. So is a file that
// cannot be replaced, as in a folder where the caller may not make files.
func writeBlob(name string, blob []byte) error {
	// Opened as swtpm_ioctl opens it: whom the kernel keeps from the file, as from one
	// behind another's link in /tmp, replaces it no more than they write it.
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return newBlob(name, blob)
	}
	if err != nil {
		return err
	}
	return errors.Join(overBlob(f, blob), f.Close())
}

// newBlob writes a file that is not there, or where a link leads to nothing.
func newBlob(name string, blob []byte) error {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		if err := replaceBlob(name, blob, nil); !notAllowed(err) {
			return err
		}
	}
	return os.WriteFile(name, blob, 0o600)
}

// overBlob writes over an open file, by replacing it if it can.
func overBlob(f *os.File, blob []byte) error {
	old, err := f.Stat()
	if err != nil {
		return err
	}
	if old.Mode().IsRegular() {
		if name, ok := fileBehind(f.Name(), old); ok {
			if err := replaceBlob(name, blob, old); !notAllowed(err) {
				return err
			}
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	_, err = f.Write(blob)
	return err
}

// notAllowed reports whether it is the folder, or the owner of a file, that keeps one from
// replacing the file; it may be written all the same.
func notAllowed(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// replaceBlob writes a file beside name and gives it that name, and the mode and owner of
// what was there, unless old is nil. Where that is not allowed, name is as it was.
func replaceBlob(name string, blob []byte, old fs.FileInfo) (err error) {
	// What a save that was killed left has the TPM's secrets in it. A folder that may not be
	// read could not be synced either.
	err = durable.SweepUnheld(filepath.Dir(name), func(of string, _ time.Time) bool { return of == filepath.Base(name) })
	if err != nil {
		return err
	}
	p, err := durable.BeginHeld(name, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Abort())
		} else {
			err = p.Close()
		}
	}()
	if old != nil {
		if err := likeOld(p.File, old); err != nil {
			return err
		}
	}
	if _, err := p.Write(blob); err != nil {
		return err
	}
	return p.Commit()
}

// likeOld lets those read a file who may read another. The owner comes first: until then
// nobody else may.
func likeOld(f *os.File, old fs.FileInfo) error {
	if s, ok := old.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(old.Mode().Perm())
}

// maxLinks is how many links Linux follows in a path.
const maxLinks = 40

// fileBehind follows the links of name to the regular file that was opened by it. It is
// false for the links of open descriptors, as /dev/stdout: who passed the descriptor has
// the file itself, and would not see another in its place.
func fileBehind(name string, opened fs.FileInfo) (string, bool) {
	for range maxLinks {
		info, err := os.Lstat(name)
		if err != nil {
			return "", false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return name, os.SameFile(info, opened)
		}
		dir, err := filepath.Abs(filepath.Dir(name))
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		if err != nil || dir == "/dev" || strings.HasPrefix(dir, "/proc/") {
			return "", false
		}
		to, err := os.Readlink(name)
		if err != nil {
			return "", false
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		name = to
	}
	return "", false
}
