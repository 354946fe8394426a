package query

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jmespath-community/go-jmespath/pkg/api"
	jpfunctions "github.com/jmespath-community/go-jmespath/pkg/functions"
)

const queryData = `{"a":{"b":{"c":[1,2,3]},"n":null},"list":[{"k":"x","v":3},{"k":"y","v":1},{"k":"z","v":2,"extra":{}}],"nested":[[1,2],[3],4],"s":"text","e":"","z":[],"o":{},"t":true,"f":false,"num":-2.5,"words":["b","a","c"],"nums":[3,1,2]}`

// specified has queries whose results follow from the specification of JMESPath.
var specified = map[string]string{
	"a.b.c": `[1,2,3]`, "a.n": `null`, "a.missing.deeper": `null`, "s.length": `null`, `"a"."b"`: `{"c":[1,2,3]}`, "@.s": `"text"`,
	"a.b.c[0]": `1`, "a.b.c[-1]": `3`, "a.b.c[3]": `null`, "a.b.c[-4]": `null`, "s[0]": `null`,
	"a.b.c[1:]": `[2,3]`, "a.b.c[:2]": `[1,2]`, "a.b.c[::-1]": `[3,2,1]`, "a.b.c[::2]": `[1,3]`, "a.b.c[5:]": `[]`, "a.b.c[-2:]": `[2,3]`, "a.b.c[2:0:-1]": `[3,2]`, "a.b.c[0:9223372036854775807:9223372036854775807]": `[1]`, "a.b.c[2::-9223372036854775808]": `[3]`,
	"list[*].k": `["x","y","z"]`, "list[*].extra": `[{}]`, "list[].v": `[3,1,2]`, "nested[]": `[1,2,3,4]`, "nested[][]": `[1,2,3,4]`, "s[*]": `null`, "s[]": `null`,
	"a.*.c": `[[1,2,3]]`, "o.*": `[]`, "s.*": `null`, "list[?v > `1`].k": `["x","z"]`, "list[?k == 'y'] | [0].v": `1`, "list[?k]|length(@)": `3`, "s[?@]": `null`, "list[?extra]": `[]`,
	"list[0].[k, v]": `["x",3]`, "list[0].{A: k, B: v}": `{"A":"x","B":3}`, "missing.[k]": `null`, "missing.{A: k}": `null`,
	"t && s": `"text"`, "f || s": `"text"`, "e || `1`": `1`, "z && s": `[]`, "!t": `false`, "!e": `true`, "!o": `true`, "!z": `true`, "!missing": `true`, "!num": `false`,
	"`1` == `1.0`": `true`, "`1` == '1'": `false`, "a.b.c == `[1,2,3]`": `true`, "o == `{}`": `true`, "z == `null`": `false`, "missing == `null`": `true`, "t != f": `true`,
	"`2` > `1`": `true`, "`1` >= `1`": `true`, "`1` < `1`": `false`, "`1` <= num": `false`, "'b' > 'a'": `null`, "t > f": `null`,
	"abs(num)": `2.5`, "ceil(num)": `-2`, "floor(num)": `-3`, "avg(nums)": `2`, "avg(z)": `null`, "sum(nums)": `6`, "sum(z)": `0`,
	"contains(s, 'ex')": `true`, "contains(nums, `2`)": `true`, "contains(nums, '2')": `false`, "contains(list, list[0])": `true`, "starts_with(s, 'te')": `true`, "ends_with(s, 'te')": `false`,
	"join('-', words)": `"b-a-c"`, "join('-', z)": `""`, "keys(a)": `["b","n"]`, "values(a.b)": `[[1,2,3]]`, "length(s)": `4`, "length(o)": `0`, "length(nums)": `3`, "length('äö')": `2`,
	"map(&v, list)": `[3,1,2]`, "map(&missing, list)": `[null,null,null]`, "max(nums)": `3`, "max(words)": `"c"`, "max(z)": `null`, "min(nums)": `1`, "min(words)": `"a"`,
	"max_by(list, &v).k": `"x"`, "min_by(list, &v).k": `"y"`, "max_by(z, &v)": `null`, "merge(a.b, {x: s})": `{"c":[1,2,3],"x":"text"}`, "merge({x: s}, {x: t})": `{"x":true}`,
	"not_null(missing, s)": `"text"`, "not_null(missing)": `null`, "reverse(nums)": `[2,1,3]`, "reverse(s)": `"txet"`, "sort(nums)": `[1,2,3]`, "sort(words)": `["a","b","c"]`, "sort_by(list, &k)[0].v": `3`, "sort_by(list, &v)[0].k": `"y"`,
	"to_array(s)": `["text"]`, "to_array(z)": `[]`, "to_number('12')": `12`, "to_number('1.5')": `1.5`, "to_number('x')": `null`, "to_number(t)": `null`, "to_string(s)": `"text"`, "to_string(nums)": `"[3,1,2]"`, "to_string(`12`)": `"12"`,
	"type(s)": `"string"`, "type(num)": `"number"`, "type(t)": `"boolean"`, "type(z)": `"array"`, "type(o)": `"object"`, "type(missing)": `"null"`,
	"equals_ignore_case(s, 'TEXT')": `true`, "equals_ignore_case(s, 'other')": `false`, "equals_ignore_case(missing, 'x')": `false`, "equals_ignore_case(num, num)": `false`,
	"nested[*][0]": `[1,3]`, "list[*].v | [0]": `3`, "list[?v == `3` || v == `1`].k": `["x","y"]`, `'it\'s'`: `"it's"`, `'a\\b'`: `"a\\b"`, `'a\w'`: `"a\\w"`, "`\"x\\`y\"`": `"x` + "`" + `y"`,
}

