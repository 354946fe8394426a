package arch_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A hostile guest talks to assay-vtpm: what only a service needs is not in it, and is
// not set up while a machine waits for its TPM.
func TestTheProgramOfTPMsHasNoServiceInIt(t *testing.T) {
	t.Parallel()
	list := exec.Command("go", "list", "-deps", "./cmd/assay-vtpm")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "/internal/vtpm\n") {
		t.Fatalf("go list says %q", out)
	}
	for name := range strings.Lines(string(out)) {
		for _, part := range []string{"/internal/httpapi", "/internal/store", "/internal/attest", "/huma", "/prometheus", "modernc.org/", "/pgx", "protobuf", "database/sql"} {
			if strings.Contains(name, part) {
				t.Errorf("cmd/assay-vtpm links %s", strings.TrimSpace(name))
			}
		}
	}
}
