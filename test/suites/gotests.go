package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// An event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
}

// check is a result as gopkg.in/check.v1 prints it under -check.v.
var check = regexp.MustCompile(`^(PASS|FAIL|SKIP|PANIC|MISS|FAIL EXPECTED): [^ ]+: ([^\t\n ]+)(.*)`)

var words = map[string]string{"PASS": "pass", "FAIL EXPECTED": "pass", "FAIL": "fail", "PANIC": "fail", "MISS": "fail", "SKIP": "skip"}

// goTests reads the output of go test -json and writes a line for each test. Tests of
// gopkg.in/check.v1, which print their own results, are lines of their own. So is a
// package that fails when none of its tests did.
func goTests(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	reason, failed := map[string]string{}, map[string]bool{}
	var err error
	row := func(name, result, text string) {
		if _, e := fmt.Fprintf(out, "%s\t%s\t%s\n", name, result, remark(text)); err == nil {
			err = e
		}
	}
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // not of go test
		}
		pkg := e.Package[strings.LastIndex(e.Package, "/")+1:]
		if m := check.FindStringSubmatch(e.Output); m != nil {
			row(pkg+"."+m[2], words[m[1]], m[3])
		}
		if _, text, ok := strings.Cut(strings.TrimSpace(e.Output), ".go:"); ok && e.Test != "" {
			_, reason[e.Test], _ = strings.Cut(text, ": ")
		}
		switch e.Action {
		case "fail":
			if e.Test == "" && !failed[e.Package] {
				row(pkg, "fail", "the package fails, and none of its tests")
			}
			failed[e.Package] = true
			fallthrough
		case "skip":
			if e.Test != "" {
				row(pkg+"."+e.Test, e.Action, reason[e.Test])
			}
		case "pass":
			if e.Test != "" {
				row(pkg+"."+e.Test, "pass", "")
			}
		}
	}
	if err == nil {
		err = lines.Err()
	}
	return err
}

// remark makes one field of a text.
func remark(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if strings.HasSuffix(s, "s") && strings.Trim(s, "0123456789.") == "s" {
		return "" // a duration
	}
	return strings.Trim(s, "()")
}
