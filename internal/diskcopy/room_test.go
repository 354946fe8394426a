package diskcopy

import (
	"encoding/binary"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/qemu"
)

// one has a raw disk.
func one() *fleet.Definition {
	return &fleet.Definition{Disks: []fleet.Disk{{File: "/a", Format: "raw"}}}
}

// come has a machine come as hosts do: what a host has room for is asked, then its disk is made.
func come(t *testing.T, root, name string, size int64) error {
	t.Helper()
	dir := filepath.Join(root, name, "disks")
	room, err := Room(t.Context(), root, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(one(), []Disk{{0, size}}, room); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Make(t.Context(), qemu.Images{}, one(), []Disk{{0, size}}, dir); err != nil {
		return err
	}
	return AllFit(t.Context(), root)
}

// part is so many tenths of the room that there is, in whole sectors.
func part(t *testing.T, root string, tenths uint64) int64 {
	t.Helper()
	room, err := Room(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	size := int64(min(room/10*tenths, maxSize))
	return size - size%sector
}

// Their disks are sparse: what the first was promised is free still when the second comes.
func TestWhatTwoMachinesMayWriteFitsTogether(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	size := part(t, root, 6)
	if err := come(t, root, "web-1", size); err != nil {
		t.Fatal(err)
	}
	if err := come(t, root, "web-2", size); err == nil || !strings.Contains(err.Error(), "are missing") {
		t.Errorf("a second machine that needs as much: %v", err)
	}
	if free, err := Free(root, ""); err != nil || free < uint64(size) {
		t.Errorf("Free = %d, %v, less than %d of which nothing is written", free, err, size)
	}
	if err := come(t, root, "web-3", part(t, root, 5)); err != nil {
		t.Errorf("a third that fits: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(root, "web-1")); err != nil {
		t.Fatal(err)
	}
	if err := come(t, root, "web-2", size); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}

// Both were told that they fit, before either had its disk.
func TestOfTwoMachinesAtOnceNotBothAreTaken(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	size := part(t, root, 6)
	var errs []error
	for _, name := range []string{"web-1", "web-2"} {
		dir := filepath.Join(root, name, "disks")
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Make(t.Context(), qemu.Images{}, one(), []Disk{{0, size}}, dir); err != nil {
			t.Fatal(err)
		}
		errs = append(errs, AllFit(t.Context(), root))
	}
	if errs[0] != nil || errs[1] == nil {
		t.Errorf("AllFit = %v", errs)
	}
}

func TestADiskGrowsToWhatItsGuestSees(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	head := func(size uint64) []byte {
		return append(binary.BigEndian.AppendUint64(append([]byte("QFI\xfb"), make([]byte, 20)...), size), make([]byte, 40)...)
	}
	sparse := func(name string, size int64, start []byte) string {
		file := filepath.Join(dir, name)
		f, err := os.Create(file)
		if err == nil {
			_, err = f.Write(start)
		}
		if err == nil {
			err = f.Truncate(max(size, int64(len(start))))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return file
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	device := deviceOf(t, info)
	for name, tc := range map[string]struct {
		file        string
		least, most uint64
	}{
		"raw":                        {sparse("a.raw", 1<<30, nil), 1 << 30, 1 << 30},
		"raw, in part":               {sparse("b.raw", 1<<30, make([]byte, 1<<20)), 1<<30 - 2<<20, 1<<30 - 1<<20},
		"raw, all of it":             {sparse("c.raw", 0, []byte(strings.Repeat("x", 1<<20))), 0, 0},
		"raw, whose guest is clever": {sparse("d.raw", 1<<20, head(1<<60)), 0, 1 << 20},
		"qcow2":                      {sparse("a.qcow2", 0, head(1<<30)), 1 << 30, 1<<30 + overhead(1<<30)},
		"qcow2, as large as can be":  {sparse("b.qcow2", 0, head(math.MaxUint64)), maxSize, maxSize + overhead(maxSize)},
		"qcow2, of snapshots that cannot be read": {
			sparse("e.qcow2", 0, append(append(head(1 << 30)[:60], 0, 0, 0, 1), make([]byte, 1<<20)...)), 1<<30 + overhead(1<<30), 1<<30 + overhead(1<<30+2<<20),
		},
		"qcow2, being made": {sparse("c.qcow2", 0, []byte("QFI")), 0, 0},
		"no qcow2":          {sparse("d.qcow2", 0, make([]byte, 512)), 0, 0},
		"a folder":          {dir, 0, 0},
	} {
		if got, err := growth(t.Context(), tc.file, device); err != nil || got < tc.least || got > tc.most {
			t.Errorf("%s: growth = %d, %v, want %d to %d", name, got, err, tc.least, tc.most)
		}
		if got, err := growth(t.Context(), tc.file, device+1); err != nil || got != 0 {
			t.Errorf("%s, on another file system: growth = %d, %v", name, got, err)
		}
	}
	if got, err := promised(t.Context(), dir, ""); err != nil || got != 0 {
		t.Errorf("files beside the homes: promised = %d, %v", got, err)
	}
}

// What a snapshot holds stays where the guest writes anew: what it may write is beside that.
func TestADiskGrowsBesideItsSnapshots(t *testing.T) {
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
	has := func() uint64 {
		t.Helper()
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return uint64(info.Sys().(*syscall.Stat_t).Blocks) * 512
	}
	const size = 8 << 20
	for _, step := range []struct {
		name        string
		args        []string
		least, most uint64
	}{
		{"made", []string{"qemu-img", "create", "-f", "qcow2", file, "8M"}, size, size + overhead(size)},
		{"written", []string{"qemu-io", "-c", "write -P 1 0 8M", file}, 0, overhead(size)},
		{"held", []string{"qemu-img", "snapshot", "-c", "one", file}, size, size + overhead(2*size)},
		{"written anew in part", []string{"qemu-io", "-c", "write -P 2 0 2M", file}, size - 2<<20, size - 2<<20 + overhead(2*size)},
		{"held again", []string{"qemu-img", "snapshot", "-c", "two", file}, size, size + overhead(3*size)},
		{"written anew", []string{"qemu-io", "-c", "write -P 3 0 8M", file}, 0, overhead(3 * size)},
		{"held no more", []string{"qemu-img", "snapshot", "-d", "one", file}, 0, overhead(3 * size)},
	} {
		var before, might uint64
		info, err := os.Stat(file)
		if err == nil {
			before = has()
			if might, err = growth(t.Context(), file, deviceOf(t, info)); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command(step.args[0], step.args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", step.name, err, out)
		}
		if grew := has() - before; before > 0 && has() > before && grew > might {
			t.Errorf("%s: it grew by %d bytes, and might by %d", step.name, grew, might)
		}
		if info, err = os.Stat(file); err != nil {
			t.Fatal(err)
		}
		if got, err := growth(t.Context(), file, deviceOf(t, info)); err != nil || got < step.least || got > step.most {
			t.Errorf("%s: growth = %d, %v, want %d to %d", step.name, got, err, step.least, step.most)
		}
	}
}

func deviceOf(t *testing.T, info os.FileInfo) uint64 {
	t.Helper()
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no device")
	}
	return s.Dev
}

// A file system's lost+found is root's, and no home: it stops no arrival and no backup. What
// cannot be read for another reason is not known.
func TestWhatIsNoHomeHasNoDisks(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EACCES: true, syscall.ENOENT: true, syscall.ENOTDIR: true, syscall.EIO: false, syscall.EMFILE: false,
	} {
		if got := noHome(&fs.PathError{Op: "open", Path: "lost+found/disks", Err: err}); got != want {
			t.Errorf("noHome(%v) = %v, want %v", err, got, want)
		}
	}
	if os.Geteuid() == 0 {
		return // who may read all meets no such folder
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "lost+found"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Room(t.Context(), root, ""); err != nil {
		t.Error(err)
	}
}
