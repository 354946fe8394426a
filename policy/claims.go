package policy

import (
	"fmt"
	"slices"
)

// ParseClaims reads claims from JSON: either an object that maps each type to its
// value or values, or a list of objects with type and value. docs/policy.md shows
// both. A null value is a claim that could not be proven, and is left out.
// Members that are not described there are errors.
func ParseClaims(text string) ([]Claim, error) {
	if len(text) > maxAdded {
		return nil, fmt.Errorf("parse claims: %d bytes, more than %d: %w", len(text), maxAdded, ErrLimit)
	}
	v, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	var r claimReader
	switch v := v.(type) {
	case object:
		for _, m := range v {
			if err == nil {
				err = r.values(m.name, m.value)
			}
		}
	case []any:
		for i, e := range v {
			if err == nil {
				err = r.listed(i, e)
			}
		}
	default:
		err = fmt.Errorf("a JSON %s, want an object or an array", typeName(v))
	}
	if err != nil {
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	if len(r.out) > maxClaims {
		return nil, fmt.Errorf("parse claims: %d claims, more than %d: %w", len(r.out), maxClaims, ErrLimit)
	}
	return r.out, nil
}

type claimReader struct{ out []Claim }

// values reads what an object has for one type.
func (r *claimReader) values(claimType string, v any) error {
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	for _, e := range list {
		o, isObject := e.(object)
		if !isObject {
			o = object{{"value", e}}
		}
		if err := r.claim(claimType, o); err != nil {
			return err
		}
	}
	return nil
}

// listed reads one element of a list.
func (r *claimReader) listed(i int, v any) error {
	o, ok := v.(object)
	claimType, named := o.get("type").(string)
	if !ok || !named {
		return fmt.Errorf("element %d is no object with a type", i)
	}
	rest := slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.name == "type" })
	return r.claim(claimType, rest)
}

// claim reads the members of one claim. The claims of an appraisal's result have
// reason and pcrs, which say nothing to a policy.
func (r *claimReader) claim(claimType string, o object) error {
	c := Claim{Type: claimType, Issuer: FromService, ReadOnly: claimType == "pcrs"}
	if claimType == "" {
		return fmt.Errorf("a claim has an empty type")
	}
	known, valueType := false, ""
	for _, m := range o {
		ok := true
		switch m.name {
		case "value":
			known = true
			if m.value == nil {
				continue
			}
			var err error
			if c.Value, err = claimValue(m.value); err != nil {
				return fmt.Errorf("claim %q: %w", claimType, err)
			}
		case "valueType":
			valueType, ok = m.value.(string)
		case "issuer":
			c.Issuer, ok = m.value.(string)
			ok = ok && c.Issuer != "" && c.Issuer != FromPolicy
		case "readOnly":
			c.ReadOnly, ok = m.value.(bool)
		case "reason", "pcrs":
		default:
			return fmt.Errorf("claim %q has the unknown member %q", claimType, m.name)
		}
		if !ok {
			return fmt.Errorf("claim %q has a wrong %s", claimType, m.name)
		}
	}
	if !known {
		return fmt.Errorf("claim %q has no value", claimType)
	}
	if c.Value.kind == None {
		return nil
	}
	if valueType != "" && valueType != c.Value.kind.String() {
		return fmt.Errorf("claim %q has the value type %s, but its value is %s", claimType, valueType, c.Value.kind)
	}
	r.out = append(r.out, c)
	return nil
}
