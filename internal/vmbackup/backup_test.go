package vmbackup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2"
)

// The site of a backup is lost; another root with another key provider makes the machine.
func TestAMachineIsRecoveredAtAnotherSite(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	disk := here.create()
	here.use("web-1")
	file, k := here.backup()
	was := here.whole("web-1")
	out := there.mustRestore(RestoreOptions{From: file, Keys: k})
	is := there.whole("web-1")
	if is.Card.ID != was.Card.ID || out.ID != was.Card.ID || out.RolledBack || out.Known != 0 {
		t.Errorf("restored %+v of machine %s", out, was.Card.ID)
	}
	moved := was.Definition
	moved.Disks[0].File = there.root.DiskPath("web-1", "disk0.raw")
	if diff := cmp.Diff(moved, is.Definition); diff != "" {
		t.Errorf("definition (-was +is):\n%s", diff)
	}
	if !slices.Equal(was.Variables, is.Variables) {
		t.Error("the variables are others")
	}
	sameDisk(t, disk, moved.Disks[0].File)
	rec, err := there.tpms.Owned(t.Context(), "web-1")
	if err != nil || rec.VM == nil || rec.VM.UUID != was.Card.ID {
		t.Errorf("the TPM is %+v, %v", rec, err)
	}
	n := last(is)
	if n.Type != integrity.EventRestore || n.Actor != "bob" || !slices.Equal(codes(n), []string{"machine.restored"}) {
		t.Errorf("last event %+v", n)
	}
	if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "nothing is known here") {
		t.Errorf("warnings %q", out.Warnings)
	}
	// The machine's disk is its own, and goes with it.
	there.delete("web-1")
	if _, err := os.Stat(moved.Disks[0].File); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat of the disk = %v", err)
	}
}

func TestEveryProtectionOpensTheBackup(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create()
	secret := seal.NewSecret([]byte("correct horse battery"))
	for name, tc := range map[string]struct {
		p     Protection
		k     Keys
		wrong Keys
	}{
		"passphrase":         {Protection{Passphrase: secret}, Keys{Passphrase: secret}, Keys{Passphrase: seal.NewSecret([]byte("incorrect horse"))}},
		"key provider":       {Protection{Provider: "safe"}, Keys{}, Keys{Provider: "main"}},
		"provider by a name": {Protection{Provider: "safe"}, Keys{Provider: "safe"}, Keys{Provider: "none"}},
	} {
		file := filepath.Join(here.dir, strings.ReplaceAll(name, " ", "-"))
		report, err := here.store.Backup(t.Context(), "alice", Options{Name: "web-1", To: file, Protection: tc.p})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if report.Bytes < 1000 || report.TPM == 0 || len(report.Disks) != 1 {
			t.Errorf("%s: report %+v", name, report)
		}
		if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: tc.wrong, DryRun: true}); !errors.Is(err, ErrKey) {
			t.Errorf("%s: Restore with the wrong key = %v", name, err)
		}
		if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: tc.k, DryRun: true}); err != nil {
			t.Errorf("%s: Restore = %v", name, err)
		}
	}
	if got := there.names(); len(got) != 0 {
		t.Errorf("a dry run made %v", got)
	}
}

func TestABackupWithoutExactlyOneProtectionIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create()
	for name, p := range map[string]Protection{
		"none":             {},
		"two":              {Recipients: []string{"age1"}, Provider: "safe"},
		"short passphrase": {Passphrase: seal.NewSecret([]byte("short"))},
		"no recipient":     {Recipients: []string{"age1"}},
		"no such provider": {Provider: "none"},
	} {
		if _, err := s.store.Backup(t.Context(), "alice", Options{Name: "web-1", To: filepath.Join(s.dir, "b"), Protection: p}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "b")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat = %v", err)
	}
}

