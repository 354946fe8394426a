package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// words are what a person reads of one event.
type words struct {
	kind, name, detail, signer string
	proven                     bool
}

// A describer puts the events of a log into words, in log order. It keeps what
// the words of one event depend on from those before: that is for display, and
// follows the order of the log.
type describer struct {
	a        *analysis
	loader   int // index of the event of the boot loader, -1 for none
	images   int // seen in PCR 4 since the loader
	signer   string
	sections map[int]string // content event of PCR 11 -> section name
	left     bool           // ExitBootServices has been logged
}

func newDescriber(a *analysis) *describer {
	d := &describer{a: a, loader: -1, sections: map[int]string{}}
	if j := a.bootLoader(); j != nil {
		d.loader = j.Index
	}
	if all, ok := ukiSections(a.inPCR(11)); ok {
		for _, s := range all {
			d.sections[s.event] = s.name
		}
	}
	return d
}

// describe finishes judging j and returns its words.
func (d *describer) describe(j *judged) words {
	d.a.judge.finish(j)
	w := d.byType(j)
	if w.name == "" {
		w.name = j.Type.String()
	}
	w.name, w.detail = cut(w.name, 200), cut(w.detail, 4096)
	return w
}

// cut bounds a text for display.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func (d *describer) byType(j *judged) words {
	whole := j.cover == coverWhole
	switch j.Type {
	case Separator:
		return words{kind: KindSeparator, name: separatorName(j.Data), proven: whole}
	case EFIAction, Action:
		return d.action(j)
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2:
		return variableWords(j)
	case EFIVariableAuthority:
		return d.authorityWords(j)
	case EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver:
		return d.image(j)
	case EFIGPTEvent, EFIGPTEvent2:
		return words{kind: KindPartitionTable, name: "partition table of the boot disk", detail: gptDetail(j.Data), proven: whole}
	case SCRTMVersion:
		return words{kind: KindFirmware, name: "firmware version", detail: versionText(j.Data), proven: whole}
	case EFIPlatformFirmwareBlob, EFIPlatformFirmwareBlob2, PostCode, PostCode2, SCRTMContents, CPUMicrocode, EFIHCRTMEvent:
		return words{kind: KindFirmware, name: firmwareName(j)}
	case IPL:
		return d.ipl(j)
	case EventTag:
		return tagWords(j)
	case PlatformConfigFlags, EFIHandoffTables, EFIHandoffTables2, TableOfDevices, NonhostConfig, CompactHash:
		return words{kind: KindConfig, name: configName(j), proven: whole}
	default:
		return words{kind: KindOther, name: j.Type.String() + label(j.Data), proven: whole}
	}
}

func separatorName(data []byte) string {
	switch string(data) {
	case separatorZero, separatorOnes:
		return "separator"
	case separatorError:
		return "separator: error while firmware measured"
	case wbclMarker:
		return "separator: end of the Windows boot"
	default:
		return "separator of an unknown form"
	}
}

func (d *describer) action(j *judged) words {
	if j.is(EFIAction, actionExitDone) {
		d.left = true
	}
	return words{kind: KindAction, name: asciiText(j.Data), proven: j.cover == coverWhole}
}

func variableWords(j *judged) words {
	v, err := uefi.ParseVariableData(j.Data)
	if err != nil {
		return words{kind: KindVariable, name: "variable that cannot be read"}
	}
	w := words{kind: KindVariable, name: v.Name(), proven: j.cover == coverWhole}
	switch s, known := slotOf(&v); {
	case known && s >= slotPK && s <= slotDBR:
		w.detail = databaseDetail(v.Data)
	case v.Vendor == uefi.GlobalVariable && isBootEntry(w.name):
		w.kind = KindBootEntry
		if o, err := uefi.ParseLoadOption(v.Data); err == nil {
			path, _ := uefi.DevicePathText(o.DevicePath)
			w.name += ": " + o.Description
			w.detail = path
		}
	case len(v.Data) <= 16:
		w.detail = fmt.Sprintf("%x", v.Data)
	default:
		w.detail = fmt.Sprintf("%d bytes", len(v.Data))
	}
	if w.kind == KindVariable && v.Vendor != uefi.GlobalVariable && v.Vendor != uefi.ImageSecurityDatabase {
		w.name += " (" + v.Vendor.String() + ")"
	}
	return w
}

// isBootEntry reports whether name is Boot#### (UEFI 2.10, 3.3).
func isBootEntry(name string) bool {
	return len(name) == 8 && strings.HasPrefix(name, "Boot") && strings.Trim(name[4:], "0123456789ABCDEF") == ""
}

func databaseDetail(b []byte) string {
	d, err := sigdb.Parse(b)
	if err != nil {
		return "signature list that cannot be read"
	}
	n := d.Count()
	out := fmt.Sprintf("%d certificates, %d hashes", n.Certificates, n.Digests)
	for s := range d.All() {
		if s.Type == sigdb.X509 && len(out) < 2000 {
			out += "\n" + certificate(s.Data)
		}
	}
	return out
}

