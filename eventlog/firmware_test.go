package eventlog

import (
	"slices"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// separators are those of PCR 0 to 7, each with the text.
func separators(text string) (out []made) {
	for pcr := range uint32(8) {
		out = append(out, made{pcr: pcr, typ: Separator, data: text})
	}
	return out
}

// inspected names a claim's value over the log's own replay, or why it is unknown.
func inspected(t testing.TB, events []made, claim string) string {
	t.Helper()
	b, err := makeLog(t, events...).Inspect(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	got := b.Claims()[claim]
	if !got.Value.Known() {
		return string(got.Reason)
	}
	return got.Value.String()
}

// A log with an error of the firmware is refused; what its claims say is what a person
// reads of it.
func TestFirmwareClaims(t *testing.T) {
	without := func(pcr uint32) []made {
		return slices.DeleteFunc(separators(separatorZero), func(m made) bool { return m.pcr == pcr })
	}
	with := func(pcr uint32, m made) []made { return append(without(pcr), m) }
	action := func(text string) made { return made{pcr: 5, typ: EFIAction, data: text} }
	type row struct {
		events []made
		claim  string
		want   string
	}
	cases := map[string]row{
		"no error, zeros":                {separators(separatorZero), "firmwareError", "false"},
		"no error, ones":                 {separators(separatorOnes), "firmwareError", "false"},
		"no separator at all":            {nil, "firmwareError", "eventlog.no-separator"},
		"an odd separator":               {with(3, made{pcr: 3, typ: Separator, data: "\x02\x00\x00\x00"}), "firmwareError", "eventlog.no-separator"},
		"an error that was not hashed":   {with(3, made{pcr: 3, typ: Separator, data: separatorError, hashed: "other", other: true}), "firmwareError", "eventlog.no-separator"},
		"an error alone":                 {[]made{{pcr: 2, typ: Separator, data: separatorError}}, "firmwareError", "true"},
		"the text of an error in PCR 8":  {append(separators(separatorZero), made{pcr: 8, typ: Separator, data: separatorError}), "firmwareError", "false"},
		"left":                           {[]made{action(actionExit), action(actionExitDone)}, "exitBootServices", "true"},
		"left after a failure":           {[]made{action(actionExit), action(actionExitFail), action(actionExitDone)}, "exitBootServices", "true"},
		"tried to leave":                 {[]made{action(actionExit)}, "exitBootServices", "eventlog.not-measured"},
		"failed to leave":                {[]made{action(actionExit), action(actionExitFail)}, "exitBootServices", "eventlog.not-measured"},
		"left, in another register":      {[]made{{pcr: 4, typ: EFIAction, data: actionExitDone}}, "exitBootServices", "eventlog.not-measured"},
		"left, not hashed":               {[]made{{pcr: 5, typ: EFIAction, data: actionExitDone, hashed: "other", other: true}}, "exitBootServices", "eventlog.not-measured"},
		"DMA protection never mentioned": {secureBootEvents(), "dmaProtection", "eventlog.not-measured"},
		"DMA protection off":             {slices.Insert(secureBootEvents(), 5, made{pcr: 7, typ: EFIAction, data: actionNoDMA}), "dmaProtection", "false"},
		"DMA protection off, not hashed": {slices.Insert(secureBootEvents(), 5, made{pcr: 7, typ: EFIAction, data: actionNoDMA, hashed: "other", other: true}), "dmaProtection", "eventlog.unexpected-event"},
		"DMA protection off, in PCR 7 that is not believed": {
			append(secureBootEvents(), made{pcr: 7, typ: EFIAction, data: actionNoDMA}, made{pcr: 7, typ: IPL, data: "x"}), "dmaProtection", "eventlog.unexpected-event",
		},
	}
	for pcr := range uint32(8) {
		name := " in PCR " + string(rune('0'+pcr))
		cases["no separator"+name] = row{without(pcr), "firmwareError", "eventlog.no-separator"}
		cases["an error"+name] = row{with(pcr, made{pcr: pcr, typ: Separator, data: separatorError}), "firmwareError", "true"}
		cases["an error beside a separator"+name] = row{append(separators(separatorZero), made{pcr: pcr, typ: Separator, data: separatorError}), "firmwareError", "true"}
	}
	for name, tc := range cases {
		if got := inspected(t, tc.events, tc.claim); got != tc.want {
			t.Errorf("%s: %s = %s, want %s", name, tc.claim, got, tc.want)
		}
	}
	// Where nothing refuses the log, a quote gives the same.
	for _, name := range []string{"no error, zeros", "left", "tried to leave", "DMA protection off", "DMA protection never mentioned"} {
		if tc := cases[name]; outcomeOf(t, tc.events, tc.claim) != tc.want {
			t.Errorf("%s, quoted: %s = %s, want %s", name, tc.claim, outcomeOf(t, tc.events, tc.claim), tc.want)
		}
	}
}

// Each claim of the firmware needs every register that it rests on.
func TestFirmwareClaimsNeedTheirRegisters(t *testing.T) {
	events := append(separators(separatorZero)[:7], slices.Insert(secureBootEvents(), 5, made{pcr: 7, typ: EFIAction, data: actionNoDMA})...)
	events = append(events, made{pcr: 5, typ: EFIAction, data: actionExitDone})
	for claim, pcrs := range map[string][]int{
		"firmwareError": {0, 1, 2, 3, 4, 5, 6, 7}, "exitBootServices": {5}, "dmaProtection": {7},
	} {
		for pcr := range 8 {
			got := claimWithout(t, events, claim, pcr)
			if needed := slices.Contains(pcrs, pcr); (got == "eventlog.pcr-not-quoted") != needed {
				t.Errorf("%s without PCR %d: %s", claim, pcr, got)
			}
		}
	}
}

// An error of the firmware leaves PCR 7 without a meaning, with and without a
// separator that says that all is well.
func TestErrorOfTheFirmwareLeavesSecureBootUnknown(t *testing.T) {
	failed := made{pcr: 7, typ: Separator, data: separatorError}
	for name, events := range map[string][]made{
		"in place of the separator": append(secureBootEvents()[:5], failed),
		"before the separator":      slices.Insert(secureBootEvents(), 5, failed),
		"after the separator":       append(secureBootEvents(), failed),
	} {
		for _, claim := range []string{"secureBoot", "firmwareDebug", "dmaProtection", "secureBootKeys.db.digest", "sbatLevel"} {
			if got := inspected(t, events, claim); got != "eventlog.error-separator" {
				t.Errorf("%s: %s = %s, want it unknown", name, claim, got)
			}
		}
	}
}

// Only PCR 5 may lack the end of the boot services; another register with the same
// events too many is another boot.
func TestOnlyPCR5IsCompletedWithTheEndOfBootServices(t *testing.T) {
	l := parseSample(t, "vmboot/good-shim-grub/eventlog.bin")
	r, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	for pcr := range 15 {
		if pcr == 5 || pcr == 10 || !r.Extended(pcr) {
			continue
		}
		longer := r
		for _, text := range []string{actionExit, actionExitDone} {
			var d [tpm2.MaxDigest]byte
			sum(r.alg, d[:], []byte(text))
			longer.extend(uint32(pcr), d[:r.size])
		}
		// PCR 5 as it would be completed, so that only the register's number decides.
		for what, quoted := range map[string]map[int][]byte{
			"its own value and the end": {pcr: longer.Value(pcr)},
			"the value of PCR 5":        {pcr: completed(t, l)},
		} {
			if c, err := l.Confirm(tpm2.AlgSHA256, quoted); c != nil || !slices.Equal(codesOf(err), []string{"eventlog.replay-mismatch"}) {
				t.Errorf("PCR %d with %s: Confirm = %v, %v, want a replay mismatch", pcr, what, c, err)
			}
		}
	}
}

// completed is PCR 5 of the log with the end of the boot services once more.
func completed(t testing.TB, l *Log) []byte {
	t.Helper()
	r, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{actionExit, actionExitDone} {
		var d [tpm2.MaxDigest]byte
		sum(r.alg, d[:], []byte(text))
		r.extend(5, d[:r.size])
	}
	return r.Value(5)
}

func TestWindowsEventsNeedEachOfTheirRegisters(t *testing.T) {
	windows := windowsEvents(t)
	for _, pcr := range []int{12, 13, 14} {
		if got := claimWithout(t, windows, "testSigning", pcr); got != "eventlog.pcr-not-quoted" {
			t.Errorf("without PCR %d: testSigning = %s, want it unknown", pcr, got)
		}
		isEnd := func(m made) bool { return m.pcr == uint32(pcr) && m.data == wbclMarker }
		open := slices.DeleteFunc(slices.Clone(windows), isEnd)
		if got := outcomeOf(t, open, "testSigning"); got != "eventlog.no-separator" {
			t.Errorf("without the end of PCR %d: testSigning = %s, want it unknown", pcr, got)
		}
		// What follows the end changes nothing: anybody can append it.
		for what, m := range map[string]made{
			"another type":                    {pcr: uint32(pcr), typ: IPL, data: "x"},
			"a tag that hides what it hashed": {pcr: uint32(pcr), typ: EventTag, data: "\xec\x22\x3b\x8f\x00\x00\x00\x00", hashed: "x", other: true},
			"test signing on":                 {pcr: uint32(pcr), typ: EventTag, data: testSigningOn},
		} {
			if got := outcomeOf(t, append(slices.Clone(windows), m), "testSigning"); got != "false" {
				t.Errorf("%s behind the end of PCR %d: testSigning = %s, want false", what, pcr, got)
			}
			// Before the end each of them counts.
			end := slices.IndexFunc(windows, isEnd)
			if got := outcomeOf(t, slices.Insert(slices.Clone(windows), end, m), "testSigning"); got == "false" {
				t.Errorf("%s before the end of PCR %d: testSigning is still false", what, pcr)
			}
		}
	}
	if got := outcomeOf(t, windows, "testSigning"); got != evidence.Bool(false).String() {
		t.Errorf("testSigning = %s, want false", got)
	}
}

// testSigningOn is a trust boundary of Windows that says so.
const testSigningOn = "\x01\x00\x01\x40\x09\x00\x00\x00" + "\x03\x00\x05\x00\x01\x00\x00\x00\x01"

// states is the last word on what the claim "events" says; errors are refused long
// before, so that it is asked here by itself.
func TestOnlyProvenMarkersAreStated(t *testing.T) {
	event := func(pcr uint32, typ Type, data string, cover coverage) *judged {
		return &judged{Event: Event{PCR: pcr, Type: typ, Data: []byte(data)}, cover: cover}
	}
	for name, tc := range map[string]struct {
		j               *judged
		variables, tags bool
		want            bool
	}{
		"separator of PCR 0":                   {event(0, Separator, separatorZero, coverWhole), false, false, true},
		"separator of ones":                    {event(6, Separator, separatorOnes, coverWhole), false, false, true},
		"separator of an error":                {event(0, Separator, separatorError, coverWhole), true, true, false},
		"separator of an error in PCR 7":       {event(7, Separator, separatorError, coverWhole), true, true, false},
		"separator of something else":          {event(0, Separator, "x", coverWhole), true, true, false},
		"separator that was not hashed":        {event(0, Separator, separatorZero, coverLie), true, true, false},
		"separator of PCR 7":                   {event(7, Separator, separatorZero, coverWhole), true, false, true},
		"separator of a PCR 7 not believed":    {event(7, Separator, separatorZero, coverWhole), false, true, false},
		"separator of the firmware in PCR 8":   {event(8, Separator, separatorZero, coverWhole), true, true, false},
		"end of PCR 12":                        {event(12, Separator, wbclMarker, coverWhole), false, true, true},
		"end of a PCR 12 not believed":         {event(12, Separator, wbclMarker, coverWhole), true, false, false},
		"separator of the firmware in PCR 12":  {event(12, Separator, separatorZero, coverWhole), true, true, false},
		"action of PCR 4":                      {event(4, EFIAction, actionCalling, coverWhole), false, false, true},
		"action of PCR 7":                      {event(7, EFIAction, actionDebug, coverWhole), true, true, false},
		"variable":                             {event(7, EFIVariableDriverConfig, "x", coverWhole), true, false, true},
		"variable of a PCR 7 not believed":     {event(7, EFIVariableDriverConfig, "x", coverWhole), false, true, false},
		"variable in PCR 1":                    {event(1, EFIVariableDriverConfig, "x", coverWhole), true, true, false},
		"tagged event of PCR 13":               {event(13, EventTag, "x", coverWhole), false, true, true},
		"tagged event of Windows not believed": {event(13, EventTag, "x", coverWhole), true, false, false},
		"tagged event of PCR 11":               {event(11, EventTag, "x", coverWhole), true, true, false},
	} {
		if got := tc.j.states(tc.variables, tc.tags); got != tc.want {
			t.Errorf("%s: stated %v, want %v", name, got, tc.want)
		}
	}
}
