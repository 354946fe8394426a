// Package baseline keeps what a machine measured when it booted well, and says
// what a later boot measured otherwise: which component, old and new, in words.
//
// A baseline is a set of acceptable digests for each event of each PCR, with the
// values that they lead to. [Baseline.Compare] judges a boot that the caller has
// confirmed against a quote; given one that was only inspected, the result is for
// a person to read and proves nothing. It never says that the first boot was a
// good one. Order inside a PCR matters; order between PCRs, which no register
// covers, never does.
//
// Early and late boot are Google's terms (Shielded VM integrity monitoring):
// until the firmware passes control to the boot loader, and from there on.
// Start with [From] and [Baseline.Compare].
package baseline

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/tpm2"
)

// Version is the newest format that this package reads. It writes it for baselines that
// name the banks of their boot, and 1 for others.
const Version = 2

// Boot is one boot, as eventlog.Confirmed (proven by a quote) and
// eventlog.Inspected (for reading only) give it.
type Boot interface {
	Bank() tpm2.Alg
	// Confirms reports whether the value of a register is believed.
	Confirms(pcr int) bool
	// Early and Late give values by PCR. A register that is believed and has no
	// late value was never extended.
	Early() map[int][]byte
	Late() map[int][]byte
	Components() []eventlog.Component
}

// Banked is a boot of which the TPM recorded all its banks, as its owner's own record
// does and no log: a quote proves the log of one bank.
type Banked interface {
	Boot
	// Others are the same boot in the other banks that were active. One of which not every
	// register is what was measured in the bank of the boot confirms nothing. known is
	// false when it is not known which banks there were.
	Others() (others []Boot, known bool)
}

// Shape is what PCR 0 of a virtual machine depends on besides its firmware. All
// members may be empty, which means that they are not known.
type Shape struct {
	Machine   string `json:"machine,omitempty"`  // what the operator calls the kind of machine
	Firmware  string `json:"firmware,omitempty"` // package or build of the firmware
	VCPUs     int    `json:"vcpus,omitempty"`
	MemoryMiB int    `json:"memoryMiB,omitempty"`
	// MemoryTypeInformation is the content, in hex, of the firmware variable of
	// that name; OVMF writes it by itself.
	MemoryTypeInformation string `json:"memoryTypeInformation,omitempty"`
}

// sameHardware reports whether both shapes say all that OVMF's PCR 0 depends on,
// and say the same.
func (s Shape) sameHardware(o Shape) bool {
	known := s.VCPUs > 0 && s.MemoryMiB > 0 && s.MemoryTypeInformation != "" && s.Firmware != ""
	return known && s.VCPUs == o.VCPUs && s.MemoryMiB == o.MemoryMiB &&
		s.MemoryTypeInformation == o.MemoryTypeInformation && s.Firmware == o.Firmware
}

// A Baseline is immutable once made; it is safe for concurrent use.
type Baseline struct {
	bank    tpm2.Alg
	shape   Shape
	pcrs    map[int]register
	windows bool
	// others are of the other banks, when banks says that all of the boot are known.
	others []*Baseline
	banks  bool
}

// A register is what a baseline accepts in one PCR.
type register struct {
	early, late [][]byte // acceptable values; early is empty where there is no such value
	events      []event
}

// An event is one position in the sequence of a register.
type event struct {
	digests                         [][]byte // acceptable ones
	kind, component, detail, signer string
	proven                          bool // words follow from data that the digest covers
	late                            bool
	modules                         []module // listed by the event, not extended themselves
}

type module struct{ name, digest, signer string }

// compared reports whether a register can belong to a baseline. PCR 10 holds the
// IMA list, 15 what user space measures, 16 and 23 are for applications, and 17
// to 22 for a dynamic launch.
func compared(pcr int) bool { return pcr >= 0 && pcr <= 14 && pcr != 10 }

// From makes a baseline of a boot that the caller found good, in every bank that confirms
// it.
func From(b Boot, shape Shape) *Baseline {
	out := from(b, shape)
	banked, ok := b.(Banked)
	if !ok {
		return out
	}
	var others []Boot
	if others, out.banks = banked.Others(); out.banks {
		for _, o := range others {
			if even(o) {
				out.others = append(out.others, from(o, shape))
			}
		}
	}
	return out
}

func from(b Boot, shape Shape) *Baseline {
	out := &Baseline{bank: b.Bank(), shape: shape, pcrs: map[int]register{}}
	all, early, late := sequences(b), b.Early(), b.Late()
	for pcr := range 24 {
		if !compared(pcr) || !b.Confirms(pcr) {
			continue
		}
		r := register{late: [][]byte{lateValue(late, pcr, out.bank)}, events: all[pcr]}
		if v, ok := early[pcr]; ok {
			r.early = [][]byte{bytes.Clone(v)}
		}
		out.pcrs[pcr] = r
	}
	out.windows = out.isWindows()
	return out
}

