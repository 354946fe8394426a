package tpm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/tpm2"
)

// The tests of this file are attacks that other verifiers have let through; each
// is named for its number in SECURITY.md.

func goodTPM(t testing.TB) *evidencetest.TPM {
	t.Helper()
	return evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-shim-grub", "ecc"))
}

func mustPolicy(t testing.TB, rules string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("version=1.0;\nauthorizationrules {\n"+rules+"\n};\nissuancerules { };\n", policy.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A1: a structure that no TPM made, signed by a key that signs anything.
func TestA1OnlyATPMMakesQuotes(t *testing.T) {
	m := goodTPM(t)
	o := tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{pemKey(t, m.Key.Public())}}}
	forged := evidencetest.Encode(t, m.Attest(nonce))
	for i := range 4 {
		refuses(t, m.Bundle(nonce, m.SignBytes(flip(forged, i))).JSON(t), o, "quote.magic")
	}
	// With the magic in place, the key's attributes tell that it may sign this too.
	m.Public.Attributes &^= tpm2.AttrRestricted
	refuses(t, m.Bundle(nonce, m.SignBytes(forged)).JSON(t), o, "ak.attributes")
	// Claiming to be restricted makes it another key than the registered one.
	registered := trusting(t, m0(t, m))
	m.Public.Attributes |= tpm2.AttrRestricted | tpm2.AttrNoDA
	refuses(t, m.Bundle(nonce, m.SignBytes(forged)).JSON(t), registered, "ak.untrusted")
}

// m0 is m with the attributes of a good attestation key.
func m0(t testing.TB, m *evidencetest.TPM) *evidencetest.TPM {
	t.Helper()
	c := fresh(m)
	c.Public = evidencetest.AKOf(t, m.Key.Public(), m.Scheme, m.Hash)
	return c
}

// A2: a quote of other PCRs, or of none, with values added that nobody signed.
func TestA2OnlySignedPCRsCount(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	for name, selection := range map[string]tpm2.PCRSelection{
		"none": sha256PCRs(), "23": sha256PCRs(23), "all but 7": sha256PCRs(0, 1, 2, 3, 4, 5, 6, 8, 9), "another bank": evidencetest.Select(tpm2.AlgSHA1, 0, 1, 2, 3, 4, 5, 6, 7),
	} {
		want := evidence.Code("quote.pcr-selection")
		if name == "another bank" {
			want = "quote.weak-bank"
		}
		refuses(t, m.Bundle(nonce, m.Sign(m.Attest(nonce, selection))).JSON(t), o, want)
	}
	// PCR 8 to 14 are sent, but only 0 to 7 are signed: nothing else is read.
	p := m.Bundle(nonce, m.Sign(m.Attest(nonce, sha256PCRs(0, 1, 2, 3, 4, 5, 6, 7))))
	p = withPCR(p, "sha256", "8", strings.Repeat("ee", 32))
	a := trusts(t, p.JSON(t), o)
	if got := a.Verified.PCRs(tpm2.AlgSHA256); len(got) != 8 || got[8] != nil {
		t.Errorf("PCRs that were not signed: %x", got)
	}
	for name, c := range a.Claims {
		if c.Value.Known() && slices.ContainsFunc(c.PCRs, func(pcr int) bool { return pcr > 7 }) {
			t.Errorf("claim %s = %v rests on PCRs %v", name, c.Value, c.PCRs)
		}
	}
	for _, c := range a.Verified.PolicyClaims(nil) {
		if c.Type == "pcrs" && strings.Contains(c.Value.String(), strings.Repeat("ee", 32)) {
			t.Errorf("a policy sees PCR 8: %v", c.Value)
		}
	}
	o.PCRs = []int{8}
	refuses(t, p.JSON(t), o, "quote.pcr-selection")
}

