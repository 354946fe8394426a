// Package query evaluates JMESPath, the language of jmespath.org, with the function
// equals_ignore_case that Azure Attestation adds, over JSON of any origin. It knows
// nothing of policies and proves nothing about what it reads.
//
// Every query and every evaluation has bounds, and the same text gives the same
// result each time. A library parses; its interpreter has no bounds, iterates over
// objects in random order and panics on some inputs, so evaluation is here.
// Extensions of the community edition (let, arithmetic, $) are refused, for other
// services do not know them. Start with [Compile], [Parse] and [Query.Run].
//
// JMESPath specification, as published in 2023.
package query

import (
	"errors"
	"fmt"
	"slices"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// A Query is a compiled expression. It never changes and may be used concurrently.
type Query struct{ root node }

type nodeKind uint8

const (
	nodeCurrent nodeKind = iota
	nodeField
	nodeLiteral
	nodeIndex
	nodeSlice
	nodeSub        // left.right; also index expressions
	nodePipe       // left | right
	nodeProjection // [*], slices and flatten
	nodeValues     // *
	nodeFilter     // left[?condition].right
	nodeFlatten
	nodeCompare
	nodeOr
	nodeAnd
	nodeNot
	nodeList // [a, b]
	nodeHash // {a: b}
	nodeCall
	nodeExpref
)

// A node holds name for fields and members, value for literals, and so on.
type node struct {
	kind  nodeKind
	op    Operator
	name  string
	names []string // of a nodeHash, one for each kid
	value any
	index int
	slice [3]*int
	kids  []node
	fn    *function
}

// walk calls visit for n and all nodes below it.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for i := range n.kids {
		n.kids[i].walk(visit)
	}
}

// Compile parses text. Its errors say what is wrong with the query; one that is too
// large wraps [ErrLimit].
func Compile(text string) (q *Query, err error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("query of %d bytes, more than %d: %w", len(text), maxText, ErrLimit)
	}
	if nesting(text) > maxDepth {
		return nil, fmt.Errorf("query is nested more than %d deep: %w", maxDepth, ErrLimit)
	}
	// The library's parser indexes its tokens without checks; a query that a
	// rule computes from evidence must not end the process.
	defer func() {
		if recover() != nil {
			q, err = nil, errors.New("query cannot be parsed")
		}
	}()
	tree, err := parsing.NewParser().Parse(text)
	if err != nil {
		var syntax parsing.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("query is not JMESPath at character %d: %v", syntax.Offset+1, err)
		}
		return nil, fmt.Errorf("query is not JMESPath: %v", err)
	}
	q = new(Query)
	if q.root, err = convert(&tree, 0); err != nil {
		return nil, err
	}
	return q, nil
}

// nesting bounds how deep the parser calls itself: brackets, and prefix signs in
// a row. Text inside literals counts too, which only errs on the strict side.
func nesting(text string) int {
	depth, run, deepest := 0, 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(', '[', '{':
			depth, run = depth+1, 0
		case ')', ']', '}':
			depth, run = depth-1, 0
		case '!', '&', '-', '+':
			run++
		case ' ':
		default:
			run = 0
		}
		deepest = max(deepest, depth+run)
	}
	return deepest
}

var errExtension = errors.New("query uses an extension of JMESPath (let, $ or arithmetic)")

// simple maps the library's nodes that only have kids.
func simple(n *parsing.ASTNode) (nodeKind, bool) {
	switch n.NodeType {
	case parsing.ASTCurrentNode, parsing.ASTIdentity:
		return nodeCurrent, true
	case parsing.ASTSubexpression, parsing.ASTIndexExpression:
		return nodeSub, true
	case parsing.ASTPipe:
		return nodePipe, true
	case parsing.ASTProjection:
		return nodeProjection, true
	case parsing.ASTValueProjection:
		return nodeValues, true
	case parsing.ASTFilterProjection:
		return nodeFilter, true
	case parsing.ASTFlatten:
		return nodeFlatten, true
	case parsing.ASTOrExpression:
		return nodeOr, true
	case parsing.ASTAndExpression:
		return nodeAnd, true
	case parsing.ASTNotExpression:
		return nodeNot, true
	case parsing.ASTMultiSelectList:
		return nodeList, true
	case parsing.ASTExpRef:
		return nodeExpref, true
	default:
		return 0, false
	}
}

func convert(n *parsing.ASTNode, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("query is nested more than %d deep: %w", maxDepth, ErrLimit)
	}
	out := node{kids: make([]node, len(n.Children))}
	if kind, ok := simple(n); ok {
		out.kind = kind
	} else if err := special(n, &out); err != nil {
		return node{}, err
	}
	for i := range n.Children {
		kid := &n.Children[i]
		if kid.NodeType == parsing.ASTKeyValPair {
			out.names = append(out.names, kid.Value.(string))
			kid = &kid.Children[0]
		}
		var err error
		if out.kids[i], err = convert(kid, depth+1); err != nil {
			return node{}, err
		}
	}
	if out.kind == nodeCall {
		return out, out.checkArguments()
	}
	return out, nil
}

// special fills the nodes that carry more than kids.
func special(n *parsing.ASTNode, out *node) (err error) {
	switch n.NodeType {
	case parsing.ASTField:
		out.kind, out.name = nodeField, n.Value.(string)
	case parsing.ASTLiteral:
		out.kind = nodeLiteral
		out.value, err = fromAny(n.Value)
	case parsing.ASTIndex:
		out.kind, out.index = nodeIndex, n.Value.(int)
	case parsing.ASTSlice:
		out.kind = nodeSlice
		copy(out.slice[:], n.Value.([]*int))
		if step := out.slice[2]; step != nil && *step == 0 {
			return errors.New("query has a slice with step 0")
		}
	case parsing.ASTComparator:
		out.kind = nodeCompare
		sign := slices.Index([]parsing.TokType{parsing.TOKEQ, parsing.TOKNE, parsing.TOKLT, parsing.TOKLTE, parsing.TOKGT, parsing.TOKGTE}, n.Value.(parsing.TokType))
		out.op = Operator(sign) //nolint:gosec // the list is in the order of Operator
	case parsing.ASTMultiSelectHash:
		out.kind = nodeHash
	case parsing.ASTFunctionExpression:
		out.kind, out.name = nodeCall, n.Value.(string)
		out.fn = functionNamed(out.name)
	default:
		return errExtension
	}
	return err
}
