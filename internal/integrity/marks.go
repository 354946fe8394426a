package integrity

import (
	"bytes"
	"fmt"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/wire"
)

// marks are the digests of texts that mean something by themselves: nothing else
// that firmware measures has them.
type marks struct {
	separators                                [3][]byte
	calling, returning, exit, failed, success []byte
	secure                                    []byte            // the variable SecureBoot with the value 1, as PCR 7 has it
	sections                                  map[string]string // digest of a section's name, its name
}

// The texts of EV_EFI_ACTION (PFP 10.4.4) and the contents of separators
// (PFP 3.3.2.2): two that say all is well, one of an error.
const (
	textCalling   = "Calling EFI Application from Boot Option"
	textReturning = "Returning from EFI Application from Boot Option"
	textExit      = "Exit Boot Services Invocation"
	textFailed    = "Exit Boot Services Returned with Failure"
	textSuccess   = "Exit Boot Services Returned with Success"
)

// stubSections are the sections of a unified kernel image that systemd-stub
// measures into PCR 11: the name with NUL, then the content.
var stubSections = [...]string{
	".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto",
	".hwids", ".uname", ".sbat", ".pcrpkey", ".profile", ".efifw",
}

// marksOf computes the marks of a bank. Of an unknown one there are none.
func marksOf(bank tpm2.Alg) *marks {
	m := &marks{sections: map[string]string{}}
	h, ok := bank.Hash()
	if !ok {
		return m
	}
	of := func(text string) []byte {
		sum := h.New()
		sum.Write([]byte(text))
		return sum.Sum(nil)
	}
	m.separators = [3][]byte{of("\x00\x00\x00\x00"), of("\xff\xff\xff\xff"), of("\x01\x00\x00\x00")}
	m.calling, m.returning = of(textCalling), of(textReturning)
	m.exit, m.failed, m.success = of(textExit), of(textFailed), of(textSuccess)
	on := uefi.VariableData{Vendor: uefi.GlobalVariable, Data: []byte{1}}
	for _, c := range []byte("SecureBoot") {
		on.RawName = append(on.RawName, c, 0)
	}
	if raw, err := wire.EncodeLE(&on); err == nil { // a constant: it fits
		m.secure = of(string(raw))
	}
	for _, name := range stubSections {
		m.sections[string(of(name+"\x00"))] = name
	}
	return m
}

func (m *marks) separator(digest []byte) bool {
	return digest != nil && (bytes.Equal(digest, m.separators[0]) || bytes.Equal(digest, m.separators[1]) || bytes.Equal(digest, m.separators[2]))
}

// agree reports whether two banks have the same text, or none, in one measurement.
func (m *marks) agree(digest []byte, other *marks, there []byte) bool {
	return m.text(digest) == other.text(there) && m.separated(digest) == other.separated(there)
}

// separated is which separator a digest is of, -1 for none.
func (m *marks) separated(digest []byte) int {
	for i, d := range m.separators {
		if d != nil && bytes.Equal(d, digest) {
			return i
		}
	}
	return -1
}

// action reports whether a digest is that of a text, and no image.
func (m *marks) action(digest []byte) bool { return m.text(digest) != "" }

func (m *marks) text(digest []byte) string {
	for text, d := range map[string][]byte{
		textCalling: m.calling, textReturning: m.returning,
		textExit: m.exit, textFailed: m.failed, textSuccess: m.success,
	} {
		if d != nil && bytes.Equal(d, digest) {
			return text
		}
	}
	return ""
}

// A placer names what nobody else knows by its place: the words are hints.
type placer struct {
	marks   *marks
	loader  int // events before the boot loader had control
	closed  [8]bool
	count   [registers]int // since the separator
	section string         // of which PCR 11 gets the content next
}

// variables of PCR 7 in the order of edk2's firmware (PFP 3.3.4.8).
var variables = [...]string{"SecureBoot", "PK", "KEK", "db", "dbx"}

