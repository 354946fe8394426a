// Command suites is what tools/tpm-suites.sh asks about other people's TPM test suites:
// whether a checkout is the one that the documents speak of, which ports are free, and
// whether a run is as good as the run before.
//
// It proves nothing of a TPM: it holds tables against tables. Start with
// [expectation.judge].
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const usage = `usage: suites judge TABLES SUITE RUN STATUS SECONDS
       suites checkout TABLES SUITE FOLDER
       suites port
       suites gotests <RUN.json >RUN.tsv`

var (
	errUsage = errors.New(usage)
	errWorse = errors.New("the run is not as the documents say")
)

func main() {
	err := run(os.Args[1:], os.Stdin, os.Stdout)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, errWorse) {
		os.Exit(1)
	}
	os.Exit(2)
}

func run(args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 6 && args[0] == "judge":
		return report(args[1], args[2], args[3], args[4], args[5], out)
	case len(args) == 4 && args[0] == "checkout":
		return checkout(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "port":
		port, err := freePorts()
		if err == nil {
			_, err = fmt.Fprintln(out, port)
		}
		return err
	case len(args) == 1 && args[0] == "gotests":
		return goTests(in, out)
	}
	return errUsage
}

// report writes the row of one suite, and below it what is wrong with its run.
func report(tables, suite, file, status, seconds string, out io.Writer) error {
	e, err := expect(tables, suite)
	if err != nil {
		return err
	}
	tests, err := read(file, parse)
	if err != nil {
		return err
	}
	ended, err := strconv.Atoi(status)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%-12s %5d pass %4d fail %4d skip %6s s\n", suite, count(tests, "pass"), count(tests, "fail"), count(tests, "skip"), seconds)
	wrong := e.judge(tests, ended)
	for _, w := range wrong {
		fmt.Fprintln(out, "    "+w)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %w", suite, errWorse)
	}
	return nil
}

// expect reads what the documents' tables say of a suite.
func expect(tables, suite string) (*expectation, error) {
	e := new(expectation)
	names := func(r io.Reader) (map[string]bool, error) { return known(r, suite) }
	var errs [3]error
	e.before, errs[0] = read(filepath.Join(tables, suite+".tsv"), parse)
	e.failures, errs[1] = read(filepath.Join(tables, "known-failures.tsv"), names)
	e.skips, errs[2] = read(filepath.Join(tables, "skips.tsv"), names)
	return e, errors.Join(errs[:]...)
}

// read parses a file.
func read[T any](name string, as func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(name)
	if err != nil {
		var zero T
		return zero, err
	}
	defer f.Close()
	v, err := as(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return v, err
}

// checkout returns an error unless a folder has the commit of a suite that
// commits.tsv names, and no file of it is changed.
func checkout(tables, suite, folder string) error {
	commits, err := read(filepath.Join(tables, "commits.tsv"), parse)
	if err != nil {
		return err
	}
	want := ""
	for _, c := range commits {
		if c.name == suite {
			want = c.remark
		}
	}
	head, err := git(folder, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if head != want {
		return fmt.Errorf("%s is at commit %s, and the documents speak of %s", folder, head, want)
	}
	changed, err := git(folder, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("files of %s are changed:\n%s", folder, changed)
	}
	return nil
}

func git(folder string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"--no-optional-locks", "-C", folder}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w: %s", args[0], folder, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
