package policy

import (
	"slices"
	"strings"
)

// asQuery returns the query that an expression stands for: a literal one, or one
// that AppendString computes, with 0 for what is not known before it runs. It is
// nil for anything else.
func (e *expr) asQuery() *query {
	if e.query != nil {
		return e.query
	}
	if text, complete := e.computed(); complete {
		q, err := compileQuery(text)
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
		if _, err := compileQuery(text); err != nil {
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
	if first := q.root.leftmost(); first.kind == nodeField && (first.name == "events" || first.name == "pcrs") {
		l.warn(at, "query-lower-case", "write Events or PCRs", "the query begins with the member %s, but the claim's member is spelled with upper case", first.name)
	}
	q.root.walk(func(n *node) { l.queryNode(at, n) })
}

func (l *linter) queryNode(at Pos, n *node) {
	if n.comparesListWithNull() {
		l.warn(at, "query-null-compare", "compare the length: | length(@) > `0`", "a filter or projection gives a list, which is never null, so the comparison always has the same result")
	}
	if n.kind != nodeCompare {
		return
	}
	for i := range n.kids {
		l.operand(at, n.op, &n.kids[i], &n.kids[1-i])
	}
}

// operand judges one side of a comparison with the other.
func (l *linter) operand(at Pos, op operator, this, other *node) {
	if this.kind == nodeField && slices.Contains([]string{"true", "false", "null"}, this.name) {
		l.warn(at, "query-bare-literal", "write `"+this.name+"` between backticks", "%s without backticks is the name of a member, not a value", this.name)
	}
	if _, text := this.value.(string); !text || this.kind != nodeLiteral {
		return
	}
	if other.isNumber() {
		l.warn(at, "query-number-as-string", "write the number between backticks, as in `13`", "a number is compared with the string %q and is never equal to it", this.value)
	}
	if op > opNotEqual {
		l.warn(at, "query-string-order", "compare numbers", "%s has no meaning for strings", op)
	}
}

// comparesListWithNull finds list | @ != null, and list != null.
func (n *node) comparesListWithNull() bool {
	switch n.kind {
	case nodePipe:
		return n.kids[0].isList() && n.kids[1].comparesCurrentWithNull()
	case nodeCompare:
		return n.kids[0].isNull() && n.kids[1].isList() || n.kids[1].isNull() && n.kids[0].isList()
	default:
		return false
	}
}

// leftmost is the node that reads the document first.
func (n *node) leftmost() *node {
	for n.kind == nodeSub || n.kind == nodePipe || n.kind == nodeProjection || n.kind == nodeValues || n.kind == nodeFilter || n.kind == nodeFlatten {
		n = &n.kids[0]
	}
	return n
}

// last is the node that gives a path its value.
func (n *node) last() *node {
	for n.kind == nodeSub || n.kind == nodePipe {
		n = &n.kids[1]
	}
	return n
}

// isList reports whether n gives a list, or null when it is applied to no list.
func (n *node) isList() bool {
	switch n = n.last(); n.kind {
	case nodeProjection, nodeValues, nodeFilter, nodeFlatten, nodeList:
		return true
	default:
		return false
	}
}

func (n *node) isNull() bool { return n.kind == nodeLiteral && n.value == nil }

func (n *node) comparesCurrentWithNull() bool {
	return n.kind == nodeCompare && (n.kids[0].kind == nodeCurrent && n.kids[1].isNull() || n.kids[1].kind == nodeCurrent && n.kids[0].isNull())
}

// isNumber reports whether n is known to give a number.
func (n *node) isNumber() bool {
	n = n.last()
	return n.kind == nodeField && (n.name == "PcrIndex" || n.name == "EventSeq" || n.name == "Index") || n.kind == nodeCall && n.name == "length"
}

// namesPCR notes the PCR that a comparison is about.
func (n *node) namesPCR(read map[int]bool) {
	if n.kind != nodeCompare || n.op != opEqual {
		return
	}
	for i := range n.kids {
		field := n.kids[i].last()
		pcr, isInt := n.kids[1-i].value.(int64)
		if field.kind == nodeField && (field.name == "PcrIndex" || field.name == "Index") && isInt && pcr >= 0 && pcr < 24 {
			read[int(pcr)] = true
		}
	}
}
