package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/policy/query"
)

// A Severity tells whether a finding stops a policy from being used.
type Severity uint8

// The severities. A [SeverityError] is refused unless the caller allows it.
const (
	SeverityWarning Severity = iota
	SeverityError
)

// String is "warning" or "error".
func (s Severity) String() string { return [...]string{"warning", "error"}[s] }

// MarshalText writes the severity's word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is text that probably does not do what its author meant. Names are
// listed in docs/policy.md and never change their meaning.
type Finding struct {
	Pos
	Name       string   `json:"name"`
	Severity   Severity `json:"severity"`
	Message    string   `json:"message"`
	Suggestion string   `json:"suggestion"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s (%s); %s", f.Pos, f.Severity, f.Message, f.Name, f.Suggestion)
}

// A Vocabulary names the claims that verifiers produce, each with the PCRs that
// prove it. A name that ends in * stands for all that begin so.
type Vocabulary map[string][]int

// find returns the PCRs of a claim, and whether it is known.
func (v Vocabulary) find(claimType string) ([]int, bool) {
	if pcrs, ok := v[claimType]; ok {
		return pcrs, true
	}
	for name, pcrs := range v {
		if prefix, star := strings.CutSuffix(name, "*"); star && strings.HasPrefix(claimType, prefix) {
			return pcrs, true
		}
	}
	return nil, false
}

// A linter collects findings about one policy.
type linter struct {
	p     *Policy
	vocab Vocabulary
	out   []Finding
}

// Lint looks for rules that do nothing, for checks that check nothing, and for
// known traps of the query language. Without a vocabulary, claims that no
// verifier produces are not looked for. Findings come in the order of the text.
func (p *Policy) Lint(vocab Vocabulary) []Finding {
	l := &linter{p: p, vocab: vocab}
	a := analyse(p, l.rule)
	l.whole(a)
	l.duplicates()
	l.comments()
	l.registers()
	l.lateBoot()
	slices.SortStableFunc(l.out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(l.out)
}

func (l *linter) warn(at Pos, name, suggestion, format string, args ...any) {
	l.out = append(l.out, Finding{Pos: at, Name: name, Message: fmt.Sprintf(format, args...), Suggestion: suggestion})
}

// whole judges the authorization rules together.
func (l *linter) whole(a *analysis) {
	rules := l.p.section(authorization)
	certain := a.rules[l.p.bounds[authorization]:]
	if open, vacuous := a.vacuous(); vacuous {
		l.warn(open.pos, "vacuous", `permit on a claim, such as [type=="secureBoot", value==true] => permit();`, "the policy permits every attester and checks nothing")
		l.out[len(l.out)-1].Severity = SeverityError
		return
	}
	permits := false
	for i := range rules {
		r := &rules[i]
		if r.act.verb == verbDeny && certain[i] == always {
			l.warn(r.pos, "always-denies", "remove the rule, or give it a condition", "this rule denies every attester, so no other rule can permit")
			return
		}
		if r.act.verb != verbPermit || certain[i] == never {
			continue
		}
		permits = true
		if certain[i] == always {
			l.warn(r.pos, "permit-by-default", "permit only on claims with their good values", "an attester without the claims that deny rules ask for is permitted")
		}
		if len(r.conds) > 0 && !slices.ContainsFunc(r.conds, func(c condition) bool { return c.checks }) {
			l.warn(r.pos, "presence-only", "test the value too, as in value==true", "this rule permits when claims are present, whatever they say")
		}
	}
	if !permits {
		l.warn(Pos{1, 1}, "never-permits", `add a rule such as [type=="secureBoot", value==true] => permit();`, "no rule can ever permit")
	}
}

// rule judges rule i with what is known before it.
func (l *linter) rule(a *analysis, i int) {
	r := &l.p.rules[i]
	l.identifiers(r)
	for j := range r.conds {
		c := &r.conds[j]
		l.condition(a, c)
		switch a.condition(c) {
		case never:
			l.warn(c.pos, "never-fires", "compare with what rules before this one add, and with the types of the values", "%s never holds, so this rule never fires", oneLine(c.src))
		case always:
			if c.ident != "" && !c.negated {
				continue // it is there to bind a claim
			}
			l.warn(c.pos, "always-holds", "remove the condition, or test what the evidence says", "%s always holds and checks nothing", oneLine(c.src))
		}
	}
	r.exprs(func(e *expr) { l.queries(e); l.emptySet(e) })
	l.absence(a, r)
	if r.act.verb >= verbIssue {
		if at, taints := r.readOnly(); taints {
			l.warn(at, "read-only-issued", "issue the result of ContainsOnlyValue or IsSubsetOf instead", "the claim pcrs is read-only, so what is computed from it is not issued")
		}
	}
	l.unused(r, i)
}

// readOnly finds an issued value that is computed from the claim pcrs, which is
// always read-only.
func (r *rule) readOnly() (Pos, bool) {
	isPCRs := func(ref int) bool {
		if ref == unbound {
			return false
		}
		v, named := r.conds[ref].literal(propType)
		return named && v.text == "pcrs"
	}
	if r.act.copies {
		return r.act.pos, isPCRs(r.act.ref)
	}
	var found *expr
	var walk func(e *expr)
	walk = func(e *expr) {
		if e.kind == exprRef && e.prop == propValue && isPCRs(e.ref) {
			found = e
		}
		if e.kind == exprCall && e.fn != fnIsSubsetOf && e.fn != fnContainsOnlyValue {
			for i := range e.args {
				walk(&e.args[i])
			}
		}
	}
	walk(&r.act.value)
	if found == nil {
		return Pos{}, false
	}
	return found.pos, true
}

func (l *linter) identifiers(r *rule) {
	report := func(at Pos, ident string) {
		l.warn(at, "unbound-identifier", "bind it by a condition of this rule, as in "+ident+`:[type=="events"]`, "no condition before binds %q, so evaluating this rule is an error and denies", ident)
	}
	r.exprs(func(e *expr) {
		if e.kind == exprRef && e.ref == unbound {
			report(e.pos, e.ident)
		}
	})
	if r.act.copies && r.act.ref == unbound {
		report(r.act.pos, r.act.ident)
	}
	for i := range r.conds {
		c := &r.conds[i]
		if c.ident == "" {
			continue
		}
		if c.negated {
			l.warn(c.pos, "negated-identifier", "remove the identifier", "%q is never bound, for the condition asks that there is no such claim", c.ident)
		}
		if slices.ContainsFunc(r.conds[:i], func(before condition) bool { return before.ident == c.ident && !before.negated }) {
			l.warn(c.pos, "shadowed-identifier", "give each condition of a rule its own identifier", "%q stands for this claim from here on, not for the one before", c.ident)
		}
	}
}

func (l *linter) condition(a *analysis, c *condition) {
	claimType, named := c.literal(propType)
	if !slices.ContainsFunc(c.tests, func(t test) bool { return t.prop == propType }) {
		l.warn(c.pos, "empty-condition", `name the claim, as in [type=="secureBoot", value==true]`, "%s names no type, so any claim at all can pass it", oneLine(c.src))
	}
	issuer, issued := c.literal(propIssuer)
	if issued && issuer.text != FromService && issuer.text != FromPolicy && issuer.text != FromAttester {
		l.warn(c.pos, "unknown-issuer", "write AttestationService, AttestationPolicy or CustomClaim", "no claim has the issuer %s", issuer)
	}
	if l.vocab == nil || !named || a.any || a.mayMake[claimType.text] || issued && issuer.text != FromService {
		return
	}
	if _, known := l.vocab.find(claimType.text); !known {
		l.warn(c.pos, "unknown-claim", "compare the spelling with docs/claims.md", "no verifier produces the claim %s, and no rule before this one adds it", claimType)
	}
}

// unused finds claims that are added and that nothing reads.
func (l *linter) unused(r *rule, i int) {
	typ, known := r.act.makes(r)
	if r.act.verb != verbAdd || !known || l.p.open {
		return
	}
	if key, read := l.p.keys[typ]; !read || int(l.p.lastRead[key]) <= i {
		l.warn(r.act.pos, "unused-claim", "remove the rule, or test or issue the claim in a later one", "no later rule reads the claim %q that this one adds", typ)
	}
}

func (l *linter) duplicates() {
	type key struct {
		section section
		text    string
	}
	first := map[key]Pos{}
	for i := range l.p.rules {
		r := &l.p.rules[i]
		k := key{r.section, r.text()}
		if at, twice := first[k]; twice {
			l.warn(r.pos, "duplicate-rule", "remove one of the two", "this rule stands at line %d already", at.Line)
		} else {
			first[k] = r.pos
		}
	}
}

// comments finds rules that lost the line break between them and a comment.
func (l *linter) comments() {
	_, all, err := lex(l.p.src)
	if err != nil {
		return
	}
	for _, c := range all {
		_, after, arrow := strings.Cut(c.text, "=>")
		if arrow && strings.Contains(c.text, "[") && strings.Contains(after, "(") && strings.HasSuffix(c.text, ";") {
			l.warn(c.pos, "rule-in-comment", "begin a new line before the rule, or remove it", "the comment contains what looks like a rule, which does not run")
		}
	}
}

// registers finds PCRs that the policy asks to be quoted and never looks at.
func (l *linter) registers() {
	read := map[int]bool{}
	for i := range l.p.rules {
		for j := range l.p.rules[i].conds {
			if v, named := l.p.rules[i].conds[j].literal(propType); named && l.vocab != nil {
				pcrs, _ := l.vocab.find(v.text)
				for _, pcr := range pcrs {
					read[pcr] = true
				}
			}
		}
		l.p.rules[i].queries(func(q *query.Query) { q.NamesPCRs(read) })
	}
	for i := range l.p.rules {
		a := &l.p.rules[i].act
		mask, isInt := a.value.lit.Int()
		if a.verb != verbIssueProperty || a.typ.lit.text != "required_pcr_mask" || !isInt {
			continue
		}
		for pcr := range 24 {
			if mask>>pcr&1 == 1 && !read[pcr] {
				l.warn(a.pos, "unconstrained-pcr", "compare its value through the claim pcrs, or leave it out of the mask", "PCR %d must be quoted, but no rule looks at it", pcr)
			}
		}
	}
}
