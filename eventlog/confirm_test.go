package eventlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// firmwarePCRs are those that a log of a boot says all about.
func firmwarePCR(pcr int) bool { return pcr <= 9 || pcr >= 11 && pcr <= 14 }

func codesOf(err error) []string {
	var out []string
	for _, r := range evidence.Reasons(err) {
		if !slices.Contains(out, string(r.Code)) {
			out = append(out, string(r.Code))
		}
	}
	return out
}

// TestKnownPCRsMatchOrMismatchAsListed compares each log with values read from the
// same machine's TPM.
func TestKnownPCRsMatchOrMismatchAsListed(t *testing.T) {
	compared := 0
	for _, s := range manifest(t) {
		if len(s.KnownVsReplay) == 0 || s.Expected != "" {
			continue // the adversarial ones are below
		}
		t.Run(s.File, func(t *testing.T) {
			l := parseSample(t, "eventlogs/"+s.File)
			for bank, want := range s.KnownVsReplay {
				if len(want.Match) == 0 {
					continue // the log has no events in this bank
				}
				compared++
				a := bankByName(t, bank)
				known := quotedOf(t, s.Known[bank])
				quoted := map[int][]byte{}
				for _, pcr := range slices.Concat(want.Match, want.Mismatch) {
					quoted[pcr] = known[pcr]
				}
				c, err := l.Confirm(a, quoted)
				if len(want.Mismatch) == 0 {
					if err != nil {
						t.Errorf("Confirm(%s): %v", bank, err)
					}
					continue
				}
				if c != nil || !slices.Equal(codesOf(err), []string{"eventlog.replay-mismatch"}) {
					t.Errorf("Confirm(%s) = %v, %v, want a replay mismatch", bank, c, err)
				}
				for _, pcr := range want.Mismatch {
					if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("PCR %d is", pcr)) {
						t.Errorf("Confirm(%s): %v does not name PCR %d", bank, err, pcr)
					}
				}
			}
		})
	}
	if compared < 40 {
		t.Errorf("%d banks compared, want at least 40: the manifest was not read", compared)
	}
}

// secureBootExceptions are logs of the manifest whose SecureBoot variable is not
// the claim, and why.
var secureBootExceptions = map[string]evidence.Code{
	"bios/ibmtss-amd635.bin":             codeAmbiguous,   // two boots in one log
	"bios/tpm2tools-event-uefivar.bin":   codeNoSeparator, // a single event
	"adversarial/adv-sbvar-data-swapped": codeUnproven,
}

