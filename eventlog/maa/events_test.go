package maa_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/maa"
	"github.com/assay-project/assay/policy/query"
	"github.com/assay-project/assay/tpm2"
)

func sum(data []byte) []byte { d := sha256.Sum256(data); return d[:] }

// The library policy permits the recorded boots with Secure Boot and Defender's
// driver, and denies the others: Secure Boot off or unknown, another vendor's driver,
// a wake from hibernation, feigned Windows events, SHA-1.
func TestRecordedBootsOfWindowsUnderTheLibraryPolicy(t *testing.T) {
	for name, want := range map[string]bool{
		honest: true, "win-dell-r340-sb-on-a.bin": true, "win-dell-r340-sb-on-trustpoint.bin": true, "win-hp1.bin": true, "win-t480s-sb-on.bin": true, "win-p511-vbs.bin": true, "win-yogax1v2.bin": true,
		"win-ideapad1.bin": false, "win-dell1.bin": false, "win-latitude-sb-off-eset.bin": false, "win-latitude-coldboot.bin": false, "win-latitude-vbs-hvci.bin": false,
		"win-supermicro-defender.bin": false, "win-supermicro-defender-b.bin": false, "win-supermicro-osload-quote.bin": false,
		"win-latitude-resume-chain-0.bin": false, "win-latitude-resume-chain-1.bin": false, "win-latitude-resume-chain-4.bin": false,
		"adv-win-minimal-good.bin": false, "adv-win-good-after-separator.bin": false, "adv-win-elam-recursion.bin": false,
	} {
		if got := library(t, events(t, sample(t, name), tpm2.AlgSHA256)); got != want {
			t.Errorf("%s: permitted %v, want %v", name, got, want)
		}
	}
	if got := events(t, sample(t, "win-gcp-shielded-vm-sb-on.bin"), tpm2.AlgSHA1); got != "" {
		t.Errorf("a SHA-1 bank gives %.100s", got)
	}
}

// edit changes the records of the honest boot and returns the claim of the new log.
func edit(t *testing.T, change func([]record) []record) string {
	t.Helper()
	return events(t, encode(change(records(t, sample(t, honest)))), tpm2.AlgSHA256)
}

// first returns the index of the first tagged event of PCR 12 or 13 whose data
// contains part, and where.
func first(t *testing.T, all []record, part []byte) (i, at int) {
	t.Helper()
	for i, r := range all {
		if at := bytes.Index(r.data, part); at >= 0 && r.typ == eventlog.EventTag && r.pcr >= 12 {
			return i, at
		}
	}
	t.Fatalf("no tagged event contains %x", part)
	return 0, 0
}

