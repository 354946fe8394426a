package eventlog

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
)

// maxListed bounds the digests that a claim lists. No boot comes near it; more
// are a register that somebody filled.
const maxListed = 512

// bootImages makes the claims of PCR 4. The register has no closing marker:
// only the whole list says what ran, so the list is the claim.
func (c *claimant) bootImages() {
	var all []string
	for _, j := range c.of(4) {
		if isImage(j) && len(all) <= maxListed {
			all = append(all, hex.EncodeToString(j.digest))
		}
	}
	why := c.strangeInPCR4()
	switch {
	case why != "":
	case len(all) == 0:
		why = codeNotMeasured
	case len(all) > maxListed:
		why = codeAmbiguous
	}
	c.text("bootImages", strings.Join(all, "\n"), why, 4)
	loader, why := c.onlyBootLoader()
	c.text("bootLoader", loader, why, 4)
	c.partitionTable()
}

// strangeInPCR4 says why the images of PCR 4 are not known, "" when they are.
// The type of an event is not hashed, so that anything but an image, a separator
// or the text of an action can be an image that is to be overlooked.
func (a *analysis) strangeInPCR4() evidence.Code {
	for _, j := range a.of(4) {
		if !isImage(j) && !j.is(Separator, separatorZero) && !j.is(Separator, separatorOnes) && !isAction(j) {
			return codeUnexpected
		}
	}
	return ""
}

// isAction reports whether j is proven to be an action in words. No image and no
// variable is printable from end to end.
func isAction(j *judged) bool {
	return j.Type == EFIAction && j.cover == coverWhole && !bytes.ContainsFunc(j.Data, func(r rune) bool { return r < ' ' || r > '~' })
}

// onlyBootLoader returns the digest of the boot loader when PCR 4 leaves no
// doubt which image it is. Since anybody can append a failed attempt and another
// image, or an image after a directly loaded kernel, those leave doubt.
func (a *analysis) onlyBootLoader() (string, evidence.Code) {
	if why := a.strangeInPCR4(); why != "" {
		return "", why
	}
	before, separated := 0, false
	for _, j := range a.of(4) {
		switch {
		case j.is(EFIAction, actionReturning):
			return "", codeAmbiguous
		case j.is(Separator, separatorZero), j.is(Separator, separatorOnes):
			if separated {
				return "", codeAmbiguous
			}
			separated = true
		case !isImage(j):
		case !separated:
			before++
		case before > 0:
			return "", codeAmbiguous
		}
	}
	j := a.bootLoader()
	switch {
	case !separated:
		return "", codeNoSeparator
	case j == nil:
		return "", codeNotMeasured
	case before > 1:
		return "", codeAmbiguous
	default:
		return hex.EncodeToString(j.digest), ""
	}
}

func (c *claimant) partitionTable() {
	table, why := "", codeNotMeasured
	for _, j := range c.of(5) {
		if j.Type != EFIGPTEvent && j.Type != EFIGPTEvent2 || why != codeNotMeasured || j.closed {
			continue
		}
		e := *j
		c.judge.finish(&e)
		if why = codeUnproven; e.cover == coverWhole {
			table, why = hex.EncodeToString(e.digest), ""
		}
	}
	c.text("partitionTable", table, why, 5)
}

// bootLoader returns the image that firmware gave control to in the last
// attempt, or nil. A directly loaded kernel comes before the separator.
func (a *analysis) bootLoader() *judged {
	var before, after *judged
	separated := false
	for _, j := range a.of(4) {
		switch {
		case j.is(Separator, separatorZero), j.is(Separator, separatorOnes):
			separated = true
		case j.is(EFIAction, actionReturning):
			after = nil // the attempt failed
		case !isImage(j):
		case !separated:
			before = j
		case after == nil:
			after = j
		}
	}
	if after != nil {
		return after
	}
	return before
}

