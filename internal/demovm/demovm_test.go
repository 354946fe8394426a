package demovm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// stub has the shape of systemd's, and no code.
func stub() []byte {
	b, le := make([]byte, 0x600), binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], 0x80)
	pe := b[0x80:]
	copy(pe, "PE\x00\x00")
	le.PutUint16(pe[4:], 0x8664)
	le.PutUint16(pe[6:], 1)
	le.PutUint16(pe[20:], 240)
	o := pe[24:]
	le.PutUint16(o, 0x20B)
	le.PutUint32(o[32:], 0x200)
	le.PutUint32(o[36:], 0x200)
	le.PutUint32(o[60:], 0x400)
	le.PutUint16(o[68:], 10)
	le.PutUint32(o[108:], 16)
	s := o[240:]
	copy(s, ".sdmagic")
	le.PutUint32(s[8:], 0x40)
	le.PutUint32(s[12:], 0x1000)
	le.PutUint32(s[16:], 0x200)
	le.PutUint32(s[20:], 0x400)
	copy(b[0x400:], "#### LoaderInfo: systemd-stub 252 ####")
	return b
}

// folder has the parts as tools/setup.sh leaves them.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{KernelFile: []byte("a kernel"), StubFile: stub()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parse(t *testing.T, image []byte) *authenticode.Image {
	t.Helper()
	i, err := authenticode.Parse(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// section is the content of one section of an image.
func section(t *testing.T, image []byte, name string) string {
	t.Helper()
	i := parse(t, image)
	s, ok := i.Section(name)
	if !ok {
		t.Fatalf("no section %s", name)
	}
	b, err := io.ReadAll(i.Open(s))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryGuestDiffersAsItsNameSays(t *testing.T) {
	p, err := Open(folder(t), []byte("a program"))
	if err != nil {
		t.Fatal(err)
	}
	p.Files = []guestimage.File{{Name: "modules/a.ko", Mode: 0o644, Data: []byte("module")}}
	set, keys, err := keyset.New("own", keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.Signing(sigdb.DB, keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g, err := p.Guests(func(b []byte) ([]byte, error) { return authenticode.Sign(b, s) })
	if err != nil {
		t.Fatal(err)
	}
	db := authenticode.NewKeys(set.Database(sigdb.DB), set.Database(sigdb.DBX))
	for name, tc := range map[string]struct {
		image  []byte
		starts bool
		other  []string // sections
	}{
		"good":                 {g.Good, true, nil},
		"another command line": {g.CommandLine, true, []string{".cmdline"}},
		"unsigned":             {g.Unsigned, false, nil},
		"update":               {g.Update, true, []string{".osrel", ".initrd"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(t, tc.image).Verify(db); (err == nil) != tc.starts {
				t.Errorf("Verify = %v", err)
			}
			var other []string
			for _, s := range []string{".osrel", ".cmdline", ".linux", ".initrd"} {
				if section(t, tc.image, s) != section(t, g.Good, s) {
					other = append(other, s)
				}
			}
			if d := cmp.Diff(tc.other, other); d != "" {
				t.Errorf("sections that are not the good guest's (-want +got):\n%s", d)
			}
		})
	}
	if got := section(t, g.Good, ".linux"); got != "a kernel" {
		t.Errorf("the kernel is %q", got)
	}
	if got := section(t, g.Good, ".cmdline"); got != CommandLine {
		t.Errorf("the command line is %q", got)
	}
	for _, want := range []string{"a program", "modules/a.ko", "VERSION_ID=1\n"} {
		if !strings.Contains(section(t, g.Good, ".initrd"), want) {
			t.Errorf("the initrd has no %q", want)
		}
	}
}

func TestADiskHasTheImageWhereFirmwareLooks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	for _, image := range []string{strings.Repeat("a longer image ", 100_000), "an image"} { // the second in place of the first
		if err := WriteDisk(name, []byte(image)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		d, err := disk.Open(f, info.Size(), disk.Raw)
		if err != nil {
			t.Fatal(err)
		}
		_, volumes, err := d.Volumes()
		if err != nil || len(volumes) != 1 {
			t.Fatalf("Volumes = %v, %v", volumes, err)
		}
		r, err := volumes[0].Open(`\EFI\BOOT\BOOTX64.EFI`)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != image {
			t.Errorf("the image has %d bytes, %v, and %d were written", len(b), err, len(image))
		}
	}
}

func TestAMissingPartIsNamedWithWhatBringsIt(t *testing.T) {
	for _, missing := range []string{KernelFile, StubFile} {
		dir := folder(t)
		if err := os.Remove(filepath.Join(dir, missing)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, nil)
		if !errors.Is(err, ErrMissing) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make setup") || !strings.Contains(err.Error(), missing) {
			t.Errorf("Open without %s = %v", missing, err)
		}
	}
}

func TestAStubThatIsNoneMakesNoGuest(t *testing.T) {
	p := &Parts{Kernel: []byte("k"), Stub: []byte("MZ"), Init: []byte("i")}
	if _, err := p.UKI("1", CommandLine); !errors.Is(err, guestimage.ErrStub) {
		t.Errorf("UKI = %v, want ErrStub", err)
	}
}
