package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// Limits of what is read of a file system. FAT allows directories of 2 MB; boot
// loaders and kernels with what they need have some 100 MB.
const (
	maxFileSize  = 1 << 30
	maxDirectory = 2 << 20
	maxExtents   = 1 << 16
	maxDepth     = 32 // of a path
	fatWindow    = 4 << 10
)

// A FAT is a file system in the format FAT12, FAT16 or FAT32. Its methods may be
// called concurrently.
type FAT struct {
	r       io.ReaderAt
	width   int   // of an entry of the allocation table: 12, 16 or 32 bits
	table   int64 // offset of the first allocation table
	root    extent
	rootAt  uint32 // the root folder's first cluster, of FAT32
	data    int64  // offset of cluster 2
	cluster int64  // bytes
	count   uint32 // of clusters

	mu     sync.Mutex // guards the window
	window []byte     // a part of the allocation table, and zeros
	at     int64      // of the window
	have   int        // bytes of the window that are of the table
}

// An extent is a run of bytes of the volume.
type extent struct{ at, size int64 }

// An Entry is a file or folder in a folder.
type Entry struct {
	Name   string
	Folder bool
	Size   int64

	short string
	first uint32
}

// OpenFAT reads the header of a file system that has size bytes.
func OpenFAT(r io.ReaderAt, size int64) (*FAT, error) {
	b, err := read(r, 0, 512)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sector, perCluster, reserved := int64(le.Uint16(b[11:])), int64(b[13]), int64(le.Uint16(b[14:]))
	tables, rootEntries, fatSize := int64(b[16]), int64(le.Uint16(b[17:])), int64(le.Uint16(b[22:]))
	total := int64(le.Uint16(b[19:]))
	if total == 0 {
		total = int64(le.Uint32(b[32:]))
	}
	big := fatSize == 0
	if big {
		fatSize = int64(le.Uint32(b[36:]))
	}
	switch {
	case sector < 512 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1,
		perCluster == 0 || bits.OnesCount64(uint64(perCluster)) != 1,
		reserved == 0, tables == 0, total*sector > size, big == (rootEntries != 0):
		return nil, malformed("there is no FAT file system")
	}
	f := &FAT{r: r, table: reserved * sector, cluster: perCluster * sector}
	f.root = extent{(reserved + tables*fatSize) * sector, rootEntries * 32}
	f.data = f.root.at + (f.root.size+sector-1)/sector*sector
	clusters := (total*sector - f.data) / f.cluster
	if clusters < 1 || clusters > 0x0FFFFFF5 {
		return nil, malformed("a FAT file system of %d clusters", clusters)
	}
	f.count = uint32(clusters)
	switch {
	case big && clusters >= 65525:
		f.width, f.rootAt = 32, le.Uint32(b[44:])
	case big:
		// Microsoft's specification tells the kinds apart by the number of clusters
		// alone, and firmware by the size of the table: here both have to agree.
		return nil, unsupported("a FAT32 file system of only %d clusters", clusters)
	case clusters < 4085:
		f.width = 12
	case clusters < 65525:
		f.width = 16
	default:
		return nil, unsupported("a FAT16 file system of %d clusters", clusters)
	}
	if need := (clusters + 2) * int64(f.width) / 8; fatSize*sector < need {
		return nil, malformed("an allocation table of %d bytes for %d clusters", fatSize*sector, clusters)
	}
	return f, nil
}

