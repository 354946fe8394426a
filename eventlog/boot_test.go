package eventlog

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

const image = "0123456789abcdef0123456789abcdef"

func img(content string) made {
	return made{pcr: 4, typ: EFIBootServicesApplication, data: image, hashed: content, other: true}
}

var (
	callingEvent   = made{pcr: 4, typ: EFIAction, data: actionCalling}
	returningEvent = made{pcr: 4, typ: EFIAction, data: actionReturning}
	separator4     = made{pcr: 4, typ: Separator, data: separatorZero}
)

func TestBootLoaderAndEarlyValueOfPCR4(t *testing.T) {
	for name, tc := range map[string]struct {
		events []made
		loader string
		early  int // number of events in the early value, 0 for none
	}{
		"from disk":         {[]made{callingEvent, separator4, img("shim"), img("grub"), img("kernel")}, hashOf("shim"), 3},
		"without calling":   {[]made{separator4, img("shim"), img("grub")}, hashOf("shim"), 2},
		"direct kernel":     {[]made{img("kernel"), separator4}, hashOf("kernel"), 2},
		"failed attempt":    {[]made{callingEvent, separator4, img("a"), returningEvent, callingEvent, img("b"), img("c")}, "eventlog.ambiguous", 6},
		"refused attempt":   {[]made{callingEvent, separator4, returningEvent, callingEvent, img("b")}, "eventlog.ambiguous", 5},
		"kernel, then disk": {[]made{img("kernel"), separator4, img("appended")}, "eventlog.ambiguous", 3},
		"no image":          {[]made{callingEvent, separator4}, "eventlog.not-measured", 2},
		"no separator":      {[]made{img("a")}, "eventlog.no-separator", 0},
		"two separators":    {[]made{separator4, img("a"), separator4}, "eventlog.ambiguous", 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "bootLoader"); got != tc.loader {
				t.Errorf("bootLoader: %s, want %s", got, tc.loader)
			}
			l := makeLog(t, tc.events...)
			c, err := confirmOwn(t, l, tpm2.AlgSHA256)
			if err != nil {
				t.Fatal(err)
			}
			if tc.early == 0 {
				if v, ok := c.Early()[4]; ok {
					t.Errorf("early value %x, want none", v)
				}
				return
			}
			want, err := makeLog(t, tc.events[:tc.early]...).Replay(tpm2.AlgSHA256)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.Early()[4], want.Value(4)) {
				t.Errorf("early value of PCR 4 is not that of the first %d events", tc.early)
			}
		})
	}
}

func TestEarlyValuesOfTheOtherRegisters(t *testing.T) {
	sep := func(pcr uint32) made { return made{pcr: pcr, typ: Separator, data: separatorZero} }
	gpt := made{pcr: 5, typ: EFIGPTEvent, data: "table"}
	au := made{pcr: 7, typ: EFIVariableAuthority, data: variable(uefi.ShimLock, "Shim", "x").data}
	for name, tc := range map[string]struct {
		pcr    int
		events []made
		early  int
	}{
		"PCR 0":             {0, []made{{pcr: 0, typ: PostCode, data: "x"}, sep(0), {pcr: 0, typ: PostCode, data: "y"}}, 2},
		"PCR 5 with table":  {5, []made{sep(5), gpt, gpt}, 2},
		"PCR 5 without":     {5, []made{sep(5), {pcr: 5, typ: EFIAction, data: actionExit}}, 1},
		"PCR 7 with":        {7, append(secureBootEvents(), au, au), 7},
		"PCR 7 without":     {7, secureBootEvents(), 6},
		"PCR 7 with action": {7, append(secureBootEvents(), made{pcr: 7, typ: EFIAction, data: actionNoDMA}, au), 6},
		"PCR 6 with no end": {6, []made{{pcr: 6, typ: CompactHash, data: "x"}}, 0},
		"PCR 8":             {8, []made{grubEvent("grub_cmd", "boot")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := confirmOwn(t, makeLog(t, tc.events...), tpm2.AlgSHA256)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := c.Early()[tc.pcr]
			if tc.early == 0 {
				if ok {
					t.Errorf("early value %x, want none", got)
				}
				return
			}
			want, err := makeLog(t, tc.events[:tc.early]...).Replay(tpm2.AlgSHA256)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want.Value(tc.pcr)) {
				t.Errorf("early value is not that of the first %d events", tc.early)
			}
		})
	}
}

func TestSameEarlyBootWithADifferentLateOne(t *testing.T) {
	get := func(name string) *Inspected {
		b, err := parseSample(t, "eventlogs/bios/"+name).Inspect(tpm2.AlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good, ko, again := get("qemu-shim-grub-sb.bin"), get("qemu-shim-grub-sb-tamperedko.bin"), get("qemu-shim-grub-sb-boot2.bin")
	if d := cmp.Diff(good.Early(), ko.Early()); d != "" {
		t.Errorf("early values differ:\n%s", d)
	}
	if d := cmp.Diff(good.Late(), again.Late()); d != "" {
		t.Errorf("late values of two like boots differ:\n%s", d)
	}
	for pcr, v := range good.Late() {
		if same := slices.Equal(v, ko.Late()[pcr]); same == (pcr == 9) {
			t.Errorf("PCR %d: same late value %v, want only PCR 9 to differ", pcr, same)
		}
	}
}
