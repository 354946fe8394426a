package machine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// inRun is a file by which a test speaks to its fake hypervisor.
func (h *host) inRun(file string) string {
	return filepath.Join(h.dir, "vms", "web-1", runFolder, file)
}

func (h *host) put(file, text string) {
	h.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
}

func (h *host) get(file string) string {
	h.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		h.Fatal(err)
	}
	return string(text)
}

// image is a qcow2 image as far as anybody here looks at it, and what the guest wrote.
func image(guest string) string {
	b := make([]byte, 104)
	copy(b, "QFI\xfb")
	binary.BigEndian.PutUint32(b[4:], 3)
	return string(b) + guest
}

func (h *host) disks() []string {
	return []string{filepath.Join(h.dir, "a.qcow2"), filepath.Join(h.dir, "b.qcow2")}
}

// createWithDisks makes the machine with two disks.
func (h *host) createWithDisks() {
	h.Helper()
	var disks []fleet.Disk
	for _, file := range h.disks() {
		disks = append(disks, fleet.Disk{File: file, Format: "qcow2", Bus: "virtio"})
	}
	h.guestWrites("old")
	h.create(func(d *fleet.Definition) { d.Disks = disks })
}

// guestWrites has both disks hold a text.
func (h *host) guestWrites(text string) {
	for _, file := range h.disks() {
		h.put(file, image(text))
	}
}

// wrote is what both disks hold.
func (h *host) wrote(want string) {
	h.Helper()
	for _, file := range h.disks() {
		if got := strings.TrimPrefix(h.get(file), image("")); got != want {
			h.Errorf("%s holds %q, want %q", filepath.Base(file), got, want)
		}
	}
}

// tags are the snapshots inside the images.
func (h *host) tags() (n int) {
	h.Helper()
	for _, file := range h.disks() {
		found, err := filepath.Glob(file + ".assay-*")
		if err != nil {
			h.Fatal(err)
		}
		n += len(found)
	}
	return n
}

// awaitEvent waits for the n-th event of a kind.
func (h *host) awaitEvent(kind string, n int) integrity.Notice {
	h.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		h.mu.Lock()
		all := slices.DeleteFunc(slices.Clone(h.events), func(e integrity.Notice) bool { return e.Type != kind })
		h.mu.Unlock()
		if len(all) >= n {
			return all[n-1]
		}
	}
	h.Fatalf("there is no event %d of kind %s", n, kind)
	return integrity.Notice{}
}

