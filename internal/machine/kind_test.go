package machine

import (
	"errors"
	"fmt"
	"strings"
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
		if got := r.err(); !errors.As(got, &state) || !strings.HasSuffix(err.Error(), state.Words) || got.Error() != err.Error() {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	r := respond(nil, errors.New("something else"))
	if got := r.err(); got.Error() != "something else" || errors.Unwrap(got) != nil {
		t.Errorf("an error that nobody acts on: %v", got)
	}
}

// What else went wrong is for who is on the host alone.
func TestASupervisorTellsTheWordsOfAnErrorApart(t *testing.T) {
	elsewhere := errors.New("close /srv/secret: no space left on device")
	for name, tc := range map[string]struct {
		err  error
		is   error
		want string
	}{
		"state":         {errors.Join(&StateError{"it is on its way"}, elsewhere), &StateError{}, "it is on its way"},
		"state wrapped": {fmt.Errorf("disk \"/srv/secret\": %w", &StateError{"it is on its way"}), &StateError{}, "it is on its way"},
		"moving":        {errors.Join(elsewhere, errMoving), &StateError{}, errMoving.Error()},
		"kind":          {errors.Join(elsewhere, fmt.Errorf("boot 3 %w", ErrNotJudged)), ErrNotJudged, "boot 3 was compared with no baseline"},
	} {
		got := respond(nil, tc.err)
		err := fmt.Errorf("machine: %w", got.err())
		words := ""
		if state := (*StateError)(nil); errors.As(err, &state) {
			words = state.Words
		} else if errors.Is(err, tc.is) {
			words = WordsOf(err, tc.is)
		}
		if words != tc.want {
			t.Errorf("%s: %q, want %q", name, words, tc.want)
		}
		if !strings.Contains(err.Error(), strings.Split(tc.err.Error(), "\n")[0]) {
			t.Errorf("%s: on the host it is %q, want all of %q", name, err, tc.err)
		}
	}
	old := response{Error: "close /srv/secret", Kind: kindState}
	if state := (*StateError)(nil); !errors.As(old.err(), &state) || state.Words != unsaid {
		t.Errorf("of an older program: %v", old.err())
	}
}
