package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/disk/disktest"
)

const cluster = 1 << 16

// snapshots gives an image that many, each with a table of its own and names of some length.
func snapshots(image []byte, n int) []byte {
	be := binary.BigEndian
	out := bytes.Clone(image)
	entries := be.Uint32(out[36:])
	var table []byte
	for i := range n {
		entry := make([]byte, 40)
		be.PutUint64(entry, uint64(len(out)))
		be.PutUint32(entry[8:], entries)
		be.PutUint16(entry[12:], 1)
		be.PutUint16(entry[14:], uint16(3+i))
		be.PutUint32(entry[36:], 16)
		entry = append(entry, make([]byte, 16+1+3+i)...)
		table = append(table, append(entry, make([]byte, -len(entry)&7)...)...)
		out = append(out, image[cluster:2*cluster]...)
	}
	be.PutUint32(out[60:], uint32(n))
	be.PutUint64(out[64:], uint64(len(out)))
	return append(out, table...)
}

func kept(t *testing.T, b []byte) int64 {
	t.Helper()
	n, err := disk.Kept(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n / cluster
}

func TestWhatSnapshotsHoldIsCountedOnce(t *testing.T) {
	image := disktest.QCOW2(disktest.Image(files()))
	if n := kept(t, image); n != 0 {
		t.Errorf("Kept() = %d clusters of an image without snapshots", n)
	}
	all := int64(len(image)/cluster) - 2 // but for the header and the table of the disk as it is
	for n := range int64(4) {
		want := all + n
		if n == 0 {
			want = 0
		}
		if got := kept(t, snapshots(image, int(n))); got != want {
			t.Errorf("Kept() = %d clusters with %d snapshots, want %d", got, n, want)
		}
	}
	// A compressed cluster takes the clusters that its sectors are in: here the end of one, and
	// the beginning of the next.
	packed := snapshots(image, 1)
	be := binary.BigEndian
	const shift = 62 - 8
	at := len(packed) &^ (cluster - 1)
	packed = append(packed, make([]byte, at+3*cluster-len(packed))...)
	be.PutUint64(packed[2*cluster+8:], 1<<62|1<<shift|uint64(at+2*cluster-512))
	if got, before := kept(t, packed), be.Uint64(image[2*cluster+8:]); before != 0 || got != all+1+2 {
		t.Errorf("Kept() = %d clusters with a compressed one, want %d; it was at %#x", got, all+1+2, before)
	}
}

func TestSnapshotsThatContradictThemselvesAreMalformed(t *testing.T) {
	good := snapshots(disktest.QCOW2(disktest.Image(files())), 2)
	be := binary.BigEndian
	table := int(be.Uint64(good[64:]))
	for name, tc := range map[string]struct {
		at    int
		value []byte
		want  error
	}{
		"more than QEMU has":            {60, []byte{0, 1, 0, 1}, disk.ErrMalformed},
		"more than there are":           {60, []byte{0, 0, 0, 3}, disk.ErrMalformed},
		"past the end":                  {64, []byte{0x7F}, disk.ErrMalformed},
		"much extra data":               {table + 36, []byte{0, 0, 4, 1}, disk.ErrMalformed},
		"a large L1 table":              {table + 8, []byte{0, 0x40, 0, 1}, disk.ErrMalformed},
		"an L1 table past the end":      {table, []byte{0x7F}, disk.ErrMalformed},
		"an L1 table inside a cluster":  {table + 6, []byte{2}, disk.ErrMalformed},
		"the L1 table of another":       {table + 64, good[table : table+8], disk.ErrMalformed},
		"an L2 table past the end":      {int(be.Uint64(good[table:])), []byte{0x80, 0x7F}, disk.ErrMalformed},
		"an L2 table inside a cluster":  {int(be.Uint64(good[table:])) + 6, []byte{2}, disk.ErrMalformed},
		"a cluster past the end":        {2 * cluster, []byte{0x80, 0x7F}, disk.ErrMalformed},
		"a cluster inside another":      {2*cluster + 6, []byte{2}, disk.ErrMalformed},
		"a packed cluster past the end": {2 * cluster, []byte{0x40, 0x3F}, disk.ErrMalformed},
		"a backing file":                {8, []byte{0, 0, 0, 0, 0, 0, 2, 0}, disk.ErrUnsupported},
	} {
		b := bytes.Clone(good)
		copy(b[tc.at:], tc.value)
		if n, err := disk.Kept(t.Context(), bytes.NewReader(b), int64(len(b))); !errors.Is(err, tc.want) || n != 0 {
			t.Errorf("%s: Kept() = %d, %v, want %v", name, n, err, tc.want)
		}
	}
	if _, err := disk.Kept(t.Context(), bytes.NewReader(good), cluster<<28); err != nil {
		t.Errorf("a file of 2^28 clusters: Kept() = %v", err)
	}
	if _, err := disk.Kept(t.Context(), bytes.NewReader(good), cluster<<28+cluster); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("a file of 2^28+1 clusters: Kept() = %v", err)
	}
	for n := 0; n < table+64+40; n += max(1, (n&^4095)/8) { // to where the last begins
		if _, err := disk.Kept(t.Context(), bytes.NewReader(good[:n]), int64(n)); !errors.Is(err, disk.ErrMalformed) {
			t.Errorf("%d of %d bytes: Kept() = %v", n, len(good), err)
		}
	}
}

