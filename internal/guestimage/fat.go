package guestimage

import (
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Of FAT32 (General Overview of On-Disk Format, "FAT32").
const (
	reserved    = 32 // sectors before the first table
	tables      = 2
	infoSector  = 1
	backupBoot  = 6
	minClusters = 65525 // with fewer the volume would be FAT16
	rootCluster = 2
	maxCluster  = 8 // sectors
	entrySize   = 32
	endOfChain  = 0x0FFFFFFF

	attributeFolder  = 0x10
	attributeArchive = 0x20
)

// A volume is a file system that is being laid out.
type volume struct {
	disk        *Disk
	sectors     uint32
	perCluster  uint32 // sectors
	tableSize   uint32 // sectors of one table
	clusters    uint32
	next        uint32 // free cluster
	table       []uint32
	root        *node
	stamp, date uint16
}

// A node is a file or a folder.
type node struct {
	name     string // "BOOTX64.EFI"; "" is the root
	parent   *node
	children []*node // nil for a file
	folder   bool
	data     []byte // of a file
	cluster  uint32 // first; 0 of an empty file
}

// volume writes the file system of a partition.
func (d *Disk) volume(w io.WriterAt, sectors uint32) error {
	v := &volume{disk: d, sectors: sectors, next: rootCluster, root: &node{folder: true}}
	t := d.Time.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		return fmt.Errorf("time %s of the files: %w", t.Format(time.RFC3339), ErrSize)
	}
	v.stamp = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	v.date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	for _, f := range d.Files {
		if err := v.root.file(f); err != nil {
			return err
		}
	}
	v.measure()
	v.table = []uint32{0x0FFFFFF8, endOfChain}
	if err := v.place(v.root); err != nil {
		return err
	}
	return v.write(w)
}

// shortName is a name of a file as FAT keeps it without more entries.
var shortName = regexp.MustCompile(`^[A-Z0-9_-]{1,8}(\.[A-Z0-9_-]{1,3})?$`)

