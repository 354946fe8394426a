package fleet

import (
	"fmt"
	"slices"

	"github.com/assay-project/assay/eventlog/baseline"
)

// A Preset sets several options by one name, and says which.
type Preset struct {
	Name     string   `json:"name"`
	Meaning  string   `json:"meaning"`
	Shielded Shielded `json:"shieldedInstanceConfig"`
	Policy   string   `json:"integrityPolicy"`
	// Approve makes the operator approve the baseline of the first boot too.
	Approve bool `json:"approveFirstBoot"`
	// Deadline is how long a boot may take, in seconds; 0 is for ever.
	Deadline int `json:"bootDeadlineSeconds"`
	// StopOnFailure stops a machine whose boot fails its judgement.
	StopOnFailure bool `json:"stopOnFailure"`
}

// Presets are the profiles of machines, weakest first.
func Presets() []Preset {
	all := Shielded{true, true, true}
	return []Preset{
		{"off", "no secure boot, no TPM, nothing watched", Shielded{}, baseline.Default().Name, false, 0, false},
		{"baseline", "a TPM and a watched boot under Google's policy; any boot loader may run", Shielded{VTPM: true, IntegrityMonitoring: true}, baseline.GCE().Name, false, 600, false},
		{"hardened", "secure boot, a TPM and a watched boot; command line, initrd and boot loader configuration count", all, baseline.Default().Name, false, 300, false},
		{"strict", "as hardened; the first boot is approved by a person, and a machine that fails is stopped", all, baseline.Default().Name, true, 300, true},
	}
}

// PresetNamed returns a preset.
func PresetNamed(name string) (Preset, error) {
	all := Presets()
	i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		return Preset{}, fmt.Errorf("profile %q is none of off, baseline, hardened, strict", name)
	}
	return all[i], nil
}

// Apply sets the options of a preset in a definition.
func (p *Preset) Apply(d *Definition) {
	d.Shielded, d.Policy = p.Shielded, p.Policy
	d.ApproveFirst, d.BootDeadline, d.StopOnFailure = p.Approve, p.Deadline, p.StopOnFailure
}
