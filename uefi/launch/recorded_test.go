package launch_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/launch"
	"github.com/assay-project/assay/uefi/sigdb"
)

// The parts that the recorded boots had.
const (
	recordedKernel = "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275"
	recordedInitrd = "ccea57e927614fb224f6ccf9df923a3bc362f38ce680e3ad517a7f0dc2ce5219"
	options        = "console=ttyS0,115200 earlycon=uart8250,io,0x3f8 ro panic=-1"
	menu           = "set timeout=0\necho \"grub: loading kernel\"\nlinux /vmlinuz " + options +
		"\necho \"grub: loading initrd\"\ninitrd /initrd.img\necho \"grub: boot\"\nboot\n"
)

// bootFile reads a file of Debian's signed packages.
func bootFile(t testing.TB, name string) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(cache, "assay-test", name))
	if err != nil {
		if os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") != "" {
			t.Fatalf("%s is not there: run make setup", name)
		}
		t.Skipf("%s is not there", name)
	}
	return b
}

// folder is a file system of a test: files by their paths.
type folder map[string][]byte

func (f folder) Open(path string) (*io.SectionReader, error) {
	path = strings.Trim(strings.ReplaceAll(path, `\`, "/"), "/")
	for name, b := range f {
		if strings.EqualFold(name, path) {
			return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), nil
		}
	}
	if _, err := f.List(path); err == nil {
		return nil, errors.New("is a folder")
	}
	return nil, fs.ErrNotExist
}

func (f folder) List(path string) ([]disk.Entry, error) {
	path = strings.ToLower(strings.Trim(strings.ReplaceAll(path, `\`, "/"), "/")) + "/"
	var out []disk.Entry
	for name := range f {
		if rest, ok := strings.CutPrefix(strings.ToLower(name), path); ok {
			rest, _, _ = strings.Cut(rest, "/")
			out = append(out, disk.Entry{Name: rest})
		}
	}
	if out == nil {
		return nil, fs.ErrNotExist
	}
	return out, nil
}

// recorded is the log of a boot.
func recorded(t *testing.T, name string) *eventlog.Log {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name, "eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// machine has the variables that a boot measured.
func machine(t *testing.T, l *eventlog.Log) *launch.Machine {
	t.Helper()
	m := &launch.Machine{Variables: sigdb.Variables{}}
	for e := range l.All() {
		if e.Type != eventlog.EFIVariableDriverConfig {
			continue
		}
		v, err := uefi.ParseVariableData(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		if v.Is(uefi.GlobalVariable, "SecureBoot") {
			m.SecureBoot = v.Data[0] == 1
		} else if r, ok := sigdb.ParseRole(v.Name()); ok {
			m.Variables[r] = sigdb.Value{Data: v.Data}
		}
	}
	return m
}

// table is what a boot measured of its disk.
func table(l *eventlog.Log) []byte {
	for e := range l.All() {
		if e.Type == eventlog.EFIGPTEvent {
			return e.Data
		}
	}
	return nil
}

func on(f folder, table []byte) *launch.Disk {
	return &launch.Disk{Volumes: []launch.Volume{{Files: f, Number: 1}}, Table: table}
}

func predict(t testing.TB, m *launch.Machine, d *launch.Disk) *launch.Prediction {
	t.Helper()
	p, err := launch.Predict(t.Context(), m, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shimFiles are those of the recorded chain; the initrd is another.
func shimFiles(t *testing.T, menu string) folder {
	t.Helper()
	f := folder{
		"EFI/BOOT/BOOTX64.EFI": bootFile(t, "shimx64.efi.signed"), "EFI/BOOT/grubx64.efi": bootFile(t, "grubx64.efi.signed"),
		"EFI/debian/grub.cfg": []byte(menu), "vmlinuz": bootFile(t, "vmlinuz"), "initrd.img": []byte("initrd"),
	}
	sum := sha256.Sum256(f["vmlinuz"])
	if hex.EncodeToString(sum[:]) != recordedKernel {
		t.Skip("Debian's kernel has another version than the recorded one")
	}
	return f
}

// same compares what each register of a prediction is extended by with a log. What
// the recorded initrd was is known by its digest alone.
func same(t *testing.T, p *launch.Prediction, l *eventlog.Log, pcrs ...int) {
	t.Helper()
	for _, bank := range launch.Banks() {
		if !slices.Contains(l.Banks(), bank) {
			continue
		}
		for _, pcr := range pcrs {
			var got, want []string
			for _, e := range p.Events {
				if e.PCR == pcr {
					got = append(got, hex.EncodeToString(e.Digests[bank]))
					if e.Kind == eventlog.KindInitrd {
						got[len(got)-1] = "initrd"
					}
				}
			}
			for e := range l.All() {
				if int(e.PCR) != pcr || !e.Measured() {
					continue
				}
				want = append(want, hex.EncodeToString(e.Digest(bank)))
				if hex.EncodeToString(e.Digest(tpm2.AlgSHA256)) == recordedInitrd {
					want[len(want)-1] = "initrd"
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, PCR %d: predicted\n%s\nrecorded\n%s", bank.BankName(), pcr, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if _, ok := p.PCR(bank, pcr); !ok {
				t.Errorf("PCR %d is unknown: %v", pcr, p.Unknown(pcr))
			}
		}
	}
}

func TestShimAndGRUBMeasureWhatATPMRecorded(t *testing.T) {
	t.Parallel()
	for name, menu := range map[string]string{
		"good-shim-grub": menu,
		"bad-grub-cfg":   "set pwned=1\n" + menu,
		"bad-cmdline":    strings.Replace(menu, options, options+" init=/bin/sh module.x", 1),
		"bad-initrd":     menu,
	} {
		l := recorded(t, name)
		if name == "bad-cmdline" {
			menu = commandLineOf(t, l)
		}
		p := predict(t, machine(t, l), on(shimFiles(t, menu), table(l)))
		if p.Verdict != launch.Starts {
			t.Fatalf("%s: %v %v", name, p.Verdict, p.Reasons)
		}
		registers := []int{4, 5, 7, 8, 9, 11, 12, 14}
		if name == "bad-initrd" { // of another digest
			registers = []int{4, 5, 7, 8, 11, 12, 14}
		}
		same(t, p, l, registers...)
	}
}

// commandLineOf is the menu with the command that a log has.
func commandLineOf(t *testing.T, l *eventlog.Log) string {
	t.Helper()
	for e := range l.All() {
		if line, ok := strings.CutPrefix(strings.Trim(string(e.Data), "\x00"), "kernel_cmdline: "); ok {
			return strings.Replace(menu, "/vmlinuz "+options, line, 1)
		}
	}
	t.Fatal("the log has no command line")
	return ""
}

// With Secure Boot off there is no log: the registers were read from the TPM.
func TestShimWithSecureBootOffMeasuresWhatATPMRecorded(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/bad-secureboot-off/pcrs.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded map[string]map[string]string
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	p := predict(t, &launch.Machine{}, on(shimFiles(t, menu), nil))
	if p.Verdict != launch.Starts {
		t.Fatalf("%v %v", p.Verdict, p.Reasons)
	}
	for _, pcr := range []int{4, 7, 8, 11, 12, 14} {
		value, ok := p.PCR(tpm2.AlgSHA256, pcr)
		if want := recorded["sha256"][itoa(pcr)]; !ok || hex.EncodeToString(value) != want {
			t.Errorf("PCR %d is %x, %v; a TPM had %s", pcr, value, p.Unknown(pcr), want)
		}
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n) //nolint:errchkjson // a number
	return string(b)
}

// uki makes the image of the recorded boots, with another initrd.
func uki(t *testing.T) []byte {
	t.Helper()
	kernel := bootFile(t, "vmlinuz")
	if sum := sha256.Sum256(kernel); hex.EncodeToString(sum[:]) != recordedKernel {
		t.Skip("Debian's kernel has another version than the recorded one")
	}
	b, err := guestimage.UKI(bootFile(t, "linuxx64.efi.stub"),
		guestimage.Section{Name: ".osrel", Data: []byte("ID=trusted-launch-test\nNAME=\"Trusted launch test\"\nVERSION_ID=1\n")},
		guestimage.Section{Name: ".cmdline", Data: []byte(options)},
		guestimage.Section{Name: ".linux", Data: kernel}, guestimage.Section{Name: ".initrd", Data: []byte("initrd")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUKIMeasuresWhatATPMRecorded(t *testing.T) {
	t.Parallel()
	l := recorded(t, "persist-boot4") // Secure Boot off: the image need not be signed
	p := predict(t, machine(t, l), on(folder{"EFI/BOOT/BOOTX64.EFI": uki(t)}, table(l)))
	if p.Verdict != launch.Starts {
		t.Fatalf("%v %v", p.Verdict, p.Reasons)
	}
	same(t, p, l, 5, 7, 8, 9, 11, 12, 14)
	// The image is another than the recorded one, by its initrd; the kernel is the same.
	var images [][]byte
	for _, e := range p.Events {
		if e.PCR == 4 {
			images = append(images, e.Digests[tpm2.AlgSHA256])
		}
	}
	var want [][]byte
	for e := range l.All() {
		if e.PCR == 4 && e.Measured() {
			want = append(want, e.Digest(tpm2.AlgSHA256))
		}
	}
	if len(images) != 4 || len(want) != 4 || bytes.Equal(images[2], want[2]) {
		t.Fatalf("PCR 4: predicted %x, recorded %x", images, want)
	}
	want[2] = images[2]
	if !slices.EqualFunc(images, want, bytes.Equal) {
		t.Errorf("PCR 4: predicted %x, recorded %x", images, want)
	}
}

// The kernel of this boot had one byte changed; GRUB asked shim, and shim refused it.
func TestChangedKernelIsRefusedUnderShim(t *testing.T) {
	t.Parallel()
	l := recorded(t, "bad-kernel-byte")
	f := shimFiles(t, menu)
	f["vmlinuz"] = bytes.Clone(f["vmlinuz"])
	f["vmlinuz"][len(f["vmlinuz"])/2] ^= 1
	p := predict(t, machine(t, l), on(f, table(l)))
	if got := codes(p.Reasons); p.Verdict != launch.Refused || !slices.Equal(got, []evidence.Code{"image.digest-mismatch"}) || p.Reasons[0].Component != "/vmlinuz" {
		t.Errorf("%v %+v", p.Verdict, p.Reasons)
	}
	if _, ok := p.PCR(tpm2.AlgSHA256, 4); ok {
		t.Error("PCR 4 of a boot that is refused is known")
	}
	// What was measured of the refused one has its name.
	sum := p.Chain[len(p.Chain)-1].Digests[tpm2.AlgSHA256]
	if n, ok := p.Find(tpm2.AlgSHA256, 4, sum); !ok || n.Kind != eventlog.KindKernel {
		t.Errorf("Find() = %+v, %t", n, ok)
	}
}

func codes(all []evidence.Reason) []evidence.Code {
	out := []evidence.Code{}
	for _, r := range all {
		out = append(out, r.Code)
	}
	return out
}
