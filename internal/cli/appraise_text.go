package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
)

// printAppraisal writes a result as one JSON value or in words.
func printAppraisal(env *program.Env, format program.OutputFormat, r *evidence.Result) error {
	if format == "json" {
		return program.PrintJSON(env, r)
	}
	return writeResult(env.Stdout, r)
}

// writeResult writes a result for people: the verdict first, then why and what
// to do, what is proven, and what nobody looked at.
func writeResult(w io.Writer, r *evidence.Result) error {
	p := &printer{w: w}
	p.line("%s", strings.ToUpper(r.Verdict.String()))
	p.reasons(r.Reasons)
	p.summary(&r.Evidence)
	p.claims(r.Claims)
	if len(r.NotChecked) > 0 {
		p.line("\nNot checked:")
		for _, note := range r.NotChecked {
			p.line("  - %s", printable(note))
		}
	}
	if r.Token != "" {
		p.line("\nToken:\n%s", r.Token)
	}
	return p.err
}

// A printer writes lines until the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) reasons(reasons []evidence.Reason) {
	table := map[evidence.Code]evidence.CodeInfo{}
	for _, info := range evidence.Codes() {
		table[info.Code] = info
	}
	for i, r := range reasons {
		about := ""
		if r.Component != "" {
			about = " (" + printable(r.Component) + ")"
		}
		p.line("\n%s%s", r.Code, about)
		p.line("  %s", printable(r.Message))
		// What to do is said once for all reasons of one code.
		last := !slices.ContainsFunc(reasons[i+1:], func(o evidence.Reason) bool { return o.Code == r.Code })
		if info, ok := table[r.Code]; ok && last {
			p.line("  Likely: %s.", strings.Join(info.Causes, "; or "))
			p.line("  To do: %s", info.Action)
		}
	}
}

func (p *printer) summary(s *evidence.Summary) {
	if s.Type == "" {
		return
	}
	p.line("\nEvidence of type %s", s.Type)
	for _, row := range [][2]string{
		{"signature", s.Signature},
		{"signed by", s.Attester},
		{"trusted because", s.Proof},
		{"PCR bank", s.Bank},
		{"signed PCRs", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(s.PCRs)), ", "), "[]")},
	} {
		if row[1] != "" {
			p.line("  %-16s %s", row[0], row[1])
		}
	}
}

// claims lists what is proven, then what is not.
func (p *printer) claims(claims evidence.Claims) {
	if len(claims) == 0 {
		return
	}
	meaning := map[string]string{}
	for _, c := range eventlog.ClaimNames() {
		meaning[c.Name] = c.Meaning
	}
	p.line("\nProven:")
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		c := claims[name]
		if !c.Value.Known() {
			unknown = append(unknown, fmt.Sprintf("%s (%s)", name, c.Reason))
			continue
		}
		p.line("  %s: %s [PCR %s]", name, shorten(c.Value.String()), numbers(c.PCRs))
		if m := meaning[name]; m != "" {
			p.line("      %s", m)
		}
	}
	if len(unknown) > 0 {
		p.line("\nNot proven, neither true nor false:")
		for _, u := range unknown {
			p.line("  %s", u)
		}
	}
}

func numbers(pcrs []int) string {
	words := make([]string, len(pcrs))
	for i, n := range pcrs {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}

// shorten keeps a cell to one line of a terminal; the JSON form has all of it.
func shorten(s string) string {
	const limit = 100
	s = printable(s)
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return s
}
