package token

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// textSeeds have what strings of JSON treat specially, before, in and after the
// eight bytes that plain looks at together.
func textSeeds() []string {
	out := []string{"", "a", "plain text of some length", "\xff\xfe", "é", "\u2028", "\x7f", strings.Repeat("\n", 20)}
	for _, special := range []string{"\n", "\t", "\x00", "\x1f", "\"", "\\", "\x80", "é", " ", "!", "#", "[", "]", "\x7f"} {
		for at := range 18 {
			out = append(out, strings.Repeat("x", at)+special+strings.Repeat("y", 17-at))
		}
	}
	return out
}

func checkText(t *testing.T, s string) {
	t.Helper()
	quoted := appendText([]byte("["), s)[1:]
	var got string
	if err := json.Unmarshal(quoted, &got); err != nil {
		t.Fatalf("appendText(%q) = %q: %v", s, quoted, err)
	}
	if want := strings.ToValidUTF8(s, "\uFFFD"); got != want && strings.ToValidUTF8(got, "") != got {
		t.Errorf("appendText(%q) reads as %q", s, got)
	}
	if valid := strings.ToValidUTF8(s, "\uFFFD"); valid == s && got != s {
		t.Errorf("appendText(%q) reads as %q", s, got)
	}
	if _, err := parseObject(append(append([]byte(`{"a":`), quoted...), '}')); err != nil {
		t.Errorf("scanner refuses %q: %v", quoted, err)
	}
}

func TestTextsReadAsWritten(t *testing.T) {
	for _, s := range textSeeds() {
		checkText(t, s)
	}
}

func FuzzAppendText(f *testing.F) {
	for _, s := range textSeeds() {
		f.Add(s)
	}
	f.Fuzz(checkText)
}

func TestPlainStopsAtTheFirstSpecialByte(t *testing.T) {
	for c := range 256 {
		for at := range 24 {
			b := bytes.Repeat([]byte("a"), 24)
			b[at] = byte(c)
			want := 24
			if c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
				want = at
			}
			if got := plain(b); got != want {
				t.Errorf("byte %#x at %d: plain is %d, want %d", c, at, got, want)
			}
		}
	}
}

func TestDuplicateNamesAreFoundInAnyOrder(t *testing.T) {
	object := func(names ...string) []byte {
		var out []string
		for _, n := range names {
			out = append(out, `"`+n+`":1`)
		}
		return []byte("{" + strings.Join(out, ",") + "}")
	}
	var many []string
	for i := range 40 {
		many = append(many, string(rune('A'+i/26))+string(rune('a'+i%26)))
	}
	many = slices.Clip(many) // so that each append below makes a list of its own
	for _, names := range [][]string{{"a", "a"}, {"a", "b", "a"}, {"b", "a", "b"}, {"b", "a", "a"}, append(many, many[0]), append(many, many[39]), append(many, "A", "A"), append(many, "A", "B", many[7])} {
		if _, err := parseObject(object(names...)); err == nil {
			t.Errorf("object with names %q was accepted", names)
		}
	}
	for _, names := range [][]string{{"a", "b"}, {"b", "a"}, many, append(many, "A", "B", "0")} {
		if _, err := parseObject(object(names...)); err != nil {
			t.Errorf("object with names %q: %v", names, err)
		}
	}
}