// A twin with the identity of a living machine is refused; a copy with its own is not.
func TestACopyBesideItsOriginalHasAnIdentityOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := s.create()
	file, k := s.backup()
	if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k, Name: "web-2"}); !errors.Is(err, machine.ErrOriginal) {
		t.Errorf("Restore beside the original = %v", err)
	}
	if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k, NewIdentity: true}); !errors.Is(err, machine.ErrExists) {
		t.Errorf("Restore in its place = %v", err)
	}
	out := s.mustRestore(RestoreOptions{From: file, Keys: k, Name: "web-2", NewIdentity: true})
	was, is := s.whole("web-1"), s.whole("web-2")
	if is.Card.ID == was.Card.ID || out.ID != is.Card.ID {
		t.Errorf("the copy is %s, the original %s", is.Card.ID, was.Card.ID)
	}
	if is.Definition.Networks[0].MAC != "" {
		t.Errorf("the copy has the address of the original")
	}
	sameDisk(t, disk, s.root.DiskPath("web-2", "disk0.raw"))
	one, err := s.tpms.Owned(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.tpms.Owned(t.Context(), "web-2")
	if err != nil || one.ID == two.ID || one.Secrets == two.Secrets {
		t.Errorf("the copy's TPM is %+v, that of the original %+v: %v", two, one, err)
	}
	if got := codes(last(is)); len(is.Events) != 1 || !slices.Equal(got, []string{"machine.restored", "machine.copied"}) {
		t.Errorf("%d events, last %v", len(is.Events), got)
	}
}

// After the original is deleted its ledger still knows how far the TPM was.
func TestAnOlderBackupIsNeverTakenSilently(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create()
	file, k := s.backup()
	s.use("web-1")
	s.delete("web-1")
	var rollback *vtpm.RollbackError
	if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k}); !errors.As(err, &rollback) || rollback.Known <= rollback.Backup {
		t.Fatalf("Restore = %v", err)
	}
	if got := s.names(); len(got) != 0 {
		t.Errorf("a refused restore left %v", got)
	}
	out := s.mustRestore(RestoreOptions{From: file, Keys: k, AllowRollback: true})
	n := last(s.whole("web-1"))
	if !out.RolledBack || out.Known != rollback.Known || !slices.Contains(codes(n), "machine.restored-older") {
		t.Errorf("restored %+v, event %+v", out, n)
	}
}

func TestAMachineThatIsHeldOrHasAnOpenDiskIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.create()
	to := Options{Name: "web-1", To: filepath.Join(s.dir, "b"), Protection: Protection{Provider: "safe"}}
	h, err := s.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Backup(t.Context(), "alice", to); !errors.Is(err, machine.ErrBusy) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("Backup of a machine that is held = %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 101, Len: 1} // as QEMU does for a disk that it writes
	if err := unix.FcntlFlock(disk.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Backup(t.Context(), "alice", to); err == nil || !strings.Contains(err.Error(), "has it open") {
		t.Errorf("Backup of an open disk = %v", err)
	}
	if _, err := os.Stat(to.To); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat = %v", err)
	}
}

func TestADiskThatIsWrittenToMeanwhileIsNoBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.create()
	to := Options{Name: "web-1", To: filepath.Join(s.dir, "b"), Protection: Protection{Provider: "safe"}}
	to.Progress = func(phase string, done, _ int64) {
		if err := os.WriteFile(file, []byte("other"), 0o600); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.store.Backup(t.Context(), "alice", to); err == nil {
		t.Error("a disk that changed made a backup")
	}
}

