package eventlog

import (
	"bytes"

	"github.com/assay-project/assay/evidence"
)

// grubPrefixes begin the texts that GRUB logs in PCR 8; they are not hashed, so
// they are hints. Older releases wrote a space where newer ones write ": ".
var grubPrefixes = [...]string{"grub_cmd", "grub_kernel_cmdline", "kernel_cmdline", "module_cmdline"}

// grub judges a text of GRUB: what follows the prefix is hashed, without or
// (before 2.06) with the NUL that ends it.
func (k *judge) grub(j *judged) {
	prefix := ""
	for _, p := range grubPrefixes {
		if bytes.HasPrefix(j.Data, []byte(p)) {
			prefix = p
			break
		}
	}
	if prefix == "" {
		k.whole(j, false)
		return
	}
	text := j.Data[len(prefix):]
	var ok bool
	if text, ok = bytes.CutPrefix(text, []byte(": ")); !ok {
		text, _ = bytes.CutPrefix(text, []byte(" "))
	}
	if k.part(j, bytes.TrimRight(text, "\x00")) || k.part(j, text) {
		return
	}
	j.cover = coverLie
}

// grubText returns the text of a proven event of PCR 8.
func grubText(j *judged) []byte { return bytes.TrimRight(j.covered, "\x00") }

// kernelVerbs begin the commands that load Linux.
var kernelVerbs = [...]string{"linux ", "linuxefi ", "linux16 "}

// kernelArgs returns the arguments of a GRUB command that loads Linux. The verb
// is part of what is hashed, which the label kernel_cmdline is not.
func kernelArgs(command []byte) (args []byte, ok bool) {
	for _, verb := range kernelVerbs {
		if args, ok = bytes.CutPrefix(command, []byte(verb)); ok {
			return args, true
		}
	}
	return nil, false
}

// grubBoot is what PCR 8 says.
type grubBoot struct {
	why   evidence.Code // why nothing is known, "" when it is
	lines [][]byte      // distinct arguments of the commands that load a kernel
}

// maxKernels bounds the kernels that GRUB is shown to load.
const maxKernels = 16

// readGRUB reads PCR 8. Only when each of its events is a proven text can none of
// them be a command in disguise.
func (a *analysis) readGRUB() (g grubBoot) {
	if a.chains[8].len == 0 {
		return grubBoot{why: codeNotMeasured}
	}
	for _, j := range a.of(8) {
		if !j.proven() || j.Type != IPL {
			return grubBoot{why: codeUnproven}
		}
		args, ok := kernelArgs(grubText(j))
		if !ok || g.loads(args) {
			continue
		}
		if len(g.lines) == maxKernels {
			return grubBoot{why: codeAmbiguous}
		}
		g.lines = append(g.lines, args)
	}
	return g
}

// loads reports whether text is the arguments of a command that loads a kernel.
func (g *grubBoot) loads(text []byte) bool {
	for _, line := range g.lines {
		if bytes.Equal(line, text) || sameArguments(line, text) {
			return true
		}
	}
	return false
}

// sameArguments compares two command lines without the quotes and backslashes
// that GRUB adds or drops when it joins arguments.
func sameArguments(a, b []byte) bool {
	i, j := 0, 0
	for {
		for i < len(a) && quoting(a[i]) {
			i++
		}
		for j < len(b) && quoting(b[j]) {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if a[i] != b[j] {
			return false
		}
		i, j = i+1, j+1
	}
}

func quoting(c byte) bool { return c == '"' || c == '\'' || c == '\\' }
