package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A test is one line of a table: the name of a test, what became of it, a remark.
type test struct{ name, result, remark string }

// parse reads a table: a test in each line, its fields separated by tabs.
func parse(r io.Reader) ([]test, error) {
	var out []test
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) < 2 || len(f) > 3 || f[0] == "" {
			return nil, fmt.Errorf("line %d: %q is no name, result and remark", len(out)+1, lines.Text())
		}
		out = append(out, test{f[0], f[1], strings.Join(f[2:], "")})
	}
	return out, lines.Err()
}

// known reads the names of a suite's tests from a table of suite, name and reason.
func known(r io.Reader, suite string) (map[string]bool, error) {
	all, err := parse(r)
	names := map[string]bool{}
	for _, row := range all {
		if row.name == suite {
			names[row.result] = true
		}
	}
	return names, err
}

// An expectation is what a run of a suite is held against.
type expectation struct {
	before   []test          // the run that the documents have
	failures map[string]bool // tests that fail for reasons of their own
	skips    map[string]bool // tests that are skipped for reasons of their own
}

// judge returns what is wrong with a run, nothing when it is as expected. status is
// how the program that ran the suite ended: a known failure makes it other than 0, but
// only a failure can.
func (e *expectation) judge(run []test, status int) []string {
	var wrong []string
	failed := map[string]bool{}
	for _, t := range run {
		switch t.result {
		case "pass":
		case "skip":
			if !e.skips[t.name] {
				wrong = append(wrong, "skip: "+t.name+" "+t.remark)
			}
		case "fail":
			failed[t.name] = true
			if !e.failures[t.name] {
				wrong = append(wrong, "fail: "+t.name+" "+t.remark)
			}
		default:
			wrong = append(wrong, fmt.Sprintf("%q is the result of %s, which none is", t.result, t.name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.failures)) {
		if !failed[name] {
			wrong = append(wrong, "did not fail, and is in known-failures.tsv: "+name)
		}
	}
	if status != 0 && len(failed) == 0 {
		wrong = append(wrong, fmt.Sprintf("ended with status %d, and no test failed", status))
	}
	return append(wrong, e.compare(run)...)
}

// compare tells the tests that only one of the two runs has, and those that made far
// fewer checks than before. A name may stand more than once.
func (e *expectation) compare(run []test) []string {
	count := map[string]int{}
	for _, t := range e.before {
		count[t.name]--
	}
	for _, t := range run {
		count[t.name]++
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		switch n := count[name]; {
		case n < 0:
			wrong = append(wrong, "not run: "+name)
		case n > 0:
			wrong = append(wrong, "not in the documents' table: "+name)
		}
	}
	now := map[string]int{}
	for _, t := range run {
		now[t.name] = t.checks()
	}
	for _, t := range e.before {
		if n, ran := now[t.name]; ran && n < t.checks()*9/10 {
			wrong = append(wrong, fmt.Sprintf("%s made %d checks, before %d", t.name, n, t.checks()))
		}
	}
	return wrong
}

// checks reads how many checks a test made from a remark that says so.
func (t test) checks() int {
	text, ok := strings.CutSuffix(t.remark, " checks")
	n, err := strconv.Atoi(text)
	if !ok || err != nil {
		return 0
	}
	return n
}

// count returns how many tests of a run have this result.
func count(run []test, result string) int {
	n := 0
	for _, t := range run {
		if t.result == result {
			n++
		}
	}
	return n
}
