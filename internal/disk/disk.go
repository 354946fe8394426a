// Package disk reads what firmware boots from on the disk of a virtual machine:
// raw and qcow2 images, GUID partition tables, FAT file systems.
//
// It writes nothing, and opens no file but the one that it is given: backing files
// and external data files of qcow2 images are refused, because whoever writes the
// header could name any file of the host. Everything on the disk is a guest's: every
// length is bounded, and no table is read whole that the guest gave the size of.
// What is read proves nothing; it is what the guest left there. Start with [Open]
// and [Disk.Volumes].
//
// QEMU's docs/interop/qcow2; UEFI Specification 2.10, 5.3 and 13.3; Microsoft's FAT
// File System Specification 1.03.
package disk

import (
	"errors"
	"fmt"
	"io"
)

// Errors that a caller can act on; others are of reading.
var (
	// ErrMalformed is a disk, a table or a file system that contradicts itself.
	ErrMalformed = errors.New("disk is malformed")
	// ErrUnsupported is one that firmware or QEMU may read, and this package does not.
	ErrUnsupported = errors.New("disk is of a kind that is not read here")
)

// A Format is how a disk lies in its file.
type Format string

// The formats.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// A Disk is what a machine sees of an image. Its methods may be called concurrently.
type Disk struct {
	r    io.ReaderAt
	size int64
}

// Open reads the header of an image of size bytes in a file. The format is never
// guessed from the content, which the guest of a raw disk writes.
func Open(r io.ReaderAt, size int64, format Format) (*Disk, error) {
	switch format {
	case Raw:
		return &Disk{r, size}, nil
	case QCOW2:
		q, err := openQCOW2(r, size)
		if err != nil {
			return nil, err
		}
		return &Disk{q, q.size}, nil
	default:
		return nil, fmt.Errorf("%w: format %q", ErrUnsupported, format)
	}
}

// Size is that of the disk as the machine sees it.
func (d *Disk) Size() int64 { return d.size }

// ReadAt reads what the machine would.
func (d *Disk) ReadAt(p []byte, at int64) (int, error) { return d.r.ReadAt(p, at) }

// A Volume is a partition with a file system that firmware reads.
type Volume struct {
	Partition
	*FAT
}

// Volumes returns the partitions that hold a FAT file system, in the order of the
// table: firmware does not look at the type of a partition. One whose file system
// cannot be read is left out, as firmware leaves it out.
func (d *Disk) Volumes() (*Table, []Volume, error) {
	t, err := d.Table()
	if err != nil {
		return nil, nil, err
	}
	var out []Volume
	for _, p := range t.Partitions {
		f, err := OpenFAT(io.NewSectionReader(d.r, p.Start, p.Size), p.Size)
		switch {
		case err == nil:
			out = append(out, Volume{p, f})
		case errors.Is(err, ErrMalformed), errors.Is(err, ErrUnsupported):
		default:
			return nil, nil, err
		}
	}
	return t, out, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

// read returns n bytes at an offset that the disk gave; what is not there is a fault
// of the disk's.
func read(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, at)
	if got == n {
		return b, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, malformed("%d bytes at %d are not there", n, at)
	}
	return nil, fmt.Errorf("read disk: %w", err)
}
