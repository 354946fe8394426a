package token

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
)

// Every code that this package refuses with is explained, and none is explained
// that nothing gives.
func TestEveryCodeIsExplained(t *testing.T) {
	var explained []string
	for _, info := range evidence.Codes() {
		if c := string(info.Code); strings.HasPrefix(c, "token.") || strings.HasPrefix(c, "keyset.") {
			explained = append(explained, c)
		}
	}
	var given []string
	refusal := regexp.MustCompile(`Refuse\("([a-z.-]+)"`)
	files := []string{"../internal/cli/token.go"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			files = append(files, e.Name())
		}
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range refusal.FindAllStringSubmatch(string(text), -1) {
			given = append(given, m[1])
		}
	}
	slices.Sort(given)
	given = slices.Compact(given)
	if !slices.Equal(given, explained) {
		t.Errorf("given:     %v\nexplained: %v", given, explained)
	}
}
