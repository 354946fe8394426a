package varstore_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/varstore"
)

// recorded reads a store of testdata.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, b []byte) *varstore.Store {
	t.Helper()
	s, err := varstore.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t testing.TB, s *varstore.Store) []byte {
	t.Helper()
	b, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func all(s *varstore.Store) (out []varstore.Variable) {
	for v := range s.All() {
		out = append(out, v)
	}
	return out
}

// codes are the reason codes of an error or of notices.
func codes(reasons []evidence.Reason) (out []evidence.Code) {
	for _, r := range reasons {
		out = append(out, r.Code)
	}
	return out
}

func TestRecordedStoresAreReadAndWrittenBackUnchanged(t *testing.T) {
	for name, want := range map[string]int{"own-keys.fd.gz": 3, "own-keys-after-first-boot.fd.gz": 34} {
		b := recorded(t, name)
		s := parse(t, b)
		if got := len(all(s)); got != want || len(s.Notices()) != 0 || s.Layout() != varstore.OVMF4M {
			t.Errorf("%s: %d variables, notices %v, %v, want %d", name, got, s.Notices(), s.Layout(), want)
		}
		if !bytes.Equal(encode(t, s), b) {
			t.Errorf("%s: the bytes changed", name)
		}
		pk, ok := s.Get(uefi.GlobalVariable, "PK")
		if at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); !ok || !pk.Time.Time().Equal(at) || pk.Attributes != 0x27 {
			t.Errorf("%s: PK = %v, %v, %#x", name, ok, pk.Time.Time(), pk.Attributes)
		}
	}
}

func TestTemplatesOfDebianAreReadAndWrittenBackUnchanged(t *testing.T) {
	names, err := filepath.Glob("/usr/share/OVMF/OVMF_VARS*.fd")
	if err != nil || len(names) == 0 {
		if os.Getenv("ASSAY_REQUIRE_QEMU") != "" {
			t.Fatal("the package ovmf is not installed")
		}
		t.Skip("the package ovmf is not installed")
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, b)
		if !bytes.Equal(encode(t, s), b) || len(s.Notices()) != 0 {
			t.Errorf("%s: the bytes changed, or notices: %v", name, s.Notices())
		}
		if len(all(s)) == 0 && !bytes.Equal(encode(t, varstore.New(s.Layout())), b) {
			t.Errorf("%s: New gives other bytes than an empty template", name)
		}
	}
}

func TestAChangedStoreIsCompactAndReadsTheSame(t *testing.T) {
	// A write is complete, and the spare block keeps what was written then.
	original := put(recorded(t, "own-keys-after-first-boot.fd.gz"), 0x42000, make([]byte, 0x42000)...)
	original = put(original, 0x41000, queue(0xF8, 1)[0x41000:0x42000]...)
	s := parse(t, original)
	before := all(s)
	v := varstore.Variable{
		Vendor: uefi.ImageSecurityDatabase, Name: "dbx", Attributes: 0x27, Time: uefi.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Data: []byte("odd"),
	}
	if err := s.Set(v); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Delete(uefi.GlobalVariable, "Lang"); err != nil || !found {
		t.Fatalf("Delete = %v, %v", found, err)
	}
	if found, err := s.Delete(uefi.GlobalVariable, "Lang"); err != nil || found {
		t.Fatalf("second Delete = %v, %v", found, err)
	}
	b := encode(t, s)
	again := parse(t, b)
	if d := cmp.Diff(all(s), all(again)); d != "" {
		t.Errorf("the file reads otherwise (-store +file):\n%s", d)
	}
	if n := len(all(again)); n != len(before) || len(again.Notices()) != 0 {
		t.Errorf("%d variables, notices %v, want %d", n, again.Notices(), len(before))
	}
	if got, ok := again.Get(v.Vendor, "dbx"); !ok || cmp.Diff(v, got) != "" {
		t.Errorf("Get(dbx) = %+v, %v", got, ok)
	}
	if bytes.Contains(b[:0x40000], []byte{0xAA, 0x55, 0x3C}) {
		t.Error("a deleted variable is still there")
	}
	if !bytes.Equal(encode(t, again), b) {
		t.Error("the compact file is not stable")
	}
	if !bytes.Equal(b[0x40000:0x41000], original[0x40000:0x41000]) {
		t.Error("what is neither variables nor a queue of writes changed")
	}
	empty := encode(t, varstore.New(varstore.OVMF4M))
	if !bytes.Equal(b[0x41000:], empty[0x41000:]) {
		t.Error("the queue of writes or the spare block is not empty")
	}
}

