package attest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/token"
)

type auditEntry = audit.Entry

// A Request is evidence that answers a challenge.
type Request struct {
	Challenge string
	Type      string // of the evidence
	Policy    string // name; empty means [DefaultPolicy]
	Bundle    []byte // the JSON object, as received
	// Profile is the token's shape; the zero Profile means [token.ProfileAssay].
	Profile token.Profile
	// Nonce and Audience are copied into the token for its relying party. They
	// prove nothing about the evidence.
	Nonce, Audience string
}

// A Result is a decision and, when it is "trusted", the token that states it.
type Result struct {
	Appraisal
	Token string `json:"token,omitempty"`
	// claims is the JSON of the claims; nil when nobody has written it yet.
	claims []byte
}

// NewChallenge issues a challenge for one attestation.
func (s *Service) NewChallenge(ctx context.Context, p Purpose) (Challenge, error) {
	if p.Policy == "" {
		p.Policy = DefaultPolicy
	}
	if err := s.checkPurpose(ctx, p); err != nil {
		return Challenge{}, err
	}
	return s.challenges.Issue(ctx, p)
}

func (s *Service) checkPurpose(ctx context.Context, p Purpose) error {
	if _, ok := s.kinds[p.Type]; !ok {
		return &InputError{Code: "evidence.type-unknown", Field: "type", Detail: fmt.Sprintf("this service does not appraise evidence of type %q", p.Type)}
	}
	if _, _, ok := s.configuration().policyNamed(p.Policy); ok {
		return nil
	}
	// Another process may have added it since.
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	if _, _, ok := s.configuration().policyNamed(p.Policy); !ok {
		return &InputError{Code: "policy.unknown", Field: "policy", Detail: fmt.Sprintf("there is no policy %q", p.Policy)}
	}
	return nil
}

// policyNamed returns the current revision of a policy; the built-in one stands
// for [DefaultPolicy] until an operator sets another.
func (c *prepared) policyNamed(name string) (*policy.Policy, PolicyVersion, bool) {
	if p, ok := c.policies[name]; ok {
		return p, c.Policies[name], true
	}
	if name == DefaultPolicy {
		return c.builtin, c.builtinVersion, true
	}
	return nil, PolicyVersion{}, false
}

// Attest appraises evidence and keeps the decision. A refusal is a Result, not
// an error. A bad challenge is a [*evidence.Refusal] and keeps nothing, so that
// garbage costs the store nothing.
func (s *Service) Attest(ctx context.Context, actor string, r Request) (Result, error) {
	if r.Policy == "" {
		r.Policy = DefaultPolicy
	}
	if r.Profile == token.ProfileUnknown {
		r.Profile = token.ProfileAssay
	}
	purpose := Purpose{r.Type, r.Policy}
	if err := s.checkPurpose(ctx, purpose); err != nil {
		return Result{}, err
	}
	opened, err := s.open(ctx, r.Challenge, purpose)
	if err != nil {
		return Result{}, err
	}
	for range maxRetries {
		result, err := s.attempt(ctx, actor, r, opened)
		if errors.Is(err, ErrChallengeUsed) {
			return Result{}, evidence.Refuse("challenge.used", "the challenge has answered an attestation before")
		}
		if !errors.Is(err, ErrStale) {
			return result, err
		}
		if _, err := s.reload(ctx); err != nil {
			return Result{}, err
		}
	}
	return Result{}, &ConflictError{Code: "request.conflict", Detail: "the configuration keeps changing: try again"}
}

// attempt makes one decision under the configuration as last read. ErrStale
// means that it was made under an old one, and nothing was kept.
func (s *Service) attempt(ctx context.Context, actor string, r Request, opened Opened) (Result, error) {
	conf := s.configuration()
	rule, version, ok := conf.policyNamed(r.Policy)
	if !ok {
		return Result{}, ErrStale
	}
	outcome, err := s.kinds[r.Type].Appraise(ctx, r.Bundle, Inputs{
		Now: s.now(), Nonce: opened.Nonce, Policy: rule, AKRoots: conf.akRoots, EKRoots: conf.ekRoots,
		Baseline: conf.baseline, Attester: s.attesters.get, SameKey: s.store.AttestersByKey,
	})
	if err != nil {
		return Result{}, fmt.Errorf("appraise %s evidence: %w", r.Type, err)
	}
	digest := DigestOf(r.Bundle)
	result, err := s.conclude(r, digest, version, outcome)
	if err != nil {
		return Result{}, err
	}
	result.claims = outcome.claimsJSON()
	if err := s.keep(ctx, Decision{
		Appraisal: result.Appraisal, Bundle: r.Bundle, Digest: digest, Challenge: opened.ID, Expires: opened.Expires,
		Findings: result.appendFindings(nil, result.claims), Generation: conf.Generation, Attester: outcome.Attester, Unrecorded: outcome.Unrecorded, Audit: s.decisionEntry(actor, result.Appraisal),
	}, outcome.before); err != nil {
		return Result{}, err
	}
	s.log.InfoContext(ctx, "appraised evidence", slog.String("appraisal", result.ID), slog.String("type", r.Type),
		slog.String("verdict", result.Verdict.String()), slog.String("attester", result.Attester))
	return result, nil
}

