package strictjson_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/strictjson"
)

// wide are rules that no test but those of limits comes near.
func wide() strictjson.Rules {
	return strictjson.Rules{Bytes: 1 << 21, Depth: 32, Members: 1024, Values: 1 << 20}
}

func TestWhatIsJSONIsTakenAndNothingElse(t *testing.T) {
	for in, want := range map[string]error{
		`{}`: nil, ` { } `: nil, `[]`: nil, `null`: nil, `true`: nil, `false`: nil, `"a"`: nil, `0`: nil, `-0`: nil, `-0.5e+10`: nil, `1E5`: nil, `1e-5`: nil,
		"{\"a\"\t:\r\n[1, 2 ,{\"b\":null}]}": nil, `{"a":{},"b":[],"c":""}`: nil, `"\u00e4\n\"\\\/\b\f\r\t"`: nil, `"ä\u2028"`: nil,
		`"\ud83d\ude00"`: nil, `"\uD83D\uDE00"`: nil, `{"a":1,"A":2}`: nil, `{"x":{"a":1},"y":{"a":1},"a":1}`: nil, `{"a":"a"}`: nil,
		``: strictjson.ErrSyntax, ` `: strictjson.ErrSyntax, `{`: strictjson.ErrSyntax, `}`: strictjson.ErrSyntax, `[`: strictjson.ErrSyntax, `{}{}`: strictjson.ErrSyntax, `{},`: strictjson.ErrSyntax, `1 2`: strictjson.ErrSyntax,
		`{"a"}`: strictjson.ErrSyntax, `{"a":}`: strictjson.ErrSyntax, `{a:1}`: strictjson.ErrSyntax, `{'a':1}`: strictjson.ErrSyntax, `{"a":1,}`: strictjson.ErrSyntax, `{,"a":1}`: strictjson.ErrSyntax, `{"a":1 "b":2}`: strictjson.ErrSyntax, `{"a" 1}`: strictjson.ErrSyntax,
		`[1,]`: strictjson.ErrSyntax, `[,1]`: strictjson.ErrSyntax, `[1 2]`: strictjson.ErrSyntax, `[1}`: strictjson.ErrSyntax, `{"a":1]`: strictjson.ErrSyntax, `{"a":/**/1}`: strictjson.ErrSyntax,
		`01`: strictjson.ErrSyntax, `-`: strictjson.ErrSyntax, `+1`: strictjson.ErrSyntax, `.5`: strictjson.ErrSyntax, `1.`: strictjson.ErrSyntax, `1.e5`: strictjson.ErrSyntax, `1e`: strictjson.ErrSyntax, `1e+`: strictjson.ErrSyntax, `0x1`: strictjson.ErrSyntax, `NaN`: strictjson.ErrSyntax, `-01`: strictjson.ErrSyntax,
		`tru`: strictjson.ErrSyntax, `True`: strictjson.ErrSyntax, `nulls`: strictjson.ErrSyntax, `fals`: strictjson.ErrSyntax,
		`"\x"`: strictjson.ErrSyntax, `"\u12"`: strictjson.ErrSyntax, `"\u12g4"`: strictjson.ErrSyntax, `"\u`: strictjson.ErrSyntax, "\"\n\"": strictjson.ErrSyntax, "\"\x00\"": strictjson.ErrSyntax, "\"0123456789abcdef\x1f\"": strictjson.ErrSyntax, `"b`: strictjson.ErrSyntax, `"\`: strictjson.ErrSyntax, `"b\"`: strictjson.ErrSyntax,
		"\ufeff{}": strictjson.ErrSyntax, "\xff": strictjson.ErrSyntax, "\u00a0{}": strictjson.ErrSyntax,
		"\"\xff\"": strictjson.ErrEncoding, "{\"\xff\":1}": strictjson.ErrEncoding, "\"\xc0\x80\"": strictjson.ErrEncoding, "\"\xed\xa0\x80\"": strictjson.ErrEncoding, "\"\xf4\x90\x80\x80\"": strictjson.ErrEncoding, "\"abc\\n\xe4\"": strictjson.ErrEncoding,
		`"\ud83d"`: strictjson.ErrEncoding, `"\ud83dx"`: strictjson.ErrEncoding, `"\ude00\ud83d"`: strictjson.ErrEncoding, `"\ud83d\u0041"`: strictjson.ErrEncoding, `"\ud83d\ud83d"`: strictjson.ErrEncoding, `{"\udc00":1}`: strictjson.ErrEncoding, `"\ud83d\n"`: strictjson.ErrEncoding,
		`{"a":1,"a":2}`: strictjson.ErrDuplicate, `[[{"a":1,"b":2,"a":3}]]`: strictjson.ErrDuplicate, `{"iss":1,"\u0069ss":2}`: strictjson.ErrDuplicate, `{"\u0069ss":1,"\u0069ss":2}`: strictjson.ErrDuplicate, `{"":1,"":2}`: strictjson.ErrDuplicate, `{"b":1,"a":2,"b":3}`: strictjson.ErrDuplicate,
	} {
		for what, err := range readers(in, wide()) {
			// A number that Decode cannot hold is none of these texts.
			if !errors.Is(err, want) {
				t.Errorf("%s(%q) = %v, want %v", what, in, err, want)
			}
		}
	}
}

