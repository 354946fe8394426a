package eventlog

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// made is an event of a log that a test makes. Without digest it is that of data.
type made struct {
	pcr    uint32
	typ    Type
	data   string
	hashed string // what was hashed, if not data
	other  bool   // hashed is to be used, even when empty
}

// makeLog lays out a crypto agile log with a SHA-256 bank.
func makeLog(t testing.TB, events ...made) *Log {
	t.Helper()
	l, err := Parse(makeLogBytes(events...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func makeLogBytes(events ...made) []byte {
	le := binary.LittleEndian
	spec := append([]byte(specIDSignature), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = le.AppendUint32(spec, 1)
	spec = le.AppendUint16(spec, uint16(tpm2.AlgSHA256))
	spec = le.AppendUint16(spec, 32)
	spec = append(spec, 0)
	b := le.AppendUint32(nil, 0)
	b = le.AppendUint32(b, uint32(NoAction))
	b = append(b, make([]byte, 20)...)
	b = le.AppendUint32(b, uint32(len(spec)))
	b = append(b, spec...)
	for _, e := range events {
		hashed := e.data
		if e.other {
			hashed = e.hashed
		}
		var d [tpm2.MaxDigest]byte
		sum(tpm2.AlgSHA256, d[:], []byte(hashed))
		b = le.AppendUint32(b, e.pcr)
		b = le.AppendUint32(b, uint32(e.typ))
		b = le.AppendUint32(b, 1)
		b = le.AppendUint16(b, uint16(tpm2.AlgSHA256))
		b = append(b, d[:32]...)
		b = le.AppendUint32(b, uint32(len(e.data)))
		b = append(b, e.data...)
	}
	return b
}

func utf16le(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// variable makes an event of PCR 7.
func variable(vendor uefi.GUID, name, data string) made {
	b := append([]byte{}, vendor[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	return made{pcr: 7, typ: EFIVariableDriverConfig, data: string(b) + utf16le(name) + data}
}

// keyList is a signature list with one digest.
var keyList = func() string {
	b, _ := hex.DecodeString("2616c4c14c509240aca941f936934328" + "4c000000" + "00000000" + "30000000")
	return string(append(b, make([]byte, 48)...))
}()

// secureBootEvents is PCR 7 of a machine with Secure Boot on.
func secureBootEvents() []made {
	return []made{
		variable(uefi.GlobalVariable, "SecureBoot", "\x01"),
		variable(uefi.GlobalVariable, "PK", keyList),
		variable(uefi.GlobalVariable, "KEK", keyList),
		variable(uefi.ImageSecurityDatabase, "db", keyList),
		variable(uefi.ImageSecurityDatabase, "dbx", keyList),
		{pcr: 7, typ: Separator, data: separatorZero},
	}
}

// confirmOwn confirms a log against its own replay.
func confirmOwn(t testing.TB, l *Log, a tpm2.Alg) (*Confirmed, error) {
	t.Helper()
	r, err := l.Replay(a)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[int][]byte{}
	for pcr := range maxPCR {
		quoted[pcr] = r.Value(pcr)
	}
	return l.Confirm(a, quoted)
}

// outcomeOf names a claim's value, or why it is unknown, or the refusal.
func outcomeOf(t testing.TB, events []made, claim string) string {
	t.Helper()
	c, err := confirmOwn(t, makeLog(t, events...), tpm2.AlgSHA256)
	if err != nil {
		return "refused: " + strings.Join(codesOf(err), " ")
	}
	got := c.Claims()[claim]
	if !got.Value.Known() {
		return string(got.Reason)
	}
	return got.Value.String()
}

func TestSecureBootRules(t *testing.T) {
	change := func(f func([]made) []made) []made { return f(secureBootEvents()) }
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"on":            {secureBootEvents(), "true"},
		"off":           {change(func(e []made) []made { e[0] = variable(uefi.GlobalVariable, "SecureBoot", "\x00"); return e }), "false"},
		"not supported": {change(func(e []made) []made { e[0] = variable(uefi.GlobalVariable, "SecureBoot", ""); return e }), "false"},
		"value 2":       {change(func(e []made) []made { e[0] = variable(uefi.GlobalVariable, "SecureBoot", "\x02"); return e }), "eventlog.inconsistent"},
		"two bytes":     {change(func(e []made) []made { e[0] = variable(uefi.GlobalVariable, "SecureBoot", "\x01\x01"); return e }), "eventlog.inconsistent"},
		"no variable":   {change(func(e []made) []made { return e[1:] }), "eventlog.not-measured"},
		"no PK":         {change(func(e []made) []made { return slices.Delete(e, 1, 2) }), "eventlog.inconsistent"},
		"empty PK":      {change(func(e []made) []made { e[1] = variable(uefi.GlobalVariable, "PK", ""); return e }), "eventlog.inconsistent"},
		"empty KEK":     {change(func(e []made) []made { e[2] = variable(uefi.GlobalVariable, "KEK", ""); return e }), "eventlog.inconsistent"},
		"empty db":      {change(func(e []made) []made { e[3] = variable(uefi.ImageSecurityDatabase, "db", ""); return e }), "eventlog.inconsistent"},
		"unreadable db": {change(func(e []made) []made { e[3] = variable(uefi.ImageSecurityDatabase, "db", "x"); return e }), "eventlog.signature-list-malformed"},
		"no dbx":        {change(func(e []made) []made { return slices.Delete(e, 4, 5) }), "true"},
		"PK of another vendor": {change(func(e []made) []made {
			e[1] = variable(uefi.ShimLock, "PK", keyList)
			return e
		}), "eventlog.inconsistent"},
		"SecureBoot of another vendor": {change(func(e []made) []made {
			e[0] = variable(uefi.ImageSecurityDatabase, "SecureBoot", "\x01")
			return e
		}), "eventlog.not-measured"},
		"variable twice":    {change(func(e []made) []made { return slices.Insert(e, 1, e[0]) }), "eventlog.ambiguous"},
		"no separator":      {change(func(e []made) []made { return e[:5] }), "eventlog.no-separator"},
		"two separators":    {change(func(e []made) []made { return append(e, e[5]) }), "eventlog.ambiguous"},
		"separator of ones": {change(func(e []made) []made { e[5].data = separatorOnes; return e }), "true"},
		"odd separator":     {change(func(e []made) []made { e[5].data = "\x02\x00\x00\x00"; return e }), "eventlog.unexpected-event"},
		"error separator":   {change(func(e []made) []made { e[5].data = separatorError; return e }), "refused: eventlog.error-separator"},
		"debug mode":        {change(func(e []made) []made { return slices.Insert(e, 5, made{pcr: 7, typ: EFIAction, data: actionDebug}) }), "eventlog.inconsistent"},
		"debug mode, disguised": {change(func(e []made) []made {
			return slices.Insert(e, 5, made{pcr: 7, typ: EFIAction, data: "x", hashed: actionDebug, other: true})
		}), "refused: eventlog.reserved-digest"},
		"unexpected type":      {change(func(e []made) []made { return append(e, made{pcr: 7, typ: IPL, data: "x"}) }), "eventlog.unexpected-event"},
		"no variable in event": {change(func(e []made) []made { e[4].data = "x"; return e }), "eventlog.variable-malformed"},
		"value alone was hashed": {change(func(e []made) []made {
			e[0].hashed, e[0].other = "\x01", true
			return e
		}), "eventlog.unproven-data"},
		"data is not what was hashed": {change(func(e []made) []made {
			e[0].hashed, e[0].other = "another", true
			return e
		}), "refused: eventlog.data-mismatch"},
		"variable after the separator": {change(func(e []made) []made {
			return append(e, variable(uefi.ImageSecurityDatabase, "db", keyList))
		}), "refused: eventlog.variable-after-separator"},
		"other variable after the separator": {change(func(e []made) []made {
			return append(e, variable(uefi.ShimLock, "MokList", keyList))
		}), "true"},
		"separator under another type": {change(func(e []made) []made { e[5].typ = EFIVariableAuthority; return e }), "refused: eventlog.reserved-digest"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "secureBoot"); got != tc.want {
				t.Errorf("secureBoot: %s, want %s", got, tc.want)
			}
		})
	}
}

// grubEvent is a text as GRUB measures and logs it.
func grubEvent(label, text string) made {
	return made{pcr: 8, typ: IPL, data: label + ": " + text + "\x00", hashed: text, other: true}
}

func TestCommandLineCannotBeFeignedInPCR8(t *testing.T) {
	evil := []made{grubEvent("grub_cmd", "linux /vmlinuz evil"), grubEvent("kernel_cmdline", "/vmlinuz evil")}
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"as GRUB does": {evil, "/vmlinuz evil"},
		"quotes": {[]made{
			grubEvent("grub_cmd", "linux /vmlinuz dyndbg=file a +p"), grubEvent("kernel_cmdline", `/vmlinuz "dyndbg=file a +p"`),
		}, `/vmlinuz "dyndbg=file a +p"`},
		"older label": {[]made{
			{pcr: 8, typ: IPL, data: "grub_cmd linux /vmlinuz a\x00", hashed: "linux /vmlinuz a\x00", other: true},
			{pcr: 8, typ: IPL, data: "grub_kernel_cmdline /vmlinuz a\x00", hashed: "/vmlinuz a\x00", other: true},
		}, "/vmlinuz a"},
		"no command": {[]made{grubEvent("kernel_cmdline", "/vmlinuz good")}, "eventlog.not-measured"},
		"label changed, good one appended": {[]made{
			evil[0], grubEvent("grub_cmd", "/vmlinuz evil"), grubEvent("kernel_cmdline", "/vmlinuz good"),
		}, "/vmlinuz evil"},
		"good command appended": {slices.Concat(evil, []made{
			grubEvent("grub_cmd", "linux /vmlinuz good"), grubEvent("kernel_cmdline", "/vmlinuz good"),
		}), "eventlog.ambiguous"},
		"type changed": {[]made{
			{pcr: 8, typ: CompactHash, data: evil[0].data, hashed: evil[0].hashed, other: true},
			grubEvent("grub_cmd", "linux /vmlinuz good"), grubEvent("kernel_cmdline", "/vmlinuz good"),
		}, "eventlog.unproven-data"},
		"proven event of another type": {append(slices.Clone(evil), made{pcr: 8, typ: EFIAction, data: "x"}), "eventlog.unproven-data"},
		"text hidden": {[]made{
			{pcr: 8, typ: IPL, data: "x", hashed: evil[0].hashed, other: true},
			grubEvent("grub_cmd", "linux /vmlinuz good"), grubEvent("kernel_cmdline", "/vmlinuz good"),
		}, "eventlog.unproven-data"},
		"appended to a stub's boot":  {append(sectionEvents(".linux", "k"), evil...), "eventlog.ambiguous"},
		"appended to systemd-boot's": {append([]made{{pcr: 12, typ: IPL, data: utf16le("good")}}, evil...), "eventlog.ambiguous"},
		"text lies": {[]made{
			{pcr: 8, typ: IPL, data: "kernel_cmdline: /vmlinuz good\x00", hashed: "/vmlinuz evil", other: true},
		}, "refused: eventlog.data-mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "kernelCommandLine"); got != tc.want {
				t.Errorf("kernelCommandLine: %s, want %s", got, tc.want)
			}
		})
	}
}

// sectionEvents is one section as systemd-stub measures and logs it.
func sectionEvents(name, content string) []made {
	return []made{
		{pcr: 11, typ: IPL, data: utf16le(name + "\x00"), hashed: name + "\x00", other: true},
		{pcr: 11, typ: IPL, data: utf16le(name + "\x00"), hashed: content, other: true},
	}
}

func hashOf(s string) string {
	var d [tpm2.MaxDigest]byte
	sum(tpm2.AlgSHA256, d[:], []byte(s))
	return hex.EncodeToString(d[:32])
}

func TestSectionsOfAUnifiedKernelImage(t *testing.T) {
	good := slices.Concat(sectionEvents(".linux", "k"), sectionEvents(".osrel", "o"), sectionEvents(".initrd", "i"))
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"in order":           {good, hashOf("k")},
		"one appended":       {slices.Concat(good, sectionEvents(".cmdline", "c")), "eventlog.unproven-data"},
		"same appended":      {slices.Concat(good, sectionEvents(".initrd", "j")), "eventlog.unproven-data"},
		"odd number":         {good[:5], "eventlog.unproven-data"},
		"unknown section":    {slices.Concat(good, sectionEvents(".evil", "j")), "eventlog.unproven-data"},
		"name not measured":  {slices.Concat([]made{{pcr: 11, typ: IPL, data: good[0].data, hashed: "x", other: true}}, good[1:]), "eventlog.unproven-data"},
		"other type":         {slices.Concat(good, []made{{pcr: 11, typ: CompactHash, data: "x"}, {pcr: 11, typ: CompactHash, data: "x"}}), "eventlog.unproven-data"},
		"none":               {[]made{{pcr: 4, typ: IPL, data: "x"}}, "eventlog.not-measured"},
		"appended to GRUB's": {append([]made{grubEvent("grub_cmd", "linux /vmlinuz a")}, good...), "eventlog.ambiguous"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "kernel"); got != tc.want {
				t.Errorf("kernel: %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCommandLineOfSystemdBoot(t *testing.T) {
	line := made{pcr: 12, typ: IPL, data: utf16le("quiet kgdboc=ttyS0\x00")}
	other := made{pcr: 12, typ: IPL, data: utf16le("other")}
	hidden := made{pcr: 12, typ: IPL, data: utf16le("quiet"), hashed: "x", other: true}
	linux := sectionEvents(".linux", "k")
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"alone":            {[]made{line}, "quiet kgdboc=ttyS0"},
		"twice the same":   {[]made{line, line}, "quiet kgdboc=ttyS0"},
		"two":              {[]made{line, other}, "eventlog.ambiguous"},
		"not what it says": {[]made{hidden}, "eventlog.unproven-data"},
		"credential too":   {[]made{line, {pcr: 12, typ: EventTag, data: "x"}}, "eventlog.unproven-data"},
		"with a UKI":       {append(slices.Clone(linux), line), "quiet kgdboc=ttyS0"},
		"in the UKI":       {slices.Concat(linux, sectionEvents(".cmdline", "c"), []made{line}), "eventlog.digest-only"},
		"broken UKI":       {append(slices.Clone(linux[:1]), line), "eventlog.unproven-data"},
		"none":             {linux, "eventlog.not-measured"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "kernelCommandLine"); got != tc.want {
				t.Errorf("kernelCommandLine: %s, want %s", got, tc.want)
			}
		})
	}
	if got := outcomeOf(t, []made{line}, "kernelDebug"); got != "true" {
		t.Errorf("kernelDebug: %s, want true", got)
	}
}

