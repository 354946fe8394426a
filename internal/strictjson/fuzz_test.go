package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/strictjson"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,"x\u00e4\ud83d\ude00",true,null,{"b":{}}]}`, `{"a":1,"a":2}`, `{"type":"tpm","quotes":[{"attest":"AA==","signature":""}],"pcrs":{"sha256":{"0":"00"}}}`,
		`[9223372036854775807,9223372036854775808,1e999,0.1]`, `"\ud83d"`, "\"\xff\"", `{"k":1,"\u212a":2}`, `[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := strictjson.Rules{Bytes: 1 << 16, Depth: 16, Members: 64, Values: 4096}
		v, err := strictjson.Parse(in, r)
		valid := json.Valid(in)
		if err == nil && (!valid || !bytes.Equal(bytes.Trim(in, " \t\r\n"), v)) {
			t.Fatalf("Parse(%q) = %q, which encoding/json accepts: %v", in, v, valid)
		}
		if err != nil && valid && errors.Is(err, strictjson.ErrSyntax) {
			t.Fatalf("Parse(%q) = %v, and encoding/json accepts it", in, err)
		}
		sameMembers(t, in, r, err)
		sameTree(t, in, r, err)
	})
}

// sameMembers checks that Object finds what encoding/json finds.
func sameMembers(t *testing.T, in []byte, r strictjson.Rules, parseErr error) {
	got, err := strictjson.ParseObject(in, r)
	var want map[string]json.RawMessage
	wantErr := json.Unmarshal(in, &want)
	isObject := bytes.HasPrefix(bytes.TrimLeft(in, " \t\r\n"), []byte("{"))
	if isObject && (err == nil) != (parseErr == nil) {
		t.Fatalf("ParseObject(%q) = %v, Parse says %v", in, err, parseErr)
	}
	if err != nil {
		return
	}
	if wantErr != nil || len(want) != len(got) {
		t.Fatalf("ParseObject(%q) finds %d members, encoding/json %d, %v", in, len(got), len(want), wantErr)
	}
	for _, m := range got {
		if !bytes.Equal(want[m.Name], m.Value) {
			t.Fatalf("member %q of %q is %q, encoding/json has %q", m.Name, in, m.Value, want[m.Name])
		}
	}
}

// sameTree checks that Decode makes the values that encoding/json makes.
func sameTree(t *testing.T, in []byte, r strictjson.Rules, parseErr error) {
	got, err := strictjson.Decode(string(in), r)
	if (err == nil) != (parseErr == nil) && !errors.Is(err, strictjson.ErrInexact) {
		t.Fatalf("Decode(%q) = %v, Parse says %v", in, err, parseErr)
	}
	if err != nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(in))
	d.UseNumber()
	var want any
	if err := d.Decode(&want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, plainTree(t, got, want)); diff != "" {
		t.Fatalf("Decode(%q) (-encoding/json +got)\n%s", in, diff)
	}
}

// plainTree gives a tree the types of encoding/json; a number that is equal to
// want becomes want.
func plainTree(t *testing.T, v, want any) any {
	switch v := v.(type) {
	case int64:
		n, ok := want.(json.Number)
		if exact, err := strconv.ParseInt(string(n), 10, 64); err == nil && exact == v {
			return n
		}
		if f, err := n.Float64(); ok && err == nil && f == float64(v) && strings.ContainsAny(string(n), ".eE") {
			return n
		}
	case float64:
		n, ok := want.(json.Number)
		if f, err := n.Float64(); ok && err == nil && f == v {
			return n
		}
	case []any:
		list, _ := want.([]any)
		out := make([]any, len(v))
		for i := range v {
			if i < len(list) {
				out[i] = plainTree(t, v[i], list[i])
			}
		}
		return out
	case strictjson.Tree:
		object, _ := want.(map[string]any)
		out := map[string]any{}
		for _, b := range v {
			out[b.Name] = plainTree(t, b.Value, object[b.Name])
		}
		return out
	}
	return v
}