func TestEveryAlterationOfAnHonestBootIsDenied(t *testing.T) {
	if !library(t, edit(t, func(all []record) []record { return all })) {
		t.Fatal("the honest boot is denied")
	}
	secureBoot := func(r record) bool {
		return r.pcr == 7 && r.typ == eventlog.EFIVariableDriverConfig && bytes.Contains(r.data, []byte("S\x00e\x00c\x00u\x00r\x00e\x00B\x00o\x00o\x00t"))
	}
	measured := func(pcr uint32, data []byte) func([]record) []record {
		return func(all []record) []record {
			end := slices.IndexFunc(all, func(r record) bool { return r.pcr == pcr && r.typ == eventlog.Separator })
			return slices.Insert(all, end, record{pcr, eventlog.EventTag, nil, data})
		}
	}
	alterations := map[string]func([]record) []record{
		"Secure Boot off": func(all []record) []record {
			i := slices.IndexFunc(all, secureBoot)
			data := bytes.Clone(all[i].data)
			data[len(data)-1] = 0
			all[i] = record{7, all[i].typ, nil, data}
			return all
		},
		"Secure Boot twice": func(all []record) []record {
			i := slices.IndexFunc(all, secureBoot)
			return slices.Insert(all, i, all[i])
		},
		"Secure Boot not measured": func(all []record) []record { return slices.DeleteFunc(all, secureBoot) },
		"a variable in disguise": func(all []record) []record {
			i := slices.IndexFunc(all, func(r record) bool { return r.pcr == 7 })
			return slices.Insert(all, i, record{7, eventlog.IPL, nil, []byte("something")})
		},
		"no owner of Secure Boot": func(all []record) []record {
			i := slices.IndexFunc(all, func(r record) bool {
				return r.pcr == 7 && r.typ == eventlog.EFIVariableDriverConfig && bytes.Contains(r.data[:40], []byte("P\x00K\x00"))
			})
			data := bytes.Clone(all[i].data[:16+8+8+4])
			binary.LittleEndian.PutUint64(data[24:], 0)
			all[i] = record{7, all[i].typ, nil, data}
			return all
		},
		"a tagged event of another type": func(all []record) []record {
			i, _ := first(t, all, []byte{3, 0, 5, 0})
			all[i].typ = eventlog.IPL
			return all
		},
		"a tagged event in Linux's register": func(all []record) []record {
			return append(all, record{8, eventlog.IPL, sum([]byte("linux /vmlinuz")), []byte("grub_cmd: linux /vmlinuz\x00")})
		},
		"no end of PCR 12": func(all []record) []record {
			return slices.DeleteFunc(all, func(r record) bool { return r.pcr == 12 && r.typ == eventlog.Separator })
		},
		"test signing stated again":     measured(13, boundary(tag(0x00050003, []byte{1}))),
		"both values in one boundary":   measured(12, boundary(tag(0x00050003, []byte{0}), tag(0x00050003, []byte{1}))),
		"one value twice in a boundary": measured(12, boundary(tag(0x00050003, []byte{0}), tag(0x00050003, []byte{0}))),
		"two boundaries in an event":    measured(12, append(boundary(tag(0x00050003, []byte{0})), boundary(tag(0x00050003, []byte{1}))...)),
		"a boolean of 2":                measured(12, boundary(tag(0x00050003, []byte{2}))),
		"a boolean of no bytes":         measured(12, boundary(tag(0x00050003, nil))),
		"a number of three bytes":       measured(12, boundary(tag(0x00020009, []byte{1, 2, 3}))),
		"a number above 63 bits":        measured(12, boundary(tag(0x00020009, bytes.Repeat([]byte{0xff}, 8)))),
		"a text of odd length":          measured(13, boundary(tag(0x40010003, tag(0x00070001, []byte{65})))),
		"a tag that is cut":             measured(12, boundary(tag(0x00050003, []byte{0}))[:12]),
		"too many tags":                 measured(12, boundary(bytes.Repeat(tag(0x00050077, nil), 5000))),
		"too many tags in all": func(all []record) []record {
			for range 5 {
				all = measured(12, boundary(bytes.Repeat(tag(0x00050077, nil), 4000)))(all)
			}
			return all
		},
	}
	for id, value := range map[uint32]byte{0x00050002: 0, 0x00040001: 1, 0x00050001: 1, 0x00050003: 1} { // CODEINTEGRITY, BOOTDEBUGGING, OSKERNELDEBUG, TESTSIGNING
		alterations["flag "+string(rune('0'+id&0xf))+" of "+string(rune('0'+id>>16))] = func(all []record) []record {
			i, at := first(t, all, binary.LittleEndian.AppendUint32(nil, id))
			data := bytes.Clone(all[i].data)
			data[at+8] = value
			all[i] = record{all[i].pcr, all[i].typ, nil, data}
			return all
		}
	}
	alterations["the driver has another name"] = func(all []record) []record {
		for i := range all {
			if all[i].pcr == 13 && all[i].typ == eventlog.EventTag {
				data := bytes.ReplaceAll(all[i].data, []byte("W\x00d\x00B\x00o\x00o\x00t\x00"), []byte("X\x00d\x00B\x00o\x00o\x00t\x00"))
				all[i] = record{13, eventlog.EventTag, nil, data}
			}
		}
		return all
	}
	for name, change := range alterations {
		if text := edit(t, change); library(t, text) {
			t.Errorf("%s: permitted with %.2000s", name, text)
		}
	}
}