func TestSecureBootClaimIsTheVariableThatWasMeasured(t *testing.T) {
	for _, s := range manifest(t) {
		if s.Kind != "bios" || s.Expected != "" {
			continue
		}
		t.Run(s.File, func(t *testing.T) {
			l, err := Parse(sample(t, "eventlogs/"+s.File))
			if err != nil {
				return // TestSamplesParseAndReplayAsTheirManifestSays
			}
			b, err := l.Inspect(tpm2.AlgSHA256)
			if errors.Is(err, ErrNoBank) {
				checkSHA1(t, l, s)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, why := b.Claims()["secureBoot"], secureBootExceptions[s.File]
			switch hasEmpty := slices.Contains(s.SecureBoot.Variables, "SecureBoot(0)"); {
			case why != "":
				if got.Value.Known() || got.Reason != why {
					t.Errorf("secureBoot = %v (%s), want unknown (%s)", got.Value, got.Reason, why)
				}
			case s.SecureBoot.Variable == nil && !hasEmpty:
				if got.Value.Known() {
					t.Errorf("secureBoot = %v, want unknown", got.Value)
				}
			default:
				want := !hasEmpty && *s.SecureBoot.Variable == 1
				if !got.Value.Known() || got.Value.IsTrue() != want {
					t.Errorf("secureBoot = %v (%s), want %v", got.Value, got.Reason, want)
				}
			}
		})
	}
}

// checkSHA1 checks that a log with a SHA-1 bank alone proves nothing, and that
// the variable is still shown.
func checkSHA1(t *testing.T, l *Log, s sampleEntry) {
	t.Helper()
	b, err := l.Inspect(tpm2.AlgSHA1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range b.Claims() {
		if c.Value.Known() || c.Reason != codeWeakBank && c.Reason != codeNotMeasured {
			t.Errorf("%s = %v (%s), want unknown (%s)", name, c.Value, c.Reason, codeWeakBank)
		}
	}
	shown := slices.ContainsFunc(b.Components(), func(c Component) bool { return c.PCR == 7 && c.Name == "SecureBoot" })
	if want := len(s.SecureBoot.Variables) > 0; shown != want {
		t.Errorf("SecureBoot shown: %v, want %v", shown, want)
	}
}

func TestCommandLineIsTheOneThatGRUBMeasured(t *testing.T) {
	n := 0
	for _, s := range manifest(t) {
		if s.KernelCmdline == "" || s.Expected != "" {
			continue
		}
		b, err := parseSample(t, "eventlogs/"+s.File).Inspect(tpm2.AlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		n++
		got, _ := b.Claims()["kernelCommandLine"].Value.Text()
		if !sameArguments([]byte(got), []byte(s.KernelCmdline)) {
			t.Errorf("%s: kernelCommandLine = %q, want %q", s.File, got, s.KernelCmdline)
		}
	}
	if n < 20 {
		t.Errorf("%d command lines compared, want at least 20", n)
	}
}

// vmBoots are the recorded VMs with a log and PCR values.
func vmBoots(t testing.TB) []string {
	t.Helper()
	var out []string
	for name := range samples(t) {
		if dir, ok := strings.CutSuffix(strings.TrimPrefix(name, "vmboot/"), "/eventlog.bin"); ok {
			out = append(out, dir)
		}
	}
	slices.Sort(out)
	return out
}

func TestRecordedVMsAreConfirmedInEveryBank(t *testing.T) {
	boots := vmBoots(t)
	if len(boots) != 18 {
		t.Fatalf("%d recorded boots, want 18: %v", len(boots), boots)
	}
	for _, dir := range boots {
		for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384} {
			c, err := parseSample(t, "vmboot/"+dir+"/eventlog.bin").Confirm(a, vmPCRs(t, dir, a))
			if err != nil {
				t.Errorf("%s, %s: %v", dir, a.BankName(), err)
				continue
			}
			want := "true"
			switch {
			case a == tpm2.AlgSHA1:
				want = "unknown"
			case dir == "persist/boot4":
				want = "false"
			}
			if got := c.Claims()["secureBoot"].Value.String(); got != want {
				t.Errorf("%s, %s: secureBoot = %s, want %s", dir, a.BankName(), got, want)
			}
		}
	}
}

// TestDerivedLogsAreRefusedForTheirOwnReason takes the edited logs of the
// recorded VMs with the PCRs of the VM that they pretend to be of.
func TestDerivedLogsAreRefusedForTheirOwnReason(t *testing.T) {
	for name, tc := range map[string]struct {
		base  string
		parse error
		codes []string
		pcrs  string // named in the message
	}{
		"log-event-dropped":     {base: "good-shim-grub", codes: []string{"eventlog.replay-mismatch"}, pcrs: "PCR 8 "},
		"log-events-swapped":    {base: "good-shim-grub", codes: []string{"eventlog.replay-mismatch"}, pcrs: "PCR 8 "},
		"log-text-lies":         {base: "bad-cmdline", codes: []string{"eventlog.data-mismatch"}, pcrs: "PCR 8 "},
		"log-truncated":         {base: "good-shim-grub", parse: ErrTruncated},
		"log-huge-event-size":   {base: "good-shim-grub", parse: ErrDataSize},
		"log-huge-digest-count": {base: "good-shim-grub", parse: ErrDigests},
		"log-of-other-vm":       {base: "good-shim-grub", codes: []string{"eventlog.replay-mismatch", "eventlog.events-missing"}, pcrs: "PCR 4 "},
		"log-db-hidden":         {base: "bad-db-extra-key", codes: []string{"eventlog.data-mismatch"}, pcrs: "PCR 7 "},
		"log-zero-padding":      {base: "good-shim-grub"}, // real firmware pads
		"log-sha1-differs":      {base: "good-shim-grub"}, // see the next test
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Parse(sample(t, "vmboot/derived/"+name+".bin"))
			if !errors.Is(err, tc.parse) {
				t.Fatalf("Parse = %v, want %v", err, tc.parse)
			}
			if err != nil {
				return
			}
			_, err = l.Confirm(tpm2.AlgSHA256, vmPCRs(t, tc.base, tpm2.AlgSHA256))
			if d := cmp.Diff(tc.codes, codesOf(err)); d != "" {
				t.Errorf("Confirm: %v (-want +got):\n%s", err, d)
			}
			if err != nil && !strings.Contains(err.Error(), tc.pcrs) {
				t.Errorf("Confirm: %v does not name %s", err, tc.pcrs)
			}
		})
	}
}