func (p *placer) place(i int, e Event) Name {
	if p.marks.separator(e.Digest) && e.PCR < 8 {
		p.closed[e.PCR], p.count[e.PCR] = true, 0
		return Name{Kind: eventlog.KindSeparator, Name: "separator", Proven: true}
	}
	if text := p.marks.text(e.Digest); text != "" && (e.PCR == 4 || e.PCR == 5) {
		return Name{Kind: eventlog.KindAction, Name: text, Proven: true}
	}
	n := p.count[e.PCR]
	p.count[e.PCR]++
	switch e.PCR {
	case 4:
		return p.image(i)
	case 7:
		return p.policy(n)
	case 11:
		return p.stub(e, n)
	}
	return other(e.PCR, n, e.PCR < 8 && p.closed[e.PCR])
}

// image names an image of PCR 4.
func (p *placer) image(i int) Name {
	switch {
	case p.loader > 0 && i == p.loader-1:
		return Name{Kind: eventlog.KindBootLoader, Name: "boot loader"}
	case p.loader > 0 && i >= p.loader:
		return Name{Kind: eventlog.KindKernel, Name: "program that the boot loader started"}
	default:
		return Name{Kind: eventlog.KindBootLoader, Name: "program that firmware started"}
	}
}

// policy names what PCR 7 has: variables, then what verified the images.
func (p *placer) policy(n int) Name {
	switch {
	case !p.closed[7] && n < len(variables):
		return Name{Kind: eventlog.KindVariable, Name: variables[n]}
	case !p.closed[7]:
		return Name{Kind: eventlog.KindVariable, Name: fmt.Sprintf("variable %d", n+1)}
	default:
		return Name{Kind: eventlog.KindAuthority, Name: fmt.Sprintf("authority %d", n+1)}
	}
}

// stub names a section of a unified kernel image: its name has a known digest, and
// its content comes next.
func (p *placer) stub(e Event, n int) Name {
	if name, ok := p.marks.sections[string(e.Digest)]; ok {
		p.section = name
		return Name{Kind: eventlog.KindOther, Name: "name of section " + name, Proven: true}
	}
	section := p.section
	p.section = ""
	switch section {
	case "":
		return other(11, n, false)
	case ".linux":
		return Name{Kind: eventlog.KindKernel, Name: "kernel"}
	case ".initrd":
		return Name{Kind: eventlog.KindInitrd, Name: "initrd"}
	case ".cmdline":
		return Name{Kind: eventlog.KindCommandLine, Name: "kernel command line"}
	default:
		return Name{Kind: eventlog.KindConfig, Name: "section " + section}
	}
}

// other names by the register alone; numbers tell events of one register apart.
func other(pcr, n int, closed bool) Name {
	kinds := map[int][2]string{
		0: {eventlog.KindFirmware, "firmware"}, 1: {eventlog.KindBootEntry, "firmware setting"},
		2: {eventlog.KindOptionROM, "option ROM"}, 3: {eventlog.KindOther, "option ROM setting"},
		5: {eventlog.KindPartitionTable, "partition table"}, 6: {eventlog.KindOther, "platform event"},
		8: {eventlog.KindConfig, "boot loader command"}, 9: {eventlog.KindOther, "file that the boot loader read"},
		10: {eventlog.KindOther, "IMA entry"}, 12: {eventlog.KindCommandLine, "load options"},
		13: {eventlog.KindOther, "system extension"}, 14: {eventlog.KindMOK, "machine owner keys"},
	}
	k, ok := kinds[pcr]
	if !ok {
		k = [2]string{eventlog.KindOther, "measurement"}
	}
	if closed && pcr != 5 {
		k = [2]string{eventlog.KindOther, "measurement after the separator"}
	}
	return Name{Kind: k[0], Name: fmt.Sprintf("%s %d", k[1], n+1)}
}
