package diskcopy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/qemu"
)

// A Disk is one that goes along: its number in the machine's definition, and how many bytes
// the guest sees.
type Disk struct {
	Number int   `json:"number"`
	Size   int64 `json:"size"`
}

// Limits of a disk in bytes: a raw image is made of whole sectors.
const (
	maxSize = 64 << 40
	sector  = 512
)

// Chosen are the numbers of the disks of a machine that are copied: all that its guest may
// write. The error is of one that cannot be.
func Chosen(d *fleet.Definition) ([]int, error) {
	var out []int
	for i := range d.Disks {
		switch disk := &d.Disks[i]; {
		case disk.Shared:
			return nil, fmt.Errorf("disk %q is shared: other machines would go on with the one that stays, and this one with a copy", disk.File)
		case disk.Ephemeral:
			return nil, fmt.Errorf("disk %q is ephemeral: what the guest wrote is on its host alone", disk.File)
		case !disk.ReadOnly:
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the machine has no disk that could be copied")
	}
	return out, nil
}

// Check refuses disks that are not those which a machine's definition wants copied, or that
// a folder with so many free bytes has no room for. Nobody else keeps a source from filling
// the host: all that its guests may ever write to these disks has to fit.
func Check(d *fleet.Definition, disks []Disk, room uint64) error {
	want, err := Chosen(d)
	if err != nil {
		return err
	}
	if len(want) != len(disks) {
		return fmt.Errorf("%d disks are to be copied, and the machine has %d of that kind", len(disks), len(want))
	}
	var needed uint64
	for i, disk := range disks {
		if disk.Number != want[i] {
			return fmt.Errorf("disk %d is to be copied, and disk %d is in its place", disk.Number, want[i])
		}
		if disk.Size <= 0 || disk.Size > maxSize || disk.Size%sector != 0 {
			return fmt.Errorf("disk %d is to have %d bytes, and not whole sectors, 1 to %d of them", disk.Number, disk.Size, int64(maxSize/sector))
		}
		needed += uint64(disk.Size) + overhead(disk.Size)
	}
	if needed > room {
		return fmt.Errorf("the disks need %d bytes, and there is room for %d: %d are missing", needed, room, needed-room)
	}
	return nil
}

// Find has a disk that is only read be the one of the known files that has its path. One that
// lies where hosts make the disks of its machine (made), and nobody can put another, is the
// only one that has its name.
func Find(known []string, d *fleet.Disk, made bool) bool {
	if slices.Contains(known, d.File) {
		return true
	}
	other := func(file string) bool { return filepath.Base(file) != filepath.Base(d.File) }
	same := slices.DeleteFunc(slices.Clone(known), other)
	if !made || len(same) != 1 {
		return false
	}
	d.File = same[0]
	return true
}

// overhead is more than a qcow2 image of a size adds to it: its tables have 10 bytes for a
// cluster of 64 KiB (docs/interop/qcow2).
func overhead(size int64) uint64 { return uint64(size)/4096 + 1<<20 }

// Make makes the disks in a folder, ROOT/MACHINE/disks, which must not be there, and has the
// definition name them. They are empty, and survive a crash so. The disks have passed [Check];
// when others were made meanwhile [AllFit] says whether all fit: of two machines that come at
// once each sees the disks of the other, and one of them or both are refused.
func Make(ctx context.Context, images qemu.Images, d *fleet.Definition, disks []Disk, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, disk := range disks {
		to := &d.Disks[disk.Number]
		to.File = filepath.Join(dir, fmt.Sprintf("disk%d.%s", disk.Number, to.Format))
		if err := images.Create(ctx, &qemu.Disk{File: to.File, Format: to.Format, Bus: "virtio"}, disk.Size); err != nil {
			return err
		}
	}
	return Sync(d, disks)
}

// Sync has what the disks hold survive a crash.
func Sync(d *fleet.Definition, disks []Disk) error {
	var errs []error
	for _, disk := range disks {
		file := d.Disks[disk.Number].File
		errs = append(errs, syncFile(file), syncFile(filepath.Dir(file)))
	}
	return errors.Join(append(errs, syncFile(filepath.Dir(filepath.Dir(d.Disks[disks[0].Number].File))))...)
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(durable.Synced(f.Sync()), f.Close())
}
