package token

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
)

// textSeeds have what strings of JSON treat specially, before, in and after the
// eight bytes that are looked at together.
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
	quoted := evidence.AppendText([]byte("["), s)[1:]
	var got string
	if err := json.Unmarshal(quoted, &got); err != nil {
		t.Fatalf("evidence.AppendText(%q) = %q: %v", s, quoted, err)
	}
	if want := strings.ToValidUTF8(s, "\uFFFD"); got != want && strings.ToValidUTF8(got, "") != got {
		t.Errorf("evidence.AppendText(%q) reads as %q", s, got)
	}
	if valid := strings.ToValidUTF8(s, "\uFFFD"); valid == s && got != s {
		t.Errorf("evidence.AppendText(%q) reads as %q", s, got)
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
