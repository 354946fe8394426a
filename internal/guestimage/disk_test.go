package guestimage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/uefi"
)

// sparse is a file in memory, of which only what was written is there.
type sparse struct {
	bytes   []byte
	written int
}

func (s *sparse) WriteAt(b []byte, at int64) (int, error) {
	if end := int(at) + len(b); end > len(s.bytes) {
		s.bytes = append(s.bytes, make([]byte, end-len(s.bytes))...)
	}
	s.written += len(b)
	return copy(s.bytes[at:], b), nil
}

func files() []File {
	return []File{
		{Name: "EFI/BOOT/BOOTX64.EFI", Data: bytes.Repeat([]byte("image "), 5000)},
		{Name: "EFI/BOOT/grubx64.efi", Data: []byte("grub")},
		{Name: "EFI/debian/grub.cfg", Data: []byte("boot\n")},
		{Name: "empty", Data: nil},
		{Name: "vmlinuz", Data: bytes.Repeat([]byte{1, 2, 3, 4}, 128)}, // just one cluster, or two
	}
}

func disk() *Disk {
	return &Disk{
		GUID: uefi.MustGUID("11111111-2222-4333-8444-555555555555"), Partition: uefi.MustGUID("66666666-7777-4888-8999-aaaaaaaaaaaa"),
		Volume: 0x12345678, Time: time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC), Files: files(),
	}
}

func write(t testing.TB, d *Disk) *sparse {
	t.Helper()
	s := new(sparse)
	n, err := d.Write(s)
	if err != nil {
		t.Fatal(err)
	}
	if int(n) != len(s.bytes) {
		t.Errorf("Write = %d, and wrote up to %d", n, len(s.bytes))
	}
	return s
}

// partition reads the table as firmware does (UEFI 2.10, 5.3.2: the header's checksum,
// its place, the checksum of the array), from its first or its last sector.
func partition(t *testing.T, disk []byte, at int) []byte {
	t.Helper()
	le := binary.LittleEndian
	h := bytes.Clone(disk[at*sectorSize:][:92])
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if string(h[:8]) != "EFI PART" || crc32.ChecksumIEEE(h) != sum || int(le.Uint64(h[24:])) != at {
		t.Fatalf("header of the table at sector %d: %x", at, h)
	}
	if other := le.Uint64(h[32:]); int(other)+at != len(disk)/sectorSize {
		t.Errorf("the other table is at %d, on a disk of %d sectors", other, len(disk)/sectorSize)
	}
	array := disk[int(le.Uint64(h[72:]))*sectorSize:][:le.Uint32(h[80:])*le.Uint32(h[84:])]
	if crc32.ChecksumIEEE(array) != le.Uint32(h[88:]) {
		t.Error("checksum of the array")
	}
	first, last := le.Uint64(array[32:]), le.Uint64(array[40:])
	if first < le.Uint64(h[40:]) || last > le.Uint64(h[48:]) || !bytes.Equal(array[:16], systemPartition[:]) {
		t.Errorf("partition from %d to %d of %d to %d", first, last, le.Uint64(h[40:]), le.Uint64(h[48:]))
	}
	return disk[first*sectorSize : (last+1)*sectorSize]
}

// A reader reads FAT32 by its specification.
type reader struct {
	t      *testing.T
	b      []byte
	size   int // of a cluster
	data   int // offset of cluster 2
	fat    []byte
	count  int
	linked map[uint32]bool
}

func read(t *testing.T, b []byte) map[string]string {
	t.Helper()
	le := binary.LittleEndian
	reserved, fats, fatSize := int(le.Uint16(b[14:])), int(b[16]), int(le.Uint32(b[36:]))
	r := &reader{t: t, b: b, size: int(b[13]) * sectorSize, data: (reserved + fats*fatSize) * sectorSize, linked: map[uint32]bool{}}
	if total := int(le.Uint32(b[32:])) * sectorSize; total != len(b) || b[510] != 0x55 || b[511] != 0xAA {
		t.Errorf("a volume of %d bytes in a partition of %d", total, len(b))
	}
	r.count = (len(b) - r.data) / r.size
	if r.count < 65525 {
		t.Errorf("%d clusters make it FAT16", r.count)
	}
	if r.fat = b[reserved*sectorSize:][:fatSize*sectorSize]; len(r.fat) < 4*(r.count+2) {
		t.Errorf("a table of %d bytes for %d clusters", len(r.fat), r.count)
	}
	if !bytes.Equal(r.fat, b[reserved*sectorSize+len(r.fat):][:len(r.fat)]) {
		t.Error("the tables differ")
	}
	if !bytes.Equal(b[:1024], b[6*sectorSize:][:1024]) {
		t.Error("the copy of the boot sector differs")
	}
	out := map[string]string{}
	r.folder("", le.Uint32(b[44:]), 0, out)
	if free := int(le.Uint32(b[sectorSize+488:])); free != r.count-len(r.linked) {
		t.Errorf("%d clusters are free by the information sector, of %d with %d in use", free, r.count, len(r.linked))
	}
	return out
}

// chain returns the content of the clusters from one on.
func (r *reader) chain(cluster uint32) (out []byte) {
	for cluster >= 2 && cluster < 0x0FFFFFF8 {
		if r.linked[cluster] || int(cluster) >= r.count+2 {
			r.t.Fatalf("cluster %d is used twice, or is none", cluster)
		}
		r.linked[cluster] = true
		at := r.data + int(cluster-2)*r.size
		out = append(out, r.b[at:at+r.size]...)
		cluster = binary.LittleEndian.Uint32(r.fat[4*cluster:])
	}
	return out
}