func (d *describer) image(j *judged) words {
	path := imagePath(j.Data)
	w := words{name: path, signer: d.signer}
	d.signer = ""
	switch {
	case j.PCR == 2:
		w.kind = KindOptionROM
		if w.name == "" {
			w.name = "driver"
		}
	case j.PCR != 4, d.left: // nothing starts as a boot application once the OS has control
		w.kind = KindOther
	case j.Index == d.loader:
		w.kind, d.images = KindBootLoader, 1
		w.name = "boot loader" + inBrackets(path)
	case d.images > 0:
		d.images++
		w.kind = KindBootLoader
		// A kernel that GRUB starts comes from memory, without a file name.
		if path == "" || strings.Contains(strings.ToLower(path), "vmlinuz") {
			w.kind, w.name = KindKernel, "kernel"+inBrackets(path)
		}
	default:
		w.kind = KindOther
	}
	if w.name == "" {
		w.name = "image without a path"
	}
	return w
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// imagePath returns the path in an UEFI_IMAGE_LOAD_EVENT (PFP 10.2.3): four
// 64-bit numbers, of which the last is the length of the device path.
func imagePath(data []byte) string {
	const fixed = 4 * 8
	if len(data) < fixed {
		return ""
	}
	path := data[fixed:]
	if n := binary.LittleEndian.Uint64(data[fixed-8:]); n < uint64(len(path)) {
		path = path[:n]
	}
	if file := uefi.FilePath(path); file != "" {
		return strings.ReplaceAll(strings.TrimPrefix(file, `\`), `\`, "/")
	}
	text, _ := uefi.DevicePathText(path)
	return text
}

func (d *describer) ipl(j *judged) words {
	switch j.PCR {
	case 8:
		return d.grubWords(j)
	case 9:
		return fileWords(j)
	case 11:
		return d.sectionWords(j)
	case 12:
		return words{kind: KindCommandLine, name: "kernel command line", detail: uefi.Text(j.Data), proven: j.cover == coverWhole}
	case 14:
		return words{kind: KindMOK, name: asciiText(j.Data)}
	default:
		return words{kind: KindOther, name: "boot loader data", detail: asciiText(j.Data), proven: j.cover == coverWhole}
	}
}

// grubWords describes a text of GRUB. The label before it is not hashed: a text
// is the command line only as the arguments of a command that loads a kernel.
func (d *describer) grubWords(j *judged) words {
	if j.cover != coverPart {
		return words{kind: KindConfig, name: "boot loader text", detail: asciiText(j.Data), proven: j.cover == coverWhole}
	}
	text := grubText(j)
	w := words{kind: KindConfig, name: "GRUB command", detail: printableText(string(text)), proven: true}
	labelled := bytes.Contains(j.Data[:min(len(j.Data), 24)], []byte("kernel_cmdline"))
	if loads := d.a.grub.loads(text); loads || labelled {
		w.kind, w.name, w.proven = KindCommandLine, "kernel command line", loads
	}
	return w
}

func fileWords(j *judged) words {
	path := asciiText(j.Data)
	w := words{kind: KindConfig, name: path}
	switch lower := strings.ToLower(path); {
	case strings.Contains(lower, "vmlinu"), strings.Contains(lower, "bzimage"):
		w.kind, w.name = KindKernel, "kernel"+inBrackets(path)
	case strings.Contains(lower, "initr"), strings.Contains(lower, "initramfs"):
		w.kind, w.name = KindInitrd, "initrd"+inBrackets(path)
	}
	return w
}

// sectionKinds are the kinds of the sections of a unified kernel image.
var sectionKinds = map[string]string{".linux": KindKernel, ".initrd": KindInitrd, ".cmdline": KindCommandLine}

func (d *describer) sectionWords(j *judged) words {
	name, proven := d.sections[j.Index]
	if !proven {
		if j.cover == coverPart {
			return words{kind: KindConfig, name: "name of section " + uefi.Text(j.Data), proven: true}
		}
		name = uefi.Text(j.Data)
	}
	kind := sectionKinds[name]
	if kind == "" {
		kind = KindConfig
	}
	return words{kind: kind, name: "UKI section " + name, proven: proven}
}

// DescribeUnmeasured says in words what a record that no register covers states,
// "" for a measured one.
func DescribeUnmeasured(e Event) string {
	locality, isLocality := startupLocality(&e)
	switch {
	case e.Measured():
		return ""
	case isSpecID(&e):
		return "form of the log: " + asciiText(e.Data)
	case isLocality:
		return fmt.Sprintf("TPM was started from locality %d", locality)
	case e.PCR == NoPCR && isSIPA(e.Data):
		return "Windows: trust point, not measured"
	default:
		return "not measured: " + cut(asciiText(e.Data), 200)
	}
}
