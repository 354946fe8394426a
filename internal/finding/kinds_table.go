package finding

import (
	"strings"

	"github.com/assay-project/assay/evidence"
)

// The kinds of findings. Their meaning, causes and what to do are in the table of
// package evidence.
const (
	SecureBootOff         evidence.Code = "finding.secure-boot-off"
	VTPMOff               evidence.Code = "finding.vtpm-off"
	AgentMissing          evidence.Code = "finding.agent-missing"
	KeysetBehind          evidence.Code = "finding.keyset-behind"
	AttestationUnhealthy  evidence.Code = "finding.attestation-unhealthy"
	AttestationDeparts    evidence.Code = "finding.attestation-departs"
	AttestationUnverified evidence.Code = "finding.attestation-unverified"
	AttestationSilent     evidence.Code = "finding.attestation-silent"
	ModuleRefused         evidence.Code = "finding.module-refused"
	ModuleUntrusted       evidence.Code = "finding.module-untrusted"
	EarlyBootFailed       evidence.Code = "finding.early-boot-failed"
	LateBootFailed        evidence.Code = "finding.late-boot-failed"
	BootNotJudged         evidence.Code = "finding.boot-not-judged"
	BaselineUnapproved    evidence.Code = "finding.baseline-unapproved"
	BootRefused           evidence.Code = "finding.boot-refused"
	BootDeadline          evidence.Code = "finding.boot-deadline"
	RegisterChanged       evidence.Code = "finding.register-changed"
	RecordFull            evidence.Code = "finding.record-full"
	TPMLost               evidence.Code = "finding.tpm-lost"
	TPMCleared            evidence.Code = "finding.tpm-cleared"
	DeliveryFailed        evidence.Code = "finding.delivery-failed"
	Test                  evidence.Code = "finding.test"
)

// A kind is what is the same of all findings of one code.
type kind struct {
	code     evidence.Code
	severity Severity
	title    string
	// standing is a condition that is looked at again and again: being seen once more
	// says nothing new.
	standing bool
	// event has happened and does not end by itself: who acknowledges it, ends it.
	event bool
	// loose reasons are the same when their codes and components are: their words may
	// count lines or name processes.
	loose bool
}

var kinds = []kind{
	{SecureBootOff, Low, "Enable secure boot", true, false, false},
	{VTPMOff, Low, "Enable the vTPM", true, false, false},
	{AgentMissing, Low, "Install the attestation agent", true, false, false},
	{KeysetBehind, Low, "Enrol what the key set has by now", true, false, false},
	{AttestationUnhealthy, Medium, "Attestation status should be healthy", true, false, false},
	{AttestationDeparts, Medium, "Attestation failed: the boot departs from its baseline", false, false, false},
	{AttestationUnverified, Medium, "Attestation failed: the quote cannot be verified", false, false, true},
	{AttestationSilent, Medium, "Attestation failed: the agent does not answer", false, false, true},
	{ModuleRefused, Low, "The kernel refused an untrusted module", false, false, true},
	{ModuleUntrusted, Low, "The kernel runs an untrusted module", false, false, true},
	{EarlyBootFailed, Medium, "Early boot failed integrity validation", false, false, false},
	{LateBootFailed, Medium, "Late boot failed integrity validation", false, false, false},
	{BootNotJudged, Medium, "A boot could not be judged", false, false, false},
	{BaselineUnapproved, Low, "Approve the first baseline", false, false, false},
	{BootRefused, Medium, "Secure boot refused what the machine was to start", false, false, false},
	{BootDeadline, Medium, "The machine does not boot", false, false, false},
	{RegisterChanged, Medium, "A firmware register changed after the boot", false, true, false},
	{RecordFull, Medium, "What the machine measures is no longer seen", false, false, false},
	{TPMLost, High, "The machine runs without its vTPM", false, false, true},
	{TPMCleared, Medium, "The vTPM was cleared", false, true, false},
	{DeliveryFailed, Medium, "Findings are not delivered", false, false, false},
	{Test, Low, "Test alert", false, true, false},
}

// kindNames are all kinds, for who has named another.
func kindNames() string {
	names := make([]string, 0, len(kinds))
	for i := range kinds {
		names = append(names, string(kinds[i].code))
	}
	return strings.Join(names, ", ")
}
