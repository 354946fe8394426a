package machine

import (
	"errors"
	"fmt"
	"testing"
)

// What a caller acts on is the same error whether the machine runs or not.
func TestErrorsKeepTheirKindOnTheControlSocket(t *testing.T) {
	for kind, err := range kinds() {
		r := respond(nil, fmt.Errorf("snapshot %q: %w", "a", err))
		got := r.err()
		if r.Kind != kind || !errors.Is(got, err) || got.Error() != fmt.Sprintf("snapshot %q: %v", "a", err) {
			t.Errorf("%s: %q, %v", kind, r.Kind, got)
		}
	}
	for _, err := range []error{&StateError{"not so"}, fmt.Errorf("a: %w", &StateError{"b"}), errMoving} {
		r := respond(nil, err)
		var state *StateError
		if got := r.err(); !errors.As(got, &state) || state.Words != err.Error() {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	r := respond(nil, errors.New("something else"))
	if got := r.err(); got.Error() != "something else" || errors.Unwrap(got) != nil {
		t.Errorf("an error that nobody acts on: %v", got)
	}
}
