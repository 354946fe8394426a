//go:build unix

// Package place keeps a TPM that has no name and no root: it is known by the place
// that its file is in, as with the drop-ins for swtpm and assay vtpm serve --state.
//
// A state that [Home.Open] returns was made for this place, or accepted for it by the
// operator, and is the newest that the ledger was told of. Without a ledger neither an
// older copy of the file nor another TPM that was made for this place before is seen;
// that is logged at each start, and [Home.Open] refuses it where a ledger is required.
// Whoever can write to the ledger as well as to the file sets back both. What comes
// from a hypervisor, by a migration or a snapshot, is not judged here.
//
// Start with [New] and [Home.Open]. The ledger's format is docs/formats/nvram.md.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// Config says where a TPM is kept, and by what.
type Config struct {
	// File is the state's. Its folder is there. Required.
	File string
	// Provider wraps the key of the file; ProviderName is what people call it. Required.
	Provider     keyprovider.Provider
	ProviderName string
	// Random and Now are this machine's. Required.
	Random io.Reader
	Now    func() time.Time
	// Ledger is the one that the TPM is kept under; nil for none.
	Ledger *Ledger
	// Log is told of what an operator should hear; nil for none.
	Log *slog.Logger
}

// A Home is the place of one TPM.
type Home struct {
	cfg  Config
	path string // of the file, absolute and with links resolved
	name string
}

// The reasons not to serve a state. Each is wrapped in words that say how to go on.
var (
	// ErrElsewhere is a state that was made for another place.
	ErrElsewhere = errors.New("the state belongs to another place")
	// ErrLedger is a ledger that is needed and cannot be used.
	ErrLedger = errors.New("the ledger that the state is to be proved by cannot be used")
	// ErrGone is a place whose TPM the ledger knows, and whose file is not there.
	ErrGone = errors.New("the ledger knows a TPM in this place, and its file is gone")
)

// New names a place. The folder of the file is looked at, so a process that changes
// its root or user does so before.
func New(cfg Config) (*Home, error) {
	if cfg.Provider == nil || cfg.Random == nil || cfg.Now == nil {
		return nil, errors.New("the place of a TPM needs a key provider, randomness and a clock")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path, err := resolve(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("place of a TPM: %w", err)
	}
	return &Home{cfg, path, named(path)}, nil
}

// Name is what a place is called: the path of the file, or, where a folder of the path
// is named by a UUID as that of a machine of libvirt, what follows from there on. So
// the folder of all machines may be moved, and each machine keeps its TPM.
func Name(file string) (string, error) {
	path, err := resolve(file)
	if err != nil {
		return "", err
	}
	return named(path), nil
}

// resolve gives the one path by which a file is known, whatever way leads there.
func resolve(file string) (string, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(file)), nil
}

// named is the name of the place that a resolved path leads to.
func named(path string) string {
	if i := machineAt(path); i >= 0 {
		return strings.ToLower(path[i:i+uuidSize]) + path[i+uuidSize:]
	}
	return path
}

const uuidSize = 36

// machineAt is where the last folder of a path that is named by a UUID begins; -1 when
// there is none.
func machineAt(file string) int {
	end := strings.LastIndexByte(file, '/')
	for end >= 0 {
		start := strings.LastIndexByte(file[:end], '/')
		if _, err := state.ParseID(file[start+1 : end]); err == nil {
			return start + 1
		}
		end = start
	}
	return -1
}

// Name is what this place is called.
func (h *Home) Name() string { return h.name }

func (h *Home) config() state.Config {
	cfg := state.Config{Provider: h.cfg.Provider, ProviderName: h.cfg.ProviderName, Random: h.cfg.Random, Now: h.cfg.Now}
	if l := h.cfg.Ledger.use(); l != nil {
		cfg.Anchor = l
	}
	return cfg
}

// Known is the TPM that the ledger knows in this place.
func (h *Home) Known() (id state.ID, known bool, err error) {
	l := h.cfg.Ledger.use()
	if l == nil {
		return state.ID{}, false, nil
	}
	if id, known, err = l.TPMOf(h.name); err != nil {
		err = h.advise(fmt.Errorf("%w: %w", ErrLedger, err))
	}
	return id, known, err
}

// An Opened state is proved as far as [Home.Open] says.
type Opened struct {
	File    *state.File
	Content state.Content // the caller destroys it
	Record  Record
}

func (o *Opened) drop(err error) error {
	o.Content.Destroy()
	return errors.Join(err, o.File.Close())
}

// Open opens the state of this place. The error wraps a [*state.Fault], [ErrElsewhere]
// or [ErrLedger] when the state is not to be served.
func (h *Home) Open(ctx context.Context) (*Opened, error) {
	if err := h.cfg.Ledger.demand(); err != nil {
		return nil, err
	}
	id, known, err := h.Known()
	if err != nil {
		return nil, err
	}
	cfg := h.config()
	if known {
		cfg.Want = id
	}
	o, err := h.open(ctx, cfg)
	if err != nil {
		return nil, h.advise(err)
	}
	if err := h.check(o); err != nil {
		return nil, o.drop(h.advise(err))
	}
	if err := h.settle(ctx, o, known); err != nil {
		return nil, o.drop(err)
	}
	return o, nil
}