func TestWhatFirmwareHasNoRoomForIsRefused(t *testing.T) {
	big := varstore.Variable{Vendor: uefi.ImageSecurityDatabase, Name: "dbx", Attributes: 0x27, Data: make([]byte, 21292)}
	if err := varstore.New(varstore.OVMF4M).Set(big); err != nil {
		t.Errorf("the full list of revocations in the 4 MB build: %v", err)
	}
	want := []evidence.Code{"varstore.too-large"}
	if got := codes(evidence.Reasons(varstore.New(varstore.OVMF2M).Set(big))); cmp.Diff(want, got) != "" {
		t.Errorf("in the 2 MB build: %v, want %v", got, want)
	}
	s := varstore.New(varstore.OVMF2M)
	for i := range 6 {
		err := s.Set(varstore.Variable{Vendor: uefi.GlobalVariable, Name: string(rune('A' + i)), Data: make([]byte, 0x2700)})
		if (err != nil) != (i == 5) {
			t.Errorf("variable %d: %v", i, err)
		}
	}
	parse(t, encode(t, s))
	for _, v := range []varstore.Variable{{Name: "", Data: []byte{1}}, {Name: "x"}, {Name: string(make([]byte, 2000)), Data: []byte{1}}} {
		if got := codes(evidence.Reasons(s.Set(v))); cmp.Diff(want, got) != "" {
			t.Errorf("%.4q: %v, want %v", v.Name, got, want)
		}
	}
}

// put is b with bytes at an offset.
func put(b []byte, at int, v ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], v)
	return b
}

// twice is a store that has its first variable twice, in two states.
func twice(t *testing.T, first, second byte) []byte {
	t.Helper()
	s := varstore.New(varstore.OVMF4M)
	for _, n := range []string{"A", "B"} {
		if err := s.Set(varstore.Variable{Vendor: uefi.GlobalVariable, Name: n, Data: []byte{n[0], 0, 0, 0}}); err != nil {
			t.Fatal(err)
		}
	}
	b := encode(t, s)
	const size = 60 + 4 + 4
	return put(put(put(b, 0x64+size+60, 'A'), 0x64+2, first), 0x64+size+2, second)
}

func TestStoresThatNoFirmwareWritesAreRefused(t *testing.T) {
	good := recorded(t, "own-keys.fd.gz")
	for name, tc := range map[string]struct {
		b    []byte
		want evidence.Code
	}{
		"empty":                    {nil, "varstore.layout"},
		"cut":                      {good[:len(good)-1], "varstore.layout"},
		"a byte more":              {append(bytes.Clone(good), 0), "varstore.layout"},
		"qcow2":                    {put(good, 0, 'Q', 'F', 'I', 0xFB), "varstore.layout"},
		"volume header":            {put(good, 0x20, 1), "varstore.malformed"},
		"checksum":                 {put(good, 0x32, good[0x32]+1), "varstore.malformed"},
		"not authenticated":        {put(good, 0x48, 0x16, 0x36, 0xcf, 0xdd, 0x75, 0x32, 0x64, 0x41, 0x98, 0xb6, 0xfe, 0x85, 0x70, 0x7f, 0xfe, 0x7d), "varstore.not-authenticated"},
		"not formatted":            {put(good, 0x48+20, 0xFF), "varstore.malformed"},
		"size of the store":        {put(good, 0x48+16, 0), "varstore.malformed"},
		"name beyond the end":      {put(good, 0x64+36, 0, 0, 4, 0), "varstore.malformed"},
		"data beyond the end":      {put(good, 0x64+40, 0xFE, 0xFF, 0xFF, 0xFF), "varstore.malformed"},
		"sizes that overflow":      {put(good, 0x64+36, 0xFE, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF), "varstore.malformed"},
		"a live one without sizes": {put(good, 0x64+36, 0xFF, 0xFF, 0xFF, 0xFF), "varstore.malformed"},
		"name of odd length":       {put(good, 0x64+36, 5), "varstore.malformed"},
		"name without NUL":         {put(good, 0x64+60+4, 'x'), "varstore.malformed"},
		"NUL inside the name":      {put(good, 0x64+60, 0, 0), "varstore.malformed"},
		"one name twice":           {twice(t, 0x3F, 0x3F), "varstore.duplicate"},
		"two in transition":        {twice(t, 0x3E, 0x3E), "varstore.duplicate"},
	} {
		s, err := varstore.Parse(tc.b)
		if got := codes(evidence.Reasons(err)); s != nil || cmp.Diff([]evidence.Code{tc.want}, got) != "" {
			t.Errorf("%s: Parse = %v, want %s", name, err, tc.want)
		}
	}
}

