package machine

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/tpm2"
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
func (r *Root) Foresee(ctx context.Context, name string) (_ *Forecast, _ *Foreseen, err error) {
	h, err := r.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	f, seen, _, err := r.foreseeIn(ctx, h)
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
