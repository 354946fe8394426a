package baseline_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/tpm2"
)

func TestScenariosDifferAsTheManifestSays(t *testing.T) {
	gcePasses := []string{"good-shim-grub", "good-uki", "bad-grub-cfg", "bad-cmdline", "bad-initrd"}
	for _, s := range scenarios(t) {
		t.Run(s.Name, func(t *testing.T) {
			b := baseline.From(confirmed(t, "vmboot/"+s.Expected.Baseline), baseline.Shape{})
			boot := confirmed(t, "vmboot/"+s.Name)
			c := b.Compare(boot, baseline.Default())
			// PCR 10 differs with each list of IMA and is confirmed by that list.
			want := append([]int{}, slices.DeleteFunc(slices.Clone(s.Expected.Differing), func(pcr int) bool { return pcr == 10 })...)
			if diff := cmp.Diff(want, pcrsOf(c.Differences)); diff != "" {
				t.Errorf("PCRs that differ (-want +got):\n%s", diff)
			}
			if got, want := c.Passed(), s.Expected.Verdict == "trusted"; got != want {
				t.Errorf("Compare(default): early %t, late %t; manifest: %s", c.EarlyPassed, c.LatePassed, s.Expected.Verdict)
			}
			for _, d := range c.Differences {
				if d.Words == "" || d.Cause == "" || d.Action == "" {
					t.Errorf("difference without words: %+v", d)
				}
			}
			c = b.Compare(boot, baseline.GCE())
			if got, want := c.Passed(), slices.Contains(gcePasses, s.Name); got != want {
				t.Errorf("Compare(gce): early %t, late %t; want passed %t", c.EarlyPassed, c.LatePassed, want)
			}
		})
	}
}

func TestOneMachineOverFourBoots(t *testing.T) {
	b := baseline.From(confirmed(t, "vmboot/persist/boot1"), baseline.Shape{})
	for dir, want := range map[string][]int{"boot1": {}, "boot2": {}, "boot3": {4, 9, 11}, "boot4": {4, 7}} {
		c := b.Compare(confirmed(t, "vmboot/persist/"+dir), baseline.Default())
		if diff := cmp.Diff(want, pcrsOf(c.Differences)); diff != "" {
			t.Errorf("%s: PCRs that differ (-want +got):\n%s", dir, diff)
		}
	}
}

// TestDriftOfRealMachines holds pairs of boots: what differs, what of it decides,
// and the pair of results of each profile.
func TestDriftOfRealMachines(t *testing.T) {
	type result struct {
		Early, Late       bool
		Differing, Judged []int
	}
	none := []int{}
	for _, tc := range []struct {
		before, after string
		def, gce      result
	}{
		{"linux-elitebook-drift-before", "linux-elitebook-drift-after-update", result{true, false, []int{4, 8, 9}, []int{4, 8, 9}}, result{true, false, []int{4, 8, 9}, []int{4}}},
		{"linux-elitebook-mokx-baseline", "linux-elitebook-mokx-added", result{true, false, []int{1, 14}, []int{14}}, result{true, true, []int{1, 14}, none}},
		{"linux-elitebook-mokx-added", "linux-elitebook-mokx-deleted", result{true, false, []int{14}, []int{14}}, result{true, true, []int{14}, none}},
		{"linux-elitebook-mokx-baseline", "linux-elitebook-mokx-deleted", result{true, true, []int{1}, none}, result{true, true, []int{1}, none}},
		{"qemu-shim-grub-sb", "qemu-shim-grub-sb-boot2", result{true, true, none, none}, result{true, true, none, none}},
		{"qemu-uki-sb", "qemu-uki-sb-boot2", result{true, true, none, none}, result{true, true, none, none}},
		{"qemu-shim-grub-sb", "qemu-shim-grub-sb-tamperedko", result{true, false, []int{9}, []int{9}}, result{true, true, []int{9}, none}},
		{"qemu-uki-sb", "qemu-uki-nosb", result{false, false, []int{4, 7}, []int{4, 7}}, result{false, false, []int{4, 7}, []int{4, 7}}},
		// Of Windows PCR 12 holds counters; of another boot only it differs.
		{"win-latitude-resume-chain-1", "win-latitude-resume-chain-2", result{true, true, []int{12}, none}, result{true, true, []int{12}, none}},
		{"win-supermicro-defender", "win-supermicro-defender-b", result{true, true, []int{1, 12}, none}, result{true, true, []int{1, 12}, none}},
		{"win-latitude-resume-chain-0", "win-latitude-coldboot", result{false, false, []int{7, 12}, []int{7}}, result{false, false, []int{7, 12}, []int{7}}},
		{"win-latitude-coldboot", "win-latitude-vbs-hvci", result{false, false, []int{0, 1, 12, 13, 14}, []int{0, 13, 14}}, result{true, false, []int{0, 1, 12, 13, 14}, []int{13, 14}}},
		// Another system altogether.
		{"linux-elitebook-a", "win-latitude-coldboot", result{false, false, []int{0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}, []int{0, 2, 4, 7, 8, 9, 11, 12, 13, 14}}, result{false, false, []int{0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}, []int{4, 7}}},
	} {
		t.Run(tc.before+" "+tc.after, func(t *testing.T) {
			b := baseline.From(inspect(t, "eventlogs/bios/"+tc.before+".bin"), baseline.Shape{})
			boot := inspect(t, "eventlogs/bios/"+tc.after+".bin")
			for _, p := range []struct {
				profile baseline.Profile
				want    result
			}{{baseline.Default(), tc.def}, {baseline.GCE(), tc.gce}} {
				c := b.Compare(boot, p.profile)
				got := result{c.EarlyPassed, c.LatePassed, pcrsOf(c.Differences), pcrsOf(c.Judged())}
				if diff := cmp.Diff(p.want, got); diff != "" {
					t.Errorf("profile %s (-want +got):\n%s", p.profile.Name, diff)
				}
			}
		})
	}
}

