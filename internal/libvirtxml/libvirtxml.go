// Package libvirtxml reads the definition of a virtual machine of libvirt, and says what of
// it a machine here would have, what not, and why.
//
// A domain is somebody's text: it is bounded, read strictly, and nothing that it names is
// opened here. What is not known is said to be left, never passed over. Start with [Parse]
// and [Domain.Map].
//
// libvirt's documentation, "Domain XML format" (formatdomain), as of version 9.0.
package libvirtxml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/fleet"
)

// ErrFormat is a text that is no domain of libvirt.
var ErrFormat = errors.New("not a domain of libvirt")

// Limits of a domain.
const (
	maxSize   = 1 << 20
	maxDepth  = 32
	maxTokens = 20_000
)

// A Domain is what somebody says of a machine.
type Domain struct {
	XMLName xml.Name   `xml:"domain"`
	Type    string     `xml:"type,attr"`
	Name    []string   `xml:"name"`
	UUID    []string   `xml:"uuid"`
	Memory  []memory   `xml:"memory"`
	CPUs    []string   `xml:"vcpu"`
	OS      []osPart   `xml:"os"`
	Devices []devices  `xml:"devices"`
	Other   []anything `xml:",any"`
}

type memory struct {
	Unit string `xml:"unit,attr"`
	Text string `xml:",chardata"`
}

type osPart struct {
	Firmware string `xml:"firmware,attr"`
	Type     struct {
		Machine string `xml:"machine,attr"`
		Arch    string `xml:"arch,attr"`
		Text    string `xml:",chardata"`
	} `xml:"type"`
	Loader struct {
		Secure string `xml:"secure,attr"`
		Type   string `xml:"type,attr"`
		Path   string `xml:",chardata"`
	} `xml:"loader"`
	NVRAM string `xml:"nvram"`
}

type devices struct {
	Disks    []diskPart  `xml:"disk"`
	Networks []network   `xml:"interface"`
	TPMs     []tpmDevice `xml:"tpm"`
	Other    []anything  `xml:",any"`
}

type diskPart struct {
	Device string `xml:"device,attr"`
	Driver struct {
		Type string `xml:"type,attr"`
	} `xml:"driver"`
	Source struct {
		File string `xml:"file,attr"`
		Dev  string `xml:"dev,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr"`
	} `xml:"target"`
	ReadOnly  *struct{} `xml:"readonly"`
	Shareable *struct{} `xml:"shareable"`
	Transient *struct{} `xml:"transient"`
	Boot      struct {
		Order string `xml:"order,attr"`
	} `xml:"boot"`
	Encryption *struct{} `xml:"encryption"`
}

type network struct {
	Type string `xml:"type,attr"`
	MAC  struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
}

type tpmDevice struct {
	Model   string `xml:"model,attr"`
	Backend struct {
		Type    string `xml:"type,attr"`
		Version string `xml:"version,attr"`
	} `xml:"backend"`
}

type anything struct{ XMLName xml.Name }

// Parse reads a domain.
func Parse(text []byte) (*Domain, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFormat, maxSize)
	}
	if err := walk(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	d := new(Domain)
	if err := xml.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, one := range []struct {
		what string
		n    int
	}{{"name", len(d.Name)}, {"memory", len(d.Memory)}, {"vcpu", len(d.CPUs)}, {"os", len(d.OS)}, {"devices", len(d.Devices)}} {
		if one.n != 1 {
			return nil, fmt.Errorf("%w: %d elements %s, want one", ErrFormat, one.n, one.what)
		}
	}
	if len(d.UUID) > 1 {
		return nil, fmt.Errorf("%w: two elements uuid", ErrFormat)
	}
	return d, nil
}

// walk bounds the text before it is decoded: one element with all others in it, and no
// document type, by which XML names other files.
func walk(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	depth, roots := 0, 0
	for n := 0; ; n++ {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			if depth != 0 || roots != 1 {
				return errors.New("it is not one whole element")
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch t.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			depth++
		case xml.EndElement:
			depth--
		case xml.Directive:
			return errors.New("it has a document type")
		}
		if depth > maxDepth || n > maxTokens {
			return fmt.Errorf("more than %d levels or %d parts", maxDepth, maxTokens)
		}
	}
}

// A Line says of one thing of a domain what becomes of it.
type Line struct {
	What string `json:"what"`
	// Becomes is what the machine would have; empty for nothing.
	Becomes string `json:"becomes,omitempty"`
	Why     string `json:"why,omitempty"`
	// Stops is set where no machine can be made.
	Stops bool `json:"stops,omitempty"`
}

