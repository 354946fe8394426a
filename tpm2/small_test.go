package tpm2_test

import (
	"slices"
	"strings"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
)

func TestResponseCodesSayTheirPart(t *testing.T) {
	for rc, want := range map[tpm2.RC]string{
		0x000: "TPM_RC_SUCCESS",
		0x1df: "TPM_RC_INTEGRITY (parameter 1)",
		0x99d: "TPM_RC_POLICY_FAIL (session 1)",
		0x18b: "TPM_RC_HANDLE (handle 1)",
		0x084: "TPM_RC_VALUE",
		0xfc4: "TPM_RC_VALUE (parameter 15)",
		0x100: "TPM_RC_INITIALIZE",
		0x922: "TPM_RC_RETRY",
		0x01e: "TPM_RC_BAD_TAG",
		0x5ff: "TPM_RC 0x5ff",
	} {
		if got := rc.String(); got != want {
			t.Errorf("RC(%#x) = %q, want %q", uint32(rc), got, want)
		}
		s, n := rc.Subject()
		if n != 0 && rc.Base().Of(s, n) != rc {
			t.Errorf("%v.Of(%v, %d) = %v, want %v", rc.Base(), s, n, rc.Base().Of(s, n), rc)
		}
	}
	for _, rc := range []tpm2.RC{tpm2.RCValue.Of(tpm2.RCSession, 8), tpm2.RCValue.Of(tpm2.RCParameter, 16), tpm2.RCValue.Of(tpm2.RCHandle, 0)} {
		if rc != tpm2.RCValue {
			t.Errorf("a number that no code can carry gives %#x", uint32(rc))
		}
	}
	if rc := tpm2.RCInitialize.Of(tpm2.RCParameter, 1); rc != tpm2.RCInitialize {
		t.Errorf("a code of format zero took a number: %#x", uint32(rc))
	}
	if !tpm2.RCRetry.Warning() || tpm2.RCValue.Warning() || tpm2.RCFailure.Warning() {
		t.Error("Warning tells the wrong codes")
	}
}

func TestResponseCodeNamesAgreeWithGoTPM(t *testing.T) {
	letters := strings.NewReplacer("_", "", "TPM", "", "RC", "")
	// These are newer than go-tpm, or no errors to it.
	unknown := []tpm2.RC{tpm2.RCSuccess, tpm2.RCBadTag, tpm2.RCFWLimited, tpm2.RCSVNLimited, tpm2.RCReadOnly, tpm2.RCParms, tpm2.RCExtMu, tpm2.RCOneShot, tpm2.RCSignContext}
	n := 0
	for rc := range tpm2.RC(0x1000) {
		name := rc.String()
		if strings.Contains(name, "0x") || strings.Contains(name, " (") || slices.Contains(unknown, rc.Base()) {
			continue
		}
		n++
		theirs := strings.ToUpper(letters.Replace(strings.TrimPrefix(gotpm.TPMRC(rc).Error(), "TPM_")))
		if want := letters.Replace(name); !strings.HasPrefix(theirs, want) {
			t.Errorf("RC(%#x) is %s here, go-tpm says %q", uint32(rc), name, gotpm.TPMRC(rc).Error())
		}
	}
	if n < 80 {
		t.Errorf("%d codes have names, want at least 80", n)
	}
}

func TestAttributesNameTheirBits(t *testing.T) {
	p := parsePublic(t, "ak-rsa.tpmt_public")
	if got, want := p.Attributes.String(), "fixedTPM|fixedParent|sensitiveDataOrigin|userWithAuth|noDA|restricted|sign"; got != want {
		t.Errorf("attributes of the AK = %q, want %q", got, want)
	}
	if got := tpm2.ObjectAttributes(1 << 31).String(); got != "bit 31" {
		t.Errorf("a reserved bit is called %q", got)
	}
	if got := tpm2.AttrSign; got.Has(tpm2.AttrSign | tpm2.AttrRestricted) {
		t.Error("Has is satisfied by a part")
	}
}

func TestSelectionsNameTheirPCRs(t *testing.T) {
	s := tpm2.SelectPCRs(23, 0, 7, 8, -1, 24, 99)
	if s != (tpm2.PCRSelect{0x81, 0x01, 0x80}) {
		t.Errorf("SelectPCRs = %x", s)
	}
	if got, want := slices.Collect(s.All()), []int{0, 7, 8, 23}; !slices.Equal(got, want) {
		t.Errorf("All = %v, want %v", got, want)
	}
	for i := range s.All() {
		if i == 7 {
			break // an early end must not panic
		}
	}
	if s.Has(-1) || s.Has(24) || s.Has(1) {
		t.Error("Has tells of PCRs that are not selected")
	}
}

func TestNamesOfAlgorithmsAreTheirOwnInverse(t *testing.T) {
	for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgSM3, tpm2.AlgSHA3x256, tpm2.AlgSHA3x384, tpm2.AlgSHA3x512} {
		if got, ok := tpm2.AlgOfBank(a.BankName()); !ok || got != a {
			t.Errorf("AlgOfBank(%q) = %v, %v", a.BankName(), got, ok)
		}
		if h, ok := a.Hash(); ok && h.Size() != a.DigestSize() {
			t.Errorf("%s: sizes %d and %d", a.BankName(), h.Size(), a.DigestSize())
		}
	}
	if got := tpm2.AlgAES.BankName(); got != "0x0006" {
		t.Errorf("bank of AES = %q", got)
	}
	for _, name := range []string{"", "md5", "0x0006"} {
		if a, ok := tpm2.AlgOfBank(name); ok {
			t.Errorf("AlgOfBank(%q) = %v", name, a)
		}
	}
	for _, s := range []string{tpm2.CurveNISTP256.String(), tpm2.ECCCurve(0x77).String(), tpm2.AttestQuote.String(), tpm2.AttestType(1).String()} {
		if s == "" {
			t.Error("a name is empty")
		}
	}
}
