package machine

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// UpdateOptions say how to change a machine.
type UpdateOptions struct {
	// Change alters a copy of the definition.
	Change func(*fleet.Definition) error
	// DryRun changes nothing, and says what would.
	DryRun bool
	// Confirm is the operator's yes to what destroys secrets.
	Confirm bool
	Reason  string
}

// ErrConfirm is a change that destroys, without the operator's yes.
var ErrConfirm = errors.New("the change destroys secrets for good: confirm it")

// Update changes a machine that does not run, and says what that brings about. Its TPM is
// made or removed, its keys are enrolled, and the change is logged.
func (r *Root) Update(ctx context.Context, actor, name string, o UpdateOptions) (effects []fleet.Effect, err error) {
	h, err := r.Open(ctx, name)
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%w: every change takes effect at a start: stop the machine first", err)
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
	if err := after.Check(); err != nil {
		return nil, err
	}
	if reasons := r.cfg.Matrix.Judge(after, r.cfg.Accelerator); len(reasons) > 0 {
		return nil, &RefusedError{name, reasons}
	}
	effects = fleet.Effects(before, after)
	if o.DryRun || len(effects) == 0 {
		return effects, nil
	}
	for _, e := range effects {
		if e.Destroys && !o.Confirm {
			return effects, ErrConfirm
		}
	}
	return effects, r.change(ctx, h, actor, before, after, effects)
}

// change carries a change out. The definition is written between what the new one needs
// and what only the old one did: after a crash the machine is the old one or the new one.
func (r *Root) change(ctx context.Context, h *Home, actor string, before, after *fleet.Definition, effects []fleet.Effect) error {
	if before.Shielded.SecureBoot != after.Shielded.SecureBoot || before.Keyset != after.Keyset {
		text, err := h.Variables()
		if err != nil {
			return err
		}
		if text, err = r.enrolled(text, after); err != nil {
			return err
		}
		if err := h.SetVariables(text); err != nil {
			return err
		}
	}
	if after.Shielded.VTPM && !before.Shielded.VTPM {
		if err := r.makeTPM(ctx, h, after, actor); err != nil {
			return err
		}
	}
	if err := h.setDefinition(after); err != nil {
		return err
	}
	history, err := h.History()
	if err != nil {
		return err
	}
	n := integrity.Notice{Type: integrity.EventConfig, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor}
	for _, e := range effects {
		n.Reasons = append(n.Reasons, reason(codeChanged, fmt.Sprintf("%s: %s, was %s", e.Member, e.New, e.Old)))
	}
	if err := r.logAll(h, []integrity.Notice{n}); err != nil {
		return err
	}
	if before.Shielded.VTPM && !after.Shielded.VTPM {
		return r.dropTPM(ctx, h.Name(), actor)
	}
	return nil
}

// ClearTPM makes the TPM of a machine anew. All that it protected is lost.
func (r *Root) ClearTPM(ctx context.Context, actor, name string) (err error) {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if _, err := r.cfg.TPMs.Clear(ctx, actor, name); err != nil {
		return err
	}
	history, err := h.History()
	if err != nil {
		return err
	}
	return r.logAll(h, []integrity.Notice{{
		Type: integrity.EventClearTPM, Instance: name, Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeCleared, "the TPM was cleared: what it protected is gone, and its identity is another")},
	}})
}