func TestWordsNameTheComponent(t *testing.T) {
	for name, want := range map[string][]string{
		"bad-cmdline":  {`kernel command line in PCR 8 changed: "/vmlinuz console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1" -> "/vmlinuz console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1 audit=0 apparmor=0"`},
		"bad-grub-cfg": {`GRUB command in PCR 8 was added: "set pwned=1"`, `(hd0,gpt1)/EFI/debian/grub.cfg in PCR 9 (name as the log gives it) changed: c7d070e3f2bcf8ce -> 5ba14cb730bab7c6`},
		"bad-initrd":   {`initrd (/initrd.img) in PCR 9 (name as the log gives it) changed: ccea57e927614fb2 -> c181f93eb3e183c4`},
		"bad-db-extra-key": {
			`db in PCR 7 changed: "2 certificates, 0 hashes" -> "3 certificates, 0 hashes; cd6b7357d1677b49e7481273f2b52d1033dee1949233423d49fce66e6a84ddc2 Example rogue"`,
			`db certificate Example rogue in PCR 7 was added`,
		},
		"bad-secureboot-off": {`PCR 7 (secure boot) changed: 75677db6f14082d3 -> b926225ac488e9c5`},
	} {
		base := "good-shim-grub"
		if name == "bad-db-extra-key" {
			base = "good-uki"
		}
		b := baseline.From(confirmed(t, "vmboot/"+base), baseline.Shape{})
		c := b.Compare(confirmed(t, "vmboot/"+name), baseline.Default())
		for _, w := range want {
			if !slices.ContainsFunc(c.Differences, func(d baseline.Difference) bool { return strings.HasPrefix(d.Words, w) }) {
				t.Errorf("%s: no difference says %q; got:", name, w)
				for _, d := range c.Differences {
					t.Errorf("    %s", d.Words)
				}
			}
		}
	}
}

// A fake is a boot made of components alone; its values are their replay.
type fake struct {
	components []eventlog.Component
	hidden     []int          // registers that are not confirmed
	forced     map[int][]byte // values that the components do not explain
	bank       tpm2.Alg
}

func (f fake) Bank() tpm2.Alg {
	if f.bank == 0 {
		return tpm2.AlgSHA256
	}
	return f.bank
}

func (f fake) Confirms(pcr int) bool { return !slices.Contains(f.hidden, pcr) }

func (f fake) Components() []eventlog.Component { return f.components }

func (f fake) Early() map[int][]byte { return f.replay(false) }

