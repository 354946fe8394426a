//go:build unix

package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/wire"
)

// A Ledger is an [Anchor] in a folder, with a small file for each TPM. An entry that
// is not asked to be durable outlives this process, and may be lost with the power:
// the ledger is then behind, and never raises a false alarm for that.
//
// It helps when a `.nvram` is replaced, as by a restore of the disk that it is on;
// whoever can write to the ledger as well can set back both.
type Ledger struct {
	dir string

	mu   sync.Mutex // guards open
	open map[ID]*os.File
}

// ErrLedgerEntry is returned, wrapped, by [Ledger.Last] for an entry that is damaged.
var ErrLedgerEntry = errors.New("entry of the ledger is damaged")

// entry is one copy of what the ledger knows of a TPM. Two copies are written in
// turn, each in a sector of its own.
type entry struct {
	Version, Oldest uint16
	id              ID
	turn            uint64 // the copy with the greater one counts
	mark            Mark
}

const (
	entryMagic = "ASSAYLED"
	entrySize  = 512
	entryCount = 2
)

// Wire lays out an entry (docs/formats/nvram.md).
func (e *entry) Wire(c *wire.Codec) {
	m := [len(entryMagic)]byte([]byte(entryMagic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == entryMagic, ErrLedgerEntry)
	wire.U16(c, &e.Version)
	wire.U16(c, &e.Oldest)
	c.Check(e.Oldest >= 1 && e.Oldest <= Version && e.Version >= e.Oldest, ErrLedgerEntry)
	c.Bytes(e.id[:])
	wire.U64(c, &e.turn)
	wire.U64(c, &e.mark.Generation)
	c.Bytes(e.mark.Digest[:])
}

func (e *entry) encode() []byte {
	b, err := wire.Append(make([]byte, 0, entrySize), e)
	if err != nil {
		panic(err) // of fixed size
	}
	b = b[:entrySize]
	binary.BigEndian.PutUint32(b[entrySize-4:], checksum(b))
	return b
}

// parseEntry reads one copy; nil when it is damaged or of another TPM.
func parseEntry(b []byte, id ID) *entry {
	var e entry
	if len(b) != entrySize || binary.BigEndian.Uint32(b[entrySize-4:]) != checksum(b) {
		return nil
	}
	if _, err := wire.DecodePrefix(b, &e); err != nil || e.id != id {
		return nil
	}
	return &e
}

// parseEntries returns the copy that counts.
func parseEntries(b []byte, id ID) (*entry, error) {
	var newest *entry
	for i := range entryCount {
		at := i * entrySize
		if len(b) < at+entrySize {
			break
		}
		if e := parseEntry(b[at:at+entrySize], id); e != nil && (newest == nil || e.turn > newest.turn) {
			newest = e
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("TPM %s: %w", id, ErrLedgerEntry)
	}
	return newest, nil
}

// OpenLedger opens the ledger in a folder, which is made when it is missing.
func OpenLedger(dir string) (*Ledger, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("open ledger: %q is no folder", dir)
	}
	return &Ledger{dir: dir, open: map[ID]*os.File{}}, nil
}

func (l *Ledger) name(id ID) string { return filepath.Join(l.dir, id.String()) }

// Last returns what was told last of a TPM.
func (l *Ledger) Last(id ID) (Mark, bool, error) {
	f, err := os.OpenFile(l.name(id), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Mark{}, false, nil
	}
	if err != nil {
		return Mark{}, false, fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	e, err := readEntry(f, id)
	if err != nil {
		return Mark{}, false, err
	}
	return e.mark, true, nil
}

func readEntry(f *os.File, id ID) (*entry, error) {
	b := make([]byte, entryCount*entrySize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	return parseEntries(b[:n], id)
}

// Advance notes a generation. One below what is known is refused.
func (l *Ledger) Advance(id ID, m Mark, last bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.entryFile(id)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	err = l.advance(f, id, m, last)
	if err != nil || last {
		delete(l.open, id)
		err = errors.Join(err, f.Close())
	}
	return err
}

func (l *Ledger) advance(f *os.File, id ID, m Mark, sync bool) error {
	e, err := readEntry(f, id)
	switch {
	case errors.Is(err, ErrLedgerEntry):
		// Only Recover comes here: every other caller was refused by Last.
		e = &entry{Version: Version, Oldest: Version, id: id}
	case err != nil:
		return err
	case m.Generation < e.mark.Generation:
		return fmt.Errorf("ledger knows generation %d of TPM %s, %d is older", e.mark.Generation, id, m.Generation)
	case m.Generation == e.mark.Generation && m.Digest != e.mark.Digest:
		// A number that was told is never used again, so somebody else did.
		return fmt.Errorf("ledger knows another generation %d of TPM %s: two processes serve copies of it", m.Generation, id)
	}
	if err != nil || m != e.mark {
		e.turn++
		e.mark, e.Version, e.Oldest = m, Version, Version
		if _, err := f.WriteAt(e.encode(), int64(e.turn%entryCount)*entrySize); err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
	}
	if sync {
		if err := dataSync(f); err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
	}
	return nil
}

// entryFile opens the file of a TPM, which is made when it is missing. It has its
// full size from the start, so that no later write needs room.
func (l *Ledger) entryFile(id ID) (*os.File, error) {
	if f := l.open[id]; f != nil {
		return f, nil
	}
	f, err := os.OpenFile(l.name(id), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		first := &entry{Version: Version, Oldest: Version, id: id}
		text := append(first.encode(), first.encode()...)
		if err := durable.CreateFile(l.name(id), text, 0o600); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(l.name(id), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	l.open[id] = f
	return f, nil
}

// Close closes the files. The ledger can still be used.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for id, f := range l.open {
		delete(l.open, id)
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
