package policy

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/assay-project/assay/policy/query"
)

// Evaluate runs the rules over claims, which it does not change or keep beyond
// the Result. Configuration rules run first, then authorization rules; deny wins
// over permit whatever their order, and only a permitted attester's issuance
// rules run. An error is an [*EvaluationError]; it wraps [ErrLimit] when the
// evaluation was stopped, and the attester is then not permitted.
//
// Every claim needs a type and an issuer, and [FromPolicy] is no issuer of an
// incoming one.
func (p *Policy) Evaluate(claims []Claim) (*Result, error) {
	if p == nil {
		return new(Result), nil
	}
	e, err := p.newRun(claims)
	if err != nil {
		return nil, err
	}
	if err := e.sections(); err != nil {
		return nil, err
	}
	return e.res, nil
}

// A run is the state of one evaluation. Claims are numbered from 1, incoming
// ones first; 0 is no claim.
type run struct {
	p       *Policy
	res     *Result
	in      []Claim
	added   []Claim
	known   map[known]struct{} // added and issued ones, once they are many
	head    []int32            // first claim of each key
	tail    []int32            // last claim of each key
	next    []int32            // the next claim of the same key
	rule    *rule
	number  int                  // of the rule
	visible int32                // claims that the rule may see: those from before it began
	bound   [maxConditions]int32 // the claim of each condition
	steps   int
	bytes   int // of added values
	meter   query.Meter
	docs    []document
	queries map[string]*query.Query
	denied  bool
	trace   *RuleTrace // nil unless it is to be explained
	traces  *[]RuleTrace
}

// A document is JSON text that a query has read.
type document struct {
	text  string
	value any
}

var errClaims = errors.New("claims cannot be evaluated")

func (p *Policy) newRun(claims []Claim) (*run, error) {
	if len(claims) > maxClaims {
		return nil, &EvaluationError{Err: fmt.Errorf("%d claims, more than %d: %w", len(claims), maxClaims, ErrLimit)}
	}
	keys := len(p.keys)
	index := make([]int32, 2*keys+len(claims)+1, 2*keys+2*len(claims)+16)
	e := &run{
		p: p, in: claims, head: index[:keys:keys], tail: index[keys : 2*keys : 2*keys], next: index[2*keys:],
		res:   &Result{in: claims, checked: make([]bool, len(claims))},
		steps: maxSteps, meter: query.NewMeter(),
	}
	for i := range claims {
		c := &claims[i]
		if c.Type == "" || c.Issuer == "" || c.Issuer == FromPolicy || c.Value.kind == None {
			return nil, &EvaluationError{Err: fmt.Errorf("%w: claim %d, %q, lacks a type, a value or an issuer, or names the policy as its issuer", errClaims, i, c.Type)}
		}
		if len(c.Value.text) > maxClaimBytes {
			return nil, &EvaluationError{Err: fmt.Errorf("claim %q has %d bytes, more than %d: %w", c.Type, len(c.Value.text), maxClaimBytes, ErrLimit)}
		}
		e.link(c.Type, int32(i+1)) //nolint:gosec // bounded by maxClaims
	}
	return e, nil
}

// link appends claim i to the list of its type.
func (e *run) link(claimType string, i int32) {
	key, named := e.p.keys[claimType]
	if !named {
		return
	}
	if e.tail[key] == 0 {
		e.head[key] = i
	} else {
		e.next[e.tail[key]] = i
	}
	e.tail[key] = i
}

// claim returns claim i, which is not 0.
func (e *run) claim(i int32) *Claim {
	if int(i) <= len(e.in) {
		return &e.in[i-1]
	}
	return &e.added[int(i)-len(e.in)-1]
}

func (e *run) sections() error {
	for s := configuration; s <= issuance; s++ {
		if s == issuance && !e.res.permitted {
			break
		}
		rules := e.p.section(s)
		for i := range rules {
			e.number = e.p.bounds[s] + i
			if err := e.apply(&rules[i]); err != nil {
				e.res = nil
				return &EvaluationError{Pos: rules[i].pos, Rule: rules[i].text(), Err: err}
			}
			if e.denied {
				e.res.permitted, e.res.rule = false, &rules[i]
				return nil
			}
		}
	}
	return nil
}