func TestDisksThatAreNotAllOfOneFileOrSharedAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(dir string, d *fleet.Definition)
		want   string
	}{
		"with a backing file": {func(dir string, d *fleet.Definition) {
			head := make([]byte, 4096)
			copy(head, "QFI\xfb\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x48\x00\x00\x00\x04")
			head[23] = 16
			d.Disks[0].File, d.Disks[0].Format = filepath.Join(dir, "over.qcow2"), "qcow2"
			if err := os.WriteFile(d.Disks[0].File, head, 0o600); err != nil {
				t.Error(err)
			}
		}, "backing file"},
		"shared":  {func(_ string, d *fleet.Definition) { d.Disks[0].Shared = true }, "it is shared"},
		"missing": {func(_ string, d *fleet.Definition) { d.Disks[0].File += ".gone" }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.create(func(d *fleet.Definition) { tc.change(s.dir, d) })
			_, err := s.store.Backup(t.Context(), "alice", Options{Name: "web-1", To: filepath.Join(s.dir, "b"), Protection: Protection{Provider: "safe"}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Backup = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestASharedDiskIsLeftWhereItIs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := s.create(func(d *fleet.Definition) { d.Disks[0].Shared = true })
	to := Options{Name: "web-1", To: s.dir, Protection: Protection{Provider: "safe"}, WithoutShared: true}
	report, err := s.store.Backup(t.Context(), "alice", to)
	if err != nil || report.Disks[0].Left == "" || filepath.Dir(report.File) != s.dir || !strings.HasPrefix(filepath.Base(report.File), "web-1-") {
		t.Fatalf("Backup = %+v, %v", report, err)
	}
	s.delete("web-1")
	if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: report.File, Disks: []string{disk + "2"}}); !errors.Is(err, ErrOfHost) || !strings.Contains(err.Error(), disk) {
		t.Errorf("Restore with a disk that nobody named = %v", err)
	}
	out := s.mustRestore(RestoreOptions{From: report.File, Disks: []string{disk}})
	if out.Disks[0] != disk || s.whole("web-1").Definition.Disks[0].File != disk {
		t.Errorf("the disks are %v", out.Disks)
	}
}

// A backup for recipients can be written by anybody: their keys are public.
func TestABackupGetsNoDeviceOfTheHostThatNobodyNamed(t *testing.T) {
	t.Parallel()
	here, there := newSite(t), newSite(t)
	here.create(func(d *fleet.Definition) { d.Networks[0] = fleet.Network{Kind: "tap", Device: "tap0"} })
	file, k := here.backup()
	if _, err := there.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k, Networks: []string{"tap1"}}); !errors.Is(err, ErrOfHost) || !strings.Contains(err.Error(), `"tap0"`) {
		t.Errorf("Restore with a device that nobody named = %v", err)
	}
	there.mustRestore(RestoreOptions{From: file, Keys: k, Networks: []string{"tap0"}})
}

// The backup is of before the machine got its TPM, so that no ledger knows its age.
func TestAnOlderBackupWithoutTPMIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create(func(d *fleet.Definition) { d.Shielded = fleet.Shielded{} })
	file, k := s.backup()
	s.delete("web-1")
	out := s.mustRestore(RestoreOptions{From: file, Keys: k})
	if out.RolledBack || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "has no TPM") {
		t.Errorf("restored %+v", out)
	}
	s.delete("web-1")
	if _, err := s.tpms.Create(t.Context(), "alice", vtpm.CreateOptions{Name: "web-1", Provider: "main"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "web-2"} {
		if _, err := s.store.Restore(t.Context(), "bob", RestoreOptions{From: file, Keys: k, Name: name}); !errors.Is(err, ErrWithoutTPM) {
			t.Errorf("Restore as %q beside a TPM of the machine's name = %v", name, err)
		}
	}
	out = s.mustRestore(RestoreOptions{From: file, Keys: k, AllowRollback: true})
	if n := last(s.whole("web-1")); !out.RolledBack || !slices.Contains(codes(n), "machine.restored-older") {
		t.Errorf("restored %+v, event %+v", out, n)
	}
}

