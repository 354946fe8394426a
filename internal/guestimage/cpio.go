package guestimage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A File is one file of an archive or a disk.
type File struct {
	Name string      // with slashes, relative: "EFI/BOOT/BOOTX64.EFI"
	Mode fs.FileMode // of an archive: permissions, and fs.ModeDir for a folder; a disk has none
	Data []byte
}

// Errors that a caller can act on.
var (
	ErrName   = errors.New("not a name for a file of an image")
	ErrExists = errors.New("there are two of this name")
	ErrSize   = errors.New("does not fit")
)

// maxArchiveFile is what the field of a size takes with room to spare, in bytes.
const maxArchiveFile = 1 << 30

// Initrd makes an archive of files as Linux unpacks it into its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst, "newc"). Folders that
// files are in need not be named. Everything belongs to root, and has no time.
func Initrd(files []File) ([]byte, error) {
	var b bytes.Buffer
	seen := map[string]uint32{}
	add := func(name string, mode uint32, data []byte) {
		seen[name] = mode & modeKind
		entry(&b, name, mode, data)
	}
	for _, f := range files {
		if err := f.check(); err != nil {
			return nil, err
		}
		for _, dir := range parents(f.Name) {
			switch seen[dir] {
			case 0:
				add(dir, modeFolder|0o755, nil)
			case modeFile:
				return nil, fmt.Errorf("file %q: %w", dir, ErrExists)
			}
		}
		if seen[f.Name] != 0 {
			return nil, fmt.Errorf("file %q: %w", f.Name, ErrExists)
		}
		mode := uint32(modeFile)
		if f.Mode.IsDir() {
			mode = modeFolder
		}
		add(f.Name, mode|uint32(f.Mode.Perm()), f.Data)
	}
	entry(&b, trailer, 0, nil)
	return b.Bytes(), nil
}

// Kinds of files in a mode (inode(7)).
const (
	modeKind   = 0o170000
	modeFolder = 0o040000
	modeFile   = 0o100000
)

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// check refuses what an archive cannot hold.
func (f *File) check() error {
	if !fs.ValidPath(f.Name) || f.Name == "." || f.Name == trailer || strings.ContainsRune(f.Name, 0) || f.Mode&^(fs.ModeDir|fs.ModePerm) != 0 {
		return fmt.Errorf("file %q of mode %v: %w", f.Name, f.Mode, ErrName)
	}
	if len(f.Data) > maxArchiveFile || f.Mode.IsDir() && len(f.Data) > 0 {
		return fmt.Errorf("file %q of %d bytes: %w", f.Name, len(f.Data), ErrSize)
	}
	return nil
}

// parents are the folders that a file is in, the outermost first.
func parents(name string) (out []string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		out = append([]string{dir}, out...)
	}
	return out
}

// entry adds one header with its name and data, both filled to a multiple of four.
func entry(b *bytes.Buffer, name string, mode uint32, data []byte) {
	fields := []uint32{0, mode, 0, 0, 1, 0, uint32(len(data)), 0, 0, 0, 0, uint32(len(name) + 1), 0} // the caller bounds them
	b.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(b, "%08x", f)
	}
	b.WriteString(name + "\x00")
	b.Write(make([]byte, -b.Len()&3))
	b.Write(data)
	b.Write(make([]byte, -b.Len()&3))
}
