package sipa

import (
	"archive/zip"
	"encoding/binary"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
)

// The samples are those of package eventlog; ../testdata/README.md says where
// each comes from.
const samplesFile = "../testdata/logs.zip"

type manifestEntry struct {
	File    string
	Windows *struct {
		Modules int              `json:"loaded_modules_pcr13"`
		ELAM    []string         `json:"elam"`
		Values  map[string][]int `json:"values"`
	}
}

func windowsSamples(t testing.TB) (entries []manifestEntry, logs map[string][]byte) {
	t.Helper()
	z, err := zip.OpenReader(samplesFile)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	read := func(name string) []byte {
		f, err := z.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var m struct{ Entries []manifestEntry }
	if err := json.Unmarshal(read("eventlogs/MANIFEST.json"), &m); err != nil {
		t.Fatal(err)
	}
	logs = map[string][]byte{}
	for _, e := range m.Entries {
		if e.Windows != nil {
			entries = append(entries, e)
			logs[e.File] = read("eventlogs/" + e.File)
		}
	}
	return entries, logs
}

var digestSizes = map[uint16]int{4: 20, 11: 32, 12: 48, 13: 64, 18: 32}

// tagged reads a log just well enough for these tests: its event tags in PCR 11
// to 14 before the WBCL separator of each. It takes the digests for checked,
// which package eventlog does in earnest.
func tagged(t testing.TB, log []byte) []Measured {
	t.Helper()
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(log[at:])) }
	at, agile := 0, strings.HasPrefix(string(log[32:]), "Spec ID Event03")
	if agile {
		at = 32 + u32(28)
	}
	closed := map[int]bool{}
	var out []Measured
	for i := 0; at+8 <= len(log); i++ {
		pcr, typ := u32(at), u32(at+4)
		if pcr == 0xFFFFFFFF {
			break
		}
		at += 8
		if agile {
			n := u32(at)
			at += 4
			for range n {
				at += 2 + digestSizes[binary.LittleEndian.Uint16(log[at:])]
			}
		} else {
			at += 20
		}
		data := log[at+4 : at+4+u32(at)]
		at += 4 + len(data)
		switch {
		case pcr < 11 || pcr > 14 || closed[pcr]:
		case typ == 4 && string(data) == "WBCL":
			closed[pcr] = true
		case typ == 6:
			out = append(out, Measured{PCR: pcr, Event: i, Data: data})
		}
	}
	return out
}

// manifestNames translates the manifest's names where they are not the header's.
var manifestNames = map[string]string{
	"DEP": "DATAEXECUTIONPREVENTION", "PAE": "PHYSICALADDRESSEXTENSION",
	"HV_MMIO_NX": "HYPERVISOR_MMIO_NX_POLICY", "HV_MSR_FILTER": "HYPERVISOR_MSR_FILTER_POLICY",
	"HV_BOOT_DMA_PROTECTION": "HYPERVISOR_BOOT_DMA_PROTECTION", "PAGEFILE_ENC": "PAGEFILE_ENCRYPTION_ENABLED", "DUMP_ENC": "DUMP_ENCRYPTION_ENABLED",
	"VBS_MMIO_NX": "VBS_MMIO_NX_REQUIRED", "VBS_MSR_FILTERING": "VBS_MSR_FILTERING_REQUIRED",
	"VBS_MS_BOOT_CHAIN": "VBS_MICROSOFT_BOOT_CHAIN_REQUIRED", "VBS_NOSECRETS": "VBS_VSM_NOSECRETS_ENFORCED",
}

