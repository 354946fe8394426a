package query

import (
	"fmt"
	"slices"
)

// A Trap is a part of a query that does not do what it seems to do. Names are
// listed in docs/policy.md and never change their meaning.
type Trap struct {
	Name, Message, Suggestion string
}

// Traps finds the traps of q, as a query over the claims events and pcrs of Azure
// Attestation.
func (q *Query) Traps() []Trap {
	var t traps
	if first := q.root.leftmost(); first.kind == nodeField && (first.name == "events" || first.name == "pcrs") {
		t.add("query-lower-case", "write Events or PCRs", "the query begins with the member %s, but the claim's member is spelled with upper case", first.name)
	}
	q.root.walk(t.node)
	return t
}

// NamesPCRs notes in read the PCRs that comparisons of q are about.
func (q *Query) NamesPCRs(read map[int]bool) {
	q.root.walk(func(n *node) { n.namesPCR(read) })
}

type traps []Trap

func (t *traps) add(name, suggestion, format string, args ...any) {
	*t = append(*t, Trap{name, fmt.Sprintf(format, args...), suggestion})
}

func (t *traps) node(n *node) {
	if n.comparesListWithNull() {
		t.add("query-null-compare", "compare the length: | length(@) > `0`", "a filter or projection gives a list, which is never null, so the comparison always has the same result")
	}
	if n.kind != nodeCompare {
		return
	}
	for i := range n.kids {
		t.operand(n.op, &n.kids[i], &n.kids[1-i])
	}
}

// operand judges one side of a comparison with the other.
func (t *traps) operand(op Operator, this, other *node) {
	if this.kind == nodeField && slices.Contains([]string{"true", "false", "null"}, this.name) {
		t.add("query-bare-literal", "write `"+this.name+"` between backticks", "%s without backticks is the name of a member, not a value", this.name)
	}
	if _, text := this.value.(string); !text || this.kind != nodeLiteral {
		return
	}
	if other.isNumber() {
		t.add("query-number-as-string", "write the number between backticks, as in `13`", "a number is compared with the string %q and is never equal to it", this.value)
	}
	if op > NotEqual {
		t.add("query-string-order", "compare numbers", "%s has no meaning for strings", op)
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
	if n.kind != nodeCompare || n.op != Equal {
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
