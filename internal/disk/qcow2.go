package disk

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
)

// Of docs/interop/qcow2.
const (
	qcow2Magic       = "QFI\xfb"
	qcow2HeaderV2    = 72
	qcow2HeaderV3    = 104
	maxVirtualSize   = 1 << 46 // 64 TiB
	incompatDirty    = 1 << 0  // counts of references may be wrong: they are not read
	incompatCorrupt  = 1 << 1
	incompatExternal = 1 << 2 // the data is in another file
	incompatCompress = 1 << 3 // the header names the compression
	offsetMask       = 0x00FFFFFFFFFFFE00
	flagCompressed   = 1 << 62
	maxInflated      = 8 << 20 // bytes of inflated clusters that are kept
)

// A qcow2 is an image in this format. Tables are not held: an entry is read when it
// is needed, so that no size that the header gives costs memory.
type qcow2 struct {
	r       io.ReaderAt
	file    int64
	size    int64
	bits    uint  // of a cluster's size
	table   int64 // the L1 table
	entries int64 // of it
	zeros   bool  // version 3: an entry may say that a cluster reads as zeros

	mu       sync.Mutex // guards inflated
	inflated []inflated // the newest first
}

type inflated struct {
	entry uint64
	data  []byte
}

func openQCOW2(r io.ReaderAt, size int64) (*qcow2, error) {
	h, err := read(r, 0, qcow2HeaderV2)
	if err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(h[:4]) != qcow2Magic {
		return nil, malformed("it is no qcow2 image")
	}
	q := &qcow2{r: r, file: size, bits: uint(be.Uint32(h[20:])), entries: int64(be.Uint32(h[36:]))}
	switch version := be.Uint32(h[4:]); {
	case version == 3:
		q.zeros = true
		if err := checkFeatures(r); err != nil {
			return nil, err
		}
	case version != 2:
		return nil, unsupported("qcow2 of version %d", version)
	}
	virtual, table := be.Uint64(h[24:]), be.Uint64(h[40:])
	switch {
	case be.Uint64(h[8:]) != 0:
		return nil, unsupported("a qcow2 image with a backing file, which is not followed")
	case be.Uint32(h[32:]) != 0:
		return nil, unsupported("an encrypted qcow2 image")
	case q.bits < 9 || q.bits > 21:
		return nil, malformed("qcow2 clusters of 2^%d bytes", q.bits)
	case virtual > maxVirtualSize:
		return nil, unsupported("a disk of %d bytes", virtual)
	case table%(1<<q.bits) != 0 || table > uint64(size):
		return nil, malformed("the L1 table is at %d", table)
	}
	q.size, q.table = int64(virtual), int64(table)
	if need := (q.size + q.span() - 1) / q.span(); need > q.entries {
		return nil, malformed("an L1 table of %d entries, where the disk needs %d", q.entries, need)
	}
	return q, nil
}

// checkFeatures reads what version 3 added to the header.
func checkFeatures(r io.ReaderAt) error {
	h, err := read(r, 0, qcow2HeaderV3+1)
	if err != nil {
		return err
	}
	features := binary.BigEndian.Uint64(h[72:])
	length := binary.BigEndian.Uint32(h[100:])
	switch {
	case length < qcow2HeaderV3:
		return malformed("a qcow2 header of %d bytes", length)
	case features&incompatExternal != 0:
		return unsupported("a qcow2 image with its data in another file, which is not followed")
	case features&incompatCorrupt != 0:
		return malformed("QEMU has marked the image as corrupt")
	case features&incompatCompress != 0 && length > qcow2HeaderV3 && h[qcow2HeaderV3] != 0:
		return unsupported("a qcow2 image with compression of type %d: deflate is read", h[qcow2HeaderV3])
	case features&^(incompatDirty|incompatCompress) != 0:
		return unsupported("a qcow2 image with the features %#x", features)
	}
	return nil
}

func (q *qcow2) cluster() int64 { return 1 << q.bits }

// span is how much of the disk one L2 table maps.
func (q *qcow2) span() int64 { return q.cluster() * (q.cluster() / 8) }

// ReadAt reads the disk; what was never written is zeros.
func (q *qcow2) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errors.New("read disk: negative offset")
	}
	done := 0
	for done < len(p) {
		if at >= q.size {
			return done, io.EOF
		}
		within := at & (q.cluster() - 1)
		n := int(min(q.cluster()-within, int64(len(p)-done), q.size-at))
		if err := q.readCluster(p[done:done+n], at-within, within); err != nil {
			return done, err
		}
		done += n
		at += int64(n)
	}
	return done, nil
}

// readCluster reads part of the cluster that begins at an offset of the disk.
func (q *qcow2) readCluster(p []byte, cluster, within int64) error {
	l1, err := q.entry(q.table + cluster/q.span()*8)
	if err != nil {
		return err
	}
	clear(p)
	if l1&offsetMask == 0 {
		return nil
	}
	if l1&offsetMask&uint64(q.cluster()-1) != 0 {
		return malformed("an L2 table at %#x", l1&offsetMask)
	}
	l2, err := q.entry(int64(l1&offsetMask) + cluster%q.span()/q.cluster()*8)
	if err != nil {
		return err
	}
	switch {
	case l2&flagCompressed != 0:
		data, err := q.inflate(l2)
		if err == nil {
			copy(p, data[within:])
		}
		return err
	case q.zeros && l2&1 != 0, l2&offsetMask == 0:
		return nil
	case l2&offsetMask&uint64(q.cluster()-1) != 0:
		return malformed("a cluster at %#x", l2&offsetMask)
	}
	n, err := q.r.ReadAt(p, int64(l2&offsetMask)+within)
	if n < len(p) && errors.Is(err, io.EOF) {
		return nil // the file ends before the cluster does: QEMU reads zeros
	}
	if n < len(p) {
		return err
	}
	return nil
}

func (q *qcow2) entry(at int64) (uint64, error) {
	b, err := read(q.r, at, 8)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// inflate returns a compressed cluster. Files are read in small pieces, so that the
// last clusters are kept.
func (q *qcow2) inflate(entry uint64) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.IndexFunc(q.inflated, func(c inflated) bool { return c.entry == entry }); i >= 0 {
		return q.inflated[i].data, nil
	}
	at, length := q.packed(entry)
	if at >= q.file {
		return nil, malformed("a compressed cluster at %#x", at)
	}
	packed, err := read(q.r, at, int(min(length, q.file-at)))
	if err != nil {
		return nil, err
	}
	data := make([]byte, q.cluster())
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(packed)), data); err != nil {
		return nil, malformed("a compressed cluster at %#x: %v", at, err)
	}
	keep := max(1, int(maxInflated>>q.bits))
	q.inflated = slices.Insert(q.inflated, 0, inflated{entry, data})
	q.inflated = q.inflated[:min(len(q.inflated), keep)]
	return data, nil
}

// packed is where a compressed cluster lies in the file ("Compressed Clusters Descriptor").
func (q *qcow2) packed(entry uint64) (at, length int64) {
	shift := 62 - (q.bits - 8)
	at = int64(entry & (1<<shift - 1))
	sectors := int64(entry&(flagCompressed-1)>>shift) + 1
	return at, sectors*512 - at%512
}
