package machine

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
	"slices"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/uefi/varstore"
)

// The files of a home. All but the card and the sockets are sealed.
const (
	cardFile       = homecard.File
	definitionFile = "definition.sealed"
	variablesFile  = "variables.sealed"
	integrityFile  = "integrity.sealed"
	eventsFile     = "events.sealed"
	lockFile       = "lock"
	runFolder      = "run"
)

// maxFile bounds a file of a home in bytes: a history of boots is the largest.
const maxFile = 128 << 20

// A Card lies in a home in the clear, and says what is needed before the home can be
// opened. All of it is a claim.
type Card = homecard.Card

// The errors of homes that a caller acts on.
var (
	ErrName     = errors.New("not a name for a machine: want 1 to 63 lower-case letters, digits and hyphens")
	ErrExists   = errors.New("there is a machine of that name")
	ErrUnknown  = errors.New("there is no machine of that name")
	ErrBusy     = errors.New("the machine runs, or another command works on it")
	ErrDamaged  = errors.New("the home of the machine is damaged")
	ErrLong     = errors.New("the folder of the machines, or the machine, needs a shorter name")
	ErrLeftover = errors.New("a folder is there that has no card, as when the making of one was cut short")
	ErrProvider = errors.New("a machine needs a key provider: its home is always encrypted; assay key-provider add makes one")
)

// parseCard reads a card.
func parseCard(text []byte) (*Card, error) {
	c, err := homecard.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return c, nil
}

// A Home is the opened home of a machine, held by this process alone. It is safe for
// one goroutine at a time.
type Home struct {
	dir    string
	card   *Card
	key    seal.Key
	lock   *durable.Lock
	random io.Reader
	log    *eventLog
}

// Card is what the home says of itself in the clear, which its key has proved.
func (h *Home) Card() Card { return *h.card }

// Name is the machine's.
func (h *Home) Name() string { return h.card.Name }

// RunDir is where the sockets of the running machine are.
func (h *Home) RunDir() string { return filepath.Join(h.dir, runFolder) }

// Close forgets the key and lets other processes have the home.
func (h *Home) Close() error {
	h.key.Secret.Destroy()
	return errors.Join(h.log.close(), h.lock.Close())
}

func (h *Home) context(file string) seal.Context {
	return seal.Context{Purpose: "home of a machine: " + file, Name: h.card.ID}
}

// write seals text into a file, which is durable when it returns.
func (h *Home) write(file string, text []byte) error {
	sealed, err := seal.Seal(h.random, h.key, h.context(file), text)
	if err != nil {
		return fmt.Errorf("seal %s: %w", file, err)
	}
	return durable.WriteFile(filepath.Join(h.dir, file), sealed, 0o600)
}

// read opens a file. One that is missing is damage: homes are made whole.
func (h *Home) read(file string) (seal.Secret, error) {
	text, err := h.open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return seal.Secret{}, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return text, err
}

func (h *Home) open(file string) (seal.Secret, error) {
	sealed, err := readFile(filepath.Join(h.dir, file))
	if err != nil {
		return seal.Secret{}, err
	}
	e, err := seal.Parse(sealed)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("%s: %w: %w", file, err, ErrDamaged)
	}
	text, err := e.Open(h.key, h.context(file))
	if err != nil {
		return seal.Secret{}, fmt.Errorf("%s: %w: %w", file, err, ErrDamaged)
	}
	return text, nil
}

// readFile reads a file of bounded size, which is no link.
func readFile(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: %w", name, maxFile, ErrDamaged)
	}
	return os.ReadFile(name)
}

// glance reads a home without its lock, whoever has it: each file is replaced whole.
func (r *Root) glance(ctx context.Context, card *Card, read func(*Home) error) error {
	p, err := r.cfg.Provider(ctx, card.Provider)
	if err != nil {
		return fmt.Errorf("key provider %q: %w", card.Provider, err)
	}
	key, err := unwrap(ctx, p, card)
	if err = errors.Join(err, p.Close()); err != nil {
		return err
	}
	defer key.Secret.Destroy()
	return read(&Home{dir: r.dir(card.Name), card: card, key: key})
}

// Definition returns what the operator said of the machine.
func (h *Home) Definition() (*fleet.Definition, error) {
	text, err := h.read(definitionFile)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	d, err := fleet.ParseDefinition(text.Expose())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", definitionFile, err, ErrDamaged)
	}
	if d.Name != h.card.Name {
		return nil, fmt.Errorf("%s is of machine %q: %w", definitionFile, d.Name, ErrDamaged)
	}
	return d, nil
}

func (h *Home) setDefinition(d *fleet.Definition) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return h.write(definitionFile, text)
}

// Variables returns the variable store of the firmware, byte for byte.
func (h *Home) Variables() ([]byte, error) {
	text, err := h.read(variablesFile)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	if _, err := varstore.Parse(text.Expose()); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", variablesFile, err, ErrDamaged)
	}
	return bytes.Clone(text.Expose()), nil
}

// SetVariables keeps a variable store. One that cannot be read is kept too, for the
// guest may have written it; it is found at the next start.
func (h *Home) SetVariables(b []byte) error { return h.write(variablesFile, b) }

