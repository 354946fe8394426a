package disk

import (
	"context"
	"encoding/binary"
	"io"
	"math/bits"
)

// Of docs/interop/qcow2, "Snapshots"; the limits are QEMU's own (block/qcow2.h).
const (
	qcow2Snapshot    = 40 // bytes of an entry before its extra data
	maxSnapshots     = 1 << 16
	maxSnapshotExtra = 1 << 10
	maxL1            = 32 << 20 // bytes of an L1 table
	maxMarked        = 1 << 28  // clusters of a file, which cost 32 MiB of marks at most
	maxTables        = 1 << 30  // bytes of tables that are read, which may all be holes
)

// Kept returns how many bytes of a qcow2 image's file its internal snapshots have a part in:
// what the guest writes to these it writes elsewhere, and the file grows. It is 0 for an image
// without snapshots. One that a hypervisor writes may be [ErrMalformed] for a moment; one with
// more tables than are read in a reasonable time is [ErrUnsupported].
func Kept(ctx context.Context, r io.ReaderAt, size int64) (int64, error) {
	h, err := read(r, 0, qcow2HeaderV2)
	if err != nil {
		return 0, err
	}
	count, at := binary.BigEndian.Uint32(h[60:]), binary.BigEndian.Uint64(h[64:])
	if count == 0 {
		return 0, nil
	}
	q, err := openQCOW2(r, size)
	switch {
	case err != nil:
		return 0, err
	case count > maxSnapshots:
		return 0, malformed("%d snapshots", count)
	case size>>q.bits > maxMarked:
		return 0, unsupported("a file of %d clusters", size>>q.bits)
	case at > uint64(size):
		return 0, malformed("the snapshots are at %d", at)
	}
	k := keeping{qcow2: q, left: maxTables, pages: map[int64]*page{}}
	next := int64(at)
	for range count {
		if next, err = k.snapshot(ctx, next); err != nil {
			return 0, err
		}
	}
	return k.clusters() << q.bits, nil
}

// keeping marks the clusters of a file that snapshots have a part in.
type keeping struct {
	*qcow2
	left  int64           // bytes of tables that may still be read
	pages map[int64]*page // by the number of their first cluster; only those with a mark
}

// A page has a mark for each of its clusters.
type page [512]uint64

const pageClusters = 512 * 64

// read reads a part of the tables.
func (k *keeping) read(ctx context.Context, at, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k.left -= n; k.left < 0 {
		return nil, unsupported("snapshots with more than %d bytes of tables", int64(maxTables))
	}
	return read(k.r, at, int(n))
}

// mark marks a cluster, and reports whether it was not marked before.
func (k *keeping) mark(cluster int64) bool {
	p := k.pages[cluster/pageClusters]
	if p == nil {
		p = new(page)
		k.pages[cluster/pageClusters] = p
	}
	word, bit := &p[cluster%pageClusters/64], uint64(1)<<(cluster%64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}

func (k *keeping) clusters() (n int64) {
	for _, p := range k.pages {
		for _, word := range p {
			n += int64(bits.OnesCount64(word))
		}
	}
	return n
}

// snapshot marks what one snapshot has, and returns where the entry of the next is.
func (k *keeping) snapshot(ctx context.Context, at int64) (next int64, err error) {
	e, err := k.read(ctx, at, qcow2Snapshot)
	if err != nil {
		return 0, err
	}
	be := binary.BigEndian
	table, entries, extra := be.Uint64(e), int64(be.Uint32(e[8:])), int64(be.Uint32(e[36:]))
	switch {
	case extra > maxSnapshotExtra:
		return 0, malformed("a snapshot with %d bytes of extra data", extra)
	case entries*8 > maxL1:
		return 0, malformed("an L1 table of %d entries", entries)
	case table%uint64(k.cluster()) != 0 || table > uint64(k.file):
		return 0, malformed("the L1 table of a snapshot is at %d", table)
	}
	if err := k.l1(ctx, int64(table), entries); err != nil {
		return 0, err
	}
	length := qcow2Snapshot + extra + int64(be.Uint16(e[12:])) + int64(be.Uint16(e[14:]))
	return at + (length+7)&^7, nil
}

// l1 marks an L1 table, which is one snapshot's alone, and what it leads to.
func (k *keeping) l1(ctx context.Context, table, entries int64) error {
	for at := int64(0); at < entries*8; at += k.cluster() {
		if !k.mark((table + at) >> k.bits) {
			return malformed("an L1 table of a snapshot is that of another")
		}
		part, err := k.read(ctx, table+at, min(k.cluster(), entries*8-at))
		if err != nil {
			return err
		}
		for ; len(part) > 0; part = part[8:] {
			if err := k.l2(ctx, binary.BigEndian.Uint64(part)&offsetMask); err != nil {
				return err
			}
		}
	}
	return nil
}

// l2 marks an L2 table, which several may have, and the clusters in it.
func (k *keeping) l2(ctx context.Context, table uint64) error {
	if table == 0 {
		return nil
	}
	if table&uint64(k.cluster()-1) != 0 || table >= uint64(k.file) {
		return malformed("an L2 table at %#x", table)
	}
	if !k.mark(int64(table) >> k.bits) {
		return nil
	}
	part, err := k.read(ctx, int64(table), k.cluster())
	if err != nil {
		return err
	}
	for ; len(part) > 0; part = part[8:] {
		entry := binary.BigEndian.Uint64(part)
		from, length := int64(entry&offsetMask), int64(1)
		if entry&flagCompressed != 0 {
			from, length = k.packed(entry)
		} else if from == 0 {
			continue
		} else if from&(k.cluster()-1) != 0 {
			return malformed("a cluster at %#x", from)
		}
		if from >= k.file {
			return malformed("a cluster at %#x", from)
		}
		for c := from >> k.bits; c <= (from+length-1)>>k.bits; c++ {
			k.mark(c)
		}
	}
	return nil
}
