package attest

import (
	"fmt"

	"github.com/assay-project/assay/evidence"
)

// An InputError is a request that cannot be carried out as it stands: the
// caller's fault, told in the caller's words.
type InputError struct {
	Code   evidence.Code // "request.invalid" when nothing fits better
	Field  string        // member of the request at fault, when there is one
	Detail string
}

func (e *InputError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return fmt.Sprintf("%s: %s", e.Field, e.Detail)
}

func badInput(field, format string, args ...any) error {
	return &InputError{Code: "request.invalid", Field: field, Detail: fmt.Sprintf(format, args...)}
}

// A ConflictError is a request whose premise no longer holds: a name that is
// taken, or a revision that somebody else has replaced.
type ConflictError struct {
	Code   evidence.Code
	Detail string
}

func (e *ConflictError) Error() string { return e.Detail }