// OpenArriving opens a state that is about to be replaced by one that came from
// elsewhere: whatever it is, it counts for nothing. Nothing may be served before the
// other is saved, with a record of [Home.Record].
func (h *Home) OpenArriving(ctx context.Context) (*Opened, error) {
	if err := h.cfg.Ledger.demand(); err != nil {
		return nil, err
	}
	cfg := h.config()
	cfg.Arriving = true
	return h.open(ctx, cfg)
}

func (h *Home) open(ctx context.Context, cfg state.Config) (*Opened, error) {
	f, c, err := state.Open(ctx, h.cfg.File, cfg)
	if err != nil {
		return nil, err
	}
	for _, n := range f.Notices() {
		h.cfg.Log.Warn("state of the TPM", slog.String("notice", n.String()))
	}
	o := &Opened{File: f, Content: c}
	if o.Record, err = parseRecord(c.Meta); err != nil {
		return nil, o.drop(fmt.Errorf("record of the TPM in %q: %w", h.cfg.File, err))
	}
	return o, nil
}

// check compares an open state with the place.
func (h *Home) check(o *Opened) error {
	if p := o.Record.Place; p != "" && p != h.name {
		return fmt.Errorf("%w: TPM %s was made for %q, this is %q", ErrElsewhere, o.File.ID(), p, h.name)
	}
	if l := h.cfg.Ledger; l.use() == nil && o.File.Ledgered() && !l.declined() {
		return fmt.Errorf("%w, and TPM %s was kept under one: %w", ErrLedger, o.File.ID(), l.reason())
	}
	return nil
}

// settle has the record and the ledger say that the TPM belongs here, and says what
// could not be proved.
func (h *Home) settle(ctx context.Context, o *Opened, known bool) error {
	l := h.cfg.Ledger
	switch {
	case l.use() == nil:
		h.unproved(o.File.ID(), l.reason())
	case !o.File.Anchored():
		h.cfg.Log.Warn("the TPM is unproved: no ledger knew it; from now on one does", slog.String("tpm", o.File.ID().String()))
	}
	if o.Record.Place == "" {
		if err := h.claim(ctx, o); err != nil {
			return err
		}
	}
	if l.use() != nil && !known {
		return h.bind(o.File.ID())
	}
	return nil
}

// claim seals into a state's record that it belongs here.
func (h *Home) claim(ctx context.Context, o *Opened) error {
	meta, err := h.Record(o.Record)
	if err != nil {
		return err
	}
	o.Record.Place = h.name
	return o.File.Save(ctx, state.Content{Permanent: o.Content.Permanent, Volatile: o.Content.Volatile, Meta: meta})
}

// bind has the ledger know whose this place is.
func (h *Home) bind(id state.ID) error {
	if err := h.cfg.Ledger.use().Bind(h.name, id); err != nil {
		return fmt.Errorf("%w: %w", ErrLedger, err)
	}
	return nil
}

func (h *Home) unproved(id state.ID, why error) {
	h.cfg.Log.Warn("the TPM is unproved: an older copy of its state would not be seen", slog.String("tpm", id.String()), slog.Any("reason", why))
}

// Arrived is to be called when state that came from elsewhere was saved: the place is
// that TPM's from now on.
func (h *Home) Arrived(id state.ID) error {
	if h.cfg.Ledger.use() == nil {
		h.unproved(id, h.cfg.Ledger.reason())
		return nil
	}
	return h.bind(id)
}

// Create keeps a new TPM in this place. What the ledger knew of the place is over.
func (h *Home) Create(ctx context.Context, id state.ID, permanent []byte, r Record) (*state.File, error) {
	if err := h.cfg.Ledger.demand(); err != nil {
		return nil, err
	}
	meta, err := h.Record(r)
	if err != nil {
		return nil, err
	}
	f, err := state.Create(ctx, h.cfg.File, id, state.Content{Permanent: permanent, Meta: meta}, h.config())
	if err != nil {
		return nil, err
	}
	if err := h.Arrived(id); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Replace is [Home.Create] over whatever has the name, which no other process may have
// open. What was there is set aside under the name that is returned, "" for nothing; if
// there is an error, it is still in its place or has that name.
func (h *Home) Replace(ctx context.Context, id state.ID, permanent []byte, r Record) (aside string, err error) {
	if err := h.cfg.Ledger.demand(); err != nil {
		return "", err
	}
	meta, err := h.Record(r)
	if err != nil {
		return "", err
	}
	aside, err = state.Replace(ctx, h.cfg.File, id, state.Content{Permanent: permanent, Meta: meta}, h.config())
	if err != nil {
		return aside, err
	}
	return aside, h.Arrived(id)
}

// Vacant sees that a new TPM may be made in this place without being asked for: where
// the ledger knows one whose file is gone, that is logged, and refused where a ledger
// is required.
func (h *Home) Vacant() error {
	id, known, err := h.Known()
	if err != nil || !known {
		return err
	}
	err = fmt.Errorf("%w: TPM %s in %q; is its folder not mounted?", ErrGone, id, h.name)
	if h.cfg.Ledger.required() {
		return err
	}
	h.cfg.Log.Warn("a new TPM is made", slog.Any("reason", err))
	return nil
}
