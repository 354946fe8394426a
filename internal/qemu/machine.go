package qemu

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
)

// The ways to run a guest.
const (
	KVM = "kvm"
	TCG = "tcg" // emulation, which runs anywhere
)

// The interfaces of a TPM (docs/specs/tpm).
const (
	CRB = "tpm-crb"
	TIS = "tpm-tis"
)

// A Machine is all that QEMU is told of a virtual machine. File names are those of
// its working folder, or absolute.
type Machine struct {
	Name        string
	UUID        string // RFC 9562; empty lets QEMU leave it out
	Accelerator string // KVM or TCG
	CPUs        int
	MemoryMiB   int
	Firmware    Firmware
	TPM         *TPM // nil for none
	Disks       []Disk
	Networks    []Network
	Serial      string // socket of the console, which must listen already
	Agent       string // socket of the second serial port, likewise; empty for none
	VsockCID    uint32 // 0 for none
	Monitor     string // socket that QEMU makes
	Protection  Protection
	Incoming    bool // waits for a machine that migrates here
	Paused      bool // does not run before it is told to
}

// Firmware is OVMF: its code, which no guest can write, and its variables.
type Firmware struct {
	Code      string
	Variables string // of format raw; /dev/fdset/N for a file passed as such
	// Secure keeps the guest from writing the variables but through the firmware
	// (SMM). Without it secure boot is a promise that any guest can break.
	Secure bool
}

// A TPM is the control socket of a vTPM, and how the guest sees it.
type TPM struct {
	Socket    string
	Interface string // CRB or TIS
}

// A Disk is a block device. The first one that is Bootable comes first.
type Disk struct {
	File     string
	Format   string // raw or qcow2; never guessed, for a guest could write a header
	Bus      string // virtio, nvme or sata
	ReadOnly bool
	Shared   bool // other machines write to it too
	// Ephemeral throws away at the end what the guest wrote.
	Ephemeral bool
	Bootable  bool
}

// A Network is an interface. Option ROMs are left out: they would be measured.
type Network struct {
	Kind    string // user, or tap with Device
	Device  string
	MAC     string
	Forward []Forward // of kind user: loopback ports of the host
}

// A Forward leads a port of the host's loopback to the guest.
type Forward struct{ Host, Guest uint16 }

// Protection is what a Windows guest's virtualization-based security needs of the
// machine besides secure boot.
type Protection struct {
	IOMMU  bool // DMA protection
	Nested bool // virtualization inside the guest; needs KVM on a host that nests
}

// Limits of a machine: what q35 and OVMF of QEMU 7.2 take.
const (
	maxCPUs   = 255
	minMemory = 128
	maxMemory = 4 << 20 // MiB
	maxDisks  = 24
	maxSATA   = 6   // ports of ICH9
	maxSocket = 107 // bytes of a path of a Unix socket (unix(7))
)

var (
	nameRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })
	uuidRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`) })
	tapRule  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`) }) // IFNAMSIZ is 16
)

// A FieldError names the part of a [Machine] that QEMU cannot be given.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return fmt.Sprintf("machine: %s: %s", e.Field, e.Problem) }