// linux makes the claims of Linux boot loaders: GRUB in PCR 8 and 9,
// systemd-stub in PCR 11 and 12, shim in PCR 14. They hold as far as the programs
// of PCR 4 can be trusted to measure what they start, so PCR 4 is named as well.
func (c *claimant) linux() {
	if c.log.format == FormatWBCL && !c.linuxSigns() {
		for _, name := range linuxClaims {
			c.text(name, "", codeNotMeasured)
		}
		return
	}
	sections, stub := ukiSections(c.inPCR(11))
	c.sections(sections, stub)
	c.digests("bootFiles", 9)
	c.digests("mokState", 14)

	line, why := c.grubCommandLine()
	if c.chains[8].len == 0 {
		line, why = c.stubCommandLine(sections, stub)
	}
	// Whoever did not start the kernel left its registers for anybody to fill: what
	// one register says holds only beside proof of what is in the others.
	pcrs := []int{4, 8, 11, 12}
	c.text("kernelCommandLine", line, why, pcrs...)
	debug, flags := debugFlags(line)
	c.truth("kernelDebug", debug, why, pcrs...)
	c.text("kernelDebugFlags", strings.Join(flags, " "), why, pcrs...)
}

// linuxClaims are those that linux makes and Windows never does.
var linuxClaims = [...]string{"bootFiles", "initrd", "kernel", "kernelCommandLine", "kernelCommandLine.digest", "kernelDebugFlags", "mokState", "osRelease", "ukiSections"}

// linuxSigns reports whether something started a Linux kernel, or may have. Then a
// log makes no claim about Windows, whose events can be appended at run time.
// Windows leaves PCR 8 and 9 alone; the kernel's own EFI stub uses PCR 9. A
// person who only looks at a log is shown what Windows says beside a unified
// kernel image, too.
func (a *analysis) linuxSigns() bool {
	return a.grubStarts() || !a.shown && (a.chains[9].len > 0 || a.hasUKI())
}

// grubStarts reports whether GRUB loaded a kernel, or may have.
func (a *analysis) grubStarts() bool {
	return len(a.grub.lines) > 0 || a.grub.why != "" && a.grub.why != codeNotMeasured
}

// hasUKI reports whether PCR 11 has the digest that systemd-stub begins with,
// whatever the log calls it.
func (a *analysis) hasUKI() bool {
	for _, j := range a.of(11) {
		if a.judge.matches(j, stubSections[".linux"].hashed) {
			return true
		}
	}
	return false
}

func (a *analysis) inPCR(pcr uint32) []*judged {
	var out []*judged
	for _, j := range a.of(pcr) {
		out = append(out, j)
	}
	return out
}

// digests lists what was measured into a register by others than Windows.
func (c *claimant) digests(name string, pcr int) {
	var all []string
	for n, j := range c.of(uint32(pcr)) {
		if n <= maxListed {
			all = append(all, hex.EncodeToString(j.digest))
		}
	}
	why := evidence.Code("")
	switch {
	case len(all) == 0:
		why = codeNotMeasured
	case len(all) > maxListed:
		why = codeAmbiguous
	case c.log.format == FormatWBCL && pcr == 14:
		why = codeAmbiguous // Windows measures its authorities there
	}
	c.text(name, strings.Join(all, "\n"), why, 4, pcr)
}

// grubCommandLine finds the command line among the texts of PCR 8. The label of
// a text is not hashed, so a text counts as the command line only beside the
// proven command that loads the kernel with the same arguments; and only when
// there is but one such command, since another could have been appended later.
func (a *analysis) grubCommandLine() (string, evidence.Code) {
	switch g := &a.grub; {
	case len(g.lines) > 0 && a.stubSigns():
		// Either GRUB or the stub started the kernel; the other's register was free to fill.
		return "", codeAmbiguous
	case g.why != "":
		return "", g.why
	case len(g.lines) == 0:
		return "", codeNotMeasured
	case len(g.lines) > 1:
		return "", codeAmbiguous
	}
	for _, j := range a.of(8) {
		if text := grubText(j); a.grub.loads(text) {
			return string(text), "" // as handed to the kernel, with its quotes
		}
	}
	return string(a.grub.lines[0]), ""
}

