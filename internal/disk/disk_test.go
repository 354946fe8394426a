package disk_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/disk/disktest"
)

// files are some that need folders, long names and several clusters.
func files() map[string][]byte {
	return map[string][]byte{
		"EFI/BOOT/BOOTX64.EFI":             bytes.Repeat([]byte("boot loader "), 5000),
		"EFI/debian/grub.cfg":              []byte("boot\n"),
		"EFI/a name that is rather long.x": []byte("long"),
		"empty":                            {},
	}
}

func open(t *testing.T, b []byte, format disk.Format) *disk.Disk {
	t.Helper()
	d, err := disk.Open(bytes.NewReader(b), int64(len(b)), format)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// contents reads the files back.
func contents(t *testing.T, d *disk.Disk) map[string][]byte {
	t.Helper()
	_, volumes, err := d.Volumes()
	if err != nil || len(volumes) != 1 {
		t.Fatalf("Volumes() = %d volumes, %v", len(volumes), err)
	}
	out := map[string][]byte{}
	var walk func(dir string)
	walk = func(dir string) {
		all, err := volumes[0].List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Folder {
				walk(dir + e.Name + "/")
				continue
			}
			r, err := volumes[0].Open(strings.ToUpper(dir + e.Name))
			if err != nil {
				t.Fatal(err)
			}
			if out[dir+e.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk("")
	return out
}

func TestFilesAreReadBack(t *testing.T) {
	for width, clusters := range map[int]string{12: "few", 16: "some", 32: "many"} {
		got := contents(t, open(t, disktest.Partitioned(disktest.FAT(width, files())), disk.Raw))
		if diff := cmp.Diff(files(), got); diff != "" {
			t.Errorf("FAT%d, %s clusters (-want +got):\n%s", width, clusters, diff)
		}
	}
}

func TestQCOW2IsReadAsItsDisk(t *testing.T) {
	raw := disktest.Image(files())
	d := open(t, disktest.QCOW2(raw), disk.QCOW2)
	got := make([]byte, len(raw))
	if n, err := d.ReadAt(got, 0); n != len(raw) || err != nil || !bytes.Equal(got, raw) {
		t.Errorf("ReadAt() = %d, %v, the same: %t", n, err, bytes.Equal(got, raw))
	}
	if n, err := d.ReadAt(got, 1); n != len(raw)-1 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt() past the end = %d, %v", n, err)
	}
}

// An entry of version 3 may say that a cluster reads as zeros, whatever it has.
func TestQCOW2ClusterOfZerosIsZeros(t *testing.T) {
	b := disktest.QCOW2(disktest.Image(files()))
	b[2<<16+7] |= 1
	got := make([]byte, 1024)
	if _, err := open(t, b, disk.QCOW2).ReadAt(got, 0); err != nil || !bytes.Equal(got, make([]byte, 1024)) {
		t.Errorf("ReadAt() = %v, %x", err, got)
	}
	b[7] = 2 // version 2 has no such entries, and its header is shorter
	if _, err := open(t, b, disk.QCOW2).ReadAt(got, 0); err != nil || bytes.Equal(got, make([]byte, 1024)) {
		t.Errorf("version 2: ReadAt() = %v, zeros", err)
	}
}

// What QEMU's own tool writes, compressed and with clusters of other sizes, is read.
func TestQCOW2OfQEMUIsRead(t *testing.T) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("ASSAY_REQUIRE_QEMU") != "" {
			t.Fatal("qemu-img is not there: run make setup")
		}
		t.Skip("qemu-img is not there")
	}
	t.Parallel()
	raw := disktest.Image(files())
	dir := t.TempDir()
	from := filepath.Join(dir, "raw")
	if err := os.WriteFile(from, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]string{
		"plain": {}, "compressed": {"-c"}, "version 2": {"-o", "compat=0.10"},
		"small clusters, compressed": {"-c", "-o", "cluster_size=512"}, "large clusters": {"-o", "cluster_size=2M"},
	} {
		to := filepath.Join(dir, "qcow2")
		if out, err := exec.Command(tool, append(append([]string{"convert", "-O", "qcow2"}, options...), from, to)...).CombinedOutput(); err != nil {
			t.Fatalf("qemu-img: %v: %s", err, out)
		}
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(raw))
		if _, err := open(t, b, disk.QCOW2).ReadAt(got, 0); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: ReadAt() = %v, the same: %t", name, err, bytes.Equal(got, raw))
		}
	}
}

