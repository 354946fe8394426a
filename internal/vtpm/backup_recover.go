package vtpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// EventRecover is a damaged state of which an older generation was made the newest.
const EventRecover EventType = "recoverTPMEvent"

// A RecoverReport says what a recovery did.
type RecoverReport struct {
	TPM        string   `json:"tpm"`
	ID         state.ID `json:"id"`
	Fault      string   `json:"fault,omitempty"` // what was wrong; empty for nothing
	Generation uint64   `json:"generation"`      // that is the newest from now on
	Aside      string   `json:"aside"`           // where the file as it was is now
}

// Recover makes a generation of a damaged state its newest, 0 for the last one that
// is good. What the TPM did since is lost. A state that is whole is refused unless a
// generation is named.
func (r *Root) Recover(ctx context.Context, actor, name string, generation uint64) (*RecoverReport, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	release, err := r.claim(name, "it is being recovered")
	if err != nil {
		return nil, err
	}
	defer release()
	card, err := r.readCard(name)
	if err != nil {
		return nil, err
	}
	report := &RecoverReport{TPM: name, ID: card.ID, Generation: generation}
	spec, err := r.diagnose(ctx, card, report)
	if err != nil {
		return nil, err
	}
	before := uint64(0)
	if mark, known, err := r.anchor.Last(card.ID); err == nil && known {
		before = mark.Generation
	}
	if info, err := state.Inspect(r.StatePath(name)); err == nil {
		before = max(before, info.Newest())
	}
	op := &operation{Event: Event{Type: EventRecover, TPM: name, Actor: actor, Detail: detail(report)}, id: card.ID, generation: before}
	return report, r.operate(ctx, op, func() error {
		err := r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
			report.Aside, err = state.Recover(ctx, r.StatePath(name), report.Generation, r.stateConfig(p, spec, card.ID))
			return err
		})
		op.Detail = detail(report)
		return err
	})
}

// Diagnose opens the state of a TPM that does not run, and closes it again. The error
// wraps a [*state.Fault] when there is something to recover.
func (r *Root) Diagnose(ctx context.Context, name string) error {
	if err := r.mustHave(name); err != nil {
		return err
	}
	card, err := r.readCard(name)
	if err != nil {
		return err
	}
	o := &opened{card: card}
	if err := r.tryProviders(ctx, o); err != nil {
		return err
	}
	o.content.Destroy()
	return o.file.Close()
}

// diagnose opens the state and says what is wrong, which provider has its key, and
// the generation to recover.
func (r *Root) diagnose(ctx context.Context, card *Card, report *RecoverReport) (spec string, err error) {
	o := &opened{card: card}
	err = r.tryProviders(ctx, o)
	if err == nil {
		spec = card.Providers[0]
		o.content.Destroy()
		if report.Generation == 0 {
			err = fmt.Errorf("the state of TPM %q is whole: nothing is to be recovered; name a generation to go back to", card.Name)
		}
		return spec, errors.Join(err, o.file.Close())
	}
	var fault *state.Fault
	if !errors.As(err, &fault) || fault.LastGood() == 0 {
		return "", fmt.Errorf("no generation of TPM %q can be recovered: %w", card.Name, err)
	}
	report.Fault = fault.Error()
	if report.Generation == 0 {
		report.Generation = fault.LastGood()
	}
	// The provider is the one that gave the key: only then are there good generations.
	for _, spec := range card.Providers {
		var one *state.Fault
		err := r.withProvider(ctx, spec, func(p keyprovider.Provider) error {
			_, err := state.Peek(ctx, r.StatePath(card.Name), r.stateConfig(p, spec, card.ID))
			return err
		})
		if errors.As(err, &one) && one.LastGood() != 0 {
			return spec, nil
		}
	}
	return "", fmt.Errorf("no generation of TPM %q can be recovered: %w", card.Name, err)
}
