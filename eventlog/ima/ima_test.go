package ima

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/sampletest"
	"github.com/assay-project/assay/tpm2"
)

var readLists = sampletest.Files("testdata/lists.zip")

func file(t testing.TB, name string) []byte {
	t.Helper()
	files, err := readLists()
	if err != nil {
		t.Fatal(err)
	}
	b, ok := files[name]
	if !ok {
		t.Fatalf("no sample %q", name)
	}
	return b
}

// banks is bank -> PCR -> value.
type banks map[string]map[string]string

func (b banks) value(t testing.TB, bank, pcr string) []byte {
	t.Helper()
	v, err := hex.DecodeString(b[bank][pcr])
	if err != nil || len(v) == 0 {
		t.Fatalf("no value of PCR %s in bank %s", pcr, bank)
	}
	return v
}

func parse(t testing.TB, name string) *List {
	t.Helper()
	read := Parse
	if strings.HasSuffix(name, ".txt") {
		read = ParseASCII
	}
	l, err := read(file(t, name))
	if err != nil {
		t.Fatalf("Parse(%s) = %v", name, err)
	}
	return l
}

func TestEverySampleParses(t *testing.T) {
	for name, want := range map[string]struct {
		entries, violations, tail int
		alg                       tpm2.Alg
	}{
		"ima/ima-ibmtss-sha1.bin":                    {362, 0, 0, tpm2.AlgSHA1},
		"ima/ima-ibmtss-sha256.bin":                  {362, 0, 0, tpm2.AlgSHA256},
		"ima/ima-ibmtss-sha384.bin":                  {362, 0, 0, tpm2.AlgSHA384},
		"ima/ima-ibmtss-sha512.bin":                  {362, 0, 0, tpm2.AlgSHA512},
		"ima/ima-immune-dl160-fwupd-report.bin":      {16169, 24, 0, tpm2.AlgSHA1},
		"ima/ima-immune-h12ssl.bin":                  {5071, 9, 0, tpm2.AlgSHA1},
		"ima/ima-immune-hahuri-invalid-eventlog.bin": {37, 0, 0, tpm2.AlgSHA1},
		"ima/ima-immune-ludmilla-2.bin":              {1, 0, 0, tpm2.AlgSHA1},
		"ima/ima-tpm2tss-sml-ima-ng-sha1.bin":        {6, 0, 1, tpm2.AlgSHA1},
		"ima/ima-tpm2tss-sml-ima-sha1.bin":           {12, 0, 1, tpm2.AlgSHA1},
		"ima/ima-tpm2tss-sml-ima-sig-sha256.bin":     {9, 0, 6, tpm2.AlgSHA1},
		"ima/imaascii-rust-keylime.txt":              {826, 0, 0, tpm2.AlgSHA1},
		"vmboot/good-uki/ima.bin":                    {2, 0, 0, tpm2.AlgSHA1},
	} {
		t.Run(name, func(t *testing.T) {
			l := parse(t, name)
			violations := 0
			h, _ := l.Alg().Hash()
			for i, e := range l.Entries() {
				if _, err := e.Fields(); err != nil {
					t.Errorf("entry %d: Fields() = %v", i, err)
				}
				if e.Violation() {
					violations++
					continue
				}
				// All but violations hash to their digest, which also shows that
				// the text form gives the same bytes back.
				sum := h.New()
				sum.Write(e.hashed(nil))
				if !bytes.Equal(sum.Sum(nil), e.Digest) {
					t.Errorf("entry %d does not hash to its digest", i)
				}
			}
			if l.Len() != want.entries || violations != want.violations || l.Tail() != want.tail || l.Alg() != want.alg {
				t.Errorf("%d entries, %d violations, tail %d, %s; want %+v", l.Len(), violations, l.Tail(), l.Alg().BankName(), want)
			}
		})
	}
}

func TestListsConfirmAgainstTheTPM(t *testing.T) {
	var known map[string]banks
	if err := json.Unmarshal(file(t, "known_pcrs.json"), &known); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		"ima/ima-immune-dl160-fwupd-report.bin": 16169, "ima/ima-immune-h12ssl.bin": 5071,
		"ima/ima-immune-ludmilla-2.bin": 1,
		// One entry was added between the quote and the reading.
		"ima/ima-immune-hahuri-invalid-eventlog.bin": 36,
	} {
		l := parse(t, name)
		for bank := range known[name] {
			a, _ := tpm2.AlgOfBank(bank)
			c, err := l.Confirm(a, known[name].value(t, bank, "10"))
			if err != nil || c.Len() != n || c.Mode() != ModeTemplate {
				t.Errorf("%s: Confirm(%s) = %+v, %v; want %d entries", name, bank, c, err, n)
			}
		}
	}
}

