package uefi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// secureBootVariable is SecureBoot = 1 as firmware measures it.
const secureBootVariable = "61dfe48bca93d211aa0d00e098032b8c 0a00000000000000 0100000000000000" +
	"53006500630075007200650042006f006f007400 01"

func TestGUIDIsWrittenAsItIsRead(t *testing.T) {
	const text = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	g, err := ParseGUID(text)
	if err != nil {
		t.Fatal(err)
	}
	if g.String() != text {
		t.Errorf("String() = %s, want %s", g, text)
	}
	if want := unhex(t, "61dfe48bca93d211aa0d00e098032b8c"); !bytes.Equal(g[:], want) {
		t.Errorf("ParseGUID(%s) = %x, want %x", text, g[:], want)
	}
}

func TestTextThatIsNoGUIDIsRefused(t *testing.T) {
	for _, s := range []string{"", "8be4df61", "8be4df61-93ca-11d2-aa0d-00e098032b8g", "8be4df61_93ca-11d2-aa0d-00e098032b8c"} {
		if _, err := ParseGUID(s); !errors.Is(err, ErrGUID) {
			t.Errorf("ParseGUID(%q) = %v, want %v", s, err, ErrGUID)
		}
	}
}

func TestVariableDataUsesItsWholeLength(t *testing.T) {
	b := unhex(t, secureBootVariable)
	v, err := ParseVariableData(b)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Is(GlobalVariable, "SecureBoot") || v.Name() != "SecureBoot" || !bytes.Equal(v.Data, []byte{1}) {
		t.Errorf("ParseVariableData = %v %q %x", v.Vendor, v.Name(), v.Data)
	}
	if v.Is(ImageSecurityDatabase, "SecureBoot") || v.Is(GlobalVariable, "SecureBoo") {
		t.Error("Is accepts another vendor or name")
	}
	out, err := wire.EncodeLE(&v)
	if err != nil || !bytes.Equal(out, b) {
		t.Errorf("EncodeLE = %x, %v, want %x", out, err, b)
	}
	for n := range len(b) {
		if _, err := ParseVariableData(b[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
	if _, err := ParseVariableData(append(b, 0)); !errors.Is(err, wire.ErrTrailing) {
		t.Errorf("one byte more gives %v, want %v", err, wire.ErrTrailing)
	}
}

func TestVariableWithHugeLengthsIsRefused(t *testing.T) {
	for name, lengths := range map[string]string{
		"name": "ffffffffffffffff 0100000000000000",
		"data": "0100000000000000 ffffffffffffffff",
		"sum":  "0100000000000000 feffffffffffffff",
	} {
		b := unhex(t, "61dfe48bca93d211aa0d00e098032b8c"+lengths+"53006500")
		if _, err := ParseVariableData(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// diskPath is PciRoot(0)/Pci(1,0)/HD(1,GPT,…)/\EFI\BOOT\BOOTX64.EFI.
const diskPath = "02010c00d041030a00000000 010106000001 " +
	"04012a0001000000 0008000000000000 0000020000000000 33445555667788990011223344556677 0202" +
	"04041c005c004500460049005c0042002e00450046004900 0000 0000 7fff0400"

func TestDevicePathIsWrittenAsTheStandardDoes(t *testing.T) {
	for name, tc := range map[string]struct{ in, want, file string }{
		"disk": {diskPath, `PciRoot(0x0)/Pci(0x1,0x0)/HD(1,GPT,55554433-7766-9988-0011-223344556677)\EFI\B.EFI`, `\EFI\B.EFI`},
		"volume": {
			"04071400 c98cd8930b504d43b5e2e8a5a6a6b1a0 04061400 83a5047c3e9e1c4fad65e05268d0b4d1 7fff0400",
			"Fv(93d88cc9-500b-434d-b5e2-e8a5a6a6b1a0)/FvFile(7c04a583-9e3e-4f1c-ad65-e05268d0b4d1)", "",
		},
		"nvme":    {"03171000 01000000 0102030405060708", "NVMe(0x1,0102030405060708)", ""},
		"unknown": {"0a0b0600 beef", "Path(10,11,beef)", ""},
		"short":   {"04010600 beef", "Path(4,1,beef)", ""},
		"empty":   {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, tc.in)
			got, err := DevicePathText(b)
			if err != nil || got != tc.want {
				t.Errorf("DevicePathText(%x) = %q, %v, want %q", b, got, err, tc.want)
			}
			if got := FilePath(b); got != tc.file {
				t.Errorf("FilePath(%x) = %q, want %q", b, got, tc.file)
			}
		})
	}
}

func TestDevicePathNodesAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"cut header":    {[]byte{4, 4, 4}, ErrDevicePath},
		"length 0":      {[]byte{4, 4, 0, 0}, ErrDevicePath},
		"beyond":        {[]byte{4, 4, 5, 0}, ErrDevicePath},
		"65 nodes":      {bytes.Repeat([]byte{4, 4, 4, 0}, 65), ErrDevicePathLong},
		"64 nodes":      {bytes.Repeat([]byte{4, 4, 4, 0}, 64), nil},
		"end and stuff": {[]byte{0x7F, 0xFF, 4, 0, 1}, nil},
	} {
		if _, err := DevicePathText(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: DevicePathText = %v, want %v", name, err, tc.want)
		}
	}
}

func TestLoadOptionKeepsItsParts(t *testing.T) {
	b := unhex(t, "01000000 0400 6100620000 00 7fff0400 aabb")
	got, err := ParseLoadOption(b)
	if err != nil {
		t.Fatal(err)
	}
	want := LoadOption{Attributes: 1, Description: "ab", DevicePath: []byte{0x7F, 0xFF, 4, 0}, OptionalData: []byte{0xAA, 0xBB}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ParseLoadOption (-want +got):\n%s", d)
	}
	for n := range len(b) - 2 {
		if _, err := ParseLoadOption(b[:n]); err == nil {
			t.Errorf("the first %d bytes were accepted", n)
		}
	}
}

func TestTextCannotDriveATerminal(t *testing.T) {
	if got := Text([]byte{'a', 0, 0x1B, 0, 'b', 0, 0, 0, 'c', 0}); got != "a\uFFFDb" {
		t.Errorf("Text = %q", got)
	}
}

func FuzzVariableData(f *testing.F) {
	f.Add(unhex(f, secureBootVariable))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVariableData(b)
		if err != nil {
			return
		}
		out, err := wire.EncodeLE(&v)
		if err != nil || !bytes.Equal(out, b) {
			t.Fatalf("EncodeLE = %x, %v, want %x", out, err, b)
		}
		_ = v.Name()
	})
}