// apply runs one rule over the claims that are there now. What the rule adds
// is seen by the rules after it only, so no rule feeds itself.
func (e *run) apply(r *rule) error {
	e.rule = r
	e.visible = int32(len(e.in) + len(e.added)) //nolint:gosec // bounded by maxClaims
	if e.traces != nil {
		e.startTrace(r)
	}
	_, err := e.match(0)
	return err
}

// match finds claims for the conditions from number i on, given those before it,
// and acts for each way. It reports whether it found one.
func (e *run) match(i int) (bool, error) {
	if i == len(e.rule.conds) {
		return true, e.act()
	}
	if e.trace != nil {
		e.trace.reached(i)
	}
	c := &e.rule.conds[i]
	if c.negated {
		found, err := e.exists(i)
		if found || err != nil {
			return false, err
		}
		return e.match(i + 1)
	}
	fired := false
	for n := e.first(c); n != 0; n = e.following(c, n) {
		ok, err := e.passes(i, n)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		e.bound[i] = n
		deeper, err := e.match(i + 1)
		if err != nil {
			return false, err
		}
		fired = fired || deeper
		// Another claim would lead to the same, unless a later part of the rule
		// reads the single claim. Permit and deny act once.
		if !c.every || fired && e.rule.act.verb <= verbDeny {
			break
		}
	}
	return fired, nil
}

// exists reports whether any claim passes condition i.
func (e *run) exists(i int) (bool, error) {
	c := &e.rule.conds[i]
	for n := e.first(c); n != 0; n = e.following(c, n) {
		if ok, err := e.passes(i, n); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// first and following walk the claims that a condition can be about.
func (e *run) first(c *condition) int32 {
	if c.key == anyType {
		return min(1, e.visible)
	}
	return e.shown(e.head[c.key])
}

func (e *run) following(c *condition, n int32) int32 {
	if c.key == anyType {
		return e.shown(n + 1)
	}
	return e.shown(e.next[n])
}

func (e *run) shown(n int32) int32 {
	if n > e.visible {
		return 0
	}
	return n
}

// step counts one comparison or call, which handles a text of the given length.
func (e *run) step(length int) error {
	if e.steps -= 1 + length/128; e.steps < 0 {
		return fmt.Errorf("more than %d steps: %w", maxSteps, ErrLimit)
	}
	return nil
}

// passes reports whether claim n passes all tests of condition i.
func (e *run) passes(i int, n int32) (bool, error) {
	c, claim := &e.rule.conds[i], e.claim(n)
	if err := e.step(len(claim.Value.text)); err != nil {
		return false, err
	}
	ok := true
	for t := range c.tests {
		if t == c.named {
			continue
		}
		var err error
		if ok, err = e.test(&c.tests[t], claim); err != nil {
			return false, err
		}
		if !ok {
			break
		}
	}
	// A condition that names no type has looked at the claims that it took.
	if int(n) <= len(e.in) && c.checks && (ok || c.key != anyType) && e.rule.section == authorization {
		e.res.checked[n-1] = true
	}
	if e.trace != nil {
		e.trace.read(claim, ok || c.key != anyType)
	}
	return ok, nil
}

// test compares one property. A right side of several values passes when one of
// them does.
func (e *run) test(t *test, claim *Claim) (bool, error) {
	left := claim.get(t.prop)
	if t.rhs.kind == exprLiteral {
		return compareValues(t.op, left, t.rhs.lit), nil
	}
	right, err := e.value(&t.rhs)
	if err != nil {
		return false, err
	}
	for i := range right.len() {
		if compareValues(t.op, left, right.at(i)) {
			return true, nil
		}
	}
	return false, nil
}

func (c *Claim) get(p property) Value {
	switch p {
	case propType:
		return StringValue(c.Type)
	case propValueType:
		return StringValue(c.Value.kind.String())
	case propIssuer:
		return StringValue(c.Issuer)
	default:
		return c.Value
	}
}

// compareValues never converts: values of two types are unequal, and only
// integers have an order.
func compareValues(op operator, a, b Value) bool {
	if a.kind == None || b.kind == None {
		return false
	}
	if op == query.Equal || op == query.NotEqual {
		return (a == b) == (op == query.Equal)
	}
	return a.kind == Integer && b.kind == Integer && op.Holds(cmp.Compare(a.num, b.num))
}