// History returns the baselines and boots of the machine.
func (h *Home) History() (*integrity.History, error) {
	text, err := h.read(integrityFile)
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	history, err := integrity.ParseHistory(text.Expose())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", integrityFile, err, ErrDamaged)
	}
	return history, nil
}

// SetHistory keeps the baselines and boots.
func (h *Home) SetHistory(history *integrity.History) error {
	text, err := history.Encode()
	if err != nil {
		return err
	}
	return h.write(integrityFile, text)
}

// A shelf is what a home knows of its snapshots.
type shelf struct {
	Snapshots []Snapshot `json:"snapshots"`
	// Going is a way back that has begun. It is completed before the machine starts.
	Going *goingBack `json:"goingBack,omitempty"`
}

// A goingBack is a restore that is under way. Once it is written the old state is given
// up, and every part of it can be done again.
type goingBack struct {
	Tag    string    `json:"tag"`
	Actor  string    `json:"actor"`
	Time   time.Time `json:"time"`
	Memory bool      `json:"memory"`
	// Before is the generation that the TPM had.
	Before uint64 `json:"tpmGenerationBefore,omitempty"`
	// Applied is set when disks, variables and TPM are those of the snapshot; what is left
	// is the memory.
	Applied bool `json:"applied"`
}

var shelfRules = strictjson.Rules{Bytes: 1 << 20, Depth: 5, Members: 16, Values: 1 << 14, FoldNames: true}

// shelf reads what snapshots there are.
func (h *Home) shelf() (*shelf, error) {
	text, err := h.open(snapshotsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return new(shelf), nil
	}
	if err != nil {
		return nil, err
	}
	defer text.Destroy()
	out := new(shelf)
	if _, err = strictjson.Parse(text.Expose(), shelfRules); err == nil {
		d := json.NewDecoder(bytes.NewReader(text.Expose()))
		d.DisallowUnknownFields()
		err = d.Decode(out)
	}
	if err == nil && slices.ContainsFunc(out.Snapshots, func(s Snapshot) bool { return !tagRule().MatchString(s.Tag) }) {
		err = errors.New("a snapshot has no tag")
	}
	if err == nil && out.Going != nil && out.tagged(out.Going.Tag) == nil {
		err = errors.New("it goes back to a snapshot that there is not")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", snapshotsFile, err, ErrDamaged)
	}
	return out, nil
}

func (h *Home) setShelf(s *shelf) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return h.write(snapshotsFile, text)
}

func (s *shelf) find(match func(*Snapshot) bool) *Snapshot {
	for i := range s.Snapshots {
		if match(&s.Snapshots[i]) {
			return &s.Snapshots[i]
		}
	}
	return nil
}

func (s *shelf) named(name string) (*Snapshot, error) {
	if found := s.find(func(n *Snapshot) bool { return n.Name == name }); found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("snapshot %.80q: %w", name, ErrNoSnapshot)
}

func (s *shelf) tagged(tag string) *Snapshot {
	return s.find(func(n *Snapshot) bool { return n.Tag == tag })
}

// unwrap opens the home's key by its provider.
func unwrap(ctx context.Context, p keyprovider.Provider, c *Card) (seal.Key, error) {
	secret, err := c.Open(ctx, p)
	return seal.Key{ID: homeKeyID, Secret: secret}, err
}

// homeKeyID is what envelopes of a home name as their key.
const homeKeyID = "home"

// ownDisk reports whether a file is where a host, this or another, makes the disks of a machine.
func ownDisk(machine, file string) bool {
	folder := filepath.Dir(file)
	return filepath.Base(folder) == diskFolder && filepath.Base(filepath.Dir(folder)) == machine
}

// inHome reports whether a file lies in the folder of a machine here, by its name or by where
// its name leads: it goes with that.
func (r *Root) inHome(machine, file string) (bool, error) {
	home, err := filepath.Abs(r.dir(machine))
	if err != nil {
		return false, err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return false, err
	}
	return below(home, path) || below(led(home), led(path)), nil
}

func below(dir, path string) bool {
	in, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(in)
}

// led is where a path leads; of one that leads nowhere it is the path.
func led(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// inSomeHome reports whether a file is a disk that a host, this or another, has made for a
// machine which it has: it is deleted with that.
func inSomeHome(file string) bool {
	for _, path := range []string{file, led(file)} {
		folder := filepath.Dir(path)
		if filepath.Base(folder) != diskFolder {
			continue
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(folder), cardFile)); err == nil {
			return true
		}
	}
	return false
}

// checkKnown refuses files that are removed before the machine comes, or with another.
func (r *Root) checkKnown(o *ReceiveOptions) error {
	for _, file := range o.Known {
		if err := r.stays(o.Name, file); err != nil {
			return err
		}
	}
	return nil
}

// stays refuses a disk, for a machine that comes, which is not to be made for it and does not
// outlive its coming.
func (r *Root) stays(machine, file string) error {
	in, err := r.inHome(machine, file)
	switch {
	case err != nil:
		return err
	case in:
		return fmt.Errorf("disk %q is in the folder that is made anew for the machine: put it elsewhere, under the same name", file)
	case inSomeHome(file):
		return fmt.Errorf("disk %q is in the home of a machine, and is deleted with that: put it elsewhere, under the same name, or have it copied with the machine (--copy-disks)", file)
	}
	return nil
}
