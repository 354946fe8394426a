package httpapi

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/strictjson"
)

func TestMembersAreFoundByteForByte(t *testing.T) {
	got := map[string]string{}
	err := members([]byte(" {\"a\" : 1 ,\"b\":\"}\\\\\\\"]\",\"c\":{\"d\":[1,{}]} , \"e\":[ ],\"f\":null}\n"), func(name string, v strictjson.Value) error {
		got[name] = string(v)
		return nil
	})
	want := map[string]string{"a": "1", "b": `"}\\\"]"`, "c": `{"d":[1,{}]}`, "e": "[ ]", "f": "null"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("members: %v (-want +got):\n%s", err, diff)
	}
}

func TestAMemberThatCannotBeReadIsAProblemOfTheRequest(t *testing.T) {
	for in, want := range map[string]string{
		``: "not JSON", `[]`: "not JSON", `{"a":1,}`: "not JSON", `{"a":[1}]}`: "at byte 7, in a", `{"a":1,"a":1}`: "twice", `{"\u0061":1}`: "escape", `{"a":{"b":1,"b":2}}`: "in a",
		"{\"\xff\":1}": "UTF-8", `{"a":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`: "nested", `{"a":1}{}`: "text after",
		`{"a":[` + strings.Repeat("1,", 1<<13) + `1]}`: "values",
	} {
		err := members([]byte(in), func(string, strictjson.Value) error { return nil })
		var p *apiserver.Problem
		if !errors.As(err, &p) || p.Status != 400 || !strings.Contains(p.Detail, want) {
			t.Errorf("members(%.60q) = %+v, want a problem with %q", in, err, want)
		}
	}
	own := missing("challenge")
	if err := members([]byte(`{"a":1}`), func(string, strictjson.Value) error { return own }); err != error(own) { //nolint:errorlint // the very error
		t.Errorf("a visit's own problem becomes %v", err)
	}
}

func TestTheTypeOfABundleIsFoundWhereverItStands(t *testing.T) {
	for in, want := range map[string]string{`{"type":"tpm","a":1}`: "tpm", `{"a":{"type":"sgx"},"type":"tdx"}`: "tdx", `{"t":1,"type":"\u0074pm"}`: "tpm"} {
		if got, err := bundleType(strictjson.Value(in)); got != want || err != nil {
			t.Errorf("bundleType(%s) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{`{}`, `{"type":1}`, `{"type":""}`, `{"Type":"tpm"}`, `{"type":"` + strings.Repeat("x", maxName) + `"}`} {
		if got, err := bundleType(strictjson.Value(in)); err == nil {
			t.Errorf("bundleType(%s) = %q", in, got)
		}
	}
}

// What parseAttest takes is what encoding/json takes, with the same members.
func FuzzAttestRequest(f *testing.F) {
	f.Add([]byte(`{"challenge":"c","type":"tpm","policy":"p","profile":"ear","nonce":"n","audience":"a","evidence":{"type":"tpm"}}`))
	f.Add([]byte(`{"evidence":{},"challenge":"\u0061"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseAttest(in)
		if err != nil {
			return
		}
		if r.Challenge == "" || r.Type == "" || len(r.Bundle) < 2 || r.Bundle[0] != '{' {
			t.Errorf("parseAttest(%q) = %+v", in, r)
		}
		var want struct {
			Challenge string
			Evidence  json.RawMessage
		}
		if err := json.Unmarshal(in, &want); err != nil || want.Challenge != r.Challenge || string(want.Evidence) != string(r.Bundle) {
			t.Errorf("parseAttest(%q) = %+v, encoding/json has %+v, %v", in, r, want, err)
		}
	})
}
