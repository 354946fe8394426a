package tpm_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// Tests for checks that could be taken out of the verifier one by one without
// another test failing.

func newP256(t *testing.T) *evidencetest.TPM {
	t.Helper()
	return evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-shim-grub", "ecc"))
}

func parsePolicy(t *testing.T, rules string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("version=1.2;\nauthorizationrules {\n"+rules+"\n};\nissuancerules { c:[type==\"secureBoot\"] => issue(claim=c); };", policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoliciesDecide(t *testing.T) {
	m := newP256(t)
	const permit = `[type=="secureBoot", value==true] => permit();`
	for name, tc := range map[string]struct {
		rules string
		code  evidence.Code
		says  string
	}{
		"permitted":             {permit, "", ""},
		"a rule denies":         {`[type=="secureBoot"] => deny();` + permit, "policy.denied", "the rule at line 3 denies"},
		"no rule permits":       {`[type=="secureBoot", value==false] => permit();`, "policy.denied", "no permit rule"},
		"it cannot be computed": {`c:[type=="firmwareVersion"] => add(type="x", value=JsonToClaimValue(c.value));` + permit, "policy.failed", "could not be evaluated"},
	} {
		t.Run(name, func(t *testing.T) {
			o := trusting(t, m)
			o.Policy = parsePolicy(t, tc.rules)
			if tc.code == "" {
				a := trusts(t, m.Bundle(nonce).JSON(t), o)
				if len(a.Issued) != 1 || a.Issued[0].Type != "secureBoot" {
					t.Errorf("issued %v, want secureBoot", a.Issued)
				}
				if said := strings.Join(a.NotChecked, "\n"); !strings.Contains(said, "claims that the policy does not read: ") || !strings.Contains(said, "tpmVersion") {
					t.Errorf("notChecked %q, want the claims that the policy does not read", a.NotChecked)
				}
				return
			}
			a := refuses(t, m.Bundle(nonce).JSON(t), o, tc.code)
			if len(a.Issued) > 0 || !strings.Contains(a.Reasons[0].Message, tc.says) {
				t.Errorf("issued %v, reason %q; want nothing, and %q", a.Issued, a.Reasons[0].Message, tc.says)
			}
		})
	}
}

// separators is a log that closes PCR 0 to 7 and says nothing else.
func separators(t *testing.T, m *evidencetest.TPM) *evidencetest.TPM {
	t.Helper()
	le := binary.LittleEndian
	record := func(pcr, kind uint32, digests, data []byte) []byte {
		b := append(le.AppendUint32(le.AppendUint32(nil, pcr), kind), digests...)
		return append(le.AppendUint32(b, uint32(len(data))), data...)
	}
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0B, 0, 32, 0, 0)
	log := record(0, uint32(eventlog.NoAction), make([]byte, 20), spec)
	zero := make([]byte, 4)
	sum := sha256.Sum256(zero)
	for pcr := range uint32(8) {
		log = append(log, record(pcr, uint32(eventlog.Separator), append([]byte{1, 0, 0, 0, 0x0B, 0}, sum[:]...), zero)...)
	}
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	regs, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	m = fresh(m)
	m.Boot.EventLog, m.Boot.IMALog = log, nil
	for pcr := range 24 {
		m.Boot.PCRs["sha256"][strconv.Itoa(pcr)] = hex.EncodeToString(regs.Value(pcr))
	}
	return m
}

func TestSecureBootThatNothingProvesIsNotCalledOff(t *testing.T) {
	m := separators(t, newP256(t))
	refuses(t, m.Bundle(nonce).JSON(t), trusting(t, m), "secureboot.unknown")
}

func TestTheProfileThatWasAskedForJudges(t *testing.T) {
	good := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-shim-grub", "ecc"))
	other := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "bad-cmdline", "ecc"))
	l, err := eventlog.Parse(good.Boot.EventLog)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := l.Inspect(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	o := trusting(t, other)
	o.Baseline = baseline.From(boot, baseline.Shape{})
	refuses(t, other.Bundle(nonce).JSON(t), o, "baseline.mismatch")
	if o.Profile, err = baseline.ProfileNamed("gce"); err != nil {
		t.Fatal(err)
	}
	trusts(t, other.Bundle(nonce).JSON(t), o)
}

func TestTextThatIsNoBundleIsUnusable(t *testing.T) {
	for text, code := range map[string]evidence.Code{"junk": "bundle.malformed", `{"type": "sgx", "quote": "AAAA"}`: "bundle.unsupported"} {
		a := tpm.AppraiseBundle([]byte(text), tpm.Options{})
		if a.Verdict != evidence.Unusable || !slices.Equal(codes(a.Reasons), []evidence.Code{code}) {
			t.Errorf("AppraiseBundle(%s) = %v for %v, want unusable for %s", text, a.Verdict, a.Reasons, code)
		}
	}
	b, err := evidence.ParseBundle([]byte(`{"type": "sgx", "quote": "AAAA"}`))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := tpm.Parse(b); e != nil || err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("Parse of evidence of type sgx = %v, %v", e, err)
	}
}

