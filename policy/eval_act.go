package policy

import "fmt"

// act does what the rule says, for the claims that are bound now.
func (e *run) act() error {
	a := &e.rule.act
	if e.trace != nil {
		e.trace.Fired++
	}
	switch a.verb {
	case verbPermit:
		if !e.res.permitted {
			e.res.permitted, e.res.rule = true, e.rule
		}
		return nil
	case verbDeny:
		e.denied = true
		return nil
	}
	if a.copies {
		if a.ref == unbound {
			return errUnbound(a.ident)
		}
		c := e.claim(e.bound[a.ref])
		return e.make(c.Type, c.Value, c.ReadOnly)
	}
	typ, _, err := e.scalar(&a.typ, String)
	if err != nil {
		return fmt.Errorf("type of the claim: %w", err)
	}
	if typ.text == "" {
		return fmt.Errorf("the type of the claim is empty")
	}
	all, err := e.value(&a.value)
	if err != nil {
		return err
	}
	for i := range all.n {
		v := all.at(i)
		if a.valueType != None && v.kind != a.valueType {
			return fmt.Errorf("the value %s is no %s", v.kind, a.valueType)
		}
		if err := e.make(typ.text, v, all.readOnly); err != nil {
			return err
		}
	}
	return nil
}

// make adds, issues or sets one value.
func (e *run) make(claimType string, v Value, readOnly bool) error {
	if err := e.step(len(v.text)); err != nil {
		return err
	}
	c := Claim{Type: claimType, Value: v, Issuer: FromPolicy, ReadOnly: readOnly}
	if e.trace != nil {
		e.trace.Made = append(e.trace.Made, c)
	}
	verb := e.rule.act.verb
	if verb != verbAdd && readOnly {
		// Leaving it out cannot make anyone trust more, and issuance rules do
		// not fail an attestation that was permitted.
		e.note("line %d: %q is computed from a read-only claim and was not issued", e.rule.pos.Line, claimType)
		if verb == verbIssueProperty {
			return nil
		}
	}
	switch {
	case verb == verbIssueProperty:
		return e.setProperty(claimType, v)
	case verb == verbIssue && Reserved(claimType):
		return fmt.Errorf("the claim %q is set by the service only", claimType)
	case verb == verbIssue && !readOnly:
		if err := e.issue(c); err != nil {
			return err
		}
	}
	return e.add(c)
}

func (e *run) note(format string, args ...any) {
	const enough = 64
	if len(e.res.notes) < enough {
		e.res.notes = append(e.res.notes, fmt.Sprintf(format, args...))
	}
}

// setProperty refuses a second value, for neither could be said to count.
func (e *run) setProperty(name string, v Value) error {
	for _, p := range e.res.properties {
		if p.Name == name {
			if p.Value != v {
				return fmt.Errorf("the property %q is already %s", name, p.Value)
			}
			return nil
		}
	}
	if len(e.res.properties) == maxRules {
		return fmt.Errorf("more than %d properties: %w", maxRules, ErrLimit)
	}
	e.res.properties = append(e.res.properties, Property{name, v})
	return nil
}

// few claims are compared one by one, more through a map.
const few = 16

func (e *run) issue(c Claim) error {
	if e.seen(e.res.issued, c, true) {
		return nil
	}
	if err := e.charge(c); err != nil {
		return err
	}
	if e.res.issued == nil {
		e.res.issued = make([]Claim, 0, min(len(e.p.section(issuance)), few))
	}
	e.res.issued = append(e.res.issued, c)
	return nil
}

func (e *run) add(c Claim) error {
	if key, named := e.p.keys[c.Type]; !e.p.open && (!named || int(e.p.lastRead[key]) <= e.number) {
		return nil // no condition can see it any more
	}
	if e.seen(e.added, c, false) {
		return nil
	}
	if err := e.charge(c); err != nil {
		return err
	}
	e.added = append(e.added, c)
	e.next = append(e.next, 0)
	e.link(c.Type, int32(len(e.in)+len(e.added))) //nolint:gosec // bounded by charge
	return nil
}

// charge counts a claim that is about to be kept.
func (e *run) charge(c Claim) error {
	e.bytes += len(c.Value.text)
	if e.bytes > maxAdded || len(e.added) >= maxClaims || len(e.res.issued) >= maxClaims {
		return fmt.Errorf("rules made more than %d claims or %d bytes: %w", maxClaims, maxAdded, ErrLimit)
	}
	return nil
}

// seen reports whether c is in list already, and once lists are long notes it.
func (e *run) seen(list []Claim, c Claim, issued bool) bool {
	if len(list) < few {
		for i := range list {
			if list[i].Type == c.Type && list[i].Value == c.Value {
				return true
			}
		}
		return false
	}
	if e.known == nil {
		e.known = map[known]struct{}{}
	}
	if len(list) == few {
		for i := range list {
			e.known[known{list[i].Type, list[i].Value, issued}] = struct{}{}
		}
	}
	k := known{c.Type, c.Value, issued}
	_, found := e.known[k]
	e.known[k] = struct{}{}
	return found
}

// known is a claim that was added, or issued.
type known struct {
	claimType string
	value     Value
	issued    bool
}
