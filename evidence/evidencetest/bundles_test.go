package evidencetest_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
)

var out = flag.String("out", "", "write the bundles of all recorded boots into this folder")

// TestRecordedBootsMakeBundles also writes the bundles, for demonstrations:
// go test ./evidence/evidencetest -run Bundles -out FOLDER.
func TestRecordedBootsMakeBundles(t *testing.T) {
	write := func(name string, text []byte) {
		t.Helper()
		if b, err := evidence.ParseBundle(text); err != nil || b.Type != evidence.TypeTPM {
			t.Errorf("bundle of %s: %v", name, err)
		}
		if *out == "" {
			return
		}
		if err := os.WriteFile(filepath.Join(*out, strings.ReplaceAll(name, "/", "-")+".json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range evidencetest.Scenarios(t) {
		write(name, evidencetest.Recorded(t, name, "rsa").JSON(t))
	}
	for _, c := range evidencetest.Derived(t) {
		write("derived-"+c.Name, c.Bundle.JSON(t))
	}
	if n := len(evidencetest.Scenarios(t)) + len(evidencetest.Derived(t)); n < 30 {
		t.Errorf("%d bundles, want at least 30", n)
	}
	if n := len(evidencetest.Denied(t)); n < 6 {
		t.Errorf("%d boots were denied, want at least 6", n)
	}
}
