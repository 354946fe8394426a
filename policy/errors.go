package policy

import (
	"fmt"
	"strings"

	"github.com/assay-project/assay/policy/query"
)

// ErrLimit is wrapped by errors about a policy, a claim set or an evaluation
// that is larger or costlier than this package allows.
var ErrLimit = query.ErrLimit

// A Pos is a place in the text of a policy; both count from 1, columns in
// characters. The zero Pos is no place.
type Pos struct {
	Line int `json:"line"`
	Col  int `json:"col"`
}

func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Col) }

// A SyntaxError is text that is no policy.
type SyntaxError struct {
	Pos
	Message  string // what was found
	Expected string // what could stand here; may be empty
	Example  string // valid text; may be empty
	err      error
}

func (e *SyntaxError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", e.Pos, e.Message)
	if e.Expected != "" {
		fmt.Fprintf(&b, ", expected %s", e.Expected)
	}
	if e.Example != "" {
		fmt.Fprintf(&b, "; for example: %s", e.Example)
	}
	return b.String()
}

func (e *SyntaxError) Unwrap() error { return e.err }

// An EvaluationError is a rule that could not be evaluated, for example because
// a function was given the wrong type. The evaluation denies.
type EvaluationError struct {
	Pos
	Rule string // its text
	Err  error
}

func (e *EvaluationError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("evaluate policy: %v", e.Err)
	}
	return fmt.Sprintf("evaluate rule at line %d: %v", e.Line, e.Err)
}

func (e *EvaluationError) Unwrap() error { return e.Err }
