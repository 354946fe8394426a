//go:build unix

package state

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/wire"
)

// Version is the newest format that this package writes and reads.
const Version = 1

// Magic begins every file.
const Magic = "ASSAYNVR"

// The layout of a file: the header, the slots, the header again.
const (
	headerSize  = 8 << 10
	slotCount   = 4
	minSlotSize = 16 << 10
	maxSlotSize = 16 << 20
)

// Limits of the header.
const (
	maxProviderName = 255
	maxWrapped      = 4096
	maxHeaderExtra  = 1024
)

// header is what stands, twice, around the slots. Its MAC is by the file's key.
type header struct {
	Version, Oldest uint16
	id              ID
	slots           uint8
	slotSize        uint32
	provider        []byte
	wrapped         []byte // the file's key, by the provider
	// extra is for later versions that this one can still read.
	extra []byte
	mac   [sha256.Size]byte
}

// Wire lays out the header (docs/formats/nvram.md).
func (h *header) Wire(c *wire.Codec) {
	h.wireClaims(c)
	c.Bytes(h.mac[:])
}

func (h *header) wireClaims(c *wire.Codec) {
	m := [len(Magic)]byte([]byte(Magic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == Magic, NotOurs)
	wire.U16(c, &h.Version)
	wire.U16(c, &h.Oldest)
	c.Check(h.Oldest <= Version, NewerFormat)
	c.Check(h.Version >= 1 && h.Oldest >= 1 && h.Oldest <= h.Version, wire.ErrRange)
	c.Bytes(h.id[:])
	c.Check(!h.id.IsZero(), wire.ErrRange)
	wire.U8(c, &h.slots)
	c.Check(h.slots == slotCount, wire.ErrRange)
	wire.U32(c, &h.slotSize)
	c.Check(h.slotSize >= minSlotSize && h.slotSize <= maxSlotSize && h.slotSize%blockSize == 0, wire.ErrRange)
	c.Sized16(&h.provider, maxProviderName)
	c.Sized16(&h.wrapped, maxWrapped)
	c.Check(len(h.wrapped) > 0, wire.ErrRange)
	c.Sized16(&h.extra, maxHeaderExtra)
	// Version 1 has nothing to say there: one spelling only.
	c.Check(h.Version > 1 || len(h.extra) == 0, wire.ErrRange)
}

// claims is the header without its MAC.
type claims struct{ *header }

// Wire lays out what the MAC is over.
func (h claims) Wire(c *wire.Codec) { h.wireClaims(c) }

// fileSize is the length of the whole file.
func (h *header) fileSize() int64 { return 2*headerSize + slotCount*int64(h.slotSize) }

// slotAt is where a slot begins.
func (h *header) slotAt(number int) int64 { return headerSize + int64(number)*int64(h.slotSize) }

// sum computes the MAC: who does not have the file's key cannot change a header,
// and a provider that answers with another key is found out.
func (h *header) sum(key seal.Secret) ([sha256.Size]byte, error) {
	text, err := wire.Encode(claims{h})
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	own, err := hkdf.Key(sha256.New, key.Expose(), h.id[:], "assay nvram header, version 1", sha256.Size)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer clear(own)
	m := hmac.New(sha256.New, own)
	m.Write(text)
	return [sha256.Size]byte(m.Sum(nil)), nil
}

// encode returns the header's part of the file. A digest at its end finds damage.
func (h *header) encode(key seal.Secret) ([]byte, error) {
	var err error
	if h.mac, err = h.sum(key); err != nil {
		return nil, err
	}
	b, err := wire.Append(make([]byte, 0, headerSize), h)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, headerSize-sha256.Size-len(b))...)
	digest := sha256.Sum256(b)
	return append(b, digest[:]...), nil
}

// errDigest is a header whose digest is not that of its bytes.
var errDigest = errors.New("digest does not fit")

// parseHeader reads one copy of the header. The error is [NotOurs], [NewerFormat]
// or [Damaged]. The header does not alias b.
func parseHeader(b []byte) (*header, error) {
	if n := min(len(b), len(Magic)); string(b[:n]) != Magic[:n] {
		return nil, NotOurs
	} else if n < len(Magic) {
		return nil, Damaged
	}
	var h header
	b = bytes.Clone(b)
	rest, err := wire.DecodePrefix(b, &h)
	switch {
	case errors.Is(err, NewerFormat):
		return nil, fmt.Errorf("%w: version %d, which needs a reader of version %d", NewerFormat, h.Version, h.Oldest)
	case err != nil:
		return nil, fmt.Errorf("%w: %v", Damaged, err)
	case len(b) != headerSize || len(rest) < sha256.Size:
		return nil, fmt.Errorf("%w: header of %d bytes", Damaged, len(b))
	}
	body := b[:headerSize-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("%w: %v", Damaged, errDigest)
	}
	for _, z := range rest[:len(rest)-sha256.Size] {
		if z != 0 {
			return nil, fmt.Errorf("%w: %v", Damaged, wire.ErrReserved)
		}
	}
	return &h, nil
}

// same reports whether two copies of a header say the same.
func (h *header) same(other *header) bool {
	a, errA := wire.Encode(h)
	b, errB := wire.Encode(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// worse tells what two bad copies of a header say together.
func worse(first, last error) error {
	for _, k := range []Kind{NewerFormat, Damaged} {
		for _, err := range []error{first, last} {
			if errors.Is(err, k) {
				return err
			}
		}
	}
	return first
}
