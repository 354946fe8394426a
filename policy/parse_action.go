package policy

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/assay-project/assay/policy/query"
)

// allowed lists the actions of each section.
var allowed = [...][]verb{
	configuration: {verbIssueProperty},
	authorization: {verbPermit, verbDeny, verbAdd},
	issuance:      {verbAdd, verbIssue, verbIssueProperty},
}

var actionExamples = [...]string{
	configuration: `=> issueproperty(type="required_pcr_mask", value=15);`,
	authorization: `=> permit();`,
	issuance:      `=> issue(type="level", value=1);`,
}

func (p *parser) action(s section) (action, error) {
	t := p.take()
	i := slices.IndexFunc(verbNames[:], t.isWord)
	a := action{pos: t.pos, verb: verb(max(i, 0)), ref: unbound}
	if i >= 0 && a.verb == verbIssue && s == authorization && p.mode == Lenient {
		p.warn(t.pos, "issue inside authorizationrules was read as add")
		a.verb = verbAdd
	}
	if i < 0 || !slices.Contains(allowed[s], a.verb) {
		var names []string
		for _, v := range allowed[s] {
			names = append(names, v.String())
		}
		return a, unexpected(t, fmt.Sprintf("an action of %s, one of %v", s, names), actionExamples[s])
	}
	if err := p.sign("(", actionExamples[s]); err != nil {
		return a, err
	}
	if a.verb <= verbDeny {
		return a, p.sign(")", actionExamples[s])
	}
	if p.peek().isWord("claim") {
		err := p.claimRef(&a)
		return a, err
	}
	err := p.claimLiteral(&a)
	return a, err
}

func (p *parser) claimRef(a *action) error {
	const example = "c:[type==\"a\"] => issue(claim=c);"
	p.take()
	if err := p.sign("=", example); err != nil {
		return err
	}
	t := p.take()
	if t.kind != tokIdent {
		return unexpected(t, "the identifier of a condition", example)
	}
	a.copies, a.ident, a.ref = true, t.text, p.lookup(t.text)
	return p.sign(")", example)
}

// lookup returns the condition that name is bound to, or unbound. A negated
// condition binds nothing, and of two that share a name the later one counts.
func (p *parser) lookup(name string) int {
	for i := len(p.conds) - 1; i >= 0; i-- {
		if c := &p.conds[i]; c.ident == name && !c.negated {
			return i
		}
	}
	return unbound
}

const literalExample = `issue(type="level", value=1)`

func (p *parser) claimLiteral(a *action) error {
	var seen [len(propertyNames)]bool
	for {
		prop, at, err := p.property(literalExample)
		if err != nil {
			return err
		}
		if seen[prop] {
			return &SyntaxError{Pos: at, Message: fmt.Sprintf("%s is given twice", prop), Example: literalExample}
		}
		seen[prop] = true
		if err := p.sign("=", literalExample); err != nil {
			return err
		}
		if err := p.assign(a, prop); err != nil {
			return err
		}
		end := p.take()
		if end.is(")") {
			break
		}
		if !end.is(",") {
			return unexpected(end, `"," and another property, or ")"`, literalExample)
		}
	}
	if !seen[propType] || !seen[propValue] {
		return &SyntaxError{Pos: a.pos, Message: fmt.Sprintf("%s lacks a type or a value", a.verb), Example: literalExample}
	}
	if a.valueType != None && a.value.kind == exprLiteral && a.value.lit.kind != a.valueType {
		return &SyntaxError{Pos: a.value.pos, Message: fmt.Sprintf("the value %s is no %s", a.value.lit, a.valueType), Example: literalExample}
	}
	return nil
}

// assign reads what follows the = of one property.
func (p *parser) assign(a *action, prop property) error {
	e, err := p.expr()
	if err != nil {
		return err
	}
	literal := e.kind == exprLiteral && e.lit.kind == String
	switch prop {
	case propType:
		a.typ = e
		return a.checkType()
	case propValue:
		a.value = e
	case propValueType:
		return a.setValueType(&e)
	case propIssuer:
		if !literal || e.lit.text != FromPolicy {
			return &SyntaxError{Pos: e.pos, Message: "a rule cannot speak for another issuer", Expected: `no issuer, or "` + FromPolicy + `"`, Example: literalExample}
		}
	}
	return nil
}

func (a *action) checkType() error {
	e := &a.typ
	if e.kind != exprLiteral {
		return nil
	}
	if e.lit.kind != String {
		return &SyntaxError{Pos: e.pos, Message: "the type of a claim is " + e.lit.String(), Expected: "a string", Example: literalExample}
	}
	// The service's own claims are what a relying party checks first.
	if a.verb == verbIssue && Reserved(e.lit.text) {
		return &SyntaxError{Pos: e.pos, Message: fmt.Sprintf("the claim %s is set by the service only", e.lit)}
	}
	return nil
}

