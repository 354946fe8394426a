package varstore

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/wire"
)

// Sizes of the headers, and the block of the flash.
const (
	volumeSize  = 0x48 // EFI_FIRMWARE_VOLUME_HEADER with its block map
	storeSize   = 28   // VARIABLE_STORE_HEADER
	headerSize  = 60   // AUTHENTICATED_VARIABLE_HEADER
	workingSize = 32   // EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER
	blockSize   = 0x1000
	maxName     = 1024 // UTF-8 bytes; firmware's own limit is the variable's size
)

var (
	guidVolume        = uefi.MustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50") // EFI_SYSTEM_NV_DATA_FV_GUID
	guidAuthenticated = uefi.MustGUID("aaf32c78-947b-439a-a180-2e144ec37792")
	guidPlain         = uefi.MustGUID("ddcf3616-3275-4164-98b6-fe85707ffe7d")
	guidWorking       = uefi.MustGUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95")
)

// volumeHeader lays out the EFI_FIRMWARE_VOLUME_HEADER (PI 1.8, volume 3, 3.2.1)
// of a layout.
func volumeHeader(g geometry) []byte {
	le := binary.LittleEndian
	b := make([]byte, volumeSize)
	copy(b[0x10:], guidVolume[:])
	le.PutUint64(b[0x20:], uint64(g.size))
	copy(b[0x28:], "_FVH")
	le.PutUint32(b[0x2C:], 0x0004FEFF) // attributes: readable, writable, sticky, erased to ones
	le.PutUint16(b[0x30:], volumeSize)
	b[0x37] = 2 // revision
	le.PutUint32(b[0x38:], uint32(g.size/blockSize))
	le.PutUint32(b[0x3C:], blockSize)
	sum := uint16(0)
	for i := 0; i < len(b); i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[0x32:], -sum) // all 16-bit words together are zero
	return b
}

// storeHeader lays out a VARIABLE_STORE_HEADER that is formatted and healthy.
func storeHeader(g geometry) []byte {
	b := make([]byte, storeSize)
	copy(b, guidAuthenticated[:])
	binary.LittleEndian.PutUint32(b[16:], uint32(g.end-volumeSize))
	b[20], b[21] = 0x5A, 0xFE
	return b
}

// workingHeader lays out the header of an empty queue of writes.
func workingHeader() []byte {
	b := make([]byte, workingSize)
	for i := range b {
		b[i] = 0xFF
	}
	copy(b, guidWorking[:])
	binary.LittleEndian.PutUint64(b[24:], blockSize-workingSize)
	// The checksum is made while checksum and state are erased.
	binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b))
	b[20] = 0xFE
	return b
}

// The states of a variable: bits are only ever cleared.
const (
	stateAdded      = 0x3F
	stateTransition = 0x3E // a newer one is being written
	stateHeaderOnly = 0x7F
	stateNone       = 0xFF
)

// A header is an AUTHENTICATED_VARIABLE_HEADER without its sizes.
type header struct {
	state      uint8
	Attributes uint32
	Monotonic  uint64
	Time       uefi.Time
	keyIndex   uint32
	Vendor     uefi.GUID
}

// An entry is a variable as stored.
type entry struct {
	header
	reserved   uint8
	name, data []byte // name: UTF-16 with NUL
}

// Wire lays out an authenticated variable with the fill that follows it.
func (e *entry) Wire(c *wire.Codec) {
	start := uint16(0x55AA)
	wire.U16(c, &start)
	c.Check(start == 0x55AA, wire.ErrRange)
	wire.U8(c, &e.state)
	wire.U8(c, &e.reserved)
	wire.U32(c, &e.Attributes)
	wire.U64(c, &e.Monotonic)
	e.Time.Wire(c)
	wire.U32(c, &e.keyIndex)
	name, data := uint32(len(e.name)), uint32(len(e.data))
	wire.U32(c, &name)
	wire.U32(c, &data)
	c.Bytes(e.Vendor[:])
	// VariableFormat.h: a header without a state, or with erased sizes, is that of
	// nothing.
	if c.Decoding() && (e.state == stateNone || name == math.MaxUint32 || data == math.MaxUint32 || e.Attributes == math.MaxUint32) {
		name, data = 0, 0
	}
	c.Check(uint64(name)+uint64(data) <= blockSize*128, wire.ErrSize)
	if c.Err() != nil {
		return
	}
	c.Raw(&e.name, int(name))
	c.Raw(&e.data, int(data))
	fill := []byte{0xFF, 0xFF, 0xFF}[:-(headerSize+int(name)+int(data))&3]
	if !c.Decoding() || c.Remaining() >= len(fill) {
		c.Raw(&fill, len(fill))
	}
}

// size is the room that an entry takes, with the fill to the next.
func (e *entry) size() int { return (headerSize + len(e.name) + len(e.data) + 3) &^ 3 }

func (e *entry) variable() Variable {
	return Variable{
		Vendor: e.Vendor, Name: uefi.Text(e.name), Attributes: e.Attributes,
		Monotonic: e.Monotonic, Time: e.Time, Data: e.data[:len(e.data):len(e.data)],
	}
}

// whole reports whether the entry's name is one: UTF-16 that ends with the only NUL.
func (e *entry) whole() bool {
	n := len(e.name)
	if n < 4 || n%2 != 0 || len(e.data) == 0 {
		return false
	}
	for i := 0; i < n; i += 2 {
		if zero := e.name[i] == 0 && e.name[i+1] == 0; zero != (i == n-2) {
			return false
		}
	}
	return true
}