func TestOpenRegistersCannotSupplyWhatFirmwareLeftOut(t *testing.T) {
	table := made{pcr: 5, typ: EFIGPTEvent, data: "table"}
	version := made{pcr: 0, typ: SCRTMVersion, data: "1"}
	done := made{pcr: 5, typ: EFIAction, data: actionExitDone}
	end := made{pcr: 0, typ: Separator, data: separatorZero}
	for name, tc := range map[string]struct {
		events []made
		claim  string
		want   string
	}{
		"table before the end":        {[]made{table, done}, "partitionTable", hashOf("table")},
		"table after the end":         {[]made{done, table}, "partitionTable", "eventlog.not-measured"},
		"table that was not hashed":   {[]made{{pcr: 5, typ: EFIGPTEvent, data: "x", hashed: "y", other: true}, table}, "partitionTable", "eventlog.unproven-data"},
		"version before separator":    {[]made{version, end}, "firmwareVersion", "1"},
		"version after separator":     {[]made{end, version}, "firmwareVersion", "eventlog.not-measured"},
		"version that was not hashed": {[]made{{pcr: 0, typ: SCRTMVersion, data: "2", hashed: "y", other: true}, end}, "firmwareVersion", "eventlog.unproven-data"},
	} {
		if got := outcomeOf(t, tc.events, tc.claim); got != tc.want {
			t.Errorf("%s: %s = %s, want %s", name, tc.claim, got, tc.want)
		}
	}
}

