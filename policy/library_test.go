package policy_test

import (
	"os"
	"testing"

	"github.com/assay-project/assay/policy"
)

func TestLibraryPoliciesDoWhatTheirTablesSay(t *testing.T) {
	all, err := policy.Library()
	if err != nil || len(all) == 0 {
		t.Fatalf("Library = %d policies, %v", len(all), err)
	}
	found := false
	for _, l := range all {
		found = found || l.Name == policy.DefaultTPM
		t.Run(l.Name, func(t *testing.T) {
			p := parse(t, l.Text)
			for _, f := range p.Lint(nil) {
				t.Errorf("Lint: %v", f)
			}
			if out, err := policy.Format(l.Text, policy.Strict); err != nil || out != l.Text {
				t.Errorf("Format changes the text, %v:\n%s", err, out)
			}
			data, err := os.ReadFile("library/" + l.Name + "_test.json")
			if err != nil {
				t.Fatal(err)
			}
			table, err := policy.ParseTable(data)
			if err != nil || table.Policy != l.Name+".policy" {
				t.Fatalf("ParseTable = %v, for %q", err, table.Policy)
			}
			for _, c := range table.Cases {
				if err := c.Check(p); err != nil {
					t.Errorf("%s: %v", c.Name, err)
				}
			}
			if r, err := p.Evaluate(nil); err != nil || r.Permitted() {
				t.Errorf("Evaluate(nothing) = %v, %v; want a denial", r.Permitted(), err)
			}
		})
	}
	if !found {
		t.Errorf("the library lacks %q", policy.DefaultTPM)
	}
}