// A Plan is the machine that a domain would become.
type Plan struct {
	Definition *fleet.Definition `json:"definition"`
	// UUID is the domain's, which the guest sees; empty when it has none.
	UUID string `json:"uuid,omitempty"`
	// Variables is the file of the firmware's variables; empty for new ones.
	Variables string `json:"variables,omitempty"`
	// TPM says that the domain has one, whose secrets are taken over apart from it.
	TPM   bool   `json:"tpm"`
	Lines []Line `json:"lines"`
}

// Stopped reports whether no machine can be made of the domain.
func (p *Plan) Stopped() bool {
	return slices.ContainsFunc(p.Lines, func(l Line) bool { return l.Stops })
}

func (p *Plan) maps(what, becomes, why string) {
	p.Lines = append(p.Lines, Line{what, becomes, why, false})
}
func (p *Plan) stop(what, why string) { p.Lines = append(p.Lines, Line{what, "", why, true}) }

// Map says what the domain would be as a machine called name; the domain's name when
// that is empty.
func (d *Domain) Map(name string) *Plan {
	p := &Plan{Definition: &fleet.Definition{Name: name, GuestOS: "linux", MachineType: "q35"}}
	if name == "" {
		p.Definition.Name = strings.TrimSpace(d.Name[0])
	}
	p.maps("name "+strings.TrimSpace(d.Name[0]), "name "+p.Definition.Name, "")
	if len(d.UUID) == 1 {
		p.UUID = strings.ToLower(strings.TrimSpace(d.UUID[0]))
		p.maps("uuid", p.UUID, "")
	}
	d.mapBoard(p)
	d.mapFirmware(p)
	for i := range d.Devices[0].Disks {
		d.Devices[0].Disks[i].mapTo(p)
	}
	bootOne(p.Definition)
	for i := range d.Devices[0].Networks {
		d.Devices[0].Networks[i].mapTo(p)
	}
	d.mapTPM(p)
	for _, o := range d.Devices[0].Other {
		if !slices.Contains([]string{"emulator", "controller", "memballoon", "serial", "console", "rng", "input", "watchdog", "panic", "channel"}, o.XMLName.Local) {
			p.maps("device "+o.XMLName.Local, "", "machines have none here")
		}
	}
	for _, o := range d.Other {
		if !slices.Contains([]string{"currentMemory", "clock", "on_poweroff", "on_reboot", "on_crash", "pm", "cpu", "title", "description", "features"}, o.XMLName.Local) {
			p.maps("element "+o.XMLName.Local, "", "it is not taken over")
		}
	}
	return p
}

// units are those of memory in bytes; "" is KiB.
var units = map[string]uint64{
	"": 1 << 10, "b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "MB": 1_000_000, "M": 1 << 20, "MiB": 1 << 20, "GB": 1_000_000_000, "G": 1 << 30, "GiB": 1 << 30, "TiB": 1 << 40, "T": 1 << 40,
}

func (d *Domain) mapBoard(p *Plan) {
	n, err := strconv.ParseUint(strings.TrimSpace(d.Memory[0].Text), 10, 63)
	high, bytes := bits.Mul64(n, units[d.Memory[0].Unit])
	if err != nil || bytes == 0 || high != 0 {
		p.stop("memory", fmt.Sprintf("%.40q of unit %.20q is not known", d.Memory[0].Text, d.Memory[0].Unit))
	} else {
		p.Definition.MemoryMiB = int(min(bytes>>20, 1<<40))
		p.maps("memory", fmt.Sprintf("%d MiB", p.Definition.MemoryMiB), "")
	}
	if p.Definition.CPUs, err = strconv.Atoi(strings.TrimSpace(d.CPUs[0])); err != nil {
		p.stop("vcpu", "it is no number")
	} else {
		p.maps("vcpu", strconv.Itoa(p.Definition.CPUs), "")
	}
	o := &d.OS[0]
	switch machine := o.Type.Machine; {
	case o.Type.Arch != "" && o.Type.Arch != "x86_64":
		p.stop("architecture "+o.Type.Arch, "machines are x86_64 here")
	case machine == "q35" || strings.HasPrefix(machine, "pc-q35-"):
		p.maps("machine "+machine, "q35", "PCR 0 and 1 may differ from those under libvirt: learn the baseline at the first boot here")
	default:
		p.stop("machine "+machine, "machines are q35 here: the guest would find other devices at other places")
	}
}

