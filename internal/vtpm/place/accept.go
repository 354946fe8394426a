//go:build unix

package place

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/vtpm/state"
)

// advise says which command accepts a state that is not to be served.
func (h *Home) advise(err error) error {
	var fault *state.Fault
	known := errors.Is(err, ErrElsewhere) || errors.Is(err, state.ErrLedgerEntry)
	if errors.As(err, &fault) {
		known = known || fault.Kind == state.Foreign || fault.LastGood() != 0
	}
	if !known {
		return err
	}
	return fmt.Errorf("%w\nif this is the state that is wanted here: assay vtpm ledger accept %q", err, h.cfg.File)
}

// An Acceptance says what was wrong with a state, and what it is now.
type Acceptance struct {
	Place string `json:"place"`
	// Was says why the state was not served.
	Was string   `json:"was"`
	TPM state.ID `json:"tpm"`
	// Before is the id that it had, of a copy whose original is still there.
	Before     state.ID `json:"before,omitzero"`
	Generation uint64   `json:"generation"`
	// Aside are the files as they were.
	Aside []string `json:"aside,omitempty"`
}

// ErrNothing is a state that is served as it is.
var ErrNothing = errors.New("nothing is wrong with the state: it is served as it is")

// Diagnose says why the state is not served; [ErrNothing] when it is. It changes only
// what a start of the TPM does.
func (h *Home) Diagnose(ctx context.Context) error {
	o, err := h.Open(ctx)
	if err != nil {
		return err
	}
	return o.drop(ErrNothing)
}

// Accept has the state be that of this place, as the operator decides: the newest of
// its generations that opens, whatever the ledger and its record say. Of a copy whose
// original is still in its place a TPM of its own is made, with the same secrets.
func (h *Home) Accept(ctx context.Context) (*Acceptance, error) {
	if h.cfg.Ledger.use() == nil && !h.cfg.Ledger.declined() {
		return nil, fmt.Errorf("%w: %w", ErrLedger, h.cfg.Ledger.reason())
	}
	was := h.Diagnose(ctx)
	if errors.Is(was, ErrNothing) {
		return nil, was
	}
	a := &Acceptance{Place: h.name, Was: was.Error()}
	// Whose it is comes first, and without the ledger: what is told to that about a
	// copy would make the original an old one.
	alone := h.config()
	alone.Anchor = nil
	o, err := h.recovered(ctx, a, alone)
	if err != nil {
		return nil, err
	}
	from := o.Record.Place
	aCopy, err := h.isCopy(from, o.File.ID())
	switch {
	case err != nil:
		err = o.drop(fmt.Errorf("look for the original of the state in %q: %w", from, err))
	case aCopy:
		err = h.part(ctx, o, a)
	default:
		if err = o.drop(nil); err != nil {
			break
		}
		if o, err = h.recovered(ctx, a, h.config()); err == nil {
			err = h.stay(ctx, o, a)
		}
	}
	if err != nil {
		return nil, err
	}
	return a, h.rebind(a, from)
}

// recovered opens the state, having gone back to its newest good generation when it
// does not open otherwise.
func (h *Home) recovered(ctx context.Context, a *Acceptance, cfg state.Config) (*Opened, error) {
	o, err := h.open(ctx, cfg)
	var fault *state.Fault
	if err == nil || !errors.As(err, &fault) || fault.LastGood() == 0 {
		return o, err
	}
	aside, err := state.Recover(ctx, h.cfg.File, fault.LastGood(), cfg)
	if err != nil {
		return nil, err
	}
	a.Aside = append(a.Aside, aside)
	return h.open(ctx, cfg)
}

// isCopy reports whether the file that a state was copied from is still in its place.
// One that cannot be looked at may be there.
func (h *Home) isCopy(from string, id state.ID) (bool, error) {
	if from == "" || from == h.name {
		return false, nil
	}
	path := from
	if !filepath.IsAbs(from) { // of a machine: beside this one's folder
		at := machineAt(h.path)
		if at < 0 {
			return false, nil
		}
		var err error
		if path, err = spelled(h.path[:at], from); err != nil {
			return false, err
		}
	}
	if here, err := os.Stat(h.path); err == nil {
		if there, err := os.Stat(path); err == nil && os.SameFile(here, there) {
			return false, nil
		}
	}
	info, err := state.Inspect(path)
	if errors.Is(err, state.Missing) {
		return false, nil
	}
	return err == nil && info.ID == id, err
}

// spelled is the path of a machine's file in the folder of all machines, where its own
// folder may be written in capitals.
func spelled(machines, name string) (string, error) {
	entries, err := os.ReadDir(machines)
	if err != nil {
		return "", err
	}
	folder, rest, _ := strings.Cut(name, "/")
	for _, e := range entries {
		if strings.EqualFold(e.Name(), folder) {
			folder = e.Name()
			break
		}
	}
	return filepath.Join(machines, folder, rest), nil
}

// stay keeps the TPM's id.
func (h *Home) stay(ctx context.Context, o *Opened, a *Acceptance) error {
	err := h.claim(ctx, o)
	a.TPM, a.Generation = o.File.ID(), o.File.Generation()
	return o.drop(err)
}

// part gives the TPM an id of its own.
func (h *Home) part(ctx context.Context, o *Opened, a *Acceptance) error {
	defer o.Content.Destroy()
	a.Before = o.File.ID()
	meta, err := h.Record(o.Record)
	if err = errors.Join(err, o.File.Close()); err != nil {
		return err
	}
	id, err := state.NewID(h.cfg.Random)
	if err != nil {
		return err
	}
	aside, err := state.Replace(ctx, h.cfg.File, id, state.Content{Permanent: o.Content.Permanent, Volatile: o.Content.Volatile, Meta: meta}, h.config())
	if err != nil {
		return err
	}
	a.TPM, a.Aside = id, append(a.Aside, aside)
	info, err := state.Inspect(h.cfg.File)
	a.Generation = info.Newest()
	return err
}

// rebind has the ledger know the TPM here, and no longer where it came from.
func (h *Home) rebind(a *Acceptance, from string) error {
	l := h.cfg.Ledger.use()
	if l == nil {
		return nil
	}
	if err := h.bind(a.TPM); err != nil {
		return err
	}
	if from == "" || from == h.name || !a.Before.IsZero() {
		return nil
	}
	if id, known, err := l.TPMOf(from); err != nil || !known || id != a.TPM {
		return nil //nolint:nilerr // a place that cannot be read is nobody's to free
	}
	return l.Unbind(from)
}
