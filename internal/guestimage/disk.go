package guestimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"
	"unicode/utf16"

	"github.com/assay-project/assay/uefi"
)

const (
	sectorSize = 512
	firstLBA   = 2048 // of the partition: 1 MiB, as all tools have it
	lastLBAs   = 2048 // behind it, for the second table
	tableLBAs  = 32   // 128 entries of 128 bytes
)

// systemPartition is the type of an EFI system partition (UEFI 2.10, table 5-7).
var systemPartition = uefi.MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")

// Limits of a partition: what FAT32 needs at least, with clusters of one sector, and
// more than any guest of a test has.
const (
	MinPartition     = 34 << 20
	MaxPartition     = 4 << 30
	defaultPartition = 72 << 20
)

// A Disk is a raw disk with a GUID partition table and one partition, an EFI system
// partition of FAT32.
type Disk struct {
	GUID      uefi.GUID // of the disk
	Partition uefi.GUID // of its partition
	Volume    uint32    // serial number of the file system
	Time      time.Time // of all files: not before 1980, which is the zero time of FAT
	// Size is the partition's in bytes, a multiple of 1 MiB; 0 is 72 MiB.
	Size int64
	// Files have names of eight letters or digits, a dot and three more at most. They
	// are kept in capitals; firmware and boot loaders make no difference.
	Files []File
}

// Write writes the disk and returns its size. What is zero is not written: w reads as
// zeros where nothing was, as a new file does.
func (d *Disk) Write(w io.WriterAt) (int64, error) {
	size := d.Size
	if size == 0 {
		size = defaultPartition
	}
	if size < MinPartition || size > MaxPartition || size%(1<<20) != 0 {
		return 0, fmt.Errorf("a partition of %d bytes: %w", size, ErrSize)
	}
	t := table{disk: d, sectors: firstLBA + uint64(size)/sectorSize + lastLBAs}
	if err := d.volume(&section{w, firstLBA * sectorSize}, uint32(size/sectorSize)); err != nil {
		return 0, err
	}
	entries := t.entries()
	for _, part := range []struct {
		at   uint64
		data []byte
	}{
		{0, t.protective()},
		{1, t.header(1, entries)},
		{2, entries},
		{t.sectors - 1 - tableLBAs, entries},
		{t.sectors - 1, t.header(t.sectors-1, entries)},
	} {
		if _, err := w.WriteAt(part.data, int64(part.at)*sectorSize); err != nil {
			return 0, err
		}
	}
	return int64(t.sectors) * sectorSize, nil
}

// section writes from an offset on.
type section struct {
	w  io.WriterAt
	at int64
}

// WriteAt writes at an offset of the section.
func (s *section) WriteAt(b []byte, at int64) (int, error) { return s.w.WriteAt(b, s.at+at) }

// A table is the partition table of a disk (UEFI 2.10, 5.3).
type table struct {
	disk    *Disk
	sectors uint64
}

// protective is the first sector, which keeps tools of before GPT away (5.2.3).
func (t *table) protective() []byte {
	b := make([]byte, sectorSize)
	le, e := binary.LittleEndian, b[446:]
	e[2] = 2 // StartingCHS: head 0, sector 2
	e[4] = 0xEE
	copy(e[5:], "\xFF\xFF\xFF")
	le.PutUint32(e[8:], 1)
	le.PutUint32(e[12:], uint32(min(t.sectors-1, 0xFFFFFFFF)))
	b[510], b[511] = 0x55, 0xAA
	return b
}

// entries is the array of partitions (5.3.3).
func (t *table) entries() []byte {
	b := make([]byte, tableLBAs*sectorSize)
	copy(b, systemPartition[:])
	copy(b[16:], t.disk.Partition[:])
	binary.LittleEndian.PutUint64(b[32:], firstLBA)
	binary.LittleEndian.PutUint64(b[40:], t.sectors-lastLBAs-1)
	for i, c := range utf16.Encode([]rune("EFI system partition")) {
		binary.LittleEndian.PutUint16(b[56+2*i:], c)
	}
	return b
}

// header is that of the table at a sector, the first or the last (5.3.2).
func (t *table) header(at uint64, entries []byte) []byte {
	const size = 92
	other, array := t.sectors-1, uint64(2)
	if at != 1 {
		other, array = 1, at-tableLBAs
	}
	b, le := make([]byte, sectorSize), binary.LittleEndian
	copy(b, "EFI PART")
	le.PutUint32(b[8:], 0x00010000)
	le.PutUint32(b[12:], size)
	le.PutUint64(b[24:], at)
	le.PutUint64(b[32:], other)
	le.PutUint64(b[40:], 2+tableLBAs)              // FirstUsableLBA
	le.PutUint64(b[48:], t.sectors-2-tableLBAs)    // LastUsableLBA
	copy(b[56:], t.disk.GUID[:])                   // DiskGUID
	le.PutUint64(b[72:], array)                    // PartitionEntryLBA
	le.PutUint32(b[80:], uint32(len(entries)/128)) // NumberOfPartitionEntries
	le.PutUint32(b[84:], 128)
	le.PutUint32(b[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(b[16:], crc32.ChecksumIEEE(b[:size]))
	return b
}
