package tpm_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// registered trusts the key of the bundle and expects its nonce.
func registered(t testing.TB, p evidencetest.Parts) tpm.Options {
	t.Helper()
	return tpm.Options{Expect: tpm.Expect{Nonce: p.Nonce, Keys: []*tpm.Key{keyOf(t, p.AKPublic)}}}
}

func parse(t testing.TB, p evidencetest.Parts) *tpm.Evidence {
	t.Helper()
	b, err := evidence.ParseBundle(p.JSON(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := tpm.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func baselineOf(t testing.TB, p evidencetest.Parts) *baseline.Baseline {
	t.Helper()
	b, err := tpm.BaselineOf(parse(t, p), baseline.Shape{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoodBootsAreTrustedByEveryKeyAndBank(t *testing.T) {
	for _, scenario := range []string{"good-shim-grub", "good-uki", "good-uki-update"} {
		for _, key := range []string{"rsa", "ecc"} {
			for _, banks := range [][]string{{"sha256"}, {"sha384"}, {"sha256", "sha384"}, {"sha1", "sha256", "sha384"}, {"sha1", "sha384"}} {
				t.Run(fmt.Sprint(scenario, key, banks), func(t *testing.T) {
					p := evidencetest.Recorded(t, scenario, key, banks...)
					a := trusts(t, p.JSON(t), registered(t, p))
					want := "sha256"
					if !slices.Contains(banks, want) {
						want = "sha384"
					}
					if a.Evidence.Bank != want || a.Evidence.Signature != evidence.SignatureValid || a.Evidence.Proof != tpm.ProofRegistered {
						t.Errorf("summary = %+v", a.Evidence)
					}
					if !slices.Equal(a.Evidence.PCRs, evidencetest.BootPCRs[:]) {
						t.Errorf("PCRs = %v", a.Evidence.PCRs)
					}
					if !a.Claims["secureBoot"].Value.IsTrue() {
						t.Errorf("secureBoot = %+v", a.Claims["secureBoot"])
					}
				})
			}
			p := evidencetest.Recorded(t, scenario, key, "sha1")
			refuses(t, p.JSON(t), registered(t, p), "quote.weak-bank")
		}
	}
}

// TestRecordedBootsAreJudgedAsTheirManifestSays holds the verdict of each
// recorded boot against its baseline, under the default profile.
func TestRecordedBootsAreJudgedAsTheirManifestSays(t *testing.T) {
	var manifest struct {
		Scenarios []struct {
			Name     string
			Expected struct {
				Verdict  string `json:"verdict_against_baseline"`
				Baseline string
				Differs  []int `json:"sha256_pcrs_differing_from_baseline"`
			}
		}
	}
	if err := json.Unmarshal(evidencetest.File(t, "MANIFEST.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range manifest.Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			if s.Expected.Verdict == "no-evidence" {
				if slices.Contains(evidencetest.Scenarios(t), s.Name) {
					t.Error("there is a quote")
				}
				return
			}
			n++
			p := evidencetest.Recorded(t, s.Name, "rsa")
			o := registered(t, p)
			o.Baseline = baselineOf(t, evidencetest.Recorded(t, s.Expected.Baseline, "rsa"))
			switch {
			case s.Expected.Verdict == "trusted":
				trusts(t, p.JSON(t), o)
				return
			case p.EventLog == nil:
				refuses(t, p.JSON(t), o, "eventlog.absent", "baseline.mismatch")
			default:
				refuses(t, p.JSON(t), o, "baseline.mismatch")
			}
			differs := map[int]bool{}
			for _, d := range tpm.AppraiseBundle(p.JSON(t), o).Comparison.Differences {
				differs[d.PCR] = true
			}
			want := slices.DeleteFunc(slices.Clone(s.Expected.Differs), func(pcr int) bool { return pcr == 10 })
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(differs))); diff != "" {
				t.Errorf("PCRs that differ (-want +got):\n%s", diff)
			}
		})
	}
	if n < 10 {
		t.Errorf("%d boots have a quote, want at least 10", n)
	}
}

// TestDerivedFaultsAreRefusedForTheirReason holds every derived case of the recordings.
func TestDerivedFaultsAreRefusedForTheirReason(t *testing.T) {
	want := map[string][]evidence.Code{
		"log-event-dropped":     {"eventlog.replay-mismatch"},
		"log-events-swapped":    {"eventlog.replay-mismatch"},
		"log-text-lies":         {"eventlog.data-mismatch"},
		"log-sha1-differs":      nil, // the SHA-1 bank is not quoted; see below
		"log-truncated":         {"eventlog.malformed"},
		"log-huge-event-size":   {"eventlog.malformed"},
		"log-huge-digest-count": {"eventlog.malformed"},
		"log-zero-padding":      nil, // documented: zeros after the last event are padding
		"log-of-other-vm":       {"eventlog.replay-mismatch", "eventlog.events-missing"},
		"log-db-hidden":         {"eventlog.data-mismatch"},
		"quote-signature-bit":   {"quote.signature"},
		"quote-nonce-stale":     {"quote.nonce-mismatch"},
		"quote-other-ak":        {"ak.untrusted", "quote.signature"},
		"pcrs-edited":           {"quote.pcr-digest"},
		"ek-cert-foreign-ca":    {"ek.certificate-foreign"},
		"ek-cert-of-other-vm":   {"ek.key-mismatch"},
	}
	issuer, _ := evidencetest.CA(t)
	for _, c := range evidencetest.Derived(t) {
		t.Run(c.Name, func(t *testing.T) {
			codes, known := want[c.Name]
			if !known {
				t.Fatalf("no expectation for %q: %s", c.Name, c.Expected)
			}
			// The operator trusts the key of the scenario, whatever the case sends.
			o := registered(t, evidencetest.Recorded(t, c.Base, "rsa"))
			o.Nonce, o.EKRoots, o.At = c.Bundle.Nonce, pool(t, issuer), noon
			if codes == nil {
				trusts(t, c.Bundle.JSON(t), o)
				return
			}
			refuses(t, c.Bundle.JSON(t), o, codes...)
		})
	}
	for _, c := range evidencetest.Derived(t, "sha256", "sha1") {
		if c.Name == "log-sha1-differs" {
			refuses(t, c.Bundle.JSON(t), registered(t, c.Bundle), "eventlog.data-mismatch", "eventlog.replay-mismatch")
		}
	}
}

func TestBootsOfOneTPMFollowEachOther(t *testing.T) {
	var boots []evidencetest.Parts
	for _, name := range []string{"persist/boot1", "persist/boot2", "persist/boot3", "persist/boot4"} {
		boots = append(boots, evidencetest.Recorded(t, name, "ecc"))
	}
	o := registered(t, boots[0])
	var last *tpm.Counters
	seen := make([]tpm.Counters, len(boots))
	for i, p := range boots[:3] {
		o.Nonce, o.Last = p.Nonce, last
		a := trusts(t, p.JSON(t), o)
		if a.Verified == nil {
			t.Fatal(a.Reasons)
		}
		seen[i] = a.Verified.Counters()
		last = &seen[i]
	}
	// The fourth boot is genuine and newer, with secure boot off.
	o.Nonce, o.Last = boots[3].Nonce, last
	refuses(t, boots[3].JSON(t), o, "secureboot.off")
	for i := range 2 {
		o.Nonce, o.Last = boots[i].Nonce, &seen[2]
		refuses(t, boots[i].JSON(t), o, "quote.counters-rolled-back")
	}
	o.Nonce, o.Last, o.Baseline = boots[2].Nonce, nil, baselineOf(t, boots[0])
	refuses(t, boots[2].JSON(t), o, "baseline.mismatch")
	o.Nonce = boots[1].Nonce
	trusts(t, boots[1].JSON(t), o)
}

// TestQuotesOfPublicLogsVerifyAsFarAsTheyCan uses quotes whose keys were not
// published, but for one: a quote of SHA-1 values signed over a SHA-1 digest.
func TestQuotesOfPublicLogsVerifyAsFarAsTheyCan(t *testing.T) {
	withKey := 0
	for _, q := range evidencetest.FieldQuotes(t) {
		t.Run(q.File, func(t *testing.T) {
			p := evidencetest.Parts{Type: "tpm", Quotes: []evidencetest.Quote{{Attest: q.Attest, Signature: q.Signature}}, AKPublic: q.AKPublic}
			p.PCRs = map[string]map[string]string{}
			for bank, values := range q.KnownPCRs {
				alg, _ := tpm2.AlgOfBank(bank)
				// The collection names one bank's values as another's.
				if slices.IndexFunc(slices.Collect(maps.Values(values)), func(v string) bool { return len(v) != 2*alg.DigestSize() }) < 0 {
					p.PCRs[bank] = values
				}
			}
			if q.AKPublic == nil {
				refuses(t, p.JSON(t), tpm.Options{}, quoteShape(t, p)...)
				return
			}
			withKey++
			pub, err := tpm2.ParsePublic(q.AKPublic)
			if err != nil {
				t.Fatal(err)
			}
			key, err := pub.Key()
			if err != nil {
				t.Fatal(err)
			}
			got := tpm.AppraiseBundle(p.JSON(t), tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{pemKey(t, key)}}})
			for _, code := range []evidence.Code{"quote.signature-scheme", "quote.weak-bank"} {
				if !slices.Contains(codes(got.Reasons), code) {
					t.Errorf("reasons %v lack %s", got.Reasons, code)
				}
			}
		})
	}
	if withKey != 1 {
		t.Errorf("%d quotes came with a key, want 1", withKey)
	}
}