// A3: a replayed quote. The bundle's own nonce never counts.
func TestA3ReplayedQuotesAreRefused(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	old := m.Bundle([]byte("an older nonce"))
	refuses(t, old.JSON(t), o, "quote.nonce-mismatch")
	old.Nonce = nonce
	refuses(t, old.JSON(t), o, "quote.nonce-mismatch")
	for _, constant := range [][]byte{nil, {}, make([]byte, 32), nonce[:16], append(bytes.Clone(nonce), nonce...)} {
		refuses(t, m.Bundle(nonce, m.Sign(m.Attest(constant))).JSON(t), o, "quote.nonce-mismatch")
	}
	// Nobody who asks for no nonce is told that the evidence is fresh.
	o.Nonce = nil
	if a := trusts(t, old.JSON(t), o); !slices.Contains(a.NotChecked, "freshness: no --nonce") {
		t.Errorf("not checked: %v", a.NotChecked)
	}
}

// typeAt returns where the type of each event of a log is.
func typesAt(t testing.TB, log []byte) []int {
	t.Helper()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	at := 0
	for i, e := range l.Events() {
		// The digest of an event is in the log, so that its offset tells where
		// the event begins: PCR, type, count, algorithm, then the first digest.
		first := e.Digest(tpm2.AlgSHA1)
		if i == 0 || first == nil {
			continue
		}
		n := bytes.Index(log[at:], first)
		if n < 0 {
			t.Fatalf("event %d is not found", i)
		}
		at += n
		out = append(out, at-2-4-4)
	}
	return out
}

// A4: event types are not covered by any digest. Rewriting them must never turn a
// machine without secure boot into one with it.
func TestA4RewrittenEventTypesNeverHelp(t *testing.T) {
	p := evidencetest.Recorded(t, "persist/boot4", "ecc")
	o := registered(t, p)
	refuses(t, p.JSON(t), o, "secureboot.off")
	offsets := typesAt(t, p.EventLog)
	if len(offsets) < 20 {
		t.Fatalf("%d events, want at least 20", len(offsets))
	}
	for _, at := range offsets {
		for _, kind := range []uint32{0, 3, 4, 5, 6, 0xd, 0x80000001, 0x80000002, 0x80000003, 0x80000007, 0x80000008, 0x800000e0, 0x0badc0de, 0xffffffff} {
			c := p.Clone()
			binary.LittleEndian.PutUint32(c.EventLog[at:], kind)
			a := tpm.AppraiseBundle(c.JSON(t), o)
			if a.Verdict == evidence.Trusted || a.Claims["secureBoot"].Value.IsTrue() {
				t.Errorf("type %#x at byte %d: %v, secureBoot %v", kind, at, a.Verdict, a.Claims["secureBoot"])
			}
		}
	}
}

// A5: data of an event that is not what was hashed must never be believed.
func TestA5DataThatWasNotHashedIsNeverBelieved(t *testing.T) {
	p := evidencetest.Recorded(t, "persist/boot4", "ecc")
	name := []byte("S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t\x00")
	at := bytes.Index(p.EventLog, name) + len(name)
	if p.EventLog[at] != 0 {
		t.Fatalf("SecureBoot is %d in a boot without it", p.EventLog[at])
	}
	p.EventLog[at] = 1
	refuses(t, p.JSON(t), registered(t, p), "eventlog.data-mismatch")
	for _, c := range evidencetest.Derived(t) {
		if c.Name == "log-text-lies" || c.Name == "log-db-hidden" {
			a := refuses(t, c.Bundle.JSON(t), registered(t, c.Bundle), "eventlog.data-mismatch")
			if len(a.Claims) > 0 {
				t.Errorf("%s: claims %v", c.Name, a.Claims)
			}
		}
	}
}

// A8: a good twin answers for a machine. The twin's key is not the machine's.
func TestA8AGoodTwinCannotAnswer(t *testing.T) {
	m, twin := goodTPM(t), goodTPM(t)
	o := trusting(t, m)
	p := twin.Bundle(nonce)
	refuses(t, p.JSON(t), o, "ak.untrusted")
	// Nor with the machine's key beside the twin's quote.
	p.AKPublic = evidencetest.Encode(t, &m.Public)
	refuses(t, p.JSON(t), o, "quote.signature")
	// Nor with one quote of each.
	p.Quotes = append(m.Bundle(nonce).Quotes, p.Quotes...)
	refuses(t, p.JSON(t), o, "quote.signature")
}

