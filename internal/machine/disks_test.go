package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/diskcopy"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

// apartHosts are two that have no storage in common.
func apartHosts(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = newHost(t), newHost(t)
	a.copies, b.copies = true, true
	return a, b
}

// made are the disks of web-1 that a host has made.
func (h *host) made() []string {
	return []string{h.root.DiskPath("web-1", "disk0.qcow2"), h.root.DiskPath("web-1", "disk1.qcow2")}
}

// A machine takes its disks along, and what is written while they are copied; who made a disk
// on a host decides whether it stays there.
func TestAMachineGoesToAnotherHostWithItsDisks(t *testing.T) {
	t.Parallel()
	a, b := apartHosts(t)
	a.createWithDisks()
	s := a.start(boot(t, "good-uki"))
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	a.put(a.inRun(faultFile), "migrate: wait\n")
	gone := make(chan error, 1)
	go func() { gone <- a.gives(t.Context(), "carol", there.ticket) }()
	if err := awaitFile(a.inRun(waitsFile)); err != nil {
		t.Fatal(err)
	}
	a.guestWrites("new")
	if m, err := a.root.Moving(t.Context(), "web-1"); err != nil || m == nil || len(m.Disks) != 2 || m.Disks[1].File != a.disks()[1] || !m.Disks[1].Stays {
		t.Errorf("Moving = %+v, %v", m, err)
	}
	a.put(a.inRun(goOnFile), "")
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the source: %v", err)
	}
	a.hasNothing()
	a.wrote("new")
	b.judgedIn(1)
	d, err := b.root.Describe(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range b.made() {
		if got := b.get(file); got != image("new") || d.Definition.Disks[i].File != file {
			t.Errorf("disk %d is %q there, and %s holds %q", i, d.Definition.Disks[i].File, file, got)
		}
	}

	back := a.awaits()
	a.script("await off\noff\n")
	m, err := b.root.Migrate(t.Context(), "erik", "web-1", MigrateOptions{Ticket: back.ticket, CopyDisks: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Disks) != 2 || m.Disks[0].Stays || m.Disks[0].File != b.made()[0] {
		t.Errorf("Migrate says %+v", m)
	}
	if err := there.over(); err != nil {
		t.Errorf("there: %v", err)
	}
	b.hasNothing()
	for _, file := range a.made() {
		if got := a.get(file); got != image("new") {
			t.Errorf("%s holds %q", file, got)
		}
	}
	a.put(a.inRun("off"), "")
	if err := <-back.end; err != nil {
		t.Error(err)
	}
	back.stop()
}

// Whatever fails while disks are copied, on either side, the machine goes on where it was,
// its disks are as they were, and nothing is left on the other host.
func TestACopyOfDisksThatFailsLeavesTheMachineWhereItWas(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ source, destination string }{
		"the source does not know its disks":           {"query-block: fail\n", ""},
		"the source does not reach the disks":          {"blockdev-add: fail\n", ""},
		"the copy fails":                               {"copy-ready: fail\n", ""},
		"the last of the disks fails":                  {"copy-concluded: fail\n", ""},
		"the source is not let go":                     {"migrate-continue: fail\n", ""},
		"the destination does not listen":              {"", "nbd-server-start: fail\n"},
		"the destination dies while it writes":         {"", "written: die\n"},
		"the destination does not close":               {"", "nbd-server-stop: fail\n"},
		"the destination dies when it has all of them": {"", "nbd-server-stop: die\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := apartHosts(t)
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			b.script("await never\n")
			a.put(a.inRun(faultFile), tc.source)
			b.put(b.inRun(faultFile), tc.destination)
			if err := a.gives(t.Context(), "carol", there.ticket); err == nil {
				t.Fatal("the machine moves")
			}
			a.put(a.inRun(faultFile), "")
			if status := a.status(); status.State != StateRunning || status.Problem != "" {
				t.Errorf("the status is %+v", status)
			}
			if m, err := a.root.Moving(t.Context(), "web-1"); m != nil || err != nil {
				t.Errorf("Moving = %+v, %v", m, err)
			}
			if err := there.over(); err == nil {
				t.Error("the other host has a machine")
			}
			b.hasNothing()
			a.wrote("old")
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Errorf("the machine's end: %v", err)
			}
		})
	}
}