func TestQCOW2ThatLeadsElsewhereIsRefused(t *testing.T) {
	good := disktest.QCOW2(disktest.Image(files()))
	for name, tc := range map[string]struct {
		at    int
		value []byte
		want  error
	}{
		"a backing file":           {8, []byte{0, 0, 0, 0, 0, 0, 2, 0}, disk.ErrUnsupported},
		"an external data file":    {79, []byte{4}, disk.ErrUnsupported},
		"extended L2 entries":      {79, []byte{16}, disk.ErrUnsupported},
		"encryption":               {35, []byte{1}, disk.ErrUnsupported},
		"zstd":                     {79, []byte{8}, disk.ErrUnsupported},
		"version 4":                {7, []byte{4}, disk.ErrUnsupported},
		"marked corrupt":           {79, []byte{2}, disk.ErrMalformed},
		"no magic":                 {0, []byte{'X'}, disk.ErrMalformed},
		"clusters of 2^63 bytes":   {23, []byte{63}, disk.ErrMalformed},
		"a disk of 2^63 bytes":     {24, []byte{0x80}, disk.ErrUnsupported},
		"an L1 table past the end": {40, []byte{0x7F}, disk.ErrMalformed},
		"an L1 table too small":    {39, []byte{0}, disk.ErrMalformed},
	} {
		b := bytes.Clone(good)
		copy(b[tc.at:], tc.value)
		if name == "zstd" {
			b[103], b[104] = 112, 1
		}
		if _, err := disk.Open(bytes.NewReader(b), int64(len(b)), disk.QCOW2); !errors.Is(err, tc.want) {
			t.Errorf("%s: Open() = %v, want %v", name, err, tc.want)
		}
	}
}

func TestQCOW2WithBadTablesIsMalformed(t *testing.T) {
	good := disktest.QCOW2(disktest.Image(files()))
	for name, tc := range map[string]struct {
		at    int
		value []byte
	}{
		"an L2 table past the end":         {1 << 16, []byte{0x80, 0x7F, 0, 0, 0, 0, 0, 0}},
		"an L2 table inside a cluster":     {1<<16 + 6, []byte{2}},
		"a cluster inside another":         {2<<16 + 6, []byte{2}},
		"a compressed cluster past it all": {2 << 16, []byte{0x40, 0x3F}},
		"a compressed cluster of noise":    {2 << 16, []byte{0x40, 0, 0, 0, 0, 0, 0, 0}},
	} {
		b := bytes.Clone(good)
		copy(b[tc.at:], tc.value)
		if _, err := open(t, b, disk.QCOW2).ReadAt(make([]byte, 512), 0); !errors.Is(err, disk.ErrMalformed) {
			t.Errorf("%s: ReadAt() = %v", name, err)
		}
	}
}

// The recorded boots of QEMU measured a table with the same identifiers.
func TestMeasuredTableIsThatOfARecordedBoot(t *testing.T) {
	table, err := open(t, disktest.PartitionedSize(make([]byte, 512), 131072), disk.Raw).Table()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/gpt-event.hex")
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := hex.DecodeString(strings.TrimSpace(string(want)))
	if err != nil {
		t.Fatal(err)
	}
	// The disk of the record is longer: sfdisk leaves room behind the partition.
	got := bytes.Clone(table.Measured)
	for _, at := range []int{32, 48} { // AlternateLBA, LastUsableLBA
		copy(got[at:at+8], recorded[at:])
	}
	copy(got[16:20], recorded[16:])
	copy(got[88:92], recorded[88:])
	if diff := cmp.Diff(hex.EncodeToString(recorded), hex.EncodeToString(got)); diff != "" {
		t.Errorf("(-recorded +got):\n%s", diff)
	}
}

func TestDamagedTableIsReadFromTheEnd(t *testing.T) {
	b := disktest.Image(files())
	b[512+56]++
	d := open(t, b, disk.Raw)
	table, err := d.Table()
	if err != nil {
		t.Fatal(err)
	}
	if table.Measured != nil || len(table.Partitions) != 1 || table.Partitions[0].ID != disktest.PartitionID {
		t.Errorf("Table() = %+v", table)
	}
	b[len(b)-512+56]++
	if _, err := d.Table(); !errors.Is(err, disk.ErrMalformed) {
		t.Errorf("Table() with both damaged = %v", err)
	}
}

