package launch

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A Kind is what a file of the chain is, as far as its form shows.
type Kind string

// The kinds.
const (
	Shim        Kind = "shim"
	GRUB        Kind = "grub"
	UKI         Kind = "uki"          // a unified kernel image with systemd's stub
	Linux       Kind = "linux"        // a kernel with its own EFI stub
	SystemdBoot Kind = "systemd-boot" // a boot menu
	Program     Kind = "program"      // another
	Config      Kind = "config"       // of GRUB
	Initrd      Kind = "initrd"
)

func (k Kind) program() bool { return k != Config && k != Initrd }

// name is what a component is called in a record of a boot.
func (c *Component) name() Name {
	n := Name{Kind: eventlog.KindBootLoader, Name: "boot loader (" + c.Path + ")", Signer: strings.Join(c.Signers, ", ")}
	switch c.Kind {
	case Linux:
		n.Kind, n.Name = eventlog.KindKernel, "kernel ("+c.Path+")"
	case UKI:
		n.Name = "unified kernel image (" + c.Path + ")"
	case Config:
		n.Kind, n.Name = eventlog.KindConfig, c.Path
	case Initrd:
		n.Kind, n.Name = eventlog.KindInitrd, c.Path
	}
	return n
}

// Of the PE format, as firmware for this architecture takes it.
const (
	machineX64           = 0x8664
	subsystemApplication = 10
	maxText              = 64 << 10 // of sections that hold text
)

// An image is a program of the chain.
type image struct {
	*authenticode.Image
	c      *Component
	r      *io.SectionReader
	volume *Volume
	names  map[string]authenticode.Section // of more than 8 letters
}

// section finds a section by its name, of whatever length.
func (i *image) section(name string) (authenticode.Section, bool) {
	if s, ok := i.names[name]; ok {
		return s, true
	}
	return i.Section(name)
}

// longNames reads the names of sections that stand behind the table of symbols (PE
// Format, "Section Table": "/" and an offset in decimal digits).
func longNames(pe *authenticode.Image, r io.ReaderAt) (map[string]authenticode.Section, error) {
	out := map[string]authenticode.Section{}
	head := make([]byte, 4)
	if _, err := r.ReadAt(head, 0x3C); err != nil {
		return nil, endless(err)
	}
	coff := make([]byte, 16)
	if _, err := r.ReadAt(coff, int64(binary.LittleEndian.Uint32(head))+4); err != nil {
		return nil, endless(err)
	}
	const symbol = 18 // bytes
	table := int64(binary.LittleEndian.Uint32(coff[8:])) + symbol*int64(binary.LittleEndian.Uint32(coff[12:]))
	for _, s := range pe.Sections {
		digits, ok := strings.CutPrefix(s.Name, "/")
		at, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			continue
		}
		text := make([]byte, 32)
		n, err := r.ReadAt(text, table+int64(at))
		if endless(err) != nil {
			return nil, err
		}
		name, _, _ := bytes.Cut(text[:n], []byte{0})
		if _, twice := out[string(name)]; !twice {
			out[string(name)] = s
		}
	}
	return out, nil
}

// load opens a program. The reasons of a refusal are with its component, too.
func (b *boot) load(v *Volume, path string) (*image, error) {
	r, err := v.open(path)
	if err != nil {
		return nil, err
	}
	i, err := b.parse(r, path)
	if i != nil {
		i.volume = v
	}
	return i, err
}

func (b *boot) parse(r *io.SectionReader, path string) (*image, error) {
	c := &Component{Path: path, Kind: Program, Size: r.Size()}
	b.p.Chain = append(b.p.Chain, c)
	pe, err := authenticode.Parse(r, r.Size())
	if err != nil {
		return nil, c.refuse(err)
	}
	i := &image{Image: pe, c: c, r: r}
	if i.names, err = longNames(pe, r); err != nil {
		return nil, err
	}
	c.Digests = Digests{}
	for _, a := range Banks() {
		h, _ := a.Hash()
		if c.Digests[a], err = pe.Digest(h); err != nil {
			return nil, c.refuse(err)
		}
	}
	if err := i.classify(); err != nil {
		return nil, err
	}
	if all, err := pe.Signatures(); err == nil {
		for _, s := range all {
			if cert := s.Signer(); cert != nil {
				subject, _, _ := sigdb.Names(cert.Raw)
				c.Signers = append(c.Signers, subject)
			}
		}
	}
	return i, nil
}

