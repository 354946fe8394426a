//go:build unix

package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/wire"
)

// A TPM without a name of its own is known by the place that its file is in. The
// ledger says whose each place is, in a small file for each.

// placeEntry is what the ledger knows of a place.
type placeEntry struct {
	Version, Oldest uint16
	id              ID
	place           []byte
}

const (
	placesDir    = "places"
	placeMagic   = "ASSAYPLC"
	maxPlace     = 4096
	maxPlaceFile = 8 + 2 + 2 + 16 + 2 + maxPlace + 4
)

// Wire lays out the entry of a place (docs/formats/nvram.md).
func (e *placeEntry) Wire(c *wire.Codec) {
	m := [len(placeMagic)]byte([]byte(placeMagic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == placeMagic, ErrLedgerEntry)
	wire.U16(c, &e.Version)
	wire.U16(c, &e.Oldest)
	c.Check(e.Oldest >= 1 && e.Oldest <= Version && e.Version >= e.Oldest, ErrLedgerEntry)
	c.Bytes(e.id[:])
	c.Check(!e.id.IsZero(), ErrLedgerEntry)
	c.Sized16(&e.place, maxPlace)
}

// parsePlace reads the entry of a place.
func parsePlace(b []byte, place string) (ID, error) {
	n := len(b) - 4
	if n < 0 || binary.BigEndian.Uint32(b[n:]) != placeSum(b[:n]) {
		return ID{}, ErrLedgerEntry
	}
	var e placeEntry
	if err := wire.Decode(b[:n], &e); err != nil {
		return ID{}, fmt.Errorf("%w: %v", ErrLedgerEntry, err)
	}
	if !bytes.Equal(e.place, []byte(place)) {
		return ID{}, fmt.Errorf("%w: it is of another place", ErrLedgerEntry)
	}
	return e.id, nil
}

func placeSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (l *Ledger) placeName(place string) string {
	sum := sha256.Sum256([]byte(place))
	return filepath.Join(l.dir, placesDir, hex.EncodeToString(sum[:]))
}

// TPMOf returns the TPM whose a place is; known is false when the ledger does not
// know the place.
func (l *Ledger) TPMOf(place string) (id ID, known bool, err error) {
	f, err := os.OpenFile(l.placeName(place), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ID{}, false, nil
	}
	if err != nil {
		return ID{}, false, fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPlaceFile+1))
	if err != nil {
		return ID{}, false, fmt.Errorf("read ledger: %w", err)
	}
	if id, err = parsePlace(b, place); err != nil {
		return ID{}, false, fmt.Errorf("place %q: %w", place, err)
	}
	return id, true, nil
}

// Bind says whose a place is from now on, durably.
func (l *Ledger) Bind(place string, id ID) error {
	if err := os.Mkdir(filepath.Join(l.dir, placesDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write ledger: %w", err)
	}
	b, err := wire.Encode(&placeEntry{Version: Version, Oldest: Version, id: id, place: []byte(place)})
	if err == nil {
		err = durable.WriteFile(l.placeName(place), binary.BigEndian.AppendUint32(b, placeSum(b)), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// Unbind has the ledger forget a place, as when its TPM has moved away.
func (l *Ledger) Unbind(place string) error {
	if err := os.Remove(l.placeName(place)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}
