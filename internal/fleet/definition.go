package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/strictjson"
)

// Shielded is the three options of a trusted machine; each is on or off by itself
// (shieldedInstanceConfig of Compute Engine).
type Shielded struct {
	SecureBoot          bool `json:"enableSecureBoot"`
	VTPM                bool `json:"enableVtpm"`
	IntegrityMonitoring bool `json:"enableIntegrityMonitoring"`
}

// A Definition is what an operator says of a machine. It is JSON with the member
// names below; unknown members and members that stand twice are refused.
type Definition struct {
	Name     string   `json:"name"`
	Shielded Shielded `json:"shieldedInstanceConfig"`
	// Keyset names the keys of secure boot; empty is DefaultKeyset.
	Keyset string `json:"keyset,omitempty"`
	// Policy names what integrity monitoring judges; empty is the default profile of
	// package baseline, "gce" is Google's.
	Policy string `json:"integrityPolicy,omitempty"`
	// GuestOS is linux, windows-11, windows-server-2022 and so on.
	GuestOS     string    `json:"guestOS"`
	MachineType string    `json:"machineType,omitempty"` // empty is q35
	CPUs        int       `json:"cpus"`
	MemoryMiB   int       `json:"memoryMiB"`
	TPM         string    `json:"tpmInterface,omitempty"` // crb or tis; empty is crb
	Disks       []Disk    `json:"disks,omitempty"`
	Networks    []Network `json:"networks,omitempty"`
	// Agent gives the guest's agent a serial port of its own to attest by; a machine that
	// has it and stays silent is a finding.
	Agent bool `json:"agent,omitempty"`
	// ApproveFirst leaves the baseline of the first boot to a person, too.
	ApproveFirst bool `json:"approveFirstBoot,omitempty"`
	// BootDeadline is how long a boot may take, in seconds; 0 is for ever.
	BootDeadline int `json:"bootDeadlineSeconds,omitempty"`
	// StopOnFailure stops the machine when a boot fails its judgement.
	StopOnFailure bool `json:"stopOnFailure,omitempty"`
	// Site and Host say where the machine may run ([Place.Check]); empty is anywhere.
	Site string `json:"site,omitempty"`
	Host string `json:"host,omitempty"`
	// Virtualization asks for what a Windows guest's virtualization-based security
	// needs besides secure boot: an IOMMU, and nested virtualization.
	Virtualization bool `json:"virtualizationBasedSecurity,omitempty"`
	// Image is the one of the gallery that the machine was made from, NAME@VERSION.
	Image  string            `json:"image,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// A Disk is one block device of a machine.
type Disk struct {
	File      string `json:"file"` // absolute
	Format    string `json:"format"`
	Bus       string `json:"bus,omitempty"` // virtio, nvme or sata; empty is virtio
	ReadOnly  bool   `json:"readOnly,omitempty"`
	Shared    bool   `json:"shared,omitempty"`
	Ephemeral bool   `json:"ephemeral,omitempty"`
	Boot      bool   `json:"boot,omitempty"`
}

// A Network is one interface of a machine.
type Network struct {
	Kind   string `json:"kind"` // user or tap
	Device string `json:"device,omitempty"`
	MAC    string `json:"mac,omitempty"`
}

// DefaultKeyset is the one of a machine that names none.
const DefaultKeyset = "microsoft"

// Limits of a definition.
const (
	maxDefinition = 64 << 10
	maxText       = 255
	maxLabels     = 64
	maxDisks      = 24
	maxNetworks   = 8
	maxCPUs       = 255
	minMemory     = 128
	maxMemory     = 4 << 20
	maxDeadline   = 24 * 60 * 60
)

var rules = strictjson.Rules{Bytes: maxDefinition, Depth: 6, Members: 128, Values: 2048, FoldNames: true}

// ParseDefinition reads a definition and checks it.
func ParseDefinition(text []byte) (*Definition, error) {
	d := new(Definition)
	if err := decode(text, rules, d); err != nil {
		return nil, fmt.Errorf("read machine: %w", err)
	}
	d.Complete()
	if err := d.Check(); err != nil {
		return nil, err
	}
	return d, nil
}

// decode reads JSON that has nothing unknown and nothing twice.
func decode(text []byte, r strictjson.Rules, to any) error {
	if _, err := strictjson.Parse(text, r); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the value")
	}
	return nil
}

// Complete fills in what was left to us.
func (d *Definition) Complete() {
	for _, f := range []struct {
		to    *string
		value string
	}{{&d.Keyset, DefaultKeyset}, {&d.Policy, baseline.Default().Name}, {&d.MachineType, "q35"}, {&d.TPM, "crb"}} {
		if *f.to == "" {
			*f.to = f.value
		}
	}
	for i := range d.Disks {
		if d.Disks[i].Bus == "" {
			d.Disks[i].Bus = "virtio"
		}
	}
}

// A DefinitionError names the member at fault.
type DefinitionError struct{ Member, Problem string }

func (e *DefinitionError) Error() string { return fmt.Sprintf("machine: %s: %s", e.Member, e.Problem) }

var (
	nameRule  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) }) // RFC 1035, 2.3.1, and digits first
	imageRule = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}(@[A-Za-z0-9][A-Za-z0-9._-]{0,62})?$`)
	})
	wordRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,62}$`) })
)

// Check returns the first fault of a definition that says all, as ParseDefinition
// returns it. Whether the combination is supported is for a [Matrix] to say.
func (d *Definition) Check() error {
	_, badPolicy := baseline.ProfileNamed(d.Policy)
	for _, rule := range []struct {
		good            bool
		member, problem string
	}{
		{nameRule().MatchString(d.Name), "name", fmt.Sprintf("%q is not 1 to 63 lower-case letters, digits and hyphens", d.Name)},
		{wordRule().MatchString(d.Keyset), "keyset", fmt.Sprintf("%q is no name", d.Keyset)},
		{badPolicy == nil, "integrityPolicy", fmt.Sprintf("%q is none of %s", d.Policy, strings.Join(baseline.ProfileNames(), ", "))},
		{wordRule().MatchString(d.GuestOS), "guestOS", fmt.Sprintf("%q is no operating system; say linux, windows-11, windows-server-2022…", d.GuestOS)},
		{wordRule().MatchString(d.MachineType), "machineType", fmt.Sprintf("%q is no name", d.MachineType)},
		{d.CPUs >= 1 && d.CPUs <= maxCPUs, "cpus", fmt.Sprintf("%d is not 1 to %d", d.CPUs, maxCPUs)},
		{d.MemoryMiB >= minMemory && d.MemoryMiB <= maxMemory, "memoryMiB", fmt.Sprintf("%d is not %d to %d", d.MemoryMiB, minMemory, maxMemory)},
		{d.TPM == "crb" || d.TPM == "tis", "tpmInterface", fmt.Sprintf("%q is neither crb nor tis", d.TPM)},
		{d.Site == "" || wordRule().MatchString(d.Site), "site", fmt.Sprintf("%q is no name", d.Site)},
		{d.Image == "" || imageRule().MatchString(d.Image), "image", fmt.Sprintf("%.130q is not NAME or NAME@VERSION", d.Image)},
		{d.Host == "" || wordRule().MatchString(d.Host), "host", fmt.Sprintf("%q is no name", d.Host)},
		{!d.Shielded.IntegrityMonitoring || d.Shielded.VTPM, "enableIntegrityMonitoring", "needs enableVtpm: the TPM's record of the boot is what is monitored"},
		{!d.Agent || d.Shielded.VTPM, "agent", "needs enableVtpm: it attests by the TPM"},
		{d.BootDeadline >= 0 && d.BootDeadline <= maxDeadline, "bootDeadlineSeconds", fmt.Sprintf("%d is not 0 to %d", d.BootDeadline, maxDeadline)},
		{!d.StopOnFailure || d.Shielded.IntegrityMonitoring, "stopOnFailure", "needs enableIntegrityMonitoring: without it no boot fails"},
		{len(d.Disks) <= maxDisks, "disks", fmt.Sprintf("%d are more than %d", len(d.Disks), maxDisks)},
		{len(d.Networks) <= maxNetworks, "networks", fmt.Sprintf("%d are more than %d", len(d.Networks), maxNetworks)},
		{len(d.Labels) <= maxLabels, "labels", fmt.Sprintf("%d are more than %d", len(d.Labels), maxLabels)},
	} {
		if !rule.good {
			return &DefinitionError{rule.member, rule.problem}
		}
	}
	return d.checkParts()
}

func (d *Definition) checkParts() error {
	for i := range d.Disks {
		if problem := d.Disks[i].problem(); problem != "" {
			return &DefinitionError{fmt.Sprintf("disks[%d]", i), problem}
		}
	}
	for i, n := range d.Networks {
		if n.Kind != "user" && n.Kind != "tap" {
			return &DefinitionError{fmt.Sprintf("networks[%d]", i), fmt.Sprintf("kind %q is neither user nor tap", n.Kind)}
		}
	}
	for name, value := range d.Labels {
		if !wordRule().MatchString(name) || len(value) > maxText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7F }) {
			return &DefinitionError{"labels", fmt.Sprintf("%.80q: a name is a word, and a value has at most %d bytes without control characters", name, maxText)}
		}
	}
	return nil
}

func (d *Disk) problem() string {
	switch {
	case !filepath.IsAbs(d.File) || filepath.Clean(d.File) != d.File || strings.ContainsAny(d.File, "\x00\n"):
		return fmt.Sprintf("file %.200q is not an absolute path in its shortest form", d.File)
	case !slices.Contains([]string{"raw", "qcow2"}, d.Format):
		return fmt.Sprintf("format %q is neither raw nor qcow2; it is never guessed", d.Format)
	case !slices.Contains([]string{"virtio", "nvme", "sata"}, d.Bus):
		return fmt.Sprintf("bus %q is none of virtio, nvme, sata", d.Bus)
	case d.Shared && (d.Ephemeral || d.Format != "raw"):
		return "only a raw disk that is not ephemeral can be shared"
	}
	return ""
}