// keep stores a decision and remembers the record that it leaves; before are the
// counters that the record had.
func (s *Service) keep(ctx context.Context, d Decision, before *Counters) error {
	err := s.store.Decide(ctx, d)
	if d.Attester == nil {
		return err
	}
	if err != nil {
		s.attesters.drop(d.Attester.AKName)
		return err
	}
	s.attesters.decided(before, *d.Attester)
	return nil
}

// conclude turns an outcome into the record of it, with a token when trusted.
func (s *Service) conclude(r Request, digest Digest, version PolicyVersion, o Outcome) (Result, error) {
	now := s.now()
	id, err := newID(now, s.rand)
	if err != nil {
		return Result{}, err
	}
	sum, _ := digest.Of(r.Bundle)
	result := Result{Appraisal: Appraisal{
		ID: id, Time: now.UTC(), Type: r.Type, Attester: o.Evidence.Attester,
		Verdict: o.Verdict, Reasons: o.Reasons, Claims: o.Claims,
		NotChecked: o.NotChecked, Policy: version.Name, PolicyRev: version.Version, Evidence: hex.EncodeToString(sum[:]),
	}}
	if o.Attester != nil {
		result.Machine = o.Attester.Machine
	}
	if o.Verdict != evidence.Trusted {
		return result, nil
	}
	t, err := s.keys.issue(r.Profile, tokenResult(r, result.Appraisal, version, o))
	result.Token, result.TokenID = t.Raw, t.ID
	return result, err
}

// tokenResult is what a token states of an appraisal.
func tokenResult(r Request, a Appraisal, version PolicyVersion, o Outcome) token.Result {
	out := token.Result{
		Verdict: a.Verdict, Type: a.Type, Claims: a.Claims, Writing: o.Writing, Policy: tokenPolicy(version),
		NotChecked: a.NotChecked, Attester: a.Attester, Machine: a.Machine, Appraisal: a.ID, Nonce: r.Nonce, Audience: r.Audience,
	}
	if o.Attester != nil {
		out.Baseline = o.Attester.Baseline
	}
	for _, c := range o.Issued {
		out.Issued = append(out.Issued, token.Issued{Type: c.Type, Value: plain(c.Value)})
	}
	return out
}

func tokenPolicy(v PolicyVersion) token.Policy {
	return token.Policy{Name: v.Name, Version: v.Version, Digest: v.Digest, AzureHash: token.AzurePolicyHash(v.Text)}
}

// plain is the value that a token states: a string, a bool or an int64.
func plain(v policy.Value) any {
	if b, ok := v.Bool(); ok {
		return b
	}
	if n, ok := v.Int(); ok {
		return n
	}
	s, _ := v.Text()
	return s
}

func (s *Service) decisionEntry(actor string, a Appraisal) audit.Entry {
	codes := make([]evidence.Code, len(a.Reasons))
	for i, r := range a.Reasons {
		codes[i] = r.Code
	}
	e := s.entry(actor, "attest", a.ID, a.Verdict.String())
	e.Detail, _ = json.Marshal(struct {
		Type     string          `json:"type"`
		Attester string          `json:"attester,omitempty"`
		Machine  string          `json:"machine,omitempty"`
		Evidence string          `json:"evidence"`
		Policy   string          `json:"policy"`
		Version  int             `json:"policyVersion"`
		Reasons  []evidence.Code `json:"reasons,omitempty"`
		Token    string          `json:"token,omitempty"`
	}{a.Type, a.Attester, a.Machine, a.Evidence, a.Policy, a.PolicyRev, codes, a.TokenID})
	return e
}

// Appraisal reads one decision.
func (s *Service) Appraisal(ctx context.Context, id string) (Appraisal, error) {
	return s.store.Appraisal(ctx, id)
}

// Appraisals lists decisions, newest first.
func (s *Service) Appraisals(ctx context.Context, f AppraisalFilter) ([]Appraisal, error) {
	return s.store.Appraisals(ctx, f)
}

// Evidence returns a bundle as it was received.
func (s *Service) Evidence(ctx context.Context, digest string) ([]byte, error) {
	return s.store.Evidence(ctx, digest)
}

// AuditEntries reads the audit chain in order, above the sequence number after.
func (s *Service) AuditEntries(ctx context.Context, after uint64, limit int) ([]audit.Entry, error) {
	return s.store.AuditEntries(ctx, after, limit)
}