func TestDebugFlagsAreFound(t *testing.T) {
	for line, want := range map[string]struct {
		debug bool
		flags string
	}{
		"/vmlinuz root=/dev/sda ro quiet":               {false, ""},
		"init=/usr/lib/systemd/systemd":                 {false, ""},
		"init=/bin/sh":                                  {true, "init=/bin/sh"},
		`"init=/bin/sh"`:                                {true, "init=/bin/sh"},
		"rd.break=pre-mount module.sig_enforce=0":       {true, "rd.break=pre-mount module.sig_enforce=0"},
		"module.sig_enforce=1 lockdown=integrity":       {false, ""},
		"mitigations=off lockdown=none":                 {false, "mitigations=off lockdown=none"},
		"systemd.debug_shell systemd.debug_shell=0":     {true, "systemd.debug_shell"},
		"kgdboc=ttyS0,115200 kgdbwait ima_appraise=log": {true, "kgdboc=ttyS0,115200 kgdbwait ima_appraise=log"},
	} {
		debug, flags := debugFlags(line)
		if debug != want.debug || strings.Join(flags, " ") != want.flags {
			t.Errorf("debugFlags(%q) = %v, %q, want %v, %q", line, debug, flags, want.debug, want.flags)
		}
	}
}

// shuffled permutes the events of a log across registers: each register keeps
// its own order, which is all that the TPM knows.
func shuffled(l *Log, rng *rand.Rand) []byte {
	all := l.Events()
	head, rest := all[:1], all[1:]
	queues := map[uint32][]Event{}
	var order []uint32
	for _, e := range rest {
		queues[e.PCR] = append(queues[e.PCR], e)
		order = append(order, e.PCR)
	}
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	out := slices.Clone(l.data[:l.start])
	_ = head
	for _, pcr := range order {
		e := queues[pcr][0]
		queues[pcr] = queues[pcr][1:]
		out = binary.LittleEndian.AppendUint32(out, e.PCR)
		out = binary.LittleEndian.AppendUint32(out, uint32(e.Type))
		out = binary.LittleEndian.AppendUint32(out, uint32(l.nAlgs))
		out = append(out, e.digests...)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(e.Data)))
		out = append(out, e.Data...)
	}
	return out
}