func (h *host) status() *Status {
	h.Helper()
	s, err := h.root.Status(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	return s
}

// variable is the byte that guests write into the variables.
func (h *host) variable() byte {
	h.Helper()
	home, err := h.root.openSoon(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	defer home.Close()
	text, err := home.Variables()
	if err != nil {
		h.Fatal(err)
	}
	return text[100_000]
}

func (h *host) snapshots() (names []string) {
	h.Helper()
	list, err := h.root.Snapshots(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names
}

// caught boots the machine, makes the snapshot "good" of boot 1 while it runs, and ends it
// after it went on.
func (h *host) caught() {
	h.Helper()
	h.createWithDisks()
	h.put(h.inRun(ramFile), "old memory")
	s := h.start(boot(h, "good-uki") + "variable 1\nawait go\nvariable 2\noff\n")
	h.awaitEvent(integrity.EventLateReport, 1)
	snapshot, err := h.root.Snapshot(h.Context(), "bob", "web-1", "good")
	if err != nil {
		h.Fatal(err)
	}
	if !snapshot.Memory || snapshot.Boot != 1 || snapshot.TPM == 0 || snapshot.By != "bob" || len(snapshot.Disks) != 2 {
		h.Errorf("Snapshot = %+v", snapshot)
	}
	h.guestWrites("new")
	h.put(h.inRun(ramFile), "new memory")
	h.put(h.inRun("go"), "")
	if err := s.wait(); err != nil {
		h.Fatal(err)
	}
}

// A way back was cut short between two disks.
func TestAMachineOnItsWayBackDoesNotDepart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	h.put(filepath.Join(h.dir, faultFile), "snapshot -a: die\n")
	if err := h.root.GoBack(t.Context(), "carol", "web-1", "good", false); err == nil {
		t.Fatal("nothing was cut short")
	}
	h.put(filepath.Join(h.dir, faultFile), "")
	if d, err := h.root.Depart(t.Context(), "web-1"); err == nil || !strings.Contains(err.Error(), "on its way back") {
		t.Errorf("Depart = %+v, %v", d, err)
	}
}

// back starts the machine, which goes on in its snapshot, and says what is wrong with it.
func (h *host) back(script string) *started {
	h.Helper()
	s := h.start(script)
	h.wrote("old")
	if got := h.get(h.inRun(ramFile)); got != "old memory" {
		h.Errorf("the memory holds %q", got)
	}
	status := h.status()
	if status.State != StateRunning || status.Boot.Counter != 1 || status.Boot.Late == nil || !*status.Boot.Late || status.Boot.Phase != PhaseSystem {
		h.Errorf("the status is %+v of boot %+v", status, status.Boot)
	}
	return s
}

func TestASnapshotOfARunningMachineBringsAllOfItBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	h.run(boot(t, "bad-uki-cmdline"))
	if got := h.variable(); got != '2' {
		t.Errorf("variable %q", got)
	}
	h.comesTo(3)
	if err := h.root.GoBack(t.Context(), "carol", "web-1", "good", true); err != nil {
		t.Fatal(err)
	}
	h.comesTo(1) // it goes on in the boot of its snapshot
	s := h.back("await reset\n" + "reset\n" + boot(t, "good-uki") + "off\n")
	back := h.awaitEvent(integrity.EventWentBack, 1)
	want := integrity.Notice{
		Type: integrity.EventWentBack, Instance: "web-1", BootCounter: 1, Actor: "carol",
		Reasons: []evidence.Reason{{Code: codeWentBack}, {Code: codeTPMBack}},
	}
	if diff := cmp.Diff(want, back, cmpopts.IgnoreFields(integrity.Notice{}, "Time"), cmpopts.IgnoreFields(evidence.Reason{}, "Message")); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	var before, after int
	if _, err := fmt.Sscanf(back.Reasons[1].Message, "the TPM was at generation %d of its state and is back at %d", &before, &after); err != nil || before <= after || after == 0 {
		t.Errorf("%q", back.Reasons[1].Message)
	}
	h.put(h.inRun("reset"), "")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	if got := h.variable(); got != '1' {
		t.Errorf("variable %q", got)
	}
	h.want(
		"1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 snapshotEvent", "1 shutdownEvent",
		"2 startupEvent", "2 earlyBootReportEvent fail", "2 lateBootReportEvent fail", "2 shutdownEvent",
		"1 snapshotRestoredEvent", // boot 1 goes on, and nothing is said of it again
		"3 startupEvent", "3 earlyBootReportEvent pass", "3 lateBootReportEvent pass", "3 shutdownEvent",
	)
	if err := h.root.DropSnapshot(t.Context(), "bob", "web-1", "good"); err != nil || h.tags() != 0 || len(h.snapshots()) != 0 {
		t.Errorf("DropSnapshot = %v, and there are %d tags and %q", err, h.tags(), h.snapshots())
	}
}

func TestASnapshotOfAMachineThatIsOffBringsAllOfItBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	h.run("variable 1\n" + boot(t, "good-uki"))
	if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "off"); err != nil {
		t.Fatal(err)
	}
	h.guestWrites("new")
	h.run("variable 2\n" + boot(t, "good-uki"))
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "off", true); err == nil {
		t.Error("there is no memory to go back to")
	}
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "off", false); err != nil {
		t.Fatal(err)
	}
	h.comesTo(3)
	h.wrote("old")
	if got := h.variable(); got != '1' {
		t.Errorf("variable %q", got)
	}
	n := h.awaitEvent(integrity.EventWentBack, 1)
	if n.BootCounter != 2 || len(n.Reasons) != 2 || n.Reasons[1].Code != codeTPMBack {
		t.Errorf("the event is %+v", n)
	}
	h.run(boot(t, "good-uki"))
	if types := h.types(); types[len(types)-4] != "3 startupEvent" {
		t.Errorf("events %q", types)
	}
}

