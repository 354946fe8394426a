package maa_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/tpm2"
)

// replaced gives the separator of a register other data.
func replaced(t *testing.T, all []record, pcr uint32, data string) []record {
	t.Helper()
	i := slices.IndexFunc(all, func(r record) bool { return r.pcr == pcr && r.typ == eventlog.Separator })
	if i < 0 {
		t.Fatalf("PCR %d has no separator", pcr)
	}
	all[i] = record{pcr, eventlog.Separator, nil, []byte(data)}
	return all
}

// statedSeparators asks how many separators of a register the claim states.
func statedSeparators(t *testing.T, text string, pcr uint32) string {
	t.Helper()
	return ask(t, text, "length(Events[?EventTypeString == 'EV_SEPARATOR' && PcrIndex == `"+strconv.Itoa(int(pcr))+"`])")
}

func TestOnlySeparatorsThatSayAllIsWellAreStated(t *testing.T) {
	unchanged := edit(t, func(all []record) []record { return all })
	for pcr := range uint32(8) {
		if got := statedSeparators(t, unchanged, pcr); got != "1" {
			t.Errorf("PCR %d of the honest boot: %s separators are stated, want 1", pcr, got)
		}
		odd := edit(t, func(all []record) []record { return replaced(t, all, pcr, "\x02\x00\x00\x00") })
		if got := statedSeparators(t, odd, pcr); got != "0" {
			t.Errorf("PCR %d: a separator that says something else is stated", pcr)
		}
		failed := encode(replaced(t, records(t, sample(t, honest)), pcr, "\x01\x00\x00\x00"))
		if _, err := confirm(t, failed, tpm2.AlgSHA256); err == nil || !strings.Contains(err.Error(), "firmware reports an error") {
			t.Errorf("PCR %d: a boot with an error of the firmware: %v, want it refused", pcr, err)
		}
	}
}

func TestSeparatorOfAPCR7ThatIsNotBelievedIsNotStated(t *testing.T) {
	for name, change := range map[string]func([]record) []record{
		"an event of another type": func(all []record) []record {
			return append(all, record{7, eventlog.IPL, nil, []byte("something")})
		},
		"two separators": func(all []record) []record {
			return append(all, record{7, eventlog.Separator, nil, make([]byte, 4)})
		},
		"no SecureBoot": func(all []record) []record {
			i := slices.IndexFunc(all, func(r record) bool { return r.pcr == 7 })
			return slices.Delete(all, i, i+1)
		},
	} {
		text := edit(t, change)
		if got := statedSeparators(t, text, 7); got != "0" {
			t.Errorf("%s: %s separators of PCR 7 are stated", name, got)
		}
		if got := statedSeparators(t, text, 0); got != "1" {
			t.Errorf("%s: %s separators of PCR 0 are stated, want 1", name, got)
		}
		if got := ask(t, text, "length(Events[?PcrIndex == `7` && (EventTypeString || ProcessedData)])"); got != "0" {
			t.Errorf("%s: %s events of PCR 7 are stated", name, got)
		}
	}
}