// TestOrderBetweenRegistersNeverMatters permutes the events of recorded boots:
// verdict, claims, early and late values stay.
func TestOrderBetweenRegistersNeverMatters(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{
		"vmboot/good-shim-grub/eventlog.bin", "vmboot/good-uki/eventlog.bin", "vmboot/bad-uki-unsigned/eventlog.bin",
		"eventlogs/bios/win-latitude-vbs-hvci.bin", "eventlogs/bios/gce-ubuntu-2404-amd-sevsnp.bin",
		"eventlogs/bios/linux-uki-pcr11-mismatch.bin", "eventlogs/adversarial/adv-app-after-ebs.bin",
		"eventlogs/adversarial/adv-pcr7-masquerade-unused.bin", "eventlogs/adversarial/adv-win-good-after-separator.bin",
	} {
		t.Run(name, func(t *testing.T) {
			l := parseSample(t, name)
			want, wantErr := confirmOwn(t, l, tpm2.AlgSHA256)
			for range 20 {
				m, err := Parse(shuffled(l, rng))
				if err != nil {
					t.Fatal(err)
				}
				got, err := confirmOwn(t, m, tpm2.AlgSHA256)
				if d := cmp.Diff(codesOf(wantErr), codesOf(err)); d != "" {
					t.Fatalf("verdict changed:\n%s", d)
				}
				if err != nil {
					continue
				}
				if d := cmp.Diff(want.Claims(), got.Claims(), cmp.AllowUnexported(evidence.Value{})); d != "" {
					t.Fatalf("claims changed:\n%s", d)
				}
				if d := cmp.Diff(want.Early(), got.Early()); d != "" {
					t.Fatalf("early values changed:\n%s", d)
				}
				if d := cmp.Diff(want.Late(), got.Late()); d != "" {
					t.Fatalf("late values changed:\n%s", d)
				}
			}
		})
	}
}