func FuzzDevicePath(f *testing.F) {
	f.Add(unhex(f, diskPath))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DevicePathText(b); err == nil {
			_ = FilePath(b)
		}
		_, _ = ParseLoadOption(b)
	})
}

func TestTimesOfVariablesCompareToTheSecond(t *testing.T) {
	b := unhex(t, "e907 03 0a 02 35 27 00 00000000 0000 00 00")
	var at Time
	if err := wire.DecodeLE(b, &at); err != nil {
		t.Fatal(err)
	}
	want := time.Date(2025, 3, 10, 2, 53, 39, 0, time.UTC)
	if !at.Time().Equal(want) || at != NewTime(want) || !at.Bare() || at.IsZero() {
		t.Errorf("%x is %v, want %v", b, at.Time(), want)
	}
	if out, err := wire.EncodeLE(&at); err != nil || !bytes.Equal(out, b) {
		t.Errorf("EncodeLE = %x, %v", out, err)
	}
	if later := NewTime(want.Add(time.Second)); at.Compare(later) >= 0 || later.Compare(at) <= 0 || at.Compare(at) != 0 {
		t.Error("a second makes no difference")
	}
	if later := NewTime(want.AddDate(0, 1, -9)); at.Compare(later) >= 0 {
		t.Error("the month does not count before the day")
	}
	for i, n := range []int{7, 8, 12, 14, 15} {
		c := bytes.Clone(b)
		c[n] = 1
		var odd Time
		if err := wire.DecodeLE(c, &odd); err != nil || odd.Bare() {
			t.Errorf("case %d: %+v, %v is bare", i, odd, err)
		}
	}
}
