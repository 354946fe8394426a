package baseline_test

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/tpm2"
)

// The samples are those of package eventlog; ../testdata/README.md says where
// each comes from.
var readSamples = sampletest.Files("../testdata/logs.zip")

func sample(t testing.TB, name string) []byte {
	t.Helper()
	all, err := readSamples()
	if err != nil {
		t.Fatal(err)
	}
	b, ok := all[name]
	if !ok {
		t.Fatalf("no sample %q", name)
	}
	return b
}

func inspect(t testing.TB, name string) baseline.Boot {
	t.Helper()
	l, err := eventlog.Parse(sample(t, name))
	if err != nil {
		t.Fatalf("Parse(%s) = %v", name, err)
	}
	bank := tpm2.AlgSHA256
	if !l.HasBank(bank) {
		bank = tpm2.AlgSHA1
	}
	b, err := l.Inspect(bank)
	if err != nil {
		t.Fatalf("Inspect(%s) = %v", name, err)
	}
	return b
}

// quoted returns the values that the machine's quote signed, PCR 0 to 14.
func quoted(t testing.TB, dir string) map[int][]byte {
	t.Helper()
	var banks map[string]map[string]string
	if err := json.Unmarshal(sample(t, dir+"/pcrs.json"), &banks); err != nil {
		t.Fatal(err)
	}
	out := map[int][]byte{}
	for pcr := range 15 {
		v, err := hex.DecodeString(banks["sha256"][strconv.Itoa(pcr)])
		if err != nil || len(v) != 32 {
			t.Fatalf("%s: no value of PCR %d", dir, pcr)
		}
		out[pcr] = v
	}
	return out
}

// confirmed is the boot of a recorded machine, proven by its values; without a
// log only the values.
func confirmed(t testing.TB, dir string) baseline.Boot {
	t.Helper()
	all, _ := readSamples()
	log, ok := all[dir+"/eventlog.bin"]
	if !ok {
		return baseline.FromValues(tpm2.AlgSHA256, quoted(t, dir))
	}
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatalf("Parse(%s) = %v", dir, err)
	}
	b, err := l.Confirm(tpm2.AlgSHA256, quoted(t, dir))
	if err != nil {
		t.Fatalf("Confirm(%s) = %v", dir, err)
	}
	return b
}

func pcrsOf(ds []baseline.Difference) []int {
	out := []int{}
	for _, d := range ds {
		out = append(out, d.PCR)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type scenario struct {
	Name     string
	Expected struct {
		Baseline  string
		Verdict   string `json:"verdict_against_baseline"`
		Differing []int  `json:"sha256_pcrs_differing_from_baseline"`
	}
}

func scenarios(t testing.TB) []scenario {
	t.Helper()
	var m struct{ Scenarios []scenario }
	if err := json.Unmarshal(sample(t, "vmboot/MANIFEST.json"), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Scenarios) < 16 {
		t.Fatalf("%d scenarios", len(m.Scenarios))
	}
	return m.Scenarios
}