func TestDataThatNoDigestCoversIsNoClaim(t *testing.T) {
	all := records(t, sample(t, honest))
	i, at := first(t, all, []byte{3, 0, 5, 0})
	all[i].data = bytes.Clone(all[i].data)
	all[i].data[at+8] ^= 1
	if c, err := confirm(t, encode(all), tpm2.AlgSHA256); err == nil {
		t.Errorf("a tagged event whose digest is of other data is confirmed: %v", c)
	}
	if text, ok := maa.Events(nil); ok || text != "" {
		t.Errorf("Events(nil) = %q", text)
	}
	if text, ok := maa.Events(new(eventlog.Confirmed)); ok || text != "" {
		t.Errorf("Events of the zero Confirmed = %q", text)
	}
}

func TestARegisterOutsideTheQuoteIsNotThere(t *testing.T) {
	l, err := eventlog.Parse(sample(t, honest))
	if err != nil {
		t.Fatal(err)
	}
	regs, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, missing := range []int{7, 8, 11, 12, 13, 14} {
		quoted := map[int][]byte{}
		for pcr := range 24 {
			if pcr != missing {
				quoted[pcr] = regs.Value(pcr)
			}
		}
		c, err := l.Confirm(tpm2.AlgSHA256, quoted)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := maa.Events(c)
		if !ok || library(t, text) {
			t.Errorf("without PCR %d: permitted or nothing proven", missing)
		}
		if got := ask(t, text, "length(Events[?PcrIndex == `"+strconv.Itoa(missing)+"`])"); got != "0" {
			t.Errorf("without PCR %d there are %s events of it", missing, got)
		}
	}
}

