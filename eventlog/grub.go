package eventlog

import (
	"bytes"
	"strings"
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
func grubText(j *judged) string { return string(bytes.TrimRight(j.covered, "\x00")) }

// kernelArgs returns the arguments of a GRUB command that loads Linux. The verb
// is part of what is hashed, which the label kernel_cmdline is not.
func kernelArgs(command string) (args string, ok bool) {
	for _, verb := range [...]string{"linux ", "linuxefi ", "linux16 "} {
		if args, ok = strings.CutPrefix(command, verb); ok {
			return args, true
		}
	}
	return "", false
}

// unquoted removes what GRUB adds or drops when it joins arguments.
func unquoted(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(s)), " ")
}
