package eventlog

import (
	"fmt"

	"github.com/assay-project/assay/evidence"
)

// Reason codes of this package; package evidence explains them.
const (
	codeReplayMismatch    evidence.Code = "eventlog.replay-mismatch"
	codeEventsMissing     evidence.Code = "eventlog.events-missing"
	codeDataMismatch      evidence.Code = "eventlog.data-mismatch"
	codeReservedDigest    evidence.Code = "eventlog.reserved-digest"
	codeErrorSeparator    evidence.Code = "eventlog.error-separator"
	codeLateVariable      evidence.Code = "eventlog.variable-after-separator"
	codeBank              evidence.Code = "eventlog.bank-unusable"
	codeNothingQuoted     evidence.Code = "eventlog.nothing-quoted"
	codeNoTPMLog          evidence.Code = "eventlog.not-a-tpm-log"
	codeUnknownType       evidence.Code = "eventlog.unknown-type"
	codeAfterSeparator    evidence.Code = "eventlog.after-separator"
	codeUnexpected        evidence.Code = "eventlog.unexpected-event"
	codeExitMissing       evidence.Code = "eventlog.exit-boot-services-missing"
	codeAfterExit         evidence.Code = "eventlog.after-exit-boot-services"
	codeSecondSpecID      evidence.Code = "eventlog.second-spec-id"
	codeLateLocality      evidence.Code = "eventlog.late-locality"
	codeBankDisagreement  evidence.Code = "eventlog.bank-disagreement"
	codeFailedAttempt     evidence.Code = "eventlog.failed-boot-attempt"
	codeNotMeasured       evidence.Code = "eventlog.not-measured"
	codeNotQuoted         evidence.Code = "eventlog.pcr-not-quoted"
	codeWeakBank          evidence.Code = "eventlog.weak-bank"
	codeAmbiguous         evidence.Code = "eventlog.ambiguous"
	codeUnproven          evidence.Code = "eventlog.unproven-data"
	codeNoSeparator       evidence.Code = "eventlog.no-separator"
	codeInconsistent      evidence.Code = "eventlog.inconsistent"
	codeSignatureList     evidence.Code = "eventlog.signature-list-malformed"
	codeVariableMalformed evidence.Code = "eventlog.variable-malformed"
	codeDigestOnly        evidence.Code = "eventlog.digest-only"
)

// A Finding is something in a log that a person should see.
type Finding struct {
	Code    evidence.Code `json:"code"`
	Event   int           `json:"event"` // index in the log, -1 when it is about no single event
	Message string        `json:"message"`
}

// severity says what follows from a finding.
type severity uint8

const (
	informs     severity = iota // honest logs have it
	contradicts                 // no honest log known has it, yet no claim is at risk
	refuses                     // nothing in the log may be believed
)

func severityOf(c evidence.Code) severity {
	switch c {
	case codeDataMismatch, codeReservedDigest, codeErrorSeparator, codeLateVariable:
		return refuses
	case codeUnknownType, codeAfterSeparator, codeUnexpected, codeExitMissing, codeAfterExit, codeFailedAttempt, codeAmbiguous, codeUnproven:
		return informs
	default:
		return contradicts
	}
}

// Inconsistent reports whether the finding is one that no honest log has.
func (f Finding) Inconsistent() bool { return severityOf(f.Code) != informs }

// Refuses reports whether [Log.Confirm] refuses a log with the finding.
func (f Finding) Refuses() bool { return severityOf(f.Code) == refuses }

// find records a finding. Findings are few: the log is cut off at maxFindings so
// that a hostile one costs no more memory than an honest one.
func (a *analysis) find(code evidence.Code, event int, format string, args ...any) {
	severe := severityOf(code) == refuses
	if len(a.findings) >= maxFindings && (!severe || a.refused) {
		return
	}
	a.refused = a.refused || severe
	a.findings = append(a.findings, Finding{code, event, fmt.Sprintf(format, args...)})
}

// room reports whether a finding that refuses nothing would be kept.
func (a *analysis) room() bool { return len(a.findings) < maxFindings }

// maxFindings bounds the findings of one log; the noisiest honest log has about 40.
const maxFindings = 256