// check returns the first fault.
func (m *Machine) check() error {
	for _, rule := range []struct {
		good           bool
		field, problem string
	}{
		{nameRule().MatchString(m.Name), "name", fmt.Sprintf("%q is not 1 to 63 letters, digits, dots, underscores and hyphens", m.Name)},
		{m.UUID == "" || uuidRule().MatchString(m.UUID), "uuid", fmt.Sprintf("%q is none", m.UUID)},
		{m.Accelerator == KVM || m.Accelerator == TCG, "accelerator", fmt.Sprintf("%q is neither kvm nor tcg", m.Accelerator)},
		{m.CPUs >= 1 && m.CPUs <= maxCPUs, "cpus", fmt.Sprintf("%d is not 1 to %d", m.CPUs, maxCPUs)},
		{m.MemoryMiB >= minMemory && m.MemoryMiB <= maxMemory, "memory", fmt.Sprintf("%d MiB is not %d to %d", m.MemoryMiB, minMemory, maxMemory)},
		{len(m.Disks) <= maxDisks, "disks", fmt.Sprintf("%d are more than %d", len(m.Disks), maxDisks)},
		{!m.Protection.Nested || m.Accelerator == KVM, "nested virtualization", "needs KVM"},
	} {
		if !rule.good {
			return &FieldError{rule.field, rule.problem}
		}
	}
	if err := m.checkFiles(); err != nil {
		return err
	}
	ports := 0
	for i := range m.Disks {
		err := m.Disks[i].check()
		if m.Disks[i].Bus == "sata" {
			ports++
		}
		if err == nil && ports > maxSATA {
			err = fmt.Errorf("is one more on sata than the %d that fit", maxSATA)
		}
		if err != nil {
			return &FieldError{fmt.Sprintf("disk %d", i), err.Error()}
		}
	}
	for i := range m.Networks {
		if err := m.Networks[i].check(); err != nil {
			return &FieldError{fmt.Sprintf("network %d", i), err.Error()}
		}
	}
	return nil
}

func (m *Machine) checkFiles() error {
	files := map[string]string{"firmware": m.Firmware.Code, "variables": m.Firmware.Variables}
	sockets := map[string]string{"serial": m.Serial, "monitor": m.Monitor}
	if m.Agent != "" {
		sockets["agent"] = m.Agent
	}
	if m.TPM != nil {
		sockets["TPM"] = m.TPM.Socket
		if m.TPM.Interface != CRB && m.TPM.Interface != TIS {
			return &FieldError{"TPM", fmt.Sprintf("interface %q is neither %s nor %s", m.TPM.Interface, CRB, TIS)}
		}
	}
	for field, path := range sockets {
		if len(path) > maxSocket {
			return &FieldError{field, fmt.Sprintf("path of %d bytes, at most %d fit a socket", len(path), maxSocket)}
		}
		files[field] = path
	}
	for field, path := range files {
		if err := checkPath(path); err != nil {
			return &FieldError{field, err.Error()}
		}
	}
	return nil
}

// checkPath refuses what QEMU would take for something else than a file: another
// protocol ("nbd:…", "json:…"), or nothing.
func checkPath(path string) error {
	switch {
	case path == "":
		return fmt.Errorf("is missing")
	case strings.ContainsAny(path, "\x00\n\r"):
		return fmt.Errorf("%q has control characters", path)
	case strings.Contains(path, ":") && !strings.HasPrefix(path, "/"):
		return fmt.Errorf("%q has a colon, which only an absolute path may have", path)
	case strings.HasPrefix(path, "-"):
		return fmt.Errorf("%q begins with a hyphen", path)
	}
	return nil
}

func (d *Disk) check() error {
	if err := checkPath(d.File); err != nil {
		return err
	}
	switch {
	case d.Format != "raw" && d.Format != "qcow2":
		return fmt.Errorf("format %q is neither raw nor qcow2", d.Format)
	case d.Bus != "virtio" && d.Bus != "nvme" && d.Bus != "sata":
		return fmt.Errorf("bus %q is none of virtio, nvme, sata", d.Bus)
	case d.Shared && d.Format != "raw":
		return fmt.Errorf("is shared, which only raw disks can be")
	case d.Shared && d.Ephemeral:
		return fmt.Errorf("is shared and ephemeral")
	}
	return nil
}

func (n *Network) check() error {
	if n.MAC != "" {
		if hw, err := net.ParseMAC(n.MAC); err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			return fmt.Errorf("MAC address %q is no unicast one of 6 bytes", n.MAC)
		}
	}
	switch n.Kind {
	case "user":
		if n.Device != "" {
			return fmt.Errorf("of kind user has no device")
		}
	case "tap":
		if !tapRule().MatchString(n.Device) {
			return fmt.Errorf("device %q is no name of an interface", n.Device)
		}
		if len(n.Forward) > 0 {
			return fmt.Errorf("of kind tap forwards no ports")
		}
	default:
		return fmt.Errorf("kind %q is neither user nor tap", n.Kind)
	}
	return nil
}
