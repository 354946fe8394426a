package integrity

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// journalIn is what a TPM with banks would have recorded of a boot that has this log.
func journalIn(t testing.TB, scenario string, banks ...tpm2.Alg) []engine.JournalRecord {
	t.Helper()
	first := engine.JournalRecord{Kind: engine.JournalStartup}
	for _, bank := range banks {
		first.Digests = append(first.Digests, tpm2.HA{HashAlg: bank, Digest: make([]byte, bank.DigestSize())})
	}
	out := []engine.JournalRecord{initRecord, first}
	for e := range logOf(t, scenario).All() {
		if !e.Measured() {
			continue
		}
		r := engine.JournalRecord{Kind: engine.JournalExtend, PCR: uint8(e.PCR)}
		for _, bank := range banks {
			if d := e.Digest(bank); d != nil {
				r.Digests = append(r.Digests, tpm2.HA{HashAlg: bank, Digest: slices.Clone(d)})
			}
		}
		out = append(out, r)
	}
	return out
}

// of returns the records that extend a register.
func of(records []engine.JournalRecord, pcr uint8) (out []*engine.JournalRecord) {
	for i := range records {
		if records[i].Kind == engine.JournalExtend && records[i].PCR == pcr {
			out = append(out, &records[i])
		}
	}
	return out
}

func TestEveryBankIsJudged(t *testing.T) {
	const sha1, sha256, sha384, sha512 = tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512
	same := func([]engine.JournalRecord) {}
	for name, tc := range map[string]struct {
		first, then []tpm2.Alg
		scenario    string
		change      func([]engine.JournalRecord)
		want        string
		differ      []string // in the late report: register or bank, and change
	}{
		"the same":        {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", same, "startup early+ late+", nil},
		"three of them":   {[]tpm2.Alg{sha1, sha256, sha384}, []tpm2.Alg{sha384, sha1, sha256}, "good-uki", same, "startup early+ late+", nil},
		"a bank vanishes": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256}, "good-uki", same, "startup early- late-", []string{"bank sha384 bank-removed"}},
		"a bank appears":  {[]tpm2.Alg{sha256}, []tpm2.Alg{sha256, sha384}, "good-uki", same, "startup early- late-", []string{"bank sha384 bank-added"}},
		"nobody extends":  {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384, sha512}, "good-uki", same, "startup early- late-", []string{"bank sha512 bank-uneven"}},
		"what all show":   {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki-update", same, "startup early- late-", []string{"4", "11"}},
		"one bank alone": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", func(all []engine.JournalRecord) {
			kernel := of(all, 11)
			kernel[1].Digests[1].Digest[0] ^= 1
		}, "startup early+ late-", []string{"11"}},
		"extended alone": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", func(all []engine.JournalRecord) {
			config := of(all, 1)[0]
			config.Digests = config.Digests[1:]
		}, "startup early- late-", []string{"bank sha384 bank-uneven"}},
		"left out": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", func(all []engine.JournalRecord) {
			kernel := of(all, 11)[1]
			kernel.Digests = kernel.Digests[:1]
		}, "startup early+ late-", []string{"bank sha384 bank-uneven"}},
		"twice in one command": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", func(all []engine.JournalRecord) {
			kernel := of(all, 11)[1]
			kernel.Digests = append(kernel.Digests, kernel.Digests[1])
		}, "startup early+ late-", []string{"bank sha384 bank-uneven"}},
		"capped": {[]tpm2.Alg{sha256, sha384}, []tpm2.Alg{sha256, sha384}, "good-uki", func(all []engine.JournalRecord) {
			for pcr := range uint8(15) {
				for i, r := range of(all, pcr) {
					if i > 0 {
						r.Digests = r.Digests[:1]
					}
				}
			}
		}, "startup early- late-", []string{"bank sha384 bank-uneven"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			if got := said(b.take(journalIn(t, "good-uki", tc.first...))); got != "startup early+ late+" {
				t.Fatalf("first boot: %s", got)
			}
			records := journalIn(t, tc.scenario, tc.then...)
			tc.change(records)
			notices := b.take(records)
			if got := said(notices); got != tc.want {
				t.Errorf("events %s, want %s", got, tc.want)
			}
			var differ []string
			for _, d := range notices[len(notices)-1].Differences {
				what := strings.TrimSpace(d.Component + " " + d.Change)
				if !strings.HasPrefix(d.Change, "bank-") {
					what = strings.TrimPrefix(strings.Split(d.Words, "PCR ")[1], " ")
					what = strings.FieldsFunc(what, func(r rune) bool { return r < '0' || r > '9' })[0]
				}
				if d.Judged && !slices.Contains(differ, what) {
					differ = append(differ, what)
				}
			}
			if diff := cmp.Diff(tc.differ, differ); diff != "" {
				t.Errorf("what differs (-want +got):\n%s", diff)
			}
		})
	}
}

// What differs in all banks is said once.
func TestADifferenceIsSaidOnceForAllBanks(t *testing.T) {
	count := func(banks ...tpm2.Alg) int {
		b := newBench(t, nil)
		b.take(journalIn(t, "good-uki", banks...))
		n := b.take(journalIn(t, "good-uki-update", banks...))
		return len(n[len(n)-1].Differences)
	}
	if one, three := count(tpm2.AlgSHA256), count(tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384); one == 0 || one != three {
		t.Errorf("%d differences in one bank, %d in three", one, three)
	}
}

