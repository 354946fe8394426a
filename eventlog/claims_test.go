package eventlog

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

var update = flag.Bool("update", false, "rewrite docs/claims.md")

// claimsPage is docs/claims.md.
func claimsPage() string {
	var out strings.Builder
	out.WriteString(`# Claims of a boot

Made from package eventlog (` + "`go test ./eventlog -update`" + `); do not edit.

A claim is one statement about a boot. Its value is true, false or a text, and then ` + "`pcrs`" + ` names the registers whose quoted values prove it; or it is unknown (` + "`null`" + `),
and then ` + "`reason`" + ` says why. Unknown is never true and never false.

Reasons that every claim shares: ` + "`eventlog.pcr-not-quoted`" + ` (a register of the fourth column is not in the quote; of Windows also PCR 8, 9, 11 and 14, which tell that nothing else was started), ` + "`eventlog.weak-bank`" + ` (only SHA-1 was quoted),
` + "`eventlog.not-measured`" + ` (no event that counts states it). All are in [reasons.md](reasons.md).

What PCR 8 to 14 say was measured by the programs in PCR 4, and is as true as these are honest: judge ` + "`bootLoader`, `bootImages` or `secureBootAuthorities`" + ` as well,
or compare the boot with a baseline. This holds for the Windows claims too: whoever runs before Windows can extend its registers.

| claim | meaning | values | proven by PCR | unknown when |
|---|---|---|---|---|
`)
	for _, c := range ClaimNames() {
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", c.Name, c.Meaning, c.Values, c.PCRs, c.Unknown)
	}
	return out.String()
}

func TestClaimsPageIsCurrent(t *testing.T) {
	const page = "../docs/claims.md"
	if *update {
		if err := os.WriteFile(page, []byte(claimsPage()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != claimsPage() {
		t.Errorf("%s is out of date: run go test ./eventlog -run TestClaimsPageIsCurrent -update", page)
	}
}

// TestClaimsAreThoseOfTheTable checks every log: each claim is documented, and
// every documented one of Linux, with those of Windows on Windows, is made.
func TestClaimsAreThoseOfTheTable(t *testing.T) {
	own, documented := map[string]bool{}, map[string]bool{}
	for _, c := range claimNames {
		own[c.Name] = true
	}
	for _, c := range ClaimNames() {
		if documented[c.Name] {
			t.Errorf("%s is listed twice", c.Name)
		}
		documented[c.Name] = true
	}
	known := map[string]bool{}
	for _, name := range logNames(t) {
		l, err := Parse(sample(t, name))
		if err != nil || l.Format() == FormatCC {
			continue
		}
		b, err := l.Inspect(tpm2.AlgSHA256)
		if err != nil {
			continue
		}
		claims := b.Claims()
		for claim, c := range claims {
			if !documented[claim] {
				t.Errorf("%s: claim %s is not in the table", name, claim)
			}
			if c.Value.Known() == (c.Reason != "") {
				t.Errorf("%s: %s = %v, reason %q", name, claim, c.Value, c.Reason)
			}
			known[claim] = known[claim] || c.Value.Known()
		}
		for claim := range documented {
			if _, made := claims[claim]; !made && (own[claim] || l.Format() == FormatWBCL) {
				t.Errorf("%s: claim %s is missing", name, claim)
			}
		}
	}
	for claim := range own {
		// No firmware known measures SetupMode; TestModeClaims has it.
		if !known[claim] && claim != "setupMode" {
			t.Errorf("no sample makes claim %s known", claim)
		}
	}
}

// TestCodesAreExplained finds each code that a sample leads to in the table of
// package evidence.
func TestCodesAreExplained(t *testing.T) {
	explained := map[evidence.Code]bool{}
	for _, c := range evidence.Codes() {
		explained[c.Code] = true
	}
	for _, c := range []evidence.Code{
		codeReplayMismatch, codeEventsMissing, codeDataMismatch, codeReservedDigest, codeErrorSeparator, codeLateVariable, codeBank,
		codeNothingQuoted, codeNoTPMLog, codeUnknownType, codeAfterSeparator, codeUnexpected, codeExitMissing, codeAfterExit,
		codeSecondSpecID, codeLateLocality, codeBankDisagreement, codeFailedAttempt, codeNotMeasured, codeNotQuoted, codeWeakBank,
		codeAmbiguous, codeUnproven, codeNoSeparator, codeInconsistent, codeSignatureList, codeVariableMalformed, codeDigestOnly,
	} {
		if !explained[c] {
			t.Errorf("%s is not explained", c)
		}
	}
}

func TestModeClaims(t *testing.T) {
	for name, tc := range map[string]struct{ claim, value, want string }{
		"SetupMode":    {"setupMode", "\x01", "true"},
		"AuditMode":    {"auditMode", "\x00", "false"},
		"DeployedMode": {"deployedMode", "\x02", "eventlog.inconsistent"},
	} {
		events := append([]made{variable(uefi.GlobalVariable, name, tc.value)}, secureBootEvents()...)
		if got := outcomeOf(t, events, tc.claim); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.claim, got, tc.want)
		}
	}
}
