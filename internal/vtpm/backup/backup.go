// Package backup writes one TPM to one file, encrypted for people or by a key
// provider, and reads it again.
//
// What [File.Open] returns is what somebody wrote who had the recipients or the
// provider: with recipients that is anybody, since their keys are public; a
// provider's wrapped key shows that the writer could use the provider. That it is
// the newest state of its TPM it does not show. A file counts once [Write] has
// opened it again from the disk and found what it wrote.
//
// Start with [Write] and [Read]. The format is docs/formats/vtpm-backup.md; age is
// age-encryption.org/v1.
package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/wire"
)

// The failures that a caller acts on.
var (
	// ErrFormat is a file that is no backup of a TPM.
	ErrFormat = errors.New("not a backup of a TPM")
	// ErrVersion is a backup that only a newer version of this program can read.
	ErrVersion = errors.New("backup is of a newer version of this program")
	// ErrCut is a backup that is not whole.
	ErrCut = errors.New("backup was cut")
	// ErrDamaged is a backup that was altered or damaged.
	ErrDamaged = errors.New("backup is damaged or was altered")
	// ErrKey is a backup for which no key that opens it was given.
	ErrKey = errors.New("none of the keys that were given opens the backup")
	// ErrExists is a file that is there already.
	ErrExists = errors.New("there is such a file already")
)

// A Kind says what a file is for.
type Kind uint8

// The kinds of file.
const (
	Backup Kind = 1 // the TPM stays where it is
	Export Kind = 2 // it goes to another site
)

