package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	josejson "github.com/go-jose/go-jose/v4/json"
)

func TestParseObjectTakesJSONAndNothingElse(t *testing.T) {
	for in, want := range map[string]bool{
		`{}`: true, ` { } `: true, `{"a":1}`: true, "{\"a\"\t:\r\n[1, 2 ,{\"b\":null}]}": true,
		`{"a":-0.5e+10,"b":0,"c":1E5,"d":true,"e":false,"f":"\u00e4\n\"\\\/"}`: true,
		`{"a":{},"b":[],"c":""}`: true,
		``:                       false, `{`: false, `}`: false, `[]`: false, `null`: false, `"a"`: false, `{}{}`: false, `{},`: false,
		`{"a"}`: false, `{"a":}`: false, `{a:1}`: false, `{'a':1}`: false, `{"a":1,}`: false, `{,"a":1}`: false, `{"a":1 "b":2}`: false,
		`{"a":[1,]}`: false, `{"a":[,1]}`: false, `{"a":[1 2]}`: false, `{"a":]}`: false,
		`{"a":01}`: false, `{"a":+1}`: false, `{"a":.5}`: false, `{"a":1.}`: false, `{"a":1e}`: false, `{"a":-}`: false, `{"a":0x1}`: false, `{"a":NaN}`: false,
		`{"a":tru}`: false, `{"a":True}`: false, `{"a":nulls}`: false,
		`{"a":"\x"}`: false, `{"a":"\u12"}`: false, `{"a":"\u12g4"}`: false, "{\"a\":\"\n\"}": false, `{"a":"b}`: false, `{"a":"\`: false,
		"{\"a\":\"\x00\"}": false, "{\"\xff\":1}": false, "\ufeff{}": false,
	} {
		if _, err := parseObject([]byte(in)); (err == nil) != want {
			t.Errorf("parseObject(%q) = %v, want accepted %v", in, err, want)
		}
	}
}

func TestParseObjectFindsEveryDuplicate(t *testing.T) {
	many := func(n int, last string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			b.WriteString(`"m` + string(rune('a'+i/26)) + string(rune('a'+i%26)) + `":1,`)
		}
		return b.String() + last + "}"
	}
	for name, tc := range map[string]struct {
		in  string
		dup bool
	}{
		"at the top":     {`{"a":1,"a":2}`, true},
		"below":          {`{"x":[[{"a":1,"b":2,"a":3}]]}`, true},
		"escaped":        {`{"iss":1,"\u0069ss":2}`, true},
		"both escaped":   {`{"\u0069ss":1,"\u0069ss":2}`, true},
		"empty name":     {`{"":1,"":2}`, true},
		"of few":         {many(20, `"maa":1`), true},
		"of many":        {many(200, `"mab":1`), true},
		"of many, one":   {many(200, `"z":1`), false},
		"other case":     {`{"a":1,"A":2}`, false},
		"other object":   {`{"x":{"a":1},"y":{"a":1},"a":1}`, false},
		"name and value": {`{"a":"a"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseObject([]byte(tc.in))
			var dup *duplicateError
			if errors.As(err, &dup) != tc.dup || !tc.dup && err != nil {
				t.Errorf("parseObject(%.80s) = %v, want duplicate %v", tc.in, err, tc.dup)
			}
		})
	}
}

func TestParseObjectHoldsItsLimits(t *testing.T) {
	nest := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	if _, err := parseObject([]byte(nest(maxDepth - 1))); err != nil {
		t.Errorf("%d deep: %v", maxDepth, err)
	}
	if _, err := parseObject([]byte(nest(maxDepth))); err == nil {
		t.Errorf("%d deep is accepted", maxDepth+1)
	}
	var b bytes.Buffer
	b.WriteString(`{"a":1`)
	for i := range maxMembers {
		b.WriteString(`,"` + strings.Repeat("x", i+1) + `":1`)
	}
	if _, err := parseObject(append(b.Bytes(), '}')); err == nil {
		t.Error("an object of too many members is accepted")
	}
}

func FuzzParseObject(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e3,"x\u00e4",true,null,{"b":{}}]}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseObject(data)
		if err == nil && !json.Valid(data) {
			t.Fatalf("parseObject(%q) accepts what encoding/json does not", data)
		}
		// go-jose's reader refuses duplicates too; ours has limits besides.
		var theirs map[string]josejson.RawMessage
		their := josejson.Unmarshal(data, &theirs)
		if err == nil && (their != nil || len(theirs) != len(got)) {
			t.Fatalf("parseObject(%q) = %d members, go-jose %d (%v)", data, len(got), len(theirs), their)
		}
		for _, m := range got {
			if want, ok := theirs[m.name]; err == nil && (!ok || !bytes.Equal(want, m.raw)) {
				t.Errorf("member %q of %q is %q, go-jose has %q", m.name, data, m.raw, want)
			}
		}
	})
}