func TestATornWriteLeavesTheVariableThatFirmwareWouldRead(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second byte
		want          string // data of the one that is live
		notices       int
	}{
		"the new one whole":         {0x3E, 0x3F, "B", 1},
		"the new one half":          {0x3E, 0x7F, "A", 2},
		"the new one not begun":     {0x3E, 0xFF, "A", 3},
		"the old one deleted":       {0x3C, 0x3F, "B", 0},
		"the old one after":         {0x3F, 0x3E, "A", 1},
		"both of unknown states":    {0x00, 0x15, "", 0},
		"both deleted, in two ways": {0x3C, 0x3D, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := twice(t, tc.first, tc.second)
			s := parse(t, b)
			v, ok := s.Get(uefi.GlobalVariable, "A")
			if ok != (tc.want != "") || ok && string(v.Data[:1]) != tc.want {
				t.Errorf("Get = %q, %v, want %q", v.Data, ok, tc.want)
			}
			for _, c := range codes(s.Notices()) {
				if c != "varstore.torn" {
					t.Errorf("notice %s", c)
				}
			}
			if len(s.Notices()) != tc.notices || !bytes.Equal(encode(t, s), b) {
				t.Errorf("notices %v, want %d, or the bytes changed", s.Notices(), tc.notices)
			}
			if err := s.Set(varstore.Variable{Vendor: uefi.GlobalVariable, Name: "C", Data: []byte{1}}); err != nil {
				t.Fatal(err)
			}
			if again := parse(t, encode(t, s)); len(again.Notices()) != 0 || len(all(again)) != len(all(s)) {
				t.Errorf("written anew: notices %v, %d variables, want %d", again.Notices(), len(all(again)), len(all(s)))
			}
		})
	}
}

// queue is a store whose queue of writes begins with a header in a state.
func queue(state byte, writes uint64) []byte {
	s := varstore.New(varstore.OVMF4M)
	b, _ := s.Bytes()
	h := make([]byte, 40+40*int(min(writes, 4)))
	h[0] = state
	binary.LittleEndian.PutUint64(h[24:], writes)
	return put(b, 0x41000+32, h...)
}

func TestAStoreWithAnUnfinishedWriteIsNotChanged(t *testing.T) {
	empty, _ := varstore.New(varstore.OVMF4M).Bytes()
	working := bytes.Clone(empty[0x41000:][:32])
	working[24] = 0 // another size of the queue, with its checksum
	binary.LittleEndian.PutUint32(working[16:], 0xFFFFFFFF)
	working[20] = 0xFF
	binary.LittleEndian.PutUint32(working[16:], crc32.ChecksumIEEE(working))
	working[20] = 0xFE
	for name, tc := range map[string]struct {
		b       []byte
		pending bool
	}{
		"no write":                  {empty, false},
		"a write complete":          {queue(0xF8, 1), false},
		"another after it":          {put(queue(0xF8, 1), 0x41000+32+80, 0xFE), true},
		"a write begun":             {queue(0xFE, 1), true},
		"its records there":         {queue(0xFC, 1), true},
		"complete, of huge length":  {queue(0xF8, 1<<63), true},
		"the block not valid":       {put(empty, 0x41000+20, 0xFF), true},
		"the block given up":        {put(empty, 0x41000+20, 0xFC), true},
		"a wrong checksum":          {put(empty, 0x41000+16, 0), true},
		"another size":              {put(empty, 0x41000, working...), true},
		"complete alone, one after": {put(queue(0xFB, 1), 0x41000+32+80, 0xFC), true},
		"complete alone":            {queue(0xFB, 1), false},
		"half a header":             {put(empty, 0x41000+32+16, 1), true},
		"longer than the queue":     {queue(0xF8, 200), true},
		"another block":             {put(empty, 0x41000, 0), true},
	} {
		s := parse(t, tc.b)
		if s.Pending() != tc.pending {
			t.Errorf("%s: Pending() = %v", name, s.Pending())
		}
		err := s.Set(varstore.Variable{Vendor: uefi.GlobalVariable, Name: "A", Data: []byte{1}})
		want := []evidence.Code(nil)
		if tc.pending {
			want = []evidence.Code{"varstore.pending-write"}
			if _, err := s.Delete(uefi.GlobalVariable, "A"); err == nil {
				t.Errorf("%s: Delete changes it", name)
			}
		}
		if d := cmp.Diff(want, codes(evidence.Reasons(err))); d != "" {
			t.Errorf("%s: Set = %v (-want +got):\n%s", name, err, d)
		}
		if d := cmp.Diff(want, codes(s.Notices())); d != "" {
			t.Errorf("%s: notices (-want +got):\n%s", name, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{}, uint32(0))
	f.Add([]byte{0x3E}, uint32(0x66))
	small := varstore.New(varstore.OVMF2M)
	for v := range parse(f, recorded(f, "own-keys-after-first-boot.fd.gz")).All() {
		if err := small.Set(v); err != nil {
			f.Fatal(err)
		}
	}
	base := encode(f, small)
	f.Fuzz(func(t *testing.T, patch []byte, at uint32) {
		b := bytes.Clone(base)
		copy(b[int(at)%len(b):], patch)
		s, err := varstore.Parse(b)
		if err != nil {
			if len(evidence.Reasons(err)) == 0 {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		if out := encode(t, s); !bytes.Equal(out, b) {
			t.Fatal("an unchanged store was written otherwise")
		}
		if s.Set(varstore.Variable{Vendor: uefi.GlobalVariable, Name: "fuzz", Data: []byte{1}}) != nil {
			return
		}
		again, err := varstore.Parse(encode(t, s))
		if err != nil {
			t.Fatalf("a changed store does not read: %v", err)
		}
		if d := cmp.Diff(all(s), all(again)); d != "" {
			t.Fatalf("a changed store reads otherwise:\n%s", d)
		}
	})
}
