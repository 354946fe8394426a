package main

import (
	"slices"
	"strings"
	"testing"
)

// table is a table of "name result remark", with commas between.
func table(t *testing.T, s string) []test {
	t.Helper()
	run, err := parse(strings.NewReader(strings.NewReplacer(" ", "\t", "_", " ", ",", "\n").Replace(s)))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func TestARunIsHeldAgainstTheOneBefore(t *testing.T) {
	const whole = "a pass,b pass,c fail,d skip,e pass 40_checks,f skip,f pass"
	e := &expectation{before: table(t, whole), failures: map[string]bool{"c": true}, skips: map[string]bool{"d": true, "f": true}}
	for name, tc := range map[string]struct {
		run    string
		status int
		want   []string
	}{
		"the same":                     {whole, 1, nil},
		"a test that fails":            {"a fail,b pass,c fail,d skip,e pass 40_checks,f skip,f pass", 1, []string{"fail: a"}},
		"a test that is skipped":       {"a skip,b pass,c fail,d skip,e pass 40_checks,f skip,f pass", 1, []string{"skip: a"}},
		"a known skip that fails":      {"a pass,b pass,c fail,d fail,e pass 40_checks,f skip,f pass", 1, []string{"fail: d"}},
		"a known failure, skipped":     {"a pass,b pass,c skip,d skip,e pass 40_checks,f skip,f pass", 0, []string{"skip: c", "did not fail, and is in known-failures.tsv: c"}},
		"a known failure that passes":  {"a pass,b pass,c pass,d skip,e pass 40_checks,f skip,f pass", 0, []string{"did not fail, and is in known-failures.tsv: c"}},
		"a known skip that passes":     {"a pass,b pass,c fail,d pass,e pass 40_checks,f skip,f pass", 1, nil},
		"a test that did not run":      {"a pass,c fail,d skip,e pass 40_checks,f skip,f pass", 1, []string{"not run: b"}},
		"one of two of a name":         {"a pass,b pass,c fail,d skip,e pass 40_checks,f skip", 1, []string{"not run: f"}},
		"a new test":                   {whole + ",g pass", 1, []string{"not in the documents' table: g"}},
		"nothing":                      {"", 2, []string{"did not fail, and is in known-failures.tsv: c", "ended with status 2", "not run: a", "not run: b", "not run: c", "not run: d", "not run: e", "not run: f"}},
		"a suite that broke off":       {"a pass,b pass,c pass,d skip,e pass 40_checks,f skip,f pass", 2, []string{"did not fail, and is in known-failures.tsv: c", "ended with status 2"}},
		"fewer checks in a test":       {"a pass,b pass,c fail,d skip,e pass 12_checks,f skip,f pass", 1, []string{"e made 12 checks, before 40"}},
		"a few fewer":                  {"a pass,b pass,c fail,d skip,e pass 38_checks,f skip,f pass", 1, nil},
		"a result that is none":        {"a error,b pass,c fail,d skip,e pass 40_checks,f skip,f pass", 1, []string{`"error" is the result of a`}},
		"a failure beside a known one": {"a pass,b fail,c fail,d skip,e pass 40_checks,f skip,f pass", 0, []string{"fail: b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := e.judge(table(t, tc.run), tc.status)
			if !slices.EqualFunc(got, tc.want, strings.HasPrefix) {
				t.Errorf("judge(%s, %d) = %q, want %q", tc.run, tc.status, got, tc.want)
			}
		})
	}
}
