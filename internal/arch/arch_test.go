package arch_test

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed order.txt
var orderText string

const (
	module  = "github.com/assay-project/assay/"
	root    = "../.."
	maxFile = 500 // lines; DESIGN §6
	maxFunc = 60  // lines; DESIGN §6
)

// level returns for each pattern of order.txt the number of its line.
func levels(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	n := 0
	for line := range strings.Lines(orderText) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		n++
		for _, w := range words {
			for _, p := range expand(w) {
				if _, twice := out[p]; twice {
					t.Errorf("order.txt names %q twice", p)
				}
				out[p] = n
			}
		}
	}
	return out
}

func expand(word string) []string {
	before, rest, found := strings.Cut(word, "{")
	if !found {
		return []string{word}
	}
	list, after, _ := strings.Cut(rest, "}")
	var out []string
	for alt := range strings.SplitSeq(list, ",") {
		out = append(out, before+alt+after)
	}
	return out
}

func levelOf(levels map[string]int, pkg string) (int, bool) {
	if n, ok := levels[pkg]; ok {
		return n, true
	}
	for dir := pkg; dir != "."; dir = path.Dir(dir) {
		if n, ok := levels[dir+"/..."]; ok {
			return n, true
		}
	}
	return 0, false
}

type goFile struct {
	path string // relative to the module, slashes
	pkg  string // folder, relative to the module
	test bool
	ast  *ast.File
	fset *token.FileSet
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if own := name != root && exists(filepath.Join(name, "go.mod")); own || d.Name() == "testdata" || d.Name() == "node_modules" || (strings.HasPrefix(d.Name(), ".") && name != root) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, goFile{rel, path.Dir(rel), strings.HasSuffix(rel, "_test.go"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func exists(name string) bool { _, err := os.Stat(name); return err == nil }

// isTestPackage reports whether a package is for tests only (STYLE §8). Package
// attest is not: it only ends like one.
func isTestPackage(pkg string) bool {
	base := path.Base(pkg)
	return strings.HasSuffix(base, "test") && base != "attest" || strings.HasPrefix(pkg, "test/")
}

func TestImportsPointDown(t *testing.T) {
	order := levels(t)
	for _, f := range goFiles(t) {
		from, known := levelOf(order, f.pkg)
		if !known && !isTestPackage(f.pkg) && f.pkg != "internal/arch" {
			t.Errorf("%s: package %q has no line in internal/arch/order.txt", f.path, f.pkg)
			continue
		}
		for _, imp := range f.ast.Imports {
			to, _ := strconv.Unquote(imp.Path.Value)
			to, own := strings.CutPrefix(to, module)
			if !own || to == f.pkg {
				continue
			}
			if isTestPackage(to) && !f.test && !isTestPackage(f.pkg) {
				t.Errorf("%s imports %q, which is for tests", f.path, to)
			}
			if isTestPackage(f.pkg) || isTestPackage(to) || f.test {
				continue
			}
			if level, ok := levelOf(order, to); !ok || level >= from {
				t.Errorf("%s: %q (line %d) may not import %q (line %d): order.txt lets imports point up its list only", f.path, f.pkg, from, to, level)
			}
		}
	}
}

func TestPackagesSayWhatTheyDo(t *testing.T) {
	doc := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		said := f.ast.Doc != nil && (strings.HasPrefix(f.ast.Doc.Text(), "Package "+f.ast.Name.Name+" ") || f.ast.Name.Name == "main" && strings.HasPrefix(f.ast.Doc.Text(), "Command "))
		doc[f.pkg] = doc[f.pkg] || said
	}
	for pkg, said := range doc {
		if !said {
			t.Errorf("package %q has no comment that begins with its name", pkg)
		}
	}
}

func TestNamesAreDocumented(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil && !wellKnown(d.Name.Name) {
					t.Errorf("%s: %s has no comment", f.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && ts.Doc == nil && d.Doc == nil && ts.Comment == nil {
						t.Errorf("%s: %s has no comment", f.at(ts), ts.Name.Name)
					}
				}
			}
		}
	}
}