func TestAnErrorThatIsNoRefusalRefusesToo(t *testing.T) {
	if a := tpm.Refused(errors.New("out of luck")); a.Verdict != evidence.Refused || len(a.Reasons) != 1 {
		t.Errorf("Refused = %v for %v, want one reason", a.Verdict, a.Reasons)
	}
}

// A key that is known by its numbers alone is that key and no other.
func TestAKeyRegisteredAsPEMIsNoOther(t *testing.T) {
	m, stranger := newP256(t), newP256(t)
	rsa := evidencetest.NewTPM(t, evidencetest.RSA2048, m.Boot)
	o := tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{pemKey(t, m.Key.Public())}}}
	a := trusts(t, m.Bundle(nonce).JSON(t), o)
	if !strings.Contains(strings.Join(a.NotChecked, "\n"), "attributes of the attestation key") {
		t.Errorf("notChecked %q does not say that nobody knows the key's attributes", a.NotChecked)
	}
	refuses(t, stranger.Bundle(nonce).JSON(t), o, "ak.untrusted")
	refuses(t, rsa.Bundle(nonce).JSON(t), o, "ak.untrusted")
	a = trusts(t, m.Bundle(nonce).JSON(t), trusting(t, m))
	if strings.Contains(strings.Join(a.NotChecked, "\n"), "attributes of the attestation key") {
		t.Errorf("notChecked %q, and the key is known with its attributes", a.NotChecked)
	}
}

func TestARestartClearsSafeAndASecondQuoteSeesTheSame(t *testing.T) {
	m := newP256(t)
	at := func(clock uint64, restart uint32, safe bool) tpm.Counters {
		return tpm.Counters{Clock: clock, Reset: 5, Restart: restart, Safe: safe}
	}
	for name, tc := range map[string]struct{ last, now tpm.Counters }{
		"a restart":     {at(100, 1, true), at(100, 2, false)},
		"still unsafe":  {at(100, 1, false), at(101, 1, false)},
		"safe at last":  {at(100, 1, false), at(101, 1, true)},
		"safe as ever":  {at(100, 1, true), at(101, 1, true)},
		"the same time": {at(100, 1, true), at(100, 1, true)},
	} {
		t.Run(name, func(t *testing.T) {
			m := fresh(m)
			m.Clock = tpm2.ClockInfo{Clock: tc.now.Clock, ResetCount: tc.now.Reset, RestartCount: tc.now.Restart, Safe: tc.now.Safe}
			o := trusting(t, m)
			o.Last = &tc.last
			a := trusts(t, m.Bundle(nonce).JSON(t), o)
			if strings.Contains(strings.Join(a.NotChecked, "\n"), "no earlier quote is known") {
				t.Errorf("notChecked %q, and an earlier quote is known", a.NotChecked)
			}
		})
	}
}

// Quotes may share the work: each signs a part of the registers, and the newest
// counters of all are kept.
func TestQuotesOfPartsAddUp(t *testing.T) {
	m := newP256(t)
	early := m.Sign(m.Attest(nonce, sha256PCRs(0, 1, 2, 3)))
	m.Clock.Clock += 50
	late := m.Sign(m.Attest(nonce, sha256PCRs(4, 5, 6, 7)))
	for name, quotes := range map[string][]evidencetest.Quote{"in order": {early, late}, "reversed": {late, early}} {
		a := trusts(t, m.Bundle(nonce, quotes...).JSON(t), trusting(t, m))
		if a.Verified == nil || a.Verified.Counters().Clock != m.Clock.Clock || !slices.Equal(a.Evidence.PCRs, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("%s: counters %+v, PCRs %v; want clock %d, PCR 0 to 7", name, a.Verified.Counters(), a.Evidence.PCRs, m.Clock.Clock)
		}
		if !strings.Contains(strings.Join(a.NotChecked, "\n"), "no earlier quote is known") {
			t.Errorf("%s: notChecked %q does not say that rollback was not checked", name, a.NotChecked)
		}
	}
	refuses(t, m.Bundle(nonce, early).JSON(t), trusting(t, m), "quote.pcr-selection")
}

