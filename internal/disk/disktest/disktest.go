// Package disktest makes disks for tests: a GUID partition table with one FAT file
// system, raw or as qcow2.
//
// What it makes is meant to be right; tests that want something wrong change bytes of
// it. Start with [Image].
package disktest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/assay-project/assay/uefi"
)

// The identifiers that a disk of this package has.
var (
	DiskID      = uefi.MustGUID("11111111-2222-3333-4444-555555555555")
	PartitionID = uefi.MustGUID("66666666-7777-8888-9999-aaaaaaaaaaaa")
)

const (
	sector  = 512
	start   = 2048 // sectors before the partition
	entries = 128  // of the partition table
)

// Image makes a raw disk whose one partition, an EFI system partition, has files by
// their paths.
func Image(files map[string][]byte) []byte { return Partitioned(FAT(16, files)) }

// Partitioned makes a raw disk of one partition.
func Partitioned(volume []byte) []byte {
	return PartitionedSize(volume, len(volume)/sector)
}

// PartitionedSize is Partitioned with a partition of that many sectors.
func PartitionedSize(volume []byte, sectors int) []byte {
	total := start + sectors + 33
	out := make([]byte, total*sector)
	le := binary.LittleEndian
	out[446+4] = 0xEE // the protective MBR (UEFI 2.10, 5.2.3)
	le.PutUint32(out[446+8:], 1)
	le.PutUint32(out[446+12:], uint32(total-1))
	copy(out[510:], "\x55\xAA")
	table := make([]byte, entries*128)
	esp := uefi.MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
	copy(table, esp[:])
	copy(table[16:], PartitionID[:])
	le.PutUint64(table[32:], start)
	le.PutUint64(table[40:], uint64(start+sectors-1))
	for i, u := range utf16.Encode([]rune("ESP")) {
		le.PutUint16(table[56+2*i:], u)
	}
	copy(out[2*sector:], table)
	copy(out[(total-33)*sector:], table)
	copy(out[sector:], header(table, total, 1, 2))
	copy(out[(total-1)*sector:], header(table, total, total-1, total-33))
	copy(out[start*sector:], volume)
	return out
}

func header(table []byte, total, at, entriesAt int) []byte {
	h := make([]byte, 92)
	le := binary.LittleEndian
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], uint64(at))
	le.PutUint64(h[32:], uint64(total-at))
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], uint64(total-34))
	copy(h[56:], DiskID[:])
	le.PutUint64(h[72:], uint64(entriesAt))
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return h
}

// A writer lays out a file system.
type writer struct {
	width, cluster int
	table          []uint32
	data           []byte // from cluster 2
}

// FAT makes a file system with allocation entries of 12, 16 or 32 bits.
func FAT(width int, files map[string][]byte) []byte {
	size := 0
	for _, b := range files {
		size += len(b) + 4096
	}
	w := &writer{width: width, cluster: sector, table: []uint32{0x0FFFFFF8, 0x0FFFFFFF}}
	for size/w.cluster > 60000 && width != 32 {
		w.cluster *= 2
	}
	top := w.folder("", files)
	rootSectors := 0
	var rootCluster uint32
	if width == 32 {
		rootCluster = w.add(top)
	} else {
		rootSectors = max(32, (len(top)+sector-1)/sector)
	}
	clusters := len(w.data)/w.cluster + 8
	clusters = max(clusters, map[int]int{12: 64, 16: 4200, 32: 66000}[width])
	tableSectors := ((clusters+2)*width/8 + sector) / sector
	reserved := map[int]int{12: 1, 16: 1, 32: 32}[width]
	total := reserved + 2*tableSectors + rootSectors + clusters*w.cluster/sector
	out := make([]byte, total*sector)
	w.boot(out, []int{reserved, rootSectors, total, tableSectors, int(rootCluster)})
	for i := range 2 {
		w.allocation(out[(reserved+i*tableSectors)*sector:])
	}
	at := (reserved + 2*tableSectors) * sector
	if rootSectors > 0 {
		copy(out[at:], top)
	}
	copy(out[at+rootSectors*sector:], w.data)
	return out
}

// boot writes the header: reserved sectors, those of the root folder, all, those of a
// table, and the root folder's cluster.
func (w *writer) boot(b []byte, n []int) {
	le := binary.LittleEndian
	copy(b, "\xEB\x3C\x90ASSAY   ")
	le.PutUint16(b[11:], sector)
	b[13] = byte(w.cluster / sector)
	le.PutUint16(b[14:], uint16(n[0]))
	b[16] = 2
	le.PutUint16(b[17:], uint16(n[1]*sector/32))
	b[21] = 0xF8
	le.PutUint32(b[32:], uint32(n[2]))
	if w.width == 32 {
		le.PutUint32(b[36:], uint32(n[3]))
		le.PutUint32(b[44:], uint32(n[4]))
	} else {
		le.PutUint16(b[22:], uint16(n[3]))
	}
	copy(b[510:], "\x55\xAA")
}

