package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

// LastTwo are the boots that are compared where none are named.
func LastTwo(h *integrity.History) (a, b uint64, err error) {
	if h.BootCounter < 2 {
		return 0, 0, fmt.Errorf("two boots are compared, and there were %d: %w", h.BootCounter, integrity.ErrNotKept)
	}
	return h.BootCounter - 1, h.BootCounter, nil
}

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
	for _, r := range []*integrity.BootRecord{before, after} {
		if early, _ := r.Boot.Ended(); !early {
			return nil, fmt.Errorf("boot %d %w", r.Counter, ErrNotReached)
		}
	}
	profile.Shape = after.Shape
	return baseline.From(before.Boot, before.Shape).Compare(after.Boot, profile), nil
}

// ErrNotReached is a boot that did not get to its boot loader: there is nothing to compare.
var ErrNotReached = errors.New("did not reach its boot loader")

// ErrNotJudged is a boot that was compared with no baseline.
var ErrNotJudged = errors.New("was compared with no baseline")

// Why compares a boot with the baseline that it was judged by, 0 for the last boot.
func Why(h *integrity.History, boot uint64, policy string) (*integrity.BootRecord, *baseline.Comparison, error) {
	if boot == 0 && h.BootCounter == 0 {
		return nil, nil, fmt.Errorf("the machine has not booted yet: its last boot %w", integrity.ErrNotKept)
	}
	if boot == 0 {
		boot = h.BootCounter
	}
	r, err := h.Boot(boot)
	if err != nil {
		return nil, nil, err
	}
	if r.Baseline == 0 {
		return r, nil, fmt.Errorf("boot %d %w", boot, ErrNotJudged)
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
	base := v.Baseline
	if r.Late == integrity.NotReached {
		base = base.Attempt(r.Boot.Attempts()) // as it was judged
	}
	c := base.Compare(r.Boot, profile)
	if r.Late == integrity.NotReached { // what comes later is missing since nothing was started
		c.Differences = slices.DeleteFunc(c.Differences, func(d baseline.Difference) bool { return d.Phase != "early" })
	}
	return r, c, nil
}

// ErrNotRunning is a machine that would have to run for what was asked.
var ErrNotRunning = errNotRunning

// A Reasoned says why a boot passed or failed.
type Reasoned struct {
	Boot       BootSummary          `json:"boot"`
	Comparison *baseline.Comparison `json:"comparison,omitempty"`
	// Note says why there is no comparison.
	Note string `json:"note,omitempty"`
	// Refused is, of a boot that started no operating system, what the host found on the disk
	// and what the console said.
	Refused []evidence.Reason `json:"refused,omitempty"`
}

// Reason compares a boot of a machine, 0 for the last, with the baseline that it was
// judged by.
func (r *Root) Reason(ctx context.Context, name string, boot uint64) (*Reasoned, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return nil, err
	}
	if d.Definition == nil {
		return nil, fmt.Errorf("machine %q: %w: %s", name, ErrDamaged, d.Detail)
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
	if record.Late != integrity.NotReached {
		return out, nil
	}
	events, err := r.Events(ctx, name)
	out.Refused = refusalOf(events, record.Counter)
	return out, err
}

// refusalOf is what the last event of a boot says of why it started nothing.
func refusalOf(events []integrity.Notice, boot uint64) []evidence.Reason {
	for _, n := range slices.Backward(events) {
		if n.BootCounter == boot && (n.Type == integrity.EventRefused || n.Type == integrity.EventStuck) {
			return n.Reasons
		}
	}
	return nil
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
