//go:build ignore

// Command gotests reads the output of go test -json and writes a line for each
// test: name, pass, fail or skip, and a remark, separated by tabs. Tests of
// gopkg.in/check.v1, which print their own results, are lines of their own.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
}

// check is a result as check.v1 prints it under -check.v.
var check = regexp.MustCompile(`^(PASS|FAIL|SKIP|PANIC|MISS|FAIL EXPECTED): [^ ]+: ([^\t\n ]+)(.*)`)

var words = map[string]string{"PASS": "pass", "FAIL EXPECTED": "pass", "FAIL": "fail", "PANIC": "fail", "MISS": "fail", "SKIP": "skip"}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	reason := map[string]string{}
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			continue
		}
		pkg := e.Package[strings.LastIndex(e.Package, "/")+1:]
		switch e.Action {
		case "output":
			if m := check.FindStringSubmatch(e.Output); m != nil {
				fmt.Fprintf(out, "%s.%s\t%s\t%s\n", pkg, m[2], words[m[1]], remark(m[3]))
			}
			if _, text, ok := strings.Cut(strings.TrimSpace(e.Output), ".go:"); ok && e.Test != "" {
				_, text, _ = strings.Cut(text, ": ")
				reason[e.Test] = text
			}
		case "pass", "fail", "skip":
			if e.Test == "" {
				continue
			}
			text := ""
			if e.Action != "pass" {
				text = reason[e.Test]
			}
			fmt.Fprintf(out, "%s.%s\t%s\t%s\n", pkg, e.Test, e.Action, remark(text))
		}
	}
}

// remark makes one field of a text.
func remark(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if strings.HasSuffix(s, "s") && strings.Trim(s, "0123456789.") == "s" {
		return "" // a duration
	}
	return strings.Trim(s, "()")
}