// wellKnown methods say all by their name and signature.
func wellKnown(name string) bool {
	return slices.Contains([]string{"Error", "String", "Unwrap", "Is", "Len", "Less", "Swap", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "LogValue", "Format", "Close"}, name)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func (f goFile) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

func TestNothingIsRegisteredByImport(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init: cmd wires everything in plain sight", f.at(fn))
			}
		}
	}
}

// clockUsers are the packages that may read the clock or the random source of
// the machine themselves; all others take both as parameters (DESIGN §4, 12).
var clockUsers = []string{"internal/cli", "cmd/assay", "cmd/assay-agent", "cmd/assay-vtpm"}

func TestTimeAndRandomnessComeFromOutside(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || isTestPackage(f.pkg) || slices.Contains(clockUsers, f.pkg) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && (sel.Sel.Name == "Now" || sel.Sel.Name == "Sleep") {
					t.Errorf("%s: time.%s: take the clock as a parameter", f.at(call), sel.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestFilesAndFunctionsKeepTheirBudget(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		if n := f.fset.File(f.ast.Pos()).LineCount(); n > maxFile && !strings.HasSuffix(f.path, "_table.go") {
			t.Errorf("%s has %d lines, more than %d", f.path, n, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := f.fset.Position(fn.Body.End()).Line - f.fset.Position(fn.Pos()).Line
			if lines > maxFunc && !isTable(fn) {
				t.Errorf("%s: %s has %d lines, more than %d", f.at(fn), fn.Name.Name, lines, maxFunc)
			}
		}
	}
}

// isTable reports whether a function is one switch over a standard's table,
// which may be long (STYLE §1).
func isTable(fn *ast.FuncDecl) bool {
	if n := len(fn.Body.List); n == 0 || n > 2 {
		return false
	}
	_, ok := fn.Body.List[0].(*ast.SwitchStmt)
	return ok
}

// assemblers are the packages with assembly: what the compiler does not check is in
// few places, and each can be left out.
var assemblers = []string{"internal/fermat"}

func TestAssemblyIsWhereItIsKnown(t *testing.T) {
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.EqualFold(filepath.Ext(name), ".s") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		if !slices.Contains(assemblers, path.Dir(rel)) {
			t.Errorf("%s: assembly is in %q only", rel, assemblers)
		}
		if n := strings.Count(string(text), "\n"); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", rel, n, maxFile)
		}
		if !strings.HasPrefix(string(text), "//go:build !purego\n") {
			t.Errorf("%s does not begin with the build constraint !purego", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryDecoderPackageHasAFuzzTarget(t *testing.T) {
	decodes, fuzzes := map[string]string{}, map[string]bool{}
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			if f.test && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				fuzzes[f.pkg] = true
			}
			if !f.test && strings.HasPrefix(fn.Name.Name, "Parse") && fn.Name.IsExported() {
				decodes[f.pkg] = f.at(fn)
			}
		}
	}
	for pkg, at := range decodes {
		if !fuzzes[pkg] {
			t.Errorf("%s: package %q parses input and has no Fuzz target", at, pkg)
		}
	}
}

func TestEveryTestdataFolderSaysWhereItsFilesComeFrom(t *testing.T) {
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "node_modules" || d.Name() == ".git" {
			return filepath.SkipDir
		}
		if d.Name() != "testdata" {
			return nil
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return err
		}
		only := func(e os.DirEntry) bool { return e.Name() == "fuzz" }
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !only(e) }) {
			return filepath.SkipDir
		}
		if !exists(filepath.Join(name, "README.md")) {
			t.Errorf("%s has no README.md that says where its files come from", name)
		}
		return filepath.SkipDir
	})
	if err != nil {
		t.Fatal(err)
	}
}

// namedTest finds what SECURITY.md names in its table of threats.
var namedTest = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")

func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
				have[fn.Name.Name] = true
			}
		}
	}
	named := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(named) < 18 {
		t.Errorf("SECURITY.md names %d tests, want one a row at least", len(named))
	}
	for _, m := range named {
		if !have[m[1]] {
			t.Errorf("SECURITY.md names %s, and there is no such test", m[1])
		}
	}
}