func TestQueriesGiveWhatTheSpecificationSays(t *testing.T) {
	for text, want := range specified {
		if got, err := runQuery(text, queryData); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", text, got, err, want)
		}
	}
}

func runQuery(text, data string) (string, error) {
	q, err := Compile(text)
	if err != nil {
		return "", err
	}
	doc, err := Parse(data)
	if err != nil {
		return "", err
	}
	m := NewMeter()
	return q.Run(&m, doc)
}

func TestQueriesFailOnWrongTypes(t *testing.T) {
	for text, want := range map[string]string{
		"length(num)": "gives length a number", "abs(s)": "gives abs a string", "sum(words)": "gives sum a array", "join('-', nums)": "gives join a array", "keys(z)": "gives keys a array",
		"sort(list)": "gives sort a array", "sort_by(list, &missing)": "keys to sort by", "sort_by(list, v)": "gives sort_by a null", "max_by(list, &extra)": "keys to sort by", "map(s, list)": "gives map a string",
		"type(&a)": "gives type a expression", "&a": "not a value", "starts_with(s, num)": "gives starts_with a number", "merge(s)": "gives merge a string", "reverse(o)": "gives reverse a object", "contains(num, s)": "gives contains a number",
	} {
		if got, err := runQuery(text, queryData); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %s, %v; want an error with %q", text, got, err, want)
		}
	}
}

func TestIntegersStayExact(t *testing.T) {
	const data = `{"a":9223372036854775807,"b":9223372036854775806}`
	for text, want := range map[string]string{"a": "9223372036854775807", "a == b": "false", "a > b": "true", "max([a, b])": "9223372036854775807"} {
		if got, err := runQuery(text, data); err != nil || got != want {
			t.Errorf("%s = %s, %v; want %s", text, got, err, want)
		}
	}
	if _, err := runQuery("a == `9007199254740993`", data); err == nil {
		t.Error("a literal that the parser rounds was taken")
	}
}