// refuse notes why a component is not started, and names it in every reason.
func (c *Component) refuse(err error) error {
	reasons := evidence.Reasons(err)
	if len(reasons) == 0 {
		return err
	}
	out := &refused{}
	for _, r := range reasons {
		r.Component = c.Path
		c.Reasons = append(c.Reasons, r)
		out.all = append(out.all, &evidence.Refusal{Reason: r})
	}
	return out
}

// refused are the reasons why one file is not started.
type refused struct{ all []error }

func (r *refused) Error() string {
	var out []string
	for _, e := range r.all {
		out = append(out, e.Error())
	}
	return strings.Join(out, "; ")
}

// Unwrap gives the reasons.
func (r *refused) Unwrap() []error { return r.all }

// classify tells what an image is by its sections. What it says of itself decides how
// the prediction goes on, never whether the image is started.
func (i *image) classify() error {
	sbat, err := i.sbat()
	if err != nil {
		return err
	}
	i.c.SBAT = sbat
	magic, err := i.text(".sdmagic")
	if err != nil {
		return err
	}
	_, vendor := i.section(".vendor_cert")
	_, linux := i.Section(".linux")
	_, modules := i.Section("mods")
	kernel, err := i.isLinux()
	switch {
	case err != nil:
		return err
	case vendor:
		i.c.Kind = Shim
	case linux:
		i.c.Kind = UKI
	case strings.Contains(magic, "systemd-boot "):
		i.c.Kind = SystemdBoot
	case modules || has(sbat, "grub"):
		i.c.Kind = GRUB
	case kernel:
		i.c.Kind = Linux
	}
	return nil
}

func has(sbat []sigdb.SBATComponent, name string) bool {
	for _, c := range sbat {
		if c.Name == name {
			return true
		}
	}
	return false
}

// isLinux looks for the header of the x86 boot protocol (Linux,
// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
func (i *image) isLinux() (bool, error) {
	b := make([]byte, 4)
	_, err := i.r.ReadAt(b, 0x202)
	if err == io.EOF {
		return false, nil
	}
	return string(b) == "HdrS", err
}

// kernelVersion is the text that a kernel's header points at, "" when there is none.
func kernelVersion(r io.ReaderAt) (string, error) {
	b := make([]byte, 2)
	if _, err := r.ReadAt(b, 0x20E); err != nil {
		return "", endless(err)
	}
	text := make([]byte, 128)
	n, err := r.ReadAt(text, int64(binary.LittleEndian.Uint16(b))+0x200)
	if endless(err) != nil {
		return "", err
	}
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	return string(text), nil
}

// endless leaves the end of a file out of errors.
func endless(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// text reads the section of a name, "" when there is none or it is no short text.
func (i *image) text(name string) (string, error) {
	s, ok := i.section(name)
	if !ok || s.Size > maxText {
		return "", nil
	}
	b, err := io.ReadAll(i.Open(s))
	return string(b), err
}

// sbat reads what an image says of its generations; nil when it cannot be read. shim
// ignores a section that is shorter in the file than in memory.
func (i *image) sbat() ([]sigdb.SBATComponent, error) {
	s, ok := i.Section(".sbat")
	if !ok || s.Size == 0 || s.Size < s.VirtualSize || s.Size > maxText {
		return nil, nil
	}
	b := make([]byte, s.Size)
	if _, err := i.r.ReadAt(b, int64(s.Offset)); err != nil {
		return nil, err
	}
	out, err := sigdb.ParseSBAT(b)
	if err != nil {
		return nil, nil //nolint:nilerr // one that is malformed is as good as none
	}
	return out, nil
}

// versionOf is the version that the .sbat section gives for a component.
func (i *image) versionOf(component string) (string, error) {
	text, err := i.text(".sbat")
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSpace(line), ","); len(f) >= 6 && f[0] == component {
			return f[4], err
		}
	}
	return "", err
}

// runs reports whether firmware can start the image at all.
func (i *image) runs() error {
	if i.Machine != machineX64 || i.Subsystem != subsystemApplication {
		return i.c.refuse(evidence.Refuse(codeNotAProgram, "it is for the machine %#x and subsystem %d: no UEFI application for x86-64", i.Machine, i.Subsystem))
	}
	return nil
}
