package sipa

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
)

// A register pair is where Windows measures a fact: the short form in one PCR
// and the detailed form in the next, 12 and 13, or 19 and 20 after a dynamic
// launch. Only the first pair is ever closed, so that only it supports a claim.
type registers uint8

const (
	both     registers = iota // stated in each register of the pair
	summary                   // stated in PCR 12 (19) alone
	detailed                  // stated in PCR 13 (20) alone
)

// open reports whether a register has no closing marker: anybody could have
// appended what it says.
func open(pcr int) bool { return pcr >= 19 }

// A finding is what the events say on one question: a value, or why there is
// none; and the registers that say it.
type finding struct {
	value evidence.Value
	why   evidence.Code
	pcrs  []int
}

func unknown(why evidence.Code, pcrs []int) finding { return finding{why: why, pcrs: pcrs} }

func (c *collector) set(name string, f finding) {
	if f.value.Known() {
		c.result.Claims.Set(name, f.value, f.pcrs...)
		return
	}
	c.result.Claims.Unknown(name, f.why, f.pcrs...)
}

// values returns what was measured under id, in order, once the registers agree
// on it: boot applications measure each scalar into both of a pair. What PCR 19
// and 20 say must be among what PCR 12 and 13 say.
func (c *collector) values(id ID, where registers) (vs [][]byte, pcrs []int, why evidence.Code) {
	if c.broken != "" {
		return nil, nil, c.broken
	}
	per := map[int][][]byte{}
	for _, o := range c.seen[id] {
		per[o.pcr] = append(per[o.pcr], o.value)
		if !slices.Contains(pcrs, o.pcr) {
			pcrs = append(pcrs, o.pcr)
		}
	}
	slices.Sort(pcrs)
	for _, pcr := range pcrs {
		if !allowed(pcr, where) {
			return nil, pcrs, codeDisagree
		}
	}
	for _, first := range []int{12, 19} {
		a, b := per[first], per[first+1]
		if where == both && !slices.EqualFunc(a, b, bytes.Equal) {
			if c.there[first] != c.there[first+1] {
				return nil, pcrs, codeHalf
			}
			return nil, pcrs, codeDisagree
		}
		if where == detailed {
			a = b
		}
		if !open(first) {
			vs = a
			continue
		}
		if len(a) > 0 && len(vs) == 0 {
			return nil, pcrs, codeOpen
		}
		if !among(vs, a) {
			return nil, pcrs, codeDisagree
		}
	}
	if len(vs) == 0 {
		return nil, nil, c.absent()
	}
	return vs, slices.DeleteFunc(pcrs, open), ""
}

// among reports whether vs has every value of part.
func among(vs, part [][]byte) bool {
	for _, v := range part {
		if !slices.ContainsFunc(vs, func(w []byte) bool { return bytes.Equal(v, w) }) {
			return false
		}
	}
	return true
}

func allowed(pcr int, where registers) bool {
	switch pcr {
	case 12, 19:
		return where != detailed
	case 13, 20:
		return where != summary
	default:
		return false
	}
}

// absent says why nothing was measured. The resume application loads few
// modules and measures no state of the kernel: that is in the log of the cold boot.
func (c *collector) absent() evidence.Code {
	if c.result.Counters.Resumed.IsTrue() {
		return codeResumed
	}
	return codeNotMeasured
}

// doubt notes when PCR 19 to 22 state another value of id than PCR 12 and 13 do.
func (c *collector) doubt(id ID) {
	var closed, opened [][]byte
	for _, o := range c.seen[id] {
		if open(o.pcr) {
			opened = append(opened, o.value)
		} else {
			closed = append(closed, o.value)
		}
	}
	if len(closed) > 0 && !among(closed, opened) {
		c.result.Doubtful = true
	}
}

// agreed is the rule "all": every occurrence is the same.
func (c *collector) agreed(id ID, where registers, read func([]byte) (evidence.Value, bool)) finding {
	c.doubt(id)
	vs, pcrs, why := c.values(id, where)
	if why != "" {
		return unknown(why, pcrs)
	}
	for _, v := range vs[1:] {
		if !bytes.Equal(v, vs[0]) {
			return unknown(codeDisagree, pcrs)
		}
	}
	v, ok := read(vs[0])
	if !ok {
		return unknown(codeValue, pcrs)
	}
	return finding{value: v, pcrs: pcrs}
}

