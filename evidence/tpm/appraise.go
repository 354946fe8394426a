package tpm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/policy"
)

// Options are what an operator asks of evidence. The zero value trusts no key
// and so refuses everything.
type Options struct {
	Expect
	// Policy decides about verified claims; nil means the strict default: secure
	// boot is proven to be on.
	Policy *policy.Policy
	// Baseline, when not nil, is what the boot must match, in the baseline's bank.
	Baseline *baseline.Baseline
	// Profile says in what; the zero Profile means [baseline.Default].
	Profile baseline.Profile
}

// An Appraisal is the outcome of [Appraise]: the result as everyone sees it, and
// what only the caller needs.
type Appraisal struct {
	// The Result's claims are those that Verified holds, not a copy: do not change them.
	evidence.Result
	// Verified is nil unless the evidence was verified, whatever the verdict.
	Verified *Verified
	// Issued are the claims that the policy issued, in order.
	Issued []policy.Claim
	// Comparison is with the baseline; nil when there was none or nothing to compare.
	Comparison *baseline.Comparison
}

// AppraiseBundle appraises the text of a bundle of type tpm. Text that is no such
// bundle is [evidence.Unusable].
func AppraiseBundle(text []byte, o Options) *Appraisal {
	b, err := evidence.ParseBundle(text)
	if err != nil {
		return Unusable("", evidence.Refuse("bundle.malformed", "%v", err))
	}
	if b.Type != evidence.TypeTPM {
		return Unusable(b.Type, evidence.Refuse("bundle.unsupported", "type %s is known, not supported by this build", b.Type))
	}
	e, err := Parse(b)
	if err != nil {
		return Refused(err)
	}
	return Appraise(e, o)
}

// Unusable is the appraisal of what is no evidence that can be judged.
func Unusable(kind string, why *evidence.Refusal) *Appraisal {
	a := &Appraisal{Result: evidence.NewResult(kind, []evidence.Reason{why.Reason})}
	a.Verdict = evidence.Unusable
	return a
}

// Refused is the appraisal of evidence that err refuses: an error of [Parse] or
// [Verify].
func Refused(err error) *Appraisal {
	reasons := evidence.Reasons(err)
	if len(reasons) == 0 {
		// An error that is no refusal must not turn into an empty list of reasons.
		reasons = []evidence.Reason{evidence.Refuse(codeQuoteMalformed, "%v", err).Reason}
	}
	a := &Appraisal{Result: evidence.NewResult(evidence.TypeTPM, reasons)}
	var f *failure
	if errors.As(err, &f) {
		a.NotChecked = append(a.NotChecked, f.notChecked...)
		a.Evidence.Signature = evidence.SignatureInvalid
		if f.signatureValid {
			a.Evidence.Signature = evidence.SignatureValid
		}
	}
	return a
}

// Appraise verifies evidence and judges the boot that it proves. The verdict is
// [evidence.Trusted] only when every check passed that the options ask for.
func Appraise(e *Evidence, o Options) *Appraisal {
	if o.Baseline != nil && o.Bank == 0 {
		o.Bank = o.Baseline.Bank()
	}
	v, err := Verify(e, o.Expect)
	if err != nil {
		a := Refused(err)
		a.Evidence.Attester = hex.EncodeToString(e.akName)
		var f *failure
		if errors.As(err, &f) && f.quoted != nil && o.Baseline != nil {
			a.compare(o, f.quoted)
		}
		return a
	}
	a := &Appraisal{Result: evidence.NewResult(evidence.TypeTPM, nil), Verified: v}
	a.Evidence = v.summary()
	a.Claims, a.Writing = v.claims(), v.boot.Writing()
	a.NotChecked = append(a.NotChecked, v.notChecked...)
	if o.Policy == nil {
		a.judgeStrictly()
	} else {
		a.judgeByPolicy(o.Policy)
	}
	if o.Baseline != nil {
		a.compare(o, v.boot)
	} else {
		a.NotChecked = append(a.NotChecked, "which boot loader, kernel, command line and initrd were booted: no baseline")
	}
	if len(a.Reasons) == 0 {
		a.Verdict = evidence.Trusted
	}
	return a
}

func (v *Verified) summary() evidence.Summary {
	return evidence.Summary{
		Type: evidence.TypeTPM, Signature: evidence.SignatureValid, Attester: hex.EncodeToString(v.evidence.akName),
		Proof: v.Proof(), Bank: v.bank.alg.BankName(), PCRs: slices.Collect(v.bank.pcrs.All()),
	}
}

func (a *Appraisal) refuse(r *evidence.Refusal) { a.Reasons = append(a.Reasons, r.Reason) }

// judgeStrictly is the default of docs/formats/evidence-bundle.md.
func (a *Appraisal) judgeStrictly() {
	switch claim := a.Claims[claimSecureBoot]; {
	case claim.Value.IsTrue():
	case claim.Value.IsFalse():
		a.refuse(evidence.Refuse(codeSecureBootOff, "secure boot is off").About("PCR 7"))
	default:
		a.refuse(evidence.Refuse(codeSecureBootUnknown, "nothing proves that secure boot is on (%s)", claim.Reason).About("PCR 7"))
	}
}

// compare refuses for every difference that the profile judges.
func (a *Appraisal) compare(o Options, boot baseline.Boot) {
	if o.Profile.Name == "" {
		shape := o.Profile.Shape
		o.Profile = baseline.Default()
		o.Profile.Shape = shape
	}
	a.Comparison = o.Baseline.Compare(boot, o.Profile)
	for _, d := range a.Comparison.Judged() {
		code := codeBaseline
		switch d.Change {
		case baseline.ChangeBank:
			code = codeBaselineBank
		case baseline.ChangeNotQuoted:
			code = codeBaselineUnquoted
		case baseline.ChangeNotCovered:
			code = codeBaselineIncomplete
		}
		a.refuse(evidence.Refuse(code, "%s", d.Words).About(d.Component))
	}
	// A comparison that did not pass refuses, whatever it lists.
	if !a.Comparison.Passed() && len(a.Comparison.Judged()) == 0 {
		a.refuse(evidence.Refuse(codeBaseline, "the boot does not match the baseline"))
	}
}

func (a *Appraisal) judgeByPolicy(p *policy.Policy) {
	claims := a.Verified.PolicyClaims(p)
	r, err := p.Evaluate(claims)
	if err != nil {
		a.refuse(evidence.Refuse(codePolicyFailed, "the policy could not be evaluated: %v", err).About("policy"))
		return
	}
	a.NotChecked = append(a.NotChecked, r.Notes()...)
	if unread := r.NotChecked(); len(unread) > 0 {
		a.NotChecked = append(a.NotChecked, "claims that the policy does not read: "+strings.Join(unread, ", "))
	}
	if r.Permitted() {
		a.Issued = r.Issued()
		return
	}
	by := r.DecidedBy()
	if by.Line == 0 {
		a.refuse(evidence.Refuse(codePolicyDenied, "%s", denial(p, claims)).About("policy"))
		return
	}
	a.refuse(evidence.Refuse(codePolicyDenied, "%s", fmt.Sprintf("the rule at line %d denies: %s", by.Line, by.Rule)).About("policy"))
}
