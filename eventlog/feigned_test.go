package eventlog

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// The tests here are boots that somebody with control of the running system
// dresses up: the types of events and the choice of what is quoted are his.

// imageEvents is a boot of EFI images, of which nothing is known but the digest.
func imageEvents(names ...string) []made {
	out := []made{
		{pcr: 4, typ: EFIAction, data: actionCalling},
		{pcr: 4, typ: Separator, data: separatorZero},
	}
	for _, n := range names {
		out = append(out, made{pcr: 4, typ: EFIBootServicesApplication, data: "path", hashed: n, other: true})
	}
	return out
}

func TestImageCannotHideInPCR4UnderAnotherType(t *testing.T) {
	for name, hide := range map[string]func(*made){
		"unproven":         func(m *made) { m.typ = CompactHash },
		"unknown type":     func(m *made) { m.typ = 0x12345678 },
		"its own content":  func(m *made) { m.typ, m.data = CompactHash, m.hashed },
		"action":           func(m *made) { m.typ, m.data = EFIAction, m.hashed },
		"tag":              func(m *made) { m.typ = EventTag },
		"text of a loader": func(m *made) { m.typ = IPL },
	} {
		t.Run(name, func(t *testing.T) {
			events := imageEvents("MZ\x00evil", "shim", "grub")
			hide(&events[2])
			for _, claim := range []string{"bootImages", "bootLoader"} {
				if got := outcomeOf(t, events, claim); got != "eventlog.unexpected-event" {
					t.Errorf("%s: %s, want it unknown", claim, got)
				}
			}
		})
	}
	if got, want := outcomeOf(t, imageEvents("shim", "grub"), "bootImages"), hashOf("shim")+"\n"+hashOf("grub"); got != want {
		t.Errorf("bootImages: %s, want %s", got, want)
	}
}

func TestAuthorityCannotHideInPCR7UnderAnotherType(t *testing.T) {
	authority := func(name, data string) made {
		m := variable(uefi.ShimLock, name, data)
		m.typ = EFIVariableAuthority
		return m
	}
	old, recent := authority("SbatLevel", "sbat,1,2021030218\n"), authority("SbatLevel", "sbat,1,2025021800\n")
	boot := func(tail ...made) []made { return slices.Concat(secureBootEvents(), tail) }
	if got := outcomeOf(t, boot(old), "sbatLevel"); got != "sbat,1,2021030218" {
		t.Fatalf("sbatLevel: %s, want the one measured", got)
	}
	as := func(typ Type) made { m := old; m.typ = typ; return m }
	for name, tc := range map[string]struct {
		hidden made
		want   string
	}{
		"variable": {as(EFIVariableDriverConfig), "eventlog.ambiguous"},
		"action":   {as(EFIAction), "eventlog.unexpected-event"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, boot(tc.hidden, recent), "sbatLevel"); got != tc.want {
				t.Errorf("sbatLevel: %s, want %s", got, tc.want)
			}
		})
	}
}

// claimWithout is outcomeOf with a quote that leaves out some registers, whose
// events the log then leaves out as well.
func claimWithout(t testing.TB, events []made, claim string, left ...int) string {
	t.Helper()
	kept := slices.DeleteFunc(slices.Clone(events), func(m made) bool { return slices.Contains(left, int(m.pcr)) })
	l := makeLog(t, kept...)
	r, err := l.Replay(tpm2.AlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[int][]byte{}
	for pcr := range maxPCR {
		quoted[pcr] = r.Value(pcr)
	}
	maps.DeleteFunc(quoted, func(pcr int, _ []byte) bool { return slices.Contains(left, pcr) })
	c, err := l.Confirm(tpm2.AlgSHA256, quoted)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Claims()[claim]
	if !got.Value.Known() {
		return string(got.Reason)
	}
	return got.Value.String()
}

func TestBootCannotBeFeignedByLeavingItsRegistersOutOfTheQuote(t *testing.T) {
	grub := append(imageEvents("shim", "grub", "kernel"), grubEvent("grub_cmd", "linux /vmlinuz init=/bin/sh"))
	uki := append(imageEvents("uki"), sectionEvents(".linux", "k")...)
	for name, tc := range map[string]struct {
		events []made
		claim  string
		left   []int
	}{
		"GRUB's boot as one of systemd-boot": {append(slices.Clone(grub), made{pcr: 12, typ: IPL, data: utf16le("quiet")}), "kernelDebug", []int{8}},
		"GRUB's boot as one of a UKI":        {append(slices.Clone(grub), sectionEvents(".linux", "good")...), "kernel", []int{8}},
		"a UKI's boot as one of GRUB":        {append(slices.Clone(uki), grubEvent("grub_cmd", "linux /vmlinuz quiet")), "kernelCommandLine", []int{11, 12}},
		"GRUB's boot as one of Windows":      {append(slices.Clone(grub), windowsEvents(t)...), "testSigning", []int{8, 9}},
		"a UKI's boot as one of Windows":     {append(slices.Clone(uki), windowsEvents(t)...), "testSigning", []int{11}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := claimWithout(t, tc.events, tc.claim, tc.left...); got != "eventlog.pcr-not-quoted" {
				t.Errorf("%s: %s, want it unknown", tc.claim, got)
			}
		})
	}
}