func (f fake) Late() map[int][]byte {
	out := f.replay(true)
	maps.Copy(out, f.forced)
	return out
}

func (f fake) replay(late bool) map[int][]byte {
	out := map[int][]byte{}
	for _, c := range f.components {
		if c.Late && !late || c.Kind == eventlog.KindModule || !f.Confirms(c.PCR) {
			continue
		}
		v := out[c.PCR]
		if v == nil {
			v = make([]byte, 32)
		}
		sum := sha256.Sum256(slices.Concat(v, c.Digest))
		out[c.PCR] = sum[:]
	}
	return out
}

func component(pcr int, kind, content string, late bool) eventlog.Component {
	sum := sha256.Sum256([]byte(content))
	return eventlog.Component{PCR: pcr, Kind: kind, Name: kind, Digest: sum[:], Late: late, Proven: true}
}

func parts(names ...eventlog.Component) fake { return fake{components: names} }

func TestEachRegisterDecidesAsItsProfileSays(t *testing.T) {
	good := parts(component(4, "boot-loader", "a", false))
	for _, tc := range []struct {
		pcr                                  int
		late                                 bool
		defEarly, defLate, gceEarly, gceLate bool
	}{
		{0, false, false, true, true, true},
		{0, true, true, false, true, true},
		{1, false, true, true, true, true},
		{2, false, false, true, true, true},
		{2, true, true, false, true, true},
		{3, false, false, true, true, true},
		{3, true, true, false, true, true},
		{4, false, false, false, false, false},
		{4, true, true, false, true, false},
		{5, false, true, true, true, true},
		{5, true, true, false, true, true},
		{6, false, true, true, true, true},
		{7, false, false, false, false, false},
		{7, true, true, false, true, false},
		{8, true, true, false, true, true},
		{9, true, true, false, true, true},
		{10, true, true, true, true, true},
		{11, true, true, false, true, true},
		{12, true, true, false, true, true},
		{13, true, true, false, true, true},
		{14, true, true, false, true, true},
		{15, true, true, true, true, true},
		{16, true, true, true, true, true},
		{23, true, true, true, true, true},
	} {
		boot := parts(append(slices.Clone(good.components), component(tc.pcr, "other", "new", tc.late))...)
		b := baseline.From(good, baseline.Shape{})
		d, g := b.Compare(boot, baseline.Default()), b.Compare(boot, baseline.GCE())
		if d.EarlyPassed != tc.defEarly || d.LatePassed != tc.defLate || g.EarlyPassed != tc.gceEarly || g.LatePassed != tc.gceLate {
			t.Errorf("event added to PCR %d, late %t: default %t/%t, gce %t/%t; want %+v", tc.pcr, tc.late, d.EarlyPassed, d.LatePassed, g.EarlyPassed, g.LatePassed, tc)
		}
	}
}

func TestWhatIsNotKnownDoesNotPass(t *testing.T) {
	good := parts(component(4, "boot-loader", "a", false))
	without7 := good
	without7.hidden = []int{7}
	other := good
	other.bank = tpm2.AlgSHA512
	unexplained := good
	unexplained.forced = map[int][]byte{8: bytes.Repeat([]byte{1}, 32)}
	whole := baseline.From(good, baseline.Shape{})
	// A baseline made without a log has no events; a register without events is not like it.
	values := parts(component(4, "boot-loader", "a", false), component(8, "config", "x", true)).Late()
	for _, pcr := range baseline.Default().Required(whole) {
		if values[pcr] == nil {
			values[pcr] = make([]byte, 32)
		}
	}
	logless := baseline.From(baseline.FromValues(tpm2.AlgSHA256, values), baseline.Shape{})
	for name, tc := range map[string]struct {
		b      *baseline.Baseline
		boot   baseline.Boot
		p      baseline.Profile
		change string
	}{
		"register not quoted":              {whole, without7, baseline.Default(), baseline.ChangeNotQuoted},
		"register not in baseline":         {baseline.From(without7, baseline.Shape{}), good, baseline.Default(), baseline.ChangeNotCovered},
		"neither":                          {baseline.From(without7, baseline.Shape{}), without7, baseline.Default(), baseline.ChangeNotCovered},
		"another bank":                     {whole, other, baseline.Default(), baseline.ChangeBank},
		"profile without registers":        {whole, good, baseline.Profile{}, baseline.ChangeNoJudgement},
		"baseline of nothing":              {&baseline.Baseline{}, &baseline.Values{}, baseline.Default(), baseline.ChangeBank},
		"no event where a value was":       {logless, good, baseline.Default(), baseline.ChangeValue},
		"value that no event leads to":     {whole, unexplained, baseline.Default(), baseline.ChangeValue},
		"value known, baseline with event": {whole, baseline.FromValues(tpm2.AlgSHA256, unexplained.Late()), baseline.Default(), baseline.ChangeNotQuoted},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.b.Compare(tc.boot, tc.p)
			if c.Passed() || !slices.ContainsFunc(c.Judged(), func(d baseline.Difference) bool { return d.Change == tc.change }) {
				t.Errorf("Compare: passed %t, differences %+v; want one of %q that decides", c.Passed(), c.Differences, tc.change)
			}
			if c.Passed() || c.EarlyPassed && tc.change != baseline.ChangeValue {
				t.Errorf("early %t, late %t", c.EarlyPassed, c.LatePassed)
			}
		})
	}
	if (&baseline.Comparison{}).Passed() {
		t.Error("the zero Comparison has passed")
	}
}

