package vtpm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A pending note is written before an operation and removed after its entry in
// the audit trail. One that is found later is of an operation that a crash cut
// short: what the folder holds tells whether it took place.
type pending struct {
	Version    int       `json:"version"`
	Event      EventType `json:"event"`
	Name       string    `json:"name"`
	ID         state.ID  `json:"id"`
	Actor      string    `json:"actor"`
	Time       time.Time `json:"time"`
	Generation uint64    `json:"generation,omitempty"` // of the state before
	Wrapped    string    `json:"wrapped,omitempty"`    // digest of its wrapped key before
}

func (r *Root) pendingPath(name string) string {
	return filepath.Join(r.pendingDir(), name+".json")
}

// An operation is a change of the root that is authorised, audited and survives a
// crash at any point as done or undone.
type operation struct {
	Event
	id         state.ID
	generation uint64 // of the state before, for one that changes it
}

// operate runs f as the operation o, with the folder's lock. f changes o.Detail
// as it likes.
func (r *Root) operate(ctx context.Context, o *operation, f func() error) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.settle(ctx); err != nil {
		return err
	}
	o.ID = o.id.String()
	note := pending{recordVersion, o.Type, o.TPM, o.id, o.Actor, r.cfg.Now(), o.generation, ""}
	if o.Type == EventRotateKey {
		info, err := state.Inspect(r.StatePath(o.TPM))
		if err != nil {
			return err
		}
		note.Wrapped = digestOf(info.Wrapped)
	}
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(r.pendingPath(o.TPM), text, 0o600); err != nil {
		return err
	}
	r.step("begun")
	err = f()
	r.step("over")
	o.Outcome = OutcomeDone
	if err != nil {
		o.Outcome, o.Detail = OutcomeFailed, detail(map[string]string{"error": err.Error()})
	}
	err = errors.Join(err, r.note(o.Event, true))
	r.step("noted")
	return errors.Join(err, r.forget(o.TPM))
}

// forget removes a pending note, durably: one that came back would be settled again.
func (r *Root) forget(name string) error {
	if err := os.Remove(r.pendingPath(name)); err != nil {
		return err
	}
	return syncDir(r.pendingDir())
}

// settle looks at every pending note. The caller has the folder's lock.
func (r *Root) settle(context.Context) error {
	entries, err := os.ReadDir(r.pendingDir())
	if err != nil {
		return fmt.Errorf("look for operations that were cut short: %w", err)
	}
	if len(entries) == 0 {
		return nil
	}
	if err := durable.Sweep(r.pendingDir()); err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || checkName(name) != nil {
			continue
		}
		if err := r.settleOne(name); err != nil {
			return fmt.Errorf("settle an operation on TPM %q that was cut short: %w", name, err)
		}
	}
	return nil
}

func (r *Root) settleOne(name string) error {
	text, err := readBounded(r.pendingPath(name), maxVM)
	if err != nil {
		return err
	}
	p := new(pending)
	if err := decodeStrict(text, p); err != nil {
		return err
	}
	if p.Name != name || p.Version != recordVersion {
		return fmt.Errorf("note of version %d about %q: %w", p.Version, p.Name, ErrRecord)
	}
	done, err := r.tookPlace(p)
	if err != nil {
		return err
	}
	e := Event{Type: p.Event, TPM: p.Name, ID: p.ID.String(), Actor: p.Actor, Outcome: OutcomeFailed}
	said := "it was cut short, and nothing changed"
	if done {
		e.Outcome, said = OutcomeDone, "it was cut short after it took place"
	}
	e.Detail = detail(map[string]any{"found": said, "begun": p.Time})
	return errors.Join(r.note(e, true), r.forget(name))
}

// tookPlace finds out whether an operation did, and removes what it left if not.
func (r *Root) tookPlace(p *pending) (bool, error) {
	info, err := state.Inspect(r.StatePath(p.Name))
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, state.Missing)
	switch p.Event {
	case EventCreate, EventClone, EventRestore, EventImport:
		if missing { // the state is what makes a TPM: it is written last
			return false, removeAll(r.dir(p.Name), r.tpms())
		}
		return err == nil && info.ID == p.ID, nil
	case EventDelete:
		// The folder is renamed first, which is the deletion, and emptied then.
		return missing, removeAll(r.deletedPath(p.ID), r.tpms())
	case EventRotateKey:
		return err == nil && digestOf(info.Wrapped) != p.Wrapped, nil
	}
	return err == nil && info.Newest() > p.Generation, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// deletedPath is where a TPM's folder goes before it is emptied: no name of a TPM.
func (r *Root) deletedPath(id state.ID) string {
	return filepath.Join(r.tpms(), ".deleted-"+id.String())
}

// removeAll removes a folder and makes that durable in its parent.
func removeAll(dir, parent string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
