package vtpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// RestoreOptions say what to restore, and as what.
type RestoreOptions struct {
	From string // backup, export or .nvram file
	Name string // of the TPM in this root; that of the backup when empty
	// Mode is ModeCopy, the TPM itself with its secrets and identity, when empty;
	// ModeReplace makes a new, empty TPM for the same machine.
	Mode     string
	Provider string // of the restored TPM; the default when empty
	Keys     KeysFor
	// AllowRollback takes a backup although the TPM has told of newer generations.
	AllowRollback bool
	// Cold drops what a TPM that was suspended has for the memory of its machine.
	Cold bool
	// Import is for an export of another site.
	Import bool
	// VM replaces the machine that the TPM belonged to.
	VM *VM
}

// A RollbackError is a backup that is older than what its TPM has told since.
type RollbackError struct {
	TPM           string
	Backup, Known uint64 // generations
}

func (e *RollbackError) Error() string {
	if e.Backup == e.Known {
		return fmt.Sprintf("the backup of TPM %q has generation %d of another history than the one that is known here", e.TPM, e.Backup)
	}
	return fmt.Sprintf("the backup of TPM %q has generation %d, and the TPM has told of generation %d since: restored, it goes back, and what it did in between is lost", e.TPM, e.Backup, e.Known)
}

