package evidence_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
)

// awkward are texts that are easily written otherwise than encoding/json does.
var awkward = []string{
	"", "plain", "two\nlines\n", `quote " and \ backslash`, "<script>&amp;", "tab\tand\rreturn", "\x00\x1f\x7f", "Grüße", "\u2028\u2029", "bad \xff utf-8",
	strings.Repeat("long ", 400) + "\n\"", "\"", "\\\\\\", "\n",
}

func TestClaimsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	all := evidence.Claims{}
	all.Set("true", evidence.Bool(true), 7)
	all.Set("false", evidence.Bool(false), 0, 4, 23)
	all.Unknown("unknown", "eventlog.absent", 12)
	all["zero"] = evidence.Claim{}
	all["noRegisters"] = evidence.Claim{PCRs: []int{}}
	for i, text := range awkward {
		all.Set("text."+string(rune('a'+i))+text, evidence.Text(text), i)
	}
	for name, claims := range map[string]evidence.Claims{"all": all, "none": {}, "nil": nil} {
		want, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		if got := claims.AppendJSON([]byte("before")); string(got) != "before"+string(want) {
			t.Errorf("%s:\n got %s\nwant before%s", name, got, want)
		}
	}
}

func TestTextsAndReasonsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	reasons := []evidence.Reason{{}}
	for _, text := range awkward {
		reasons = append(reasons, evidence.Reason{Code: evidence.Code(text), Message: text, Component: text})
	}
	for name, tc := range map[string]struct {
		got  []byte
		same any
	}{
		"texts":      {evidence.AppendTexts(nil, awkward), awkward},
		"no texts":   {evidence.AppendTexts(nil, []string{}), []string{}},
		"nil texts":  {evidence.AppendTexts(nil, nil), []string(nil)},
		"reasons":    {evidence.AppendReasons(nil, reasons), reasons},
		"no reasons": {evidence.AppendReasons(nil, []evidence.Reason{}), []evidence.Reason{}},
		"nil":        {evidence.AppendReasons(nil, nil), []evidence.Reason(nil)},
	} {
		want, err := json.Marshal(tc.same)
		if err != nil {
			t.Fatal(err)
		}
		if string(tc.got) != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, tc.got, want)
		}
	}
}

func TestValuesAndWritingAreThoseOfTheClaims(t *testing.T) {
	for _, claims := range []evidence.Claims{nil, {}, {"a": {Value: evidence.Text("<1>")}, "c": {Value: evidence.Bool(true), PCRs: []int{7}}, "b": {Reason: "x.y"}}} {
		values := map[string]evidence.Value{}
		for name, c := range claims {
			values[name] = c.Value
		}
		want, err := json.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		w := evidence.NewWriting(claims)
		for range 2 {
			if got := w.Values(); string(got) != string(want) {
				t.Errorf("Values() = %s, want %s", got, want)
			}
			if got := w.JSON(); string(got) != string(claims.AppendJSON(nil)) {
				t.Errorf("JSON() = %s", got)
			}
		}
	}
}

func FuzzAppendText(f *testing.F) {
	for _, text := range awkward {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := evidence.AppendText(nil, text); string(got) != string(want) {
			t.Errorf("AppendText(%q) = %s, want %s", text, got, want)
		}
	})
}