// windowsEvents are those of PCR 12 to 14 of a good Windows boot.
func windowsEvents(t testing.TB) (out []made) {
	t.Helper()
	for e := range parseSample(t, "eventlogs/adversarial/adv-win-minimal-good.bin").All() {
		if e.PCR >= 12 && e.PCR <= 14 {
			out = append(out, made{pcr: e.PCR, typ: e.Type, data: string(e.Data)})
		}
	}
	return out
}

func TestBootCannotBeFeignedByOtherTypes(t *testing.T) {
	grub := grubEvent("grub_cmd", "linux /vmlinuz init=/bin/sh")
	hidden := made{pcr: 8, typ: IPL, data: "x", hashed: grub.hashed, other: true}
	many := []made{grub}
	for i := range maxKernels {
		many = append(many, grubEvent("grub_cmd", "linux /vmlinuz "+string(rune('a'+i))))
	}
	uki := sectionEvents(".linux", "k")
	for i := range uki {
		uki[i].typ = CompactHash
	}
	for name, tc := range map[string]struct {
		events []made
		claim  string
	}{
		"command of GRUB hidden, then a UKI":         {append([]made{hidden}, sectionEvents(".linux", "good")...), "kernel"},
		"more kernels than are listed, then a UKI":   {slices.Concat(many, sectionEvents(".linux", "good")), "kernel"},
		"more kernels than are listed, then Windows": {slices.Concat(many, windowsEvents(t)), "testSigning"},
		"UKI, then a command of GRUB":                {append(slices.Clone(uki), grubEvent("grub_cmd", "linux /vmlinuz quiet")), "kernelCommandLine"},
		"UKI, then Windows":                          {slices.Concat(uki, windowsEvents(t)), "testSigning"},
		"EFI stub of the kernel, then Windows":       {append(windowsEvents(t), made{pcr: 9, typ: EventTag, data: "x"}), "testSigning"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, tc.claim); got != "eventlog.ambiguous" {
				t.Errorf("%s: %s, want it unknown", tc.claim, got)
			}
		})
	}
}

// The stub measures into PCR 12 what it appends to the command line of its image or
// takes in its place: the section's digest is then not that of the whole line.
func TestDigestOfABuiltInCommandLineStandsAlone(t *testing.T) {
	uki := slices.Concat(imageEvents("uki"), sectionEvents(".linux", "k"), sectionEvents(".cmdline", "quiet"))
	added := made{pcr: 12, typ: IPL, data: "i\x00n\x00i\x00t\x00=\x00/\x00b\x00i\x00n\x00/\x00s\x00h\x00"}
	sum := sha256.Sum256([]byte("quiet"))
	for name, tc := range map[string]struct {
		events []made
		want   string
	}{
		"alone":            {uki, hex.EncodeToString(sum[:])},
		"with an addition": {append(slices.Clone(uki), added), "eventlog.ambiguous"},
		"without one":      {slices.Concat(imageEvents("uki"), sectionEvents(".linux", "k")), "eventlog.not-measured"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := outcomeOf(t, tc.events, "kernelCommandLine.digest"); got != tc.want {
				t.Errorf("kernelCommandLine.digest: %s, want %s", got, tc.want)
			}
			if got := outcomeOf(t, tc.events, "kernelDebug"); got == "false" {
				t.Error("kernelDebug is false of a command line that the log does not have")
			}
		})
	}
}
