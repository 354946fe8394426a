package qemu

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Of the header of a qcow2 image (docs/interop/qcow2, "Header").
const (
	qcow2Magic  = "QFI\xfb"
	qcow2Header = 104 // bytes of a version 3 header without extensions
	// The incompatible features: dirty, corrupt, compression type and extended L2
	// entries stay inside the image; bit 2, external data file, does not.
	qcow2External = 1 << 2
	qcow2Inside   = 1<<0 | 1<<1 | 1<<3 | 1<<4
)

// checkQcow2 refuses an image that leads QEMU to another file: whoever may write
// the header could have any file of this host read into the guest.
func checkQcow2(r io.ReaderAt) error {
	var h [qcow2Header]byte
	if n, err := r.ReadAt(h[:], 0); n < len(h) {
		return fmt.Errorf("header of a qcow2 image: %w", err)
	}
	if string(h[:4]) != qcow2Magic {
		return fmt.Errorf("is no qcow2 image")
	}
	version := binary.BigEndian.Uint32(h[4:])
	if version != 2 && version != 3 {
		return fmt.Errorf("is a qcow2 image of version %d, which is neither 2 nor 3", version)
	}
	if binary.BigEndian.Uint64(h[8:]) != 0 {
		return fmt.Errorf("is a qcow2 image with a backing file")
	}
	if version == 2 {
		return nil // its header ends at byte 72
	}
	features := binary.BigEndian.Uint64(h[72:])
	if features&qcow2External != 0 {
		return fmt.Errorf("is a qcow2 image with an external data file")
	}
	if unknown := features &^ qcow2Inside; unknown != 0 {
		return fmt.Errorf("is a qcow2 image with unknown features %#x", unknown)
	}
	return nil
}

// checkImages looks into the qcow2 disks of a machine. files are those that are
// passed as /dev/fdset/1 and so on, open for reading. The error is a [*FieldError].
func checkImages(dir string, disks []Disk, files []*os.File) error {
	for i := range disks {
		if disks[i].Format != "qcow2" {
			if err := checkThere(dir, disks[i].File); err != nil {
				return &FieldError{fmt.Sprintf("disk %d", i), err.Error()}
			}
			continue
		}
		if err := checkImage(dir, disks[i].File, files); err != nil {
			return &FieldError{fmt.Sprintf("disk %d", i), err.Error()}
		}
	}
	return nil
}

// checkThere reports a file that is not there, in fewer words than QEMU does.
func checkThere(dir, path string) error {
	if strings.HasPrefix(path, "/dev/fdset/") {
		return nil // it is open
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	_, err := os.Stat(path)
	return err
}

func checkImage(dir, path string, files []*os.File) error {
	if number, ok := strings.CutPrefix(path, "/dev/fdset/"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(files) {
			return fmt.Errorf("%s is none of the %d files that are passed", path, len(files))
		}
		return checkQcow2(files[n-1])
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	// Not to wait for who writes to a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkQcow2(f)
}