// A9: nothing expensive before a trusted key has signed.
func TestA9UnsignedEvidenceCostsLittle(t *testing.T) {
	m := goodTPM(t)
	p := m.Bundle(nonce)
	p.EventLog = bytes.Repeat(p.EventLog, 1<<20/len(p.EventLog))
	p.IMALog = bytes.Repeat(p.IMALog, 1<<20/len(p.IMALog))
	for name, tc := range map[string]struct {
		change func(p *evidencetest.Parts)
		o      tpm.Options
		want   evidence.Code
	}{
		"bad signature": {func(p *evidencetest.Parts) { p.Quotes[0].Signature = flip(p.Quotes[0].Signature, -1) }, trusting(t, m), "quote.signature"},
		"unknown key":   {func(*evidencetest.Parts) {}, tpm.Options{Expect: tpm.Expect{Nonce: nonce}}, "ak.untrusted"},
	} {
		c := p.Clone()
		tc.change(&c)
		text := c.JSON(t)
		best := time.Hour
		for range 5 {
			start := time.Now()
			a := refuses(t, text, tc.o, tc.want)
			best = min(best, time.Since(start))
			if !strings.Contains(strings.Join(a.NotChecked, "\n"), "not read until the quotes are genuine") {
				t.Errorf("%s: the logs were read: %v", name, a.NotChecked)
			}
		}
		// It takes 5 ms: decoding base64 and one signature. The limit is so wide because
		// test machines are shared and the race detector slows all this tenfold; the
		// verifier that fell for this took 4.7 s for 20 KB.
		if best > time.Second {
			t.Errorf("%s: %d bytes take %v", name, len(text), best)
		}
	}
}

// A10: lengths and counts that lie, in a log that a genuine key vouches for.
func TestA10HostileLengthsAreRefused(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	good := m.Bundle(nonce)
	claims := trusts(t, good.JSON(t), o).Claims
	for at := 0; at+4 <= 400; at++ {
		for _, lie := range []uint32{0xffffffff, 0xfffffff0, 0x80000000, 0x10000000} {
			p := good.Clone()
			binary.LittleEndian.PutUint32(p.EventLog[at:], lie)
			for name, c := range tpm.AppraiseBundle(p.JSON(t), o).Claims {
				if c.Value.Known() && c.Value != claims[name].Value {
					t.Errorf("%#x at byte %d: claim %s becomes %v", lie, at, name, c.Value)
				}
			}
		}
	}
	for _, c := range evidencetest.Derived(t) {
		if strings.HasPrefix(c.Name, "log-huge") {
			refuses(t, c.Bundle.JSON(t), registered(t, c.Bundle), "eventlog.malformed")
		}
	}
}

// A11: keys that prove nothing, even when an operator names them.
func TestA11WeakKeysAreRefused(t *testing.T) {
	m := goodTPM(t)
	o := tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{pemKey(t, m.Key.Public())}}}
	for _, v := range keyVectors() {
		refuses(t, v.make(t, fresh(m)), o, v.want...)
	}
	m.Hash = tpm2.AlgSHA1
	m.Public.Parameters.ECC.Scheme.HashAlg = tpm2.AlgSHA1
	refuses(t, m.Bundle(nonce).JSON(t), o, "quote.signature-scheme")
}

// A12: a bad signature or chain may never end in a good verdict, whatever a policy says.
func TestA12ABadSignatureIsNeverPermitted(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	o.Policy = mustPolicy(t, "=> permit();")
	trusts(t, m.Bundle(nonce).JSON(t), o)
	p := m.Bundle(nonce)
	p.Quotes[0].Signature = flip(p.Quotes[0].Signature, -1)
	a := refuses(t, p.JSON(t), o, "quote.signature")
	if a.Evidence.Signature != evidence.SignatureInvalid || a.Verified != nil || a.Issued != nil {
		t.Errorf("appraisal = %+v", a)
	}
	o.Keys = nil
	refuses(t, m.Bundle(nonce).JSON(t), o, "ak.untrusted")
	root := newAuthority(t, "root", nil)
	p = m.Bundle(nonce)
	p.AKCert = root.issue(t, leaf(forAK), m.Key.Public()).Raw
	o.AKRoots, o.At = pool(t, newAuthority(t, "root", nil).cert.Raw), noon
	refuses(t, p.JSON(t), o, "ak.certificate-foreign")
}

