//go:build unix

package state

import (
	"encoding/binary"
	"hash/crc32"
)

// A slot is written in blocks no larger than what a disk writes at once, each with
// a stamp of the generation that it is of. After a write that was cut off some
// blocks have the new stamp and others the old; damage has no valid stamp. So the
// two are told apart, and with that an unfinished generation, which nobody was told
// of, from one that is lost.
const (
	blockSize = 512
	stampSize = 16
	blockText = blockSize - stampSize
	// minBlocks lets the second block speak for a generation whose first is damaged.
	minBlocks = 2
)

// A stamp ends each block.
type stamp struct {
	generation uint64
	slot       uint8
	index      uint16 // of the block in its slot
}

// blocksFor is the number of blocks that hold n bytes.
func blocksFor(n int) int { return max(minBlocks, (n+blockText-1)/blockText) }

// seal writes the stamp into a block.
func (s stamp) seal(block []byte) {
	t := block[blockText:]
	binary.BigEndian.PutUint64(t, s.generation)
	t[8], t[9] = s.slot, 0
	binary.BigEndian.PutUint16(t[10:], s.index)
	binary.BigEndian.PutUint32(t[12:], checksum(block))
}

// readStamp returns the stamp of a block; ok is false when the block is damaged.
func readStamp(block []byte) (s stamp, ok bool) {
	t := block[blockText:]
	if binary.BigEndian.Uint32(t[12:]) != checksum(block) || t[9] != 0 {
		return stamp{}, false
	}
	return stamp{binary.BigEndian.Uint64(t), t[8], binary.BigEndian.Uint16(t[10:])}, true
}

// checksum finds damage; who wrote a block the seal inside must tell.
func checksum(block []byte) uint32 {
	return crc32.Checksum(block[:blockSize-4], crc32.MakeTable(crc32.Castagnoli))
}

// frame appends the parts of a text, one after the other, as the blocks of one generation.
func frame(dst []byte, slot int, generation uint64, parts ...[]byte) []byte {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	for i := range blocksFor(size) {
		at := len(dst)
		dst = append(dst, blankBlock[:]...)
		block := dst[at:]
		for to := block[:blockText]; len(parts) > 0; parts = parts[1:] {
			n := copy(to, parts[0])
			if to = to[n:]; n < len(parts[0]) {
				parts[0] = parts[0][n:]
				break
			}
		}
		stamp{generation, uint8(slot), uint16(i)}.seal(block)
	}
	return dst
}

var blankBlock [blockSize]byte

// blank appends blocks that nothing was written to: generation 0.
func blank(dst []byte, slot, from, to int) []byte {
	for i := from; i < to; i++ {
		at := len(dst)
		dst = append(dst, blankBlock[:]...)
		stamp{0, uint8(slot), uint16(i)}.seal(dst[at:])
	}
	return dst
}

// unframe collects the text of the first n blocks.
func unframe(raw []byte, n int) []byte {
	text := make([]byte, 0, n*blockText)
	for i := range n {
		text = append(text, raw[i*blockSize:i*blockSize+blockText]...)
	}
	return text
}