func (w *writer) allocation(b []byte) {
	le := binary.LittleEndian
	for i, v := range w.table {
		switch w.width {
		case 12:
			at := i * 3 / 2
			old := le.Uint16(b[at:])
			if i%2 == 0 {
				le.PutUint16(b[at:], old&0xF000|uint16(v)&0xFFF)
			} else {
				le.PutUint16(b[at:], old&0xF|uint16(v)<<4)
			}
		case 16:
			le.PutUint16(b[2*i:], uint16(v))
		default:
			le.PutUint32(b[4*i:], v)
		}
	}
}

// add appends a file, and returns its first cluster.
func (w *writer) add(b []byte) uint32 {
	if len(b) == 0 {
		return 0
	}
	first := uint32(len(w.table))
	w.data = append(w.data, b...)
	w.data = append(w.data, make([]byte, (w.cluster-len(b)%w.cluster)%w.cluster)...)
	for range (len(b) + w.cluster - 1) / w.cluster {
		w.table = append(w.table, uint32(len(w.table)+1))
	}
	w.table[len(w.table)-1] = 0x0FFFFFFF
	return first
}

// folder makes the entries of a folder; what is in it is added.
func (w *writer) folder(dir string, files map[string][]byte) []byte {
	var names []string
	for path := range files {
		if rest, ok := strings.CutPrefix(path, dir); ok {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []byte
	for n, name := range slices.Compact(names) {
		if b, ok := files[dir+name]; ok {
			out = append(out, entry(name, n, 0x20, w.add(b), len(b))...)
			continue
		}
		inside := w.folder(dir+name+"/", files)
		dots := append(short([]byte(".          "), 0x10, 0, 0), short([]byte("..         "), 0x10, 0, 0)...)
		out = append(out, entry(name, n, 0x10, w.add(append(dots, inside...)), 0)...)
	}
	return out
}

// entry makes the long and the short entry of a name.
func entry(name string, number int, attributes byte, first uint32, size int) []byte {
	alias := []byte("A          ")
	alias[1], alias[2] = '0'+byte(number/10%10), '0'+byte(number%10)
	units := append(utf16.Encode([]rune(name)), 0)
	for len(units)%13 != 0 {
		units = append(units, 0xFFFF)
	}
	var sum byte
	for _, c := range alias {
		sum = sum>>1 | sum<<7
		sum += c
	}
	var out []byte
	for n := len(units) / 13; n > 0; n-- {
		e := make([]byte, 32)
		e[0], e[11], e[13] = byte(n), 0x0F, sum
		if n == len(units)/13 {
			e[0] |= 0x40
		}
		part := units[13*(n-1):]
		for i, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			binary.LittleEndian.PutUint16(e[at:], part[i])
		}
		out = append(out, e...)
	}
	return append(out, short(alias, attributes, first, size)...)
}

func short(name []byte, attributes byte, first uint32, size int) []byte {
	e := make([]byte, 32)
	copy(e, name)
	e[11] = attributes
	binary.LittleEndian.PutUint16(e[20:], uint16(first>>16))
	binary.LittleEndian.PutUint16(e[26:], uint16(first))
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
	return e
}

// QCOW2 wraps a raw disk, without compression; what is zeros is not stored.
func QCOW2(raw []byte) []byte {
	const bits, cluster = 16, 1 << 16
	be := binary.BigEndian
	count := (len(raw) + cluster - 1) / cluster
	tables := (count + cluster/8 - 1) / (cluster / 8)
	out := make([]byte, (2+tables)*cluster) // header, L1 table, L2 tables
	copy(out, "QFI\xfb")
	be.PutUint32(out[4:], 3)
	be.PutUint32(out[20:], bits)
	be.PutUint64(out[24:], uint64(len(raw)))
	be.PutUint32(out[36:], uint32(tables))
	be.PutUint64(out[40:], cluster)
	be.PutUint32(out[96:], 4)
	be.PutUint32(out[100:], 104)
	for i := range tables {
		be.PutUint64(out[cluster+8*i:], uint64(2+i)*cluster|1<<63)
	}
	for i := range count {
		b := raw[i*cluster : min((i+1)*cluster, len(raw))]
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		be.PutUint64(out[(2*cluster)+8*i:], uint64(len(out))|1<<63)
		out = append(out, b...)
		out = append(out, make([]byte, cluster-len(b))...)
	}
	return out
}
