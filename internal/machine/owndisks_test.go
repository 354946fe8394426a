package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// A disk in the machine's home is deleted with that when the machine has gone: where it is not
// copied, no move begins, though the other host sees it under its path.
func TestADiskInTheHomeStaysWithItsMachine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ link, readOnly bool }{
		"written": {}, "only read": {readOnly: true}, "by a link": {link: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			own := a.root.DiskPath("web-1", "disk0.qcow2")
			named := own
			if tc.link {
				named = filepath.Join(a.dir, "link.qcow2")
				if err := os.Symlink(own, named); err != nil {
					t.Fatal(err)
				}
			}
			a.create(func(d *fleet.Definition) {
				d.Disks = []fleet.Disk{{File: named, Format: "qcow2", Bus: "virtio", ReadOnly: tc.readOnly}}
			})
			if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
				t.Fatal(err)
			}
			a.put(own, image("all that the guest ever wrote"))
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			b.script("await never\n")
			for _, dry := range []bool{true, false} {
				_, err := a.root.Migrate(t.Context(), "carol", "web-1", MigrateOptions{Ticket: there.ticket, DryRun: dry})
				if err == nil || !strings.Contains(err.Error(), "--copy-disks") {
					t.Errorf("Migrate, dry %v = %v", dry, err)
				}
			}
			if m, err := a.root.Moving(t.Context(), "web-1"); m != nil || err != nil {
				t.Errorf("Moving = %+v, %v", m, err)
			}
			if err := there.over(); err == nil {
				t.Error("the other host has a machine")
			}
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
			if got := a.get(own); got != image("all that the guest ever wrote") {
				t.Errorf("the disk holds %q", got)
			}
		})
	}
}

// The other host refuses a disk that would go with a home, also where its source does not: one
// of an older version.
func TestADiskOfAHomeIsNotTakenAsItIs(t *testing.T) {
	t.Parallel()
	h, other := newHost(t), newHost(t)
	other.create()
	theirs := other.root.DiskPath("web-1", "disk0.raw")
	left := h.root.DiskPath("web-1", "disk0.raw") // by a try: no machine
	plain := filepath.Join(h.dir, "web-1", diskFolder, "disk0.raw")
	link := filepath.Join(h.dir, "link.raw")
	for _, file := range []string{theirs, left, plain} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		h.put(file, "content")
	}
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		theirs: "in the home of a machine", link: "in the home of a machine", left: "made anew", plain: "",
	} {
		d := definition(func(d *fleet.Definition) { d.Disks = []fleet.Disk{{File: file, Format: "raw", Bus: "virtio"}} })
		a := &arrival{root: h.root, o: &ReceiveOptions{Name: "web-1"}}
		a.offer.Definition = d
		for what, err := range map[string]error{"checkDisks": a.checkDisks(t.Context()), "checkKnown": h.root.checkKnown(&ReceiveOptions{Name: "web-1", Known: []string{file}})} {
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s of %q = %v, want %q", what, file, err, want)
			}
		}
	}
}