// A move is called off as long as the machine is not the other host's.
func TestAMoveIsCalledOff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		copies bool
		step   string // there
	}{
		"while disks are copied": {true, "written"},
		"while memory is loaded": {false, "load"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.copies, b.copies = tc.copies, tc.copies
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			var state *StateError
			if err := a.root.CallOff(t.Context(), "dan", "web-1"); !errors.As(err, &state) {
				t.Errorf("CallOff of nothing = %v", err)
			}
			there := b.awaits()
			b.script("await never\n")
			b.put(b.inRun(faultFile), tc.step+": wait\n")
			gone := make(chan error, 1)
			go func() { gone <- a.gives(t.Context(), "carol", there.ticket) }()
			if err := awaitFile(b.inRun(waitsFile)); err != nil {
				t.Fatal(err)
			}
			if err := a.root.CallOff(t.Context(), "dan", "web-1"); err != nil {
				t.Errorf("CallOff = %v", err)
			}
			if err := <-gone; err == nil || !strings.Contains(err.Error(), "called off by dan") || !strings.Contains(err.Error(), "runs on here") {
				t.Errorf("Migrate = %v", err)
			}
			if err := there.over(); err == nil {
				t.Error("the other host has a machine")
			}
			b.hasNothing()
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// After the point of no return nobody calls a move off.
func TestAMachineThatIsGivenIsNotCalledOff(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home, err := h.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	s := newSupervisor(h.root, home)
	called := 0
	d := &departure{supervisor: s, stop: func(error) { called++ }}
	s.leaving = d
	d.given.Store(true)
	if err := s.callOff("dan"); err == nil || called != 0 {
		t.Errorf("callOff after the end = %v, %d", err, called)
	}
	d.given.Store(false)
	if err := s.callOff("dan"); err != nil || called != 1 {
		t.Errorf("callOff before it = %v, %d", err, called)
	}
	if err := d.give(); !errors.Is(err, errCalledOff) || d.given.Load() {
		t.Errorf("give of one that was called off = %v", err)
	}
}

// A dry run asks the other host, and changes nothing on either.
func TestADryRunAsksTheOtherHost(t *testing.T) {
	t.Parallel()
	a, b := apartHosts(t)
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await go\noff\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	dry := MigrateOptions{Ticket: there.ticket, CopyDisks: true, DryRun: true}
	m, err := a.root.Migrate(t.Context(), "carol", "web-1", dry)
	if err != nil || !m.DryRun || len(m.Disks) != 2 || m.Disks[0].Size != 1<<20 {
		t.Errorf("a dry run = %+v, %v", m, err)
	}
	dry.CopyDisks = false
	if _, err := a.root.Migrate(t.Context(), "carol", "web-1", dry); err == nil || !strings.Contains(err.Error(), "--copy-disks brings it") {
		t.Errorf("a dry run without the disks = %v", err)
	}
	b.copies = false
	if m, err := a.root.Moving(t.Context(), "web-1"); m != nil || err != nil {
		t.Errorf("Moving = %+v, %v", m, err)
	}
	if err := there.over(); err == nil {
		t.Error("the other host has a machine")
	}
	b.hasNothing()
	plain := b.awaits()
	dry.Ticket, dry.CopyDisks = plain.ticket, true
	if _, err := a.root.Migrate(t.Context(), "carol", "web-1", dry); err == nil || !strings.Contains(err.Error(), "assay vm receive --copy-disks") {
		t.Errorf("a dry run to a host that makes no disks = %v", err)
	}
	plain.over() //nolint:errcheck // nobody came
	if types := a.types(); slices.Contains(types, "1 migrationEvent") {
		t.Errorf("events %q", types)
	}
	a.put(a.inRun("go"), "")
	if err := s.wait(); err != nil {
		t.Error(err)
	}
}

// A source gets of the host's files what its operator named, and no more than there is room
// for.
func TestADestinationMakesWhatItWasAskedForAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	medium := filepath.Join(h.dir, "medium.raw")
	h.put(medium, "medium")
	half := h.halfTaken()
	for name, tc := range map[string]struct {
		change func(*fleet.Definition, *arrival)
		want   string
	}{
		"in order":       {func(*fleet.Definition, *arrival) {}, ""},
		"more than fits": {func(_ *fleet.Definition, a *arrival) { a.offer.Copy[0].Size = 60 << 40 }, "are missing"},
		"more than is left of what others may write":  {func(_ *fleet.Definition, a *arrival) { a.offer.Copy[0].Size = half }, "--overcommit"},
		"the same, and the operator says so":          {func(_ *fleet.Definition, a *arrival) { a.offer.Copy[0].Size, a.o.Overcommit = half, true }, ""},
		"more than is free, and the operator says so": {func(_ *fleet.Definition, a *arrival) { a.offer.Copy[0].Size, a.o.Overcommit = 60<<40, true }, "are missing"},
		"another disk":    {func(_ *fleet.Definition, a *arrival) { a.offer.Copy[0].Number = 1 }, "in its place"},
		"a shared one":    {func(d *fleet.Definition, _ *arrival) { d.Disks[0].Shared = true }, "shared"},
		"one that it has": {func(d *fleet.Definition, a *arrival) { a.o.Known = []string{medium} }, ""},
		"one that it does not have": {func(d *fleet.Definition, a *arrival) {
			d.Disks[1].File, a.o.Known = medium+"x", []string{medium + "x"}
		}, "is not here"},
		"one that nobody named": {func(_ *fleet.Definition, a *arrival) { a.o.Known = nil }, "--with-disk"},
	} {
		t.Run(name, func(t *testing.T) {
			d := definition(func(d *fleet.Definition) {
				d.Disks = []fleet.Disk{{File: "/etc/passwd", Format: "raw", Bus: "virtio"}, {File: medium, Format: "raw", Bus: "virtio", ReadOnly: true}}
			})
			a := &arrival{root: h.root, o: &ReceiveOptions{Name: "web-1", CopyDisks: true, Known: []string{medium}}}
			a.offer.Definition, a.offer.Copy = d, []diskcopy.Disk{{Number: 0, Size: 1 << 20}}
			tc.change(d, a)
			err := a.checkDisks(t.Context())
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("checkDisks = %v, want %q", err, tc.want)
			}
		})
	}
}