func (k Kind) String() string {
	switch k {
	case Backup:
		return "backup"
	case Export:
		return "export"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// A Card is what a file says of itself in the clear. It is a claim until the file
// opens.
type Card struct {
	Version, Oldest uint16
	Kind            Kind
	Method          Method
	ID              state.ID
	Name            string
	Generation      uint64
	Made            time.Time
	// Provider is the key provider that the file needs; empty with recipients.
	Provider string
}

// A Bundle is one TPM, with all its secrets.
type Bundle struct {
	Kind       Kind
	ID         state.ID
	Name       string
	Generation uint64
	Digest     [sha256.Size]byte // of the generation, as a ledger knows it
	Made       time.Time
	By         string // who made the file
	// Live is a state that was read while the TPM ran: as after a loss of power.
	Live bool
	// Home is the key provider that the TPM had.
	Home    string
	Content state.Content
}

// Limits of a file.
const (
	maxName     = 64
	maxProvider = 255
	maxBy       = 255
	maxExtra    = 1 << 10
	// MaxSize bounds a file in bytes.
	MaxSize = 12 << 20
)

// Version is the newest format that this package writes and reads.
const Version = 1

// Magic begins every file.
const Magic = "ASSAYBAK"

// header is what stands before the encrypted body.
type header struct {
	version, oldest uint16
	kind            Kind
	method          Method
	id              state.ID
	generation      uint64
	made            int64 // microseconds since 1970
	name, provider  []byte
	extra           []byte // for later versions
}

// Wire lays out the header (docs/formats/vtpm-backup.md).
func (h *header) Wire(c *wire.Codec) {
	m := [len(Magic)]byte([]byte(Magic))
	c.Bytes(m[:])
	c.Check(string(m[:]) == Magic, ErrFormat)
	wire.U16(c, &h.version)
	wire.U16(c, &h.oldest)
	c.Check(h.oldest <= Version, ErrVersion)
	c.Check(h.version >= 1 && h.oldest >= 1 && h.oldest <= h.version, wire.ErrRange)
	wire.U8(c, &h.kind)
	c.Check(h.kind == Backup || h.kind == Export, wire.ErrSelector)
	wire.U8(c, &h.method)
	c.Check(h.method == Age || h.method == Provider, wire.ErrSelector)
	c.Bytes(h.id[:])
	c.Check(!h.id.IsZero(), wire.ErrRange)
	wire.U64(c, &h.generation)
	made := uint64(h.made)
	wire.U64(c, &made)
	h.made = int64(made)
	c.Sized16(&h.name, maxName)
	c.Sized16(&h.provider, maxProvider)
	c.Check((h.method == Provider) == (len(h.provider) > 0), wire.ErrRange)
	c.Sized16(&h.extra, maxExtra)
	c.Check(h.version > 1 || len(h.extra) == 0, wire.ErrRange)
}

// sized is the encrypted body with its length before it, which tells a file that
// was cut from one that was altered.
type sized struct{ b []byte }

// Wire lays out the body.
func (s *sized) Wire(c *wire.Codec) { c.Sized32(&s.b, MaxSize) }

// body is what is encrypted. It begins with the digest of the header, which is
// thereby as good as the body.
type body struct {
	header  [sha256.Size]byte
	digest  [sha256.Size]byte
	live    bool
	by      []byte
	home    []byte
	content state.Content
	extra   []byte // for later versions
}

// Wire lays out the body.
func (b *body) Wire(c *wire.Codec) {
	c.Bytes(b.header[:])
	c.Bytes(b.digest[:])
	c.Bool(&b.live)
	c.Sized16(&b.by, maxBy)
	c.Sized16(&b.home, maxProvider)
	c.Sized32(&b.content.Permanent, state.MaxContent)
	c.Sized32(&b.content.Volatile, state.MaxContent)
	c.Sized32(&b.content.Meta, state.MaxContent)
	c.Sized32(&b.extra, state.MaxContent)
}

// A File is a backup that was read and not opened.
type File struct {
	Card
	digest [sha256.Size]byte // of the header as it stands
	body   []byte
}

// Parse reads a backup without its keys. The error is [ErrFormat], [ErrVersion],
// [ErrCut] or [ErrDamaged]. The File aliases b.
func Parse(b []byte) (*File, error) {
	if n := min(len(b), len(Magic)); string(b[:n]) != Magic[:n] || n == 0 {
		return nil, ErrFormat
	}
	var h header
	var in sized
	rest, err := wire.DecodePrefix(b, &h)
	head := b[:len(b)-len(rest)]
	if err == nil {
		err = wire.Decode(rest, &in)
	}
	switch {
	case errors.Is(err, wire.ErrShort):
		return nil, fmt.Errorf("%w: %d bytes are left", ErrCut, len(b))
	case errors.Is(err, ErrVersion):
		return nil, fmt.Errorf("%w: version %d, which needs a reader of version %d", ErrVersion, h.version, h.oldest)
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	f := &File{digest: sha256.Sum256(head), body: in.b}
	f.Card = Card{h.version, h.oldest, h.kind, h.method, h.id, string(h.name), h.generation, time.UnixMicro(h.made).UTC(), string(h.provider)}
	return f, nil
}

// Read reads the backup in a file, which is a regular one and no link.
func Read(name string) (*File, error) {
	b, err := readFile(name)
	if err != nil {
		return nil, err
	}
	f, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return f, nil
}

func readFile(name string) ([]byte, error) {
	// O_NONBLOCK keeps a named pipe from stalling us until its mode is seen.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%q: %w: not a regular file", name, ErrFormat))
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("%q: %w: more than %d bytes", name, ErrFormat, MaxSize)
	}
	return b, err
}

// Open decrypts the backup. The caller destroys the Bundle's content.
func (f *File) Open(ctx context.Context, k Keys) (*Bundle, error) {
	text, err := f.decrypt(ctx, k)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return f.bundle(text)
}

func (f *File) bundle(text []byte) (*Bundle, error) {
	var b body
	if err := wire.Decode(text, &b); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if b.header != f.digest {
		return nil, fmt.Errorf("%w: its header is not the one that it was made with", ErrDamaged)
	}
	if f.Version == 1 && len(b.extra) > 0 {
		return nil, fmt.Errorf("%w: version 1 with parts of a later one", ErrDamaged)
	}
	c := state.Content{Permanent: bytes.Clone(b.content.Permanent), Meta: bytes.Clone(b.content.Meta)}
	if len(b.content.Volatile) > 0 {
		c.Volatile = bytes.Clone(b.content.Volatile)
	}
	return &Bundle{
		Kind: f.Kind, ID: f.ID, Name: f.Name, Generation: f.Generation, Digest: b.digest, Made: f.Made,
		By: string(b.by), Live: b.live, Home: string(b.home), Content: c,
	}, nil
}

// Write makes a file of the bundle under a name that must be free. Before it has its
// name it is read back from the disk, opened and compared.
func Write(ctx context.Context, name string, b *Bundle, p Protection, random io.Reader) (err error) {
	out, key, err := encode(ctx, b, p, random)
	if err != nil {
		return fmt.Errorf("back up TPM %q: %w", b.Name, err)
	}
	defer clear(key)
	f, err := durable.Begin(name, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Abort())
		} else {
			err = f.Close()
		}
	}()
	if _, err := f.Write(out); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if err := check(ctx, f, b, p, key); err != nil {
		return fmt.Errorf("check %q: %w", name, err)
	}
	if err := f.CommitNew(); err != nil {
		if errors.Is(err, durable.ErrExists) {
			return fmt.Errorf("%q: %w", name, ErrExists)
		}
		return err
	}
	return nil
}

