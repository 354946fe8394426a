package diskcopy

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/qemu"
)

// three has a disk to write, a medium, and another disk to write.
func three() *fleet.Definition {
	return &fleet.Definition{Disks: []fleet.Disk{
		{File: "/a", Format: "qcow2"}, {File: "/medium", Format: "raw", ReadOnly: true}, {File: "/b", Format: "raw"},
	}}
}

func TestWhatTheGuestMayWriteIsCopied(t *testing.T) {
	t.Parallel()
	got, err := Chosen(three())
	if diff := cmp.Diff([]int{0, 2}, got); diff != "" || err != nil {
		t.Errorf("Chosen (-want +got), %v:\n%s", err, diff)
	}
	for word, change := range map[string]func(*fleet.Definition){
		"shared":    func(d *fleet.Definition) { d.Disks[2].Shared = true },
		"ephemeral": func(d *fleet.Definition) { d.Disks[0].Ephemeral = true },
		"no disk":   func(d *fleet.Definition) { d.Disks = d.Disks[1:2] },
	} {
		d := three()
		change(d)
		if got, err := Chosen(d); err == nil || got != nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: Chosen = %v, %v", word, got, err)
		}
	}
}

func TestOnlyDisksOfTheDefinitionThatFitAreMade(t *testing.T) {
	t.Parallel()
	const most = math.MaxUint64
	good := []Disk{{0, 1 << 30}, {2, 512}}
	needed := uint64(1<<30+512) + overhead(1<<30) + overhead(512)
	for name, tc := range map[string]struct {
		disks []Disk
		room  uint64
		want  string // in the error; none for disks that are in order
	}{
		"in order":         {good, most, ""},
		"just fits":        {good, needed, ""},
		"a byte too much":  {good, needed - 1, ": 1 are missing"},
		"one too few":      {good[:1], most, "1 disks are to be copied"},
		"one too many":     {append(good[:2:2], Disk{1, 512}), most, "3 disks"},
		"one that is read": {[]Disk{{0, 512}, {1, 512}}, most, "disk 1 is to be copied"},
		"one twice":        {[]Disk{{0, 512}, {0, 512}}, most, "disk 0 is to be copied"},
		"another order":    {[]Disk{{2, 512}, {0, 512}}, most, "disk 2 is to be copied"},
		"nothing":          {[]Disk{{0, 0}, {2, 512}}, most, "whole sectors"},
		"less":             {[]Disk{{0, -512}, {2, 512}}, most, "whole sectors"},
		"half a sector":    {[]Disk{{0, 256}, {2, 512}}, most, "whole sectors"},
		"too large":        {[]Disk{{0, maxSize + 512}, {2, 512}}, most, "whole sectors"},
	} {
		err := Check(three(), tc.disks, tc.room)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Check = %v, want %q", name, err, tc.want)
		}
	}
	// All that a definition may have, as large as each may be.
	d := &fleet.Definition{}
	var all []Disk
	for i := range 24 {
		d.Disks = append(d.Disks, fleet.Disk{Format: "raw"})
		all = append(all, Disk{i, maxSize})
	}
	if err := Check(d, all, 1<<60); err != nil {
		t.Errorf("24 of the largest: %v", err)
	}
	if err := Check(d, all, 1<<50); err == nil {
		t.Error("24 of the largest fit into a petabyte")
	}
}

func TestDisksAreMadeInTheirFolderAlone(t *testing.T) {
	t.Parallel()
	d, dir := three(), filepath.Join(t.TempDir(), "disks")
	d.Disks[0].Format = "raw" // needs no program
	disks := []Disk{{0, 1 << 20}, {2, 512}}
	if err := Make(t.Context(), qemu.Images{Program: "no-such-program"}, d, disks, dir); err != nil {
		t.Fatal(err)
	}
	var files []string
	for i, want := range map[int]int64{0: 1 << 20, 2: 512} {
		info, err := os.Stat(d.Disks[i].File)
		if err != nil || info.Size() != want || info.Mode() != 0o600 || filepath.Dir(d.Disks[i].File) != dir {
			t.Errorf("disk %d is %q: %+v, %v", i, d.Disks[i].File, info, err)
		}
		files = append(files, d.Disks[i].File)
	}
	if d.Disks[1].File != "/medium" || files[0] == files[1] {
		t.Errorf("the definition has %+v", d.Disks)
	}
	if err := Sync(d, disks); err != nil {
		t.Error(err)
	}
	if err := Make(t.Context(), qemu.Images{}, d, disks, dir); err == nil {
		t.Error("a folder that was there is used")
	}
	if err := os.Remove(d.Disks[2].File); err != nil {
		t.Fatal(err)
	}
	if err := Sync(d, disks); err == nil {
		t.Error("a disk that is gone is kept")
	}
	if err := Make(t.Context(), qemu.Images{Program: "no-such-program"}, three(), disks, dir+"2"); err == nil {
		t.Error("a disk is made by a program that there is not")
	}
}

// What an earlier try left of a machine is removed before the next: it takes no room from it.
func TestWhatIsLeftOfATryIsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, n := range map[string]int{"disk0.raw": 1 << 20, "disk1.raw": 1 << 20, "linked": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(t.TempDir(), "kept")
	if err := errors.Join(os.Link(filepath.Join(dir, "linked"), other), os.Symlink(other, filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "folder"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if got := held(dir); got < 2<<20 || got >= 3<<20 {
		t.Errorf("held = %d", got)
	}
	if got := held(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("held of nothing = %d", got)
	}
	more := false
	for range 10 { // others write meanwhile
		without, err := Room(t.Context(), dir, "")
		if err != nil {
			t.Fatal(err)
		}
		with, err := Room(t.Context(), dir, dir)
		more = more || err == nil && with >= without+1<<20
	}
	if !more {
		t.Error("what is left takes room")
	}
}

func TestRoomIsLessThanWhatIsFree(t *testing.T) {
	t.Parallel()
	room, err := Room(t.Context(), t.TempDir(), "")
	if err != nil || room == 0 || room > 1<<60 {
		t.Errorf("Room = %d, %v", room, err)
	}
	if _, err := Room(t.Context(), filepath.Join(t.TempDir(), "none"), ""); err == nil {
		t.Error("there is room in no folder")
	}
}