// quoteShape is what a bundle without a key is refused for: that, and PCR values
// that could not be sent.
func quoteShape(t *testing.T, p evidencetest.Parts) []evidence.Code {
	t.Helper()
	if _, err := tpm2.ParseAttest(p.Quotes[0].Attest); err != nil {
		t.Errorf("a real quote does not parse: %v", err)
	}
	want := []evidence.Code{"ak.absent"}
	if len(p.PCRs) == 0 { // the JSON leaves an empty object out
		want = append(want, "quote.pcr-absent")
	}
	return want
}

func TestEvidenceOfAnotherVerifierIsGenuineButWithoutAKey(t *testing.T) {
	spki, q, values := evidencetest.Trustee(t)
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	// It has a public key and no attributes: nothing says that a TPM restricts it.
	pub, err := tpm2.NewPublic(key.(*rsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	pub.NameAlg = tpm2.AlgSHA256
	p := evidencetest.Parts{Type: "tpm", Quotes: []evidencetest.Quote{q}, AKPublic: evidencetest.Encode(t, pub), PCRs: map[string]map[string]string{"sha256": {}}}
	for i, v := range values {
		p.PCRs["sha256"][fmt.Sprint(i)] = v
	}
	o := tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{pemKey(t, key)}}}
	refuses(t, p.JSON(t), o, "ak.attributes")
	// With the attributes of an attestation key all that lacks is the log.
	good := evidencetest.AKOf(t, key, tpm2.AlgNull, tpm2.AlgNull)
	p.AKPublic = evidencetest.Encode(t, &good)
	refuses(t, p.JSON(t), o, "eventlog.absent")
	a := tpm.AppraiseBundle(p.JSON(t), o)
	if a.Evidence.Signature != evidence.SignatureValid {
		t.Errorf("signature = %q", a.Evidence.Signature)
	}
	p.Quotes[0].Signature = flip(q.Signature, -1)
	refuses(t, p.JSON(t), o, "quote.signature")
}