func TestABaselineWithoutALogAcceptsItsValues(t *testing.T) {
	good := parts(component(4, "boot-loader", "a", false), component(8, "config", "x", true))
	values := good.Late()
	for _, pcr := range []int{0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 13, 14} {
		values[pcr] = make([]byte, 32)
	}
	b := baseline.From(baseline.FromValues(tpm2.AlgSHA256, values), baseline.Shape{})
	if c := b.Compare(good, baseline.Default()); !c.Passed() || len(c.Differences) != 0 {
		t.Errorf("the boot of the same values: %+v, want no difference", c.Differences)
	}
}

func TestARegisterOutsideTheProfileMayBeMissing(t *testing.T) {
	good := parts(component(4, "boot-loader", "a", false))
	few := good
	few.hidden = []int{1, 6, 8, 9, 12}
	if c := baseline.From(good, baseline.Shape{}).Compare(few, baseline.GCE()); !c.Passed() || len(c.Differences) != 0 {
		t.Errorf("Compare(gce) without PCR 8: %+v, want passed", c)
	}
}

func TestOrderCountsInsideARegisterOnly(t *testing.T) {
	a, b := component(4, "boot-loader", "a", false), component(4, "kernel", "b", true)
	x, y := component(8, "config", "x", true), component(8, "config", "y", true)
	base := baseline.From(parts(a, b, x, y), baseline.Shape{})
	if c := base.Compare(parts(x, a, y, b), baseline.Default()); !c.Passed() || len(c.Differences) != 0 {
		t.Errorf("registers interleaved otherwise: %+v, want no difference", c.Differences)
	}
	c := base.Compare(parts(a, b, y, x), baseline.Default())
	if c.LatePassed || len(c.Differences) != 1 || c.Differences[0].Change != baseline.ChangeMoved {
		t.Errorf("events of one register swapped: %+v, want one that moved", c.Differences)
	}
}

// ovmf is PCR 0 of OVMF: empty version, two volumes, separator.
func ovmf(version, first, second string) fake {
	return parts(
		component(0, eventlog.KindFirmware, version, false), component(0, eventlog.KindFirmware, first, false),
		component(0, eventlog.KindFirmware, second, false), component(0, eventlog.KindSeparator, "\x00\x00\x00\x00", false),
	)
}