// holes is a file that has what is at its beginning, and holes. It counts what is read of it.
type holes struct {
	begins []byte
	bytes  int64
	read   func(all int64) // if not nil, called with each
}

func (h *holes) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if at < int64(len(h.begins)) {
		copy(p, h.begins[at:])
	}
	h.bytes += int64(len(p))
	if h.read != nil {
		h.read(h.bytes)
	}
	return len(p), nil
}

// A few KiB lead to that many tables of 2 MiB which are holes: each is read, to a bound.
func TestTablesOfHolesAreReadToABound(t *testing.T) {
	const bits, most = 21, 1 << 30
	image := func(tables int) (*holes, int64) {
		be := binary.BigEndian
		b := make([]byte, 2<<bits+8*tables) // the header with its snapshot, the table of the disk, that of the snapshot
		copy(b, "QFI\xfb")
		be.PutUint32(b[4:], 3)
		be.PutUint32(b[20:], bits)
		be.PutUint64(b[24:], 1<<20)
		be.PutUint32(b[36:], 1)
		be.PutUint64(b[40:], 1<<bits)
		be.PutUint32(b[60:], 1)
		be.PutUint64(b[64:], 1024)
		be.PutUint32(b[100:], 104)
		be.PutUint64(b[1024:], 2<<bits)
		be.PutUint32(b[1032:], uint32(tables))
		for i := range tables {
			be.PutUint64(b[2<<bits+8*i:], uint64(3+i)<<bits)
		}
		return &holes{begins: b}, int64(3+tables) << bits
	}
	file, size := image(most>>bits - 1)
	if n, err := disk.Kept(t.Context(), file, size); err != nil || n != most {
		t.Errorf("Kept() = %d, %v, want a cluster of its own and %d tables", n, err, most>>bits-1)
	}
	file, size = image(4096)
	if n, err := disk.Kept(t.Context(), file, size); !errors.Is(err, disk.ErrUnsupported) || n != 0 || file.bytes > most+1<<bits {
		t.Errorf("Kept() = %d, %v of 8 GiB of tables, after %d bytes", n, err, file.bytes)
	}
	// Who waits for it may end it.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	file, size = image(400)
	file.read = func(all int64) {
		if all > 8<<bits {
			cancel()
		}
	}
	if n, err := disk.Kept(ctx, file, size); !errors.Is(err, context.Canceled) || n != 0 || file.bytes > 10<<bits {
		t.Errorf("Kept() = %d, %v when it is ended, after %d bytes", n, err, file.bytes)
	}
}

// What QEMU's own tools make is counted as they do: an image that they write all of anew grows
// by what its snapshots have of it.
func TestWhatSnapshotsOfQEMUHold(t *testing.T) {
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("ASSAY_REQUIRE_QEMU") != "" {
				t.Fatalf("%s is not there: run make setup", tool)
			}
			t.Skipf("%s is not there", tool)
		}
	}
	t.Parallel()
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	has := func() int64 {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return kept(t, b)
	}
	run("qemu-img", "create", "-f", "qcow2", file, "8M")
	run("qemu-io", "-c", "write -P 1 0 4M", file)
	if n := has(); n != 0 {
		t.Errorf("%d clusters without snapshots", n)
	}
	run("qemu-img", "snapshot", "-c", "one", file)
	const data, tables = 4 << 20 / cluster, 2
	if n := has(); n != data+tables {
		t.Errorf("%d clusters of one snapshot, want %d", n, data+tables)
	}
	run("qemu-io", "-c", "write -P 2 0 2M", file)
	if n := has(); n != data+tables {
		t.Errorf("%d clusters of one snapshot after writes, want %d", n, data+tables)
	}
	run("qemu-img", "snapshot", "-c", "two", file)
	if n := has(); n != data+data/2+2*tables {
		t.Errorf("%d clusters of two snapshots, want %d", n, data+data/2+2*tables)
	}
	run("qemu-img", "snapshot", "-d", "one", file)
	if n := has(); n != data+tables {
		t.Errorf("%d clusters when one is deleted, want %d", n, data+tables)
	}
}

// No image has more than its file.
func FuzzKept(f *testing.F) {
	good := snapshots(disktest.QCOW2(disktest.Image(files())), 3)
	table := uint32(binary.BigEndian.Uint64(good[64:]))
	f.Add(uint32(60), []byte{0, 0, 0, 1}, table, []byte{0})
	f.Add(uint32(1<<16), []byte{0x80}, uint32(2<<16), []byte{0x40})
	f.Fuzz(func(t *testing.T, at1 uint32, p1 []byte, at2 uint32, p2 []byte) {
		b := bytes.Clone(good)
		copy(b[int(at1)%len(b):], p1)
		copy(b[int(at2)%len(b):], p2)
		n, err := disk.Kept(t.Context(), bytes.NewReader(b), int64(len(b)))
		if most := int64(len(b)) + 8<<20; n < 0 || n > most || err != nil && n != 0 {
			t.Errorf("Kept() = %d, %v of a file of %d bytes", n, err, len(b))
		}
	})
}
