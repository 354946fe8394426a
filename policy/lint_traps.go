package policy

import (
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