func (a *action) setValueType(e *expr) error {
	for _, t := range []Type{Boolean, Integer, String} {
		if e.kind == exprLiteral && e.lit == StringValue(t.String()) {
			a.valueType = t
			return nil
		}
	}
	return &SyntaxError{Pos: e.pos, Message: "the value type is unknown", Expected: `"Boolean", "Integer" or "String"`, Example: `add(type="a", value=1, valueType="Integer")`}
}

const exprExample = `value==true, value>=3, value=="text", value==c.value`

func (p *parser) expr() (expr, error) {
	t := p.take()
	e := expr{pos: t.pos}
	switch {
	case t.kind == tokString:
		text, err := unquote(t)
		e.lit = StringValue(text)
		return e, err
	case t.kind == tokInt:
		n, err := parseInt(t.text)
		if err != nil {
			return e, unexpected(t, "an integer of 64 bits, decimal or with 0x", "value==15, value==-1, value==0xF")
		}
		e.lit = IntValue(n)
		return e, nil
	case t.isWord("true"), t.isWord("false"):
		e.lit = BoolValue(t.text == "true")
		return e, nil
	case t.kind == tokIdent && p.peek().is("."):
		p.take()
		var err error
		e.kind, e.ident, e.ref = exprRef, t.text, p.lookup(t.text)
		e.prop, _, err = p.property("c.value")
		return e, err
	case t.kind == tokIdent && p.peek().is("("):
		err := p.call(t, &e)
		return e, err
	case t.kind == tokVersion:
		return e, unexpected(t, "a whole number, for claims hold no fractions", exprExample)
	}
	return e, unexpected(t, "a string, an integer, true, false, a claim's property or a function", exprExample)
}

func parseInt(s string) (int64, error) {
	digits, sign := s, ""
	if s[0] == '-' {
		digits, sign = s[1:], "-"
	}
	if len(digits) > 2 && digits[0] == '0' && digits[1] == 'x' {
		return strconv.ParseInt(sign+digits[2:], 16, 64)
	}
	return strconv.ParseInt(s, 10, 64)
}

func (p *parser) call(name token, e *expr) error {
	i := slices.IndexFunc(functions[:], func(f functionInfo) bool { return name.isWord(f.name) })
	if i < 0 {
		return unexpected(name, "JmesPath, JsonToClaimValue, IsSubsetOf, AppendString, NegateBool or ContainsOnlyValue", functions[0].example)
	}
	info := functions[i]
	if p.minor < 2 {
		return p.tooOld(name.pos, "the function "+info.name, 2)
	}
	if p.depth++; p.depth > maxNesting {
		return &SyntaxError{Pos: name.pos, Message: fmt.Sprintf("calls are nested more than %d deep", maxNesting), err: ErrLimit}
	}
	p.take()
	e.kind, e.fn = exprCall, function(i)
	for n := range info.args {
		if n > 0 {
			if err := p.sign(",", info.example); err != nil {
				return err
			}
		}
		arg, err := p.expr()
		if err != nil {
			return err
		}
		e.args = append(e.args, arg)
	}
	p.depth--
	if err := p.sign(")", info.example); err != nil {
		return err
	}
	return p.checkCall(e)
}

// checkCall refuses arguments that can only fail when the rule runs.
func (p *parser) checkCall(e *expr) error {
	for i := range e.args {
		arg := &e.args[i]
		want := e.fn.wants(i)
		if arg.kind == exprLiteral && want != None && arg.lit.kind != want {
			return &SyntaxError{Pos: arg.pos, Message: fmt.Sprintf("%s is given %s", e.fn, arg.lit), Expected: fmt.Sprintf("a %s", want), Example: functions[e.fn].example}
		}
	}
	if e.fn != fnJmesPath || e.args[1].kind != exprLiteral {
		return nil
	}
	q, err := p.compile(e.args[1].lit.text)
	if err != nil {
		return &SyntaxError{Pos: e.args[1].pos, Message: err.Error(), Expected: "a JMESPath query", Example: functions[fnJmesPath].example, err: err}
	}
	e.query = q
	return nil
}

// compile compiles each query text once, and bounds what all cost together.
func (p *parser) compile(text string) (*query.Query, error) {
	if q, known := p.queries[text]; known {
		return q, nil
	}
	if p.queryBytes += len(text); p.queryBytes > maxQueryText {
		return nil, fmt.Errorf("all queries together have more than %d bytes: %w", maxQueryText, ErrLimit)
	}
	q, err := query.Compile(text)
	if err == nil {
		p.queries[text] = q
	}
	return q, err
}

// wants is the type that argument i has to have, None when several will do.
func (f function) wants(i int) Type {
	switch f {
	case fnJmesPath, fnJsonToClaimValue, fnAppendString:
		return String
	case fnNegateBool:
		return Boolean
	default:
		return None
	}
}

// takesSet reports whether argument i is read as a set.
func (f function) takesSet(i int) bool {
	return f == fnIsSubsetOf || f == fnContainsOnlyValue && i == 0
}
