package attest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
)

// TPM is the [Kind] of TPM evidence: a quote by an enrolled attestation key, or
// by one that a CA of the operator's choice certifies.
type TPM struct {
	// ClockWindow is how far the clocks of two quotes of the same boot may lie in
	// the wrong order, because they overtook each other; 0 means 5 minutes, the
	// life of a challenge.
	ClockWindow time.Duration
	// Cache keeps what the boots of many machines have in common; nil for none.
	Cache *eventlog.Cache
	// Keys keeps attestation keys prepared; nil for none.
	Keys *tpm.KeyCache
}

// Type is "tpm".
func (TPM) Type() string { return evidence.TypeTPM }

// Appraise verifies the bundle against the key's record.
func (k TPM) Appraise(ctx context.Context, bundle []byte, in Inputs) (Outcome, error) {
	b, err := evidence.ParseBundle(bundle)
	if err != nil {
		return outcomeOf(tpm.Unusable("", evidence.Refuse("bundle.malformed", "%v", err))), nil
	}
	if b.Type != evidence.TypeTPM {
		return outcomeOf(tpm.Unusable(b.Type, evidence.Refuse("bundle.type-mismatch", "the bundle is of type %q, the challenge is for %q", b.Type, evidence.TypeTPM))), nil
	}
	parsed, err := tpm.Parse(b)
	if err != nil {
		return outcomeOf(tpm.Refused(err)), nil
	}
	options := tpm.Options{Policy: in.Policy, Expect: tpm.Expect{
		Nonce: in.Nonce, AKRoots: in.AKRoots, EKRoots: in.EKRoots, At: in.Now, ClockWindow: orDefault(k.ClockWindow, 5*time.Minute),
		Cache: k.Cache,
	}}
	known, err := in.Attester(ctx, hex.EncodeToString(parsed.AKName()))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Outcome{}, fmt.Errorf("look up attestation key: %w", err)
	}
	if err != nil {
		return unenrolled(ctx, parsed, options, in)
	}
	if known.Removed {
		// Not even a certificate of a trusted CA brings a removed key back.
		return outcomeOf(tpm.Refused(evidence.Refuse("ak.removed", "an administrator removed this attestation key").About("akPublic"))), nil
	}
	if err := k.trust(&options, known); err != nil {
		return Outcome{}, err
	}
	if known.Baseline != "" {
		reference, ok := in.Baseline(known.Baseline)
		if !ok {
			return Outcome{}, fmt.Errorf("attester %s: reference value %q is gone", known.AKName, known.Baseline)
		}
		options.Baseline = reference
	}
	appraisal := tpm.Appraise(parsed, options)
	out := outcomeOf(appraisal)
	if known.Baseline == "" {
		out.NotChecked = append(out.NotChecked, "boot against a baseline: none is set for this machine")
	}
	if v := appraisal.Verified; v != nil {
		out.before = known.Last
		known.Last = latest(known.Last, v.Counters())
		out.Attester = &known
	}
	return out, nil
}

// trust adds what the record says of the key to what is expected of the evidence.
func (k TPM) trust(o *tpm.Options, known Attester) error {
	key, err := k.Keys.Key(known.AKPublic, known.Proof)
	if err != nil {
		return fmt.Errorf("attester %s, as stored: %w", known.AKName, err)
	}
	o.Keys = []*tpm.Key{key}
	if l := known.Last; l != nil {
		o.Last = &tpm.Counters{Clock: l.Clock, Reset: l.Reset, Restart: l.Restart, Safe: l.Safe}
	}
	return nil
}

func latest(last *Counters, now tpm.Counters) *Counters {
	if last != nil {
		now = now.Latest(tpm.Counters{Clock: last.Clock, Reset: last.Reset, Restart: last.Restart, Safe: last.Safe})
	}
	return &Counters{Clock: now.Clock, Reset: now.Reset, Restart: now.Restart, Safe: now.Safe}
}

func outcomeOf(a *tpm.Appraisal) Outcome { return Outcome{Result: a.Result, Issued: a.Issued} }