// encode returns the file's bytes, and with recipients the key that opens it here.
func encode(ctx context.Context, b *Bundle, p Protection, random io.Reader) (out, key []byte, err error) {
	h := header{
		version: Version, oldest: Version, kind: b.Kind, method: p.method(), id: b.ID, generation: b.Generation,
		made: b.Made.UnixMicro(), name: []byte(b.Name), provider: []byte(p.ProviderName),
	}
	in := body{digest: b.Digest, live: b.Live, by: []byte(b.By), home: []byte(b.Home), content: b.Content}
	room := len(b.Content.Permanent) + len(b.Content.Volatile) + len(b.Content.Meta) + 2*maxProvider + 2*sha256.Size + 64
	text := make([]byte, 0, room) // one array: no copies left behind
	defer func() { clear(text[:cap(text)]) }()
	head, err := wire.Encode(&h)
	if err != nil {
		return nil, nil, err
	}
	in.header = sha256.Sum256(head)
	if text, err = wire.Append(text, &in); err != nil {
		return nil, nil, err
	}
	sealed, key, err := p.encrypt(ctx, b.ID, text, random)
	if err != nil {
		return nil, nil, err
	}
	out, err = wire.Append(head, &sized{sealed})
	return out, key, err
}

// check opens what is on the disk.
func check(ctx context.Context, f io.ReaderAt, want *Bundle, p Protection, key []byte) error {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, MaxSize+1))
	if err != nil {
		return err
	}
	file, err := Parse(b)
	if err != nil {
		return err
	}
	k := Keys{Provider: p.Provider}
	if key != nil {
		k.Identities = []age.Identity{age.NewInjectedFileKeyIdentity(key)}
	}
	got, err := file.Open(ctx, k)
	if err != nil {
		return err
	}
	defer got.Content.Destroy()
	if !same(got, want) {
		return fmt.Errorf("%w: what is on the disk is not what was written", ErrDamaged)
	}
	return nil
}

func same(a, b *Bundle) bool {
	return a.Kind == b.Kind && a.ID == b.ID && a.Name == b.Name && a.Generation == b.Generation && a.Digest == b.Digest &&
		a.Made.UnixMicro() == b.Made.UnixMicro() && a.By == b.By && a.Live == b.Live && a.Home == b.Home &&
		bytes.Equal(a.Content.Permanent, b.Content.Permanent) && bytes.Equal(a.Content.Volatile, b.Content.Volatile) &&
		bytes.Equal(a.Content.Meta, b.Content.Meta)
}
