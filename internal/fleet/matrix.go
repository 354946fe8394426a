package fleet

import (
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// The features that a [Matrix] speaks of.
const (
	FeatureSecureBoot     = "secureBoot"
	FeatureVTPM           = "vtpm"
	FeatureMonitoring     = "integrityMonitoring"
	FeatureVirtualization = "virtualizationBasedSecurity"
	FeatureSharedDisk     = "sharedDisk"
	FeatureEphemeralDisk  = "ephemeralDisk"
	FeatureTIS            = "tpmTIS"
)

var features = []string{
	FeatureSecureBoot, FeatureVTPM, FeatureMonitoring, FeatureVirtualization,
	FeatureSharedDisk, FeatureEphemeralDisk, FeatureTIS,
}

// A Matrix says which combinations are supported. It is data that an operator
// edits. A combination that no row has is not supported.
type Matrix struct {
	Version int   `json:"version"`
	Rows    []Row `json:"rows"`
}

// A Row supports the machines that all of its lists have; "*" and "windows-*" are
// patterns (path.Match), and an empty list has all.
type Row struct {
	Name         string   `json:"name"`
	GuestOS      []string `json:"guestOS"`
	MachineTypes []string `json:"machineTypes"`
	Accelerators []string `json:"accelerators"`
	Sites        []string `json:"sites,omitempty"`
	MaxCPUs      int      `json:"maxCpus,omitempty"`
	MaxMemoryMiB int      `json:"maxMemoryMiB,omitempty"`
	// Features may be on; all others may not.
	Features []string `json:"features"`
	// Requires must be on, as Windows 11 has it.
	Requires []string `json:"requires,omitempty"`
	// Reason says why a feature is missing, for the refusal.
	Reason string `json:"reason,omitempty"`
}

//go:embed matrix.json
var defaultMatrix []byte

// DefaultMatrix returns the one that comes with the program: what was tested.
func DefaultMatrix() (*Matrix, error) { return ParseMatrix(defaultMatrix) }

// DefaultMatrixText is its JSON, for an operator to edit.
func DefaultMatrixText() []byte { return slices.Clone(defaultMatrix) }

const maxRows = 512

var matrixRules = strictjson.Rules{Bytes: 1 << 20, Depth: 6, Members: 64, Values: 1 << 16, FoldNames: true}

// ParseMatrix reads a support matrix.
func ParseMatrix(text []byte) (*Matrix, error) {
	m := new(Matrix)
	if err := decode(text, matrixRules, m); err != nil {
		return nil, fmt.Errorf("read support matrix: %w", err)
	}
	if m.Version != 1 || len(m.Rows) == 0 || len(m.Rows) > maxRows {
		return nil, fmt.Errorf("read support matrix: version %d with %d rows, want version 1 with 1 to %d", m.Version, len(m.Rows), maxRows)
	}
	for i := range m.Rows {
		if err := m.Rows[i].check(); err != nil {
			return nil, fmt.Errorf("read support matrix: row %d (%.80q): %w", i, m.Rows[i].Name, err)
		}
	}
	return m, nil
}

func (r *Row) check() error {
	if r.Name == "" || len(r.GuestOS) == 0 || len(r.MachineTypes) == 0 || len(r.Accelerators) == 0 {
		return fmt.Errorf("name, guestOS, machineTypes and accelerators must say something")
	}
	if r.MaxCPUs < 0 || r.MaxMemoryMiB < 0 {
		return fmt.Errorf("a limit is negative")
	}
	for _, pattern := range slices.Concat(r.GuestOS, r.MachineTypes, r.Accelerators, r.Sites) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	for _, f := range slices.Concat(r.Features, r.Requires) {
		if !slices.Contains(features, f) {
			return fmt.Errorf("feature %q is none of %s", f, strings.Join(features, ", "))
		}
	}
	for _, f := range r.Requires {
		if !slices.Contains(r.Features, f) {
			return fmt.Errorf("feature %q is required and not supported", f)
		}
	}
	return nil
}

// uses returns the features that a machine has on.
func (d *Definition) uses() []string {
	any := func(has func(Disk) bool) bool { return slices.ContainsFunc(d.Disks, has) }
	var out []string
	for _, f := range []struct {
		on   bool
		name string
	}{
		{d.Shielded.SecureBoot, FeatureSecureBoot},
		{d.Shielded.VTPM, FeatureVTPM},
		{d.Shielded.IntegrityMonitoring, FeatureMonitoring},
		{d.Virtualization, FeatureVirtualization},
		{any(func(d Disk) bool { return d.Shared }), FeatureSharedDisk},
		{any(func(d Disk) bool { return d.Ephemeral }), FeatureEphemeralDisk},
		{d.TPM == "tis", FeatureTIS},
	} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return out
}

// Judge returns nothing when a row supports the machine under the accelerator, and
// else what the row that comes nearest finds wrong: one of the guest's operating
// system where there is one, for nobody changes that to have a machine.
func (m *Matrix) Judge(d *Definition, accelerator string) []evidence.Reason {
	var best []evidence.Reason
	foreign := true
	for i := range m.Rows {
		r := &m.Rows[i]
		missing := r.judge(d, accelerator)
		if len(missing) == 0 {
			return nil
		}
		other := !matches(r.GuestOS, d.GuestOS)
		if best == nil || foreign && !other || foreign == other && len(missing) < len(best) {
			best, foreign = missing, other
		}
	}
	switch {
	case best == nil: // the zero Matrix
		return []evidence.Reason{{Code: codeUnsupported, Message: "the support matrix has no row"}}
	case foreign: // all else depends on which system it is
		return []evidence.Reason{{
			Code: codeUnsupported, Component: "guestOS",
			Message: fmt.Sprintf("guestOS %q is none of %s", d.GuestOS, strings.Join(m.systems(), ", ")),
		}}
	}
	return best
}

// systems are the operating systems of all rows.
func (m *Matrix) systems() (out []string) {
	for i := range m.Rows {
		for _, p := range m.Rows[i].GuestOS {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// Supports returns the names of the rows that support the machine.
func (m *Matrix) Supports(d *Definition, accelerator string) (rows []string) {
	for i := range m.Rows {
		if len(m.Rows[i].judge(d, accelerator)) == 0 {
			rows = append(rows, m.Rows[i].Name)
		}
	}
	return rows
}

func (r *Row) judge(d *Definition, accelerator string) (out []evidence.Reason) {
	no := func(component, format string, args ...any) {
		out = append(out, evidence.Reason{Code: codeUnsupported, Message: fmt.Sprintf(format, args...), Component: component})
	}
	for _, f := range []struct {
		member, value string
		patterns      []string
	}{
		{"guestOS", d.GuestOS, r.GuestOS},
		{"machineType", d.MachineType, r.MachineTypes},
		{"accelerator", accelerator, r.Accelerators},
		{"site", d.Site, r.Sites},
	} {
		if len(f.patterns) > 0 && !matches(f.patterns, f.value) {
			no(f.member, "%s %q is none of %s", f.member, f.value, strings.Join(f.patterns, ", "))
		}
	}
	if r.MaxCPUs > 0 && d.CPUs > r.MaxCPUs {
		no("cpus", "%d processors are more than %d", d.CPUs, r.MaxCPUs)
	}
	if r.MaxMemoryMiB > 0 && d.MemoryMiB > r.MaxMemoryMiB {
		no("memoryMiB", "%d MiB are more than %d", d.MemoryMiB, r.MaxMemoryMiB)
	}
	uses := d.uses()
	for _, f := range uses {
		if !slices.Contains(r.Features, f) {
			no(f, "%s is not supported with %s%s", f, r.Name, because(r.Reason))
		}
	}
	for _, f := range r.Requires {
		if !slices.Contains(uses, f) {
			no(f, "%s must be on with %s%s", f, r.Name, because(r.Reason))
		}
	}
	return out
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func matches(patterns []string, value string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, value)
		return ok && err == nil
	})
}

const codeUnsupported = "fleet.unsupported"
