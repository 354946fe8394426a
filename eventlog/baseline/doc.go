package baseline

import (
	"fmt"
	"strings"
)

// PCRDoc returns docs/pcrs.md: the diagnosis table of registers, and which of
// them each profile judges.
func PCRDoc() string {
	var b strings.Builder
	b.WriteString(`# What each PCR covers, and why it changes

This page is made from the table in ` + "`eventlog/baseline/pcr_table.go`" + `; a test keeps it so. *Early* is the time until the firmware
passes control to the boot loader, *late* the whole boot. A difference in a register that a profile does not judge is listed
and decides nothing.

| PCR | covers | usual causes of a change | what to do |
|---|---|---|---|
`)
	for _, p := range PCRs() {
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", p.PCR, p.Covers, p.Causes, p.Action)
	}
	b.WriteString("\n## Profiles\n\n| profile | system | early | late | late, only what follows the early part |\n|---|---|---|---|---|\n")
	for _, p := range []Profile{Default(), GCE()} {
		for _, os := range []struct {
			name string
			j    judgement
		}{{"Linux", p.linux}, {"Windows", p.windows}} {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", p.Name, os.name, list(os.j.early), list(os.j.late), list(os.j.tail))
		}
	}
	b.WriteString(`
A baseline is of Windows when its PCRs 12 and 13 hold the separator that Windows measures there. PCR 0 of OVMF is judged by its
second firmware volume, which is constant; the first depends on the size of the machine ([baseline files](formats/baseline.md)).
`)
	return b.String()
}

func list(pcrs []int) string {
	if len(pcrs) == 0 {
		return "–"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(pcrs), " ", ", "), "[]")
}