func TestOneBankMayLieWhileAnotherHolds(t *testing.T) {
	l := parseSample(t, "vmboot/derived/log-sha1-differs.bin")
	_, err := l.Confirm(tpm2.AlgSHA1, vmPCRs(t, "good-shim-grub", tpm2.AlgSHA1))
	if got := codesOf(err); !slices.Contains(got, "eventlog.replay-mismatch") {
		t.Errorf("Confirm(sha1) = %v, want a replay mismatch", err)
	}
}

func TestWindowsVMOfAnotherProjectIsConfirmed(t *testing.T) {
	raw, pcrs := gcpQuote(t)
	l, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Confirm(tpm2.AlgSHA1, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	if l.Format() != FormatWBCL || c.Claims()["testSigning"].Reason != codeWeakBank {
		t.Errorf("format %v, testSigning %v", l.Format(), c.Claims()["testSigning"])
	}
}

func TestCCLogsReplayAsTheirManifestSays(t *testing.T) {
	type entry struct {
		Evidence string
		Expect   struct {
			Events int
			End    int `json:"end_offset"`
			Replay pcrBanks
		}
	}
	var m struct{ Samples []entry }
	unmarshal(t, sample(t, "evidence/MANIFEST.json"), &m)
	if len(m.Samples) != 6 {
		t.Fatalf("%d samples, want 6", len(m.Samples))
	}
	for _, s := range m.Samples {
		t.Run(s.Evidence, func(t *testing.T) {
			l := parseSample(t, "evidence/"+s.Evidence)
			if l.Len() != s.Expect.Events || l.End() != s.Expect.End {
				t.Errorf("%d events to byte %d, want %d to byte %d", l.Len(), l.End(), s.Expect.Events, s.Expect.End)
			}
			checkReplay(t, l, s.Expect.Replay)
			if want := strings.Contains(s.Evidence, "tpm"); (l.Format() == FormatTCG2) != want || (l.Format() == FormatCC) == want {
				t.Errorf("format %v", l.Format())
			}
			if l.Format() != FormatCC {
				return
			}
			_, err := l.Confirm(tpm2.AlgSHA384, map[int][]byte{1: make([]byte, 48)})
			if !slices.Equal(codesOf(err), []string{"eventlog.not-a-tpm-log"}) {
				t.Errorf("Confirm = %v", err)
			}
			b, err := l.Inspect(tpm2.AlgSHA384)
			if err != nil || len(b.Claims()) != 0 || len(b.Components()) == 0 {
				t.Errorf("Inspect: %v, %d claims, %d components", err, len(b.Claims()), len(b.Components()))
			}
		})
	}
}

func TestMissingExitBootServicesIsToleratedAndFlagged(t *testing.T) {
	// A log that ends before ExitBootServices, as of older kernels.
	l := parseSample(t, "eventlogs/bios/keylime-bbm.bin")
	r, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	quote := func(texts ...string) map[int][]byte {
		r := r
		for _, text := range texts {
			d := sha256.Sum256([]byte(text))
			r.extend(5, d[:])
		}
		return map[int][]byte{5: r.Value(5)}
	}
	for name, tc := range map[string]struct {
		quoted map[int][]byte
		want   []string
	}{
		"invocation, success":          {quote(actionExit, actionExitDone), nil},
		"invocation, failure":          {quote(actionExit, actionExitFail), nil},
		"invocation, failure, success": {quote(actionExit, actionExitFail, actionExitDone), nil},
		"success alone":                {quote(actionExitDone), []string{"eventlog.replay-mismatch"}},
		"something else":               {quote(actionExit, "x"), []string{"eventlog.replay-mismatch"}},
	} {
		c, err := l.Confirm(tpm2.AlgSHA256, tc.quoted)
		if !slices.Equal(codesOf(err), tc.want) {
			t.Errorf("%s: Confirm = %v, want %v", name, err, tc.want)
			continue
		}
		if err == nil && !slices.ContainsFunc(c.Findings(), func(f Finding) bool { return f.Code == codeExitMissing }) {
			t.Errorf("%s: not flagged: %v", name, c.Findings())
		}
		if err == nil && !slices.Equal(c.Late()[5], tc.quoted[5]) {
			t.Errorf("%s: late value of PCR 5 is not the quoted one", name)
		}
	}
}

func TestConfirmRefusesWhatProvesNothing(t *testing.T) {
	l := parseSample(t, "vmboot/good-uki/eventlog.bin")
	good := vmPCRs(t, "good-uki", tpm2.AlgSHA256)
	for name, tc := range map[string]struct {
		bank   tpm2.Alg
		quoted map[int][]byte
		want   string
	}{
		"nothing quoted":   {tpm2.AlgSHA256, nil, "eventlog.nothing-quoted"},
		"no such bank":     {tpm2.AlgSHA512, good, "eventlog.bank-unusable"},
		"SM3":              {tpm2.AlgSM3, good, "eventlog.bank-unusable"},
		"another bank":     {tpm2.AlgSHA384, good, "eventlog.replay-mismatch"},
		"empty value":      {tpm2.AlgSHA256, map[int][]byte{7: nil}, "eventlog.replay-mismatch"},
		"PCR 8 not logged": {tpm2.AlgSHA256, map[int][]byte{8: good[7]}, "eventlog.events-missing"},
	} {
		c, err := l.Confirm(tc.bank, tc.quoted)
		if c != nil || len(codesOf(err)) == 0 || codesOf(err)[0] != tc.want {
			t.Errorf("%s: Confirm = %v, %v, want %s", name, c, err, tc.want)
		}
	}
}

func TestEachQuotedRegisterIsCompared(t *testing.T) {
	l := parseSample(t, "vmboot/good-shim-grub/eventlog.bin")
	for pcr := range 15 {
		quoted := vmPCRs(t, "good-shim-grub", tpm2.AlgSHA256)
		quoted[pcr] = slices.Clone(quoted[pcr])
		quoted[pcr][0] ^= 1
		_, err := l.Confirm(tpm2.AlgSHA256, quoted)
		if pcr == 10 { // belongs to IMA
			if err != nil {
				t.Errorf("PCR 10: %v", err)
			}
			continue
		}
		want := "eventlog.replay-mismatch"
		if pcr == 11 || pcr == 12 || pcr == 13 {
			want = "eventlog.events-missing"
		}
		if !slices.Equal(codesOf(err), []string{want}) || !strings.Contains(err.Error(), "PCR "+strconv.Itoa(pcr)+" ") {
			t.Errorf("PCR %d changed: Confirm = %v, want %s", pcr, err, want)
		}
	}
}

func TestClaimsNeedTheirRegistersQuoted(t *testing.T) {
	l := parseSample(t, "vmboot/good-shim-grub/eventlog.bin")
	all := vmPCRs(t, "good-shim-grub", tpm2.AlgSHA256)
	whole, err := l.Confirm(tpm2.AlgSHA256, all)
	if err != nil {
		t.Fatal(err)
	}
	for pcr := range 15 {
		quoted := maps.Clone(all)
		delete(quoted, pcr)
		c, err := l.Confirm(tpm2.AlgSHA256, quoted)
		if err != nil {
			t.Fatal(err)
		}
		for name, was := range whole.Claims() {
			got := c.Claims()[name]
			if slices.Contains(was.PCRs, pcr) {
				if got.Value.Known() || got.Reason != codeNotQuoted {
					t.Errorf("without PCR %d: %s = %v (%s), want unknown (%s)", pcr, name, got.Value, got.Reason, codeNotQuoted)
				}
			} else if d := cmp.Diff(was, got, cmp.AllowUnexported(evidence.Value{})); d != "" {
				t.Errorf("without PCR %d: %s changed:\n%s", pcr, name, d)
			}
		}
		if _, ok := c.Late()[pcr]; ok {
			t.Errorf("without PCR %d: it has a late value", pcr)
		}
	}
}

func TestZeroValueProvesNothing(t *testing.T) {
	var c Confirmed
	if len(c.Claims())+len(c.Components())+len(c.Findings())+len(c.Early())+len(c.Late()) != 0 || c.Confirms(7) || c.Bank() != tpm2.AlgError {
		t.Error("the zero Confirmed says something")
	}
}
