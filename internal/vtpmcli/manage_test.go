package vtpmcli

import (
	"strings"
	"testing"
)

// What the journal of a running TPM lacks is said to who describes it.
func TestShownTPMHasItsJournal(t *testing.T) {
	for result, want := range map[string]bool{
		`{"running": true, "journal": {"records": 3, "dropped": 0, "omitted": 5}}`: true,
		`{"running": false}`: false,
	} {
		var out strings.Builder
		if err := showTPM(&out, []byte(result)); err != nil {
			t.Fatal(err)
		}
		const line = "measurements  3 records since power on; 5 of PCR 10 and from 16 on not kept\n"
		if got := out.String(); strings.Contains(got, line) != want || strings.Contains(got, "measurements") != want {
			t.Errorf("%s is shown as\n%s", result, got)
		}
	}
}
