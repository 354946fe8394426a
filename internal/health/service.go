package health

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/tpm2"
)

// A Service is the [Issuer] by an attestation service in the same process: the machine
// is an attester there, under the service's own policy.
type Service struct {
	Service *attest.Service
	// Actor is who the service's audit trail names.
	Actor string
	// Machine is what the service calls the machine, Baseline its reference value there;
	// empty for none.
	Machine, Baseline string
	// Policy is the name of the policy; empty for the service's default.
	Policy string
}

// Enrolled registers the key, on this host's word for its proof. One that the service
// knows as this machine's already is left as it is; another machine's, or another key
// of this machine, is an error that an operator has to settle.
func (s *Service) Enrolled(ctx context.Context, ak, _ []byte) error {
	public, err := tpm2.ParsePublic(ak)
	if err != nil {
		return err
	}
	name, err := public.Name()
	if err != nil {
		return err
	}
	known, err := s.Service.Attester(ctx, hex.EncodeToString(name))
	switch {
	case err == nil && known.Removed:
		return errors.New("an administrator of the attestation service removed this machine's key")
	case err == nil && known.Machine != s.Machine:
		return fmt.Errorf("the attestation service knows this key as that of machine %q", known.Machine)
	case err == nil || !errors.Is(err, attest.ErrNotFound):
		return err
	}
	_, err = s.Service.RegisterAttester(ctx, s.Actor, attest.Registration{Machine: s.Machine, AKPublic: ak, Baseline: s.Baseline})
	return err
}

func (s *Service) policy() string {
	if s.Policy == "" {
		return attest.DefaultPolicy
	}
	return s.Policy
}

// Challenge takes one of the service's.
func (s *Service) Challenge(ctx context.Context) (nonce []byte, challenge string, err error) {
	c, err := s.Service.NewChallenge(ctx, attest.Purpose{Type: evidence.TypeTPM, Policy: s.policy()})
	return c.Nonce, c.Challenge, err
}

// Token has the service appraise the bundle, and keep its decision.
func (s *Service) Token(ctx context.Context, challenge string, bundle []byte) (string, error) {
	r, err := s.Service.Attest(ctx, s.Actor, attest.Request{Challenge: challenge, Type: evidence.TypeTPM, Policy: s.policy(), Bundle: bundle})
	if err != nil {
		return "", err
	}
	if r.Verdict != evidence.Trusted {
		words := []string{"the attestation service refuses what this host trusts"}
		for _, reason := range r.Reasons {
			words = append(words, fmt.Sprintf("%s: %s", reason.Code, reason.Message))
		}
		return "", errors.New(strings.Join(words, "; "))
	}
	return r.Token, nil
}
