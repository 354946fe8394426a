package policy

import "slices"

// A Result is what a policy said about one set of claims. The zero Result, and
// a nil one, deny. The caller must not change the slices it returns.
type Result struct {
	permitted  bool
	rule       *rule
	issued     []Claim
	properties []Property
	notes      []string
	in         []Claim
	checked    []bool
}

// A Decision names the rule that decided. When no permit rule fired there is
// none, and Line is 0.
type Decision struct {
	Line int    `json:"line"`
	Rule string `json:"rule"`
}

// Permitted reports whether a permit rule fired and no deny rule did.
func (r *Result) Permitted() bool { return r != nil && r.permitted }

// DecidedBy is the deny rule that fired, else the first permit rule that did.
func (r *Result) DecidedBy() Decision {
	if r == nil || r.rule == nil {
		return Decision{}
	}
	return Decision{r.rule.pos.Line, r.rule.text()}
}

// Issued lists the claims for the token in the order of their rules, each once.
// A denied attester gets none.
func (r *Result) Issued() []Claim {
	if r == nil {
		return nil
	}
	return r.issued
}

// Properties lists what issueproperty set.
func (r *Result) Properties() []Property {
	if r == nil {
		return nil
	}
	return r.properties
}

// Notes says in words what was left out of the token, and why.
func (r *Result) Notes() []string {
	if r == nil {
		return nil
	}
	return r.notes
}

// NotChecked lists, sorted, the types of those claims that were present and whose
// value no authorization rule looked at. The verdict says nothing about them.
func (r *Result) NotChecked() []string {
	if r == nil {
		return nil
	}
	out := []string{}
	for i := range r.in {
		if !r.checked[i] {
			out = append(out, r.in[i].Type)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
