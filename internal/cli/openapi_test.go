package cli

import (
	"bytes"
	"os"
	"testing"

	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/instances"
)

// The description in git is the contract: a change of it must be seen in a commit.
func TestDescriptionInGitIsCurrent(t *testing.T) {
	got, err := httpapi.OpenAPI(instances.Undone())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is not what the program describes; if the change is meant: make openapi")
	}
}