func ask(t *testing.T, text, what string) string {
	t.Helper()
	q, err := query.Compile(what)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := query.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	m := query.NewMeter()
	out, err := q.Run(&m, doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatTheClaimSaysOfWindows(t *testing.T) {
	text := events(t, sample(t, honest), tpm2.AlgSHA256)
	const tags = "Events[?EventTypeString == 'EV_EVENT_TAG'].ProcessedData.EVENT_TRUSTBOUNDARY"
	for what, want := range map[string]string{
		"Events[?ProcessedData.UnicodeName == 'SecureBoot'].[PcrIndex, EventTypeString, ProcessedData.VariableGuid, ProcessedData.VariableData]": `[[7,"EV_EFI_VARIABLE_DRIVER_CONFIG","8BE4DF61-93CA-11D2-AA0D-00E098032B8C","AQ"]]`,
		tags + "[].EVENT_BITLOCKER_UNLOCK | [?Value != `0`].Value | [0]":                                                                         `4`,
		tags + "[].EVENT_VBS_HVCI_POLICY | @[?String == 'HypervisorEnforcedCodeIntegrityEnable'].Value | length(@) > `0`":                        `true`,
		tags + "[].EVENT_DATAEXECUTIONPREVENTION.Value | [0]":                                                                                    `0`,
		tags + "[].EVENT_VBS_VSM_REQUIRED | [0]":                                                                                                 `true`,
		tags + "[].EVENT_TRANSFER_CONTROL.Value | contains(@, `1`)":                                                                              `true`,
		tags + "[].EVENT_SI_POLICY[].RawData | length(@) > `0`":                                                                                  `true`,
		tags + "[].EVENT_APPLICATION_SVN | [0] == `1`":                                                                                           `true`,
		tags + "[].EVENT_LOADEDMODULE_AGGREGATION[] | [?ends_with(not_null(EVENT_FILEPATH, ''), 'WdBoot.sys')] | [0].EVENT_IMAGEVALIDATED":       `true`,
		"length(Events[?EventTypeString == 'EV_SEPARATOR' && (PcrIndex == `12` || PcrIndex == `13` || PcrIndex == `14`)])":                       `3`,
		"Events[?EventTypeString == 'EV_EFI_BOOT_SERVICES_APPLICATION']":                                                                         `[]`,
		"Events[?ProcessedData && !EventTypeString]":                                                                                             `[]`,
		"length(Events[?!Digests.SHA256])":                                                                                                       `0`,
	} {
		if got := ask(t, text, what); got != want {
			t.Errorf("%s = %s, want %s", what, got, want)
		}
	}
}

func TestALinuxBootStatesItsVariablesAndNothingOfWindows(t *testing.T) {
	text := events(t, sample(t, "gce-ubuntu-2404-amd-sevsnp.bin"), tpm2.AlgSHA256)
	for what, want := range map[string]string{
		"Events[?EventTypeString == 'EV_EFI_VARIABLE_DRIVER_CONFIG' && PcrIndex == `7`].ProcessedData.UnicodeName": `["SecureBoot","PK","KEK","db","dbx"]`,
		"Events[?EventTypeString == 'EV_EVENT_TAG']":                                                               `[]`,
		"Events[?PcrIndex == `8` && (EventTypeString || ProcessedData)]":                                           `[]`,
		"length(Events[?PcrIndex == `8`]) > `0`":                                                                   `true`,
	} {
		if got := ask(t, text, what); got != want {
			t.Errorf("%s = %s, want %s", what, got, want)
		}
	}
	if library(t, text) {
		t.Error("a Linux boot is permitted as Windows")
	}
	// Windows events that a Linux boot appends state nothing.
	all := records(t, sample(t, "gce-ubuntu-2404-amd-sevsnp.bin"))
	for _, pcr := range []uint32{12, 13, 14} {
		all = append(all, record{pcr, eventlog.EventTag, nil, boundary(tag(0x00050002, []byte{1}))}, record{pcr, eventlog.Separator, nil, []byte("WBCL")})
	}
	text = events(t, encode(all), tpm2.AlgSHA256)
	if got := ask(t, text, "Events[?EventTypeString == 'EV_EVENT_TAG']"); got != "[]" {
		t.Errorf("feigned events of Windows: %s", got)
	}
}

func TestTheClaimIsBounded(t *testing.T) {
	var all []record
	for range 7 {
		all = append(all, record{4, eventlog.EFIAction, nil, []byte("Calling EFI Application from Boot Option")})
	}
	if text := events(t, encode(all), tpm2.AlgSHA256); !strings.Contains(text, "EV_EFI_ACTION") {
		t.Errorf("events = %s", text)
	}
	name := binary.LittleEndian.AppendUint64(make([]byte, 16), 1)
	large := append(append(binary.LittleEndian.AppendUint64(name, 100<<10), 'x', 0), make([]byte, 100<<10)...)
	log := records(t, sample(t, honest))
	at := slices.IndexFunc(log, func(r record) bool { return r.pcr == 7 })
	for range 9 {
		log = slices.Insert(log, at, record{7, eventlog.EFIVariableDriverConfig, nil, large})
	}
	if text := events(t, encode(log), tpm2.AlgSHA256); len(text) > 2<<20 {
		t.Errorf("claim of %d bytes", len(text))
	}
}

func FuzzEvents(f *testing.F) {
	all := records(f, sample(f, honest))
	for _, r := range all {
		if r.typ == eventlog.EventTag {
			f.Add(uint32(12), r.data)
		}
	}
	f.Fuzz(func(t *testing.T, pcr uint32, data []byte) {
		log := slices.Insert(slices.Clone(all), 0, record{pcr % 24, eventlog.EventTag, nil, data})
		l, err := eventlog.Parse(encode(log))
		if err != nil {
			return
		}
		if _, err := l.Replay(tpm2.AlgSHA256); err != nil {
			return
		}
		c, err := confirm(t, encode(log), tpm2.AlgSHA256)
		if err != nil {
			return
		}
		text, ok := maa.Events(c)
		if !ok {
			return
		}
		if _, err := query.Parse(text); err != nil {
			t.Fatalf("events = %q: %v", text, err)
		}
		// No further event makes the boot better than what Windows measured.
		if library(t, text) && strings.Contains(text, `"EVENT_TESTSIGNING":true`) {
			t.Fatalf("permitted with %s", text)
		}
	})
}

func TestWhatComesAfterTheEndOrFromAnotherBootStatesNothing(t *testing.T) {
	const tags = "length(Events[?EventTypeString == 'EV_EVENT_TAG'])"
	before := ask(t, events(t, sample(t, honest), tpm2.AlgSHA256), tags)
	for name, r := range map[string]record{
		"behind the end of PCR 12":           {12, eventlog.EventTag, nil, boundary(tag(0x00050003, []byte{1}))},
		"data of PCR 20 that was not hashed": {20, eventlog.EventTag, sum([]byte("other")), tag(0x000C0002, []byte{1})},
	} {
		text := edit(t, func(all []record) []record { return append(all, r) })
		if got := ask(t, text, tags); got != before {
			t.Errorf("%s: %s tagged events, want %s", name, got, before)
		}
	}
	if got := ask(t, events(t, sample(t, "win-latitude-resume-chain-1.bin"), tpm2.AlgSHA256), tags); got != "0" {
		t.Errorf("a wake from hibernation states %s tagged events", got)
	}
}

// Nothing closes PCR 19 to 22: software with a locality above 0 could tell there what
// the boot did not measure, or deny what it did.
func TestOpenRegistersOfADynamicLaunchStateNothing(t *testing.T) {
	driver := boundary(tag(0x40010003, slices.Concat(tag(0x00070001, wide(`\windows\system32\drivers\wdboot.sys`)), tag(0x0007000A, []byte{1}))))
	without := func(what, other []byte) func([]record) []record {
		return func(all []record) []record {
			for i := range all {
				if r := all[i]; r.typ == eventlog.EventTag && r.pcr >= 12 {
					all[i] = record{r.pcr, r.typ, nil, bytes.ReplaceAll(r.data, what, other)}
				}
			}
			return all
		}
	}
	id := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	for name, tc := range map[string]struct {
		hide  func([]record) []record
		feign []byte
	}{
		"the driver":     {without([]byte("W\x00d\x00B\x00o\x00o\x00t\x00"), []byte("X\x00d\x00B\x00o\x00o\x00t\x00")), driver},
		"code integrity": {without(id(0x00050002), id(0x00050077)), boundary(tag(0x00050002, []byte{1}))},
		"test signing":   {without(id(0x00050003), id(0x00050077)), boundary(tag(0x00050003, []byte{0}))},
	} {
		for pcr := uint32(19); pcr <= 22; pcr++ {
			text := edit(t, func(all []record) []record {
				return append(tc.hide(all), record{pcr, eventlog.EventTag, nil, tc.feign})
			})
			if library(t, text) {
				t.Errorf("%s, told by PCR %d alone: permitted", name, pcr)
			}
			if got := ask(t, text, "length(Events[?PcrIndex == `"+strconv.Itoa(int(pcr))+"` && (EventTypeString || ProcessedData)])"); got != "0" {
				t.Errorf("%s: PCR %d states %s events", name, pcr, got)
			}
		}
	}
	// What contradicts the boot, or cannot be read, leaves nothing to believe: also not
	// that Windows did not wake.
	for name, data := range map[string][]byte{"another value": boundary(tag(0x00050003, []byte{1})), "no container": tag(0x00050003, []byte{0}), "cut": {1}} {
		text := edit(t, func(all []record) []record { return append(all, record{19, eventlog.EventTag, nil, data}) })
		if got := ask(t, text, "Events[?EventTypeString == 'EV_EVENT_TAG']"); got != "[]" {
			t.Errorf("%s in PCR 19: stated are %.200s", name, got)
		}
	}
	// No open register takes a wake from hibernation back.
	woken := append(records(t, sample(t, "win-latitude-resume-chain-1.bin")), record{20, eventlog.EventTag, nil, boundary(tag(0x00020003, []byte{1, 0, 0, 0, 0, 0, 0, 0}))})
	if got := ask(t, events(t, encode(woken), tpm2.AlgSHA256), "Events[?EventTypeString == 'EV_EVENT_TAG']"); got != "[]" {
		t.Errorf("a wake that PCR 20 denies: stated are %.200s", got)
	}
	// What a dynamic launch measures has a version of its own, which contradicts nothing.
	same := boundary(tag(0x00050003, []byte{0}), tag(0x00020009, []byte{0x77, 0, 0, 0, 0, 0, 0, 0}))
	if text := edit(t, func(all []record) []record {
		return append(all, record{19, eventlog.EventTag, nil, same}, record{20, eventlog.EventTag, nil, same})
	}); !library(t, text) {
		t.Error("a dynamic launch that says the same is denied")
	}
}