// next follows a chain of clusters; ok is false at its end.
func (f *FAT) next(c uint32) (n uint32, ok bool, err error) {
	if c < 2 || c-2 >= f.count {
		return 0, false, malformed("a chain leads to cluster %d of %d", c, f.count)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := int64(c) * int64(f.width) / 8
	if at < f.at || at+4 > f.at+int64(f.have) {
		if err := f.load(at); err != nil {
			return 0, false, err
		}
	}
	b := f.window[at-f.at:]
	switch f.width {
	case 12:
		n = uint32(binary.LittleEndian.Uint16(b)) >> (c & 1 * 4) & 0xFFF
		ok = n < 0xFF8
	case 16:
		n = uint32(binary.LittleEndian.Uint16(b))
		ok = n < 0xFFF8
	default:
		n = binary.LittleEndian.Uint32(b) & 0x0FFFFFFF
		ok = n < 0x0FFFFFF8
	}
	return n, ok, nil
}

// load reads the part of the allocation table that begins at an offset of it.
func (f *FAT) load(at int64) error {
	b := make([]byte, fatWindow+4)
	got, err := f.r.ReadAt(b[:fatWindow], f.table+at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read disk: %w", err)
	}
	f.window, f.at, f.have = b, at, got
	return nil
}

// chain returns where the bytes of a file are. A size below 0 is a folder's, which
// ends where its chain does.
func (f *FAT) chain(first uint32, size int64) ([]extent, error) {
	var out []extent
	left := size
	if size < 0 {
		left = maxDirectory
	}
	for c := first; left > 0; {
		n, more, err := f.next(c)
		if err != nil {
			return nil, err
		}
		at, take := f.data+int64(c-2)*f.cluster, min(left, f.cluster)
		if last := len(out) - 1; last >= 0 && out[last].at+out[last].size == at {
			out[last].size += take
		} else if out = append(out, extent{at, take}); len(out) > maxExtents {
			return nil, unsupported("a file in more than %d pieces", maxExtents)
		}
		left -= take
		if !more {
			break
		}
		c = n
	}
	switch {
	case size >= 0 && left > 0:
		return nil, malformed("a file of %d bytes of which %d are not there", size, left)
	case size < 0 && left <= 0:
		return nil, malformed("a folder of more than %d bytes", maxDirectory)
	}
	return out, nil
}

// Open opens a file by its path from the root, whose elements are separated by "/"
// or "\"; capital letters are as good as small ones. The error wraps
// [fs.ErrNotExist] when there is none.
func (f *FAT) Open(name string) (*io.SectionReader, error) {
	e, err := f.walk(name)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	switch {
	case e.Folder:
		return nil, fmt.Errorf("open %q: is a folder", name)
	case e.Size > maxFileSize:
		return nil, fmt.Errorf("open %q: %w", name, unsupported("a file of %d bytes", e.Size))
	}
	parts, err := f.chain(e.first, e.Size)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	return io.NewSectionReader(newPieces(f.r, parts), 0, e.Size), nil
}

// List returns what is in a folder, in the order of the disk; "" is the root.
func (f *FAT) List(name string) ([]Entry, error) {
	e, err := f.walk(name)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", name, err)
	}
	if !e.Folder {
		return nil, fmt.Errorf("list %q: is a file", name)
	}
	out, err := f.folder(e)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", name, err)
	}
	return out, nil
}

// walk finds an entry.
func (f *FAT) walk(name string) (Entry, error) {
	at := Entry{Folder: true, first: f.rootAt}
	path := strings.FieldsFunc(name, func(r rune) bool { return r == '/' || r == '\\' })
	if len(path) > maxDepth {
		return Entry{}, fs.ErrNotExist
	}
	for i, element := range path {
		if !at.Folder || element == "." || element == ".." {
			return Entry{}, fs.ErrNotExist
		}
		all, err := f.folder(at)
		if err != nil {
			return Entry{}, err
		}
		found := 0
		for _, e := range all {
			if strings.EqualFold(e.Name, element) || strings.EqualFold(e.short, element) {
				at, found = e, found+1
			}
		}
		switch {
		case found == 0:
			return Entry{}, fs.ErrNotExist
		case found > 1:
			// Which of them firmware takes is not laid down anywhere.
			return Entry{}, malformed("the name %q stands %d times in a folder", strings.Join(path[:i+1], "/"), found)
		}
	}
	return at, nil
}

// pieces reads a file in its extents.
type pieces struct {
	r     io.ReaderAt
	parts []extent
	ends  []int64 // of the extents, in the file
}

func newPieces(r io.ReaderAt, parts []extent) *pieces {
	p := &pieces{r: r, parts: parts}
	end := int64(0)
	for _, e := range parts {
		end += e.size
		p.ends = append(p.ends, end)
	}
	return p
}

// ReadAt reads from the extents in order.
func (p *pieces) ReadAt(b []byte, at int64) (int, error) {
	done := 0
	first, _ := slices.BinarySearch(p.ends, at+1) // the first that ends behind at
	for i := first; i < len(p.parts) && done < len(b); i++ {
		e := p.parts[i]
		within := at + int64(done) - (p.ends[i] - e.size)
		n := int(min(e.size-within, int64(len(b)-done)))
		got, err := p.r.ReadAt(b[done:done+n], e.at+within)
		done += got
		if got < n {
			return done, err
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}
