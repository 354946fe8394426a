package tpm_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog/ima"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// Linux 6.1 boots before SHA-384 is there and pads SHA-1 digests into that bank.
func TestAPaddedIMAListIsSaidToBeNoStrongerThanSHA1(t *testing.T) {
	for bank, weak := range map[string]bool{"sha256": false, "sha384": true} {
		t.Run(bank, func(t *testing.T) {
			p := evidencetest.Recorded(t, "good-uki", "ecc", bank)
			key, err := tpm.ParseKey(p.AKPublic)
			if err != nil {
				t.Fatal(err)
			}
			a := tpm.AppraiseBundle(p.JSON(t), tpm.Options{Expect: tpm.Expect{Keys: []*tpm.Key{key}}})
			if said := strings.Contains(strings.Join(a.NotChecked, "\n"), "beyond the strength of SHA-1"); said != weak || a.Verified == nil {
				t.Errorf("bank %s: verdict %v, notChecked %q, want it said: %v", bank, a.Verdict, a.NotChecked, weak)
			}
		})
	}
}

// imaList is a list of one entry, of the template ima-ng, with a digest field.
func imaList(digest []byte, name string) []byte {
	var data []byte
	for _, field := range [][]byte{digest, append([]byte(name), 0)} {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(field))), field...)
	}
	h := crypto.SHA1.New()
	h.Write(data)
	const template = "ima-ng"
	out := h.Sum(binary.LittleEndian.AppendUint32(nil, ima.PCR))
	out = append(binary.LittleEndian.AppendUint32(out, uint32(len(template))), template...)
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(data))), data...)
}

// withIMA puts a list into a TPM's boot: PCR 10 of every bank is what it leads to.
func withIMA(t *testing.T, m *evidencetest.TPM, list []byte) *evidencetest.TPM {
	t.Helper()
	m = fresh(m)
	l, err := ima.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	for bank := range m.Boot.PCRs {
		alg, _ := tpm2.AlgOfBank(bank)
		value, _ := l.Replay(alg)
		m.Boot.PCRs[bank][strconv.Itoa(ima.PCR)] = hex.EncodeToString(value)
	}
	m.Boot.IMALog = list
	return m
}

// aggregateOf is the boot_aggregate of the first registers of a bank.
func aggregateOf(t *testing.T, m *evidencetest.TPM, alg tpm2.Alg, registers int) []byte {
	t.Helper()
	h, _ := alg.Hash()
	sum := h.New()
	for pcr := range registers {
		b, err := hex.DecodeString(m.Boot.PCRs[alg.BankName()][strconv.Itoa(pcr)])
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	return sum.Sum([]byte(alg.BankName() + ":\x00"))
}

// A list that belongs to the quoted PCR 10 but not to the quoted boot is refused.
// What cannot be compared is said, and refuses nothing: older kernels hash other
// registers, and another bank than the quoted one.
func TestBootAggregateIsComparedWithTheQuotedBoot(t *testing.T) {
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-shim-grub", "ecc", "sha1", "sha256"))
	const sha1, sha256 = tpm2.AlgSHA1, tpm2.AlgSHA256
	all := evidencetest.Select(sha256, evidencetest.BootPCRs[:]...)
	both := []tpm2.PCRSelection{all, evidencetest.Select(sha1, evidencetest.BootPCRs[:]...)}
	lacking9 := evidencetest.Select(sha256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10)
	for name, tc := range map[string]struct {
		digest []byte
		name   string
		quoted []tpm2.PCRSelection
		code   evidence.Code // of the refusal, "" for none
		note   string        // in notChecked, "" for none
	}{
		"PCR 0 to 9":               {aggregateOf(t, m, sha256, 10), "boot_aggregate", []tpm2.PCRSelection{all}, "", ""},
		"PCR 0 to 7":               {aggregateOf(t, m, sha256, 8), "boot_aggregate", []tpm2.PCRSelection{all}, "", ""},
		"PCR 0 to 7, 9 not quoted": {aggregateOf(t, m, sha256, 8), "boot_aggregate", []tpm2.PCRSelection{lacking9}, "", ""},
		"SHA-1, both banks quoted": {aggregateOf(t, m, sha1, 8), "boot_aggregate", both, "", ""},
		"PCR 0 to 8":               {aggregateOf(t, m, sha256, 9), "boot_aggregate", []tpm2.PCRSelection{all}, "ima.boot-aggregate-mismatch", ""},
		"another boot":             {append([]byte("sha256:\x00"), bytes.Repeat([]byte{1}, 32)...), "boot_aggregate", []tpm2.PCRSelection{all}, "ima.boot-aggregate-mismatch", ""},
		"SHA-1 of another boot":    {append([]byte("sha1:\x00"), bytes.Repeat([]byte{1}, 20)...), "boot_aggregate", both, "ima.boot-aggregate-mismatch", ""},
		"another boot, 9 unquoted": {append([]byte("sha256:\x00"), bytes.Repeat([]byte{1}, 32)...), "boot_aggregate", []tpm2.PCRSelection{lacking9}, "", "PCR 9 of bank sha256 is needed"},
		"SHA-1, its bank unquoted": {aggregateOf(t, m, sha1, 8), "boot_aggregate", []tpm2.PCRSelection{all}, "", "PCR 0 of bank sha1 is needed"},
		"zero":                     {append([]byte("sha256:\x00"), make([]byte, 32)...), "boot_aggregate", []tpm2.PCRSelection{all}, "", "IMA began without a TPM"},
		"another file comes first": {aggregateOf(t, m, sha256, 10), "/bin/boot_aggregate", []tpm2.PCRSelection{all}, "", "does not begin with boot_aggregate"},
		"by a hash not known here": {append([]byte("wp512:\x00"), make([]byte, 64)...), "boot_aggregate", []tpm2.PCRSelection{all}, "", "IMA began without a TPM"},
	} {
		t.Run(name, func(t *testing.T) {
			m := withIMA(t, m, imaList(tc.digest, tc.name))
			text := m.Bundle(nonce, m.Sign(m.Attest(nonce, tc.quoted...))).JSON(t)
			var a *tpm.Appraisal
			if tc.code == "" {
				a = trusts(t, text, trusting(t, m))
			} else {
				a = refuses(t, text, trusting(t, m), tc.code)
			}
			said := strings.Join(a.NotChecked, "\n")
			if got := strings.Contains(said, "boot_aggregate"); got != (tc.note != "") || !strings.Contains(said, tc.note) {
				t.Errorf("notChecked %q, want %q about boot_aggregate", a.NotChecked, tc.note)
			}
		})
	}
}
