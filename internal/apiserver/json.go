package apiserver

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/assay-project/assay/internal/strictjson"
)

// bodyRules bound the JSON of a body that encoding/json reads afterwards. The
// deepest, a baseline, has 6 levels and a few thousand values.
func bodyRules(data []byte) strictjson.Rules {
	// How long a body may be its route says; it was read up to there.
	return strictjson.Rules{Bytes: len(data), Depth: 32, Members: 4096, Values: 1 << 15, FoldNames: true}
}

// checkJSON refuses what readers of JSON understand differently: a member that
// comes twice, text after the value, what is not Unicode, and deep nesting.
func checkJSON(data []byte) error {
	if _, err := strictjson.Parse(data, bodyRules(data)); err != nil {
		return Unread(err)
	}
	return nil
}

// Unread puts into words why the body is not JSON that this service reads.
func Unread(err error) error {
	if errors.Is(err, strictjson.ErrSyntax) {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return fmt.Errorf("the body cannot be read: %w", err)
}

// Malformed is a request that cannot be read.
func Malformed(format string, args ...any) *Problem {
	return NewProblem(http.StatusBadRequest, CodeMalformed, fmt.Sprintf(format, args...))
}
