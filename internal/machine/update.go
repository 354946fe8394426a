package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/uefi/varstore"
)

// UpdateOptions say how to change a machine.
type UpdateOptions struct {
	// Change alters a copy of the definition.
	Change func(*fleet.Definition) error
	// DryRun changes nothing, and says what would.
	DryRun bool
	// Confirm is the operator's yes to what destroys secrets.
	Confirm bool
	// Reason is kept with the event.
	Reason string
}

// ErrConfirm is a change that destroys, without the operator's yes.
var ErrConfirm = errors.New("the change destroys secrets for good: confirm it")

// Update changes a machine that does not run, and says what that brings about. Its TPM is
// made or removed, its keys are enrolled, and the change is logged.
func (r *Root) Update(ctx context.Context, actor, name string, o UpdateOptions) (effects []fleet.Effect, err error) {
	h, err := ours(r.openOff(ctx, name))
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%w: every change takes effect at a start: stop it first", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	before, err := h.Definition()
	if err != nil {
		return nil, err
	}
	after, err := h.Definition()
	if err != nil {
		return nil, err
	}
	if err := o.Change(after); err != nil {
		return nil, err
	}
	if after.Name != before.Name {
		return nil, errors.New("a machine keeps its name")
	}
	after.Complete()
	if err := after.Check(); err != nil {
		return nil, err
	}
	if reasons := r.cfg.Matrix.Judge(after, r.cfg.Accelerator); len(reasons) > 0 {
		return nil, &RefusedError{name, reasons}
	}
	effects = fleet.Effects(before, after)
	c := &change{root: r, home: h, actor: actor, before: before, after: after, reason: o.Reason}
	if err := c.fit(); err != nil {
		return nil, err
	}
	others, err := c.others(effects)
	if err != nil {
		return nil, err
	}
	effects = slices.Concat(effects, others, c.mended)
	if o.DryRun {
		return effects, nil
	}
	if err := r.settleTPM(ctx, h, before, actor); err != nil || len(effects) == 0 {
		return effects, err
	}
	for _, e := range effects {
		if e.Destroys && !o.Confirm {
			return effects, ErrConfirm
		}
	}
	return effects, c.make(ctx, effects)
}

// A change is one update of a machine.
type change struct {
	root          *Root
	home          *Home
	actor, reason string
	before, after *fleet.Definition
	variables     []byte         // to be written; nil where those that are there do
	mended        []fleet.Effect // of variables that did not fit the definition before
}

// fit makes the variables that the definition after needs. They are compared with it, and
// not with the one before: a crash, or the guest, may have left others.
func (c *change) fit() error {
	text, err := c.home.read(variablesFile)
	if err != nil {
		return err
	}
	defer text.Destroy()
	changed := c.before.Shielded.SecureBoot != c.after.Shielded.SecureBoot || c.before.Keyset != c.after.Keyset
	store, err := varstore.Parse(text.Expose())
	if err != nil {
		c.mend("damaged", "made anew from the firmware's template, without the guest's boot entries: "+err.Error())
		c.variables, err = c.root.newVariables(c.after)
		return err
	}
	if !changed {
		if store.Pending() {
			return nil // what it will hold is not known yet
		}
		lacks, err := c.root.lacks(store, c.after)
		if err != nil || len(lacks) == 0 {
			return err
		}
		c.mend("not as the definition says", fmt.Sprintf("they lack a key or a revocation that key set %s has by now, or were changed by the guest: its keys are enrolled again, "+
			"and secure boot is switched as the definition says; what the guest sealed to PCR 7 does not open until it is sealed again", c.after.Keyset))
	}
	c.variables, err = c.root.enrolled(text.Expose(), c.after)
	return err
}

func (c *change) mend(was, words string) {
	c.mended = append(c.mended, fleet.Effect{Member: "variables", Old: was, New: "as the definition says", PCRs: []int{1, 7}, Restart: true, Words: words})
}

// others are the members of the definition that differ beside those that have an effect.
func (c *change) others(effects []fleet.Effect) ([]fleet.Effect, error) {
	before, err := members(c.before)
	if err != nil {
		return nil, err
	}
	after, err := members(c.after)
	if err != nil {
		return nil, err
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			after[name] = nil
		}
	}
	var out []fleet.Effect
	for _, name := range slices.Sorted(maps.Keys(after)) {
		named := name == "shieldedInstanceConfig" || slices.ContainsFunc(effects, func(e fleet.Effect) bool { return e.Member == name })
		if !named && !bytes.Equal(before[name], after[name]) {
			out = append(out, fleet.Effect{Member: name, Old: orNothing(before[name]), New: orNothing(after[name]), Words: "it is kept with the machine, and nothing that is measured depends on it"})
		}
	}
	return out, nil
}

func members(d *fleet.Definition) (out map[string]json.RawMessage, err error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(text, &out)
}

func orNothing(text json.RawMessage) string {
	if len(text) == 0 {
		return "nothing"
	}
	return string(text)
}

