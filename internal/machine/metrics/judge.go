package metrics

import (
	"slices"
	"time"

	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

// machine tells of one; o is nil where it does not answer.
func (w *writer) machine(name string, o *machine.Observation) {
	w.one(machineState, name, stateLabels, stateOf(o))
	w.one(earlyStatus, name, validationLabels, validation(o, early))
	w.one(lateStatus, name, validationLabels, validation(o, late))
	w.one(tpmState, name, tpmLabels, tpmOf(o))
	w.one(attestation, name, attestationLabels, attestationOf(o, w.now))
	w.put(homeReadable, number(o != nil && o.Unread == nil), name)
	if o == nil {
		return
	}
	if stateOf(o) == machine.StateRunning {
		w.one(bootPhase, name, phaseLabels, phaseOf(o))
		w.put(eventsKept, number(!o.Unkept), name)
		w.events(name, o)
		if o.Generation != 0 {
			w.put(tpmGeneration, float64(o.Generation), name, o.TPMID)
		}
		if o.Health != nil && !o.Health.Time.IsZero() {
			w.put(attested, seconds(o.Health.Time), name)
		}
	}
	if o.Unread != nil {
		return
	}
	w.put(startups, float64(o.Startups), name)
	if o.Baseline != nil {
		w.put(baselineAge, w.now.Sub(o.Baseline.Made).Seconds(), name)
	}
	w.put(option, number(o.Agent), name, "agent")
	if s := o.Shield; s != nil {
		w.put(option, number(s.SecureBoot), name, "secure_boot")
		w.put(option, number(s.VTPM), name, "vtpm")
		w.put(option, number(s.IntegrityMonitoring), name, "integrity_monitoring")
	}
}

// stateOf is the state of a machine. A word that this program does not know is unknown.
func stateOf(o *machine.Observation) string {
	if o == nil {
		return stateUnknown
	}
	return among(stateLabels, o.State, stateUnknown)
}

func among(labels []string, is, otherwise string) string {
	if slices.Contains(labels, is) {
		return is
	}
	return otherwise
}

// phaseOf is how far the boot has got; a word that is not known is as good as unseen.
func phaseOf(o *machine.Observation) string {
	if o.Boot == nil {
		return machine.PhaseUnseen
	}
	return among(phaseLabels, o.Boot.Phase, machine.PhaseUnseen)
}

// A part of a boot.
type part struct {
	said func(*machine.BootStatus) *bool
	kept func(*machine.BootSummary) integrity.Outcome
}

var (
	early = part{
		func(b *machine.BootStatus) *bool { return b.Early },
		func(b *machine.BootSummary) integrity.Outcome { return b.Early },
	}
	late = part{
		func(b *machine.BootStatus) *bool { return b.Late },
		func(b *machine.BootSummary) integrity.Outcome { return b.Late },
	}
)

// validation is what a part of the latest boot came to. It is unknown for a machine of
// which nobody knows what it does now, and for one whose TPM ended: it may have started
// anew, unseen.
func validation(o *machine.Observation, p part) string {
	if o == nil || o.Unread != nil || o.Shield == nil {
		return statusUnknown
	}
	running := o.State == machine.StateRunning
	switch {
	case !o.Shield.IntegrityMonitoring:
		return statusOff
	case running && o.TPM != machine.TPMServing, !running && o.State != machine.StateStopped:
		return statusUnknown
	case running:
		return now(o, p)
	case o.Judged == nil, p.kept(o.Judged) == integrity.NotReached:
		return statusUnknown // it never ran, or ended before it was judged, or was not judged
	}
	return among(validationLabels, string(p.kept(o.Judged)), statusUnknown)
}

// now is what a part of the boot that runs came to: where its supervisor and its record
// differ, the worse of both.
func now(o *machine.Observation, p part) string {
	if o.Boot == nil || phaseOf(o) == machine.PhaseUnseen {
		return statusUnknown
	}
	said := p.said(o.Boot)
	if said == nil {
		return statusPending
	}
	if o.Judged == nil || o.Judged.Counter != o.Boot.Counter {
		if *said {
			return statusUnknown
		}
		return string(integrity.Failed)
	}
	kept := p.kept(o.Judged)
	switch {
	case kept == integrity.NotReached:
		return statusUnknown
	case !*said && kept != integrity.Unknown:
		return string(integrity.Failed)
	}
	return among(validationLabels, string(kept), statusUnknown)
}

func tpmOf(o *machine.Observation) string {
	switch {
	case o == nil:
		return statusUnknown
	case o.State == machine.StateStopped:
		return statusOff
	case o.State != machine.StateRunning:
		return statusUnknown
	}
	return among(tpmLabels, o.TPM, statusUnknown)
}

// Stale is the age at which an attestation is worth nothing any more: an agent is asked
// every 15 minutes, and twice that and a while is not on time.
const Stale = 40 * time.Minute

func attestationOf(o *machine.Observation, now time.Time) string {
	switch {
	case o == nil || o.Unread != nil:
		return statusUnknown
	case !o.Agent:
		return statusOff
	case o.State != machine.StateRunning || o.Health == nil || o.TPM != machine.TPMServing:
		return statusUnknown
	}
	s := string(o.Health.State)
	if o.Health.State == health.Healthy && now.Sub(o.Health.Time) > Stale {
		s = statusUnknown
	}
	return among(attestationLabels, s, statusUnknown)
}

// events tells of each type, also of those that did not happen.
func (w *writer) events(name string, o *machine.Observation) {
	type key struct{ what, outcome string }
	counts := map[key]uint64{{eventOther, ""}: 0}
	for what, outcomes := range eventLabels {
		if outcomes == nil {
			outcomes = []string{""}
		}
		for _, outcome := range outcomes {
			counts[key{what, outcome}] = 0
		}
	}
	for _, e := range o.Events {
		k := key{e.Type, e.Outcome}
		if _, known := counts[k]; !known {
			k = key{eventOther, ""}
		}
		counts[k] += e.Count
	}
	for k, n := range counts {
		w.put(events, float64(n), name, k.what, k.outcome)
	}
}
