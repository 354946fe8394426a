package arch_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pure are the packages of which the TPM is made: bytes in, bytes out. ARCHITECTURE.md
// promises that the engine has no disk, network, clock or goroutine, and that the same
// stream with the same time and randomness gives the same bytes.
var pure = []string{"tpm2", "tpm2/command", "tpm2/engine", "internal/tpmcrypto", "internal/tpmcrypto/mldsa", "internal/fermat", "wire"}

// impureImports are what a pure package may not import, nor anything below them.
var impureImports = []string{
	"os", "net", "syscall", "golang.org/x/sys/unix", "golang.org/x/sys/windows", "io/fs", "io/ioutil", "path/filepath", "embed", "plugin", "database/sql",
	"crypto/rand", "math/rand", "hash/maphash", "log", "testing", "unsafe", "C", "context",
}

// timeNames are what a pure package may use of package time: lengths of time, no clock.
var timeNames = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}

// impurities are what of a file reaches outside, or goes on when a call has returned.
func impurities(f goFile) []string {
	var out []string
	for _, imp := range f.ast.Imports {
		name, _ := strconv.Unquote(imp.Path.Value)
		if slices.ContainsFunc(impureImports, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }) {
			out = append(out, fmt.Sprintf("%s: import of %q", f.at(imp), name))
		}
		if name == "time" && imp.Name != nil {
			out = append(out, fmt.Sprintf("%s: package time under another name", f.at(imp)))
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, f.at(n)+": go statement")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && x.Name == "time" && !slices.Contains(timeNames, n.Sel.Name) {
				out = append(out, fmt.Sprintf("%s: time.%s", f.at(n), n.Sel.Name))
			}
			if n.Sel.Name == "Go" { // of a sync.WaitGroup
				out = append(out, f.at(n)+": a method named Go")
			}
		}
		return true
	})
	return out
}

func TestTheEngineIsPure(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		seen[f.pkg] = true
		for _, found := range impurities(f) {
			t.Errorf("%s: this package takes all that it needs as parameters", found)
		}
		// What it imports of ours is pure as well.
		for _, imp := range f.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if own, ok := strings.CutPrefix(name, module); ok && !slices.Contains(pure, own) {
				t.Errorf("%s: import of %q, which nothing holds to be pure", f.at(imp), own)
			}
		}
	}
	for _, pkg := range pure {
		if !seen[pkg] {
			t.Errorf("package %q is no more", pkg)
		}
	}
}

func TestWhatIsNotPureIsFound(t *testing.T) {
	for text, want := range map[string]int{
		"import \"os\"":                                            1,
		"import \"os/exec\"":                                       1,
		"import \"net/netip\"":                                     1,
		"import \"crypto/rand\"":                                   1,
		"import \"math/rand/v2\"":                                  1,
		"import \"log/slog\"":                                      1,
		"import clock \"time\"":                                    1,
		"import \"time\"; var d time.Duration":                     0,
		"import \"time\"; var d = time.Now()":                      1,
		"import \"time\"; var d = time.Since":                      1,
		"import \"time\"; var d = time.AfterFunc":                  1,
		"func f() { go f() }":                                      1,
		"import \"sync\"; func f(w *sync.WaitGroup) { w.Go(nil) }": 1,
		"import \"crypto/sha256\"; import \"math\"":                0,
		"import \"github.com/assay-project/assay/osx\"":            0,
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "a.go", "package a\n"+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := impurities(goFile{path.Join("a", "a.go"), "a", false, file, fset}); len(got) != want {
			t.Errorf("%s: found %q, want %d", text, got, want)
		}
	}
}