// Whatever fails while a snapshot is made, the machine runs on, and nothing is left of it.
func TestASnapshotThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"stop", "transaction", "migrate-set-parameters", "migrate", "send", "query-migrate"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.createWithDisks()
			s := h.start(boot(t, "good-uki") + "await go\noff\n")
			h.awaitEvent(integrity.EventLateReport, 1)
			h.put(h.inRun(faultFile), fault+": fail\n")
			if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "one"); err == nil {
				t.Error("the snapshot is made")
			}
			folders, _ := os.ReadDir(filepath.Join(h.dir, "vms", "web-1", snapshotsFolder)) //nolint:errcheck // none then
			if h.tags() != 0 || len(folders) != 0 || len(h.snapshots()) != 0 {
				t.Errorf("%d tags, %d folders and %q are left", h.tags(), len(folders), h.snapshots())
			}
			h.put(h.inRun(faultFile), "")
			if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "one"); err != nil {
				t.Errorf("the next one: %v", err)
			}
			h.put(h.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A snapshot that is listed stays whole, though the event of it could not be kept.
func TestASnapshotWhoseEventIsNotKeptStays(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	random := &failing{Reader: rand.Reader, file: h.file(snapshotsFile)}
	random.fails.Store(true)
	h.root.cfg.Random = random // nothing is sealed once the snapshot is listed
	s := h.start(boot(t, "good-uki") + "await go\noff\n")
	h.awaitEvent(integrity.EventLateReport, 1)
	if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "one"); err == nil {
		t.Error("nothing is said of the event")
	}
	random.fails.Store(false)
	if got := h.snapshots(); len(got) != 1 || h.tags() != len(h.disks()) {
		t.Errorf("%q, %d tags", got, h.tags())
	}
	h.put(h.inRun("go"), "")
	s.wait() //nolint:errcheck // the event was lost, and that stays a problem
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "one", true); err != nil {
		t.Errorf("the way back: %v", err)
	}
}

// A hypervisor that is killed while a snapshot is made leaves no part of one.
func TestAKilledSnapshotLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"transaction", "migrate", "send", "query-migrate", "cont"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.createWithDisks()
			s := h.start(boot(t, "good-uki"))
			h.awaitEvent(integrity.EventLateReport, 1)
			h.put(h.inRun(faultFile), fault+": die\n")
			if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "one"); err == nil {
				t.Error("the snapshot is made")
			}
			if err := s.wait(); err == nil {
				t.Error("the hypervisor has not failed")
			}
			h.put(h.inRun(faultFile), "")
			h.run(boot(t, "good-uki"))
			h.wrote("old")
			if h.tags() != 0 || len(h.snapshots()) != 0 {
				t.Errorf("%d tags and %q are left", h.tags(), h.snapshots())
			}
		})
	}
}

