package finding

import (
	"slices"

	"github.com/assay-project/assay/evidence"
)

// A Health is what an attestation by a machine's agent came to, in the words of
// package health. The empty Health says nothing.
type Health string

// The healths: the causes of a failure are kept apart.
const (
	HealthUnknown    Health = ""
	HealthGood       Health = "healthy"
	HealthDeparted   Health = "departed"   // the TPM proves a boot that is not as it should be
	HealthUnverified Health = "unverified" // the quote proves nothing, or is another's
	HealthSilent     Health = "silent"     // no answer
)

// FromAttestation says what an attestation means for a machine's findings: an alert for
// each cause, and the recommendation that the status should be healthy. Evidence that was
// not verified says nothing about the boot, and no answer says nothing at all.
func FromAttestation(machine string, h Health, boot uint64, reasons []evidence.Reason) []Signal {
	begin := func(code evidence.Code) Signal {
		return Signal{Kind: code, Machine: machine, Boot: boot, Reasons: reasons}
	}
	over := func(code evidence.Code) Signal { return Signal{Kind: code, Machine: machine, Ends: true} }
	unhealthy := Signal{Kind: AttestationUnhealthy, Machine: machine, Boot: boot} // the alert has the reasons
	switch h {
	case HealthGood:
		return []Signal{over(AttestationUnhealthy), over(AttestationDeparts), over(AttestationUnverified), over(AttestationSilent)}
	case HealthDeparted:
		if asDefined(reasons) {
			return []Signal{unhealthy, over(AttestationDeparts), over(AttestationUnverified), over(AttestationSilent)}
		}
		return []Signal{unhealthy, begin(AttestationDeparts), over(AttestationUnverified), over(AttestationSilent)}
	case HealthUnverified:
		return []Signal{unhealthy, begin(AttestationUnverified), over(AttestationSilent)}
	case HealthSilent:
		return []Signal{unhealthy, begin(AttestationSilent)}
	}
	return nil
}

// asDefined reports whether nothing is wrong with a boot but that secure boot is off, which
// the machine's definition says, too (package machine): it departs from nothing. There is
// the recommendation, and somebody may suppress that (SPEC T11) without hiding a departure.
func asDefined(reasons []evidence.Reason) bool {
	return len(reasons) > 0 && !slices.ContainsFunc(reasons, func(r evidence.Reason) bool { return r.Code != secureBootOff })
}

const secureBootOff evidence.Code = "machine.secure-boot-off"

// loadedModule is the reason of a module that the kernel runs; all others are of
// modules that it refused.
const loadedModule evidence.Code = "agent.module-untrusted"

// FromModules says which kernel modules a machine refused, or runs although it does not
// accept their signatures, in this boot: a reason for each, which names it as its
// component. The list is whole: what is not in it is over.
func FromModules(machine string, boot uint64, modules []evidence.Reason) []Signal {
	out := make([]Signal, 0, len(modules)+2)
	names := map[evidence.Code][]string{}
	for _, m := range modules {
		code, name := ModuleRefused, m.Component
		if m.Code == loadedModule {
			code = ModuleUntrusted
		}
		if name == "" {
			name = Others
		}
		names[code] = append(names[code], name)
		out = append(out, Signal{Kind: code, Machine: machine, Component: name, Boot: boot, Reasons: []evidence.Reason{m}})
	}
	for _, code := range []evidence.Code{ModuleRefused, ModuleUntrusted} {
		out = append(out, Signal{Kind: code, Machine: machine, Boot: boot, Ends: true, Keep: names[code]})
	}
	return out
}

// An Option is a feature of a machine.
type Option struct {
	On bool
	// Supported is set when the support matrix has this machine with the feature on.
	Supported bool
}

// Facts are what recommendations rest on. The zero Facts recommend nothing.
type Facts struct {
	Machine    string
	SecureBoot Option
	VTPM       Option
	// Agent is On while the agent of the guest is known to be there; it is supported when
	// there is one for the guest's operating system.
	Agent Option
	// Healthy is the outcome of the latest attestation; unknown before the first.
	Healthy evidence.Value
}

// Recommend gives the recommendations of a machine, those that are followed as ended.
// It is for the caller to ask again at every change.
func Recommend(f Facts) []Signal {
	attests := f.VTPM.On && f.Agent.On
	out := []Signal{
		f.recommend(SecureBootOff, f.SecureBoot.Supported && !f.SecureBoot.On),
		f.recommend(VTPMOff, f.VTPM.Supported && !f.VTPM.On),
		// Without secure boot and a TPM there is nothing healthy for an agent to attest.
		f.recommend(AgentMissing, f.Agent.Supported && !f.Agent.On && f.VTPM.On && f.SecureBoot.On),
	}
	if !attests { // nobody is asked: nobody is silent
		out = append(out, Signal{Kind: AttestationSilent, Machine: f.Machine, Ends: true})
	}
	if !attests || f.Healthy.Known() { // what is not known yet changes nothing
		out = append(out, f.recommend(AttestationUnhealthy, attests && !f.Healthy.IsTrue()))
	}
	return out
}

// RecommendKeys gives the recommendation to enrol what a machine's key set has by now, and
// its variables lack, in words; none ends it.
func RecommendKeys(machine, keyset string, lacks []string) Signal {
	s := Signal{Kind: KeysetBehind, Machine: machine, Ends: len(lacks) == 0}
	for _, words := range lacks {
		s.Reasons = append(s.Reasons, evidence.Reason{Code: KeysetBehind, Component: keyset, Message: words})
	}
	return s
}

func (f *Facts) recommend(code evidence.Code, when bool) Signal {
	return Signal{Kind: code, Machine: f.Machine, Ends: !when}
}
