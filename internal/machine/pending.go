package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// pendingFile says which change of the machine is under way.
const pendingFile = "pending.sealed"

// pending is a change that is found later where a crash cut it short: the definition
// tells whether it took place, the log's number whether its event is there.
type pending struct {
	After  *fleet.Definition `json:"after"`
	Number int               `json:"number"` // of its event
	Notice *integrity.Notice `json:"notice"`
}

// begin says that a change is under way.
func (h *Home) begin(after *fleet.Definition, n *integrity.Notice) error {
	text, err := json.Marshal(pending{after, h.log.next, n})
	if err != nil {
		return err
	}
	return h.write(pendingFile, text)
}

// unbegin says that none is.
func (h *Home) unbegin() error { return durable.Remove(filepath.Join(h.dir, pendingFile)) }

// settle logs the event of a change that took place before a crash.
func (r *Root) settle(h *Home) error {
	text, err := h.open(pendingFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer text.Destroy()
	var p pending
	if err := json.Unmarshal(text.Expose(), &p); err != nil || p.After == nil || p.Notice == nil {
		return fmt.Errorf("%s: %w", pendingFile, errors.Join(err, ErrDamaged))
	}
	now, err := h.Definition()
	if err != nil {
		return err
	}
	is, err := json.Marshal(now)
	if err != nil {
		return err
	}
	want, err := json.Marshal(p.After)
	if err != nil {
		return err
	}
	if bytes.Equal(is, want) && h.log.next <= p.Number {
		p.Notice.Reasons = append(p.Notice.Reasons, reason(codeChanged, "the change was cut short by a crash; this was found and logged later"))
		if err := r.logAll(h, []integrity.Notice{*p.Notice}); err != nil {
			return err
		}
	}
	return h.unbegin()
}