// folder reads a folder; up is the cluster that its entry .. names, 0 for the root.
func (r *reader) folder(path string, cluster, up uint32, out map[string]string) {
	le := binary.LittleEndian
	for e := r.chain(cluster); len(e) >= entrySize && e[0] != 0; e = e[entrySize:] {
		name := strings.TrimSpace(string(e[:8]))
		if x := strings.TrimSpace(string(e[8:11])); x != "" {
			name += "." + x
		}
		first := uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))
		switch {
		case name == ".":
			if first != cluster {
				r.t.Errorf("%s/. is cluster %d, not %d", path, first, cluster)
			}
		case name == "..":
			if first != up {
				r.t.Errorf("%s/.. is cluster %d, not %d", path, first, up)
			}
		case e[11]&attributeFolder != 0:
			below := cluster
			if path == "" {
				below = 0
			}
			r.folder(path+name+"/", first, below, out)
		default:
			out[path+name] = string(r.chain(first)[:le.Uint32(e[28:])])
			if d, s := le.Uint16(e[24:]), le.Uint16(e[22:]); d != 46<<9|3<<5|4 || s != 5<<11|6<<5|4 {
				r.t.Errorf("%s is of %x %x", name, d, s)
			}
		}
	}
}

func TestADiskHasItsFiles(t *testing.T) {
	want := map[string]string{}
	for _, f := range files() {
		want[strings.ToUpper(f.Name)] = string(f.Data)
	}
	for _, size := range []int64{0, MinPartition} { // clusters of 2 sectors and of 1
		d := disk()
		d.Size = size
		b := write(t, d).bytes
		first, last := partition(t, b, 1), partition(t, b, len(b)/sectorSize-1)
		if !bytes.Equal(first, last) {
			t.Error("the tables name other partitions")
		}
		if diff := cmp.Diff(want, read(t, first)); diff != "" {
			t.Errorf("files of %d MiB (-want +got):\n%s", size>>20, diff)
		}
	}
}

func TestTheSamePartsGiveTheSameDisk(t *testing.T) {
	one, two := write(t, disk()), write(t, disk())
	if sha256.Sum256(one.bytes) != sha256.Sum256(two.bytes) {
		t.Error("the disks differ")
	}
	if one.written > 1<<20 {
		t.Errorf("%d bytes were written for %d KB of files", one.written, 32)
	}
	other := disk()
	other.GUID[0]++
	if bytes.Equal(one.bytes, write(t, other).bytes) {
		t.Error("the disk's GUID is nowhere")
	}
}

// TestOtherToolsFindNoFault has Debian's tools look, where they are.
func TestOtherToolsFindNoFault(t *testing.T) {
	dir := t.TempDir()
	b := write(t, disk()).bytes
	for name, content := range map[string][]byte{"disk": b, "volume": partition(t, b, 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"/usr/sbin/fsck.vfat", "-n", filepath.Join(dir, "volume")}, {"/usr/sbin/sfdisk", "--verify", filepath.Join(dir, "disk")}} {
		if _, err := exec.LookPath(args[0]); err != nil && os.Getenv("ASSAY_REQUIRE_BOOT_TOOLS") == "" {
			t.Log(err)
			continue
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestADiskThatDoesNotFitIsRefused(t *testing.T) {
	file := func(f ...File) func(*Disk) { return func(d *Disk) { d.Files = f } }
	for name, tc := range map[string]struct {
		change func(*Disk)
		want   error
	}{
		"small":             {func(d *Disk) { d.Size = MinPartition - 1<<20 }, ErrSize},
		"large":             {func(d *Disk) { d.Size = MaxPartition + 1<<20 }, ErrSize},
		"no whole megabyte": {func(d *Disk) { d.Size = MinPartition + sectorSize }, ErrSize},
		"no time":           {func(d *Disk) { d.Time = time.Time{} }, ErrSize},
		"a time to come":    {func(d *Disk) { d.Time = time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC) }, ErrSize},
		"a large file":      {func(d *Disk) { d.Size, d.Files = MinPartition, []File{{Name: "a", Data: make([]byte, 34<<20)}} }, ErrSize},
		"no name":           {file(File{Name: ""}), ErrName},
		"a long name":       {file(File{Name: "initramfs.img"}), ErrName},
		"a long extension":  {file(File{Name: "grub.conf"}), ErrName},
		"a folder above":    {file(File{Name: "../a"}), ErrName},
		"a path from /":     {file(File{Name: "/a"}), ErrName},
		"two of a name":     {file(File{Name: "a"}, File{Name: "A"}), ErrExists},
		"a file in a file":  {file(File{Name: "a"}, File{Name: "a/b"}), ErrExists},
		"a folder's name":   {file(File{Name: "a/b"}, File{Name: "a"}), ErrExists},
	} {
		t.Run(name, func(t *testing.T) {
			d := disk()
			tc.change(d)
			if _, err := d.Write(new(sparse)); !errors.Is(err, tc.want) {
				t.Errorf("Write = %v, want %v", err, tc.want)
			}
		})
	}
}

// full is a disk that is full after some writes.
type full int

func (f *full) WriteAt(b []byte, _ int64) (int, error) {
	if *f--; *f < 0 {
		return 0, errFull
	}
	return len(b), nil
}

var errFull = errors.New("no space left")

func TestAFailedWriteIsTold(t *testing.T) {
	for n := range 100 {
		f := full(n)
		_, err := disk().Write(&f)
		if err == nil {
			if f != 0 {
				continue
			}
			if n < 12 {
				t.Errorf("a disk takes %d writes", n)
			}
			return
		}
		if !errors.Is(err, errFull) {
			t.Errorf("Write with room for %d writes = %v", n, err)
		}
	}
	t.Error("no disk was complete")
}
