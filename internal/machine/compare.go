package machine

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

// Compare says what boot b of a history measured otherwise than boot a, under a policy.
func Compare(h *integrity.History, a, b uint64, policy string) (*baseline.Comparison, error) {
	profile, err := baseline.ProfileNamed(policy)
	if err != nil {
		return nil, err
	}
	before, err := h.Boot(a)
	if err != nil {
		return nil, err
	}
	after, err := h.Boot(b)
	if err != nil {
		return nil, err
	}
	profile.Shape = after.Shape
	return baseline.From(before.Boot, before.Shape).Compare(after.Boot, profile), nil
}

// ErrNotJudged is a boot that was compared with no baseline.
var ErrNotJudged = errors.New("was compared with no baseline")

// Why compares a boot with the baseline that it was judged by, 0 for the last boot.
func Why(h *integrity.History, boot uint64, policy string) (*integrity.BootRecord, *baseline.Comparison, error) {
	if boot == 0 {
		boot = h.BootCounter
	}
	r, err := h.Boot(boot)
	if err != nil {
		return nil, nil, err
	}
	if r.Baseline == 0 {
		return r, nil, fmt.Errorf("boot %d: %w", boot, ErrNotJudged)
	}
	v, err := h.Version(r.Baseline)
	if err != nil {
		return r, nil, err
	}
	profile, err := baseline.ProfileNamed(policy)
	if err != nil {
		return r, nil, err
	}
	profile.Shape = r.Shape
	return r, v.Baseline.Compare(r.Boot, profile), nil
}

// ErrNotRunning is a machine that would have to run for what was asked.
var ErrNotRunning = errNotRunning

// A Reasoned says why a boot passed or failed.
type Reasoned struct {
	Boot       BootSummary          `json:"boot"`
	Comparison *baseline.Comparison `json:"comparison,omitempty"`
	// Note says why there is no comparison.
	Note string `json:"note,omitempty"`
}

// Reason compares a boot of a machine, 0 for the last, with the baseline that it was
// judged by.
func (r *Root) Reason(ctx context.Context, name string, boot uint64) (*Reasoned, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	if d.Definition == nil {
		return nil, fmt.Errorf("machine %q: %s: %w", name, d.Problem, ErrDamaged)
	}
	history, err := r.History(ctx, name)
	if err != nil {
		return nil, err
	}
	record, c, err := Why(history, boot, d.Definition.Policy)
	if err != nil && !errors.Is(err, ErrNotJudged) {
		return nil, err
	}
	out := &Reasoned{Boot: BootSummary{
		Counter: record.Counter, Started: record.Started, Judged: record.Judged, Baseline: record.Baseline, Early: record.Early, Late: record.Late,
	}, Comparison: c}
	if err != nil {
		out.Note = err.Error()
	}
	return out, nil
}

// StateUnknown is that of a machine that does not say how it is.
const StateUnknown = "unknown"

// Statuses says of each machine how it is. One that is at fault hides no other.
func (r *Root) Statuses(ctx context.Context) ([]*Status, error) {
	names, err := r.Names()
	if err != nil {
		return nil, err
	}
	list := []*Status{}
	for _, name := range names {
		s, err := r.Status(ctx, name)
		if errors.Is(err, ErrUnknown) {
			continue // a folder without a card: it is being made or deleted, or was when the host went down
		}
		if err != nil {
			s = &Status{Name: name, State: StateUnknown, Problem: err.Error()}
		}
		list = append(list, s)
	}
	return list, nil
}

// Identity reads the keys and certificates of a machine's TPM, which may run.
func (r *Root) Identity(ctx context.Context, name string) (*vtpm.Identity, error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	return r.cfg.TPMs.Identity(ctx, name)
}

// Supports says why a machine could not be made or run here; nil when it could.
func (r *Root) Supports(d *fleet.Definition) error {
	if reasons := r.cfg.Matrix.Judge(d, r.cfg.Accelerator); len(reasons) > 0 {
		return &RefusedError{d.Name, reasons}
	}
	return nil
}
