package apiserver

import (
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestBodiesOfEverySizeArriveWhole(t *testing.T) {
	for _, n := range []int{1, firstRead - 1, firstRead, firstRead + 1, 2*firstRead - 1, 2 * firstRead, 2*firstRead + 1, 5 * firstRead} {
		for _, length := range []int64{int64(n), -1} {
			s := &Server{bodies: &budget{left: 1 << 20}, metrics: NewMetrics(), callers: newCallers(Limits{}.withDefaults())}
			place, _ := s.callers.enter("a", true)
			var leave leavers
			in := strings.Repeat("x", n)
			got, err := s.receive(&http.Request{Body: io.NopCloser(strings.NewReader(in)), ContentLength: length}, int64(5*firstRead), place, &leave)
			if err != nil || string(got) != in {
				t.Errorf("%d bytes, announced %d: %d bytes, %v", n, length, len(got), err)
			}
			if leave.run(); s.bodies.left != 1<<20 || place.caller.held != 0 {
				t.Errorf("%d bytes, announced %d: %d of the memory left, %d held", n, length, s.bodies.left, place.caller.held)
			}
		}
	}
}

func TestStrictJSON(t *testing.T) {
	for in, good := range map[string]bool{
		`{"a":1,"b":[{"a":1},{"a":2}]}`: true,
		`{"a":{"b":1,"b":2}}`:           false,
		`{"a":1,"\u0061":2}`:            false,
		`{"a":1,"A":2}`:                 false,
		`{"a":"\ud800"}`:                false,
		`{"a":1} x`:                     false,
		`[1,2`:                          false,
		``:                              false,
		"\"\xff\"":                      false,
		strings.Repeat("[", 33) + strings.Repeat("]", 33): false,
		strings.Repeat("[", 32) + strings.Repeat("]", 32): true,
	} {
		if err := checkJSON([]byte(in)); (err == nil) != good {
			t.Errorf("checkJSON(%q) = %v", in, err)
		}
	}
}

func TestExactNamesLooksInside(t *testing.T) {
	type inner struct {
		Count int `json:"count"`
	}
	type outer struct {
		List []inner          `json:"list"`
		Map  map[string]inner `json:"map"`
		At   time.Time        `json:"at"`
		One  *inner           `json:"one,omitempty"`
	}
	for body, ok := range map[string]bool{
		`{"list":[{"count":1}],"map":{"Any":{"count":2}},"at":"2026-11-22T12:00:00Z","one":{"count":3}}`: true,
		`{"list":[{"Count":1}]}`:     false,
		`{"map":{"a":{"COUNT":1}}}`:  false,
		`{"one":{"counT":1}}`:        false,
		`{"List":[]}`:                false,
		`{"at":{"Anything":"here"}}`: true, // for its own reader to refuse
		`{"list":{"count":1}}`:       true, // the same
	} {
		if err := exactNames([]byte(body), reflect.TypeFor[*outer]()); (err == nil) != ok {
			t.Errorf("exactNames(%s) = %v, want accepted: %v", body, err, ok)
		}
	}
}