func TestSamplesHoldWhatTheManifestSays(t *testing.T) {
	entries, logs := windowsSamples(t)
	if len(entries) < 27 {
		t.Fatalf("%d Windows samples, want 27", len(entries))
	}
	for _, e := range entries {
		if strings.Contains(e.File, "elam-recursion") {
			continue
		}
		t.Run(e.File, func(t *testing.T) {
			got := map[string][]int{}
			var keys []string
			var visit func([]Tag)
			visit = func(tags []Tag) {
				for _, tag := range tags {
					visit(tag.Members)
					n, ok := integer(tag.Value)
					if name := tag.ID.String(); ok && tag.Members == nil && !slices.Contains(got[name], int(n)) {
						got[name] = append(got[name], int(n))
					}
					if s, ok := text(tag.Value); ok && tag.ID == ELAMKeyName {
						keys = append(keys, s)
					}
				}
			}
			ms := tagged(t, logs[e.File])
			for _, m := range ms {
				tags, err := Parse(m.Data)
				if err != nil {
					t.Fatalf("Parse(event %d) = %v", m.Event, err)
				}
				visit(tags)
			}
			for name, want := range e.Windows.Values {
				if full, ok := manifestNames[name]; ok {
					name = full
				}
				if diff := cmp.Diff(want, got[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if diff := cmp.Diff(append([]string{}, e.Windows.ELAM...), append([]string{}, keys...)); diff != "" {
				t.Errorf("ELAM key names (-want +got):\n%s", diff)
			}
			r := Appraise(ms)
			if len(r.Modules) != e.Windows.Modules || len(r.Problems) != 0 {
				t.Errorf("Appraise: %d modules, problems %v, want %d and none", len(r.Modules), r.Problems, e.Windows.Modules)
			}
		})
	}
}

// TestClaimsFollowTheManifest derives each claim from the manifest's values by
// the rules of the claims' documentation, apart from the code under test.
func TestClaimsFollowTheManifest(t *testing.T) {
	flags := map[string]string{
		"bootDebugging": "BOOTDEBUGGING", "kernelDebug": "OSKERNELDEBUG", "hypervisorDebug": "HYPERVISOR_DEBUG",
		"testSigning": "TESTSIGNING", "flightSigning": "FLIGHTSIGNING", "codeIntegrity": "CODEINTEGRITY",
		"safeMode": "SAFEMODE", "winPE": "WINPE", "vbsLaunched": "VSM_LAUNCH_TYPE", "vbsRequired": "VBS_VSM_REQUIRED",
		"vbsSecureBootRequired": "VBS_SECUREBOOT_REQUIRED", "hvci": "VBS_HVCI_POLICY", "dumpsDisabled": "DUMPS_DISABLED",
		"hibernationDisabled": "HIBERNATION_DISABLED", "pagefileEncryption": "PAGEFILE_ENC", "dumpEncryption": "DUMP_ENC",
		"hypervisorLaunched": "HYPERVISOR_LAUNCH_TYPE",
	}
	entries, logs := windowsSamples(t)
	for _, e := range entries {
		if strings.Contains(e.File, "elam-recursion") {
			continue
		}
		t.Run(e.File, func(t *testing.T) {
			r := Appraise(tagged(t, logs[e.File]))
			for claim, value := range flags {
				want := evidence.Value{}
				if vs := e.Windows.Values[value]; len(vs) == 1 {
					want = evidence.Bool(vs[0] != 0)
				}
				got := r.Claims[claim]
				if got.Value != want || got.Value.Known() == (got.Reason != "") {
					t.Errorf("claim %s = %+v, want %v", claim, got, want)
				}
				if want.Known() && !slices.Equal(got.PCRs, []int{12, 13}) {
					t.Errorf("claim %s rests on PCRs %v, want 12 and 13", claim, got.PCRs)
				}
			}
			resumed := slices.Contains(e.Windows.Values["TRANSFER_CONTROL"], 2)
			if resumed && r.Claims["kernelDebug"].Reason != codeResumed {
				t.Errorf("kernelDebug after a resume: %+v, want %s", r.Claims["kernelDebug"], codeResumed)
			}
			if strings.HasPrefix(e.File, "bios/") && !r.Claims["kernelModulesValidated"].Value.IsTrue() {
				t.Errorf("kernelModulesValidated = %+v, want true", r.Claims["kernelModulesValidated"])
			}
		})
	}
}

func TestClaimsThatAreTexts(t *testing.T) {
	_, logs := windowsSamples(t)
	for file, want := range map[string]map[string]string{
		"bios/win-x1carbon-vbs-hvci-resume.bin": {
			"bitlockerUnlock": "tpm", "elamDriver": "WdBoot.sys", "bootCounter": "206", "bootManagerSVN": "1",
			"dep": "optIn", "driverLoadPolicy": "goodAndUnknown", "resumedFromHibernation": "false",
			"codeIntegrityPolicy": "DriverSiPolicy.p7b sha256:8f8fc9218805fee27996a96af8b619ad4374a37edcc14913f4308a06bc0092ee",
			"vbs":                 "true", "hvci": "true", "elam": "true",
		},
		"bios/win-ideapad1.bin":             {"elamDriver": "SymELAM.sys", "elam": "true", "bitlockerUnlock": "none", "vbs": "false"},
		"bios/win-dell1.bin":                {"elamDriver": "mfeelamk.sys", "elam": "true"},
		"bios/win-latitude-sb-off-eset.bin": {"elamDriver": "eelam.sys", "bitlockerUnlock": "cached"},
		"bios/win-dell-r340-sb-on-a.bin":    {"dep": "optOut", "bootCounter": "85"},
		"bios/win-latitude-resume-chain-1.bin": {
			"resumedFromHibernation": "true", "elam": "unknown", "elamDriver": "unknown", "dep": "unknown", "bitlockerUnlock": "cached",
		},
	} {
		r := Appraise(tagged(t, logs[file]))
		for name, value := range want {
			if got := r.Claims[name].Value.String(); got != value {
				t.Errorf("%s: claim %s = %q, want %q", file, name, got, value)
			}
		}
	}
}

func TestHostileSamplesClaimNothingGood(t *testing.T) {
	_, logs := windowsSamples(t)
	r := Appraise(tagged(t, logs["adversarial/adv-win-elam-recursion.bin"]))
	if len(r.Problems) != 1 || r.Problems[0].Code != codeNesting {
		t.Errorf("20,000 nested aggregations: problems %v, want one %s", r.Problems, codeNesting)
	}
	for name, c := range r.Claims {
		if c.Value.Known() || c.Reason != codeNesting {
			t.Errorf("20,000 nested aggregations: claim %s = %+v, want unknown for %s", name, c, codeNesting)
		}
	}
	r = Appraise(tagged(t, logs["adversarial/adv-win-good-after-separator.bin"]))
	for name, want := range map[string]string{"bootDebugging": "true", "testSigning": "true", "codeIntegrity": "false", "vbs": "unknown"} {
		if got := r.Claims[name].Value.String(); got != want {
			t.Errorf("good events after the separator: claim %s = %s, want %s", name, got, want)
		}
	}
	r = Appraise(tagged(t, logs["adversarial/adv-win-minimal-good.bin"]))
	for name, want := range map[string]string{"bootDebugging": "false", "testSigning": "false", "codeIntegrity": "true", "vbs": "true", "hvci": "true", "elam": "unknown"} {
		if got := r.Claims[name].Value.String(); got != want {
			t.Errorf("minimal good log: claim %s = %s, want %s", name, got, want)
		}
	}
}

func TestLogsOfAColdBootAndItsResumesAreAChain(t *testing.T) {
	_, logs := windowsSamples(t)
	var boots []Counters
	for _, n := range []string{"0", "1", "2", "3", "4"} {
		boots = append(boots, Appraise(tagged(t, logs["bios/win-latitude-resume-chain-"+n+".bin"])).Counters)
	}
	if err := Chain(boots); err != nil {
		t.Errorf("Chain(sample chain of 5) = %v", err)
	}
	change := func(f func([]Counters) []Counters) []Counters { return f(slices.Clone(boots)) }
	for name, tc := range map[string]struct {
		boots []Counters
		want  string
	}{
		"nothing":          {nil, "chain of boots is empty"},
		"without its head": {boots[1:], "boot 1 of 4: chain does not begin with a cold boot"},
		"with a gap":       {change(func(b []Counters) []Counters { return slices.Delete(b, 2, 3) }), "boot 3 of 4: boot counter does not follow the one before"},
		"out of order":     {change(func(b []Counters) []Counters { b[2], b[3] = b[3], b[2]; return b }), "boot 3 of 5: boot counter does not follow"},
		"two cold boots":   {change(func(b []Counters) []Counters { b[1].Resumed = evidence.Bool(false); return b }), "boot 2 of 5: is not a resume"},
		"unknown resume":   {change(func(b []Counters) []Counters { b[1].Resumed = evidence.Value{}; return b }), "boot 2 of 5: is not a resume"},
		"other TPM":        {change(func(b []Counters) []Counters { b[4].ID++; return b }), "boot 5 of 5: counter is that of another TPM"},
		"replayed counter": {change(func(b []Counters) []Counters { b[4].Event = b[3].Event; return b }), "boot 5 of 5: event counter does not rise"},
		"no counter":       {change(func(b []Counters) []Counters { b[4].Known = false; return b }), "boot 5 of 5: boot counter was not measured"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Chain(tc.boots)
			reasons := evidence.Reasons(err)
			if len(reasons) == 0 || reasons[0].Code != codeChain || !strings.HasPrefix(reasons[0].Message, tc.want) {
				t.Errorf("Chain(%s) = %v, want %s: %s", name, err, codeChain, tc.want)
			}
		})
	}
}
