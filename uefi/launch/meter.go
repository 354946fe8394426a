package launch

import (
	"context"
	"io"

	"github.com/assay-project/assay/internal/disk"
)

const (
	// maxRead bounds what is read for one prediction. A kernel is read four times, its
	// initrd once; a guest writes the disk, and may name a file of a gigabyte in each word
	// of its configuration.
	maxRead = 4 << 30
	// lookup is what finding a file counts for.
	lookup = 64 << 10
)

// A meter counts what one prediction reads, and ends it.
type meter struct {
	ctx  context.Context
	left int64
}

// spend returns why no more is read.
func (m *meter) spend(n int) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if m.left -= int64(n); m.left < 0 {
		return m.over()
	}
	return nil
}

func (m *meter) over() error {
	if m.left >= 0 {
		return nil
	}
	return unknown(codeSize, "its files have more than %d MiB together", maxRead>>20)
}

// metered is a file system whose readers are counted.
type metered struct {
	files Files
	m     *meter
}

func (f metered) Open(path string) (*io.SectionReader, error) {
	if err := f.m.spend(lookup); err != nil {
		return nil, err
	}
	r, err := f.files.Open(path)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(meteredReader{r, f.m}, 0, r.Size()), nil
}

func (f metered) List(folder string) ([]disk.Entry, error) {
	if err := f.m.spend(lookup); err != nil {
		return nil, err
	}
	return f.files.List(folder)
}

type meteredReader struct {
	r io.ReaderAt
	m *meter
}

func (r meteredReader) ReadAt(b []byte, at int64) (int, error) {
	if err := r.m.spend(len(b)); err != nil {
		return 0, err
	}
	return r.r.ReadAt(b, at)
}