// A TPM with a bank that the firmware does not extend has no good first boot.
func TestABootWithABankThatNobodyExtendsBecomesNoBaseline(t *testing.T) {
	b := newBench(t, nil)
	got := b.take(journalIn(t, "good-uki", tpm2.AlgSHA256, tpm2.AlgSHA512))
	if said(got) != "startup early- late-" || len(b.h.Versions) != 0 || b.h.Boots[0].Late != Failed {
		t.Errorf("events %s, %d baselines, late %q", said(got), len(b.h.Versions), b.h.Boots[0].Late)
	}
	if got := said(b.take(journalIn(t, "good-uki", tpm2.AlgSHA256))); got != "startup early+ late+" || len(b.h.Versions) != 1 {
		t.Errorf("without it: %s, %d baselines", got, len(b.h.Versions))
	}
}

// What a version of before kept has one bank, and is compared by that.
func TestARecordWithoutBanksRaisesNoAlarm(t *testing.T) {
	b := newBench(t, nil)
	b.boot("good-uki")
	if banks, all := b.h.Versions[0].Baseline.Banks(); all || len(banks) != 1 {
		t.Errorf("Banks = %v, %v", banks, all)
	}
	if got := said(b.take(journalIn(t, "good-uki", tpm2.AlgSHA256, tpm2.AlgSHA384))); got != "startup early+ late+" {
		t.Errorf("with two banks: %s", got)
	}
}

func TestBanksAreKept(t *testing.T) {
	b := newBench(t, nil)
	b.take(journalIn(t, "good-uki", tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384))
	text, err := json.Marshal(b.h)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHistory(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(h)
	if err != nil || string(again) != string(text) {
		t.Errorf("it changes when it is read and written: %v", err)
	}
	kept := h.Boots[0].Boot
	others, known := kept.Others()
	if !known || len(others) != 2 {
		t.Fatalf("Others = %d, %v", len(others), known)
	}
	want, err := logOf(t, "good-uki").Inspect(tpm2.AlgSHA384)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Late(), others[1].Late()); d != "" {
		t.Errorf("late values of SHA-384 (-log +journal):\n%s", d)
	}
	if d := cmp.Diff(want.Early(), others[1].Early()); d != "" {
		t.Errorf("early values of SHA-384 (-log +journal):\n%s", d)
	}
	if c := baseline.From(kept, h.Boots[0].Shape).Compare(b.h.Boots[0].Boot, baseline.Default()); !c.Passed() {
		t.Errorf("it differs from itself: %+v", c.Differences)
	}
	for name, change := range map[string][2]string{
		"an unknown bank":   {`"banks":["sha1",`, `"banks":["md5",`},
		"a bank twice":      {`"banks":["sha1",`, `"banks":["sha256",`},
		"a digest too long": {`"others":{"sha1":"`, `"others":{"sha1":"00`},
		"a digest of none":  {`"others":{"sha1":"`, `"others":{"md5":"`},
	} {
		if bad := strings.Replace(string(text), change[0], change[1], 1); bad == string(text) {
			t.Errorf("%s: nothing was changed", name)
		} else if _, err := ParseHistory([]byte(bad)); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// A register that TPM2_PCR_Allocate took away is not one that nobody extended: what the
// boot loader measures into it has no digest any more.
func TestRegisterInNoBankIsNotZero(t *testing.T) {
	for name, tc := range map[string]struct {
		banks   []tpm2.Alg // that the record of the start names
		digests []tpm2.HA
		passes  bool
	}{
		"of one bank":                   {[]tpm2.Alg{tpm2.AlgSHA256}, nil, false},
		"of two banks":                  {[]tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384}, nil, false},
		"of banks that are not known":   {nil, nil, false},
		"in another that is not known":  {nil, []tpm2.HA{{HashAlg: tpm2.AlgSHA384, Digest: make([]byte, 48)}}, false},
		"in the other bank of two":      {[]tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384}, []tpm2.HA{{HashAlg: tpm2.AlgSHA384, Digest: make([]byte, 48)}}, false},
		"extended in the boot's bank":   {[]tpm2.Alg{tpm2.AlgSHA256}, []tpm2.HA{{HashAlg: tpm2.AlgSHA256, Digest: make([]byte, 32)}}, false},
		"nothing, and that is as it is": {[]tpm2.Alg{tpm2.AlgSHA256}, []tpm2.HA{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			journal := func() []engine.JournalRecord {
				if tc.banks == nil {
					return journalOf(t, "good-uki")
				}
				return journalIn(t, "good-uki", tc.banks...)
			}
			b.take(journal())
			boot := journal()
			if !tc.passes {
				boot = slices.Insert(boot, len(boot)-1, engine.JournalRecord{Kind: engine.JournalExtend, PCR: 12, Time: 2, Digests: tc.digests})
			}
			reported := false
			for _, n := range b.take(boot) {
				if n.Type == EventLateReport {
					reported = true
					if n.Passed() != tc.passes || (n.Outcome() == Passed) != tc.passes {
						t.Errorf("passed: %v, %s", n.Passed(), n.Outcome())
					}
				}
			}
			if !reported {
				t.Error("there is no report")
			}
		})
	}
}
