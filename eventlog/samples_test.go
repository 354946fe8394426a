package eventlog

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/tpm2"
)

// readSamples opens testdata/logs.zip once; testdata/README.md says what is in it.
var readSamples = sampletest.Files("testdata/logs.zip")

func samples(t testing.TB) map[string][]byte {
	t.Helper()
	all, err := readSamples()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, ok := samples(t)[name]
	if !ok {
		t.Fatalf("no sample %q", name)
	}
	return b
}

func parseSample(t testing.TB, name string) *Log {
	t.Helper()
	l, err := Parse(sample(t, name))
	if err != nil {
		t.Fatalf("Parse(%s): %v", name, err)
	}
	return l
}

// pcrBanks is bank name -> PCR -> value in hex.
type pcrBanks map[string]map[string]string

// sampleEntry is what the manifest of the event logs says of one.
type sampleEntry struct {
	File   string `json:"file"`
	Kind   string `json:"kind"`
	Format struct {
		CryptoAgile    bool     `json:"crypto_agile"`
		Banks          []string `json:"banks"`
		Events         int      `json:"events"`
		ReferenceError string   `json:"parse_error_reference"`
	} `json:"format"`
	EventsPerPCR map[string]int `json:"events_per_pcr"`
	SecureBoot   struct {
		Variable    *int     `json:"SecureBoot_variable"`
		Variables   []string `json:"pcr7_variables"`
		Authorities []string `json:"pcr7_authorities"`
	} `json:"secure_boot"`
	BootActions   []string `json:"boot_actions"`
	Replayed      pcrBanks `json:"replayed_pcrs"`
	Known         pcrBanks `json:"known_pcrs"`
	KnownVsReplay map[string]struct {
		Match                []int `json:"match"`
		Mismatch             []int `json:"mismatch"`
		NonzeroWithoutEvents []int `json:"nonzero_without_events"`
	} `json:"known_pcrs_vs_replay"`
	Expected      string `json:"expected"`
	KernelCmdline string `json:"kernel_cmdline"`
	Windows       struct {
		TrustPoint bool `json:"unmeasured_trustpoint_event"`
	} `json:"windows"`
}

func manifest(t testing.TB) []sampleEntry {
	t.Helper()
	var m struct{ Entries []sampleEntry }
	if err := json.Unmarshal(sample(t, "eventlogs/MANIFEST.json"), &m); err != nil {
		t.Fatal(err)
	}
	return m.Entries
}

func unmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func bankByName(t testing.TB, name string) tpm2.Alg {
	t.Helper()
	a, ok := tpm2.AlgOfBank(name)
	if !ok {
		t.Fatalf("no bank %q", name)
	}
	return a
}

// quotedOf reads the values of one bank.
func quotedOf(t testing.TB, values map[string]string) map[int][]byte {
	t.Helper()
	out := map[int][]byte{}
	for k, v := range values {
		pcr, err := strconv.Atoi(k)
		if err != nil {
			t.Fatal(err)
		}
		if out[pcr], err = hex.DecodeString(v); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// vmPCRs reads the PCR values of a recorded VM.
func vmPCRs(t testing.TB, scenario string, a tpm2.Alg) map[int][]byte {
	t.Helper()
	var banks pcrBanks
	if err := json.Unmarshal(sample(t, "vmboot/"+scenario+"/pcrs.json"), &banks); err != nil {
		t.Fatal(err)
	}
	all := quotedOf(t, banks[a.BankName()])
	for pcr := range all {
		if pcr > 14 {
			delete(all, pcr) // the recorded quotes select 0 to 14
		}
	}
	return all
}

// logNames lists every sample that is a log, IMA lists apart.
func logNames(t testing.TB) []string {
	t.Helper()
	var out []string
	for name := range samples(t) {
		if path.Ext(name) == ".bin" {
			out = append(out, name)
		}
	}
	return out
}

// gcpQuote is the part of go-attestation's dump that a log test needs.
func gcpQuote(t testing.TB) (log []byte, pcrs map[int][]byte) {
	t.Helper()
	var dump struct {
		Log struct {
			PCRs []struct {
				Index     int
				Digest    string
				DigestAlg int
			}
			Raw string
		}
	}
	if err := json.Unmarshal(sample(t, "maa/go-attestation.windows_gcp_shielded_vm.json"), &dump); err != nil {
		t.Fatal(err)
	}
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pcrs = map[int][]byte{}
	for _, p := range dump.Log.PCRs {
		pcrs[p.Index] = decode(p.Digest)
	}
	return decode(dump.Log.Raw), pcrs
}
