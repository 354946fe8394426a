package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/assay-project/assay/uefi"
)

// Of the GUID partition table (UEFI 2.10, 5.3.2 and 5.3.3).
const (
	gptSignature  = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	maxEntryTable = 1 << 20
	maxPartitions = 256
)

// A Table is the partition table of a disk.
type Table struct {
	Disk       uefi.GUID // UniqueGUID of the disk
	Partitions []Partition
	// Measured is the UEFI_GPT_DATA that firmware measures into PCR 5 (PFP 10.4.1):
	// the header, and the entries that are in use. It is nil when the table in front
	// is damaged: firmware repairs it, and what it measures then is not on the disk.
	Measured []byte
}

// A Partition is one entry in use.
type Partition struct {
	Number      int // from 1
	Type        uefi.GUID
	ID          uefi.GUID // UniquePartitionGUID
	Name        string
	Start, Size int64 // bytes
}

// Table reads the GUID partition table, from its copy at the end of the disk where
// the first is damaged. Sectors of 512 and of 4096 bytes are tried.
func (d *Disk) Table() (*Table, error) {
	var first error
	for _, sector := range []int64{512, 4096} {
		t, err := d.readTable(sector, 1)
		if err == nil {
			return t, nil
		}
		if first == nil {
			first = err
		}
	}
	for _, sector := range []int64{512, 4096} {
		if last := d.size/sector - 1; last > 1 {
			if t, err := d.readTable(sector, last); err == nil {
				t.Measured = nil
				return t, nil
			}
		}
	}
	return nil, first
}

// readTable reads the table whose header is in the sector lba.
func (d *Disk) readTable(sector, lba int64) (*Table, error) {
	b, err := read(d.r, lba*sector, int(sector))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(gptSignature)) {
		return nil, malformed("there is no GUID partition table in sector %d", lba)
	}
	size := le.Uint32(b[12:])
	if size < gptHeaderSize || int64(size) > sector {
		return nil, malformed("a partition table header of %d bytes", size)
	}
	head := bytes.Clone(b[:size])
	clear(head[16:20]) // the checksum is of the header with zeros in its place
	if crc32.ChecksumIEEE(head) != le.Uint32(b[16:]) {
		return nil, malformed("the checksum of the partition table in sector %d", lba)
	}
	count, each := le.Uint32(b[80:]), le.Uint32(b[84:])
	if le.Uint64(b[24:]) != uint64(lba) || each < gptEntrySize || each%8 != 0 || uint64(count)*uint64(each) > maxEntryTable {
		return nil, malformed("a partition table of %d entries of %d bytes", count, each)
	}
	at := le.Uint64(b[72:])
	if at > uint64(math.MaxInt64/sector) {
		return nil, malformed("the partition entries are in sector %d", at)
	}
	entries, err := read(d.r, int64(at)*sector, int(count*each))
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(b[88:]) {
		return nil, malformed("the checksum of the partition entries")
	}
	t := &Table{Disk: uefi.GUID(b[56:72])}
	return t, t.readEntries(b[:gptHeaderSize], entries, int(each), d.size, sector)
}

// readEntries takes the entries in use.
func (t *Table) readEntries(header, b []byte, each int, size, sector int64) error {
	var used []byte
	for n := 1; len(b) >= each; n++ {
		e := b[:each]
		b = b[each:]
		if uefi.GUID(e[:16]) == (uefi.GUID{}) {
			continue
		}
		if used = append(used, e...); len(used) > maxPartitions*each {
			return unsupported("more than %d partitions", maxPartitions)
		}
		first, last := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if first > last || last >= uint64(size/sector) {
			return malformed("partition %d is in the sectors %d to %d", n, first, last)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: n, Type: uefi.GUID(e[:16]), ID: uefi.GUID(e[16:32]), Name: uefi.Text(e[56:128]),
			Start: int64(first) * sector, Size: int64(last-first+1) * sector,
		})
	}
	t.Measured = bytes.Clone(header)
	t.Measured = binary.LittleEndian.AppendUint64(t.Measured, uint64(len(used)/each))
	t.Measured = append(t.Measured, used...)
	return nil
}
