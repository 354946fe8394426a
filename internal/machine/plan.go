package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi/launch"
)

// PlanOptions say what next boot to approve.
type PlanOptions struct {
	Reason string
	// For is how long the approval waits for its boot.
	For time.Duration
	// Seen is what a person looked at: the approval is of that, or there is none.
	Seen *Foreseen
}

// Errors of plans that a caller acts on.
var (
	ErrNothingToPlan = errors.New("no register that can be predicted will change")
	ErrNotAsSeen     = errors.New("the disk or the variables have changed since: look again")
)

// PlanNext approves the next boot of a machine that is off, as its disk and its variables
// determine it: a boot that shows exactly that passes once. Registers that cannot be
// predicted must be as in the baseline.
func (r *Root) PlanNext(ctx context.Context, actor, name string, o PlanOptions) (err error) {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, seen, history, err := r.foreseeIn(ctx, h)
	if err != nil {
		return err
	}
	switch {
	case f.Prediction.Verdict != launch.Starts:
		return fmt.Errorf("machine %q: %w: its boot is %s: %s", name, ErrNothingToPlan, f.Prediction.Verdict, wordsOf(f.Prediction.Reasons))
	case len(seen.changing()) == 0:
		return fmt.Errorf("machine %q: %w", name, ErrNothingToPlan)
	case o.Seen == nil || !seen.same(o.Seen):
		return fmt.Errorf("machine %q: %w", name, ErrNotAsSeen)
	}
	now := r.cfg.Now()
	p := &integrity.Plan{Made: now, Expires: now.Add(o.For), Actor: actor, Reason: o.Reason, Baseline: seen.Baseline, Registers: registersOf(f.Prediction, seen)}
	if err := history.SetPlan(p); err != nil {
		return err
	}
	return r.keepPlan(h, history, actor, fmt.Sprintf("the next boot was approved before it, until %s: other values in PCR %s; %s",
		p.Expires.UTC().Format(time.RFC3339), strings.Trim(fmt.Sprint(seen.changing()), "[]"), o.Reason))
}

// DropPlan takes the approval of a next boot back.
func (r *Root) DropPlan(ctx context.Context, actor, name string) (err error) {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	history, err := h.History()
	if err != nil || history.Plan == nil {
		return err
	}
	history.Plan = nil
	return r.keepPlan(h, history, actor, "the approval of the next boot was taken back")
}

func (r *Root) keepPlan(h *Home, history *integrity.History, actor, words string) error {
	if err := h.SetHistory(history); err != nil {
		return err
	}
	return r.logAll(h, []integrity.Notice{{
		Type: integrity.EventConfig, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeChanged, words)},
	}})
}

// registersOf are the measurements of each register that is predicted.
func registersOf(p *launch.Prediction, seen *Foreseen) map[int][]map[tpm2.Alg][]byte {
	out := map[int][]map[tpm2.Alg][]byte{}
	for _, register := range seen.Registers {
		if register.State == ForeseenUnknown {
			continue
		}
		out[register.PCR] = nil
		for _, e := range p.Events {
			if e.PCR != register.PCR {
				continue
			}
			digests := map[tpm2.Alg][]byte{}
			for bank, d := range e.Digests {
				digests[bank] = bytes.Clone(d)
			}
			out[register.PCR] = append(out[register.PCR], digests)
		}
	}
	return out
}

// changing are the registers that will have other values.
func (f *Foreseen) changing() (out []int) {
	for _, r := range f.Registers {
		if r.State == ForeseenChanges {
			out = append(out, r.PCR)
		}
	}
	return out
}

// same reports whether two foresee the same values.
func (f *Foreseen) same(o *Foreseen) bool {
	return f.Baseline == o.Baseline && slices.EqualFunc(f.Registers, o.Registers, func(a, b ForeseenRegister) bool {
		return a.PCR == b.PCR && a.State == b.State && a.Old == b.Old && a.New == b.New
	})
}

func wordsOf(reasons []evidence.Reason) string {
	words := make([]string, len(reasons))
	for i, r := range reasons {
		words[i] = r.Message
	}
	return strings.Join(words, "; ")
}

// foreseeIn is what is foreseen of the machine of an open home.
func (r *Root) foreseeIn(ctx context.Context, h *Home) (*Forecast, *Foreseen, *integrity.History, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, nil, err
	}
	m, history, err := r.offline(h)
	if err != nil {
		return nil, nil, nil, err
	}
	v := history.Judging(m.Shape())
	if v == nil {
		return nil, nil, nil, fmt.Errorf("machine %q: %w", h.Name(), ErrNoBaseline)
	}
	profile, err := baseline.ProfileNamed(d.Policy)
	if err != nil {
		return nil, nil, nil, err
	}
	variables, err := h.Variables()
	if err != nil {
		return nil, nil, nil, err
	}
	f, err := forecast(ctx, d, variables)
	if err != nil {
		return nil, nil, nil, err
	}
	return f, foresee(f.Prediction, v, profile), history, nil
}