func TestVerifiedSaysWhatWasProven(t *testing.T) {
	p := evidencetest.Recorded(t, "good-shim-grub", "rsa", "sha1", "sha256")
	o := registered(t, p)
	v, err := tpm.Verify(parse(t, p), o.Expect)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v.AKName(), o.Keys[0].Name()) || v.Bank() != tpm2.AlgSHA256 || v.Boot() == nil || v.IMA() == nil {
		t.Errorf("AKName %x, bank %v, boot %v, IMA %v", v.AKName(), v.Bank(), v.Boot(), v.IMA())
	}
	for _, bank := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256} {
		got := v.PCRs(bank)
		if len(got) != 15 || hex.EncodeToString(got[7]) != p.PCRs[bank.BankName()]["7"] {
			t.Errorf("PCRs(%s) = %x", bank.BankName(), got)
		}
	}
	if got := v.PCRs(tpm2.AlgSHA384); got != nil {
		t.Errorf("PCRs of a bank that was not quoted = %x", got)
	}
	v.Facts()["secureBoot"] = evidence.Claim{}
	if !v.Facts()["secureBoot"].Value.IsTrue() {
		t.Error("a caller changed the claims")
	}
	byName := map[string]string{}
	for _, c := range v.PolicyClaims(nil) {
		byName[c.Type] = c.Value.String()
		if c.Issuer != "AttestationService" || c.ReadOnly != (c.Type == "pcrs") {
			t.Errorf("claim %+v", c)
		}
	}
	for name, want := range map[string]string{"aikValidated": "true", "tpmVersion": "2", "secureBootEnabled": "true", "secureBoot": "true"} {
		if byName[name] != want {
			t.Errorf("%s = %q, want %q", name, byName[name], want)
		}
	}
	for _, absent := range []string{"bootDebuggingDisabled", "deployedMode"} {
		if got, ok := byName[absent]; ok {
			t.Errorf("%s = %q, although nothing proves it", absent, got)
		}
	}
	if !strings.Contains(byName["pcrs"], p.PCRs["sha256"]["7"]) || strings.Contains(byName["pcrs"], p.PCRs["sha256"]["17"]) || strings.Contains(byName["pcrs"], `SHA384`) {
		t.Errorf("pcrs = %s", byName["pcrs"])
	}
	if len(byName["aikPubHash"]) == 0 {
		t.Error("aikPubHash is missing")
	}
	var none *tpm.Verified
	if len(none.Facts()) != 0 || none.PolicyClaims(nil) != nil || len(new(tpm.Verified).Facts()) != 0 {
		t.Error("nothing verified has claims")
	}
}

