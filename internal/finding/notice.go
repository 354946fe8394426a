package finding

import (
	"encoding/json"
	"slices"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
)

// FromNotice says what an event of a machine's integrity monitoring means for its
// findings. Monitoring that is off makes no reports: then [BootCompleted] is for the
// caller to give. An event that was found later changes nothing that came after it.
func FromNotice(n *integrity.Notice) []Signal {
	out := fromNotice(n)
	for i := range out {
		out[i].At, out[i].Found = n.Time, n.Found
	}
	return out
}

func fromNotice(n *integrity.Notice) []Signal {
	begin := func(code evidence.Code) Signal {
		return Signal{Kind: code, Machine: n.Instance, Boot: n.BootCounter, Reasons: n.Reasons, Mark: mark(n)}
	}
	switch n.Type {
	case integrity.EventEarlyReport:
		return fromReport(n, begin, EarlyBootFailed)
	case integrity.EventLateReport:
		late := fromReport(n, begin, LateBootFailed)
		if hasAny(n.Reasons, []evidence.Code{incomplete}) {
			return late // a record may be full before anything is started
		}
		return append(BootCompleted(n.Instance), late...)
	case integrity.EventAttemptFailed:
		// Firmware goes on to the next option, as it does each time when there is no disc in
		// the first drive. It is an alert at once when there are words about signatures.
		if hasAny(n.Reasons, refusals) {
			return []Signal{begin(BootRefused)}
		}
	case integrity.EventStuck, integrity.EventRefused:
		if hasAny(n.Reasons, refusals) || hasAny(n.Reasons, []evidence.Code{attemptRefused}) && !hasAny(n.Reasons, absences) {
			return []Signal{begin(BootRefused), {Kind: BootDeadline, Machine: n.Instance, Ends: true}}
		}
		return []Signal{begin(BootDeadline)}
	case integrity.EventStartup:
		return []Signal{{Kind: TPMLost, Machine: n.Instance, Ends: true}, {Kind: RecordFull, Machine: n.Instance, Ends: true}}
	case integrity.EventAttestation:
		return FromAttestation(n.Instance, Health(n.Health), n.BootCounter, n.Reasons)
	case integrity.EventTPMLost:
		return []Signal{begin(TPMLost)}
	case integrity.EventAppended:
		return []Signal{begin(RegisterChanged)}
	case integrity.EventRecordFull:
		return []Signal{begin(RecordFull)}
	case integrity.EventClearTPM:
		s := begin(TPMCleared)
		s.Reasons = append(slices.Clone(s.Reasons), evidence.Reason{Code: TPMCleared, Message: "cleared by " + orUnknown(n.Actor)})
		return []Signal{s}
	case integrity.EventConfig:
		return unwatched(n)
	case integrity.EventSetPolicy:
		return []Signal{{Kind: BaselineUnapproved, Machine: n.Instance, Ends: true}}
	}
	return nil
}

// unwatched ends what nobody looks at any more: the judgement of boots with monitoring
// off, and with the vTPM gone all that only it tells.
func unwatched(n *integrity.Notice) (out []Signal) {
	for _, r := range n.Reasons {
		var codes []evidence.Code
		switch r.Code {
		case monitoringOff:
			codes = []evidence.Code{EarlyBootFailed, LateBootFailed, BootNotJudged, BaselineUnapproved}
		case vtpmRemoved:
			codes = []evidence.Code{BootRefused, BootDeadline, TPMLost, RecordFull, RegisterChanged, TPMCleared}
		}
		for _, code := range codes {
			out = append(out, Signal{Kind: code, Machine: n.Instance, Ends: true, Reasons: []evidence.Reason{r}})
		}
	}
	return out
}

func orUnknown(actor string) string {
	if actor == "" {
		return "the guest or an unknown caller"
	}
	return actor
}

// BootCompleted says that a machine started its operating system: whatever kept it
// from that is over. Whether the boot was good is for its reports to say.
func BootCompleted(machine string) []Signal {
	return []Signal{
		{Kind: BootRefused, Machine: machine, Ends: true},
		{Kind: BootDeadline, Machine: machine, Ends: true},
	}
}

// fromReport reads a report. A boot that was compared with nothing, or whose record is
// not whole, neither begins a failure nor ends one.
func fromReport(n *integrity.Notice, begin func(evidence.Code) Signal, failed evidence.Code) []Signal {
	over := func(code evidence.Code) Signal { return Signal{Kind: code, Machine: n.Instance, Ends: true} }
	late := failed == LateBootFailed
	switch {
	case hasAny(n.Reasons, []evidence.Code{unapproved}):
		return []Signal{begin(BaselineUnapproved)}
	case hasAny(n.Reasons, []evidence.Code{incomplete}):
		return []Signal{begin(BootNotJudged)}
	case !n.Passed():
		out := []Signal{begin(failed)}
		if late {
			out = append(out, over(BootNotJudged))
		}
		return out
	case hasAny(n.Reasons, []evidence.Code{learned}):
		return nil
	}
	out := []Signal{over(failed)}
	if late {
		out = append(out, over(BootNotJudged), over(BaselineUnapproved))
	}
	return out
}

// mark tells two failures apart that have the same words: by what decided.
func mark(n *integrity.Notice) string {
	judged := slices.Clone(n.Differences)
	for i := len(judged) - 1; i >= 0; i-- {
		if !judged[i].Judged {
			judged = slices.Delete(judged, i, i+1)
		}
	}
	if len(judged) == 0 {
		return ""
	}
	text, err := json.Marshal(judged)
	if err != nil {
		return err.Error() // unreachable: texts and numbers
	}
	return string(text) + n.Digest
}

func hasAny(reasons []evidence.Reason, codes []evidence.Code) bool {
	return slices.ContainsFunc(reasons, func(r evidence.Reason) bool { return slices.Contains(codes, r.Code) })
}

// The reasons of notices that this package reads.
const (
	attemptRefused evidence.Code = "integrity.attempt-refused"
	incomplete     evidence.Code = "integrity.record-incomplete"
	unapproved     evidence.Code = "integrity.baseline-unapproved"
	learned        evidence.Code = "integrity.baseline-learned"
	monitoringOff  evidence.Code = "machine.monitoring-off"
	vtpmRemoved    evidence.Code = "machine.tpm-removed"
)

var (
	// refusals are the words of firmware, shim and GRUB about signatures. A guest can
	// print them too: it raises an alarm about itself, and keeps none away.
	refusals = []evidence.Code{"serial.secure-boot-refused", "serial.shim-refused", "serial.shim-revoked", "serial.grub-refused"}
	// absences say that there was nothing to refuse.
	absences = []evidence.Code{"serial.not-loaded", "serial.no-boot-option"}
)