func (d *Domain) mapFirmware(p *Plan) {
	o := &d.OS[0]
	if o.Firmware != "efi" && o.Loader.Type != "pflash" {
		p.stop("firmware", "it is BIOS: a guest that was installed for BIOS does not start under UEFI (SPEC V8)")
		return
	}
	p.Definition.Shielded.SecureBoot = o.Loader.Secure == "yes"
	p.maps("firmware UEFI", map[bool]string{true: "OVMF with secure boot", false: "OVMF without secure boot"}[p.Definition.Shielded.SecureBoot], "this host's OVMF, which PCR 0 measures")
	if file := strings.TrimSpace(o.NVRAM); file != "" {
		p.Variables = file
		p.maps("nvram "+file, "variables", "a copy: the keys and boot entries of the guest stay")
	} else {
		p.maps("nvram", "new variables", "the domain does not say where its own are: boot entries are lost, and keys are those of the key set")
	}
}

func (k *diskPart) mapTo(p *Plan) {
	file := k.Source.File
	if file == "" {
		file = k.Source.Dev
	}
	what := "disk " + k.Target.Dev
	switch {
	case k.Device != "" && k.Device != "disk":
		p.maps(what, "", fmt.Sprintf("a %s is not taken over", k.Device))
		return
	case file == "" || !filepath.IsAbs(file):
		p.stop(what, "its source is neither a file nor a device of this host")
		return
	case k.Encryption != nil:
		p.stop(what, "libvirt decrypts it, and nothing does so here")
		return
	case k.Shareable != nil:
		p.stop(what, "it is shared with other machines: a copy would part from them")
		return
	}
	one := fleet.Disk{File: filepath.Clean(file), Format: k.Driver.Type, Bus: k.Target.Bus, ReadOnly: k.ReadOnly != nil, Ephemeral: k.Transient != nil, Boot: k.Boot.Order == "1"}
	why := ""
	if one.Bus == "scsi" || one.Bus == "usb" || one.Bus == "ide" || one.Bus == "" {
		why = fmt.Sprintf("there is no bus %q here: the guest needs a driver for sata at its boot", one.Bus)
		one.Bus = "sata"
	}
	if one.Format != "raw" && one.Format != "qcow2" {
		p.stop(what, fmt.Sprintf("format %q is neither raw nor qcow2; it is never guessed", one.Format))
		return
	}
	p.Definition.Disks = append(p.Definition.Disks, one)
	p.maps(what+" "+file, fmt.Sprintf("a copy, %s, on %s", one.Format, one.Bus), why)
}

// bootOne leaves one disk that boots: the one of order 1, or the first.
func bootOne(d *fleet.Definition) {
	i := max(slices.IndexFunc(d.Disks, func(k fleet.Disk) bool { return k.Boot }), 0)
	for n := range d.Disks {
		d.Disks[n].Boot = n == i
	}
}

func (n *network) mapTo(p *Plan) {
	one := fleet.Network{Kind: "user", MAC: n.MAC.Address}
	switch n.Type {
	case "user":
		p.maps("interface user", "user", "")
	case "ethernet":
		one.Kind, one.Device = "tap", n.Target.Dev
		p.maps("interface ethernet "+n.Target.Dev, "tap "+n.Target.Dev, "")
	default:
		p.maps("interface "+n.Type, "", "libvirt's networks and bridges are libvirt's: give the machine a tap device with assay vm update --network")
		return
	}
	p.Definition.Networks = append(p.Definition.Networks, one)
}

// tpmLine begins what is said of the domain's TPM.
const tpmLine = "tpm "

// TakesTPM says of the domain's TPM that the machine goes on with it.
func (p *Plan) TakesTPM() {
	for i := range p.Lines {
		if l := &p.Lines[i]; strings.HasPrefix(l.What, tpmLine) && !l.Stops {
			l.Becomes, l.Why = "its TPM, "+p.Definition.TPM, "of the state of its swtpm: what is sealed to registers whose values stay opens"
		}
	}
}

func (d *Domain) mapTPM(p *Plan) {
	tpms := d.Devices[0].TPMs
	switch {
	case len(tpms) == 0:
		p.maps("no tpm", "no TPM", "assay vm update --vtpm --integrity-monitoring adds one")
		return
	case len(tpms) > 1:
		p.stop("tpm", "there are two")
		return
	case tpms[0].Backend.Type == "passthrough":
		p.stop("tpm passthrough", "the host's own TPM is no machine's here")
		return
	case tpms[0].Backend.Version != "" && tpms[0].Backend.Version != "2.0":
		p.stop("tpm of version "+tpms[0].Backend.Version, "machines have a TPM 2.0")
		return
	}
	p.TPM = true
	p.Definition.TPM = map[bool]string{true: "tis", false: "crb"}[tpms[0].Model == "tpm-tis"]
	p.Definition.Shielded.VTPM, p.Definition.Shielded.IntegrityMonitoring = true, true
	p.maps(tpmLine+tpms[0].Model, "a new, empty TPM, "+p.Definition.TPM, "the secrets of the domain's are not taken over: what the guest sealed or encrypted by it, its disk key among it, needs the guest's recovery key")
}
