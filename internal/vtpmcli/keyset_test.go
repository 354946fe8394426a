package vtpmcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/uefi/varstore"
)

// TestAStoreThatFirmwareWillChangeIsNotJudged has a write in its queue that firmware
// finishes before it looks at the keys.
func TestAStoreThatFirmwareWillChangeIsNotJudged(t *testing.T) {
	b, err := varstore.New(varstore.OVMF4M).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "vars.fd")
	for state, want := range map[byte][2]string{
		0xFF: {"Secure Boot off; setup mode on", `"secureBoot": false`},
		0xFC: {"Secure Boot unknown; setup mode unknown", `"secureBoot": null`},
	} {
		b[0x41000+32] = state // the first header of the queue
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, format := range []program.OutputFormat{"text", "json"} {
			var out, errs strings.Builder
			if err := showVars(programtest.Env(&out, &errs), name, format); err != nil || !strings.Contains(out.String(), want[i]) {
				t.Errorf("state %#x: showVars = %v, says\n%s\nwant %s", state, err, out.String(), want[i])
			}
		}
	}
}
