package attest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// Registration is a request to trust an attestation key on the operator's word.
type Registration struct {
	Machine  string
	AKPublic []byte // TPMT_PUBLIC
	Baseline string // name of a reference value; empty for none
}

// RegisterAttester trusts a key that the operator vouches for.
func (s *Service) RegisterAttester(ctx context.Context, actor string, r Registration) (Attester, error) {
	a, err := s.newAttester(actor, r)
	if err != nil {
		return Attester{}, err
	}
	a.Proof = tpm.ProofRegistered
	e := s.entry(actor, "attester.register", a.AKName, "done")
	return s.admit(ctx, a, e, s.store.AddAttester(ctx, a, e))
}

// admit turns the outcome of adding a into an answer. A key that was removed is
// admitted again, under the counters that it had: a TPM that was set back
// meanwhile still shows.
func (s *Service) admit(ctx context.Context, a Attester, e auditEntry, err error) (Attester, error) {
	if !errors.Is(err, ErrExists) {
		return a, err
	}
	old, err := s.store.Attester(ctx, a.AKName)
	if errors.Is(err, ErrNotFound) || err == nil && !old.Removed {
		return Attester{}, taken(a)
	}
	if err != nil {
		return Attester{}, err
	}
	a.Revision, a.Last = old.Revision, old.Last
	err = s.store.SetAttester(ctx, a, e)
	s.attesters.drop(a.AKName)
	switch {
	case errors.Is(err, ErrExists):
		return Attester{}, taken(a)
	case errors.Is(err, ErrStale):
		return Attester{}, &ConflictError{Code: "request.conflict", Detail: "the attester's record has just changed: try again"}
	case err != nil:
		return Attester{}, err
	}
	return s.store.Attester(ctx, a.AKName)
}

// newAttester checks what every attester must be.
func (s *Service) newAttester(actor string, r Registration) (Attester, error) {
	if err := checkName("machine", r.Machine); err != nil {
		return Attester{}, err
	}
	if err := s.checkBaseline(r.Baseline); err != nil {
		return Attester{}, err
	}
	ak, err := tpm2.ParsePublic(r.AKPublic)
	if err != nil {
		return Attester{}, badInput("akPublic", "%v", err)
	}
	if err := tpm.CheckAK(ak); err != nil {
		return Attester{}, refusedInput("akPublic", err)
	}
	name, err := ak.Name()
	if err != nil {
		return Attester{}, badInput("akPublic", "%v", err)
	}
	return Attester{
		AKName: hex.EncodeToString(name), Machine: r.Machine, AKPublic: r.AKPublic,
		Baseline: r.Baseline, Added: s.now().UTC(), AddedBy: actor,
	}, nil
}

func (s *Service) checkBaseline(name string) error {
	if name == "" {
		return nil
	}
	if _, ok := s.configuration().References[name]; !ok {
		return badInput("baseline", "there is no reference value %q", name)
	}
	return nil
}

func taken(a Attester) error {
	return &ConflictError{
		Code: "attester.taken",
		Detail: fmt.Sprintf("machine %q or this attestation key is enrolled already: remove the old record first, if the machine really got another TPM",
			a.Machine),
	}
}

// RemoveAttester trusts the key no longer; its appraisals stay.
func (s *Service) RemoveAttester(ctx context.Context, actor, akName string) error {
	return s.editAttester(ctx, akName, "attester.remove", actor, func(a *Attester) error {
		a.Removed = true
		return nil
	})
}

// SetBaseline names the reference value that an attester's boots are compared
// with; the empty name means none.
func (s *Service) SetBaseline(ctx context.Context, actor, akName, baseline string) error {
	if err := s.checkBaseline(baseline); err != nil {
		return err
	}
	return s.editAttester(ctx, akName, "attester.baseline", actor, func(a *Attester) error {
		a.Baseline = baseline
		return nil
	})
}

// maxRetries bounds how often a write is tried again after ErrStale. Each loss
// means that another write went through.
const maxRetries = 8

func (s *Service) editAttester(ctx context.Context, akName, action, actor string, edit func(*Attester) error) error {
	for range maxRetries {
		a, err := s.store.Attester(ctx, akName)
		if err != nil {
			return err
		}
		if a.Removed {
			return fmt.Errorf("attester %q was removed: %w", akName, ErrNotFound)
		}
		if err := edit(&a); err != nil {
			return err
		}
		err = s.store.SetAttester(ctx, a, s.entry(actor, action, akName, "done"))
		s.attesters.drop(akName)
		if !errors.Is(err, ErrStale) {
			return err
		}
	}
	return &ConflictError{Code: "request.conflict", Detail: "the attester's record keeps changing: try again"}
}

// Attester reads one record by the hex of the key's Name.
func (s *Service) Attester(ctx context.Context, akName string) (Attester, error) {
	return s.store.Attester(ctx, akName)
}

// Attesters lists records by key name, above after.
func (s *Service) Attesters(ctx context.Context, after string, limit int) ([]Attester, error) {
	return s.store.Attesters(ctx, after, limit)
}
