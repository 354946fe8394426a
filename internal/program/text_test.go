package program

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestPrintableTextMovesNoTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"grub é 漢":          "grub é 漢",
		"a\x1b[2Jb":         "a\uFFFD[2Jb",
		"a\u009b2Jb\u0085c": "a\uFFFD2Jb\uFFFDc",
		"a\u202eb\u2066c":   "a\uFFFDb\uFFFDc",
		"a\nb\tc\u2028d":    "a\uFFFDb\uFFFDc\uFFFDd",
		"a\x9bb":            "a\uFFFDb",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := PrintableLines("a\x1bb\nc\n\nd"); got != "a\uFFFDb\nc\n\nd" {
		t.Errorf("lines %q", got)
	}
}

func TestPrintedJSONIsTheSameAndMovesNoTerminal(t *testing.T) {
	in := map[string]string{"a": "grub é <\x1b\u009b\u202e\u2028\U000e0041\t\n\">", "b": "漢"}
	var out bytes.Buffer
	if err := PrintJSON(&Env{Stdout: &out}, in); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("printed %q", out.String())
	}
	if !strings.Contains(out.String(), `é <`) || !strings.HasPrefix(out.String(), "{\n  \"a\": ") {
		t.Errorf("printed %s", out.String())
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["a"] != in["a"] || got["b"] != in["b"] {
		t.Errorf("read again: %q, %v", got, err)
	}
}
