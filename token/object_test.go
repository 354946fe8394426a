package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/assay-project/assay/internal/strictjson"
)

func TestParseObjectHoldsItsLimits(t *testing.T) {
	nest := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"` + strings.Repeat("x", i%64+1) + string(rune('a'+i/64)) + `":1`)
		}
		return "{" + b.String()[1:] + "}"
	}
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"32 deep":      {nest(31), nil},
		"33 deep":      {nest(32), strictjson.ErrLimit},
		"1024 members": {members(1024), nil},
		"1025 members": {members(1025), strictjson.ErrLimit},
		"as large":     {`{}` + strings.Repeat(" ", maxJWKS-2), nil},
		"too large":    {`{}` + strings.Repeat(" ", maxJWKS-1), strictjson.ErrLimit},
		"twice":        {`{"iss":1,"\u0069ss":2}`, strictjson.ErrDuplicate},
		"other case":   {`{"iss":1,"ISS":2}`, nil},
		"half a pair":  {`{"iss":"\ud800"}`, strictjson.ErrEncoding},
		"no object":    {`["iss"]`, strictjson.ErrSyntax},
	} {
		if _, err := parseObject([]byte(tc.in)); !errors.Is(err, tc.want) {
			t.Errorf("%s: parseObject = %v, want %v", name, err, tc.want)
		}
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
			if want, ok := theirs[m.Name]; err == nil && (!ok || !bytes.Equal(want, m.Value)) {
				t.Errorf("member %q of %q is %q, go-jose has %q", m.Name, data, m.Value, want)
			}
		}
	})
}