// make carries a change out. The definition is written between what the new one needs
// and what only the old one did: after a crash the machine is the old one or the new one,
// and what is left over the next update completes.
func (c *change) make(ctx context.Context, effects []fleet.Effect) error {
	h := c.home
	n, err := c.notice(effects)
	if err != nil {
		return err
	}
	if err := h.pend(&pending{After: c.after, Notice: n}); err != nil {
		return err
	}
	if c.variables != nil {
		if err := h.SetVariables(c.variables); err != nil {
			return err
		}
	}
	had, has := c.before.Shielded.VTPM, c.after.Shielded.VTPM
	if has && !had {
		if err := c.root.makeTPM(ctx, h, c.after, c.actor); err != nil {
			return errors.Join(err, h.unbegin())
		}
	}
	if had && !has {
		if rec, err := c.root.cfg.TPMs.Owned(ctx, h.Name()); err == nil && belongs(rec, h.card.ID) {
			if err := c.root.setCustody(h.Name(), custody{Machine: h.card.ID, Dropping: rec.ID.String()}); err != nil {
				return err
			}
		}
	}
	if err := h.setDefinition(c.after); err != nil {
		return err
	}
	if err := c.root.logAll(h, []integrity.Notice{*n}); err != nil {
		return err
	}
	if err := h.unbegin(); err != nil {
		return err
	}
	if had && !has {
		if err := c.root.dropTPM(ctx, h.Name(), h.card.ID, c.actor); err != nil {
			return err
		}
		return c.root.setCustody(h.Name(), custody{Machine: h.card.ID})
	}
	return nil
}

// notice is the event of a change.
func (c *change) notice(effects []fleet.Effect) (*integrity.Notice, error) {
	history, err := c.home.History()
	if err != nil {
		return nil, err
	}
	n := &integrity.Notice{Type: integrity.EventConfig, Instance: c.home.Name(), Time: c.root.cfg.Now(), BootCounter: history.BootCounter, Actor: c.actor}
	for _, e := range effects {
		n.Reasons = append(n.Reasons, reason(codeChanged, fmt.Sprintf("%s: %s, was %s", e.Member, e.New, e.Old)))
	}
	was, is := c.before.Shielded, c.after.Shielded
	if was.IntegrityMonitoring && !is.IntegrityMonitoring {
		n.Reasons = append(n.Reasons, reason(codeUnwatched, "integrity monitoring was turned off: boots are no longer judged"))
	}
	if was.VTPM && !is.VTPM {
		n.Reasons = append(n.Reasons, reason(codeTPMRemoved, "the vTPM was removed: nobody sees any more what the machine boots"))
	}
	if c.reason != "" {
		n.Reasons = append(n.Reasons, reason(codeChanged, "why: "+c.reason))
	}
	return n, nil
}

// ClearTPM makes the TPM of a machine anew. All that it protected is lost.
func (r *Root) ClearTPM(ctx context.Context, actor, name string) (err error) {
	h, err := ours(r.openOff(ctx, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	p, err := r.beginClear(ctx, h, actor)
	if err != nil {
		return err
	}
	if _, err := r.cfg.TPMs.Clear(ctx, actor, name); err != nil {
		// It may be cleared all the same, as where its old certificates are not withdrawn.
		return errors.Join(err, r.end(context.WithoutCancel(ctx), h, p))
	}
	return r.logLast(h, p.Notices...)
}

// beginClear says that the machine's own TPM is to be cleared.
func (r *Root) beginClear(ctx context.Context, h *Home, actor string) (*pending, error) {
	rec, err := r.cfg.TPMs.Owned(ctx, h.Name())
	if err != nil {
		return nil, err
	}
	if !belongs(rec, h.card.ID) {
		return nil, fmt.Errorf("the TPM %q belongs to another machine than %s, or to none: it is left as it is", h.Name(), h.card.ID)
	}
	history, err := h.History()
	if err != nil {
		return nil, err
	}
	p := &pending{Cleared: rec.Secrets.String(), Notices: []integrity.Notice{{
		Type: integrity.EventClearTPM, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeCleared, "the TPM was cleared: what it protected is gone, and its identity is another")},
	}}}
	return p, h.pend(p)
}

// suits refuses a snapshot of a machine that was another.
func (r *Root) suits(d *fleet.Definition, id string, s *Snapshot, memory bool) error {
	now, err := r.hardware(d, id)
	switch {
	case err != nil:
		return err
	case memory && !s.Memory:
		return &StateError{fmt.Sprintf("snapshot %q has no memory: the machine was off", s.Name)}
	case memory && now != s.Hardware:
		return ErrHardware
	case d.Shielded.VTPM != (s.TPM > 0):
		return &StateError{fmt.Sprintf("snapshot %q and the machine do not both have a TPM: an update changes that", s.Name)}
	}
	return nil
}

// disksFit refuses a snapshot that the machine's disks do not have.
func (r *Root) disksFit(ctx context.Context, d *fleet.Definition, id string, s *Snapshot, tagsOf tagsOf) error {
	m := r.hypervised(d, id)
	disks, err := qemu.Kept(m.Disks)
	if err != nil {
		return err
	}
	var files []string
	for _, i := range disks {
		files = append(files, d.Disks[i].File)
		tags, err := tagsOf(ctx, &m.Disks[i])
		if err != nil {
			return err
		}
		if !slices.Contains(tags, s.Tag) {
			return &StateError{fmt.Sprintf("disk %q has no snapshot %s: it is another disk, or somebody removed that", filepath.Base(d.Disks[i].File), s.Tag)}
		}
	}
	if !slices.Equal(files, s.Disks) {
		return &StateError{fmt.Sprintf("snapshot %q is of other disks than the machine has now", s.Name)}
	}
	return nil
}