// rules that read one identifier.

func flag(id ID) rule {
	return func(c *collector, name string) { c.set(name, c.agreed(id, both, readBool)) }
}

func textOf(id ID, where registers, read func([]byte) (string, bool)) rule {
	return func(c *collector, name string) { c.set(name, c.agreed(id, where, asText(read))) }
}

func readBool(b []byte) (evidence.Value, bool) {
	v, ok := boolean(b)
	return evidence.Bool(v), ok
}

// nonZero is for settings whose values above zero all mean "on".
func nonZero(b []byte) (evidence.Value, bool) {
	n, ok := integer(b)
	return evidence.Bool(n != 0), ok
}

func asText(read func([]byte) (string, bool)) func([]byte) (evidence.Value, bool) {
	return func(b []byte) (evidence.Value, bool) {
		s, ok := read(b)
		return evidence.Text(s), ok
	}
}

func decimal(b []byte) (string, bool) {
	n, ok := integer(b)
	return fmt.Sprint(n), ok
}

// rules that read more.

// vbsRequired: either of two settings asks for virtualization-based security.
func (c *collector) vbsRequired() finding {
	a := c.agreed(VBSVSMRequired, both, readBool)
	b := c.agreed(VBSMandatoryEnforcement, both, readBool)
	for _, f := range []finding{a, b} {
		if f.value.IsTrue() || f.why != "" && f.why != c.absent() {
			return f
		}
	}
	if a.value.Known() {
		return a
	}
	return b
}

func vbsRequired(c *collector, name string) { c.set(name, c.vbsRequired()) }

func vbs(c *collector, name string) {
	launched, required := c.agreed(VSMLaunchType, both, nonZero), c.vbsRequired()
	switch {
	case !launched.value.IsTrue():
		c.set(name, launched)
	default:
		c.set(name, required)
	}
}

func bitlocker(c *collector, name string) {
	vs, pcrs, why := c.values(BitlockerUnlock, both)
	if why != "" {
		c.set(name, unknown(why, pcrs))
		return
	}
	// The first boot application that opened the volume says how; those after it
	// find the key in memory.
	var first uint64
	for _, v := range vs {
		n, ok := integer(v)
		if !ok {
			c.set(name, unknown(codeValue, pcrs))
			return
		}
		if first == 0 {
			first = n
		}
	}
	c.set(name, finding{value: evidence.Text(unlockText(first)), pcrs: pcrs})
}

// bootManagerSVN is the first APPLICATION_SVN: the boot manager comes first.
func bootManagerSVN(c *collector, name string) {
	vs, pcrs, why := c.values(ApplicationSVN, both)
	if why != "" {
		c.set(name, unknown(why, pcrs))
		return
	}
	n, ok := decimal(vs[0])
	if !ok {
		c.set(name, unknown(codeValue, pcrs))
		return
	}
	c.set(name, finding{value: evidence.Text(n), pcrs: pcrs})
}

