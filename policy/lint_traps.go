package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/assay-project/assay/policy/query"
)

// asQuery returns the query that an expression stands for: a literal one, or one
// that AppendString computes, with 0 for what is not known before it runs. It is
// nil for anything else.
func (e *expr) asQuery() *query.Query {
	if e.query != nil {
		return e.query
	}
	if text, complete := e.computed(); complete {
		q, err := query.Compile(text)
		if err == nil {
			return q
		}
	}
	return nil
}

// computed returns what AppendString makes if it looks like a whole query.
func (e *expr) computed() (text string, complete bool) {
	if e.kind != exprCall || e.fn != fnAppendString {
		return "", false
	}
	var b strings.Builder
	e.walk(func(part *expr) {
		switch {
		case part.kind == exprLiteral:
			b.WriteString(part.lit.text)
		case part.kind == exprRef || part.fn != fnAppendString:
			b.WriteByte('0')
		}
	})
	text = b.String()
	return text, strings.Contains(text, "[?") && strings.Count(text, "[") == strings.Count(text, "]")
}

// queries looks for traps of JMESPath in one expression.
func (l *linter) queries(e *expr) {
	if text, complete := e.computed(); complete {
		if _, err := query.Compile(text); err != nil {
			l.warn(e.pos, "query-syntax", "write numbers between backticks, as in PcrIndex == `20`", "the computed query is none: %v", err)
			return
		}
	}
	q := e.asQuery()
	if q == nil {
		return
	}
	at := e.pos
	if e.query != nil {
		at = e.args[1].pos
	}
	for _, trap := range q.Traps() {
		l.warn(at, trap.Name, trap.Suggestion, "%s", trap.Message)
	}
}

// emptySet finds functions that are true of an empty set, where the set is computed
// and can be empty: then the rule fires for a boot that measured nothing. A set of
// claims that a condition binds has one claim at least.
func (l *linter) emptySet(e *expr) {
	const suggestion = `add the values as a claim by a rule of its own, and bind that: a rule does not fire where there is none`
	switch {
	case e.kind != exprCall:
	case e.fn == fnIsSubsetOf && e.args[0].mayBeEmpty():
		l.warn(e.pos, "empty-is-true", suggestion, "IsSubsetOf is true when its first set is empty, as it is where nothing was measured")
	case e.fn == fnNegateBool && e.args[0].kind == exprCall && e.args[0].fn == fnContainsOnlyValue && e.args[0].args[0].mayBeEmpty():
		l.warn(e.pos, "empty-is-true", suggestion, "NegateBool makes true of the false that ContainsOnlyValue says of an empty set")
	}
}

// mayBeEmpty reports whether an expression can give no value at all.
func (e *expr) mayBeEmpty() bool { return e.kind == exprCall && e.fn == fnJsonToClaimValue }

// absence finds rules that permit because a claim is not there: what could not be
// proven is absent too.
func (l *linter) absence(a *analysis, r *rule) {
	for i := range r.conds {
		c := &r.conds[i]
		claimType, named := c.literal(propType)
		if r.act.verb != verbPermit || !c.negated || !named || a.mayMake[claimType.text] || a.condition(c) != depends {
			continue
		}
		if !slices.ContainsFunc(r.conds, func(other condition) bool { return !other.negated && other.names(claimType) }) {
			l.warn(c.pos, "absent-passes", "ask for the claim with its good value", "%s holds too where the claim %s could not be proven", oneLine(c.src), claimType)
		}
	}
}

func (c *condition) names(claimType Value) bool {
	v, named := c.literal(propType)
	return named && v == claimType
}

// firstLate is the first register that boot loaders and operating systems extend,
// and not the firmware.
const firstLate = 8

// lateBoot finds claims about what boot loaders and operating systems measured that
// a policy relies on without judging what these were: the claim is then as true as
// whatever ran was honest.
func (l *linter) lateBoot() {
	if l.vocab == nil || l.judgesLoader() {
		return
	}
	var late []string
	var at Pos
	rules := l.p.section(authorization)
	for i := range rules {
		r := &rules[i]
		for j := range r.conds {
			c := &r.conds[j]
			claimType, named := c.literal(propType)
			if !named || c.negated || r.act.verb == verbDeny || slices.Contains(late, claimType.text) || !l.isLate(claimType.text, r) {
				continue
			}
			if len(late) == 0 {
				at = c.pos
			}
			late = append(late, claimType.text)
		}
	}
	if len(late) > 0 {
		l.warn(at, "loader-not-judged", "judge bootLoader, bootImages or secureBootAuthorities too, or compare the boot with a baseline",
			"%s: measured by whatever the firmware started, which no rule looks at", strings.Join(late, ", "))
	}
}

// judgesLoader reports whether any rule looks at what PCR 4 and the authorities of
// PCR 7 say was started.
func (l *linter) judgesLoader() bool {
	read := map[int]bool{}
	for i := range l.p.rules {
		r := &l.p.rules[i]
		for j := range r.conds {
			v, named := r.conds[j].literal(propType)
			if named && r.conds[j].checks && slices.Contains([]string{"bootLoader", "bootImages", "secureBootAuthorities"}, v.text) {
				return true
			}
		}
		r.queries(func(q *query.Query) { q.NamesPCRs(read) })
	}
	return read[4]
}

// isLate reports whether a claim is proven by a register of late boot, for events and
// pcrs by those that the queries of the rule name.
func (l *linter) isLate(claimType string, r *rule) bool {
	pcrs, _ := l.vocab.find(claimType)
	if claimType == "events" || claimType == "pcrs" {
		read := map[int]bool{}
		r.queries(func(q *query.Query) { q.NamesPCRs(read) })
		pcrs = slices.Collect(maps.Keys(read))
	}
	return slices.ContainsFunc(pcrs, func(pcr int) bool { return pcr >= firstLate })
}

// queries calls visit for each query of the rule whose text is known.
func (r *rule) queries(visit func(*query.Query)) {
	r.exprs(func(e *expr) {
		if q := e.asQuery(); q != nil {
			visit(q)
		}
	})
}
