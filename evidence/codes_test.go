package evidence_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
)

var update = flag.Bool("update", false, "write docs/reasons.md")

const reasonsPage = "../docs/reasons.md"

// reasons is the page that is made from the table.
func reasons() string {
	var b strings.Builder
	b.WriteString("# Reason codes\n\n" +
		"Why evidence was refused, or why a claim is unknown. The codes are the same in `assay appraise`, in the service's API, in tokens and\n" +
		"in the audit record; they are never renamed or reused. This page is made from package `evidence` (`go test ./evidence -update`).\n")
	group := ""
	for _, c := range evidence.Codes() {
		if g, _, _ := strings.Cut(string(c.Code), "."); g != group {
			group = g
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		fmt.Fprintf(&b, "\n### `%s`\n%s\n- Likely: %s.\n- To do: %s\n", c.Code, c.Meaning, strings.Join(c.Causes, "; or "), c.Action)
	}
	return b.String()
}

func TestReasonsPageIsCurrent(t *testing.T) {
	want := reasons()
	if *update {
		if err := os.WriteFile(reasonsPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reasonsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/reasons.md is not what the table says; run go test ./evidence -update")
	}
}

var codeForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*$`)

func TestCodesAreExplainedOnceAndSorted(t *testing.T) {
	all := evidence.Codes()
	for i, c := range all {
		if !codeForm.MatchString(string(c.Code)) {
			t.Errorf("code %q is not of the form part.what-is-wrong", c.Code)
		}
		if i > 0 && c.Code <= all[i-1].Code {
			t.Errorf("code %q follows %q", c.Code, all[i-1].Code)
		}
		if !strings.HasSuffix(c.Meaning, ".") || !strings.HasSuffix(c.Action, ".") || len(c.Causes) == 0 {
			t.Errorf("code %q: meaning and action are sentences, and there is a cause: %+v", c.Code, c)
		}
		for _, cause := range c.Causes {
			if cause == "" || strings.HasSuffix(cause, ".") {
				t.Errorf("code %q: cause %q is not part of a sentence", c.Code, cause)
			}
		}
	}
}

// TestEveryCodeInTheModuleIsExplained looks for reason codes in the source of
// every package: constants of type Code, first arguments of Refuse, and members
// called Code.
func TestEveryCodeInTheModuleIsExplained(t *testing.T) {
	known := map[string]bool{}
	for _, c := range evidence.Codes() {
		known[string(c.Code)] = true
	}
	used := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"testdata", ".git", "tools", "peers"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(d.Name(), "codes_") && filepath.Dir(name) == "../evidence" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			for _, e := range codeExpressions(n) {
				if code, ok := literal(e); ok && codeForm.MatchString(code) {
					used[code] = true
					if !known[code] {
						t.Errorf("%s: reason code %q is not in the table of package evidence", fset.Position(e.Pos()), code)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(used) < 50 {
		t.Errorf("found %d codes in the module, want at least 50: the search is broken", len(used))
	}
}

// codeExpressions returns the expressions of n that are reason codes.
func codeExpressions(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.ValueSpec:
		if n.Type != nil && named(n.Type, "Code") {
			return n.Values
		}
	case *ast.CallExpr:
		if len(n.Args) > 0 && (named(n.Fun, "Refuse") || named(n.Fun, "Code")) {
			return n.Args[:1]
		}
	case *ast.KeyValueExpr:
		if named(n.Key, "Code") {
			return []ast.Expr{n.Value}
		}
	}
	return nil
}

func named(e ast.Expr, name string) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == name
	case *ast.SelectorExpr:
		return e.Sel.Name == name
	}
	return false
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}