func TestOVMFIsJudgedByItsConstantVolume(t *testing.T) {
	const empty = "\x00\x00"
	shape := baseline.Shape{Firmware: "ovmf", VCPUs: 2, MemoryMiB: 1024, MemoryTypeInformation: "00"}
	bigger := shape
	bigger.MemoryMiB = 2048
	good := ovmf(empty, "peifv", "dxefv")
	longer := ovmf(empty, "other", "dxefv")
	longer.components = append(longer.components, component(0, eventlog.KindFirmware, "more", false))
	twoThings := ovmf(empty, "other", "dxefv")
	twoThings.components = append(twoThings.components, component(7, "variable", "db", false))
	for name, tc := range map[string]struct {
		base, boot    fake
		then, now     baseline.Shape
		early, judged bool
	}{
		"first volume, shape unknown":   {good, ovmf(empty, "other", "dxefv"), baseline.Shape{}, baseline.Shape{}, true, false},
		"first volume, other shape":     {good, ovmf(empty, "other", "dxefv"), shape, bigger, true, false},
		"first volume, the same shape":  {good, ovmf(empty, "other", "dxefv"), shape, shape, false, true},
		"second volume":                 {good, ovmf(empty, "peifv", "other"), shape, bigger, false, true},
		"both volumes":                  {good, ovmf(empty, "other", "other"), shape, bigger, false, true},
		"no OVMF":                       {ovmf("1.0", "peifv", "dxefv"), ovmf("1.0", "other", "dxefv"), baseline.Shape{}, baseline.Shape{}, false, true},
		"a third volume":                {good, longer, baseline.Shape{}, baseline.Shape{}, false, true},
		"first volume, and secure boot": {good, twoThings, baseline.Shape{}, baseline.Shape{}, false, false},
		"all the same":                  {good, good, baseline.Shape{}, baseline.Shape{}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := baseline.Default()
			p.Shape = tc.now
			c := baseline.From(tc.base, tc.then).Compare(tc.boot, p)
			in0 := slices.ContainsFunc(c.Judged(), func(d baseline.Difference) bool { return d.PCR == 0 })
			if c.EarlyPassed != tc.early || in0 != tc.judged {
				t.Errorf("early passed %t, PCR 0 judged %t, want %t, %t: %+v", c.EarlyPassed, in0, tc.early, tc.judged, c.Differences)
			}
		})
	}
}

func TestReportsKeepTheirOrder(t *testing.T) {
	for name, tc := range map[string]struct {
		log                                              string
		earlyActual, earlyPolicy, lateActual, latePolicy []string
	}{
		"Linux": {
			"qemu-shim-grub-sb",
			[]string{"PCR_0", "PCR_4", "PCR_5", "PCR_7"},
			[]string{"PCR_0", "PCR_4", "PCR_7"},
			[]string{"PCR_0", "PCR_4", "PCR_5", "PCR_7"},
			[]string{"PCR_0", "PCR_4", "PCR_7"},
		},
		"Windows": {
			"win-dell-r340-sb-on-a",
			[]string{"PCR_0", "PCR_4", "PCR_5", "PCR_7"},
			[]string{"PCR_0", "PCR_4", "PCR_7"},
			[]string{"PCR_0", "PCR_4", "PCR_5", "PCR_7", "PCR_11", "PCR_12", "PCR_13", "PCR_14"},
			[]string{"PCR_0", "PCR_4", "PCR_7", "PCR_11", "PCR_13", "PCR_14"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			boot := inspect(t, "eventlogs/bios/"+tc.log+".bin")
			b := baseline.From(boot, baseline.Shape{})
			early, late := b.Reports(boot, b.Compare(boot, baseline.GCE()))
			names := func(ms []baseline.Measurement) (out []string) {
				for _, m := range ms {
					if len(m.Value) != 2*boot.Bank().DigestSize() || m.HashAlg != boot.Bank().BankName() {
						t.Errorf("measurement %+v", m)
					}
					out = append(out, m.PCRNum)
				}
				return out
			}
			got := [][]string{names(early.ActualMeasurements), names(early.PolicyMeasurements), names(late.ActualMeasurements), names(late.PolicyMeasurements)}
			if diff := cmp.Diff([][]string{tc.earlyActual, tc.earlyPolicy, tc.lateActual, tc.latePolicy}, got); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			if !early.PolicyEvaluationPassed || !late.PolicyEvaluationPassed {
				t.Error("a boot does not pass its own baseline")
			}
			if early.ActualMeasurements[1].Value == late.ActualMeasurements[1].Value && name == "Linux" {
				t.Error("early and late value of PCR 4 are the same")
			}
		})
	}
}

