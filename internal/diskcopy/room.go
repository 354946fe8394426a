package diskcopy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/assay-project/assay/internal/disk"
)

// spare is what a host keeps free beside the disks of a machine that comes, in bytes.
const spare = 256 << 20

// Room is how many bytes the folder of all machines has for disks once the files of another
// folder are removed, which need not be there: what is free, less what the disks in ROOT/*/disks
// may still grow to. They are sparse, and their guests were promised what they have not written
// yet.
func Room(ctx context.Context, root, leftover string) (uint64, error) {
	free, err := Free(root, leftover)
	if err != nil {
		return 0, err
	}
	taken, err := promised(ctx, root, leftover)
	if err != nil {
		return 0, err
	}
	return free - min(free, taken), nil
}

// Free is Room for a host that is overcommitted: whatever other disks may still grow to.
func Free(root, leftover string) (uint64, error) {
	free, err := freeIn(root)
	if err != nil {
		return 0, err
	}
	return free + held(leftover), nil
}

// AllFit refuses disks that cannot all grow to what they may.
func AllFit(ctx context.Context, root string) error {
	free, err := freeIn(root)
	if err != nil {
		return err
	}
	taken, err := promised(ctx, root, "")
	if err == nil && taken > free {
		err = fmt.Errorf("the disks of the machines here may grow by %d bytes, and there is room for %d: another machine came at the same time", taken, free)
	}
	return err
}

// freeIn is how many bytes the file system of a folder has but for the spare ones.
func freeIn(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("room in %q: %w", dir, err)
	}
	free := s.Bavail * uint64(s.Bsize) //nolint:gosec // never negative (statfs(2))
	return free - min(free, spare), nil
}

// promised is by how many bytes the disks that machines have in their homes may still grow,
// but for those in the folder that is left out. Those of other file systems take no room here.
func promised(ctx context.Context, root, but string) (n uint64, err error) {
	var here syscall.Stat_t
	if err := syscall.Stat(root, &here); err != nil {
		return 0, fmt.Errorf("room in %q: %w", root, err)
	}
	homes, err := os.ReadDir(root)
	if err != nil {
		return 0, err
	}
	for _, home := range homes {
		dir := filepath.Join(root, home.Name(), "disks")
		if dir == filepath.Clean(but) || !home.IsDir() {
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil && !noHome(err) {
			return 0, err
		}
		for _, f := range files {
			more, err := growth(ctx, filepath.Join(dir, f.Name()), here.Dev)
			if err != nil && !gone(err) {
				return 0, fmt.Errorf("what the disks of the machines here may grow to is not known: %w", err)
			}
			n += more
		}
	}
	return n, nil
}

// gone is what a file that is removed meanwhile says, or a folder that there is not.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// noHome is what reading the disks of a folder says that is no home of this user's: one
// that he may not enter, as lost+found, has no machine that he runs.
func noHome(err error) bool { return gone(err) || errors.Is(err, fs.ErrPermission) }

// growth is by how many bytes a disk may still grow; none for what is no file of that file
// system. Its name says what it is: what is in a raw disk its guest chose. What snapshots of a
// qcow2 image hold takes no room from what its guest may write, which is beside it.
func growth(ctx context.Context, name string, device uint64) (uint64, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return 0, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || s.Dev != device {
		return 0, nil
	}
	most, has := uint64(info.Size()), uint64(s.Blocks)*512 //nolint:gosec // never negative (stat(2))
	if filepath.Ext(name) == ".qcow2" {
		size, kept, err := sizes(ctx, name, info.Size())
		if err != nil || size == 0 {
			return 0, err
		}
		kept = min(kept, has)
		most = size + kept + overhead(int64(size+kept)) //nolint:gosec // both are below 64 TiB
	}
	return most - min(most, has), nil
}

// sizes are that of a qcow2 image as its guest sees it (docs/interop/qcow2, header: bytes 24 to
// 31), and what its snapshots hold of its file; 0 for one that is being made. Where that cannot be
// told they hold all of it.
func sizes(ctx context.Context, name string, file int64) (virtual, kept uint64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var head [32]byte
	if _, err := io.ReadFull(f, head[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, 0, nil
	} else if err != nil {
		return 0, 0, err
	}
	if string(head[:4]) != "QFI\xfb" {
		return 0, 0, nil // no machine starts with it
	}
	virtual = min(binary.BigEndian.Uint64(head[24:]), maxSize)
	held, err := disk.Kept(ctx, f, file)
	switch {
	case errors.Is(err, disk.ErrMalformed) || errors.Is(err, disk.ErrUnsupported):
		return virtual, maxSize, nil
	case err != nil:
		return 0, 0, err
	}
	return virtual, uint64(held), nil //nolint:gosec // never negative
}

// held is how many bytes are free when the files of a folder are removed.
func held(dir string) (n uint64) {
	entries, _ := os.ReadDir(dir) //nolint:errcheck // nothing is counted of what cannot be read
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Nlink == 1 {
			n += uint64(s.Blocks) * 512 //nolint:gosec // never negative (stat(2))
		}
	}
	return n
}