// halfTaken has a disk of another machine that may grow to more than half of what is free, and
// returns a size that fits into what is free, and not beside it.
func (h *host) halfTaken() int64 {
	h.Helper()
	free, err := diskcopy.Free(h.root.cfg.Dir, "")
	if err != nil {
		h.Fatal(err)
	}
	size := int64(min(free, 32<<40)) / 10 * 6 &^ 4095
	file := h.root.DiskPath("db-1", "disk0.raw")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Truncate(file, max(size, int64(free)/10*6))); err != nil {
		h.Fatal(err)
	}
	return size
}

// Disks of an overcommitted host are made there, whatever others may grow to.
func TestAnOvercommittedHostMakesTheDisks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	size := h.halfTaken()
	for _, overcommit := range []bool{false, true} {
		home := &Home{dir: h.root.dir("web-1")}
		if err := os.MkdirAll(home.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		a := &arrival{root: h.root, o: &ReceiveOptions{Name: "web-1", CopyDisks: true, Overcommit: overcommit}}
		a.offer.Definition = definition(func(d *fleet.Definition) { d.Disks = []fleet.Disk{{Format: "raw", Bus: "virtio"}} })
		a.offer.Copy = []diskcopy.Disk{{Number: 0, Size: size}}
		if err := a.makeDisks(t.Context(), home); (err == nil) != overcommit {
			t.Errorf("makeDisks, overcommitted %v: %v", overcommit, err)
		}
		if err := os.RemoveAll(home.dir); err != nil {
			t.Fatal(err)
		}
	}
}

// What a TPM writes while the disks of its machine are copied makes it no older where it comes
// to, nor where it comes back to, and a backup of it from meanwhile no newer.
func TestATPMThatWritesWhileDisksAreCopiedIsNoOlder(t *testing.T) {
	t.Parallel()
	keys, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "tpm")
	a, b := apartHosts(t)
	a.createWithDisks()
	s := a.start(boot(t, "good-uki") + "await again\nreset\n" + boot(t, "good-uki") + "await more\nreset\n" + boot(t, "good-uki") + "await never\n")
	a.awaitEvent(integrity.EventLateReport, 1)
	there := b.awaits()
	b.script("await never\n")
	a.put(a.inRun(faultFile), "migrate: wait\n")
	gone := make(chan error, 1)
	go func() { gone <- a.gives(t.Context(), "carol", there.ticket) }()
	if err := awaitFile(a.inRun(waitsFile)); err != nil {
		t.Fatal(err)
	}
	a.put(a.inRun("again"), "")
	a.awaitEvent(integrity.EventLateReport, 2)
	if _, err := a.root.cfg.TPMs.Backup(t.Context(), "dan", vtpm.BackupOptions{Name: "web-1", To: backup, Recipients: []string{keys.Recipient().String()}}); err != nil {
		t.Fatal(err)
	}
	a.put(a.inRun("more"), "")
	a.awaitEvent(integrity.EventLateReport, 3)
	a.put(a.inRun(goOnFile), "")
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	came := b.awaitEvent(integrity.EventMigrated, 1)
	report, err := b.root.cfg.TPMs.Verify(t.Context(), backup, vtpm.KeysFor{Identities: [][]byte{[]byte(keys.String())}})
	if err != nil {
		t.Fatal(err)
	}
	if !report[0].Older {
		t.Errorf("a backup of generation %d is not older than generation %d", report[0].Generation, report[0].Known)
	}
	back := a.awaits()
	a.script("await off\noff\n")
	if err := b.gives(t.Context(), "erik", back.ticket); err != nil {
		t.Fatal(err)
	}
	if err := there.over(); err != nil {
		t.Error(err)
	}
	returned := a.awaitEvent(integrity.EventMigrated, 2)
	if len(came.Reasons) != 1 || len(returned.Reasons) != 1 {
		t.Errorf("it came with %+v, and back with %+v", came.Reasons, returned.Reasons)
	}
	a.put(a.inRun("off"), "")
	if err := <-back.end; err != nil {
		t.Error(err)
	}
}
