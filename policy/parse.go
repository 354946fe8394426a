package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/policy/query"
)

// A Mode tells how exact the text of a policy has to be.
type Mode uint8

// The modes of [Parse].
const (
	// Strict takes exactly the grammar of docs/policy.md.
	Strict Mode = iota
	// Lenient also takes what Azure Attestation's users upload: one = in a
	// condition, a byte order mark, issue inside authorizationrules (done as
	// add), and a policy without authorizationrules. Each gives a warning.
	Lenient
)

// A Warning is what [Lenient] let pass.
type Warning struct {
	Pos
	Message string
}

func (w Warning) String() string { return fmt.Sprintf("%s: %s", w.Pos, w.Message) }

// A parser reads tokens into rules. Versions gate features as the table of
// docs/policy.md says.
type parser struct {
	src      string
	tokens   []token
	next     int
	mode     Mode
	minor    int
	rules    []rule
	keys     map[string]int32
	warnings []Warning
	conds    []condition // of the rule that is being read
	depth    int         // of calls
	// queries are the compiled literal queries by their text.
	queries    map[string]*query.Query
	queryBytes int
}

// Parse compiles the text of a policy. Its error is a [*SyntaxError], or wraps
// [ErrLimit] when the text is too large.
func Parse(src string, mode Mode) (*Policy, error) {
	if len(src) > maxSource {
		return nil, fmt.Errorf("parse policy: %d bytes, more than %d: %w", len(src), maxSource, ErrLimit)
	}
	p := &parser{src: src, mode: mode, keys: map[string]int32{}, queries: map[string]*query.Query{}}
	if mode == Lenient {
		if rest, found := strings.CutPrefix(src, "\uFEFF"); found {
			p.src = rest
			p.warn(Pos{1, 1}, "the text begins with a byte order mark")
		}
	}
	var err error
	if p.tokens, _, err = lex(p.src); err != nil {
		return nil, err
	}
	if err := p.policy(); err != nil {
		return nil, err
	}
	return p.compiled(), nil
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != tokEOF {
		p.next++
	}
	return t
}

func (p *parser) warn(at Pos, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{at, fmt.Sprintf(format, args...)})
}

// unexpected is the error that t cannot stand where it does.
func unexpected(t token, expected, example string) error {
	return &SyntaxError{Pos: t.pos, Message: t.String() + " cannot stand here", Expected: expected, Example: example}
}

func (p *parser) sign(sign, example string) error {
	if t := p.take(); !t.is(sign) {
		return unexpected(t, fmt.Sprintf("%q", sign), example)
	}
	return nil
}

// policy reads: version, then the sections in their fixed order.
func (p *parser) policy() error {
	if err := p.version(); err != nil {
		return err
	}
	order, authorized := -1, false
	for p.peek().kind != tokEOF {
		t := p.take()
		i := slices.IndexFunc(sectionNames[:], t.isWord)
		if i < 0 {
			return unexpected(t, "configurationrules, authorizationrules or issuancerules (in lower case)", "authorizationrules { => deny(); };")
		}
		if i <= order {
			return &SyntaxError{Pos: t.pos, Message: fmt.Sprintf("%s comes after %s", t.text, sectionNames[order]), Expected: "each section once, in the order configurationrules, authorizationrules, issuancerules"}
		}
		if section(i) == configuration && p.minor < 1 {
			return p.tooOld(t.pos, "configurationrules", 1)
		}
		order, authorized = i, authorized || section(i) == authorization
		if err := p.block(section(i)); err != nil {
			return err
		}
	}
	return p.needAuthorization(authorized)
}

// needAuthorization refuses a policy without authorizationrules: nothing could
// ever permit, which its author cannot have meant.
func (p *parser) needAuthorization(seen bool) error {
	if seen {
		return nil
	}
	if p.mode == Lenient {
		p.warn(p.peek().pos, "the policy has no authorizationrules and therefore denies everything")
		return nil
	}
	return unexpected(p.peek(), "authorizationrules, without which nothing is ever permitted", "authorizationrules { => deny(); };")
}

