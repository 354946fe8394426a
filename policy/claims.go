package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/internal/strictjson"
	"github.com/assay-project/assay/policy/query"
)

// ParseClaims reads claims from JSON: either an object that maps each type to its
// value or values, or a list of objects with type and value. docs/policy.md shows
// both. A null value is a claim that could not be proven, and is left out.
// Members that are not described there are errors.
func ParseClaims(text string) ([]Claim, error) {
	if len(text) > maxAdded {
		return nil, fmt.Errorf("parse claims: %d bytes, more than %d: %w", len(text), maxAdded, ErrLimit)
	}
	v, err := query.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse claims: %w", err)
	}
	var r claimReader
	switch v := v.(type) {
	case strictjson.Tree:
		for _, m := range v {
			if err == nil {
				err = r.values(m.Name, m.Value)
			}
		}
	case []any:
		for i, e := range v {
			if err == nil {
				err = r.listed(i, e)
			}
		}
	default:
		err = fmt.Errorf("a JSON %s, want an object or an array", query.TypeName(v))
	}
	if err != nil {
		return nil, fmt.Errorf("parse claims: %w", err)
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
		o, isObject := e.(strictjson.Tree)
		if !isObject {
			o = strictjson.Tree{{Name: "value", Value: e}}
		}
		if err := r.claim(claimType, o); err != nil {
			return err
		}
	}
	return nil
}

// listed reads one element of a list.
func (r *claimReader) listed(i int, v any) error {
	o, ok := v.(strictjson.Tree)
	claimType, named := o.Get("type").(string)
	if !ok || !named {
		return fmt.Errorf("element %d is no object with a type", i)
	}
	rest := slices.DeleteFunc(slices.Clone(o), func(m strictjson.Branch) bool { return m.Name == "type" })
	return r.claim(claimType, rest)
}

// claim reads the members of one claim.
func (r *claimReader) claim(claimType string, o strictjson.Tree) error {
	if claimType == "" {
		return errors.New("a claim has an empty type")
	}
	m := claimMembers{Claim: Claim{Type: claimType, Issuer: FromService, ReadOnly: claimType == "pcrs"}}
	for _, member := range o {
		if err := m.set(member); err != nil {
			return fmt.Errorf("claim %q: %w", claimType, err)
		}
	}
	if !m.known {
		return fmt.Errorf("claim %q has no value", claimType)
	}
	if m.Value.kind == None {
		return nil
	}
	if m.valueType != "" && m.valueType != m.Value.kind.String() {
		return fmt.Errorf("claim %q has the value type %s, but its value is %s", claimType, m.valueType, m.Value.kind)
	}
	if len(r.out) == maxClaims {
		return fmt.Errorf("more than %d claims: %w", maxClaims, ErrLimit)
	}
	r.out = append(r.out, m.Claim)
	return nil
}

// claimMembers is a claim whose members are being read.
type claimMembers struct {
	Claim
	known     bool // there is a value, which may be null
	valueType string
}

// set takes one member. The claims of an appraisal's result have reason and pcrs,
// which say nothing to a policy.
func (c *claimMembers) set(m strictjson.Branch) error {
	ok := true
	switch m.Name {
	case "value":
		c.known = true
		if m.Value == nil {
			return nil
		}
		var err error
		c.Value, err = claimValue(m.Value)
		return err
	case "valueType":
		c.valueType, ok = m.Value.(string)
	case "issuer":
		c.Issuer, ok = m.Value.(string)
		ok = ok && c.Issuer != "" && c.Issuer != FromPolicy
	case "readOnly":
		c.ReadOnly, ok = m.Value.(bool)
	case "reason", "pcrs":
	default:
		return fmt.Errorf("unknown member %q", m.Name)
	}
	if !ok {
		return fmt.Errorf("wrong %s", m.Name)
	}
	return nil
}
