package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/assay-project/assay/evidence"
)

// logFormats are the formats in words.
var logFormats = map[string]string{
	"tcg2": "boot event log (TCG, crypto agile)",
	"tcg1": "boot event log (TCG, SHA-1 only)",
	"wbcl": "boot event log of Windows",
	"cc":   "boot event log of a confidential machine",
	"ima":  "runtime measurement list (IMA)",
}

// printLog writes a log for people.
func printLog(w io.Writer, r *logReport) error {
	fmt.Fprintf(w, "%s, %d events, banks %s; judged by %s\n\n", logFormats[*r.Format], len(r.Events), strings.Join(r.Banks, " "), r.Bank)
	printEvents(w, r)
	printRegisters(w, r)
	printClaims(w, r)
	printFindings(w, r)
	_, err := fmt.Fprintln(w, "\nThe registers were computed from the log. Only a quote over them makes any of this true.")
	return err
}

// proof says how far the words of an event can be believed.
func (e *logEvent) proof() string {
	switch {
	case !e.measured:
		return "unmeasured"
	case e.Proven:
		return "proven"
	default:
		return "hint"
	}
}

func printEvents(w io.Writer, r *logReport) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EVENT\tPCR\tWORDS ARE\tTYPE\tDESCRIPTION")
	for i := range r.Events {
		e := &r.Events[i]
		pcr := strconv.FormatUint(uint64(e.PCR), 10)
		if e.PCR > 23 {
			pcr = "-"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", e.Index, pcr, e.proof(), strings.TrimPrefix(e.Type, "EV_"), oneLine(e.Description))
		for _, m := range e.Modules {
			fmt.Fprintf(t, "\t\t\t  module\t  %s, signed by %s\n", oneLine(m.Name), orUnknown(m.Signer))
		}
	}
	t.Flush()
	fmt.Fprintln(w, `
proven: the words follow from what was hashed into the register. hint: only the
digest is in the register, the words are the log's own. unmeasured: no register
covers the event.`)
}

// lineWidth bounds a description in the table; the JSON has all of it.
const lineWidth = 150

func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	if runes := []rune(s); len(runes) > lineWidth {
		return string(runes[:lineWidth]) + "…"
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return "(not said)"
	}
	return oneLine(s)
}

func printRegisters(w io.Writer, r *logReport) {
	fmt.Fprintln(w, "\nREGISTERS")
	for pcr := range 24 {
		if v, ok := r.PCRs[r.Bank][strconv.Itoa(pcr)]; ok {
			fmt.Fprintf(w, "%-6s  %2d  %s%s\n", r.Bank, pcr, v, early(r, pcr, v))
		}
	}
}

// early adds the value at the hand-over to the boot loader where it differs.
func early(r *logReport, pcr int, late string) string {
	if v, ok := r.Early[strconv.Itoa(pcr)]; ok && v != late {
		return fmt.Sprintf("\n            %s when the boot loader started", v)
	}
	return ""
}

func printClaims(w io.Writer, r *logReport) {
	if len(r.Claims) == 0 {
		return
	}
	fmt.Fprintln(w, "\nCLAIMS")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(r.Claims)) {
		c := r.Claims[name]
		if c.Value.Known() {
			lines := strings.Split(c.Value.String(), "\n")
			if lines[0] == "" {
				lines[0] = "(empty)"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", name, oneLine(lines[0]), by(c))
			for _, line := range lines[1:] {
				fmt.Fprintf(t, "\t%s\t\n", oneLine(line))
			}
		}
	}
	t.Flush()
	why := map[evidence.Code][]string{}
	for name, c := range r.Claims {
		if !c.Value.Known() {
			why[c.Reason] = append(why[c.Reason], name)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(why)) {
		slices.Sort(why[code])
		fmt.Fprintf(w, "unknown (%s): %s\n", code, strings.Join(why[code], ", "))
	}
}

// by names the registers that prove a claim.
func by(c evidence.Claim) string {
	if len(c.PCRs) == 0 {
		return ""
	}
	var out []string
	for _, pcr := range c.PCRs {
		out = append(out, strconv.Itoa(pcr))
	}
	return "by PCR " + strings.Join(out, ", ")
}

func printFindings(w io.Writer, r *logReport) {
	if len(r.Findings) == 0 {
		return
	}
	fmt.Fprintln(w, "\nFINDINGS")
	for _, f := range r.Findings {
		mark := " "
		if f.Inconsistent() {
			mark = "!"
		}
		fmt.Fprintf(w, "%s %s: %s\n", mark, f.Code, oneLine(f.Message))
	}
}