// A way back that is cut short is completed by the next start.
func TestAWayBackThatIsCutShortIsCompleted(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"snapshot -a", "migrate-incoming", "load", "query-migrate", "cont"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.caught()
			in := h.inRun(faultFile)
			if strings.HasPrefix(fault, "snapshot") {
				in = filepath.Join(h.dir, faultFile)
			}
			h.put(in, fault+": die\n")
			err := h.root.GoBack(t.Context(), "carol", "web-1", "good", true)
			if err == nil {
				err = h.root.Run(t.Context(), "alice", "web-1", RunOptions{})
			}
			if err == nil {
				t.Fatal("nothing was cut short")
			}
			h.put(in, "")
			if fault == "cont" { // all of it was back, and then lost its power
				h.run(boot(t, "good-uki"))
				h.wrote("old")
				return
			}
			if err := h.root.DropSnapshot(t.Context(), "bob", "web-1", "good"); err == nil {
				t.Error("the snapshot is deleted under its own way back")
			}
			s := h.back("await off\noff\n")
			h.awaitEvent(integrity.EventWentBack, 1)
			h.put(h.inRun("off"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a snapshot cannot hold, or a machine not go back to, is refused before anything
// changes.
func TestWhatCannotBeASnapshotIsRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	for name, want := range map[string]error{"good": ErrSnapshotThere, "": ErrSnapshotName, "../x": ErrSnapshotName, "a b": ErrSnapshotName} {
		if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", name); !errors.Is(err, want) {
			t.Errorf("Snapshot(%q) = %v, want %v", name, err, want)
		}
	}
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "other", true); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("GoBack(other) = %v", err)
	}
	change := func(c func(*fleet.Definition)) {
		t.Helper()
		_, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Confirm: true, Change: func(d *fleet.Definition) error { c(d); return nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	change(func(d *fleet.Definition) { d.MemoryMiB = 1024 })
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "good", true); !errors.Is(err, ErrHardware) {
		t.Errorf("GoBack to another size of memory = %v", err)
	}
	change(func(d *fleet.Definition) { d.Disks[1].Format = "raw" })
	if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "raw"); err == nil {
		t.Error("a raw disk has a snapshot")
	}
	change(func(d *fleet.Definition) { d.Disks = d.Disks[:1] })
	if err := h.root.GoBack(t.Context(), "bob", "web-1", "good", false); err == nil {
		t.Error("the machine goes back to disks that it does not have")
	}
	h.wrote("new")
}

// What becomes of other snapshots while a machine gets its memory back is kept.
func TestASnapshotThatIsDeletedOnAWayBackStaysDeleted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	if _, err := h.root.Snapshot(t.Context(), "bob", "web-1", "other"); err != nil {
		t.Fatal(err)
	}
	if err := h.root.GoBack(t.Context(), "carol", "web-1", "good", true); err != nil {
		t.Fatal(err)
	}
	h.put(h.inRun(faultFile), "load: wait\n")
	h.script("await off\noff\n")
	end := make(chan error, 1)
	go func() { end <- h.root.Run(t.Context(), "alice", "web-1", RunOptions{}) }()
	if err := awaitFile(h.inRun(waitsFile)); err != nil {
		t.Fatal(err)
	}
	if err := h.root.DropSnapshot(t.Context(), "bob", "web-1", "other"); err != nil {
		t.Fatal(err)
	}
	h.put(h.inRun(goOnFile), "")
	h.awaitEvent(integrity.EventWentBack, 1)
	h.put(h.inRun("off"), "")
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	if got := h.snapshots(); !slices.Equal(got, []string{"good"}) {
		t.Errorf("the snapshots are %q", got)
	}
}

// What the loop has taken is done, and who asked for it hears how it went.
func TestWhatTheLoopHasTakenIsNotGivenUp(t *testing.T) {
	t.Parallel()
	s := &supervisor{todo: make(chan func())}
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	go func() { (<-s.todo)() }()
	want := errors.New("how it went")
	err := s.within(ctx, func() error {
		cancel()
		select {
		case <-returned:
		case <-time.After(20 * time.Millisecond):
		}
		return want
	})
	close(returned)
	if !errors.Is(err, want) {
		t.Errorf("within = %v", err)
	}
	done := false
	if err := s.within(ctx, func() error { done = true; return nil }); !errors.Is(err, context.Canceled) || done {
		t.Errorf("within = %v, and it was done: %v", err, done)
	}
}
