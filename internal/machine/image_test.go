package machine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/disk/disktest"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/uefi/launch/launchtest"
)

// bootable writes a disk with a unified kernel image of a command line.
func (h *host) bootable(name, cmdline string) string {
	h.Helper()
	stub := launchtest.PE(launchtest.Section{Name: ".text", Data: []byte{0xCC}}, launchtest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-stub 252 ####")})
	image, err := guestimage.UKI(stub, guestimage.Section{Name: ".osrel", Data: []byte("ID=test\n")},
		guestimage.Section{Name: ".cmdline", Data: []byte(cmdline)}, guestimage.Section{Name: ".linux", Data: stub})
	if err != nil {
		h.Fatal(err)
	}
	file := filepath.Join(h.dir, name)
	if err := os.WriteFile(file, disktest.Image(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": image}), 0o600); err != nil {
		h.Fatal(err)
	}
	return file
}

// The next boot of an image that is not on the machine's disk yet is foreseen and approved
// as that of the disk will be once it holds the image.
func TestTheBootOfAnImageIsApprovedBeforeItIsOnTheDisk(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := h.bootable("web-1.raw", "quiet")
	h.create(func(d *fleet.Definition) {
		d.Shielded.SecureBoot = false
		d.Disks = []fleet.Disk{{File: file, Format: "raw", Bus: "virtio", Boot: true}}
	})
	h.run(boot(t, "good-uki"))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	image := &Image{File: h.bootable("new.raw", "quiet audit=1"), Format: "raw"}
	foreseen := func(i *Image) *Foreseen {
		t.Helper()
		_, seen, err := h.root.ForeseeImage(t.Context(), "web-1", i)
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	now, next := foreseen(nil), foreseen(image)
	if now.same(next) || !next.Changes() || next.Image != image {
		t.Errorf("foreseen of the image %+v, of the disk %+v", next, now)
	}
	plan := func(seen *Foreseen) error {
		return h.root.PlanNext(t.Context(), "carol", "web-1", PlanOptions{For: time.Hour, Reason: "audit", Seen: seen})
	}
	ofDisk := *next
	ofDisk.Image = nil
	if err := plan(&ofDisk); !errors.Is(err, ErrNotAsSeen) {
		t.Errorf("what was seen of the image, planned of the disk: %v", err)
	}
	if err := plan(next); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the disk was written: %v", err)
	}
	events, err := h.root.Events(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1]; last.Type != integrity.EventConfig || !strings.Contains(last.Reasons[0].Message, "from image") || !strings.Contains(last.Reasons[0].Message, `"new.raw"`) {
		t.Errorf("the event is %+v", last)
	}
	planned := h.plan()
	h.bootable("web-1.raw", "quiet audit=1") // the update takes place
	if diff := cmp.Diff(next.Registers, foreseen(nil).Registers); diff != "" {
		t.Errorf("with the image on the disk (-foreseen +is):\n%s", diff)
	}
	if err := plan(foreseen(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(planned.Registers, h.plan().Registers); diff != "" {
		t.Errorf("what was approved of the image is not what the disk gives (-image +disk):\n%s", diff)
	}
	h.bootable("new.raw", "quiet init=/bin/sh")
	if err := plan(next); !errors.Is(err, ErrNotAsSeen) {
		t.Errorf("an image that changed since: %v", err)
	}
	if _, _, err := h.root.ForeseeImage(t.Context(), "web-1", &Image{File: filepath.Join(h.dir, "none"), Format: "raw"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an image that is not there: %v", err)
	}
}

func (h *host) plan() *integrity.Plan {
	h.Helper()
	history, err := h.root.History(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	return history.Plan
}
