package policy

import (
	"slices"

	"github.com/assay-project/assay/policy/query"
)

// A certainty is what the text alone says about a rule or a condition.
type certainty uint8

const (
	depends certainty = iota // on the claims
	always
	never
)

// An analysis walks the rules in their order and knows what every evaluation has
// made of the claims up to a rule.
type analysis struct {
	p     *Policy
	rules []certainty
	// made are claims that are there in every evaluation.
	made []Claim
	// held are conditions that hold in every evaluation, as a default sees to.
	held []*condition
	// mayMake are the types that rules up to here may add; any tells that a
	// type is computed and could be every one.
	mayMake map[string]bool
	any     bool
}

// analyse calls at, if it is not nil, for each rule before what it does is noted.
func analyse(p *Policy, at func(a *analysis, i int)) *analysis {
	a := &analysis{p: p, rules: make([]certainty, len(p.rules)), mayMake: map[string]bool{}}
	for i := range p.rules {
		r := &p.rules[i]
		a.rules[i] = a.rule(r)
		if at != nil {
			at(a, i)
		}
		if a.rules[i] != never {
			a.effects(r, a.rules[i] == always)
		}
	}
	return a
}

func (a *analysis) rule(r *rule) certainty {
	out := always
	for i := range r.conds {
		switch a.condition(&r.conds[i]) {
		case never:
			return never
		case depends:
			out = depends
		}
	}
	return out
}

func (a *analysis) condition(c *condition) certainty {
	out := depends
	switch {
	case c.impossible() || a.waitsForNobody(c):
		out = never
	case slices.ContainsFunc(a.made, c.surelyTakes) || slices.ContainsFunc(a.held, c.follows):
		out = always
	}
	if c.negated && out != depends {
		out = always + never - out
	}
	return out
}

// waitsForNobody reports whether c wants a claim of the policy that no rule
// before it makes.
func (a *analysis) waitsForNobody(c *condition) bool {
	claimType, named := c.literal(propType)
	issuer, issued := c.literal(propIssuer)
	return named && issued && issuer.text == FromPolicy && !a.any && !a.mayMake[claimType.text]
}

// effects notes what r may add, and what is there for certain after it.
func (a *analysis) effects(r *rule, surely bool) {
	act := &r.act
	if act.verb != verbAdd && act.verb != verbIssue {
		return
	}
	typ, known := act.makes(r)
	if !known {
		a.any = true
		return
	}
	a.mayMake[typ] = true
	if act.copies || act.value.kind != exprLiteral {
		return
	}
	c := Claim{Type: typ, Value: act.value.lit, Issuer: FromPolicy}
	if surely {
		a.made = append(a.made, c)
		return
	}
	// A default: if nothing passes the condition, now this claim does.
	if len(r.conds) == 1 && r.conds[0].negated {
		positive := r.conds[0]
		positive.negated = false
		if positive.surelyTakes(c) {
			a.held = append(a.held, &positive)
		}
	}
}

// makes returns the type of the claims that an action makes, if the text tells.
func (a *action) makes(r *rule) (string, bool) {
	if !a.copies {
		return a.typ.lit.text, a.typ.kind == exprLiteral
	}
	if a.ref == unbound {
		return "", false
	}
	v, named := r.conds[a.ref].literal(propType)
	return v.text, named
}

// literal returns what the condition demands of a property to be equal to.
func (c *condition) literal(p property) (Value, bool) {
	for i := range c.tests {
		if t := &c.tests[i]; t.prop == p && t.op == query.Equal && t.rhs.kind == exprLiteral {
			return t.rhs.lit, true
		}
	}
	return Value{}, false
}

// surelyTakes reports whether the claim passes every test, whatever else is there.
func (c *condition) surelyTakes(claim Claim) bool {
	for i := range c.tests {
		t := &c.tests[i]
		if t.rhs.kind != exprLiteral || !compareValues(t.op, claim.get(t.prop), t.rhs.lit) {
			return false
		}
	}
	return true
}

// follows reports whether c takes every claim that other takes: its tests are
// among those of other.
func (c *condition) follows(other *condition) bool {
	for i := range c.tests {
		t := &c.tests[i]
		if t.rhs.kind != exprLiteral || !slices.ContainsFunc(other.tests, t.same) {
			return false
		}
	}
	return true
}

// same compares tests against literals.
func (t *test) same(u test) bool {
	return t.prop == u.prop && t.op == u.op && t.rhs.kind == exprLiteral && u.rhs.kind == exprLiteral && t.rhs.lit == u.rhs.lit
}

// impossible reports whether no claim can pass the tests of c.
func (c *condition) impossible() bool {
	for p := propType; p <= propIssuer; p++ {
		if c.contradicts(p) {
			return true
		}
	}
	value, hasValue := c.literal(propValue)
	valueType, hasType := c.literal(propValueType)
	return hasValue && hasType && value.kind.String() != valueType.text
}

// contradicts reports whether the tests of one property exclude each other.
func (c *condition) contradicts(p property) bool {
	fixed, isFixed := c.literal(p)
	low, high := int64(-1<<63), int64(1<<63-1)
	for i := range c.tests {
		t := &c.tests[i]
		if t.prop != p || t.rhs.kind != exprLiteral {
			continue
		}
		if isFixed && !compareValues(t.op, fixed, t.rhs.lit) {
			return true
		}
		if t.op <= query.NotEqual {
			continue
		}
		if p != propValue || t.rhs.lit.kind != Integer {
			return true // only integers have an order
		}
		switch n := t.rhs.lit.num; t.op {
		case query.Less:
			if n == -1<<63 {
				return true
			}
			high = min(high, n-1)
		case query.LessEqual:
			high = min(high, n)
		case query.Greater:
			if n == 1<<63-1 {
				return true
			}
			low = max(low, n+1)
		default:
			low = max(low, n)
		}
	}
	return low > high
}

// Vacuous reports whether p permits whatever the claims are, as far as its text
// tells: no deny rule can fire, and a permit rule always does.
func (p *Policy) Vacuous() bool {
	_, vacuous := analyse(p, nil).vacuous()
	return vacuous
}

// vacuous also returns the permit rule that lets everybody pass.
func (a *analysis) vacuous() (*rule, bool) {
	rules := a.p.section(authorization)
	certain := a.rules[a.p.bounds[authorization]:]
	var permits []*rule
	var open *rule
	for i := range rules {
		r := &rules[i]
		switch {
		case r.act.verb == verbDeny && certain[i] != never:
			return nil, false
		case r.act.verb == verbPermit && certain[i] == always && open == nil:
			open = r
		case r.act.verb == verbPermit && certain[i] == depends && len(r.conds) == 1:
			permits = append(permits, r)
		}
	}
	if open == nil {
		open = complementary(permits)
	}
	return open, open != nil
}

// complementary finds a rule that fires exactly when another one does not.
func complementary(permits []*rule) *rule {
	for _, with := range permits {
		for _, without := range permits {
			yes, no := &with.conds[0], &without.conds[0]
			if !yes.negated && no.negated && yes.follows(no) {
				return with
			}
		}
	}
	return nil
}
