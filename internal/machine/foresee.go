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
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi/launch"
)

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
// as it is. It is [ErrNotAsSeen], wrapped, where the machine was changed or started meanwhile.
func (r *Root) ForeseeImage(ctx context.Context, name string, image *Image) (*Forecast, *Foreseen, error) {
	g, err := r.groundOf(r.openOff(ctx, name))
	if err != nil {
		return nil, nil, err
	}
	f, seen, err := g.foresee(ctx, image)
	if gone := r.holds(g); gone != nil {
		return nil, nil, gone // which may be why the disk could not be read
	}
	return f, seen, err
}

// A ground is what a machine's next boot is foreseen by, besides what it boots from. To read
// that takes long: its home is free meanwhile, for who looks at the machine or changes it.
type ground struct {
	name       string
	definition *fleet.Definition
	variables  []byte
	history    *integrity.History
	stamp      string // of groundFiles
}

// groundFiles are all that a ground is read from, and what says that the machine runs.
var groundFiles = [...]string{cardFile, definitionFile, variablesFile, integrityFile, runningFile}

// groundOf reads a home that was opened, and closes it.
func (r *Root) groundOf(h *Home, err error) (*ground, error) {
	if err != nil {
		return nil, err
	}
	g := &ground{name: h.Name()}
	if g.definition, err = h.Definition(); err == nil {
		_, g.history, err = r.offline(h)
	}
	if err == nil {
		g.variables, err = h.Variables()
	}
	if err == nil {
		g.stamp, err = r.stamp(g.name, groundFiles[:]...)
	}
	return g, errors.Join(err, h.Close())
}

// holds refuses what was foreseen on a ground that is another by now.
func (r *Root) holds(g *ground) error {
	now, err := r.stamp(g.name, groundFiles[:]...)
	if err == nil && now != g.stamp {
		err = fmt.Errorf("machine %q: %w", g.name, ErrNotAsSeen)
	}
	return err
}

// foresee says what a boot will show, by what it boots from.
func (g *ground) foresee(ctx context.Context, image *Image) (*Forecast, *Foreseen, error) {
	v := g.history.InForce()
	if v == nil {
		return nil, nil, fmt.Errorf("machine %q: %w", g.name, ErrNoBaseline)
	}
	profile, err := baseline.ProfileNamed(g.definition.Policy)
	if err != nil {
		return nil, nil, err
	}
	var f *Forecast
	if image == nil {
		f, err = forecast(ctx, g.definition, g.variables)
	} else {
		f, err = forecastOf(ctx, g.definition, g.variables, *image)
	}
	if err != nil {
		return nil, nil, err
	}
	seen := foresee(f.Prediction, v, profile)
	seen.Image = image
	return f, seen, nil
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
	g, err := r.groundOf(ours(r.openOff(ctx, name)))
	if err != nil {
		return err
	}
	var image *Image
	if o.Seen != nil {
		image = o.Seen.Image
	}
	f, seen, err := g.foresee(ctx, image)
	if gone := r.holds(g); gone != nil {
		return gone
	}
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
	h, err := ours(r.openOff(ctx, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := r.holds(g); err != nil { // with the home held, now
		return err
	}
	now := r.cfg.Now()
	p := &integrity.Plan{Made: now, Expires: now.Add(o.For), Actor: actor, Reason: o.Reason, Baseline: seen.Baseline, Registers: registersOf(f.Prediction, seen)}
	if err := g.history.SetPlan(p); err != nil {
		return err
	}
	of := ""
	if image != nil {
		of = " from image " + image.words()
	}
	return r.keepPlan(h, g.history, actor, fmt.Sprintf("the next boot%s was approved before it, until %s: other values in PCR %s; %s",
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
