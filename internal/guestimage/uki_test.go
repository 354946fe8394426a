package guestimage

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

// Offsets in the stub that the tests make.
const (
	stubPE      = 0x80
	stubOpt     = stubPE + 24
	stubTable   = stubOpt + 240
	stubHeaders = 0x400
)

// newStub is the smallest program that looks like systemd's: code, and the section by
// which it is known. Symbols follow, which no loader reads.
func newStub() []byte {
	b, le := make([]byte, stubHeaders), binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3C:], stubPE)
	copy(b[stubPE:], "PE\x00\x00")
	le.PutUint16(b[stubPE+4:], machineAMD64)
	le.PutUint16(b[stubPE+6:], 2)
	le.PutUint32(b[stubPE+12:], 0x800) // symbols
	le.PutUint32(b[stubPE+16:], 1)
	le.PutUint16(b[stubPE+20:], 240)
	o := b[stubOpt:]
	le.PutUint16(o, magicPE32Plus)
	le.PutUint32(o[8:], 0x400) // SizeOfInitializedData
	le.PutUint32(o[32:], 0x200)
	le.PutUint32(o[36:], 0x200)
	le.PutUint32(o[56:], 0x2200)
	le.PutUint32(o[60:], stubHeaders)
	le.PutUint32(o[64:], 0x1234) // CheckSum
	le.PutUint16(o[68:], efiApplication)
	le.PutUint32(o[108:], 16)
	for i, s := range []struct {
		name    string
		address uint32
	}{{".text", 0x1000}, {".sdmagic", 0x2100}} { // not aligned, as objcopy leaves it
		h := b[stubTable+i*sectionHeader:]
		copy(h[:8], s.name)
		le.PutUint32(h[8:], 0x40)
		le.PutUint32(h[12:], s.address)
		le.PutUint32(h[16:], 0x200)
		le.PutUint32(h[20:], uint32(stubHeaders+0x200*i))
	}
	b = append(b, bytes.Repeat([]byte{0xCC}, 0x200)...)
	b = append(b, stubMagic+"252 ####"...)
	return append(b, make([]byte, 0x200-len(stubMagic)-8+18)...) // and a symbol
}

func sections() []Section {
	return []Section{
		{".osrel", []byte("ID=test\n")},
		{".cmdline", []byte("quiet")},
		{".linux", bytes.Repeat([]byte("kernel"), 1000)},
		{".initrd", bytes.Repeat([]byte{7}, 0x200)},
	}
}

// check holds an image against what was put into it.
func check(t testing.TB, stub, image []byte, want []Section) {
	t.Helper()
	before, err := authenticode.Parse(bytes.NewReader(stub), int64(len(stub)))
	if err != nil {
		t.Fatal(err)
	}
	i, err := authenticode.Parse(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatalf("the image does not parse: %v", err)
	}
	if d := cmp.Diff(before.Sections, i.Sections[:len(before.Sections)]); d != "" {
		t.Errorf("the stub's sections changed (-before +after):\n%s", d)
	}
	var got []Section
	var end uint32
	for n, s := range i.Sections {
		if s.VirtualAddress < end {
			t.Errorf("section %q is at %#x, and the one before ends at %#x", s.Name, s.VirtualAddress, end)
		}
		end = s.VirtualAddress + max(s.VirtualSize, 1)
		if n < len(before.Sections) {
			continue
		}
		if s.VirtualAddress%pageSize != 0 {
			t.Errorf("section %q is at %#x in memory, which begins no page", s.Name, s.VirtualAddress)
		}
		data, err := io.ReadAll(i.Open(s))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, Section{s.Name, data})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("sections (-want +got):\n%s", d)
	}
	at := binary.LittleEndian.Uint32(image[peOffset:]) + optional
	if size := binary.LittleEndian.Uint32(image[at+56:]); size < end || size%0x200 != 0 {
		t.Errorf("SizeOfImage is %#x, and the last section ends at %#x", size, end)
	}
	last := i.Sections[len(i.Sections)-1]
	if n := last.Offset + last.Size; int(n) != len(image) {
		t.Errorf("the image has %d bytes, and its sections end at %d", len(image), n)
	}
}

func TestAnImageHasTheSectionsThatWereAdded(t *testing.T) {
	stub := newStub()
	before := bytes.Clone(stub)
	image, err := UKI(stub, sections()...)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stub, before) {
		t.Error("UKI changed the stub of its caller")
	}
	check(t, stub, image, sections())
	again, err := UKI(stub, sections()...)
	if err != nil || !bytes.Equal(image, again) {
		t.Errorf("the same parts give another image (%v)", err)
	}
	le := binary.LittleEndian
	if n := le.Uint64(image[stubPE+12:]); n != 0 {
		t.Errorf("the image points to symbols: %#x", n)
	}
	if n := le.Uint32(image[stubOpt+64:]); n != 0 {
		t.Errorf("the image has the stub's checksum %#x", n)
	}
	if n := le.Uint32(image[stubOpt+8:]); n != 0x400+0x200+0x200+0x1800+0x200 {
		t.Errorf("SizeOfInitializedData is %#x", n)
	}
}

