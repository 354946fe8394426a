package policy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/assay-project/assay/policy"
)

// snippet is a fenced block of docs/policy.md.
type snippet struct{ kind, text string }

func snippets(t *testing.T) []snippet {
	t.Helper()
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []snippet
	for i, part := range strings.Split("\n"+string(page), "\n```") {
		if i%2 == 1 {
			kind, text, _ := strings.Cut(part, "\n")
			out = append(out, snippet{kind, text + "\n"})
		}
	}
	return out
}

func TestTheSnippetsOfTheDocumentationDoWhatItSays(t *testing.T) {
	all := snippets(t)
	ran := 0
	for i, s := range all {
		src := s.text
		switch s.kind {
		case "rules":
			src = "version=1.2; authorizationrules {\n" + src + "};"
			// Lines are those of the rules as they stand on the page.
			src = strings.Replace(src, "{\n", "{", 1)
		case "policy":
			if out, err := policy.Format(src, policy.Strict); err != nil || out != src {
				t.Errorf("snippet %d is not in canonical layout, %v:\n%s", i, err, out)
			}
		case "claims":
			if _, err := policy.ParseClaims(src); err != nil {
				t.Errorf("snippet %d: %v", i, err)
			}
			continue
		case "table":
			runCases(t, libraryText(t, "tpm-default"), src)
			ran++
			continue
		default:
			continue
		}
		if i+1 == len(all) || all[i+1].kind != "cases" {
			t.Errorf("snippet %d has no cases:\n%s", i, src)
			continue
		}
		runCases(t, src, `{"policy":"snippet","cases":`+all[i+1].text+`}`)
		ran++
	}
	if ran < 9 {
		t.Errorf("the page has %d snippets that can be run, want at least 9", ran)
	}
}

func libraryText(t *testing.T, name string) string {
	t.Helper()
	all, err := policy.Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Name == name {
			return l.Text
		}
	}
	t.Fatalf("the library has no policy %q", name)
	return ""
}

func runCases(t *testing.T, src, text string) {
	t.Helper()
	table, err := policy.ParseTable([]byte(text))
	if err != nil {
		t.Errorf("ParseTable(%s) = %v", text, err)
		return
	}
	p := parse(t, src)
	if p.Vacuous() {
		t.Errorf("the snippet checks nothing:\n%s", src)
	}
	for _, c := range table.Cases {
		if err := c.Check(p); err != nil {
			t.Errorf("%s: %v\n%s", c.Name, err, src)
		}
	}
}

func TestEveryFindingIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range []string{"lint.go", "lint_traps.go", "query/traps.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\b[lt]\.(?:warn|add)\([^"]*"([a-z-]+)"`).FindAllStringSubmatch(string(src), -1) {
			found++
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/policy.md does not explain %q", m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("%d findings in the source, want at least 20", found)
	}
}
