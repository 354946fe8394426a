package vtpmcli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2/engine"
)

// docs/cli.md names every member of the JSON of assay tpm profile.
func TestTheJSONOfProfilesIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "### The JSON of `assay tpm profile … -o json`\n")
	if !ok {
		t.Fatal("docs/cli.md has no section of it")
	}
	section, _, _ = strings.Cut(section, "\n### ")
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(profileDetails(p))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		t.Fatal(err)
	}
	var limits map[string]json.RawMessage
	if err := json.Unmarshal(members["limits"], &limits); err != nil || len(limits) != 8 || len(members) != 12 {
		t.Fatalf("%d members and %d limits, %v: this test does not see all of them", len(members), len(limits), err)
	}
	for _, of := range []map[string]json.RawMessage{members, limits} {
		for name := range of {
			if !strings.Contains(section, "`"+name+"`") {
				t.Errorf("docs/cli.md does not name %q", name)
			}
		}
	}
}
