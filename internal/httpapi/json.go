package httpapi

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

// attestRules bound a request to attest with its evidence, whose own limits, those
// of a bundle, are narrower.
func attestRules(data []byte) strictjson.Rules {
	return strictjson.Rules{Bytes: len(data), Depth: 16, Members: 64, Values: 1 << 13, PlainNames: true}
}

// checkJSON refuses what readers of JSON understand differently: a member that
// comes twice, text after the value, what is not Unicode, and deep nesting.
func checkJSON(data []byte) error {
	if _, err := strictjson.Parse(data, bodyRules(data)); err != nil {
		return unread(err)
	}
	return nil
}

func unread(err error) error {
	if errors.Is(err, strictjson.ErrSyntax) {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return fmt.Errorf("the body cannot be read: %w", err)
}

// members checks the whole text of one JSON object and hands out its members.
func members(data []byte, each func(name string, value strictjson.Value) error) error {
	err := strictjson.Object(data, attestRules(data), each)
	var fault *strictjson.Error
	if errors.As(err, &fault) {
		return malformed("%v", unread(err))
	}
	return err
}

func malformed(format string, args ...any) *Problem {
	return newProblem(http.StatusBadRequest, codeMalformed, fmt.Sprintf(format, args...))
}
