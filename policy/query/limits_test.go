package query

import (
	"errors"
	"strings"
	"testing"
)

func TestAQueryBeyondALimitIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"bytes":    strings.Repeat("a", maxText+1),
		"brackets": strings.Repeat("(", 600) + "a" + strings.Repeat(")", 600),
		"signs":    strings.Repeat("!", 600) + "a",
		"dots":     "a" + strings.Repeat(".a", 600),
	} {
		if _, err := Compile(text); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: Compile = %v, want ErrLimit", name, err)
		}
	}
}

func TestADocumentBeyondALimitIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"bytes":  `"` + strings.Repeat("a", maxBytes) + `"`,
		"depth":  strings.Repeat("[", 65) + strings.Repeat("]", 65),
		"values": "[" + strings.Repeat("1,", 1<<20) + "1]",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: Parse = %v, want ErrLimit", name, err)
		}
	}
	for _, text := range []string{``, `{"a":1,"a":2}`, `[1,]`, `"\ud800"`, `18446744073709551615`, `{} {}`} {
		if v, err := Parse(text); err == nil || errors.Is(err, ErrLimit) {
			t.Errorf("Parse(%s) = %v, %v", text, v, err)
		}
	}
}

func TestTheMeterStopsAQuery(t *testing.T) {
	doc, err := Parse(`[` + strings.Repeat(`"text",`, 100) + `""]`)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Compile("[*].[@,@][]")
	if err != nil {
		t.Fatal(err)
	}
	full := NewMeter()
	if _, err := q.Run(&full, doc); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Meter{"steps": {10, 1 << 20}, "bytes": {1 << 20, 10}, "the zero Meter": {}} {
		if _, err := q.Run(m, doc); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: Run = %v, want ErrLimit", name, err)
		}
	}
}

func TestTrapsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"Events[?a] | @ != `null`": "query-null-compare", "`null` != Events[*].a": "query-null-compare", "Events[0].a == true": "query-bare-literal",
		"events[0].a": "query-lower-case", "Events[?a.PcrIndex == '7']": "query-number-as-string", "Events[?a < '7']": "query-string-order",
		"Events[?PcrIndex == `7`].a | length(@) > `0`": "", "Events[?a != `null`] | length(@)": "",
	} {
		q, err := Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, trap := range q.Traps() {
			names = append(names, trap.Name)
			if trap.Message == "" || trap.Suggestion == "" {
				t.Errorf("%s: trap %+v lacks words", text, trap)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("Traps of %s = %q, want %q", text, got, want)
		}
	}
	read := map[int]bool{}
	q, err := Compile("Events[?PcrIndex == `7` || `13` == PcrIndex || PcrIndex == '9' || Seq == `3` || PcrIndex > `5` || PcrIndex == `24`]")
	if err != nil {
		t.Fatal(err)
	}
	if q.NamesPCRs(read); len(read) != 2 || !read[7] || !read[13] {
		t.Errorf("NamesPCRs = %v, want 7 and 13", read)
	}
}
