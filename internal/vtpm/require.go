package vtpm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// A VM is what is said about the virtual machine that a TPM is for. An empty
// member is not said, which satisfies nothing.
type VM struct {
	Name            string `json:"name"`
	UUID            string `json:"uuid,omitempty"`
	Firmware        string `json:"firmware,omitempty"` // "efi" or "bios"
	HardwareVersion int    `json:"hardwareVersion,omitempty"`
	GuestOS         string `json:"guestOS,omitempty"`       // "linux", "windows-11", "windows-server-2022"
	EncryptedHome   string `json:"encryptedHome,omitempty"` // "yes" or "no"
	// Manager is what manages the machine and its version, as "libvirt 9.0.0"; empty
	// for this program alone.
	Manager string `json:"manager,omitempty"`
}

// maxVM bounds the text of a [VM] in bytes.
const maxVM = 16 << 10

// ParseVM reads a VM from JSON. Unknown members are refused.
func ParseVM(text []byte) (VM, error) {
	var vm VM
	texts := map[string]*string{
		"name": &vm.Name, "uuid": &vm.UUID, "firmware": &vm.Firmware, "guestOS": &vm.GuestOS, "manager": &vm.Manager,
	}
	rules := strictjson.Rules{Bytes: maxVM, Depth: 2, Members: 16, Values: 32}
	err := strictjson.Object(text, rules, func(name string, v strictjson.Value) (err error) {
		switch to, ok := texts[name]; {
		case ok:
			*to, err = v.Text()
		case name == "hardwareVersion":
			vm.HardwareVersion, err = hardwareVersion(v)
		case name == "encryptedHome":
			vm.EncryptedHome, err = yesOrNo(v)
		default:
			return strictjson.Unknown()
		}
		return err
	})
	if err != nil {
		return VM{}, fmt.Errorf("read virtual machine: %w", err)
	}
	return vm, vm.check()
}

func hardwareVersion(v strictjson.Value) (int, error) {
	n, err := v.Int()
	if err == nil && (n < 1 || n > 1000) {
		err = fmt.Errorf("%d is no hardware version", n)
	}
	return int(n), err // within the bounds above
}

func yesOrNo(v strictjson.Value) (string, error) {
	switch string(v) {
	case "true":
		return yes, nil
	case "false":
		return "no", nil
	}
	s, err := v.Text()
	if err == nil && s != yes && s != "no" {
		err = fmt.Errorf("%q, want yes or no", s)
	}
	return s, err
}

const yes = "yes"

// check bounds the texts: they go to the audit trail and to terminals.
func (vm *VM) check() error {
	for _, s := range []string{vm.Name, vm.UUID, vm.Firmware, vm.GuestOS, vm.EncryptedHome, vm.Manager} {
		if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("virtual machine: %.40q is too long or has a control character", s)
		}
	}
	if vm.Name == "" {
		return fmt.Errorf("virtual machine without a name")
	}
	return nil
}

// A Requirement is one thing that a virtual machine must have to be given a TPM.
type Requirement struct {
	Code evidence.Code `json:"code"`
	What string        `json:"what"`
	Want string        `json:"want"`
	Have string        `json:"have"` // empty when it was not said
	Met  bool          `json:"met"`
}

// The codes of requirements.
const (
	codeFirmware = evidence.Code("vtpm.firmware")
	codeHardware = evidence.Code("vtpm.hardware-version")
	codeGuest    = evidence.Code("vtpm.guest-os")
	codeProvider = evidence.Code("vtpm.key-provider")
	codeHome     = evidence.Code("vtpm.encrypted-home")
	codeManager  = evidence.Code("vtpm.management-version")
)

// minHardware is the virtual hardware that first had a TPM (SPEC V8).
const minHardware = 14

// Requirements judges vm. provider is the key provider's name, empty for none.
func (vm *VM) Requirements(provider string) []Requirement {
	hardware := ""
	if vm.HardwareVersion > 0 {
		hardware = strconv.Itoa(vm.HardwareVersion)
	}
	manager, managerMet := managerFits(vm.Manager, vm.GuestOS)
	return []Requirement{
		{codeFirmware, "firmware", "efi", vm.Firmware, vm.Firmware == "efi"},
		{codeHardware, "hardware version", fmt.Sprintf("%d or later", minHardware), hardware, vm.HardwareVersion >= minHardware},
		{codeGuest, "guest operating system", "linux, windows-7 or later, windows-server-2008 or later", vm.GuestOS, guestFits(vm.GuestOS)},
		{codeProvider, "key provider", "one", provider, provider != ""},
		{codeHome, "encryption of the home files", yes, vm.EncryptedHome, vm.EncryptedHome == yes},
		{codeManager, "management version", manager, orSaid(vm.Manager, "this program"), managerMet},
	}
}

func orSaid(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// A RequirementError names all that a virtual machine lacks.
type RequirementError struct {
	VM     string
	Failed []Requirement
}

func (e *RequirementError) Error() string {
	var parts []string
	for _, r := range e.Failed {
		have := "is not said"
		if r.Have != "" {
			have = fmt.Sprintf("is %q", r.Have)
		}
		parts = append(parts, fmt.Sprintf("%s %s, want %s (%s)", r.What, have, r.Want, r.Code))
	}
	return fmt.Sprintf("virtual machine %q cannot have a TPM: %s", e.VM, strings.Join(parts, "; "))
}

// permit is nil when vm may be given a TPM. The error is a [*RequirementError].
func (vm *VM) permit(provider string) error {
	var failed []Requirement
	for _, r := range vm.Requirements(provider) {
		if !r.Met {
			failed = append(failed, r)
		}
	}
	if len(failed) > 0 {
		return &RequirementError{vm.Name, failed}
	}
	return nil
}

// guestFits reports whether an operating system can use a TPM 2.0 (SPEC V8).
func guestFits(guest string) bool {
	family, rest, _ := strings.Cut(guest, "-")
	switch family {
	case "linux":
		return true
	case "windows":
		if year, ok := strings.CutPrefix(rest, "server-"); ok {
			n := leadingNumber(year)
			return n >= 2008 && n < 10000
		}
		n := leadingNumber(rest) // "vista", "xp" and "2000" are older
		return n >= 7 && n < 100
	}
	return false
}

// leadingNumber is the number that s begins with, 0 for none.
func leadingNumber(s string) int {
	end := 0
	for end < len(s) && end < 6 && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}

// managerFits reports whether the program that manages a machine can give it a
// TPM, and what version that takes. vSphere gave TPMs to Windows from 6.7 and to
// Linux from 7.0 update 2 on; libvirt knows TPMs outside itself since 9.0.0.
func managerFits(manager, guest string) (want string, met bool) {
	name, version, _ := strings.Cut(manager, " ")
	switch {
	case manager == "":
		return "any of this program", true
	case name == "vsphere" && strings.HasPrefix(guest, "windows"):
		want = "6.7"
	case name == "vsphere":
		want = "7.0.2"
	case name == "libvirt":
		want = "9.0.0"
	default:
		return "of libvirt or vsphere", false
	}
	return name + " " + want + " or later", atLeast(version, want)
}

// atLeast compares versions of numbers with points between; what is no number is
// older than any.
func atLeast(have, want string) bool {
	h, w := strings.Split(have, "."), strings.Split(want, ".")
	for i := range w {
		if i >= len(h) {
			return false
		}
		a, err := strconv.Atoi(h[i])
		b, wrong := strconv.Atoi(w[i])
		switch {
		case err != nil || wrong != nil || a < b:
			return false
		case a > b:
			return true
		}
	}
	return true
}