func codeIntegrityPolicy(c *collector, name string) {
	vs, pcrs, why := c.values(SIPolicy, detailed)
	if why != "" {
		c.set(name, unknown(why, pcrs))
		return
	}
	var out []string
	for _, v := range vs {
		s, ok := siPolicy(v)
		if !ok {
			c.set(name, unknown(codeValue, pcrs))
			return
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	c.set(name, finding{value: evidence.Text(strings.Join(out, ", ")), pcrs: pcrs})
}

func resumed(c *collector, name string) {
	f := c.control()
	c.set(name, f)
}

func (c *collector) control() finding {
	vs, pcrs, why := c.values(TransferControl, summary)
	if why != "" {
		return unknown(why, pcrs)
	}
	woke := false
	for _, v := range vs {
		n, ok := integer(v)
		switch {
		case ok && n == controlResume:
			woke = true
		case ok && (n == controlOSLoader || n == controlHypervisor):
		default:
			return unknown(codeValue, pcrs)
		}
	}
	return finding{value: evidence.Bool(woke), pcrs: pcrs}
}

func (c *collector) counters() {
	k := &c.result.Counters
	k.Resumed = c.control().value
	for _, o := range c.seen[TransferControl] {
		// What PCR 12 says of a resume no other register takes back.
		if n, ok := integer(o.value); !open(o.pcr) && (!ok || n == controlResume) {
			c.result.Doubtful = true
		}
	}
	if vs, _, why := c.values(BootCounter, summary); why == "" && len(vs) == 1 && len(vs[0]) == 8 {
		k.Boot, k.Known = binary.LittleEndian.Uint64(vs[0]), true
	}
	for id, to := range map[ID]*uint64{EventCounter: &k.Event, CounterID: &k.ID} {
		if vs, _, why := c.values(id, summary); why == "" && len(vs) == 1 {
			*to, _ = integer(vs[0])
		}
	}
}

func bootCounter(c *collector, name string) {
	f := c.agreed(BootCounter, summary, asText(decimal))
	c.set(name, f)
}

func modulesValidated(c *collector, name string) {
	switch {
	case c.broken != "":
		c.set(name, unknown(c.broken, nil))
		return
	case !c.sameModules():
		c.set(name, unknown(codeDisagree, c.modulePCRs()))
		return
	case !slices.ContainsFunc(c.modules, func(m Module) bool { return !open(m.PCR) }):
		c.set(name, unknown(c.absent(), nil))
		return
	}
	f := finding{value: evidence.Bool(true), pcrs: c.modulePCRs()}
	for _, m := range c.modules {
		if m.Validated.IsFalse() {
			f.value = evidence.Bool(false)
			break
		}
		if !m.Validated.Known() {
			f = unknown(codeNotMeasured, f.pcrs)
		}
	}
	c.set(name, f)
}

func (c *collector) modulePCRs() []int {
	var out []int
	for _, o := range c.seen[AuthenticodeHash] {
		out = append(out, o.pcr)
	}
	for _, m := range c.modules {
		out = append(out, m.PCR)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// elamDrivers returns the early-launch anti-malware drivers. Windows Defender's
// configuration stays in the log when another product has taken its place, so
// its key name proves nothing without its driver; of other products the key
// name is enough.
func (c *collector) elamDrivers() (found []string, pcrs []int, why evidence.Code) {
	if c.broken != "" {
		return nil, nil, c.broken
	}
	listed := c.sameModules()
	for _, m := range c.modules {
		if !m.isELAM() || open(m.PCR) {
			continue
		}
		if !m.Validated.IsTrue() || !listed {
			return nil, c.modulePCRs(), codeNotValidated
		}
		found = append(found, m.Name())
		pcrs = append(pcrs, m.PCR)
	}
	for _, o := range c.elam {
		if open(o.pcr) {
			continue
		}
		s, ok := text(o.value)
		if !ok || !allowed(o.pcr, both) {
			return nil, []int{o.pcr}, codeValue
		}
		if len(found) == 0 && s != "" && !strings.EqualFold(s, defenderKey) {
			found = append(found, s)
			pcrs = append(pcrs, o.pcr)
		}
	}
	if len(found) == 0 {
		return nil, nil, c.absent()
	}
	slices.Sort(pcrs)
	return found, slices.Compact(pcrs), ""
}

const defenderKey = "Windows Defender"

func elam(c *collector, name string) {
	_, pcrs, why := c.elamDrivers()
	c.set(name, finding{value: boolIf(why == ""), why: why, pcrs: pcrs})
}

func elamDriver(c *collector, name string) {
	found, pcrs, why := c.elamDrivers()
	if why != "" {
		c.set(name, unknown(why, pcrs))
		return
	}
	c.set(name, finding{value: evidence.Text(strings.Join(found, ", ")), pcrs: pcrs})
}

// boolIf is true or unknown, never false.
func boolIf(proven bool) evidence.Value {
	if proven {
		return evidence.Bool(true)
	}
	return evidence.Value{}
}
