//go:build unix

// Package state keeps one TPM in one file, its .nvram: encrypted, in several
// generations, whole across a crash.
//
// What [Open] returns was sealed by a holder of the file's key for this TPM, and no
// newer generation is in the file. That no newer one ever was, as when somebody puts
// an old copy back, only an [Anchor] outside the file can tell, and as far as that
// one was kept; [File.Anchored] says whether there was one. What is torn, cut,
// altered, swapped or set back is a [Fault] that names it and the generations that
// are still good: nothing is reset or set back except by [Recover], which is the
// operator's decision. The package does not look into the blobs that it keeps.
//
// Start with [Create] and [Open]. The format is docs/formats/nvram.md.
package state

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
)

// An ID is the UUID of a TPM. The zero ID is no TPM's.
type ID [16]byte

// NewID makes the ID of a new TPM: a random UUID (RFC 9562, 5.4).
func NewID(random io.Reader) (ID, error) {
	var id ID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return ID{}, fmt.Errorf("make id: %w", err)
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// ParseID reads the text form of a UUID, in either case of letters.
func ParseID(s string) (ID, error) {
	var id ID
	bare := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(bare) != 32 {
		return ID{}, fmt.Errorf("%q is no UUID", s)
	}
	if _, err := hex.Decode(id[:], []byte(bare)); err != nil || !strings.EqualFold(id.String(), s) {
		return ID{}, fmt.Errorf("%q is no UUID", s)
	}
	return id, nil
}

func (id ID) String() string {
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// IsZero reports whether id is no TPM's.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the form that [ParseID] reads.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is [ParseID].
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// MaxContent bounds what one generation holds, in bytes of all parts together.
const MaxContent = 8 << 20

// Content is what a file keeps of its TPM. All of it is secret.
type Content struct {
	Permanent []byte // the engine's permanent state
	Volatile  []byte // the engine's volatile state, only while suspended; empty means none
	Meta      []byte // the owner's record of the TPM
}

// Destroy zeroes the bytes.
func (c Content) Destroy() {
	clear(c.Permanent)
	clear(c.Volatile)
	clear(c.Meta)
}

func (c Content) size() int { return len(c.Permanent) + len(c.Volatile) + len(c.Meta) }

func (c Content) check() error {
	if n := c.size(); n > MaxContent {
		return fmt.Errorf("state of %d bytes, more than %d", n, MaxContent)
	}
	if len(c.Permanent) == 0 {
		return errors.New("state without a permanent part")
	}
	return nil
}

// A Mark is a generation as it is told to the outside.
type Mark struct {
	Generation uint64
	// Digest tells generations of one number apart. It shows nothing of the content.
	Digest [32]byte
}

// An Anchor remembers the newest generation of each TPM elsewhere than beside its
// file. It is safe for concurrent use. A [Ledger] is one.
type Anchor interface {
	// Last returns what was told last; known is false when nothing was.
	Last(id ID) (m Mark, known bool, err error)
	// Advance tells of a generation; durable asks that it survive a loss of power.
	Advance(id ID, m Mark, durable bool) error
}

// Config is what the functions of this package need.
type Config struct {
	// Provider wraps the key of the file. It is asked by Create, Open, Recover and
	// Rewrap only.
	Provider keyprovider.Provider
	// ProviderName is kept in the clear, for who looks for the provider; at most 255 bytes.
	ProviderName string
	// Random must be safe for concurrent use.
	Random io.Reader
	// Now dates the generations, for people; nil leaves them undated. No decision
	// depends on it.
	Now func() time.Time
	// Anchor is asked for roll-backs; nil looks for none.
	Anchor Anchor
	// Want is the TPM that the file must be of; zero takes any.
	Want ID
	// Arriving is an [Open] of what is about to be replaced, as by state that migrates
	// here: no roll-back is looked for, and the anchor is told of nothing before the
	// next save, whose generation is above all that it knows. What is in the file then
	// counts for nothing.
	Arriving bool
	// Above is for [Create] and [Replace] with what another host had: the generations of
	// the file are above that host's, too, as far as that is a number which a TPM comes to.
	Above uint64
	// Untold is for a TPM that may turn out to be another host's: until [File.Tell] the
	// anchor hears of no generation, and so goes on knowing what it knew.
	Untold bool

	disk disk // nil means that of the operating system
}

func (c *Config) check() error {
	if c.Provider == nil || c.Random == nil {
		return errors.New("state of a TPM needs a key provider and a random source")
	}
	if len(c.ProviderName) > maxProviderName {
		return fmt.Errorf("name of the key provider has %d bytes, more than %d", len(c.ProviderName), maxProviderName)
	}
	if c.disk == nil {
		c.disk = system{}
	}
	return nil
}

func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Time{}
	}
	return c.Now()
}

// A File is the open state of one TPM, locked for this process. It is safe for
// concurrent use.
type File struct{ file }

// Create makes the file of a new TPM; [Exists] when there is one.
func Create(ctx context.Context, path string, id ID, c Content, cfg Config) (*File, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if id.IsZero() {
		return nil, errors.New("state of a TPM without an id")
	}
	f := &File{file{path: path, id: id, cfg: cfg}}
	if err := f.create(ctx, c); err != nil {
		return nil, err
	}
	return f, nil
}

// Open locks the file, checks all of it and returns the newest generation, which
// the caller destroys. A damaged file is a [*Fault], and stays as it is.
func Open(ctx context.Context, path string, cfg Config) (*File, Content, error) {
	if err := cfg.check(); err != nil {
		return nil, Content{}, err
	}
	f := &File{file{path: path, cfg: cfg}}
	c, err := f.open(ctx)
	if err != nil {
		return nil, Content{}, err
	}
	return f, c, nil
}

// ID is the TPM's.
func (f *File) ID() ID { return f.id }

// Path is the file's name as it was given.
func (f *File) Path() string { return f.path }

// Generation is the number of the last generation that was saved.
func (f *File) Generation() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last.Generation
}

// Mark is the last generation that was saved, as an [Anchor] knows it.
func (f *File) Mark() Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// Saved is when that was; zero when it is not known.
func (f *File) Saved() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saved
}

// Anchored reports whether an anchor knew the TPM when it was opened: if not, an
// old copy of the file would have looked the same.
func (f *File) Anchored() bool { return f.anchored }

// Ledgered reports whether the last generation says that an anchor was told of it.
func (f *File) Ledgered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ledgered
}

// Notices is what [Open] found that did not keep it from the newest generation.
func (f *File) Notices() []Notice { return f.notices }
