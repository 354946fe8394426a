package serial

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/assay-project/assay/evidence"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func codes(l *Log) (out []evidence.Code) {
	found, _ := l.Findings()
	for _, f := range found {
		out = append(out, f.Code)
	}
	return out
}

func TestRecordedBootsSayWhyTheyEnded(t *testing.T) {
	refused := []evidence.Code{codeRefused, codeShell, codeStuck}
	for name, want := range map[string][]evidence.Code{
		"good-shim-grub": nil, "good-uki": nil,
		"bad-dbx-cert": refused, "bad-dbx-hash": refused, "bad-uki-unsigned": refused,
		"bad-uki-byte": refused[:2], "bad-uki-wrong-key": refused[:2], // recorded until there
		"bad-kernel-byte": {codeGRUBRefused},
	} {
		t.Run(name, func(t *testing.T) {
			// However the bytes arrive, the same is found.
			for _, step := range []int{1, 7, 4096} {
				var l Log
				for part := range slices.Chunk(read(t, name), step) {
					if _, err := l.Write(part); err != nil {
						t.Fatal(err)
					}
				}
				got := codes(&l)
				if !slices.Equal(got, want) {
					t.Errorf("in steps of %d: %v, want %v", step, got, want)
				}
			}
		})
	}
}

func TestARefusalNamesItsOption(t *testing.T) {
	var l Log
	l.Write(read(t, "bad-dbx-hash")) //nolint:errcheck // never fails
	found, more := l.Findings()
	want := Finding{
		Code: codeRefused, Line: `BdsDxe: failed to load Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0): Access Denied`,
		Option: `Boot0001 "UEFI Misc Device"`, Device: "PciRoot(0x0)/Pci(0x1,0x0)", Status: "Access Denied",
	}
	if len(found) == 0 || found[0] != want || more != 0 {
		t.Fatalf("found %+v and %d more, want first %+v", found, more, want)
	}
	if r := found[0].Reason(); r.Component != want.Option || r.Code != codeRefused || !strings.HasPrefix(r.Message, want.Line+" (") {
		t.Errorf("reason %+v", r)
	}
	if text := l.Text(); !strings.Contains(text, want.Line+"\nUEFI: Failed to load image\nStatus: Security Violation\n") || strings.Contains(text, "\x1b") {
		t.Errorf("text %q", text)
	}
}

func TestLinesAndTheirMeaning(t *testing.T) {
	const device = `BdsDxe: failed to load Boot0003 "UEFI \"x\" Disk" from PciRoot(0x0)/Pci(0x2,0x0): `
	for line, want := range map[string]evidence.Code{
		device + "Not Found":          codeNotLoaded,
		device + "Time out":           codeNotLoaded,
		device + "Load Error":         codeNotLoaded,
		device + "Security Violation": codeRefused,
		device + "Access Denied -- rejected probably by Secure Boot":                                       codeRefused,
		"DxeImageVerificationLib: Image is signed but signature is forbidden by DBX.":                      codeRefused,
		"Verification failed: (0x1A) Security Violation":                                                   codeShimRefused,
		"Verifying shim SBAT data failed: Security Policy Violation":                                       codeShimRevoked,
		"Booting in insecure mode":                                                                         codeShimState,
		"error: bad shim signature.":                                                                       codeGRUBRefused,
		"error: /boot/vmlinuz has invalid signature.":                                                      codeGRUBRefused,
		"error: shim_lock protocol not found.":                                                             codeGRUBPolicy,
		"[    1.5] Loading of unsigned module is rejected":                                                 codeModule,
		"[    1.5] x: module verification failed: signature and/or required key missing - tainting kernel": codeModuleLoaded,
		"[    1.5] blacklist: Module hash 00 is blacklisted":                                               codeKernelRevoked,
		"[    1.5] Lockdown: modprobe: /dev/mem,kmem,port is restricted; see man kernel_lockdown.7":        codeLockdown,
		"[    1.5] Lockdown: swapper/0: hibernation is restricted; see man kernel_lockdown.7":              "",
		"[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs":                               codePanic,
		`BdsDxe: failed to start Boot0002 "EFI Internal Shell" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/FvFile(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1): Security Violation`: codeShell,
		`BdsDxe: failed to load Boot0003 "x" from HD(1,GPT)/FvFile(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)/\a.efi: Access Denied`:                                                codeRefused,
		`BdsDxe: loading Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0)`:                                                                                           "",
		"he said: BdsDxe: No bootable option or device was found.":                                                                                                             "",
	} {
		f, ok := classify(line)
		if f.Code != want || ok != (want != "") {
			t.Errorf("%q: %q, %v; want %q", line, f.Code, ok, want)
		}
	}
}

