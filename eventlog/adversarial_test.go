package eventlog

import (
	"encoding/hex"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
)

// TestAdversarialLogs holds each log that was made to mislead to what its
// manifest says, and to a reason of its own.
func TestAdversarialLogs(t *testing.T) {
	type outcome struct {
		parse   error    // kind of the parse error
		refused []string // codes of Confirm
		finding string   // a finding of Inspect
		claims  map[string]string
	}
	on := map[string]string{"secureBoot": "true"}
	want := map[string]outcome{
		"adv-app-after-ebs":            {finding: "eventlog.after-exit-boot-services", claims: on},
		"adv-dbx-listsize-lt-28":       {finding: "eventlog.signature-list-malformed", claims: map[string]string{"secureBoot": "eventlog.signature-list-malformed", "secureBootKeys.dbx.hashes": "eventlog.signature-list-malformed"}},
		"adv-dbx-sigsize0":             {finding: "eventlog.signature-list-malformed", claims: map[string]string{"secureBoot": "eventlog.signature-list-malformed", "secureBootKeys.dbx.hashes": "eventlog.signature-list-malformed"}},
		"adv-digestcount-max":          {parse: ErrDigests},
		"adv-error-separator":          {refused: []string{"eventlog.error-separator"}, finding: "eventlog.error-separator"},
		"adv-grub-empty-cmd":           {claims: map[string]string{"secureBoot": "true", "kernelCommandLine": "eventlog.not-measured"}},
		"adv-noaction-fake-secureboot": {claims: map[string]string{"secureBoot": "false"}},
		"adv-pcr-index-24":             {parse: ErrRegister},
		"adv-pcr4-separator-disguised": {refused: []string{"eventlog.reserved-digest"}, finding: "eventlog.reserved-digest"},
		"adv-pcr7-events-stripped":     {refused: []string{"eventlog.events-missing"}},
		"adv-pcr7-masquerade-unused":   {refused: []string{"eventlog.reserved-digest"}, finding: "eventlog.unexpected-event"},
		"adv-sbvar-after-separator":    {refused: []string{"eventlog.variable-after-separator"}, finding: "eventlog.variable-after-separator"},
		"adv-sbvar-data-swapped":       {refused: []string{"eventlog.data-mismatch"}, finding: "eventlog.data-mismatch"},
		"adv-second-specid-midlog":     {finding: "eventlog.second-spec-id", claims: on},
		"adv-sha1-disagrees":           {finding: "eventlog.bank-disagreement", claims: on},
		"adv-specid-dup-alg":           {parse: ErrSpecID},
		"adv-specid-wrong-size":        {parse: ErrSpecID},
		"adv-specid-zero-algs":         {parse: ErrSpecID},
		"adv-startuplocality-last":     {finding: "eventlog.late-locality", claims: on},
		"adv-trailing-zero-padding":    {claims: on},
		"adv-truncated-mid-digest":     {parse: ErrTruncated},
		"adv-unknown-type-pcr15":       {finding: "eventlog.unknown-type", claims: on},
		"adv-win-elam-recursion":       {finding: "windows.tag-nesting", claims: map[string]string{"elam": "eventlog.no-separator"}},
		"adv-win-good-after-separator": {claims: map[string]string{"testSigning": "true", "bootDebugging": "true", "codeIntegrity": "false", "hvci": "windows.not-measured"}},
		"adv-win-minimal-good": {claims: map[string]string{
			"secureBoot": "true", "bootDebugging": "false", "testSigning": "false", "codeIntegrity": "true", "vbsRequired": "true", "vbsLaunched": "true", "hvci": "true", "safeMode": "false", "winPE": "false",
		}},
	}
	for _, s := range manifest(t) {
		name, adversarial := strings.CutPrefix(strings.TrimSuffix(s.File, ".bin"), "adversarial/")
		if !adversarial {
			continue
		}
		o, ok := want[name]
		if !ok {
			t.Errorf("%s has no expected outcome here", name)
			continue
		}
		delete(want, name)
		t.Run(name, func(t *testing.T) {
			l, err := Parse(sample(t, "eventlogs/"+s.File))
			if o.parse != nil {
				if !errors.Is(err, o.parse) {
					t.Errorf("Parse = %v, want %v", err, o.parse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			quoted := quotedOf(t, s.Replayed["sha256"])
			for pcr, v := range quotedOf(t, s.Known["sha256"]) {
				if pcr != 15 && firmwarePCR(pcr) {
					quoted[pcr] = v
				}
			}
			for pcr := range 15 { // a quote tells of registers that nothing extended, too
				if _, ok := quoted[pcr]; !ok && firmwarePCR(pcr) {
					quoted[pcr] = make([]byte, 32)
				}
			}
			c, err := l.Confirm(tpm2.AlgSHA256, quoted)
			if d := cmp.Diff(o.refused, codesOf(err)); d != "" {
				t.Errorf("Confirm: %v (-want +got):\n%s", err, d)
			}
			in, inErr := l.Inspect(tpm2.AlgSHA256)
			if inErr != nil {
				t.Fatal(inErr)
			}
			has := func(f Finding) bool { return string(f.Code) == o.finding }
			if o.finding != "" && !slices.ContainsFunc(in.Findings(), has) {
				t.Errorf("findings %v, want one of %s", in.Findings(), o.finding)
			}
			if err != nil {
				return
			}
			claims := c.Claims()
			if l.Format() == FormatWBCL {
				// These were made of the log of a Linux boot: a quote would prove nothing.
				if got := claims["testSigning"]; got.Reason != codeAmbiguous {
					t.Errorf("testSigning = %v (%s), want unknown (%s)", got.Value, got.Reason, codeAmbiguous)
				}
				claims = in.Claims()
			}
			for name, v := range o.claims {
				got := claims[name].Value.String()
				if !claims[name].Value.Known() {
					got = string(claims[name].Reason)
				}
				if got != v {
					t.Errorf("%s = %s, want %s", name, got, v)
				}
			}
		})
	}
	for name := range want {
		t.Errorf("%s is not in the manifest", name)
	}
}

func TestImageAfterExitBootServicesIsNoBootApplication(t *testing.T) {
	b, err := parseSample(t, "eventlogs/adversarial/adv-app-after-ebs.bin").Inspect(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	all := b.Components()
	last := all[len(all)-1]
	if last.PCR != 4 || last.Kind != KindOther || last.Proven || !last.Late {
		t.Errorf("component = %+v, want an unproven late one of kind other", last)
	}
	good, err := parseSample(t, "eventlogs/bios/qemu-uki-sb.bin").Inspect(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(b.Late()[4]) == hex.EncodeToString(good.Late()[4]) {
		t.Error("late value of PCR 4 does not differ")
	}
	if hex.EncodeToString(b.Early()[4]) != hex.EncodeToString(good.Early()[4]) {
		t.Error("early value of PCR 4 differs")
	}
}

// TestHostileLogsCostLittleMemory holds the bound of DESIGN §6; the time is held
// by BenchmarkHostile.
func TestHostileLogsCostLittleMemory(t *testing.T) {
	for name, data := range hostileLogs() {
		if len(data) > MaxSize {
			t.Fatalf("%s has %d bytes: it would not even be parsed", name, len(data))
		}
		if _, err := Parse(data); err != nil {
			t.Errorf("%s is refused at once: %v", name, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		analyseAll(data)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 8*uint64(len(data)) {
			t.Errorf("%s: %d bytes of input cost %d bytes of memory, more than 8 times as much", name, len(data), used)
		}
	}
}