// What nobody signed says nothing about the TPM: neither its counters nor its boots
// are named as a second fault.
func TestCountersOfAForgedQuoteAreNotLookedAt(t *testing.T) {
	m := newP256(t)
	forged := m.Sign(m.Attest(nonce))
	forged.Signature = flip(forged.Signature, -3)
	o := trusting(t, m)
	o.Last = &tpm.Counters{Clock: 1 << 40, Reset: 99, Restart: 9, Safe: true}
	a := refuses(t, m.Bundle(nonce, forged).JSON(t), o, "quote.signature")
	if a.Evidence.Signature != evidence.SignatureInvalid || a.Evidence.Attester == "" {
		t.Errorf("evidence %+v, want an invalid signature and the attester's name", a.Evidence)
	}
	good := m.Sign(m.Attest(nonce))
	m.Clock.ResetCount++
	later := m.Sign(m.Attest(nonce))
	later.Signature = flip(later.Signature, -3)
	refuses(t, m.Bundle(nonce, good, later).JSON(t), trusting(t, m), "quote.signature")
}

// An endorsement key that comes without a certificate adds no trust, and must still be one.
func TestAnEndorsementKeyWithoutCertificateMustBeOne(t *testing.T) {
	m := newP256(t)
	p := m.Bundle(nonce)
	p.EKPublic = p.AKPublic
	refuses(t, p.JSON(t), trusting(t, m), "ek.attributes")
}

func TestCertificatesAreWhole(t *testing.T) {
	p := evidencetest.Recorded(t, "good-uki", "rsa")
	ek, err := tpm2.ParsePublic(p.EKPublic)
	if err != nil {
		t.Fatal(err)
	}
	issuer, root := evidencetest.CA(t)
	roots := pool(t, issuer, root)
	pad := func(b ...byte) []byte { return append(slices.Clone(p.EKCert), b...) }
	for name, tc := range map[string]struct {
		der   []byte
		roots *x509.CertPool
		want  []evidence.Code
	}{
		"as made":                {p.EKCert, roots, []evidence.Code{}},
		"padded with zeros":      {pad(0, 0, 0), roots, []evidence.Code{}},
		"padded with ones":       {pad(0xff, 0xff), roots, []evidence.Code{}},
		"padded with both":       {pad(0, 0xff), roots, []evidence.Code{"ek.certificate-malformed"}},
		"ones, then zero":        {pad(0xff, 0), roots, []evidence.Code{"ek.certificate-malformed"}},
		"followed by other data": {pad(1, 1), roots, []evidence.Code{"ek.certificate-malformed"}},
		"empty":                  {nil, roots, []evidence.Code{"ek.certificate-malformed"}},
		"cut":                    {p.EKCert[:len(p.EKCert)-1], roots, []evidence.Code{"ek.certificate-malformed"}},
		"no CA named":            {p.EKCert, nil, []evidence.Code{"ek.certificate-foreign"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tpm.VerifyEKCertificate(tc.der, ek, tpm.EKTrust{Roots: tc.roots, At: noon})
			if got := codesOf(err); !slices.Equal(got, tc.want) {
				t.Errorf("VerifyEKCertificate = %v, want %v", err, tc.want)
			}
		})
	}
	err = tpm.VerifyEKCertificate(p.EKCert, ek, tpm.EKTrust{At: noon})
	if err == nil || !strings.Contains(err.Error(), "no CA for endorsement key certificates was named") {
		t.Errorf("without a CA: %v; the system's own must not be asked", err)
	}
}

// What could not be checked is said, each in its own words.
func TestWhatIsNotCheckedIsSaid(t *testing.T) {
	m := newP256(t)
	bare := m.Bundle(nonce)
	bare.IMALog = nil
	unquoted := m.Bundle(nonce, m.Sign(m.Attest(nonce, sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7))))
	zero := separators(t, m)
	for name, tc := range map[string]struct {
		m    *evidencetest.TPM
		text []byte
		want string // of what is said of IMA, "" for nothing
	}{
		"no list":          {m, bare.JSON(t), "PCR 10: there is no IMA list"},
		"PCR 10 unquoted":  {m, unquoted.JSON(t), "the IMA list: PCR 10 is not quoted"},
		"a list":           {m, m.Bundle(nonce).JSON(t), "what the IMA list says of files"},
		"PCR 10 untouched": {zero, zero.Bundle(nonce).JSON(t), ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := trusting(t, tc.m)
			o.Policy = parsePolicy(t, `[type=="aikValidated", value==true] => permit();`)
			a := trusts(t, tc.text, o)
			var said []string
			for _, s := range a.NotChecked {
				if strings.Contains(s, "IMA list") {
					said = append(said, s)
				}
			}
			if tc.want == "" && len(said) > 0 || tc.want != "" && (len(said) != 1 || !strings.HasPrefix(said[0], tc.want)) {
				t.Errorf("notChecked says of IMA %q, want %q", said, tc.want)
			}
			if all := strings.Join(a.NotChecked, "\n"); !strings.Contains(all, "no baseline") || strings.Contains(all, "freshness") {
				t.Errorf("notChecked %q, want that there is no baseline and nothing of freshness", a.NotChecked)
			}
		})
	}
}