func TestBaselinesAreComparedInTheirBank(t *testing.T) {
	p := evidencetest.Recorded(t, "good-uki", "ecc", "sha256", "sha384")
	o := registered(t, p)
	o.Baseline = baselineOf(t, evidencetest.Recorded(t, "good-uki", "ecc", "sha384"))
	if a := trusts(t, p.JSON(t), o); a.Evidence.Bank != "sha384" {
		t.Errorf("bank = %s, want sha384", a.Evidence.Bank)
	}
	only := evidencetest.Recorded(t, "good-uki", "ecc", "sha256")
	refuses(t, only.JSON(t), o, "quote.pcr-selection")
	o.Bank = tpm2.AlgSHA256
	refuses(t, p.JSON(t), o, "baseline.bank")
	// A profile that judges PCR 8 needs it quoted.
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc"))
	o = trusting(t, m)
	o.Baseline = baselineOf(t, evidencetest.Recorded(t, "good-uki", "ecc"))
	few := m.Bundle(nonce, m.Sign(m.Attest(nonce, sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7))))
	few.IMALog = nil
	refuses(t, few.JSON(t), o, "baseline.not-quoted")
	// A baseline without PCR 8 cannot judge it.
	e, err := tpm.BaselineOf(parse(t, few), baseline.Shape{})
	if err != nil {
		t.Fatal(err)
	}
	o.Baseline = e
	refuses(t, m.Bundle(nonce).JSON(t), o, "baseline.incomplete")
}