// TestABoxOfShimIsRead has what shim draws: each row is put in its place by moves
// of the cursor.
func TestABoxOfShimIsRead(t *testing.T) {
	var l Log
	l.Write([]byte("\x1b[2J\x1b[10;20H|  ERROR  |\x1b[11;20H\x1b[1;37mVerification failed: (0x1A) Security Violation\x1b[0m\x1b[12;20H OK ")) //nolint:errcheck // never fails
	if got := codes(&l); !slices.Equal(got, []evidence.Code{codeShimRefused}) {
		t.Errorf("found %v", got)
	}
}

// TestNoLineIsAProof has a boot option whose description, a variable of the guest's,
// holds a whole line of the firmware's.
func TestNoLineIsAProof(t *testing.T) {
	var l Log
	const stuck = "BdsDxe: No bootable option or device was found."
	l.Write([]byte("BdsDxe: loading Boot0007 \"x\r\n" + stuck + "\r\n\" from PciRoot(0x0)\r\n")) //nolint:errcheck // never fails
	found, _ := l.Findings()
	if len(found) != 1 || found[0].Code != codeStuck {
		t.Fatalf("found %+v", found)
	}
	if got := found[0].Reason().Message; got != stuck+" (a line of the console, which proves nothing)" {
		t.Errorf("message %q", got)
	}
}

func TestARestartForgets(t *testing.T) {
	var l Log
	l.Write([]byte("error: bad shim signature.\nhalf\x1b[")) //nolint:errcheck // never fails
	l.Restart()
	l.Write([]byte("a\n")) //nolint:errcheck // never fails
	if found, more := l.Findings(); len(found) != 0 || more != 0 || l.Text() != "a\n" {
		t.Errorf("found %+v and %d more; text %q", found, more, l.Text())
	}
}

// TestAFullLogIsNotMovedForEachLine looks at what is kept beyond what is shown.
func TestAFullLogIsNotMovedForEachLine(t *testing.T) {
	var l Log
	line := []byte(strings.Repeat("y", 1023) + "\n")
	write := func(n int) { l.Write(bytes.Repeat(line, n)) } //nolint:errcheck // never fails
	write(2 * maxText / len(line))
	if len(l.text) != 2*maxText || l.cut {
		t.Errorf("%d bytes kept of %d, cut %v", len(l.text), 2*maxText, l.cut)
	}
	if text := l.Text(); len(text) > maxText+100 || !strings.HasPrefix(text, "[what came before") {
		t.Errorf("text of %d bytes: %.60q", len(text), text)
	}
	write(1)
	if len(l.text) > maxText || len(l.text) < maxText-len(line) || !l.cut {
		t.Errorf("%d bytes kept after more than %d, cut %v", len(l.text), 2*maxText, l.cut)
	}
}

func TestAGuestThatPrintsForEverIsBounded(t *testing.T) {
	var l Log
	line := []byte("error: bad shim signature.\n")
	for range maxFindings + 5 {
		l.Write(line) //nolint:errcheck // never fails
	}
	l.Write([]byte(strings.Repeat("x", 3*maxText))) //nolint:errcheck // never fails
	found, more := l.Findings()
	if len(found) != maxFindings || more != 5 {
		t.Errorf("%d findings and %d more", len(found), more)
	}
	if text := l.Text(); len(text) > maxText+2*maxLine || !strings.HasPrefix(text, "[what came before") {
		t.Errorf("text of %d bytes: %.60q", len(text), text)
	}
}