// A RestoreReport says what was restored.
type RestoreReport struct {
	TPM        string   `json:"tpm"`
	ID         state.ID `json:"id"`
	Mode       string   `json:"mode"`
	From       string   `json:"from"`
	Generation uint64   `json:"generation"` // of the backup
	RolledBack bool     `json:"rolledBack"`
	VM         string   `json:"vm,omitempty"`
	Provider   string   `json:"provider"`
	// Aside is where the state that was replaced is now.
	Aside    string   `json:"aside,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Restore makes a TPM of a backup. The keys of both sides are tried before anything
// is changed. A crash leaves what was there, or all of the TPM.
func (r *Root) Restore(ctx context.Context, actor string, o RestoreOptions) (*RestoreReport, error) {
	o.Mode = cmpOr(o.Mode, ModeCopy)
	if o.Mode != ModeCopy && o.Mode != ModeReplace {
		return nil, fmt.Errorf("restore as %q, want %s or %s", o.Mode, ModeCopy, ModeReplace)
	}
	s, err := r.openSource(ctx, o.From, o.Keys)
	if err != nil {
		return nil, err
	}
	defer s.destroy()
	o.Name = cmpOr(o.Name, s.bundle.Name)
	if o.Provider == "" && r.cfg.DefaultProvider != nil {
		o.Provider = r.cfg.DefaultProvider()
	}
	exists, err := r.restorable(ctx, &o, s)
	if err != nil {
		return nil, err
	}
	release, err := r.claim(o.Name, "it is being restored")
	if err != nil {
		return nil, err
	}
	defer release()
	report := &RestoreReport{
		TPM: o.Name, ID: s.bundle.ID, Mode: o.Mode, From: s.bundle.Name, Generation: s.bundle.Generation,
		RolledBack: s.report.Older && o.Mode == ModeCopy, Provider: o.Provider, Warnings: s.report.Warnings,
	}
	if s.report.Suspended {
		if o.Cold {
			clear(s.bundle.Content.Volatile)
			s.bundle.Content.Volatile = nil
		} else if o.Mode == ModeCopy {
			report.Warnings = append(report.Warnings, "the TPM was suspended with its machine, and goes on from there: start the machine from its saved memory of that moment only")
		}
	}
	if exists {
		return report, r.restoreOver(ctx, actor, &o, s, report)
	}
	return report, r.restoreNew(ctx, actor, &o, s, report)
}

// restorable checks all that can be before anything is changed.
func (r *Root) restorable(ctx context.Context, o *RestoreOptions, s *source) (exists bool, err error) {
	if err := checkName(o.Name); err != nil {
		return false, err
	}
	if o.Provider == "" {
		return false, ErrNoProvider
	}
	err = r.withProvider(ctx, o.Provider, func(p keyprovider.Provider) error { return backup.CheckProvider(ctx, p, r.cfg.Random) })
	if err != nil {
		return false, fmt.Errorf("restore TPM %q: key provider %q: %w", o.Name, o.Provider, err)
	}
	if exists, err = r.has(o.Name); err != nil {
		return false, err
	}
	if exists {
		card, err := r.readCard(o.Name)
		if err != nil {
			return false, err
		}
		switch {
		case card.ID != s.bundle.ID:
			return false, fmt.Errorf("%q: %w, and it is not the one in the backup", o.Name, ErrExists)
		case o.Mode == ModeReplace:
			return false, fmt.Errorf("%q: %w: to empty it, clear it", o.Name, ErrExists)
		}
	}
	if o.Mode == ModeCopy && s.report.Older && !o.AllowRollback {
		return false, &RollbackError{s.bundle.Name, s.bundle.Generation, s.report.Known}
	}
	return exists, r.checkVM(o, s)
}

// checkVM sees that the machine can have the TPM.
func (r *Root) checkVM(o *RestoreOptions, s *source) error {
	if o.VM == nil {
		return nil
	}
	if err := o.VM.check(); err != nil {
		return err
	}
	if err := o.VM.permit(o.Provider); err != nil {
		return err
	}
	return r.vmIsFree(o.VM.Name, o.Name)
}

// restoreNew puts a TPM into the root that is not there.
func (r *Root) restoreNew(ctx context.Context, actor string, o *RestoreOptions, s *source, report *RestoreReport) error {
	rec, content, err := r.restored(ctx, actor, o, s, report)
	if err != nil {
		return err
	}
	if o.Mode == ModeReplace {
		defer content.Destroy()
	}
	report.ID, report.VM = rec.ID, rec.vmName()
	op := &operation{Event: Event{Type: restoreEvent(o), TPM: o.Name, Actor: actor, Detail: detail(report)}, id: rec.ID}
	return r.operate(ctx, op, func() error {
		if ok, err := r.has(o.Name); err != nil || ok {
			return errors.Join(err, fmt.Errorf("%q: %w", o.Name, ErrExists))
		}
		if twin, err := r.twin(rec.ID); err != nil || twin != "" { // that came meanwhile
			return errors.Join(err, fmt.Errorf("TPM %q has that id: %w", twin, ErrExists))
		}
		above := s.bundle.Generation
		if rec.ID != s.bundle.ID {
			above = 0 // a TPM of its own
		}
		if err := r.place(ctx, rec, o.Provider, content, above); err != nil {
			return errors.Join(err, removeAll(r.dir(o.Name), r.tpms()))
		}
		return nil
	})
}

func restoreEvent(o *RestoreOptions) EventType {
	if o.Import {
		return EventImport
	}
	return EventRestore
}

// restored makes the record and the content of the restored TPM.
func (r *Root) restored(ctx context.Context, actor string, o *RestoreOptions, s *source, report *RestoreReport) (*Record, state.Content, error) {
	rec, content := *s.record, s.bundle.Content
	rec.Name = o.Name
	if err := r.settleMachine(o, &rec, report); err != nil {
		return nil, state.Content{}, err
	}
	twin, err := r.twin(rec.ID)
	if err != nil {
		return nil, state.Content{}, err
	}
	if o.Mode == ModeReplace || twin != "" {
		fresh, err := r.newRecord(actor, o.Name, state.ID{})
		if err != nil {
			return nil, state.Content{}, err
		}
		rec.ID = fresh.ID
		if o.Mode == ModeReplace {
			fresh.VM, fresh.Profile, fresh.Lineage = rec.VM, rec.Profile, rec.Lineage
			rec = *fresh
			permanent, err := r.manufacture(ctx, &rec)
			if err != nil {
				return nil, state.Content{}, err
			}
			content = state.Content{Permanent: permanent}
			report.Warnings = append(report.Warnings, "the TPM is a new, empty one: what the old one protected stays lost to its machine")
		} else {
			report.Warnings = append(report.Warnings, fmt.Sprintf("TPM %q is still here: the two share all secrets, and the restored one has a new id", twin))
		}
	}
	rec.descend(Origin{
		Event: restoreEvent(o), Time: r.cfg.Now().UTC(), By: actor, Mode: o.Mode,
		From: s.record.Name, FromID: s.record.ID, Generation: s.bundle.Generation,
	})
	content.Meta, err = rec.encode()
	return &rec, content, err
}

// settleMachine gives the restored TPM its machine, unless another TPM has that.
func (r *Root) settleMachine(o *RestoreOptions, rec *Record, report *RestoreReport) error {
	if o.VM != nil {
		rec.VM = o.VM
		return nil
	}
	if rec.VM == nil {
		return nil
	}
	if err := r.vmIsFree(rec.VM.Name, o.Name); err != nil {
		report.Warnings = append(report.Warnings, fmt.Sprintf("%v: the restored TPM belongs to no machine yet", err))
		rec.VM = nil
	}
	return nil
}

// twin is the TPM of this root that has an id; empty when there is none. Cards are
// claims: this keeps people from a mistake.
func (r *Root) twin(id state.ID) (string, error) {
	names, err := r.Names()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if c, err := r.readCard(name); err == nil && c.ID == id {
			return name, nil
		}
	}
	return "", nil
}

// restoreOver puts the backup in the place of the state that its own TPM has, which
// may be damaged or lost.
func (r *Root) restoreOver(ctx context.Context, actor string, o *RestoreOptions, s *source, report *RestoreReport) error {
	rec := *s.record
	rec.Name = o.Name
	if err := r.settleMachine(o, &rec, report); err != nil {
		return err
	}
	rec.descend(Origin{
		Event: restoreEvent(o), Time: r.cfg.Now().UTC(), By: actor, Mode: o.Mode,
		From: s.record.Name, FromID: s.record.ID, Generation: s.bundle.Generation,
	})
	content := s.bundle.Content
	var err error
	if content.Meta, err = rec.encode(); err != nil {
		return err
	}
	card, err := r.readCard(o.Name)
	if err != nil {
		return err
	}
	report.VM = rec.vmName()
	before := s.report.Known
	if info, err := state.Inspect(r.StatePath(o.Name)); err == nil {
		before = max(before, info.Newest())
	}
	op := &operation{Event: Event{Type: EventRestoreOver, TPM: o.Name, Actor: actor, Detail: detail(report)}, id: rec.ID, generation: before}
	return r.operate(ctx, op, func() error {
		// Until the state is there, either provider may be the one that it needs.
		both := rec.card(append([]string{o.Provider}, without(card.Providers, o.Provider)...)...)
		both.VM, both.Secrets = card.VM, card.Secrets
		if err := r.writeCard(both); err != nil {
			return err
		}
		r.step("both named")
		err := r.withProvider(ctx, o.Provider, func(p keyprovider.Provider) (err error) {
			cfg := r.stateConfig(p, o.Provider, rec.ID)
			cfg.Above = s.bundle.Generation
			report.Aside, err = state.Replace(ctx, r.StatePath(o.Name), rec.ID, content, cfg)
			return err
		})
		if err != nil {
			return errors.Join(err, r.writeCard(card))
		}
		op.Detail = detail(report)
		r.step("replaced")
		return r.writeCard(rec.card(o.Provider))
	})
}

// without is list without one, and no longer than a card takes.
func without(list []string, one string) []string {
	var out []string
	for _, s := range list {
		if s != one && len(out) < maxProviders-1 {
			out = append(out, s)
		}
	}
	return out
}