func TestWindowsEventsCountOnlyWhereWindowsMadeThem(t *testing.T) {
	all := parseSample(t, "eventlogs/adversarial/adv-win-minimal-good.bin").Events()
	var windows []made
	for _, e := range all {
		if e.PCR >= 12 && e.PCR <= 14 {
			windows = append(windows, made{pcr: e.PCR, typ: e.Type, data: string(e.Data)})
		}
	}
	change := func(f func([]made) []made) []made { return f(slices.Clone(windows)) }
	isEnd := func(m made) bool { return m.data == wbclMarker }
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"as made":            {windows, "false"},
		"no end of register": {change(func(e []made) []made { return slices.DeleteFunc(e, isEnd) }), "eventlog.no-separator"},
		"other type before the end": {change(func(e []made) []made {
			return slices.Insert(e, 0, made{pcr: 12, typ: IPL, data: "x"})
		}), "eventlog.unexpected-event"},
		"tag that hides what was hashed": {change(func(e []made) []made {
			return slices.Insert(e, 0, made{pcr: 12, typ: EventTag, data: "\xec\x22\x3b\x8f\x00\x00\x00\x00", hashed: "x", other: true})
		}), "eventlog.unexpected-event"},
		"data changed": {change(func(e []made) []made {
			e[0].hashed, e[0].other = "x", true
			return e
		}), "refused: eventlog.data-mismatch"},
		"Linux as well": {append(change(func(e []made) []made { return e }), grubEvent("grub_cmd", "linux /vmlinuz a")), "eventlog.ambiguous"},
		"end disguised": {change(func(e []made) []made {
			i := slices.IndexFunc(e, isEnd)
			e[i].typ = EventTag
			return e
		}), "refused: eventlog.reserved-digest"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "testSigning"); got != tc.want {
				t.Errorf("testSigning: %s, want %s", got, tc.want)
			}
		})
	}
}

func TestReservedDigestsAreCheckedBothWays(t *testing.T) {
	for i := range reservedContents {
		r := &reservedContents[i]
		for pcr := range uint32(16) {
			if r.pcrs&(1<<pcr) == 0 {
				continue
			}
			disguised := outcomeOf(t, []made{{pcr: pcr, typ: CompactHash, data: r.content}}, "secureBoot")
			if disguised != "refused: eventlog.reserved-digest" {
				t.Errorf("PCR %d, %q under another type: %s", pcr, r.content, disguised)
			}
			relabelled := outcomeOf(t, []made{{pcr: pcr, typ: r.typ, data: "other", hashed: r.content, other: true}}, "secureBoot")
			if relabelled != "refused: eventlog.reserved-digest" {
				t.Errorf("PCR %d, %q with other data: %s", pcr, r.content, relabelled)
			}
			lie := outcomeOf(t, []made{{pcr: pcr, typ: r.typ, data: r.content, hashed: "other", other: true}}, "secureBoot")
			if lie != "refused: eventlog.data-mismatch" {
				t.Errorf("PCR %d, %q that was not hashed: %s", pcr, r.content, lie)
			}
		}
	}
}