func (p *parser) version() error {
	const example = "version=1.2;"
	if t := p.take(); !t.isWord("version") {
		return unexpected(t, "version, which begins every policy", example)
	}
	if err := p.sign("=", example); err != nil {
		return err
	}
	t := p.take()
	i := slices.Index([]string{"1.0", "1.1", "1.2"}, t.text)
	if t.kind != tokVersion || i < 0 {
		return unexpected(t, "version 1.0, 1.1 or 1.2", example)
	}
	p.minor = i
	return p.sign(";", example)
}

func (p *parser) tooOld(at Pos, what string, minor int) error {
	return &SyntaxError{Pos: at, Message: fmt.Sprintf("%s needs version 1.%d", what, minor), Example: fmt.Sprintf("version=1.%d;", minor)}
}

func (p *parser) block(s section) error {
	example := s.String() + " { … };"
	if err := p.sign("{", example); err != nil {
		return err
	}
	for !p.peek().is("}") {
		if p.peek().kind == tokEOF {
			return unexpected(p.peek(), fmt.Sprintf("a rule, or } to end %s", s), example)
		}
		if len(p.rules) == maxRules {
			return &SyntaxError{Pos: p.peek().pos, Message: fmt.Sprintf("the policy has more than %d rules", maxRules), err: ErrLimit}
		}
		if err := p.rule(s); err != nil {
			return err
		}
	}
	p.take()
	return p.sign(";", example)
}

const ruleExample = `c:[type=="secureBoot", value==true] => permit();`

func (p *parser) rule(s section) error {
	first := p.peek()
	r := rule{pos: first.pos, section: s}
	p.conds = nil
	for !p.peek().is("=>") {
		if len(p.conds) == maxConditions {
			return &SyntaxError{Pos: p.peek().pos, Message: fmt.Sprintf("the rule has more than %d conditions", maxConditions), err: ErrLimit}
		}
		c, err := p.condition()
		if err != nil {
			return err
		}
		p.conds = append(p.conds, c)
		if p.peek().is("&&") {
			if p.take(); p.peek().is("=>") {
				return unexpected(p.peek(), "another condition after &&", ruleExample)
			}
		} else if !p.peek().is("=>") {
			return unexpected(p.peek(), `"&&" and another condition, or "=>" and an action`, ruleExample)
		}
	}
	p.take()
	var err error
	if r.act, err = p.action(s); err != nil {
		return err
	}
	end := p.peek()
	if err := p.sign(";", ruleExample); err != nil {
		return err
	}
	r.conds, r.src = p.conds, p.src[first.off:end.off+1]
	p.rules = append(p.rules, r)
	return nil
}

func (p *parser) condition() (condition, error) {
	first := p.peek()
	c := condition{pos: first.pos, key: anyType, named: -1}
	if p.peek().is("!") {
		if p.minor < 2 {
			return c, p.tooOld(c.pos, `"!" before a condition`, 2)
		}
		p.take()
		c.negated = true
	}
	if t := p.peek(); t.kind == tokIdent {
		p.take()
		c.ident = t.text
		if err := p.sign(":", ruleExample); err != nil {
			return c, err
		}
	}
	if t := p.take(); !t.is("[") {
		return c, unexpected(t, `a condition in brackets, or "=>" and an action`, ruleExample)
	}
	if err := p.tests(&c); err != nil {
		return c, err
	}
	end := p.take() // the bracket at which tests stopped
	c.src = p.src[first.off : end.off+1]
	return c, nil
}