var booted = []string{
	"bad-cmdline", "bad-db-extra-key", "bad-grub-cfg", "bad-initrd", "bad-secureboot-off", "bad-secureboot-off-unsigned-kernel",
	"bad-uki-cmdline", "good-shim-grub", "good-uki", "good-uki-update", "persist/boot1", "persist/boot2", "persist/boot3", "persist/boot4",
}

func TestRecordedMachinesConfirmInEachBank(t *testing.T) {
	for _, name := range booted {
		var pcrs banks
		if err := json.Unmarshal(file(t, "vmboot/"+name+"/pcrs.json"), &pcrs); err != nil {
			t.Fatal(err)
		}
		l := parse(t, "vmboot/"+name+"/ima.bin")
		values := map[int][]byte{}
		for pcr := range 10 {
			values[pcr] = pcrs.value(t, "sha256", strconv.Itoa(pcr))
		}
		// The kernel had no SHA-384 when it began: it padded SHA-1 digests.
		for bank, mode := range map[string]Mode{"sha1": ModeTemplate, "sha256": ModeTemplate, "sha384": ModePadded} {
			a, _ := tpm2.AlgOfBank(bank)
			c, err := l.Confirm(a, pcrs.value(t, bank, "10"))
			if err != nil {
				t.Errorf("%s: Confirm(%s) = %v", name, bank, err)
				continue
			}
			if c.Len() != l.Len() || c.End() != len(file(t, "vmboot/"+name+"/ima.bin")) || c.Mode() != mode || c.Bank() != a {
				t.Errorf("%s: Confirm(%s): %d entries, %d bytes, %s; want all, %s", name, bank, c.Len(), c.End(), c.Mode(), mode)
			}
			if err := c.CheckBootAggregate(func(tpm2.Alg) map[int][]byte { return values }); err != nil {
				t.Errorf("%s: CheckBootAggregate = %v", name, err)
			}
		}
	}
}

// entry makes one entry; a nil digest is the hash of the fields.
func entry(pcr uint32, template string, digest []byte, fields ...[]byte) []byte {
	var data []byte
	for _, f := range fields {
		data = appendSized(data, string(f))
	}
	if digest == nil {
		sum := sha1.Sum(data)
		digest = sum[:]
	}
	out := binary.LittleEndian.AppendUint32(nil, pcr)
	out = append(out, digest...)
	out = appendSized(out, template)
	return appendSized(out, string(data))
}

func digestField(content string) []byte {
	sum := sha256.Sum256([]byte(content))
	return append([]byte("sha256:\x00"), sum[:]...)
}

func name(s string) []byte { return append([]byte(s), 0) }

func violation() []byte {
	return entry(PCR, "ima-ng", make([]byte, 20), append([]byte("sha1:\x00"), make([]byte, 20)...), name("/var/log/x"))
}

