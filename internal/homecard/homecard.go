// Package homecard reads and rewraps the card of a machine's home: the one file of it
// that lies in the clear, and says which key provider holds the home's key.
//
// All that a card says is a claim; that the key opens under the machine's identity is
// the proof, and packages machine and vtpmcli ask for it. It stands below both, so that a
// rotation of keys reaches the homes without a hypervisor in the program. Start with
// [Card].
//
// The format is that of docs/formats/machine.md.
package homecard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
)

// File is the name of a card in its home, Version that of the format.
const (
	File    = "machine.json"
	Version = 1
)

// ErrFormat is a card that cannot be read.
var ErrFormat = errors.New("card of a machine is damaged")

// A Card lies in a home in the clear, and says what is needed before the home can be
// opened. All of it is a claim.
type Card struct {
	Version  int       `json:"version"`
	Name     string    `json:"name"`
	ID       string    `json:"id"` // UUID of the machine (RFC 9562)
	Provider string    `json:"provider"`
	Created  time.Time `json:"created"`
	// Key is the home's key, sealed by the provider.
	Key []byte `json:"key"`
}

// maxCard bounds a card in bytes.
const maxCard = 64 << 10

var rules = strictjson.Rules{Bytes: maxCard, Depth: 2, Members: 16, Values: 32, FoldNames: true}

// ValidID reports whether a text is the UUID of a machine.
func ValidID(id string) bool { return uuidRule.MatchString(id) }

var uuidRule = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Parse reads a card. What is unknown or stands twice is an error.
func Parse(text []byte) (*Card, error) {
	if _, err := strictjson.Parse(text, rules); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	c := new(Card)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if c.Version != Version || !ValidID(c.ID) || c.Provider == "" || len(c.Key) == 0 {
		return nil, fmt.Errorf("version %d, machine %q: %w", c.Version, c.ID, ErrFormat)
	}
	return c, nil
}

// Text is the card as it is written.
func (c *Card) Text() ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}

// bound binds a home's key to its machine.
func bound(id string) seal.Context {
	return seal.Context{Purpose: "key of a machine's home", Name: id}
}

// Seal puts the home's key into the card.
func (c *Card) Seal(ctx context.Context, p keyprovider.Provider, random io.Reader, key seal.Secret) (err error) {
	c.Key, err = keyprovider.Seal(ctx, p, random, bound(c.ID), key.Expose())
	if err != nil {
		return fmt.Errorf("key provider %q: %w", c.Provider, err)
	}
	return nil
}

// Open opens the home's key by its provider.
func (c *Card) Open(ctx context.Context, p keyprovider.Provider) (seal.Secret, error) {
	key, err := keyprovider.Open(ctx, p, bound(c.ID), c.Key)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("open the home's key with key provider %q: %w", c.Provider, err)
	}
	return key, nil
}

// A Home is a home by its folder, with its card.
type Home struct {
	Dir  string
	Card *Card
}

// List reads the cards of all homes in a folder, which need not be there. A card that
// cannot be read is an error: it may need any provider.
func List(dir string) (out []Home, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		c, err := read(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no machine, or none any more
		}
		if err != nil {
			return nil, fmt.Errorf("machine %q: %w", e.Name(), err)
		}
		out = append(out, Home{filepath.Join(dir, e.Name()), c})
	}
	return out, nil
}

func read(dir string) (*Card, error) {
	name := filepath.Join(dir, File)
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCard {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: %w", name, maxCard, ErrFormat)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Under is the key of the provider that a home's key is sealed by; empty when the card
// does not say.
func (c *Card) Under() string {
	id, err := keyprovider.WrappedUnder(c.Key)
	if err != nil {
		return ""
	}
	return id
}

// Rewrap seals the home's key anew, by another key of its provider or by another
// provider called name. The machine may run: it has its key. A machine that was deleted
// meanwhile stays deleted.
func (h *Home) Rewrap(ctx context.Context, from, to keyprovider.Provider, name string, random io.Reader) error {
	lock, err := lockCards(filepath.Dir(h.Dir))
	if err != nil {
		return err
	}
	defer lock.Close()
	now, err := read(h.Dir)
	if err != nil {
		return err
	}
	key, err := now.Open(ctx, from)
	if err != nil {
		return err
	}
	defer key.Destroy()
	now.Provider = name
	if err := now.Seal(ctx, to, random, key); err != nil {
		return err
	}
	text, err := now.Text()
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(h.Dir, File), text, 0o600)
}

// lockFile keeps changes of cards apart.
const lockFile = "cards.lock"

// ErrBusy is another process that changes cards.
var ErrBusy = errors.New("another process changes the cards of machines")

func lockCards(dir string) (*durable.Lock, error) {
	l, err := durable.LockFile(filepath.Join(dir, lockFile))
	if errors.Is(err, durable.ErrLocked) {
		err = ErrBusy
	}
	return l, err
}
