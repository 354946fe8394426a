package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/policy/query"
)

// values are what an expression gives: most often one, but JsonToClaimValue gives
// as many as its array has, and a set function reads a whole set.
type values struct {
	one      Value
	more     []Value // all of them, when they are not one
	n        int
	readOnly bool
}

func (v *values) len() int { return v.n }

func (v *values) at(i int) Value {
	if v.n == 1 && v.more == nil {
		return v.one
	}
	return v.more[i]
}

func single(v Value, readOnly bool) values { return values{one: v, n: 1, readOnly: readOnly} }

// value evaluates an expression for the claims that are bound now.
func (e *run) value(x *expr) (values, error) {
	switch x.kind {
	case exprLiteral:
		return single(x.lit, false), nil
	case exprRef:
		if x.ref == unbound {
			return values{}, errUnbound(x.ident)
		}
		c := e.claim(e.bound[x.ref])
		return single(c.get(x.prop), c.ReadOnly && x.prop == propValue), nil
	}
	if err := e.step(0); err != nil {
		return values{}, err
	}
	out, err := e.call(x)
	if err != nil {
		return values{}, fmt.Errorf("%s: %w", x.fn, err)
	}
	return out, nil
}

func errUnbound(ident string) error {
	return fmt.Errorf("no condition of the rule binds the identifier %q", ident)
}

func (e *run) call(x *expr) (values, error) {
	switch x.fn {
	case fnJmesPath:
		return e.jmesPath(x)
	case fnJsonToClaimValue:
		return e.jsonToClaimValue(&x.args[0])
	case fnAppendString:
		return e.appendString(x)
	case fnNegateBool:
		v, readOnly, err := e.scalar(&x.args[0], Boolean)
		b, _ := v.Bool()
		return single(BoolValue(!b), readOnly), err
	case fnIsSubsetOf:
		return e.isSubsetOf(x)
	default:
		return e.containsOnlyValue(x)
	}
}

// scalar evaluates an argument that must be one value, of the type want if that
// is not None.
func (e *run) scalar(x *expr, want Type) (v Value, readOnly bool, err error) {
	all, err := e.value(x)
	if err != nil {
		return Value{}, false, err
	}
	if all.n != 1 {
		return Value{}, false, fmt.Errorf("an argument has %d values, not one", all.n)
	}
	v = all.at(0)
	if want != None && v.kind != want {
		return Value{}, false, fmt.Errorf("an argument is %s, not %s", v.kind, want)
	}
	return v, all.readOnly, nil
}

// set evaluates an argument as a set: c.value is the values of all claims that
// condition c would take, given the conditions before it.
func (e *run) set(x *expr) (values, error) {
	if x.kind != exprRef {
		return e.value(x)
	}
	if x.ref == unbound {
		return values{}, errUnbound(x.ident)
	}
	c := &e.rule.conds[x.ref]
	out := values{more: []Value{}}
	for n := e.first(c); n != 0; n = e.following(c, n) {
		ok, err := e.passes(x.ref, n)
		if err != nil {
			return values{}, err
		}
		if ok {
			out.more = append(out.more, e.claim(n).get(x.prop))
		}
	}
	out.n = len(out.more)
	return out, nil
}

func (e *run) jmesPath(x *expr) (values, error) {
	text, tainted, err := e.scalar(&x.args[0], String)
	if err != nil {
		return values{}, err
	}
	queryText, queryTainted, err := e.scalar(&x.args[1], String)
	if err != nil {
		return values{}, err
	}
	q := x.query
	if q == nil {
		if q, err = e.compile(queryText.text); err != nil {
			return values{}, err
		}
	}
	doc, err := e.document(text.text)
	if err != nil {
		return values{}, err
	}
	out, err := q.Run(&e.meter, doc)
	return single(StringValue(out), tainted || queryTainted), err
}

