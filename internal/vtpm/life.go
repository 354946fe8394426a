package vtpm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// ErrAttached is a TPM that belongs to a machine, where it must not.
var ErrAttached = errors.New("the TPM belongs to a virtual machine")

// change opens the TPM called name, which must not run, and has f change its
// record and content; the result is one new generation of its state.
func (r *Root) change(ctx context.Context, e Event, f func(*opened) error) error {
	if err := r.mustHave(e.TPM); err != nil {
		return err
	}
	release, err := r.claim(e.TPM, "it is being changed")
	if err != nil {
		return err
	}
	defer release()
	s, err := r.openState(ctx, e.TPM)
	if err != nil {
		return err
	}
	defer func() { s.content.Destroy() }()
	if err := f(s); err != nil {
		return errors.Join(err, s.file.Close())
	}
	o := &operation{Event: e, id: s.record.ID, generation: s.file.Generation()}
	err = r.operate(ctx, o, func() error {
		meta, err := s.record.encode()
		if err != nil {
			return err
		}
		s.content.Meta = meta
		keep := s.file.Save
		if e.Type == EventClear {
			keep = s.file.Renew // nothing of what was cleared is left in the file
		}
		if err := keep(ctx, s.content); err != nil {
			return err
		}
		r.step("state saved")
		return r.writeCard(s.record.card(s.card.Providers...))
	})
	return errors.Join(err, s.file.Close())
}

// Attach gives a TPM that belongs to no machine to vm, whose requirements are
// checked. The machine finds it at its next start.
func (r *Root) Attach(ctx context.Context, actor, name string, vm VM) error {
	if err := vm.check(); err != nil {
		return err
	}
	if err := r.vmIsFree(vm.Name, name); err != nil {
		return err
	}
	e := Event{Type: EventAttach, TPM: name, Actor: actor, Detail: detail(map[string]string{"vm": vm.Name})}
	return r.change(ctx, e, func(s *opened) error {
		if s.record.VM != nil && s.record.VM.Name != vm.Name {
			return fmt.Errorf("TPM %q: %q: %w", name, s.record.VM.Name, ErrAttached)
		}
		if err := vm.permit(s.card.Providers[0]); err != nil {
			return err
		}
		s.record.VM = &vm
		return nil
	})
}

// Detach takes a TPM from its machine, which loses the use of all that the TPM
// protects; the TPM itself is kept. [Root.Loss] says what that is.
func (r *Root) Detach(ctx context.Context, actor, name string) error {
	e := Event{Type: EventDetach, TPM: name, Actor: actor}
	return r.change(ctx, e, func(s *opened) error {
		if s.record.VM == nil {
			return fmt.Errorf("TPM %q belongs to no virtual machine", name)
		}
		s.record.descend(Origin{Event: EventDetach, Time: r.cfg.Now().UTC(), By: actor, From: s.record.VM.Name})
		s.record.VM = nil
		return nil
	})
}