// tests reads up to the closing bracket, which it leaves.
func (p *parser) tests(c *condition) error {
	for {
		if len(c.tests) == maxTests {
			return &SyntaxError{Pos: p.peek().pos, Message: fmt.Sprintf("the condition has more than %d tests", maxTests), err: ErrLimit}
		}
		t, err := p.test()
		if err != nil {
			return err
		}
		c.tests = append(c.tests, t)
		c.checks = c.checks || c.negated || t.prop == propValue
		if c.key == anyType && t.prop == propType && t.op == query.Equal && t.rhs.kind == exprLiteral {
			c.key, c.named = p.keyOf(t.rhs.lit.text), len(c.tests)-1
		}
		if p.peek().is("]") {
			return nil
		}
		if end := p.take(); !end.is(",") {
			return unexpected(end, `"," and another test, or "]"`, `[type=="secureBoot", value==true]`)
		}
	}
}

// keyOf numbers the claim types that conditions name.
func (p *parser) keyOf(claimType string) int32 {
	key, known := p.keys[claimType]
	if !known {
		key = int32(len(p.keys)) //nolint:gosec // bounded by maxTokens
		p.keys[claimType] = key
	}
	return key
}

func (p *parser) property(example string) (property, Pos, error) {
	t := p.take()
	i := slices.IndexFunc(propertyNames[:], t.isWord)
	if i < 0 {
		return 0, t.pos, unexpected(t, "type, value, valueType or issuer", example)
	}
	return property(i), t.pos, nil
}

func (p *parser) test() (test, error) {
	const example = `[type=="secureBoot", value==true]`
	var t test
	var err error
	if t.prop, t.pos, err = p.property(example); err != nil {
		return t, err
	}
	sign := p.take()
	op := slices.IndexFunc(query.Signs(), sign.is)
	if op < 0 && sign.is("=") && p.mode == Lenient {
		p.warn(sign.pos, "one = in a condition was read as ==")
		op = int(query.Equal)
	}
	if op < 0 {
		return t, unexpected(sign, "==, !=, <, <=, > or >=", example)
	}
	t.op = operator(op)
	if t.rhs, err = p.expr(); err != nil {
		return t, err
	}
	if t.prop != propValue && t.rhs.kind == exprLiteral && t.rhs.lit.kind != String {
		return t, &SyntaxError{Pos: t.rhs.pos, Message: fmt.Sprintf("%s is compared with %s", t.prop, t.rhs.lit), Expected: "a string", Example: example}
	}
	return t, nil
}

// compiled makes the immutable Policy of what was read.
func (p *parser) compiled() *Policy {
	out := &Policy{src: p.src, minor: p.minor, rules: p.rules, keys: p.keys, warnings: p.warnings, mode: p.mode, lastRead: make([]int32, len(p.keys))}
	for i := range out.rules {
		r := &out.rules[i]
		r.markEvery()
		r.exprs(func(e *expr) {
			if e.kind == exprRef && e.ref != unbound {
				r.conds[e.ref].checks = true
			}
		})
		out.bounds[r.section+1] = i + 1
		for j := range r.conds {
			if key := r.conds[j].key; key != anyType {
				out.lastRead[key] = int32(i) //nolint:gosec // bounded by maxRules
			} else {
				out.open = true
			}
		}
	}
	for s := 1; s < len(out.bounds); s++ {
		out.bounds[s] = max(out.bounds[s], out.bounds[s-1])
	}
	return out
}

// markEvery finds the conditions of which every match has to be tried: those
// whose single claim is read. A set function reads the whole set at once.
func (r *rule) markEvery() {
	mark := func(e *expr) {
		if e.kind == exprRef && e.ref != unbound {
			r.conds[e.ref].every = true
		}
	}
	var scalar func(e *expr)
	scalar = func(e *expr) {
		mark(e)
		for i := range e.args {
			if arg := &e.args[i]; arg.kind != exprRef || !e.fn.takesSet(i) {
				scalar(arg)
			}
		}
	}
	for i := range r.conds {
		for j := range r.conds[i].tests {
			scalar(&r.conds[i].tests[j].rhs)
		}
	}
	if r.act.verb >= verbAdd {
		if r.act.copies && r.act.ref != unbound {
			r.conds[r.act.ref].every = true
		}
		scalar(&r.act.typ)
		scalar(&r.act.value)
	}
}