// TestQueriesAgreeWithTheLibrary compares this package's evaluation with the
// library's own, for every literal query of the published policies.
func TestQueriesAgreeWithTheLibrary(t *testing.T) {
	const events = `{"Events":[{"EventSeq":1,"PcrIndex":7,"EventTypeString":"EV_EFI_VARIABLE_DRIVER_CONFIG","ProcessedData":{"VariableGuid":"8BE4DF61-93CA-11D2-AA0D-00E098032B8C","UnicodeName":"SecureBoot","VariableData":"AQ"}},` +
		`{"EventSeq":2,"PcrIndex":12,"EventTypeString":"EV_SEPARATOR"},{"EventSeq":3,"PcrIndex":12,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_CODEINTEGRITY":true,"EVENT_BITLOCKER_UNLOCK":{"Value":2},"EVENT_APPLICATION_SVN":5}}},` +
		`{"EventSeq":4,"PcrIndex":13,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_LOADEDMODULE_AGGREGATION":[{"EVENT_FILEPATH":"\\Windows\\System32\\Drivers\\WdBoot.sys","EVENT_IMAGEVALIDATED":true,"EVENT_MODULE_SVN":1}],"EVENT_SI_POLICY":[{"RawData":"AA"}]}}},` +
		`{"EventSeq":5,"PcrIndex":20,"EventTypeString":"EV_EVENT_TAG","ProcessedData":{"EVENT_TRUSTBOUNDARY":{"EVENT_DRTM_STATE_AUTH":{"SignatureValid":true}}}}],"PCRs":[{"Index":0,"Digests":{"SHA1":"x","SHA256":"y"}}],"jwk":{"kty":"RSA"}}`
	texts := published(t)
	for text := range specified {
		texts[text] = true
	}
	compared := 0
	for _, data := range []string{events, queryData, `[` + events + `,{"EVENT_CODEINTEGRITY":false,"ProcessedData":{"UnicodeName":"SecureBoot","VariableData":"AQ"},"PcrIndex":7}]`} {
		for text := range texts {
			if agree(t, text, data) {
				compared++
			}
		}
	}
	if len(texts) < 150 || compared < 300 {
		t.Errorf("%d queries, %d comparisons; want at least 150 and 300", len(texts), compared)
	}
}

// published are the literal queries of the published policies.
func published(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../testdata/azure/*")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`JmesPath\([^"]*"((?:[^"\\]|\\.)*)"\)`)
	texts := map[string]bool{}
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range literal.FindAllStringSubmatch(string(src), -1) {
			text := strings.ReplaceAll(m[1], `\\`, `\`)
			if _, err := Compile(text); err == nil {
				texts[text] = true
			}
		}
	}
	return texts
}

// agree reports whether both evaluated the query; it fails the test when their
// results differ. Objects lose their order in the library, so results are
// compared as values.
func agree(t *testing.T, text, data string) bool {
	t.Helper()
	if strings.Contains(text, "keys(") || strings.Contains(text, "values(") || strings.Contains(text, "contains(list") || strings.Contains(text, "9223372036854775807") {
		return false // in random order there, or a panic
	}
	fold := jpfunctions.FunctionEntry{
		Name: "equals_ignore_case", Arguments: []jpfunctions.ArgSpec{{Types: []jpfunctions.JpType{jpfunctions.JpAny}}, {Types: []jpfunctions.JpType{jpfunctions.JpAny}}},
		Handler: func(args []any) (any, error) {
			a, isA := args[0].(string)
			b, isB := args[1].(string)
			return isA && isB && strings.EqualFold(a, b), nil
		},
	}
	var doc any
	if err := json.Unmarshal([]byte(data), &doc); err != nil {
		t.Fatal(err)
	}
	theirs, theirErr := api.Search(text, doc, fold)
	ours, err := runQuery(text, data)
	if (err == nil) != (theirErr == nil) {
		t.Errorf("%s: got error %v, the library's is %v", text, err, theirErr)
		return false
	}
	if err != nil {
		return false
	}
	var got any
	if err := json.Unmarshal([]byte(ours), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, got); diff != "" {
		t.Errorf("%s (-library +got)\n%s", text, diff)
	}
	return true
}
