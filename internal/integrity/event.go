package integrity

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
)

// The types of events. The first seven have the names of Google's Shielded VMs.
const (
	EventStartup     = "startupEvent"
	EventEarlyReport = "earlyBootReportEvent"
	EventLateReport  = "lateBootReportEvent"
	EventShutdown    = "shutdownEvent"
	EventSetPolicy   = "setShieldedVmIntegrityPolicy"
	EventConfig      = "updateShieldedVmConfig"
	EventClearTPM    = "clearTPMEvent"

	EventAttemptFailed = "bootAttemptFailedEvent"  // a boot loader came back to the firmware
	EventResumed       = "resumeEvent"             // a suspended machine goes on
	EventAppended      = "firmwareRegisterChanged" // after the operating system took over
	EventStuck         = "bootDeadlineEvent"       // the boot did not get on in time
	EventRefused       = "bootRefusedEvent"        // the firmware or a boot loader says that it starts nothing
	EventTPMLost       = "tpmLostEvent"            // the TPM ended under the machine
	EventRecordFull    = "recordFullEvent"         // after the boot: the record of measurements holds no more
	EventLost          = "machineLostEvent"        // nobody saw the end of the machine's last run
	EventAttestation   = "attestationEvent"        // what an agent proves is another thing than before
	EventSnapshot      = "snapshotEvent"           // a snapshot of the machine was made or deleted
	EventWentBack      = "snapshotRestoredEvent"   // the machine is what it was in a snapshot
	EventMigrated      = "migrationEvent"          // the machine went on on another host, or did not
	EventBackup        = "machineBackupEvent"      // a backup of the machine was written
	EventRestore       = "machineRestoredEvent"    // the machine was made of a backup
	EventImport        = "machineImportedEvent"    // the machine was made of one of another platform, or of an image
)

// A Notice is one event of a machine, as it is logged. Exactly one boot has a
// given BootCounter; 0 is that of no boot, as before the TPM was started.
type Notice struct {
	Type        string    `json:"type"`
	Instance    string    `json:"instance"`
	Time        time.Time `json:"time"`
	BootCounter uint64    `json:"bootCounter,string"`
	Attempt     int       `json:"attempt,omitempty"`
	Actor       string    `json:"actor,omitempty"` // who asked, where somebody did
	// Health is the outcome of an attestation by an agent, in the words of package health.
	Health string `json:"health,omitempty"`
	// Report is that of an early or late boot.
	Report  *baseline.Report `json:"report,omitempty"`
	Profile string           `json:"profile,omitempty"`
	// Baseline is the number of the version that the boot was judged by.
	Baseline    int                   `json:"baseline,omitempty"`
	Reasons     []evidence.Reason     `json:"reasons,omitempty"`
	Differences []baseline.Difference `json:"differences,omitempty"`
	// More is how many differences there are that the notice does not have.
	More int `json:"moreDifferences,omitempty"`
	// Digest is the SHA-256 of all that decide, in hexadecimal digits, when More is not 0.
	Digest string `json:"differencesDigest,omitempty"`
	// Found is set of an event that a crash may have kept from the log, where it is put now:
	// what was told before may have happened after it. It is not kept.
	Found bool `json:"-"`
}

// Passed reports whether the notice is of a report that passed.
func (n *Notice) Passed() bool { return n.Report != nil && n.Report.PolicyEvaluationPassed }

// Outcome says what a report came to. One that compared the boot with nothing has not
// passed, whatever it says, and one of a record that is not whole knows nothing.
func (n *Notice) Outcome() Outcome {
	because := func(code evidence.Code) bool {
		return slices.ContainsFunc(n.Reasons, func(r evidence.Reason) bool { return r.Code == code })
	}
	switch {
	case n.Report == nil:
		return NotReached
	case because(codeUnapproved), because(codeIncomplete):
		return Unknown
	case because(codeLearned):
		return Learned
	case n.Passed():
		return Passed
	}
	return Failed
}

// GCE is the jsonPayload of Google's log of the same event. ok is false for the
// types that Google does not have.
func (n *Notice) GCE() (payload map[string]any, ok bool) {
	payload = map[string]any{
		"@type":       "type.googleapis.com/cloud_integrity.IntegrityEvent",
		"bootCounter": strconv.FormatUint(n.BootCounter, 10),
	}
	switch n.Type {
	case EventStartup, EventShutdown, EventSetPolicy, EventConfig, EventClearTPM:
		payload[n.Type] = map[string]any{}
	case EventEarlyReport, EventLateReport:
		if n.Report == nil {
			return nil, false
		}
		payload[n.Type] = map[string]any{
			"policyEvaluationPassed": n.Report.PolicyEvaluationPassed,
			"policyMeasurements":     gceMeasurements(n.Report.PolicyMeasurements),
			"actualMeasurements":     gceMeasurements(n.Report.ActualMeasurements),
		}
	default:
		return nil, false
	}
	return payload, true
}

// gceMeasurements gives values as protobuf's JSON does bytes: in base64.
func gceMeasurements(in []baseline.Measurement) []map[string]string {
	out := make([]map[string]string, 0, len(in))
	for _, m := range in {
		value, err := hex.DecodeString(m.Value)
		if err != nil {
			continue // baseline.Reports writes hex
		}
		out = append(out, map[string]string{
			"pcrNum": m.PCRNum, "value": base64.StdEncoding.EncodeToString(value), "hashAlgo": m.HashAlg,
		})
	}
	return out
}