// Clear makes a TPM anew: seeds, endorsement keys and certificates. All that it
// protected is lost. [Root.Loss] says what that is.
func (r *Root) Clear(ctx context.Context, actor, name string) (*Record, error) {
	var rec *Record
	var before Card
	err := r.change(ctx, Event{Type: EventClear, TPM: name, Actor: actor}, func(s *opened) error {
		rec, before = s.record, *s.card
		secrets, err := newSecrets(r.cfg.Random)
		if err != nil {
			return err
		}
		origin := Origin{Event: EventClear, Time: r.cfg.Now().UTC(), By: actor, Generation: s.file.Generation()}
		permanent, err := r.manufacture(ctx, rec)
		if err != nil {
			return err
		}
		s.content.Destroy()
		s.content = state.Content{Permanent: permanent}
		rec.Secrets = secrets
		rec.descend(origin)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rec, r.withdraw(ctx, &before, ekca.Superseded, rec)
}

// How a TPM is cloned.
const (
	// ModeReplace gives the clone seeds and an identity of its own.
	ModeReplace = "replace"
	// ModeCopy gives it those of the original: the two share all secrets.
	ModeCopy = "copy"
)

// CloneOptions say how to clone a TPM.
type CloneOptions struct {
	From, To string
	Mode     string // ModeReplace when empty
	Provider string // that of the original when empty
	VM       *VM    // of the clone; nil for none yet
}

// Clone makes a TPM after another, which must not run.
func (r *Root) Clone(ctx context.Context, actor string, o CloneOptions) (*Record, error) {
	o.Mode = cmpOr(o.Mode, ModeReplace)
	if o.Mode != ModeReplace && o.Mode != ModeCopy {
		return nil, fmt.Errorf("clone mode %q, want %s or %s", o.Mode, ModeReplace, ModeCopy)
	}
	if err := r.mustHave(o.From); err != nil {
		return nil, err
	}
	release, err := r.claim(o.From, "it is being cloned")
	if err != nil {
		return nil, err
	}
	defer release()
	s, err := r.openState(ctx, o.From)
	if err != nil {
		return nil, err
	}
	defer func() { s.content.Destroy() }()
	rec, err := r.clone(ctx, actor, o, s)
	return rec, errors.Join(err, s.file.Close())
}

func (r *Root) clone(ctx context.Context, actor string, o CloneOptions, s *opened) (*Record, error) {
	provider := cmpOr(o.Provider, s.card.Providers[0])
	if err := r.permitNew(ctx, Event{Type: EventClone, TPM: o.To, Actor: actor}, provider, o.VM); err != nil {
		return nil, err
	}
	release, err := r.claim(o.To, "it is being made")
	if err != nil {
		return nil, err
	}
	defer release()
	rec, err := r.newRecord(actor, o.To, state.ID{})
	if err != nil {
		return nil, err
	}
	rec.VM, rec.Profile = o.VM, s.record.Profile
	rec.DeviceIdentity, rec.PlatformCertificate = s.record.DeviceIdentity, s.record.PlatformCertificate
	permanent := s.content.Permanent
	if o.Mode == ModeCopy {
		rec.Secrets, rec.Identity = s.record.Secrets, s.record.Identity
		rec.Lineage = s.record.Lineage
	} else if permanent, err = r.manufacture(ctx, rec); err != nil {
		return nil, err
	}
	rec.descend(Origin{
		Event: EventClone, Time: rec.Created, By: actor, Mode: o.Mode,
		From: s.record.Name, FromID: s.record.ID, Generation: s.file.Generation(),
	})
	about := map[string]string{"mode": o.Mode, "from": s.record.Name, "fromId": s.record.ID.String(), "vm": rec.vmName()}
	return rec, r.add(ctx, EventClone, rec, provider, permanent, about)
}

// Delete removes a TPM and all that it protects. One that belongs to a machine is
// refused. A state whose key is gone can be deleted; one that is in use cannot.
func (r *Root) Delete(ctx context.Context, actor, name string) error {
	return r.delete(ctx, actor, name, "")
}

// DeleteWith removes the TPM of a machine that is being deleted, by the machine's UUID,
// which the sealed record must have. The ledger then knows no newer state of the TPM than
// the machine had: a backup of that state is the newest one.
func (r *Root) DeleteWith(ctx context.Context, actor, name, machine string) error {
	return r.delete(ctx, actor, name, machine)
}

func (r *Root) delete(ctx context.Context, actor, name, machine string) error {
	if err := r.mustHave(name); err != nil {
		return err
	}
	release, err := r.claim(name, "it is being deleted")
	if err != nil {
		return err
	}
	defer release()
	card, err := r.readCard(name)
	if err != nil {
		return err
	}
	attached := fmt.Errorf("TPM %q: %q: %w: detach it first", name, card.VM, ErrAttached)
	if card.VM != "" && machine == "" {
		return attached
	}
	about := map[string]string{"secrets": card.Secrets.String()}
	s, err := r.openState(ctx, name)
	switch {
	case err == nil:
		s.content.Destroy()
		defer s.file.Close() //nolint:errcheck // the file is gone
		if vm := s.record.VM; machine != "" && (vm == nil || vm.UUID != machine) {
			return attached
		}
	case errors.Is(err, state.Locked), card.VM != "":
		return err
	default:
		about["unopened"] = err.Error()
	}
	o := &operation{Event: Event{Type: EventDelete, TPM: name, Actor: actor, Detail: detail(about)}, id: card.ID}
	err = r.operate(ctx, o, func() error {
		gone := r.deletedPath(card.ID)
		if err := errors.Join(os.RemoveAll(gone), os.Rename(r.dir(name), gone)); err != nil {
			return err
		}
		if err := syncDir(r.tpms()); err != nil {
			return err
		}
		r.step("renamed")
		// The ledger keeps what the TPM told last: an older backup of it is then known
		// for one.
		return removeAll(gone, r.tpms())
	})
	if err != nil {
		return err
	}
	return r.withdraw(ctx, card, ekca.Cessation, nil)
}

// RotateKey wraps the key of a state anew, by the provider that it has or by
// another. The TPM may run meanwhile. What a crash cuts short is completed by
// calling it again; the state opens at every moment.
func (r *Root) RotateKey(ctx context.Context, actor, name, provider string) error {
	if err := r.mustHave(name); err != nil {
		return err
	}
	r.mu.Lock()
	running := r.running[name]
	r.mu.Unlock()
	if running != nil {
		return running.rotate(ctx, actor, provider)
	}
	release, err := r.claim(name, "its key is being changed")
	if err != nil {
		return err
	}
	defer release()
	s, err := r.openState(ctx, name)
	if err != nil {
		return err
	}
	s.content.Destroy()
	_, err = r.rewrap(ctx, actor, s.card, s.file, provider)
	return errors.Join(err, s.file.Close())
}

func (i *Instance) rotate(ctx context.Context, actor, provider string) error {
	i.rotating.Lock()
	defer i.rotating.Unlock()
	i.mu.Lock()
	card, stopping := i.card, i.closed || i.record == nil
	i.mu.Unlock()
	if stopping {
		return fmt.Errorf("TPM %q: it is stopping: %w", i.name, ErrBusy)
	}
	card, err := i.root.rewrap(ctx, actor, card, i.file, provider) // without mu: the guest goes on
	i.mu.Lock()
	defer i.mu.Unlock()
	i.card = card
	return err
}

// rewrap returns the card as it is afterwards, whatever happens.
func (r *Root) rewrap(ctx context.Context, actor string, card *Card, f *state.File, provider string) (*Card, error) {
	from := card.Providers[0]
	provider = cmpOr(provider, from)
	e := Event{Type: EventRotateKey, TPM: card.Name, Actor: actor, Detail: detail(map[string]string{"from": from, "to": provider})}
	err := r.operate(ctx, &operation{Event: e, id: card.ID, generation: f.Generation()}, func() error {
		both := *card
		if provider != from {
			both.Providers = []string{from, provider}
			if err := r.writeCard(&both); err != nil {
				return err
			}
		}
		card = &both
		r.step("both named")
		r.dropProvider(provider) // its newest key may be newer than what is open
		err := r.withProvider(ctx, provider, func(p keyprovider.Provider) error { return f.Rewrap(ctx, p, provider) })
		if err != nil {
			return err
		}
		r.step("wrapped")
		only := both
		only.Providers = []string{provider}
		card = &only
		return r.writeCard(card)
	})
	return card, err
}