func TestPartitionTableIsBounded(t *testing.T) {
	for name, change := range map[string]func(h []byte){
		"many entries":       func(h []byte) { binary.LittleEndian.PutUint32(h[80:], 1<<31) },
		"large entries":      func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 1<<31) },
		"entries of nothing": func(h []byte) { binary.LittleEndian.PutUint32(h[84:], 0) },
		"entries elsewhere":  func(h []byte) { binary.LittleEndian.PutUint64(h[72:], 1<<62) },
		"of another sector":  func(h []byte) { binary.LittleEndian.PutUint64(h[24:], 9) },
		"a large header":     func(h []byte) { binary.LittleEndian.PutUint32(h[12:], 513) },
	} {
		b := disktest.Image(files())[:4096*512]
		change(b[512:])
		clear(b[512+16 : 512+20])
		binary.LittleEndian.PutUint32(b[512+16:], crc32.ChecksumIEEE(b[512:512+92]))
		if _, err := open(t, b, disk.Raw).Table(); !errors.Is(err, disk.ErrMalformed) {
			t.Errorf("%s: Table() = %v", name, err)
		}
	}
}

// A file whose clusters lie in another order is read in its own, from any place.
func TestFileInPiecesIsReadInOrder(t *testing.T) {
	le := binary.LittleEndian
	want := make([]byte, 5*512-7)
	for i := range want {
		want[i] = byte(i / 3)
	}
	b := disktest.FAT(16, map[string][]byte{"f": want})
	f, err := disk.OpenFAT(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Index(b, want[:512])
	// Clusters 2 3 4 5 6 become 2 5 4 3 6.
	three, five := bytes.Clone(b[data+512:data+1024]), bytes.Clone(b[data+3*512:data+4*512])
	copy(b[data+512:], five)
	copy(b[data+3*512:], three)
	for from, to := range map[int]uint16{2: 5, 5: 4, 4: 3, 3: 6} {
		le.PutUint16(b[512+2*from:], to)
	}
	r, err := f.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	for from := range len(want) {
		for _, n := range []int{1, 511, 600, len(want) - from} {
			got := make([]byte, n)
			k, err := r.ReadAt(got, int64(from))
			if rest := len(want) - from; k != min(n, rest) || (n <= rest) != (err == nil) || !bytes.Equal(got[:k], want[from:from+k]) {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", n, from, k, err)
			}
		}
	}
}

func TestTooManyPartitionsAreRefused(t *testing.T) {
	b := disktest.Image(files())
	le := binary.LittleEndian
	entries := bytes.Repeat(b[1024:1024+128], 300)
	copy(b[100*512:], entries)
	h := b[512 : 512+92]
	le.PutUint64(h[72:], 100)
	le.PutUint32(h[80:], 300)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	b = b[:len(b)-512] // no second table
	if _, err := open(t, b, disk.Raw).Table(); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("Table() = %v", err)
	}
}