// compile compiles a query that a rule computed, once for each evaluation.
func (e *run) compile(text string) (*query.Query, error) {
	if q, known := e.queries[text]; known {
		return q, nil
	}
	if err := e.meter.Spend(16*len(text), 64*len(text)); err != nil {
		return nil, err
	}
	q, err := query.Compile(text)
	if err != nil {
		return nil, err
	}
	if e.queries == nil {
		e.queries = map[string]*query.Query{}
	}
	e.queries[text] = q
	return q, nil
}

// document parses JSON text. It keeps one document of each length, so that a
// look-up compares at most once.
func (e *run) document(text string) (any, error) {
	if err := e.meter.Spend(1+len(text)/64, 0); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(e.docs, func(d document) bool { return len(d.text) == len(text) })
	if i >= 0 && e.docs[i].text == text {
		return e.docs[i].value, nil
	}
	if err := e.meter.Spend(len(text)/16, len(text)); err != nil {
		return nil, err
	}
	v, err := query.Parse(text)
	if err != nil {
		return nil, err
	}
	const keep = 64
	switch {
	case i >= 0:
		e.docs[i] = document{text, v}
	case len(e.docs) < keep:
		e.docs = append(e.docs, document{text, v})
	}
	return v, nil
}

func (e *run) jsonToClaimValue(x *expr) (values, error) {
	text, readOnly, err := e.scalar(x, String)
	if err != nil {
		return values{}, err
	}
	doc, err := e.document(text.text)
	if err != nil {
		return values{}, err
	}
	list, isList := doc.([]any)
	if !isList {
		if doc == nil {
			return values{readOnly: readOnly}, nil
		}
		v, err := claimValue(doc)
		return single(v, readOnly), err
	}
	out := values{more: make([]Value, len(list)), n: len(list), readOnly: readOnly}
	for i := range list {
		if out.more[i], err = claimValue(list[i]); err != nil {
			return values{}, err
		}
	}
	return out, nil
}

func claimValue(v any) (Value, error) {
	switch v := v.(type) {
	case bool:
		return BoolValue(v), nil
	case int64:
		return IntValue(v), nil
	case string:
		return StringValue(v), nil
	case float64:
		return Value{}, errors.New("the number is a fraction or too large for a claim")
	default:
		return Value{}, fmt.Errorf("a JSON %s is no claim value", query.TypeName(v))
	}
}

func (e *run) appendString(x *expr) (values, error) {
	a, taintedA, err := e.scalar(&x.args[0], String)
	if err != nil {
		return values{}, err
	}
	b, taintedB, err := e.scalar(&x.args[1], String)
	if err != nil {
		return values{}, err
	}
	length := len(a.text) + len(b.text)
	if length > maxString {
		return values{}, fmt.Errorf("a string of %d bytes, more than %d: %w", length, maxString, ErrLimit)
	}
	if e.bytes += length; e.bytes > maxAdded {
		return values{}, fmt.Errorf("more than %d bytes of values: %w", maxAdded, ErrLimit)
	}
	return single(StringValue(a.text+b.text), taintedA || taintedB), nil
}

// isSubsetOf clears the read-only mark, as the answer does not reveal the set.
func (e *run) isSubsetOf(x *expr) (values, error) {
	a, err := e.set(&x.args[0])
	if err != nil {
		return values{}, err
	}
	b, err := e.set(&x.args[1])
	if err != nil {
		return values{}, err
	}
	in := make(map[Value]struct{}, b.n)
	for i := range b.n {
		in[b.at(i)] = struct{}{}
	}
	for i := range a.n {
		if _, found := in[a.at(i)]; !found {
			return single(BoolValue(false), false), nil
		}
	}
	return single(BoolValue(true), false), nil
}

func (e *run) containsOnlyValue(x *expr) (values, error) {
	set, err := e.set(&x.args[0])
	if err != nil {
		return values{}, err
	}
	want, _, err := e.scalar(&x.args[1], None)
	if err != nil {
		return values{}, err
	}
	only := set.n > 0
	for i := range set.n {
		only = only && set.at(i) == want
	}
	return single(BoolValue(only), false), nil
}