func TestFilesComeBackTheSame(t *testing.T) {
	shape := baseline.Shape{Machine: "web", Firmware: "ovmf 2022.11", VCPUs: 2, MemoryMiB: 1024, MemoryTypeInformation: "0a"}
	for _, log := range []string{"qemu-shim-grub-sb", "qemu-uki-sb", "win-latitude-vbs-hvci", "linux-elitebook-a"} {
		boot := inspect(t, "eventlogs/bios/"+log+".bin")
		b := baseline.From(boot, shape)
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := baseline.Parse(text)
		if err != nil {
			t.Fatalf("%s: Parse(own file) = %v", log, err)
		}
		back, _ := json.Marshal(again)
		if !bytes.Equal(text, back) || again.Shape() != shape || again.Bank() != b.Bank() || again.Windows() != b.Windows() {
			t.Errorf("%s: file is not the same after reading", log)
		}
		if c := again.Compare(boot, baseline.Default()); !c.Passed() || len(c.Differences) != 0 {
			t.Errorf("%s: the boot differs from its own baseline: %+v", log, c.Differences)
		}
	}
}

// TestVersion1IsRead keeps a file as version 1 wrote it. It also holds
// alternatives, which this program reads and does not write yet.
func TestVersion1IsRead(t *testing.T) {
	text, err := os.ReadFile("testdata/baseline-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := baseline.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, second := range []string{"kernel 1", "kernel 2"} {
		c := b.Compare(parts(component(4, "boot-loader", "shim", false), component(4, "kernel", second, true)), baseline.GCE())
		if !slices.Equal(pcrsOf(c.Judged()), []int{7}) {
			t.Errorf("%s: PCRs that decide: %v, want 7 alone, of which the file has no value", second, pcrsOf(c.Judged()))
		}
	}
	c := b.Compare(parts(component(4, "boot-loader", "shim", false), component(4, "kernel", "kernel 3", true)), baseline.GCE())
	if !slices.Equal(pcrsOf(c.Judged()), []int{4, 7}) {
		t.Errorf("kernel 3: PCRs that decide: %v, want 4 and 7", pcrsOf(c.Judged()))
	}
}

