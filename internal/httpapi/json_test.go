package httpapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMembersAreFoundByteForByte(t *testing.T) {
	got := map[string]string{}
	err := members([]byte(" {\"a\" : 1 ,\"b\":\"}\\\\\\\"]\",\"c\":{\"d\":[1,{}]} , \"e\":[ ],\"f\":null}\n"), func(name string, v []byte) error {
		got[name] = string(v)
		return nil
	})
	want := map[string]string{"a": "1", "b": `"}\\\"]"`, "c": `{"d":[1,{}]}`, "e": "[ ]", "f": "null"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("members: %v (-want +got):\n%s", err, diff)
	}
}

func TestMembersRefuseEveryPrefixAndSuffix(t *testing.T) {
	whole := `{"a":1,"b":"x\\","c":{"d":[1,{}]}}`
	nothing := func(string, []byte) error { return nil }
	if err := members([]byte(whole), nothing); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if err := members([]byte(whole[:i]), nothing); err == nil {
			t.Errorf("prefix %q is accepted", whole[:i])
		}
	}
	for _, more := range []string{"x", "{}", ",", "}", "\x00"} {
		if err := members([]byte(whole+more), nothing); err == nil {
			t.Errorf("%q after the object is accepted", more)
		}
	}
}

func TestMembersThatAreRefused(t *testing.T) {
	for _, in := range []string{
		``, `[]`, `"a"`, `null`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`, `{a:1}`, `{"a":1,"a":1}`, `{"\u0061":1}`,
		`{"a":[}`, `{"a":[1}]}`, `{"a":]}`, `{"a":"}`, `{"a":"\"}`, `{"a":{"b":1}`, "{\"\xff\":1}",
		`{"` + strings.Repeat("n", 33) + `":1}`, `{"a":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + `}`,
		`{"a` + strings.Join(strings.Split(strings.Repeat("x", 25), ""), `":1,"a`) + `":1}`,
	} {
		if err := members([]byte(in), func(string, []byte) error { return nil }); err == nil {
			t.Errorf("members(%.60q) is accepted", in)
		}
	}
}

func TestStrictJSON(t *testing.T) {
	for in, good := range map[string]bool{
		`{"a":1,"b":[{"a":1},{"a":2}]}`: true,
		`{"a":{"b":1,"b":2}}`:           false,
		`{"a":1,"\u0061":2}`:            false,
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

// What members accepts and encoding/json accepts too must be the same members.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":"x\\","c":{"d":[1,{}]}}`, `{"a":"\""}`, `{}`, `{"a":[[]]}`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got := map[string]string{}
		err := members(in, func(name string, v []byte) error {
			got[name] = string(v)
			return nil
		})
		var want map[string]json.RawMessage
		if json.Unmarshal(in, &want) != nil || err != nil || want == nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("members(%q) finds %q, encoding/json %q", in, got, want)
		}
		for name, v := range want {
			if got[name] != string(v) {
				t.Errorf("members(%q): %q is %q, encoding/json says %q", in, name, got[name], v)
			}
		}
	})
}

func FuzzAttestRequest(f *testing.F) {
	f.Add([]byte(`{"challenge":"c","type":"tpm","policy":"p","profile":"ear","nonce":"n","audience":"a","evidence":{"type":"tpm"}}`))
	f.Add([]byte(`{"evidence":{},"challenge":"\u0061"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseAttest(in)
		if err == nil && (r.Challenge == "" || r.Type == "" || len(r.Bundle) < 2 || r.Bundle[0] != '{') {
			t.Errorf("parseAttest(%q) = %+v", in, r)
		}
	})
}