func TestControlSequencesAreNoText(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31mb\n":            "ab\n",
		"a\x1b]0;title\x07b\n":    "ab\n",
		"a\x1b]0;title\x1b\\b\n":  "ab\n",
		"a\x1bcb\n":               "ab\n",
		"a\tb\x00\x07\n":          "a b\n",
		"a\rb\n":                  "a\nb\n",
		"\xff\n":                  "\uFFFD\n",
		"a\x1b[2;3Hb":             "a\nb",
		"a\u009b31mb\u0085c\n":    "a31mbc\n", // CSI and NEL, each in one character
		"a\u009d0;x\u009cb":       "a0;xb",    // OSC and ST, in a line that is not complete
		"a\u202eb\u2066c\u200f\n": "abc\n",
		"a\u2028b\ufeff\n":        "ab\n",
		"e\u0301 \u00e9\n":        "e\u0301 \u00e9\n",
	} {
		var l Log
		l.Write([]byte(in)) //nolint:errcheck // never fails
		if got := l.Text(); got != want {
			t.Errorf("%q: text %q, want %q", in, got, want)
		}
	}
}

func TestEveryCodeIsInTheTable(t *testing.T) {
	all := []evidence.Code{codeRefused, codeNotLoaded, codeLockdown}
	for _, p := range phrases {
		all = append(all, p.code)
	}
	for _, code := range all {
		if _, ok := evidence.Describe(code); !ok {
			t.Errorf("%s is not in the table of reason codes", code)
		}
	}
}

func TestAFindingHasNoControlCharacters(t *testing.T) {
	var l Log
	l.Write([]byte("BdsDxe: failed to load Boot0001 \"\u202eksid\u009b2J\" from PciRoot(0x0): Access Denied\n")) //nolint:errcheck // never fails
	found, _ := l.Findings()
	if len(found) != 1 || found[0].Option != `Boot0001 "ksid2J"` || strings.ContainsAny(found[0].Reason().Message, "\u202e\u009b") {
		t.Errorf("found %+q", found)
	}
}

func linesOf(found []Finding) (out []string) {
	for _, f := range found {
		out = append(out, f.Line)
	}
	return out
}

func FuzzLog(f *testing.F) {
	for _, name := range []string{"bad-dbx-hash", "bad-kernel-byte"} {
		f.Add(read(f, name))
	}
	f.Add([]byte("\x1b[\x1b]\x1b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var whole, parts Log
		whole.Write(in) //nolint:errcheck // never fails
		for part := range slices.Chunk(in, 3) {
			parts.Write(part) //nolint:errcheck // never fails
		}
		a, _ := whole.Findings()
		b, _ := parts.Findings()
		if !slices.Equal(a, b) || whole.Text() != parts.Text() {
			t.Error("how bytes arrive changes what is read")
		}
		found, _ := whole.Findings()
		for _, text := range append(strings.Split(whole.Text(), "\n"), linesOf(found)...) {
			if strings.ContainsFunc(text, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) }) {
				t.Errorf("a control character got through: %q", text)
			}
		}
	})
}

// A log that goes on after another's text shows both, and finds nothing of the first again.
func TestALogGoesOnAfterAnothersText(t *testing.T) {
	var a Log
	a.Write([]byte("error: bad shim signature.\nhalf a ")) //nolint:errcheck // never fails
	var b Log
	b.Write([]byte("of before\n")) //nolint:errcheck // never fails
	b.Restore(a.Text())
	b.Write([]byte("line\n")) //nolint:errcheck // never fails
	if found, _ := b.Findings(); len(found) != 0 || b.Text() != "error: bad shim signature.\nhalf a line\n" {
		t.Errorf("found %+v, text %q", found, b.Text())
	}
	for name, tc := range map[string]struct {
		text  string
		long  bool
		start string
	}{
		"one whose beginning is gone": {cutNote + "a\n", false, cutNote + "a\n"},
		"one that is too long":        {strings.Repeat(strings.Repeat("x", 99)+"\n", 5*maxText/100), true, cutNote + "x"},
		"one line without end":        {strings.Repeat("x", 5*maxText), true, cutNote + "x"},
		"control characters":          {"a\x1b[31mb\u202ec\n", false, "a[31mbc\n"},
	} {
		var l Log
		l.Restore(tc.text)
		got := l.Text()
		if !strings.HasPrefix(got, tc.start) || len(got) > maxText+maxLine+len(cutNote) || tc.long != (len(got) > maxText/2) {
			t.Errorf("%s: text of %d bytes, %.80q", name, len(got), got)
		}
	}
}