// readers gives the error of each way to read a whole text; Object where it is one.
func readers(in string, r strictjson.Rules) map[string]error {
	_, err := strictjson.Parse([]byte(in), r)
	_, treeErr := strictjson.Decode(in, r)
	out := map[string]error{"Parse": err, "Decode": treeErr}
	if strings.HasPrefix(strings.TrimSpace(in), "{") {
		out["Object"] = strictjson.Object([]byte(in), r, func(string, strictjson.Value) error { return nil })
	}
	return out
}

func TestEveryPrefixAndEveryByteMoreIsRefused(t *testing.T) {
	const whole = `{"a":[1,-2.5e3,"x\u00e4\ud83d\ude00",true,null,{"b":{}}],"c":"}\\\"]"}`
	for what, err := range readers(whole, wide()) {
		if err != nil {
			t.Fatalf("%s(%s) = %v", what, whole, err)
		}
	}
	for i := range whole {
		for what, err := range readers(whole[:i], wide()) {
			if err == nil {
				t.Errorf("%s accepts the prefix %q", what, whole[:i])
			}
		}
	}
	for c := range 256 {
		for what, err := range readers(whole+string([]byte{byte(c)}), wide()) {
			if space := strings.ContainsRune(" \t\r\n", rune(c)); (err == nil) != space {
				t.Errorf("%s with byte %#x after it: %v", what, c, err)
			}
		}
	}
}

func TestSpecialBytesAreFoundAtEveryPlace(t *testing.T) {
	for c := range 256 {
		for at := range 72 {
			b := bytes.Repeat([]byte("a"), 72)
			b[at] = byte(c)
			special := c < 0x20 || c >= 0x80 || c == '"' || c == '\\'
			want := len(b)
			if special {
				want = at
			}
			if got := strictjson.Plain(b); got != want {
				t.Errorf("byte %#x at %d: Plain is %d, want %d", c, at, got, want)
			}
			_, err := strictjson.Parse([]byte(`"`+string(b)+`"`), wide())
			// An escape that the next letter makes is the only special byte that may stand.
			if (err == nil) == special {
				t.Errorf("byte %#x at %d: %v", c, at, err)
			}
		}
	}
}

