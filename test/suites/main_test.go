package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const tables = "../../docs/tpm-conformance"

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// The tables of the documents are runs that are as they ought to be, and a run that
// lost most of its tests is not.
func TestTheDocumentsTablesAreGoodRuns(t *testing.T) {
	dir := t.TempDir()
	for _, suite := range []string{"canonical", "go-tpm", "cryptenroll", "tpm2-tss", "tpm2-tools", "ibmtss", "swtpm"} {
		whole, err := os.ReadFile(filepath.Join(tables, suite+".tsv"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n")
		for name, tc := range map[string]struct {
			lines []string
			want  error
		}{
			"all":       {lines, nil},
			"a quarter": {lines[:(len(lines)+3)/4], errWorse},
			"none":      {nil, errWorse},
		} {
			t.Run(suite+"/"+name, func(t *testing.T) {
				status := "0"
				if name == "all" && strings.Contains(string(whole), "\tfail\t") {
					status = "1"
				}
				var out bytes.Buffer
				file := write(t, dir, "run.tsv", strings.Join(tc.lines, ""))
				if err := run([]string{"judge", tables, suite, file, status, "7"}, nil, &out); !errors.Is(err, tc.want) {
					t.Errorf("judge = %v, want %v\n%.2000s", err, tc.want, out.Bytes())
				}
				if !strings.HasPrefix(out.String(), suite+" ") || !strings.Contains(out.String(), " 7 s\n") {
					t.Errorf("judge writes %q", out.String())
				}
			})
		}
	}
}

func TestACheckoutIsAtItsCommit(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "file", "one\n")
	for _, args := range [][]string{{"init", "-q"}, {"add", "file"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "one"}} {
		if _, err := gitFor(dir, args...); err != nil {
			t.Fatal(err)
		}
	}
	head, err := git(dir, "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	pins := t.TempDir()
	write(t, pins, "commits.tsv", "this\t1.0\t"+head+"\nother\t1.0\t"+strings.Repeat("0", 40)+"\n")
	if err := checkout(pins, "this", dir); err != nil {
		t.Errorf("checkout = %v at the commit", err)
	}
	write(t, dir, "made", "by a build\n")
	if err := checkout(pins, "this", dir); err != nil {
		t.Errorf("checkout = %v with a file that a build made", err)
	}
	for _, suite := range []string{"other", "unknown"} {
		if err := checkout(pins, suite, dir); err == nil || !strings.Contains(err.Error(), head) {
			t.Errorf("checkout(%s) = %v, want an error that names the commit", suite, err)
		}
	}
	if err := os.WriteFile(file, []byte("two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkout(pins, "this", dir); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("checkout = %v with a changed file", err)
	}
	if err := checkout(pins, "this", pins); err == nil {
		t.Error("checkout takes a folder that git does not know")
	}
}

// gitFor is git with the machine's configuration left out.
func gitFor(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The page names the commits that a run asks for.
func TestThePageNamesTheCommits(t *testing.T) {
	page, err := os.ReadFile("../../docs/tpm-conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	commits, err := read(filepath.Join(tables, "commits.tsv"), parse)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commits {
		if row := "| `" + c.name + "` | " + c.result + " | " + c.remark + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/tpm-conformance.md has no row %q", row)
		}
	}
	if len(commits) != 4 {
		t.Errorf("%d commits, want those of four checkouts", len(commits))
	}
}

func TestPortsAreFreeAndBelowThoseOfConnections(t *testing.T) {
	port, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	if port < firstPort || port+1 >= endPort || port%2 != 0 {
		t.Errorf("freePorts = %d", port)
	}
}

func TestOtherArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"judge"}, {"port", "1"}, {"checkout", "a"}, {"gotests", "a"}} {
		if err := run(args, nil, new(bytes.Buffer)); !errors.Is(err, errUsage) {
			t.Errorf("run(%q) = %v", args, err)
		}
	}
}