// Bank returns the algorithm of the values and digests.
func (b *Baseline) Bank() tpm2.Alg { return b.bank }

// Shape returns the shape of the machine that the baseline was made on.
func (b *Baseline) Shape() Shape { return b.shape }

// PCRs returns the registers that the baseline has values of, in order.
func (b *Baseline) PCRs() []int {
	out := make([]int, 0, len(b.pcrs))
	for pcr := range b.pcrs {
		out = append(out, pcr)
	}
	slices.Sort(out)
	return out
}

// Late returns the values of the whole boot that the baseline accepts in a register, at
// least one; nil when it has none of the register.
func (b *Baseline) Late(pcr int) [][]byte {
	var out [][]byte
	for _, v := range b.pcrs[pcr].late {
		out = append(out, bytes.Clone(v))
	}
	return out
}

// Windows reports whether the baseline is of a Windows boot: one whose PCRs 12 to
// 14 end with the separator that Windows puts there. What decides is the
// baseline, which is trusted, and not the boot that is judged by it.
func (b *Baseline) Windows() bool { return b.windows }

func (b *Baseline) isWindows() bool {
	want := digest(b.bank, []byte("WBCL"))
	for _, pcr := range []int{12, 13} {
		if !slices.ContainsFunc(b.pcrs[pcr].events, func(e event) bool { return e.accepts(want) }) {
			return false
		}
	}
	return want != nil
}

// lateValue is the value of a believed register: zero when nothing extended it.
func lateValue(late map[int][]byte, pcr int, bank tpm2.Alg) []byte {
	if v, ok := late[pcr]; ok {
		return bytes.Clone(v)
	}
	return make([]byte, bank.DigestSize())
}

// sequences sorts the components of a boot by PCR. The modules that an event of
// Windows lists are no events of their own.
func sequences(b Boot) map[int][]event {
	out := map[int][]event{}
	for _, c := range b.Components() {
		if !compared(c.PCR) {
			continue
		}
		of := out[c.PCR]
		if c.Kind == eventlog.KindModule {
			if n := len(of); n > 0 {
				of[n-1].modules = append(of[n-1].modules, module{line(c.Name), hex.EncodeToString(c.Digest), line(c.Signer)})
			}
			continue
		}
		out[c.PCR] = append(of, event{
			digests: [][]byte{bytes.Clone(c.Digest)}, kind: c.Kind, component: line(c.Name),
			detail: clean(c.Detail), signer: line(c.Signer), proven: c.Proven, late: c.Late,
		})
	}
	return out
}

func (e event) accepts(d []byte) bool {
	return d != nil && slices.ContainsFunc(e.digests, func(x []byte) bool { return bytes.Equal(x, d) })
}

// replay extends the first digest of each event, from a start value whose last
// byte is the startup locality (PFP 10.4.5.3), and reports which start leads to
// one of the values.
func replay(bank tpm2.Alg, events []event, values [][]byte) (start byte, ok bool) {
	if _, known := bank.Hash(); !known {
		return 0, false
	}
	for _, start := range []byte{0, 3, 4} {
		if holds(values, extended(bank, start, events)) {
			return start, true
		}
	}
	return 0, false
}

// extended is the value of a register that begins with a last byte and is extended by the
// first digest of each event; nil for a bank that is not known.
func extended(bank tpm2.Alg, start byte, events []event) []byte {
	h, known := bank.Hash()
	if !known {
		return nil
	}
	sum := h.New()
	v := make([]byte, bank.DigestSize())
	v[len(v)-1] = start
	for _, e := range events {
		sum.Reset()
		sum.Write(v)
		sum.Write(e.digests[0])
		v = sum.Sum(v[:0])
	}
	return v
}

func holds(values [][]byte, v []byte) bool {
	return slices.ContainsFunc(values, func(x []byte) bool { return bytes.Equal(x, v) })
}

func digest(bank tpm2.Alg, data []byte) []byte {
	h, ok := bank.Hash()
	if !ok {
		return nil
	}
	sum := h.New()
	sum.Write(data)
	return sum.Sum(nil)
}

// maxWord bounds every text of a baseline, in bytes. A kernel command line has at
// most 4,096 (COMMAND_LINE_SIZE is 2,048 on x86).
const maxWord = 4096

// clean makes guest text fit to be shown: bounded, without control characters
// but for the line ends of lists.
func clean(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxWord)], "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	end := min(len(s), maxWord) // a replacement is longer than what it stands for
	for end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// line is clean for what must stay on one line.
func line(s string) string { return strings.ReplaceAll(clean(s), "\n", " ") }