// file puts a file into the tree, with the folders that it is in.
func (n *node) file(f File) error {
	parts := strings.Split(strings.ToUpper(f.Name), "/")
	for i, name := range parts {
		if !shortName.MatchString(name) {
			return fmt.Errorf("file %q: %w", f.Name, ErrName)
		}
		last := i == len(parts)-1
		child := n.child(name)
		switch {
		case child == nil:
			child = &node{name: name, parent: n, folder: !last}
			n.children = append(n.children, child)
		case last || !child.folder:
			return fmt.Errorf("file %q: %w", f.Name, ErrExists)
		}
		n = child
	}
	n.data = f.Data
	return nil
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// measure chooses the size of a cluster, the largest that leaves enough of them, and
// the size of a table.
func (v *volume) measure() {
	for v.perCluster = maxCluster; ; v.perCluster /= 2 {
		// The data that a table of one sector describes takes 128 clusters, and the
		// tables have to fit beside it.
		space := v.sectors - reserved
		v.tableSize = (space + 128*v.perCluster + tables - 1) / (128*v.perCluster + tables)
		v.clusters = (space - tables*v.tableSize) / v.perCluster
		if v.clusters >= minClusters || v.perCluster == 1 {
			return
		}
	}
}

// place gives a node and what is below it their clusters.
func (v *volume) place(n *node) error {
	size := uint64(len(n.data))
	if n.folder {
		size = uint64(len(n.children)+2) * entrySize // with . and ..
	}
	bytes := uint64(v.perCluster) * sectorSize
	count := (size + bytes - 1) / bytes
	if uint64(v.next-rootCluster)+count > uint64(v.clusters) {
		return fmt.Errorf("file %q of %d bytes: %w", n.name, size, ErrSize)
	}
	if count > 0 {
		n.cluster = v.next
	}
	for i := range count {
		v.next++
		link := v.next
		if i == count-1 {
			link = endOfChain
		}
		v.table = append(v.table, link)
	}
	for _, c := range n.children {
		if err := v.place(c); err != nil {
			return err
		}
	}
	return nil
}

// write writes all that is not zero.
func (v *volume) write(w io.WriterAt) error {
	boot, info := v.boot(), v.info()
	fat := make([]byte, 0, 4*len(v.table))
	for _, link := range v.table {
		fat = binary.LittleEndian.AppendUint32(fat, link)
	}
	for _, part := range []struct {
		sector uint32
		data   []byte
	}{
		{0, boot},
		{infoSector, info},
		{backupBoot, boot},
		{backupBoot + infoSector, info},
		{reserved, fat},
		{reserved + v.tableSize, fat},
	} {
		if _, err := w.WriteAt(part.data, int64(part.sector)*sectorSize); err != nil {
			return err
		}
	}
	return v.content(w, v.root)
}

// content writes a node and what is below it.
func (v *volume) content(w io.WriterAt, n *node) error {
	data := n.data
	if n.folder {
		data = v.folder(n)
	}
	if len(data) == 0 {
		return nil
	}
	sector := reserved + tables*v.tableSize + (n.cluster-rootCluster)*v.perCluster
	if _, err := w.WriteAt(data, int64(sector)*sectorSize); err != nil {
		return err
	}
	for _, c := range n.children {
		if err := v.content(w, c); err != nil {
			return err
		}
	}
	return nil
}

// folder makes the entries of a folder. Only the root is without . and .., and for
// the root .. is cluster 0.
func (v *volume) folder(n *node) (out []byte) {
	if n.parent != nil {
		up := n.parent.cluster
		if n.parent.parent == nil {
			up = 0
		}
		out = append(out, v.entry(".", &node{folder: true, cluster: n.cluster})...)
		out = append(out, v.entry("..", &node{folder: true, cluster: up})...)
	}
	for _, c := range n.children {
		out = append(out, v.entry(c.name, c)...)
	}
	return out
}

// entry is one of a folder.
func (v *volume) entry(name string, n *node) []byte {
	b, le := make([]byte, entrySize), binary.LittleEndian
	copy(b, "           ")
	if name == "." || name == ".." {
		copy(b, name)
	} else {
		base, extension, _ := strings.Cut(name, ".")
		copy(b, base)
		copy(b[8:], extension)
	}
	if b[11] = attributeArchive; n.folder {
		b[11] = attributeFolder
	}
	le.PutUint16(b[14:], v.stamp)
	le.PutUint16(b[16:], v.date)
	le.PutUint16(b[18:], v.date)
	le.PutUint16(b[20:], uint16(n.cluster>>16))
	le.PutUint16(b[22:], v.stamp)
	le.PutUint16(b[24:], v.date)
	le.PutUint16(b[26:], uint16(n.cluster))
	le.PutUint32(b[28:], uint32(len(n.data))) // 0 of a folder
	return b
}

// boot is the first sector, and its copy.
func (v *volume) boot() []byte {
	b, le := make([]byte, sectorSize), binary.LittleEndian
	copy(b, "\xEB\x58\x90ASSAY   ")
	le.PutUint16(b[11:], sectorSize)
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], reserved)
	b[16] = tables
	b[21] = 0xF8                   // fixed medium
	le.PutUint16(b[24:], 63)       // sectors of a track
	le.PutUint16(b[26:], 255)      // heads
	le.PutUint32(b[28:], firstLBA) // hidden sectors
	le.PutUint32(b[32:], v.sectors)
	le.PutUint32(b[36:], v.tableSize)
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], infoSector)
	le.PutUint16(b[50:], backupBoot)
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], v.disk.Volume)
	copy(b[71:], "NO NAME    FAT32   ")
	b[510], b[511] = 0x55, 0xAA
	return b
}

// info is the sector that says what is free.
func (v *volume) info() []byte {
	b, le := make([]byte, sectorSize), binary.LittleEndian
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	le.PutUint32(b[488:], v.clusters-(v.next-rootCluster))
	le.PutUint32(b[492:], v.next)
	b[510], b[511] = 0x55, 0xAA
	return b
}