// A14: nothing configured permits nothing.
func TestA14NothingConfiguredPermitsNothing(t *testing.T) {
	m := goodTPM(t)
	text := m.Bundle(nonce).JSON(t)
	refuses(t, text, tpm.Options{}, "ak.untrusted")
	o := trusting(t, m)
	o.Policy = new(policy.Policy)
	refuses(t, text, o, "policy.denied")
	o.Policy = mustPolicy(t, "")
	refuses(t, text, o, "policy.denied")
	// A claim that nobody could prove neither permits nor denies.
	for _, value := range []string{"true", "false"} {
		o.Policy = mustPolicy(t, fmt.Sprintf("c:[type==\"bootDebuggingDisabled\", value==%s] => permit();", value))
		refuses(t, text, o, "policy.denied")
	}
	if got := new(tpm.Appraisal); got.Verdict == evidence.Trusted {
		t.Error("the zero appraisal is trusted")
	}
	if _, err := tpm.Verify(parse(t, m.Bundle(nonce)), tpm.Expect{}); err == nil {
		t.Error("the zero Expect trusts a key")
	}
}

// A15: a refused quote leaves nothing to remember, so that no later one is judged by it.
func TestA15RefusedEvidenceMovesNoCounters(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	before := trusts(t, m.Bundle(nonce).JSON(t), o).Verified.Counters()
	m.Clock.ResetCount += 100
	p := m.Bundle(nonce)
	p.Quotes[0].Signature = flip(p.Quotes[0].Signature, -1)
	if a := refuses(t, p.JSON(t), o, "quote.signature"); a.Verified != nil {
		t.Error("counters of a quote that nobody signed could be kept")
	}
	m.Clock.ResetCount -= 100
	o.Last = &before
	trusts(t, m.Bundle(nonce).JSON(t), o)
}

// A16: a TPM that was set back: a snapshot, or an older quote.
func TestA16RolledBackTPMsAreRefused(t *testing.T) {
	m := goodTPM(t)
	o := trusting(t, m)
	m.Clock = tpm2.ClockInfo{Clock: 5_000_000, ResetCount: 9, RestartCount: 2, Safe: true}
	seen := trusts(t, m.Bundle(nonce).JSON(t), o).Verified.Counters()
	o.Last = &seen
	for name, back := range map[string]func(c *tpm2.ClockInfo){
		"resetCount": func(c *tpm2.ClockInfo) { c.ResetCount-- }, "restartCount": func(c *tpm2.ClockInfo) { c.RestartCount-- },
		"clock": func(c *tpm2.ClockInfo) { c.Clock -= 1 }, "safe": func(c *tpm2.ClockInfo) { c.Safe = false },
	} {
		c := fresh(m)
		back(&c.Clock)
		t.Run(name, func(t *testing.T) { refuses(t, c.Bundle(nonce).JSON(t), o, "quote.counters-rolled-back") })
	}
}

// A18: a component that is signed and revoked: the revocation list that the
// firmware used is proven, so that a policy or a baseline can ask for it.
func TestA18RolledBackRevocationsAreSeen(t *testing.T) {
	p := evidencetest.Recorded(t, "good-shim-grub", "rsa")
	o := registered(t, p)
	a := trusts(t, p.JSON(t), o)
	dbx, ok := a.Claims["secureBootKeys.dbx.digest"].Value.Text()
	if _, err := hex.DecodeString(dbx); !ok || err != nil || !slices.Equal(a.Claims["secureBootKeys.dbx.digest"].PCRs, []int{7}) {
		t.Fatalf("dbx = %+v", a.Claims["secureBootKeys.dbx.digest"])
	}
	o.Policy = mustPolicy(t, fmt.Sprintf("c:[type==\"secureBootKeys.dbx.digest\", value==%q] => permit();", dbx))
	trusts(t, p.JSON(t), o)
	o.Policy = mustPolicy(t, fmt.Sprintf("c:[type==\"secureBootKeys.dbx.digest\", value==%q] => permit();", strings.Repeat("0", 64)))
	refuses(t, p.JSON(t), o, "policy.denied")
	other := evidencetest.Recorded(t, "bad-db-extra-key", "rsa")
	o = registered(t, other)
	o.Baseline = baselineOf(t, evidencetest.Recorded(t, "good-uki", "rsa"))
	refuses(t, other.JSON(t), o, "baseline.mismatch")
}