func mustParse(t testing.TB, entries ...[]byte) *List {
	t.Helper()
	l, err := Parse(slices.Concat(entries...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func confirm(t testing.TB, l *List, a tpm2.Alg) *Confirmed {
	t.Helper()
	v, _ := l.Replay(a)
	c, err := l.Confirm(a, v)
	if err != nil {
		t.Fatalf("Confirm(own replay) = %v", err)
	}
	return c
}

func TestReportNamesWhatMatters(t *testing.T) {
	boot := entry(PCR, "ima-ng", nil, digestField("pcrs"), name("boot_aggregate"))
	key := entry(PCR, "ima-buf", nil, digestField("key"), name(".ima"), []byte("key"))
	l := mustParse(t, boot, violation(), key,
		entry(PCR, "ima-buf", nil, digestField("root=/dev/sda1 quiet"), name("kexec-cmdline"), []byte("root=/dev/sda1 quiet")),
		entry(PCR, "ima-buf", nil, digestField("6.1.0"), name("kernel_version"), []byte("6.1.0")),
		entry(PCR, "ima-buf", nil, digestField("another key"), name(".ima"), []byte("key")),
		entry(PCR, "ima-sig", nil, digestField("m"), name("/lib/modules/6.1/a\x1b.ko.xz"), []byte{3, 2}),
		entry(11, "ima-ng", nil, digestField("x"), name("/elsewhere.ko")),
		entry(PCR, "d-ng|n-ng|iuid", nil, digestField("x"), name("/etc/passwd"), []byte{0, 0, 0, 0}),
		entry(PCR, "ima-ng", nil, []byte("no digest"), name("/x.ko")),
	)
	hexOf := func(s string) string { return hex.EncodeToString(digestField(s)[8:]) }
	want := Report{
		Entries: 9, Violations: 1, Undecoded: 2, OtherPCRs: 1, Mode: "template",
		BootAggregate: "sha256:" + hexOf("pcrs"), KernelVersion: "6.1.0",
		Keys:          []Key{{2, ".ima", "sha256:" + hexOf("key")}},
		KexecCmdlines: []string{"root=/dev/sda1 quiet"},
		Modules:       []File{{6, "/lib/modules/6.1/a\uFFFD.ko.xz", "sha256:" + hexOf("m"), true}},
	}
	if diff := cmp.Diff(want, confirm(t, l, tpm2.AlgSHA256).Report()); diff != "" {
		t.Errorf("Report (-want +got):\n%s", diff)
	}
}

func TestWhatTheQuoteDoesNotCoverIsUnproven(t *testing.T) {
	first := entry(PCR, "ima-ng", nil, digestField("a"), name("boot_aggregate"))
	second := entry(PCR, "ima-ng", nil, digestField("b"), name("/late.ko"))
	v, _ := mustParse(t, first).Replay(tpm2.AlgSHA256)
	c, err := mustParse(t, first, second).Confirm(tpm2.AlgSHA256, v)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Report()
	if c.Len() != 1 || c.End() != len(first) || r.Unproven != 1 || len(r.Modules) != 0 {
		t.Errorf("Confirm(older quote): %d entries, end %d, report %+v; want the first entry only", c.Len(), c.End(), r)
	}
	if zero := (&Confirmed{}).Report(); zero.Entries != 0 || zero.Mode != "none" {
		t.Errorf("zero Confirmed reports %+v, want nothing", zero)
	}
}

func TestConfirmRefuses(t *testing.T) {
	boot := entry(PCR, "ima-ng", nil, digestField("a"), name("boot_aggregate"))
	edited := entry(PCR, "ima-ng", mustEntry(t, boot).Digest, digestField("a"), name("boot_aggregat3"))
	late := entry(PCR, "ima-ng", nil, digestField("b"), name("/b"))
	value := func(a tpm2.Alg, padded bool, entries ...[]byte) []byte {
		v, p := mustParse(t, entries...).Replay(a)
		if padded {
			return p
		}
		return v
	}
	for name, tc := range map[string]struct {
		list   *List
		a      tpm2.Alg
		quoted []byte
		want   evidence.Code
	}{
		"edited name, own hash":   {mustParse(t, edited), tpm2.AlgSHA256, value(tpm2.AlgSHA256, false, boot), codeMismatch},
		"edited name, SHA-1":      {mustParse(t, edited), tpm2.AlgSHA1, value(tpm2.AlgSHA1, false, boot), codeData},
		"edited name, padded":     {mustParse(t, edited), tpm2.AlgSHA256, value(tpm2.AlgSHA256, true, boot), codeData},
		"entry removed":           {mustParse(t, boot), tpm2.AlgSHA256, value(tpm2.AlgSHA256, false, boot, late), codeMismatch},
		"entries swapped":         {mustParse(t, late, boot), tpm2.AlgSHA256, value(tpm2.AlgSHA256, false, boot, late), codeMismatch},
		"violation made of entry": {mustParse(t, boot, violation()), tpm2.AlgSHA256, value(tpm2.AlgSHA256, false, boot, late), codeMismatch},
		"register of its own":     {mustParse(t, boot, entry(11, "ima-ng", nil, digestField("b"), []byte("/b"))), tpm2.AlgSHA256, value(tpm2.AlgSHA256, false, boot, late), codeMismatch},
		"nothing measured":        {mustParse(t, boot), tpm2.AlgSHA256, make([]byte, 32), codeMismatch},
		"value of another bank":   {mustParse(t, boot), tpm2.AlgSHA256, value(tpm2.AlgSHA1, false, boot), codeMismatch},
		"no value":                {mustParse(t, boot), tpm2.AlgSHA256, nil, codeMismatch},
		"bank without hash":       {mustParse(t, boot), tpm2.AlgSM3, make([]byte, 32), codeMismatch},
		"no bank":                 {mustParse(t, boot), tpm2.AlgError, nil, codeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tc.list.Confirm(tc.a, tc.quoted)
			if reasons := evidence.Reasons(err); c != nil || len(reasons) != 1 || reasons[0].Code != tc.want {
				t.Errorf("Confirm = %v, %v, want %s", c, err, tc.want)
			}
		})
	}
}

func mustEntry(t testing.TB, b []byte) Entry {
	for _, e := range mustParse(t, b).Entries() {
		return e
	}
	return Entry{}
}

func TestBootAggregateTiesTheListToTheBoot(t *testing.T) {
	values := map[int][]byte{}
	var joined, sha1Joined []byte
	sha1Values := map[int][]byte{}
	for pcr := range 10 {
		values[pcr] = bytes.Repeat([]byte{byte(pcr)}, 32)
		sha1Values[pcr] = bytes.Repeat([]byte{byte(pcr)}, 20)
		joined = append(joined, values[pcr]...)
		sha1Joined = append(sha1Joined, sha1Values[pcr]...)
	}
	bySHA1 := func(registers int) []byte {
		sum := sha1.Sum(sha1Joined[:20*registers])
		return append([]byte("sha1:\x00"), sum[:]...)
	}
	bySHA256 := func(registers int) []byte { return digestField(string(joined[:32*registers])) }
	aggregate := func(field []byte, n string) *Confirmed {
		return confirm(t, mustParse(t, entry(PCR, "ima-ng", nil, field, name(n))), tpm2.AlgSHA256)
	}
	good := bySHA256(10)
	changed := func(pcr int) map[int][]byte {
		other := maps.Clone(values)
		other[pcr] = bytes.Repeat([]byte{0xEE}, 32)
		return other
	}
	without := func(pcr int) map[int][]byte {
		fewer := maps.Clone(values)
		delete(fewer, pcr)
		return fewer
	}
	for name, tc := range map[string]struct {
		c      *Confirmed
		bank   tpm2.Alg
		values map[int][]byte
		want   evidence.Code
	}{
		"SHA-256 over ten":                  {aggregate(good, bootAggregate), tpm2.AlgSHA256, values, ""},
		"SHA-256 over eight":                {aggregate(bySHA256(8), bootAggregate), tpm2.AlgSHA256, values, ""},
		"SHA-1 over eight":                  {aggregate(bySHA1(8), bootAggregate), tpm2.AlgSHA1, sha1Values, ""},
		"SHA-1 over ten":                    {aggregate(bySHA1(10), bootAggregate), tpm2.AlgSHA1, sha1Values, ""},
		"over eight, PCR 9 not quoted":      {aggregate(bySHA256(8), bootAggregate), tpm2.AlgSHA256, without(9), ""},
		"over eight, PCR 9 extended since":  {aggregate(bySHA256(8), bootAggregate), tpm2.AlgSHA256, changed(9), ""},
		"over nine":                         {aggregate(bySHA256(9), bootAggregate), tpm2.AlgSHA256, values, codeAggregate},
		"over seven":                        {aggregate(bySHA256(7), bootAggregate), tpm2.AlgSHA256, values, codeAggregate},
		"SHA-1, another boot":               {aggregate(bySHA1(7), bootAggregate), tpm2.AlgSHA1, sha1Values, codeAggregate},
		"PCR 0 extended since":              {aggregate(good, bootAggregate), tpm2.AlgSHA256, changed(0), codeAggregate},
		"PCR 4 extended since":              {aggregate(good, bootAggregate), tpm2.AlgSHA256, changed(4), codeAggregate},
		"PCR 9 extended since":              {aggregate(good, bootAggregate), tpm2.AlgSHA256, changed(9), codeAggregate},
		"PCR 7 not quoted":                  {aggregate(good, bootAggregate), tpm2.AlgSHA256, without(7), codeUnchecked},
		"PCR 9 not quoted":                  {aggregate(good, bootAggregate), tpm2.AlgSHA256, without(9), codeUnchecked},
		"nothing quoted":                    {aggregate(good, bootAggregate), tpm2.AlgSHA256, nil, codeUnchecked},
		"another bank":                      {aggregate(good, bootAggregate), tpm2.AlgSHA1, sha1Values, codeUnchecked},
		"values of another size":            {aggregate(good, bootAggregate), tpm2.AlgSHA256, sha1Values, codeUnchecked},
		"a hash that is not known":          {aggregate(append([]byte("wp512:\x00"), make([]byte, 63)...), "x"), tpm2.AlgSHA256, values, codeNoAggregate},
		"boot_aggregate by an unknown hash": {aggregate(append([]byte("wp512:\x00"), good...), bootAggregate), tpm2.AlgSHA256, values, codeUnchecked},
		"no TPM at the time":                {aggregate(append([]byte("sha256:\x00"), make([]byte, 32)...), bootAggregate), tpm2.AlgSHA256, values, codeNoAggregate},
		"another first entry":               {aggregate(good, "/boot_aggregate"), tpm2.AlgSHA256, values, codeNoAggregate},
		"unreadable":                        {aggregate([]byte("?"), bootAggregate), tpm2.AlgSHA256, values, codeNoAggregate},
		"nothing confirmed":                 {&Confirmed{}, tpm2.AlgSHA256, values, codeNoAggregate},
		"a violation":                       {confirm(t, mustParse(t, violation()), tpm2.AlgSHA256), tpm2.AlgSHA256, values, codeNoAggregate},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.c.CheckBootAggregate(func(a tpm2.Alg) map[int][]byte {
				if a != tc.bank {
					return nil
				}
				return tc.values
			})
			reasons := evidence.Reasons(err)
			if tc.want == "" && err != nil || tc.want != "" && (len(reasons) != 1 || reasons[0].Code != tc.want) {
				t.Errorf("CheckBootAggregate = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseSaysWhereAndWhy(t *testing.T) {
	good := entry(PCR, "ima-ng", nil, digestField("a"), name("boot_aggregate"))
	huge := slices.Clone(good)
	binary.LittleEndian.PutUint32(huge[4+20+4+6:], 0xFFFFFFFF)
	longName := slices.Clone(good)
	binary.LittleEndian.PutUint32(longName[4+20:], 0xFFFFFFFF)
	for name, tc := range map[string]struct {
		in   []byte
		want ParseError
	}{
		"empty":                {nil, ParseError{0, 0, ErrEmpty}},
		"no list":              {bytes.Repeat([]byte("x"), 200), ParseError{0, 0, ErrFormat}},
		"unknown template":     {entry(PCR, "ima-xx", nil, nil), ParseError{0, 0, ErrFormat}},
		"16 fields":            {entry(PCR, strings.Repeat("d|", 15)+"d", nil, nil), ParseError{0, 0, ErrFormat}},
		"register 24":          {slices.Concat(good, entry(24, "ima-ng", nil, nil)), ParseError{len(good), 1, ErrRegister}},
		"length of 4 GiB":      {slices.Concat(good, huge), ParseError{len(good), 1, ErrSize}},
		"name of 4 GiB":        {slices.Concat(good, longName), ParseError{len(good), 1, ErrSize}},
		"first entry cut":      {good[:len(good)-1], ParseError{0, 0, ErrShort}},
		"first entry far away": {good[:40], ParseError{0, 0, ErrShort}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Parse(tc.in)
			var got *ParseError
			if !errors.As(err, &got) || l != nil {
				t.Fatalf("Parse = %v, %v, want a ParseError", l, err)
			}
			if got.Offset != tc.want.Offset || got.Entry != tc.want.Entry || !errors.Is(err, tc.want.Err) {
				t.Errorf("Parse = %v, want %v", err, &tc.want)
			}
		})
	}
}

func TestEveryProperPrefixLosesItsLastEntry(t *testing.T) {
	first := entry(PCR, "ima-ng", nil, digestField("a"), name("boot_aggregate"))
	whole := slices.Concat(first, entry(PCR, "ima-sig", nil, digestField("b"), name("/b"), nil))
	for n := range whole {
		l, err := Parse(whole[:n])
		if n < len(first) {
			if err == nil {
				t.Errorf("Parse(%d bytes) succeeds", n)
			}
			continue
		}
		if err != nil || l.Len() != 1 || l.Tail() != n-len(first) {
			t.Errorf("Parse(%d bytes) = %+v, %v, want 1 entry and the rest as tail", n, l, err)
		}
	}
}

func TestASCIIRefusesWhatItCannotGiveBack(t *testing.T) {
	digest, hash := strings.Repeat("00", 20), strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		line string
		want error
	}{
		"ima":                    {"10 " + digest + " ima " + strings.Repeat("ab", 20) + " /init", nil},
		"ima-sig with signature": {"10 " + digest + " ima-sig sha256:" + hash + " /init 0302", nil},
		"ima-sig without":        {"10 " + digest + " ima-sig sha256:" + hash + " /init ", nil},
		"ima-sigv2":              {"10 " + digest + " ima-sigv2 verity:sha256:" + hash + " /init 06", nil},
		"ima-modsig":             {"10 " + digest + " ima-modsig sha256:" + hash + " /init  sha256:" + hash + " 30", nil},
		"too few words":          {"10 " + digest + " ima-ng sha256:" + hash, errLine},
		"digest of no hash":      {"10 00 ima-ng sha256:" + hash + " /init", errLine},
		"digest not hex at all":  {"10 " + strings.Repeat("x", 40) + " ima-ng sha256:" + hash + " /init", errLine},
		"register is text":       {"x " + digest + " ima-ng sha256:" + hash + " /init", errLine},
		"digest is odd":          {"10 0 ima-ng sha256:" + hash + " /init", errLine},
		"a word too many":        {"10 " + digest + " ima-ng sha256:" + hash + " /init x", errLine},
		"template unknown":       {"10 " + digest + " ima-xx sha256:" + hash + " /init", errTemplate},
		"digest without name":    {"10 " + digest + " ima-ng " + hash + " /init", errField},
		"digest not hex":         {"10 " + digest + " ima-ng sha256:xyz /init", errField},
		"short original digest":  {"10 " + digest + " ima abab /init", errField},
		"field without text":     {"10 " + digest + " n|iuid /init 0", errField},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ParseASCII([]byte(tc.line + "\n"))
			if !errors.Is(err, tc.want) {
				t.Fatalf("ParseASCII(%q) = %v, want %v", tc.line, err, tc.want)
			}
			if err != nil {
				return
			}
			for i, e := range l.Entries() {
				f, err := e.Fields()
				if err != nil || f.Name != "/init" || len(f.Digest) == 0 || f.Verity != strings.Contains(tc.line, "verity") {
					t.Errorf("entry %d: %+v, %v, want the digest of /init", i, f, err)
				}
			}
		})
	}
}

func TestCodesAreExplained(t *testing.T) {
	for _, code := range []evidence.Code{codeMismatch, codeData, codeAggregate, codeNoAggregate, codeUnchecked, "ima.malformed"} {
		if !slices.ContainsFunc(evidence.Codes(), func(i evidence.CodeInfo) bool { return i.Code == code }) {
			t.Errorf("code %s is not in the table of package evidence", code)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(slices.Concat(entry(PCR, "ima-ng", nil, digestField("a"), name("boot_aggregate")), violation()))
	f.Add(file(f, "ima/ima-tpm2tss-sml-ima-sha1.bin"))
	f.Add(file(f, "ima/ima-tpm2tss-sml-ima-sig-sha256.bin"))
	f.Add(file(f, "ima/ima-ibmtss-sha512.bin")[:600])
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse(data)
		if err != nil {
			return
		}
		size := l.Tail()
		for _, e := range l.Entries() {
			size += e.size(l.Alg())
			_, _ = e.Fields()
		}
		if size != len(data) {
			t.Errorf("entries and tail have %d bytes of %d", size, len(data))
		}
		v, _ := l.Replay(tpm2.AlgSHA256)
		if c, err := l.Confirm(tpm2.AlgSHA256, v); err == nil {
			c.Report()
		}
	})
}

func FuzzParseASCII(f *testing.F) {
	f.Add([]byte("10 1d8d532d463c9f8c205d0df7787669a85f93e260 ima-ng sha1:0000000000000000000000000000000000000000 boot_aggregate\n"))
	f.Add([]byte("10 1d8d532d463c9f8c205d0df7787669a85f93e260 ima 0000000000000000000000000000000000000000 boot_aggregate\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if l, err := ParseASCII(text); err == nil {
			l.Replay(tpm2.AlgSHA256)
		}
	})
}

func BenchmarkConfirm(b *testing.B) {
	data := file(b, "ima/ima-immune-dl160-fwupd-report.bin")
	l, err := Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	v, _ := l.Replay(tpm2.AlgSHA256)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Confirm(tpm2.AlgSHA256, v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data := file(b, "ima/ima-immune-dl160-fwupd-report.bin")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHostileText reads 1 MiB made to be expensive.
func BenchmarkHostileText(b *testing.B) {
	for name, text := range map[string]string{
		"blanks": strings.Repeat(" ", 1<<20),
		"lines":  strings.Repeat("10 00 n x \n", 1<<20/11),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = ParseASCII([]byte(text))
			}
		})
	}
}