// A long name that belongs to another short one is none.
func TestLongNameIsTiedToItsShortOne(t *testing.T) {
	b := disktest.FAT(16, map[string][]byte{"a long name": {1}})
	at := bytes.Index(b, []byte("A00     "))
	b[at] = 'B'
	f, err := disk.OpenFAT(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open("a long name"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open() of the long name = %v", err)
	}
	if _, err := f.Open("b00"); err != nil {
		t.Errorf("Open() of the short name = %v", err)
	}
}

func TestFileSystemIsBounded(t *testing.T) {
	le := binary.LittleEndian
	for name, change := range map[string]func(b []byte){
		"a chain that is a circle":  func(b []byte) { le.PutUint16(b[512+2*2:], 2) },
		"a chain that leads out":    func(b []byte) { le.PutUint16(b[512+2*2:], 0x7FFF) },
		"a chain that ends early":   func(b []byte) { le.PutUint16(b[512+2*2:], 0xFFFF) },
		"a chain of a free cluster": func(b []byte) { le.PutUint16(b[512+2*2:], 0) },
	} {
		b := disktest.FAT(16, map[string][]byte{"f": bytes.Repeat([]byte{1}, 512*5000)})
		change(b)
		f, err := disk.OpenFAT(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := f.Open("f")
		if name == "a chain that is a circle" { // the file's size ends it
			if err != nil || r.Size() != 512*5000 {
				t.Errorf("%s: Open() = %v", name, err)
			}
			continue
		}
		if !errors.Is(err, disk.ErrMalformed) {
			t.Errorf("%s: Open() = %v", name, err)
		}
	}
}

func TestHeaderOfAFileSystemHasToFit(t *testing.T) {
	good := disktest.FAT(16, files())
	for name, tc := range map[string]struct {
		at    int
		value []byte
	}{
		"sectors of 100 bytes":        {11, []byte{100, 0}},
		"clusters of three sectors":   {13, []byte{3}},
		"no reserved sectors":         {14, []byte{0, 0}},
		"no table":                    {16, []byte{0}},
		"longer than its partition":   {32, []byte{0xFF, 0xFF, 0xFF}},
		"of no clusters":              {32, []byte{60, 0, 0, 0}},
		"a table that is too short":   {22, []byte{1, 0}},
		"no root folder, and not big": {17, []byte{0, 0}},
	} {
		b := bytes.Clone(good)
		copy(b[tc.at:], tc.value)
		if _, err := disk.OpenFAT(bytes.NewReader(b), int64(len(b))); !errors.Is(err, disk.ErrMalformed) {
			t.Errorf("%s: OpenFAT() = %v", name, err)
		}
	}
}

func TestWhatIsNotThereIsNotThere(t *testing.T) {
	_, volumes, err := open(t, disktest.Image(files()), disk.Raw).Volumes()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nothing", "EFI/nothing", "empty/nothing", "EFI/../empty", strings.Repeat("EFI/", 100)} {
		if _, err := volumes[0].Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) = %v", name, err)
		}
	}
	if _, err := volumes[0].Open("EFI"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a folder = %v", err)
	}
	if _, err := volumes[0].List("empty"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("List of a file = %v", err)
	}
}

// Two entries of one name: what firmware opens is not known.
func TestNameThatStandsTwiceIsRefused(t *testing.T) {
	b := disktest.FAT(16, map[string][]byte{"aa": {1}, "bb": {2}})
	at := bytes.Index(b, []byte("b\x00b\x00"))
	copy(b[at:], "a\x00a\x00")
	f, err := disk.OpenFAT(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open("AA"); !errors.Is(err, disk.ErrMalformed) {
		t.Errorf("Open() = %v", err)
	}
}

// A disk cut short anywhere is an error or a disk, never a panic.
func TestEveryPrefixIsRead(t *testing.T) {
	raw := disktest.Partitioned(disktest.FAT(12, files()))
	for n := 0; n < len(raw); n += 999 {
		use(raw[:n], disk.Raw)
	}
	packed := disktest.QCOW2(raw)
	for n := 0; n < len(packed); n += 9999 {
		use(packed[:n], disk.QCOW2)
	}
}

// use reads all that can be read.
func use(b []byte, format disk.Format) {
	d, err := disk.Open(bytes.NewReader(b), int64(len(b)), format)
	if err != nil {
		return
	}
	_, volumes, err := d.Volumes()
	if err != nil {
		return
	}
	for _, v := range volumes {
		for _, dir := range []string{"", "EFI", "EFI/BOOT"} {
			all, _ := v.List(dir)
			for _, e := range all[:min(len(all), 8)] {
				if r, err := v.Open(dir + "/" + e.Name); err == nil {
					io.CopyN(io.Discard, r, 1<<16)
				}
			}
		}
	}
}

// A patch changes a good disk: places and bytes.
func FuzzDisk(f *testing.F) {
	raw := disktest.Partitioned(disktest.FAT(12, files()))
	packed := disktest.QCOW2(raw)
	f.Add(false, uint32(2048*512), []byte("\xEB"), uint32(512), []byte("EFI"))
	f.Add(true, uint32(1<<16), []byte{0x80}, uint32(2<<16), []byte{0x40})
	f.Fuzz(func(_ *testing.T, q bool, at1 uint32, p1 []byte, at2 uint32, p2 []byte) {
		good, format := raw, disk.Raw
		if q {
			good, format = packed, disk.QCOW2
		}
		b := bytes.Clone(good)
		copy(b[int(at1)%len(b):], p1)
		copy(b[int(at2)%len(b):], p2)
		if !q { // what is changed counts
			clear(b[512+16 : 512+20])
			binary.LittleEndian.PutUint32(b[512+88:], crc32.ChecksumIEEE(b[1024:1024+128*128]))
			binary.LittleEndian.PutUint32(b[512+16:], crc32.ChecksumIEEE(b[512:512+92]))
		}
		use(b, format)
	})
}