func TestParseRefuses(t *testing.T) {
	d := strings.Repeat("ab", 32)
	file := func(pcrs string) string { return `{"version":1,"bank":"sha256","shape":{},"pcrs":` + pcrs + `}` }
	one := func(inner string) string { return file(`{"4":{` + inner + `}}`) }
	good := one(`"late":["` + d + `"],"events":[{"digests":["` + d + `"],"kind":"kernel","component":"k","proven":true,"late":true}]`)
	if _, err := baseline.Parse([]byte(good)); err != nil {
		t.Fatalf("Parse(good) = %v", err)
	}
	for n := range good {
		if _, err := baseline.Parse([]byte(good[:n])); err == nil {
			t.Errorf("Parse(%d of %d bytes) succeeds", n, len(good))
		}
	}
	for name, tc := range map[string]struct{ text, want string }{
		"one byte more":        {good + "x", "invalid character"},
		"two values":           {good + good, "file continues"},
		"another version":      {strings.Replace(good, `:1,`, `:3,`, 1), "version 3: version is not known"},
		"banks not named":      {strings.Replace(good, `:1,`, `:2,`, 1), "version 2 and otherBanks"},
		"banks too early":      {strings.Replace(good, `:1,`, `:1,"otherBanks":[],`, 1), "version 1 and otherBanks"},
		"its own bank again":   {strings.Replace(good, `:1,`, `:2,"otherBanks":[{"bank":"sha256","pcrs":{"1":{"late":["`+d+`"],"events":[]}}}],`, 1), "member is there twice"},
		"an empty bank":        {strings.Replace(good, `:1,`, `:2,"otherBanks":[{"bank":"sha384","pcrs":{}}],`, 1), "covers no register"},
		"too many banks":       {strings.Replace(good, `:1,`, `:2,"otherBanks":[{},{},{},{},{},{},{},{}],`, 1), "number of banks"},
		"no version":           {strings.Replace(good, `"version":1,`, ``, 1), "version 0: version is not known"},
		"unknown member":       {strings.Replace(good, `"shape"`, `"shapes"`, 1), "unknown field"},
		"unknown inner":        {one(`"late":["` + d + `"],"events":[],"strict":true`), "unknown field"},
		"repeated member":      {one(`"late":["` + d + `"],"events":[],"late":["` + d + `"]`), "member is there twice"},
		"repeated, other case": {one(`"late":["` + d + `"],"events":[],"Late":["` + d + `"]`), "member is there twice"},
		"unknown bank":         {strings.Replace(good, "sha256", "md5", 1), `bank "md5" is not known`},
		"bank without hash":    {strings.Replace(good, "sha256", "sm3_256", 1), "is not known"},
		"no register":          {file(`{}`), "covers no register"},
		"PCR 10":               {file(`{"10":{"late":["` + d + `"],"events":[]}}`), "not one that is compared"},
		"PCR 04":               {file(`{"04":{"late":["` + d + `"],"events":[]}}`), "not one that is compared"},
		"PCR -1":               {file(`{"-1":{"late":["` + d + `"],"events":[]}}`), "not one that is compared"},
		"no late value":        {one(`"events":[]`), "late value: number of digests (0)"},
		"digest too short":     {one(`"late":["abcd"],"events":[]`), "lower-case hex"},
		"digest in capitals":   {one(`"late":["` + strings.ToUpper(d) + `"],"events":[]`), "lower-case hex"},
		"digest not hex":       {one(`"late":["` + strings.Repeat("x", 64) + `"],"events":[]`), "lower-case hex"},
		"event undigested":     {one(`"late":["` + d + `"],"events":[{"digests":[],"kind":"k","component":"k","proven":true,"late":true}]`), "event 0: number of digests (0)"},
		"65 digests":           {one(`"late":["` + strings.Repeat(d+`","`, 64) + d + `"],"events":[]`), "number of digests (65)"},
		"text too long":        {strings.Replace(good, `"k"`, `"`+strings.Repeat("k", 4097)+`"`, 1), "text of event 0 exceeds"},
		"nested too deep":      {strings.Repeat("[", 17), "nesting exceeds"},
		"too many objects":     {`{"a":[` + strings.Repeat("[{},{},{}],", 11000) + `{}]}`, "number of objects exceeds"},
		"too many values":      {`{"a":[` + strings.Repeat("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],", 15500) + `{}]}`, "number of values exceeds"},
		"too many elements":    {one(`"late":["` + d + `"],"events":[` + strings.Repeat("{},", 16384) + `{}]`), "number of values exceeds"},
		"too many events":      {file(`{"4":{"late":["` + d + `"],"events":[` + strings.Repeat("{},", 8000) + `{}]},"5":{"late":["` + d + `"],"events":[` + strings.Repeat("{},", 8000) + `{}]},"7":{"late":["` + d + `"],"events":[` + strings.Repeat("{},", 8000) + `{}]}}`), "number of events exceeds"},
		"too large":            {strings.Repeat(" ", 8<<20+1), "exceeds its limit"},
		"array":                {"[]", "cannot unmarshal"},
		"empty":                {"", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := baseline.Parse([]byte(tc.text))
			if err == nil || b != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Parse = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestProfileNames(t *testing.T) {
	for _, name := range append(baseline.ProfileNames(), "") {
		p, err := baseline.ProfileNamed(name)
		if err != nil || name != "" && p.Name != name || name == "" && p.Name != "default" {
			t.Errorf("ProfileNamed(%q) = %+v, %v", name, p, err)
		}
	}
	if p, err := baseline.ProfileNamed("lax"); err == nil || p.Name != "" {
		t.Errorf("ProfileNamed(lax) = %+v, %v, want an error", p, err)
	}
}

func TestHostileTextsAreCleaned(t *testing.T) {
	c := component(8, "command-line", "evil", true)
	c.Name, c.Detail = "kernel\x1b[2J\nall is well", strings.Repeat("x", 100_000)+"\x07"
	got := baseline.From(parts(component(4, "k", "a", false)), baseline.Shape{}).Compare(parts(component(4, "k", "a", false), c), baseline.Default())
	if len(got.Differences) != 1 {
		t.Fatalf("differences %+v", got.Differences)
	}
	d := got.Differences[0]
	if strings.ContainsAny(d.Words+d.Component, "\x1b\x07\n") || len(d.Words) > 1000 || len(d.New.Detail) > 4096 {
		t.Errorf("words of %d bytes, detail of %d: %.80q", len(d.Words), len(d.New.Detail), d.Words)
	}
}

// TestATextThatGrowsWhenCleanedCanBeReadAgain has a control character, whose
// replacement is longer, at each place near the limit.
func TestATextThatGrowsWhenCleanedCanBeReadAgain(t *testing.T) {
	for n := 4090; n <= 4096; n++ {
		c := component(8, "command-line", "a", true)
		c.Detail = strings.Repeat("x", n) + "\x07"
		text, err := json.Marshal(baseline.From(parts(c), baseline.Shape{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := baseline.Parse(text); err != nil {
			t.Errorf("after %d letters: Parse(own file) = %v", n, err)
		}
	}
}

func TestABootThatSharesNothingIsNotListedWithoutEnd(t *testing.T) {
	var a, b []eventlog.Component
	for i := range 4000 {
		a = append(a, component(8, "config", "a"+strings.Repeat("x", i%7)+hex.EncodeToString([]byte{byte(i), byte(i >> 8)}), true))
		b = append(b, component(8, "config", "b"+hex.EncodeToString([]byte{byte(i), byte(i >> 8)}), true))
	}
	c := baseline.From(parts(a...), baseline.Shape{}).Compare(parts(b...), baseline.Default())
	if c.LatePassed || len(c.Differences) > 300 {
		t.Errorf("late passed %t, %d differences", c.LatePassed, len(c.Differences))
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/baseline-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := baseline.Parse(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := baseline.Parse(text)
		if err != nil {
			t.Fatalf("Parse(own file) = %v", err)
		}
		if back, _ := json.Marshal(again); !bytes.Equal(text, back) {
			t.Errorf("written again as %s, was %s", back, text)
		}
		c := b.Compare(parts(component(4, "k", "a", false)), baseline.Default())
		if c.Passed() {
			t.Error("an unrelated boot passes")
		}
	})
}

// TestDocsExplainEveryRegister rewrites docs/pcrs.md when ASSAY_UPDATE is set.
func TestDocsExplainEveryRegister(t *testing.T) {
	const file = "../../docs/pcrs.md"
	want := baseline.PCRDoc()
	if os.Getenv("ASSAY_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || string(got) != want {
		t.Errorf("%s is not what PCRDoc gives; run the test with ASSAY_UPDATE=1", file)
	}
}

func TestModulesOfWindowsAreNamed(t *testing.T) {
	b := baseline.From(inspect(t, "eventlogs/bios/win-latitude-coldboot.bin"), baseline.Shape{})
	c := b.Compare(inspect(t, "eventlogs/bios/win-latitude-vbs-hvci.bin"), baseline.Default())
	want := `in PCR 13 changed: "winload.efi 1dff049236bdd4ed" -> "winload.efi 702979c0ce292ee6"`
	if !slices.ContainsFunc(c.Differences, func(d baseline.Difference) bool { return strings.HasSuffix(d.Words, want) }) {
		t.Errorf("no difference says %q: %+v", want, c.Differences)
	}
}

// BenchmarkHostileFile reads 1 MiB made to be expensive.
func BenchmarkHostileFile(b *testing.B) {
	head := `{"version":1,"bank":"sha256","pcrs":{"4":{"late":["` + strings.Repeat("ab", 32) + `"],"events":[`
	for name, text := range map[string]string{
		"objects": head + strings.Repeat("{},", 1<<20/3),
		"nesting": strings.Repeat("[", 1<<20),
		"members": `{` + strings.Repeat(`"a":1,`, 1<<20/6),
		"strings": `{"version":1,"bank":"sha256","pcrs":{"4":{"late":[` + strings.Repeat(`"",`, 1<<20/3) + `""]}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := baseline.Parse([]byte(text)); err == nil {
					b.Fatal("is read")
				}
			}
		})
	}
}

func BenchmarkCompare(b *testing.B) {
	base := baseline.From(confirmed(b, "vmboot/good-shim-grub"), baseline.Shape{})
	for _, name := range []string{"good-shim-grub", "bad-cmdline"} {
		boot := confirmed(b, "vmboot/"+name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				base.Compare(boot, baseline.Default())
			}
		})
	}
}