// TestASignedImageStarts signs one, and has it judged as firmware does.
func TestASignedImageStarts(t *testing.T) {
	image, err := UKI(newStub(), sections()...)
	if err != nil {
		t.Fatal(err)
	}
	set, keys, err := keyset.New("own", keyset.Options{Kind: keyset.Own, Random: rand.Reader, Now: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.Signing(sigdb.DB, keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := authenticode.Sign(image, s)
	if err != nil {
		t.Fatal(err)
	}
	i, err := authenticode.Parse(bytes.NewReader(signed), int64(len(signed)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Verify(authenticode.NewKeys(set.Database(sigdb.DB), set.Database(sigdb.DBX))); err != nil {
		t.Errorf("Verify: %v", err)
	}
	if _, err := UKI(signed, Section{".more", []byte{1}}); !errors.Is(err, ErrStub) {
		t.Errorf("sections behind a signature: %v, want ErrStub", err)
	}
}

// TestTheStubOfDebianTakesTheSections has the real one, where make setup put it.
func TestTheStubOfDebianTakesTheSections(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	stub, err := os.ReadFile(filepath.Join(cache, "assay-test", "linuxx64.efi.stub"))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	image, err := UKI(stub, sections()...)
	if err != nil {
		t.Fatal(err)
	}
	check(t, stub, image, sections())
}

func TestAHostileStubIsRefused(t *testing.T) {
	le := binary.LittleEndian
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[at:], v); return b }
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], v); return b }
	}
	second := stubTable + sectionHeader
	for name, tc := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"nothing":                     {func([]byte) []byte { return nil }, "0 bytes"},
		"another machine":             {put16(stubPE+4, 0x1C0), "no EFI application for x86-64"},
		"no EFI application":          {put16(stubOpt+68, 3), "no EFI application for x86-64"},
		"PE header far away":          {put32(peOffset, 0xFFFFFFF0), "are not there"},
		"no alignment in the file":    {put32(stubOpt+36, 0), "aligned to 0"},
		"an odd alignment":            {put32(stubOpt+36, 0x300), "aligned to 768"},
		"a huge alignment":            {put32(stubOpt+32, 1<<31), "in memory"},
		"memory closer than the file": {put32(stubOpt+36, 0x1000), "aligned to 4096"},
		"a section beyond the file":   {put32(second+20, 0x10000), "has 512 bytes at"},
		"a section beyond memory":     {put32(second+12, 0xFFFFFF00), "ends at"},
		"a section that is too large": {put32(second+8, 0xFFFFFFFF), "ends at"},
		"headers beyond the file":     {put32(stubOpt+60, 0x10000), "headers of"},
		"too many sections":           {put16(stubPE+6, 0xFFFF), "sections in headers"},
		"not the stub":                {func(b []byte) []byte { b[stubHeaders+0x200] = 'x'; return b }, ".sdmagic does not begin"},
		"a magic that is cut":         {put32(second+8, 8), ".sdmagic does not begin"},
		"no magic":                    {func(b []byte) []byte { b[second+1] = 'x'; return b }, "no section .sdmagic"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := UKI(tc.change(newStub()), sections()...)
			if !errors.Is(err, ErrStub) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("UKI = %v, want ErrStub with %q", err, tc.want)
			}
		})
	}
	whole := newStub()
	for n := range len(whole) - 18 { // the symbol is nobody's
		if _, err := UKI(whole[:n], sections()...); err == nil {
			t.Errorf("%d of %d bytes are taken for a stub", n, len(whole))
		}
	}
}

func TestASectionHasAPlace(t *testing.T) {
	one := []byte{1}
	var many []Section
	for c := 'a'; c <= 'z'; c++ {
		many = append(many, Section{"." + string(c), one})
	}
	for name, tc := range map[string]struct {
		sections []Section
		want     error
	}{
		"twice":               {[]Section{{".linux", one}, {".linux", one}}, ErrExists},
		"the stub's own":      {[]Section{{".text", one}}, ErrExists},
		"empty":               {[]Section{{".linux", nil}}, ErrSize},
		"no name":             {[]Section{{"", one}}, ErrName},
		"a long name":         {[]Section{{".too-long", one}}, ErrName},
		"no dot":              {[]Section{{"linux", one}}, ErrName},
		"a name that is cut":  {[]Section{{".a\x00b", one}}, ErrName},
		"more than have room": {many, ErrSize},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := UKI(newStub(), tc.sections...); !errors.Is(err, tc.want) {
				t.Errorf("UKI = %v, want %v", err, tc.want)
			}
		})
	}
	if image, err := UKI(newStub()); err != nil {
		t.Error(err)
	} else {
		check(t, newStub(), image, nil)
	}
}

func FuzzUKI(f *testing.F) {
	f.Add(newStub(), []byte("quiet"))
	f.Fuzz(func(t *testing.T, stub, data []byte) {
		s := Section{".linux", data}
		image, err := UKI(stub, s)
		if err != nil {
			return
		}
		i, err := authenticode.Parse(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatalf("the image does not parse: %v", err)
		}
		got, ok := i.Section(".linux")
		if !ok {
			t.Fatal("the section is gone")
		}
		text, err := io.ReadAll(i.Open(got))
		if err != nil || !bytes.Equal(text, data) {
			t.Fatalf("the section has %d bytes of %d: %v", len(text), len(data), err)
		}
	})
}
