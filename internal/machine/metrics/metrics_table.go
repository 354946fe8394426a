package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

// A metric is one of those that are told.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func define(kind prometheus.ValueType, name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("assay_"+name, help, labels, nil), kind}
}

func gauge(name, help string, labels ...string) metric {
	return define(prometheus.GaugeValue, name, help, labels...)
}

func counter(name, help string, labels ...string) metric {
	return define(prometheus.CounterValue, name, help, labels...)
}

// The metrics of one machine.
var (
	machineState    = gauge("machine_state", "1 for the state that the machine is in, 0 for the others.", labelMachine, "state")
	earlyStatus     = gauge("machine_early_boot_validation_status", "1 for what the early part of the machine's latest boot came to, 0 for the rest.", labelMachine, "status")
	lateStatus      = gauge("machine_late_boot_validation_status", "1 for what the late part of the machine's latest boot came to, 0 for the rest.", labelMachine, "status")
	bootPhase       = gauge("machine_boot_phase", "1 for how far the boot of a running machine has got, 0 for the other phases.", labelMachine, "phase")
	startups        = counter("machine_startups_total", "Boots that the machine has begun in its life.", labelMachine)
	events          = counter("machine_events_total", "Events of the machine since its supervisor began, by type and outcome.", labelMachine, "type", "outcome")
	option          = gauge("machine_option_enabled", "1 while an option of the machine is on.", labelMachine, "option")
	tpmState        = gauge("machine_tpm_state", "1 for how the machine's vTPM is, 0 for the other states.", labelMachine, "state")
	tpmGeneration   = gauge("vtpm_state_generation", "The newest generation of the state of a running machine's vTPM. It never goes back.", labelMachine, "tpm")
	attestation     = gauge("machine_attestation_status", "1 for what the latest attestation by the machine's agent came to, 0 for the rest.", labelMachine, "status")
	attested        = gauge("machine_attestation_timestamp_seconds", "When an attestation was last asked for and judged.", labelMachine)
	baselineAge     = gauge("machine_baseline_age_seconds", "Age of the machine's newest baseline; absent without one.", labelMachine)
	homeReadable    = gauge("machine_home_readable", "1 while what the home of the machine says of it could be read.", labelMachine)
	eventsKept      = gauge("machine_events_kept", "1 while all that happened to the running machine could be written down.", labelMachine)
	machineFindings = gauge("machine_findings", "Findings of the machine that have not ended, of the kinds that it has.", labelMachine, "kind", "severity", "state")
)

// The metrics of the host.
var (
	machines          = gauge("machines", "Machines of the host, by state.", "state")
	machinesListed    = gauge("machines_listed", "1 while the folder of machines could be read.")
	machinesOmitted   = gauge("machines_omitted", "Machines beyond the limit, of which nothing is told.")
	findingsReadable  = gauge("findings_readable", "1 while the findings of the host could be read.")
	findings          = gauge("findings", "Findings of the host and its machines that have not ended.", "kind", "severity", "state")
	keysetsReadable   = gauge("keysets_readable", "1 while all key sets of the host could be read.")
	certNotAfter      = gauge("secure_boot_cert_not_after_seconds", "When a certificate of a key set ends. Firmware does not look at it; who signs does.", "keyset", "variable", "cert", "sha256", "own")
	providersReadable = gauge("key_providers_readable", "1 while the list of key providers could be read.")
	providerUp        = gauge("key_provider_up", "1 when the key provider gave back a key that it had wrapped, when it was asked last.", "provider")
	providerSeconds   = gauge("key_provider_seconds", "How long the key provider took for that, or until it failed.", "provider")
	collectedTime     = gauge("collected_timestamp_seconds", "When these metrics were collected.")
	collectionSeconds = gauge("collection_seconds", "How long that took.")
)

var descs = []metric{
	machineState, earlyStatus, lateStatus, bootPhase, startups, events, option, tpmState, tpmGeneration, attestation, attested, baselineAge, homeReadable, eventsKept, machineFindings,
	machines, machinesListed, machinesOmitted, findingsReadable, findings, keysetsReadable, certNotAfter, providersReadable, providerUp, providerSeconds, collectedTime, collectionSeconds,
}

const labelMachine = "machine"

// What a label may say besides what a package below has names for.
const (
	statusUnknown = "unknown"
	statusPending = "pending" // the boot has not got there
	statusOff     = "off"     // the option is
	stateUnknown  = "unknown" // the machine does not say
	eventOther    = "other"
)

var (
	stateLabels = []string{
		machine.StateRunning, machine.StateStopped, machine.StateLost, machine.StateUnsupervised, machine.StateDamaged, stateUnknown,
	}
	validationLabels  = []string{string(integrity.Passed), string(integrity.Failed), string(integrity.Learned), statusPending, statusUnknown, statusOff}
	phaseLabels       = []string{machine.PhaseFirmware, machine.PhaseLoader, machine.PhaseSystem, machine.PhaseRefused, machine.PhaseStuck, machine.PhaseUnseen}
	tpmLabels         = []string{machine.TPMServing, machine.TPMLost, machine.TPMNone, statusOff, statusUnknown}
	attestationLabels = []string{string(health.Healthy), string(health.Departed), string(health.Unverified), string(health.Silent), statusUnknown, statusOff}
	lastingLabels     = []finding.State{finding.Open, finding.Acknowledged, finding.Suppressed}

	// eventLabels are the types that are told apart, each with its outcomes.
	eventLabels = map[string][]string{
		integrity.EventStartup: nil, integrity.EventShutdown: nil, integrity.EventSetPolicy: nil, integrity.EventConfig: nil, integrity.EventClearTPM: nil,
		integrity.EventAttemptFailed: nil, integrity.EventResumed: nil, integrity.EventAppended: nil, integrity.EventStuck: nil, integrity.EventRefused: nil,
		integrity.EventTPMLost: nil, integrity.EventRecordFull: nil, integrity.EventLost: nil,
		integrity.EventEarlyReport: outcomeLabels, integrity.EventLateReport: outcomeLabels,
		integrity.EventAttestation: attestationLabels[:4],
	}
	outcomeLabels = []string{string(integrity.Passed), string(integrity.Failed), string(integrity.Learned), string(integrity.Unknown)}
)
