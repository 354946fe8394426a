package machine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm"
)

// pendingFile says which change of the machine is under way.
const pendingFile = "pending.sealed"

// pending is a change that is found later where a crash cut it short: what it was to change
// tells whether it took place, the log's number which of its events are there. One of the
// members up to Taken says what that is.
type pending struct {
	After *fleet.Definition `json:"after,omitempty"`
	// Record is the SHA-256 of the integrity record that is to be kept, in hexadecimal digits.
	Record string `json:"record,omitempty"`
	// Baseline is the number of the one that is put in force, as older versions wrote it.
	Baseline int `json:"baseline,omitempty"`
	// Cleared names the secrets that the TPM had before it was cleared.
	Cleared string `json:"cleared,omitempty"`
	// Shelf is the SHA-256 of the list of snapshots that is to be kept, in hexadecimal digits.
	Shelf string `json:"shelf,omitempty"`
	// Taken is set of a machine that was given to another host and is taken back.
	Taken bool `json:"taken,omitempty"`

	Number  int                `json:"number"` // of the first event
	Notice  *integrity.Notice  `json:"notice,omitempty"`
	Notices []integrity.Notice `json:"notices,omitempty"` // where there is no Notice
}

// keep writes the baselines and boots, with the events that tell of what changed in them.
// They are to be logged next: what a crash keeps from the log the next opening finds.
func (h *Home) keep(history *integrity.History, notices []integrity.Notice) error {
	text, err := history.Encode()
	if err == nil {
		err = h.pend(&pending{Record: digestOf(text), Notices: notices})
	}
	if err != nil {
		return err
	}
	return h.write(integrityFile, text)
}

// keepShelf writes the list of snapshots, with the event that is to be logged next.
func (h *Home) keepShelf(s *shelf, n integrity.Notice) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = h.pend(&pending{Shelf: digestOf(text), Notices: []integrity.Notice{n}})
	}
	if err != nil {
		return err
	}
	return h.write(snapshotsFile, text)
}

// logLast logs the events of a change that is made, which is no longer under way then.
func (r *Root) logLast(h *Home, notices ...integrity.Notice) error {
	if err := r.logAll(h, notices); err != nil {
		return err
	}
	return h.unbegin()
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// pend says that a change is under way, before it is made. What belongs to it could not be
// logged without a log.
func (h *Home) pend(p *pending) error {
	if h.log == nil {
		return errNoLog
	}
	p.Number, p.Notices = h.log.next, slices.Clone(p.Notices)
	for i := range p.Notices {
		p.Notices[i].Bound()
	}
	if p.Notice != nil {
		p.Notice.Bound()
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return h.write(pendingFile, text)
}

// unbegin says that none is.
func (h *Home) unbegin() error { return durable.Remove(filepath.Join(h.dir, pendingFile)) }

// settle logs the events of a change that took place before a crash.
func (r *Root) settle(ctx context.Context, h *Home) error {
	text, err := h.open(pendingFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer text.Destroy()
	var p pending
	if err := json.Unmarshal(text.Expose(), &p); err != nil {
		return fmt.Errorf("%s: %w", pendingFile, errors.Join(err, ErrDamaged))
	}
	if p.Notice != nil {
		p.Notices = []integrity.Notice{*p.Notice}
	}
	what := p.After != nil || p.Record != "" || p.Baseline != 0 || p.Cleared != "" || p.Shelf != "" || p.Taken
	if !what || len(p.Notices) == 0 {
		return fmt.Errorf("%s: %w", pendingFile, ErrDamaged)
	}
	if p.Record == "" { // else the machine ran, and what happened is no change that somebody made
		n := &p.Notices[0]
		n.Reasons = append(n.Reasons, reason(codeChanged, "the change was cut short, as by a crash; this was found and logged later"))
	}
	return r.end(ctx, h, &p)
}

// end logs the events of a change that are not in the log, where it took place.
func (r *Root) end(ctx context.Context, h *Home, p *pending) error {
	if there := max(h.log.next-p.Number, 0); there < len(p.Notices) {
		took, err := r.tookPlace(ctx, h, p)
		if err == nil && took {
			found := p.Notices[there:]
			for i := range found {
				found[i].Found = p.Record != "" // else nothing of the machine came after it
			}
			err = r.logAll(h, found)
		}
		if err != nil {
			return err
		}
	}
	return h.unbegin()
}

func (r *Root) tookPlace(ctx context.Context, h *Home, p *pending) (bool, error) {
	switch {
	case p.After != nil:
		return h.isDefined(p.After)
	case p.Record != "":
		return matches(p.Record)(h.read(integrityFile))
	case p.Shelf != "":
		took, err := matches(p.Shelf)(h.open(snapshotsFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // before the first
		}
		return took, err
	case p.Cleared != "":
		return r.wasCleared(ctx, h, p)
	case p.Taken:
		away, err := h.given()
		return away == nil && err == nil, err
	}
	history, err := h.History()
	if err != nil {
		return false, err
	}
	_, err = history.Version(p.Baseline)
	return err == nil, nil
}

// isDefined reports whether the machine has a definition.
func (h *Home) isDefined(as *fleet.Definition) (bool, error) {
	now, err := h.Definition()
	if err != nil {
		return false, err
	}
	is, err := json.Marshal(now)
	if err != nil {
		return false, err
	}
	want, err := json.Marshal(as)
	return bytes.Equal(is, want), err
}

// matches reports whether what was read is the text of a digest.
func matches(digest string) func(seal.Secret, error) (bool, error) {
	return func(text seal.Secret, err error) (bool, error) {
		if err != nil {
			return false, err
		}
		defer text.Destroy()
		return digestOf(text.Expose()) == digest, nil
	}
}

// wasCleared reports whether the machine's TPM was cleared. A TPM that does not open, or is
// gone, is no reason to close the home: the event says then that nobody knows.
func (r *Root) wasCleared(ctx context.Context, h *Home, p *pending) (bool, error) {
	rec, err := r.cfg.TPMs.Owned(ctx, h.Name())
	switch {
	case errors.Is(err, vtpm.ErrBusy):
		return false, fmt.Errorf("%w: %w", ErrBusy, err) // it opens later
	case err != nil && ctx.Err() != nil:
		return false, err
	case err == nil && belongs(rec, h.card.ID):
		return rec.Secrets.String() != p.Cleared, nil
	}
	r.cfg.Log.Warn("whether a machine's TPM was cleared is not known", slog.String("machine", h.Name()), slog.Any("error", err))
	p.Notices[0].Reasons = []evidence.Reason{reason(codeCleared, "the TPM was to be cleared, that was cut short, and whether it took place is not known: the TPM does not open, or is no longer this machine's")}
	return true, nil
}