func TestDuplicatesAreFoundInAnyOrderAndAmongMany(t *testing.T) {
	object := func(names []string) string {
		var out []string
		for _, n := range names {
			out = append(out, strconv.Quote(n)+":1")
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	for _, n := range []int{1, 2, 31, 32, 33, 34, 100} {
		var up, down []string
		for i := range n {
			up = append(up, fmt.Sprintf("m%03d", i))
			down = append(down, fmt.Sprintf("m%03d", n-i))
		}
		for _, names := range [][]string{up, down} {
			if _, err := strictjson.Parse([]byte(object(names)), wide()); err != nil {
				t.Errorf("%d names: %v", n, err)
			}
			for _, twice := range []int{0, n / 2, n - 1} {
				in := object(append(names[:n:n], names[twice]))
				if _, err := strictjson.Parse([]byte(in), wide()); !errors.Is(err, strictjson.ErrDuplicate) {
					t.Errorf("%d names and name %d again: %v", n, twice, err)
				}
			}
		}
	}
}

func TestRulesForNamesHold(t *testing.T) {
	plain, fold := wide(), wide()
	plain.PlainNames, fold.FoldNames = true, true
	for _, tc := range []struct {
		in   string
		r    strictjson.Rules
		want error
	}{
		{`{"\u0061":1}`, wide(), nil},
		{`{"\u0061":1}`, plain, strictjson.ErrSyntax},
		{`{"a":"\u0061"}`, plain, nil},
		{`{"roles":1,"Roles":2}`, wide(), nil},
		{`{"roles":1,"Roles":2}`, fold, strictjson.ErrDuplicate},
		{`{"k":1,"\u212a":2}`, fold, strictjson.ErrDuplicate}, // the Kelvin sign
		{`{"s":1,"ſ":2}`, fold, strictjson.ErrDuplicate},
		{`{"a":1,"b":{"A":1}}`, fold, nil},
	} {
		if _, err := strictjson.Parse([]byte(tc.in), tc.r); !errors.Is(err, tc.want) {
			t.Errorf("Parse(%s) = %v, want %v", tc.in, err, tc.want)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	nest := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	limits := strictjson.Rules{Bytes: 40, Depth: 3, Members: 2, Values: 4}
	for in, want := range map[string]error{
		nest(3): nil, nest(4): strictjson.ErrLimit,
		`{"a":{"b":{}}}`: nil, `{"a":{"b":{"c":{}}}}`: strictjson.ErrLimit, `[[[1]]]`: nil,
		`{"a":1,"b":2}`: nil, `{"a":1,"b":2,"c":3}`: strictjson.ErrLimit,
		`[1,2,3]`: nil, `[1,2,3,4]`: strictjson.ErrLimit,
		`"` + strings.Repeat("x", 38) + `"`: nil, `"` + strings.Repeat("x", 39) + `"`: strictjson.ErrLimit,
	} {
		for what, err := range readers(in, limits) {
			if !errors.Is(err, want) {
				t.Errorf("%s(%s) = %v, want %v", what, in, err, want)
			}
		}
	}
	for in, want := range map[string]error{strings.Repeat("1", 64): nil, strings.Repeat("1", 65): strictjson.ErrLimit} {
		if _, err := strictjson.Parse([]byte(in), wide()); !errors.Is(err, want) {
			t.Errorf("number of %d digits: %v, want %v", len(in), err, want)
		}
	}
	deep := wide()
	deep.Depth = 1 << 20
	for n, want := range map[int]error{64: nil, 65: strictjson.ErrLimit} {
		if _, err := strictjson.Parse([]byte(nest(n)), deep); !errors.Is(err, want) {
			t.Errorf("%d deep: %v, want %v", n, err, want)
		}
	}
	for _, in := range []string{``, `1`, `{}`} {
		for what, err := range readers(in, strictjson.Rules{}) {
			if err == nil {
				t.Errorf("%s(%q) takes a text under the zero Rules", what, in)
			}
		}
	}
}

func TestErrorsNameTheirPlace(t *testing.T) {
	for in, want := range map[string]strictjson.Error{
		`{"quotes":[{"attest":""},{"attest":tru}]}`: {Offset: 35, Path: "quotes[1].attest"},
		`[[1,2,x]]`:                              {Offset: 6, Path: "[0][2]"},
		`{"a":{"b":1,"b":2}}`:                    {Offset: 12, Path: "a"},
		`{"a b":{"c":x}}`:                        {Offset: 12, Path: `"a b".c`},
		`{"a":1} x`:                              {Offset: 8},
		`{"` + strings.Repeat("n", 100) + `":x}`: {Offset: 104, Path: `"` + strings.Repeat("n", 40) + `"…`},
	} {
		for what, err := range readers(in, wide()) {
			var e *strictjson.Error
			if !errors.As(err, &e) || e.Offset != want.Offset || e.Path != want.Path || !strings.Contains(err.Error(), fmt.Sprintf("at byte %d", want.Offset)) || !strings.Contains(err.Error(), want.Path) {
				t.Errorf("%s(%s) = %v, want byte %d in %q", what, in, err, want.Offset, want.Path)
			}
		}
	}
	long := strings.Repeat(`{"`+strings.Repeat("n", 30)+`":`, 30) + "x"
	var e *strictjson.Error
	if _, err := strictjson.Parse([]byte(long), wide()); !errors.As(err, &e) || len(e.Path) > 300 {
		t.Errorf("path of %d bytes", len(e.Path))
	}
}

func TestAVisitsErrorIsItsOwnAndAnUnknownMemberGetsItsPlace(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := strictjson.Object([]byte(`{"a":1,"b":2,`), wide(), func(name string, _ strictjson.Value) error {
		calls++
		return stop
	})
	if err != stop || calls != 1 { //nolint:errorlint // the very error
		t.Errorf("Object = %v after %d calls", err, calls)
	}
	err = strictjson.Object([]byte(`{"quotes": [1, {"attest":1, "other":2}]}`), wide(), func(_ string, v strictjson.Value) error {
		return v.Array(func(i int, v strictjson.Value) error {
			if i == 0 {
				return nil
			}
			return v.Object(func(name string, _ strictjson.Value) error {
				if name == "attest" {
					return nil
				}
				return strictjson.Unknown()
			})
		})
	})
	want := &strictjson.Error{Kind: strictjson.ErrUnknown, Offset: 36, Path: "quotes[1].other", What: "unknown member"}
	var got *strictjson.Error
	if !errors.As(err, &got) || *got != *want {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestValuesAreDecodedStrictly(t *testing.T) {
	value := func(text string) strictjson.Value {
		t.Helper()
		v, err := strictjson.Parse([]byte(text), wide())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, text := range map[string]string{
		"URL alphabet": `"-_-_"`, "no padding": `"AA"`, "a line end": `"AA\nEC"`, "a return": `"AA\rEC"`, "bits after the end": `"AB=="`, "space": `"AA== "`,
		"too long": `"AAECAwQF"`, "a number": `12`, "an object": `{}`, "null": `null`, "padding inside": `"AA==AA=="`,
	} {
		if b, err := value(text).Base64(4); err == nil {
			t.Errorf("base64 with %s = %x", name, b)
		}
	}
	if b, err := value(`"\u0041AEC"`).Base64(3); err != nil || !bytes.Equal(b, []byte{0, 1, 2}) {
		t.Errorf("base64 with an escape = %x, %v", b, err)
	}
	for name, text := range map[string]string{"odd digits": `"0"`, "no digit": `"0g"`, "too long": `"000102030405"`, "a number": `12`} {
		if b, err := value(text).Hex(nil, 4); err == nil {
			t.Errorf("hex with %s = %x", name, b)
		}
	}
	if b, err := value(`"00fF"`).Hex([]byte{9}, 4); err != nil || !bytes.Equal(b, []byte{9, 0, 0xff}) {
		t.Errorf("hex = %x, %v", b, err)
	}
	if s, err := value(`"\u00e9\n\"é\ud83d\ude00"`).Text(); err != nil || s != "é\n\"é😀" {
		t.Errorf("text = %q, %v", s, err)
	}
	for _, text := range []string{`12`, `true`, `false`, `null`, `[]`, `{}`} {
		if s, err := value(text).Text(); err == nil || !strings.Contains(err.Error(), value(text).Kind()) {
			t.Errorf("text of %s = %q, %v", text, s, err)
		}
	}
	for text, want := range map[string]int64{`12`: 12, `-9223372036854775808`: -1 << 63, `9223372036854775807`: 1<<63 - 1, `-0`: 0} {
		if n, err := value(text).Int(); err != nil || n != want {
			t.Errorf("Int(%s) = %d, %v", text, n, err)
		}
	}
	for _, text := range []string{`9223372036854775808`, `1.0`, `1e3`, `"1"`, `null`, `true`} {
		if n, err := value(text).Int(); err == nil {
			t.Errorf("Int(%s) = %d", text, n)
		}
	}
}

func TestNoValueAndAnotherKindAreRefused(t *testing.T) {
	var none strictjson.Value
	_, text := none.Text()
	_, number := none.Int()
	_, data := none.Base64(1)
	_, digits := none.Hex(nil, 1)
	_, list := strictjson.Value(`[1,2,3]`).Elements(2)
	_, open := strictjson.Value(`{"a":`).Elements(2)
	for i, err := range []error{
		text, number, data, digits, list, open, none.Object(nil), none.Array(nil),
		strictjson.Value(`[]`).Object(nil), strictjson.Value(`{}`).Array(nil), strictjson.Value(`{"a":1`).Object(func(string, strictjson.Value) error { return nil }),
	} {
		if err == nil {
			t.Errorf("case %d is accepted", i)
		}
	}
	if got, err := strictjson.Value(`[1,[2],{}]`).Elements(3); err != nil || len(got) != 3 || string(got[1]) != "[2]" {
		t.Errorf("Elements = %s, %v", got, err)
	}
}

func TestMembersAreFoundByTheirVeryName(t *testing.T) {
	m, err := strictjson.ParseObject([]byte(` {"iss": "me" ,"n":1,"\u0061":[ 2 ]} `), wide())
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := m.Get("a"); !ok || string(v) != "[ 2 ]" {
		t.Errorf("Get(a) = %s, %v", v, ok)
	}
	if s, ok, err := m.Text("iss"); s != "me" || !ok || err != nil {
		t.Errorf("Text(iss) = %q, %v, %v", s, ok, err)
	}
	if _, ok, err := m.Text("n"); !ok || err == nil {
		t.Errorf("Text(n) = %v, %v", ok, err)
	}
	for _, name := range []string{"ISS", "is", ""} {
		if _, ok, err := m.Text(name); ok || err != nil {
			t.Errorf("Text(%q) = %v, %v", name, ok, err)
		}
	}
}

func TestTreesKeepIntegersExactAndMembersInOrder(t *testing.T) {
	got, err := strictjson.Decode(`{"b":[9223372036854775807,-9223372036854775808,1.5,2.0,1e3,true,null],"a":"x\u00e4"}`, wide())
	want := strictjson.Tree{{"a", "xä"}, {"b", []any{int64(1<<63 - 1), int64(-1 << 63), 1.5, int64(2), int64(1000), true, nil}}}
	if diff := cmp.Diff(any(want), got); diff != "" || err != nil {
		t.Errorf("Decode: %v (-want +got)\n%s", err, diff)
	}
	if v := want.Get("b"); v == nil || want.Get("B") != nil || want.Get("c") != nil {
		t.Errorf("Get = %v", v)
	}
	for _, in := range []string{`9223372036854775808`, `-9223372036854775809`, `1e300`, `1e999`, `9007199254740993.5`} {
		if v, err := strictjson.Decode(in, wide()); !errors.Is(err, strictjson.ErrInexact) {
			t.Errorf("Decode(%s) = %v, %v", in, v, err)
		}
	}
	if _, err := (strictjson.Tree{{"a", 1}, {"b", 1}, {"a", 2}}).Sort(); !errors.Is(err, strictjson.ErrDuplicate) {
		t.Errorf("Sort = %v", err)
	}
}

func TestHostileTextIsCheap(t *testing.T) {
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":1,`, n-i)
		}
		return b.String()
	}
	r := strictjson.Rules{Bytes: 1 << 20, Depth: 64, Members: 1 << 20, Values: 1 << 20}
	for name, text := range map[string]string{
		"backslashes": `["` + strings.Repeat(`\n`, 1<<19-4),
		"quotes":      `[` + strings.Repeat(`"",`, 1<<18),
		"escaped":     `[` + strings.Repeat(`"\"",`, 1<<17),
		"umlauts":     `["` + strings.Repeat("ä", 1<<19-4),
		"mixed":       `["` + strings.Repeat("äa", 1<<18),
		"brackets":    strings.Repeat("[", 1<<20),
		"members":     `{` + members(90000),
		"objects":     `[` + strings.Repeat(`{`+strings.TrimSuffix(members(1000), ",")+`},`, 100),
		"spaces":      strings.Repeat(" ", 1<<20),
		"digits":      strings.Repeat("1", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			best := time.Hour
			for range 5 {
				start := time.Now()
				if _, err := strictjson.Parse([]byte(text), r); err == nil {
					t.Fatal("accepted")
				}
				best = min(best, time.Since(start))
			}
			t.Logf("%d bytes take %v", len(text), best)
			// What is held here is that the work is linear (it would be minutes): test
			// machines are shared and run the race detector.
			if best > 5*time.Second {
				t.Errorf("%d bytes take %v", len(text), best)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"type":"tpm","eventLog":"` + strings.Repeat("AAEC", 8<<10) + `","pcrs":{"sha256":{"0":"00","1":"11"}}}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Parse(text, wide()); err != nil {
			b.Fatal(err)
		}
	}
}
