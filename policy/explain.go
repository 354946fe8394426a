package policy

import "slices"

// A RuleTrace says what one rule did.
type RuleTrace struct {
	Section string `json:"section"`
	Line    int    `json:"line"`
	Rule    string `json:"rule"`
	// Fired counts how often the rule acted.
	Fired int `json:"fired"`
	// Unmet is the first condition for which no claim was found, when Fired is 0.
	Unmet string `json:"unmet,omitempty"`
	// Read lists the claims that the conditions looked at.
	Read []Claim `json:"read"`
	// Made lists the claims and properties that the rule made.
	Made []Claim `json:"made,omitempty"`

	rule    *rule
	deepest int
}

// An Explanation is an evaluation with its reasons. Rules that did not run, for a
// deny or an error came before them, have no trace.
type Explanation struct {
	Result *Result // nil when Err is not
	Rules  []RuleTrace
	Err    error // as of Evaluate
}

// Explain evaluates p as [Policy.Evaluate] does and keeps what each rule read.
func (p *Policy) Explain(claims []Claim) *Explanation {
	if p == nil {
		return &Explanation{Result: new(Result)}
	}
	out := &Explanation{}
	e, err := p.newRun(claims)
	if err != nil {
		out.Err = err
		return out
	}
	e.traces = &out.Rules
	out.Err = e.sections()
	out.Result = e.res
	for i := range out.Rules {
		t := &out.Rules[i]
		if t.Fired == 0 && t.deepest < len(t.rule.conds) {
			t.Unmet = oneLine(t.rule.conds[t.deepest].src)
		}
	}
	return out
}

func (e *run) startTrace(r *rule) {
	*e.traces = append(*e.traces, RuleTrace{Section: r.section.String(), Line: r.pos.Line, Rule: r.text(), Read: []Claim{}, rule: r})
	e.trace = &(*e.traces)[len(*e.traces)-1]
}

// reached notes that the conditions before number i hold.
func (t *RuleTrace) reached(i int) { t.deepest = max(t.deepest, i) }

// read notes that a condition looked at a claim.
func (t *RuleTrace) read(c *Claim, about bool) {
	const enough = 256
	if !about || len(t.Read) == enough {
		return
	}
	if slices.Contains(t.Read, *c) {
		return
	}
	t.Read = append(t.Read, *c)
}

// text is the rule on one line.
func (r *rule) text() string { return oneLine(r.src) }
