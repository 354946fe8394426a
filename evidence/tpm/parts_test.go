package tpm_test

import (
	"encoding/hex"
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

func partsOf(t testing.TB, p evidencetest.Parts) tpm.Parts {
	t.Helper()
	out := tpm.Parts{
		AKPublic: p.AKPublic, AKCert: p.AKCert, EKPublic: p.EKPublic, EKCert: p.EKCert, CACerts: p.CACerts, EventLog: p.EventLog, IMALog: p.IMALog,
		PCRs: map[tpm2.Alg]map[int][]byte{},
	}
	for _, q := range p.Quotes {
		out.Quotes = append(out.Quotes, tpm.Quote(q))
	}
	for bank, values := range p.PCRs {
		alg, _ := tpm2.AlgOfBank(bank)
		out.PCRs[alg] = map[int][]byte{}
		for name, value := range values {
			pcr, _ := strconv.Atoi(name)
			out.PCRs[alg][pcr], _ = hex.DecodeString(value)
		}
	}
	return out
}

func TestPartsAreJudgedAsABundleIs(t *testing.T) {
	for _, scenario := range evidencetest.Scenarios(t) {
		p := evidencetest.Recorded(t, scenario, "rsa")
		e, err := tpm.FromParts(partsOf(t, p))
		if err != nil {
			t.Fatal(err)
		}
		o := registered(t, p)
		want, got := tpm.AppraiseBundle(p.JSON(t), o).Result, tpm.Appraise(e, o).Result
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(evidence.Value{})); diff != "" {
			t.Errorf("%s: (-bundle +parts):\n%s", scenario, diff)
		}
	}
}

func TestPartsOfAnotherShapeAreRefused(t *testing.T) {
	good := partsOf(t, evidencetest.Recorded(t, "good-uki", "ecc"))
	for name, tc := range map[string]struct {
		change func(p *tpm.Parts)
		want   evidence.Code
	}{
		"no quote":       {func(p *tpm.Parts) { p.Quotes = nil }, "quote.absent"},
		"six quotes":     {func(p *tpm.Parts) { p.Quotes = make([]tpm.Quote, 6) }, "quote.malformed"},
		"empty quote":    {func(p *tpm.Parts) { p.Quotes = make([]tpm.Quote, 1) }, "quote.malformed"},
		"PCR 24":         {func(p *tpm.Parts) { p.PCRs[tpm2.AlgSHA256][24] = make([]byte, 32) }, "quote.malformed"},
		"PCR -1":         {func(p *tpm.Parts) { p.PCRs[tpm2.AlgSHA256][-1] = make([]byte, 32) }, "quote.malformed"},
		"short value":    {func(p *tpm.Parts) { p.PCRs[tpm2.AlgSHA256][0] = make([]byte, 31) }, "quote.malformed"},
		"unknown bank":   {func(p *tpm.Parts) { p.PCRs[tpm2.AlgAES] = map[int][]byte{0: {}} }, "quote.malformed"},
		"no key":         {func(p *tpm.Parts) { p.AKPublic = nil }, "ak.absent"},
		"key is none":    {func(p *tpm.Parts) { p.AKPublic = []byte{1} }, "ak.malformed"},
		"EK is none":     {func(p *tpm.Parts) { p.EKPublic = []byte{1} }, "ek.malformed"},
		"AK certificate": {func(p *tpm.Parts) { p.AKCert = make([]byte, 9000) }, "ak.certificate-malformed"},
		"EK certificate": {func(p *tpm.Parts) { p.EKCert = make([]byte, 9000) }, "ek.certificate-malformed"},
		"seven CAs":      {func(p *tpm.Parts) { p.CACerts = make([][]byte, 7) }, "certificate.malformed"},
		"large CA":       {func(p *tpm.Parts) { p.CACerts = [][]byte{make([]byte, 9000)} }, "certificate.malformed"},
		"large log":      {func(p *tpm.Parts) { p.EventLog = make([]byte, 1<<20+1) }, "eventlog.malformed"},
		"large IMA list": {func(p *tpm.Parts) { p.IMALog = make([]byte, 2<<20+1) }, "ima.malformed"},
	} {
		p := good
		p.PCRs = maps.Clone(good.PCRs)
		p.PCRs[tpm2.AlgSHA256] = maps.Clone(good.PCRs[tpm2.AlgSHA256])
		tc.change(&p)
		e, err := tpm.FromParts(p)
		if got := codesOf(err); e != nil || len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: FromParts = %v, want %s", name, got, tc.want)
		}
	}
}

// FuzzParts holds that no quote, key or log makes the verifier panic, and that
// what is trusted has its secure boot proven and its key is the trusted one.
func FuzzParts(f *testing.F) {
	good := partsOf(f, evidencetest.Recorded(f, "good-uki", "ecc"))
	f.Add(good.Quotes[0].Attest, good.Quotes[0].Signature, good.AKPublic, good.EKCert, []byte(nil), good.IMALog)
	f.Add(good.Quotes[0].Attest, good.Quotes[0].Signature, good.AKPublic, []byte(nil), good.EventLog[:2000], []byte(nil))
	trusted := good.AKPublic
	f.Fuzz(func(t *testing.T, attest, signature, ak, cert, log, ima []byte) {
		p := tpm.Parts{Quotes: []tpm.Quote{{Attest: attest, Signature: signature}}, PCRs: good.PCRs, AKPublic: ak, EKPublic: good.EKPublic, EKCert: cert, AKCert: cert, EventLog: log, IMALog: ima}
		e, err := tpm.FromParts(p)
		if err != nil {
			if len(evidence.Reasons(err)) == 0 {
				t.Fatalf("FromParts gives no reason: %v", err)
			}
			return
		}
		a := tpm.Appraise(e, tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{keyOf(t, trusted)}}})
		if a.Verdict == evidence.Trusted && (!a.Claims["secureBoot"].Value.IsTrue() || string(ak) != string(trusted)) {
			t.Fatalf("trusted: %+v", a.Result)
		}
		if a.Verdict != evidence.Trusted && len(a.Reasons) == 0 {
			t.Fatal("refused for no reason")
		}
	})
}
