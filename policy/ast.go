package policy

import "github.com/assay-project/assay/policy/query"

// A section is one of the three blocks, in the order in which they run.
type section uint8

const (
	configuration section = iota
	authorization
	issuance
)

var sectionNames = [...]string{"configurationrules", "authorizationrules", "issuancerules"}

func (s section) String() string { return sectionNames[s] }

// A rule acts once for each way in which its conditions hold.
type rule struct {
	pos     Pos
	src     string // its text, with the closing semicolon
	section section
	conds   []condition
	act     action
}

// A condition asks for a claim that passes all its tests, or for none.
type condition struct {
	pos     Pos
	src     string // its text
	negated bool
	ident   string // "" for none
	tests   []test
	named   int // the test that key stands for, which needs no second look
	// checks tells that the condition looks at more than the presence of a claim.
	checks bool
	// key indexes the claim type that the condition names; anyType when it names none.
	key int32
	// every tells that a later test or the action reads the single claim that is
	// bound here, so that each match has to be tried; else the first one is enough.
	every bool
}

const anyType = -1

type property uint8

const (
	propType property = iota
	propValue
	propValueType
	propIssuer
)

var propertyNames = [...]string{"type", "value", "valueType", "issuer"}

func (p property) String() string { return propertyNames[p] }

type operator = query.Operator

// A test compares one property of a claim.
type test struct {
	pos  Pos
	prop property
	op   operator
	rhs  expr
}

type verb uint8

const (
	verbPermit verb = iota
	verbDeny
	verbAdd
	verbIssue
	verbIssueProperty
)

var verbNames = [...]string{"permit", "deny", "add", "issue", "issueproperty"}

func (v verb) String() string { return verbNames[v] }

// An action is what a rule does. Of the last three verbs, it either copies the
// claim that an identifier is bound to or makes one of typ and value.
type action struct {
	pos       Pos
	verb      verb
	copies    bool
	ref       int // the condition whose claim is copied; unbound when there is none
	ident     string
	typ       expr
	value     expr
	valueType Type // None when the text names none
}

type exprKind uint8

const (
	exprLiteral exprKind = iota
	exprRef
	exprCall
)

// unbound is the reference of an identifier that no condition before it binds.
// The published samples contain such rules, so this is found when the rule runs.
const unbound = -1

// An expr is a literal, a property of a bound claim, or a call.
type expr struct {
	pos   Pos
	kind  exprKind
	lit   Value
	ref   int // of the condition that binds ident
	ident string
	prop  property
	fn    function
	args  []expr
	query *query.Query // compiled when the query of a JmesPath call is a literal
}

// walk calls visit for e and all expressions inside it.
func (e *expr) walk(visit func(*expr)) {
	visit(e)
	for i := range e.args {
		e.args[i].walk(visit)
	}
}

// exprs calls visit for every expression of the rule.
func (r *rule) exprs(visit func(*expr)) {
	for i := range r.conds {
		for j := range r.conds[i].tests {
			r.conds[i].tests[j].rhs.walk(visit)
		}
	}
	if r.act.verb >= verbAdd && !r.act.copies {
		r.act.typ.walk(visit)
		r.act.value.walk(visit)
	}
}

type function uint8

const (
	fnJmesPath function = iota
	fnJsonToClaimValue
	fnIsSubsetOf
	fnAppendString
	fnNegateBool
	fnContainsOnlyValue
)

type functionInfo struct {
	name    string
	args    int
	example string
}

// functions lists the functions of version 1.2.
var functions = [...]functionInfo{
	fnJmesPath:          {"JmesPath", 2, `JmesPath(c.value, "Events[0].PcrIndex")`},
	fnJsonToClaimValue:  {"JsonToClaimValue", 1, `JsonToClaimValue(c.value)`},
	fnIsSubsetOf:        {"IsSubsetOf", 2, `IsSubsetOf(c1.value, c2.value)`},
	fnAppendString:      {"AppendString", 2, `AppendString("a", c.value)`},
	fnNegateBool:        {"NegateBool", 1, `NegateBool(c.value)`},
	fnContainsOnlyValue: {"ContainsOnlyValue", 2, `ContainsOnlyValue(c.value, true)`},
}

func (f function) String() string { return functions[f].name }