// stubSigns reports whether systemd-boot or its stub may have measured anything:
// the type of an event, which no digest covers, does not tell.
func (a *analysis) stubSigns() bool { return a.chains[11].len > 0 || a.chains[12].len > 0 }

// stubCommandLine finds the command line among the events of PCR 12. A stub
// that has a .cmdline section uses that, and the log has only its digest.
func (c *claimant) stubCommandLine(sections []ukiSection, stub bool) (string, evidence.Code) {
	if c.chains[11].len > 0 && !stub {
		return "", codeUnproven
	}
	for _, s := range sections {
		if s.name == ".cmdline" {
			return "", codeDigestOnly
		}
	}
	var lines []string
	for _, j := range c.of(12) {
		if j.Type != IPL || j.cover != coverWhole || len(j.Data)%2 != 0 {
			return "", codeUnproven
		}
		lines = append(lines, strings.TrimSpace(uefi.Text(j.Data)))
	}
	return single(lines, "")
}

// sections makes the claims of a unified kernel image.
func (c *claimant) sections(all []ukiSection, ok bool) {
	none := evidence.Code("")
	switch {
	case c.chains[11].len == 0 && c.chains[9].len > 0:
		none = codeUnproven // GRUB measures files; which is which it says only in words
	case c.chains[11].len == 0:
		none = codeNotMeasured
	case c.grubStarts():
		none = codeAmbiguous // GRUB started the kernel, or may have, and PCR 11 was free to fill
	case !ok:
		none = codeUnproven
	}
	var lines []string
	byName := map[string]string{}
	for _, s := range all {
		byName[s.name] = hex.EncodeToString(s.digest)
		lines = append(lines, s.name+" "+byName[s.name])
	}
	c.text("ukiSections", strings.Join(lines, "\n"), none, 4, 8, 11)
	for name, section := range map[string]string{"kernel": ".linux", "initrd": ".initrd", "kernelCommandLine.digest": ".cmdline", "osRelease": ".osrel"} {
		why, pcrs := none, []int{4, 8, 11}
		if _, found := byName[section]; why == "" && !found {
			why = codeNotMeasured
		}
		if section == ".cmdline" {
			// The stub measures into PCR 12 what it appends to the section, or takes in its place.
			pcrs = append(pcrs, 12)
			if why == "" && c.chains[12].len > 0 {
				why = codeAmbiguous
			}
		}
		c.text(name, byName[section], why, pcrs...)
	}
}

// debuggers are arguments that let somebody with a console into the machine.
var debuggers = [...]string{"kgdboc", "kgdbwait", "kgdbdbgp", "kdb", "rd.break", "rd.shell", "rdinit", "systemd.debug_shell", "systemd.debug-shell", "single", "emergency", "rescue", "debug"}

// weakeners are arguments that turn a protection off when they have the value given.
var weakeners = [...]string{
	"module.sig_enforce=0", "lockdown=none", "ima_appraise=off", "ima_appraise=log", "ima_appraise=fix", "mitigations=off", "efi=debug", "selinux=0", "apparmor=0",
	"enforcing=0", "audit=0", "iommu=off", "intel_iommu=off", "amd_iommu=off", "noefi", "nokaslr", "nosmep", "nosmap", "nopti", "init_on_alloc=0", "slub_debug=-",
}

// inits are the programs that an init= argument starts on an ordinary system.
var inits = [...]string{"/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"}

// debugFlags returns the arguments of a command line that a strict policy
// refuses; debug is set when one of them opens the machine to a debugger or shell.
func debugFlags(line string) (debug bool, flags []string) {
	for arg := range strings.FieldsSeq(line) {
		arg = strings.Trim(arg, `"'`)
		name, value, _ := strings.Cut(arg, "=")
		switch {
		case name == "init" && !slices.Contains(inits[:], value), slices.Contains(debuggers[:], name) && value != "0":
			debug = true
			flags = append(flags, arg)
		case slices.Contains(weakeners[:], arg):
			flags = append(flags, arg)
		}
	}
	return debug, flags
}
