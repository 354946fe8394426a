package machine

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi/launch"
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

// What is foreseen of a register.
const (
	ForeseenSame    = "same"
	ForeseenChanges = "changes"
	// ForeseenUnknown is a register that the disk and the variables do not determine.
	ForeseenUnknown = "unknown"
)

// A Foreseen is what the next boot of a machine will show otherwise than its baseline, by
// its disk and variables. It changes no verdict: the boot is judged by what it shows.
type Foreseen struct {
	Baseline  int                `json:"baseline"` // number of the version
	Bank      string             `json:"bank"`
	Registers []ForeseenRegister `json:"registers"` // of the baseline, in order
	// Image is what the machine is to boot from, where that is not on its disk yet; nil for
	// the disk as it is.
	Image *Image `json:"-"`
}

// A ForeseenRegister is one register of a [Foreseen].
type ForeseenRegister struct {
	PCR   int    `json:"pcr"`
	State string `json:"state"`
	// Judged is set when another value fails the boot.
	Judged bool   `json:"judged"`
	Old    string `json:"old"`           // lower-case hex: what the baseline accepts first
	New    string `json:"new,omitempty"` // what the boot will give
	// Reasons are why a register is unknown.
	Reasons []evidence.Reason `json:"reasons,omitempty"`
}

// Changes reports whether a register that decides will have another value.
func (f *Foreseen) Changes() bool {
	return slices.ContainsFunc(f.Registers, func(r ForeseenRegister) bool { return r.Judged && r.State == ForeseenChanges })
}

// ErrNoBaseline is a machine that has no baseline yet.
var ErrNoBaseline = errors.New("the machine has no baseline")

// Foresee says of a machine that is off what its next boot will show otherwise than its
// baseline.
func (r *Root) Foresee(ctx context.Context, name string) (*Forecast, *Foreseen, error) {
	return r.ForeseeImage(ctx, name, nil)
}

// ForeseeImage says that of a machine whose disk will hold an image by then; nil for the disk
// as it is.
func (r *Root) ForeseeImage(ctx context.Context, name string, image *Image) (_ *Forecast, _ *Foreseen, err error) {
	h, err := r.openOff(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, seen, _, err := r.foreseeIn(ctx, h, image)
	return f, seen, err
}

// predicted is what is known of a boot before it takes place: a launch.Prediction.
type predicted interface {
	PCR(bank tpm2.Alg, pcr int) (value []byte, ok bool)
	Unknown(pcr int) []evidence.Reason
}

func foresee(p predicted, v *integrity.Version, profile baseline.Profile) *Foreseen {
	out := &Foreseen{Baseline: v.Number, Bank: v.Baseline.Bank().BankName(), Registers: []ForeseenRegister{}}
	judged := profile.Required(v.Baseline)
	for _, pcr := range v.Baseline.PCRs() {
		accepted := v.Baseline.Late(pcr)
		r := ForeseenRegister{PCR: pcr, Judged: slices.Contains(judged, pcr), Old: hex.EncodeToString(accepted[0])}
		value, ok := p.PCR(v.Baseline.Bank(), pcr)
		switch {
		case !ok:
			r.State, r.Reasons = ForeseenUnknown, p.Unknown(pcr)
		case slices.ContainsFunc(accepted, func(a []byte) bool { return string(a) == string(value) }):
			r.State, r.New = ForeseenSame, hex.EncodeToString(value)
		default:
			r.State, r.New = ForeseenChanges, hex.EncodeToString(value)
		}
		out.Registers = append(out.Registers, r)
	}
	return out
}

// PlanOptions say what next boot to approve.
type PlanOptions struct {
	Reason string
	// For is how long the approval waits for its boot.
	For time.Duration
	// Seen is what a person looked at: the approval is of that, or there is none. It is of
	// the image that Seen names.
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
	h, err := ours(r.openOff(ctx, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	var image *Image
	if o.Seen != nil {
		image = o.Seen.Image
	}
	f, seen, history, err := r.foreseeIn(ctx, h, image)
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
	of := ""
	if image != nil {
		of = " from image " + image.words()
	}
	return r.keepPlan(h, history, actor, fmt.Sprintf("the next boot%s was approved before it, until %s: other values in PCR %s; %s",
		of, p.Expires.UTC().Format(time.RFC3339), strings.Trim(fmt.Sprint(seen.changing()), "[]"), o.Reason))
}

// DropPlan takes the approval of a next boot back.
func (r *Root) DropPlan(ctx context.Context, actor, name string) (err error) {
	h, err := ours(r.openOff(ctx, name))
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
	_, err := r.keepAll(h, history, []integrity.Notice{{
		Type: integrity.EventConfig, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: history.BootCounter, Actor: actor,
		Reasons: []evidence.Reason{reason(codeChanged, words)},
	}})
	return err
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
func (r *Root) foreseeIn(ctx context.Context, h *Home, image *Image) (*Forecast, *Foreseen, *integrity.History, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, nil, err
	}
	_, history, err := r.offline(h)
	if err != nil {
		return nil, nil, nil, err
	}
	v := history.InForce()
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
	var f *Forecast
	if image == nil {
		f, err = forecast(ctx, d, variables)
	} else {
		f, err = forecastOf(ctx, d, variables, *image)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	seen := foresee(f.Prediction, v, profile)
	seen.Image = image
	return f, seen, history, nil
}
