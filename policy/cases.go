package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/assay-project/assay/internal/strictjson"
)

// A Table is a list of claim sets with what a policy has to say about each.
// docs/policy.md shows its JSON form.
type Table struct {
	// Policy is the file with the policy, beside the table.
	Policy  string `json:"policy"`
	Lenient bool   `json:"lenient,omitempty"`
	Cases   []Case `json:"cases"`
}

// A Case is one row of a [Table].
type Case struct {
	Name      string          `json:"name"`
	Claims    json.RawMessage `json:"claims"`
	Permitted *bool           `json:"permitted"`
	// Issued, when given, are all claims of the token, in order.
	Issued *[]IssuedClaim `json:"issued,omitempty"`
	// Line, when given, is that of the rule that has to decide; 0 is none.
	Line *int `json:"line,omitempty"`
	// Error, when given, is part of the error that the evaluation has to end with.
	Error string `json:"error,omitempty"`
}

// An IssuedClaim is a claim of a token: its value is a boolean, an integer or a string.
type IssuedClaim struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// ParseTable reads a table. Every case needs a name, claims, and either an error
// or whether it is permitted.
func ParseTable(data []byte) (*Table, error) {
	rules := strictjson.Rules{Bytes: maxAdded, Depth: 32, Members: maxClaims, Values: 1 << 20, FoldNames: true}
	if _, err := strictjson.Parse(data, rules); err != nil {
		return nil, fmt.Errorf("parse table: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	t := new(Table)
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("parse table: %w", err)
	}
	if t.Policy == "" || strings.ContainsAny(t.Policy, `/\`) || len(t.Cases) == 0 {
		return nil, errors.New("parse table: it needs a policy, which is a file name without folder, and cases")
	}
	for i := range t.Cases {
		c := &t.Cases[i]
		if c.Name == "" || c.Claims == nil || (c.Permitted == nil) == (c.Error == "") {
			return nil, fmt.Errorf("parse table: case %d, %q, needs a name, claims, and one of permitted and error", i, c.Name)
		}
	}
	return t, nil
}

// Check evaluates p for the case and returns what differs, nil when nothing does.
func (c *Case) Check(p *Policy) error {
	claims, err := ParseClaims(string(c.Claims))
	if err != nil {
		return err
	}
	r, err := p.Evaluate(claims)
	if c.Error != "" {
		if err == nil || !strings.Contains(err.Error(), c.Error) {
			return fmt.Errorf("got the error %v, want one with %q", err, c.Error)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var wrong []error
	if r.Permitted() != *c.Permitted {
		wrong = append(wrong, fmt.Errorf("got permitted %v, want %v", r.Permitted(), *c.Permitted))
	}
	if c.Line != nil && r.DecidedBy().Line != *c.Line {
		wrong = append(wrong, fmt.Errorf("got a decision of line %d, want %d", r.DecidedBy().Line, *c.Line))
	}
	if c.Issued != nil {
		var got, want []string
		for _, claim := range r.Issued() {
			got = append(got, claim.Type+"="+claim.Value.String())
		}
		for _, claim := range *c.Issued {
			v := fmt.Sprint(claim.Value)
			if s, ok := claim.Value.(string); ok {
				v = quote(s)
			}
			want = append(want, claim.Type+"="+v)
		}
		if g, w := strings.Join(got, ", "), strings.Join(want, ", "); g != w {
			wrong = append(wrong, fmt.Errorf("got issued [%s], want [%s]", g, w))
		}
	}
	return errors.Join(wrong...)
}