// A plan is for one boot. When that used it up, or somebody took it back, a backup of
// before must not bring it back.
func TestAPlanIsNotRevived(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create()
	now := time.Now()
	plan := &integrity.Plan{Made: now, Expires: now.Add(time.Hour), Actor: "alice", Reason: "update", Baseline: 1, Registers: map[int][]map[tpm2.Alg][]byte{4: {}}}
	h, err := s.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	history := &integrity.History{Versions: []integrity.Version{{Number: 1, Made: now, Actor: "a", Baseline: testBaseline(t)}}}
	if err := errors.Join(history.SetPlan(plan), h.SetHistory(history), h.Close()); err != nil {
		t.Fatal(err)
	}
	file, k := s.forge(func(c *contents) {
		if c.history.Plan != nil || len(c.history.Versions) != 1 {
			t.Errorf("the backup has the history %+v", c.history)
		}
		c.history.Plan = plan // as an older program or a forger has it
	})
	if s.whole("web-1").History.Plan == nil {
		t.Error("the backup took the machine's own plan back")
	}
	s.delete("web-1")
	out := s.mustRestore(RestoreOptions{From: file, Keys: k})
	if p := s.whole("web-1").History.Plan; p != nil {
		t.Errorf("the plan is in force again: %+v", p)
	}
	if !slices.ContainsFunc(out.Warnings, func(w string) bool { return strings.Contains(w, "a plan for one boot") }) {
		t.Errorf("warnings %q", out.Warnings)
	}
}

func testBaseline(t *testing.T) *baseline.Baseline {
	t.Helper()
	b, err := baseline.Parse([]byte(`{"version": 1, "bank": "sha256", "shape": {"machine": "q35", "vcpus": 1, "memoryMiB": 512}, "pcrs": {"4": {
		"early": ["9cd29f1567223d685bcc3a06a0ea7d005e14b9476b96a813e4ba2808f46d9d2b"],
		"late": ["9cd29f1567223d685bcc3a06a0ea7d005e14b9476b96a813e4ba2808f46d9d2b"],
		"events": [{"digests": ["04e666aa09809daf691a99cc7bf2d57ba09bac171966a71812ffd049d7c96bb1"], "kind": "boot-loader", "component": "shim", "proven": false, "late": false}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHolesStayHoles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.create()
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	backup, k := s.backup()
	info, err := os.Stat(backup)
	if err != nil || info.Size() > 8<<20 {
		t.Errorf("the backup has %d bytes, %v", info.Size(), err)
	}
	s.mustRestore(RestoreOptions{From: backup, Keys: k, Name: "web-2", NewIdentity: true})
	var stat unix.Stat_t
	if err := unix.Stat(s.root.DiskPath("web-2", "disk0.raw"), &stat); err != nil || stat.Size != 1<<30 || stat.Blocks*512 > 8<<20 {
		t.Errorf("the disk has %d bytes, %d of them on the disk: %v", stat.Size, stat.Blocks*512, err)
	}
}

// What a backup left that was killed is removed by the next one in the folder, before its room
// is counted: of the machine at once, of others when nobody has written to it for long. What
// somebody writes, and what is no backup, stays.
func TestWhatAKilledBackupLeftIsRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.create()
	dir := t.TempDir()
	old := time.Now().Add(-2 * sweepAfter)
	leave := func(name string, written time.Time) string {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, []byte("left"), 0o600), os.Chtimes(file, written, written)); err != nil {
			t.Fatal(err)
		}
		return file
	}
	held, err := durable.BeginHeld(filepath.Join(dir, "web-1-20260101T000002Z.assayvm"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Abort() //nolint:errcheck // test
	gone := []string{leave(".durable-web-1-20260101T000000Z.assayvm-1.tmp", time.Now()), leave(".durable-web-2-20260101T000000Z.assayvm-2.tmp", old)}
	stay := []string{
		held.Name(), leave(".durable-web-2-20260101T000001Z.assayvm-3.tmp", time.Now()), leave(".durable-notes-4.tmp", old), leave("web-1-20260101T000000Z.assayvm", old),
	}
	if err := os.Chtimes(held.Name(), old, old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		room := func(int64) error {
			for _, file := range gone {
				if _, err := os.Lstat(file); err == nil {
					t.Errorf("%s is left", filepath.Base(file))
				}
			}
			return nil
		}
		report, err := s.store.Backup(t.Context(), "bob", Options{Name: "web-1", To: dir, Protection: Protection{Provider: "safe"}, Room: room})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(report.File); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range stay {
		if _, err := os.Lstat(file); err != nil {
			t.Error(err)
		}
	}
}
