package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheOutputOfGoTestIsALineForEachTest(t *testing.T) {
	const in = `{"Action":"start","Package":"x.org/a/one"}
{"Action":"output","Package":"x.org/a/one","Test":"Test","Output":"PASS: some_test.go:10: suite.TestPasses\t0.003s\n"}
{"Action":"output","Package":"x.org/a/one","Test":"Test","Output":"SKIP: some_test.go:20: suite.TestSkips (not here)\n"}
{"Action":"output","Package":"x.org/a/one","Test":"Test","Output":"PANIC: some_test.go:30: suite.TestPanics\n"}
{"Action":"pass","Package":"x.org/a/one","Test":"Test"}
{"Action":"fail","Package":"x.org/a/one"}
FAIL of a program that does not write JSON
{"Action":"output","Package":"x.org/a/two","Test":"TestSkips","Output":"    two_test.go:5: has no TPM\n"}
{"Action":"skip","Package":"x.org/a/two","Test":"TestSkips"}
{"Action":"output","Package":"x.org/a/two","Test":"TestFails","Output":"    two_test.go:9: got 1\n"}
{"Action":"fail","Package":"x.org/a/two","Test":"TestFails"}
{"Action":"fail","Package":"x.org/a/two"}
{"Action":"skip","Package":"x.org/a/none"}
{"Action":"pass","Package":"x.org/a/three"}
`
	want := strings.Join([]string{
		"one.suite.TestPasses\tpass\t",
		"one.suite.TestSkips\tskip\tnot here",
		"one.suite.TestPanics\tfail\t",
		"one.Test\tpass\t",
		"one\tfail\tthe package fails, and none of its tests",
		"two.TestSkips\tskip\thas no TPM",
		"two.TestFails\tfail\tgot 1",
	}, "\n") + "\n"
	var out bytes.Buffer
	if err := goTests(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("goTests (-want +got):\n%s", diff)
	}
}
