package vtpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// said is what the TPM of a test remembers.
const said = "kept over a restore"

// told makes a TPM that remembers what it was told.
func (f *fixture) told(name, text string) {
	f.t.Helper()
	f.create(name)
	i, c := f.started(name)
	remember(f.t, c, text)
	if err := i.Close(); err != nil {
		f.t.Fatal(err)
	}
}

// wantTold starts a TPM and wants it to remember.
func (f *fixture) wantTold(name, text string) {
	f.t.Helper()
	i, c := f.started(name)
	defer i.Close()
	if got, err := recall(c, len(text)); err != nil || got != text {
		f.t.Errorf("TPM %q remembers %q, %v, want %q", name, got, err, text)
	}
}

// forKeys are the ways to protect a backup: what goes into its options, and what
// opens it.
func (f *fixture) forKeys() map[string]func(o *BackupOptions) KeysFor {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	return map[string]func(o *BackupOptions) KeysFor{
		"age": func(o *BackupOptions) KeysFor {
			o.Recipients = []string{id.Recipient().String()}
			return KeysFor{Identities: [][]byte{[]byte(id.String())}}
		},
		"provider": func(o *BackupOptions) KeysFor { o.Provider = "other"; return KeysFor{} },
	}
}

func (f *fixture) backup(o BackupOptions) *BackupReport {
	f.t.Helper()
	report, err := f.Backup(context.Background(), tester, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return report
}

// backed backs up a TPM by key provider "other".
func (f *fixture) backed(name string) string {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), name+".tpmbackup")
	f.backup(BackupOptions{Name: name, To: file, Provider: "other"})
	return file
}

func (f *fixture) restore(o RestoreOptions) *RestoreReport {
	f.t.Helper()
	report, err := f.Restore(context.Background(), tester, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return report
}

func (f *fixture) delete(name string) {
	f.t.Helper()
	if err := f.Delete(context.Background(), tester, name); err != nil {
		f.t.Fatal(err)
	}
}

func TestABackupBringsBackATPMThatIsGone(t *testing.T) {
	for name, forWhom := range newFixture(t).forKeys() {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.told("web-1", said)
			rec, err := f.Describe(t.Context(), "web-1")
			if err != nil {
				t.Fatal(err)
			}
			o := BackupOptions{Name: "web-1", To: filepath.Join(t.TempDir(), "b")}
			keys := forWhom(&o)
			report := f.backup(o)
			if report.ID != rec.ID || !report.Opened || report.Live || report.Generation == 0 || report.Known != report.Generation {
				t.Errorf("%+v", report)
			}
			if e := f.last("web-1"); e.Type != EventBackup || e.Outcome != OutcomeDone || e.Actor != tester {
				t.Errorf("event %+v", e)
			}
			checked, err := f.Verify(t.Context(), o.To, keys)
			if err != nil || len(checked) != 1 || checked[0].ID != rec.ID || !checked[0].Opened || checked[0].Older {
				t.Fatalf("Verify = %+v, %v", checked, err)
			}
			f.delete("web-1")
			back := f.restore(RestoreOptions{From: o.To, Keys: keys})
			if back.TPM != "web-1" || back.ID != rec.ID || back.Mode != ModeCopy || back.RolledBack || len(back.Warnings) != 0 {
				t.Errorf("%+v", back)
			}
			f.wantTold("web-1", said)
			now, err := f.Describe(t.Context(), "web-1")
			if err != nil || !now.Proved || now.Record.Secrets != rec.Record.Secrets {
				t.Fatalf("%+v, %v", now, err)
			}
			l := now.Record.Lineage
			if n := len(l); n == 0 || l[n-1].Event != EventRestore || l[n-1].FromID != rec.ID || l[n-1].Generation != report.Generation || l[n-1].By != tester {
				t.Errorf("lineage %+v", l)
			}
			if e := f.last("web-1"); e.Type == EventRestore && e.Outcome != OutcomeDone {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestATPMIsBackedUpWhileItRuns(t *testing.T) {
	f := newFixture(t)
	f.create("web-1")
	i, c := f.started("web-1")
	remember(t, c, said)
	file := filepath.Join(t.TempDir(), "b")
	if report := f.backup(BackupOptions{Name: "web-1", To: file, Provider: "other"}); !report.Live {
		t.Errorf("%+v", report)
	}
	if _, err := f.Backup(t.Context(), tester, BackupOptions{Name: "web-1", To: file + "2", Provider: "other", Export: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("export of a TPM that runs: %v", err)
	}
	if _, err := f.Restore(t.Context(), tester, RestoreOptions{From: file, AllowRollback: true}); !errors.Is(err, ErrBusy) {
		t.Errorf("restore over a TPM that runs: %v", err)
	}
	if got, err := recall(c, len(said)); err != nil || got != said {
		t.Errorf("the TPM goes on: %q, %v", got, err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.delete("web-1")
	// What it did when it was stopped came after the backup.
	f.restore(RestoreOptions{From: file, AllowRollback: true})
	f.wantTold("web-1", said)
}

func TestAnOlderBackupIsNamedAndNeedsAYes(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	file := f.backed("web-1")
	i, c := f.started("web-1")
	if _, err := c.Run(extend(16)); err != nil {
		t.Fatal(err)
	}
	if err := c.Shutdown(0); err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	reports, err := f.Verify(t.Context(), file, KeysFor{})
	if err != nil || !reports[0].Older || reports[0].Known <= reports[0].Generation {
		t.Fatalf("%+v, %v", reports, err)
	}
	_, err = f.Restore(t.Context(), tester, RestoreOptions{From: file})
	var rollback *RollbackError
	if !errors.As(err, &rollback) || rollback.Backup != reports[0].Generation || rollback.Known != reports[0].Known {
		t.Fatalf("without a yes: %v", err)
	}
	if want := fmt.Sprintf("has generation %d, and the TPM has told of generation %d since", rollback.Backup, rollback.Known); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	report := f.restore(RestoreOptions{From: file, AllowRollback: true})
	if !report.RolledBack || report.Aside == "" {
		t.Errorf("%+v", report)
	}
	if e := f.last("web-1"); e.Type != EventRestoreOver || !bytes.Contains(e.Detail, []byte(`"rolledBack":true`)) {
		t.Errorf("event %+v: %s", e, e.Detail)
	}
	f.wantTold("web-1", said)
	// What was set aside is an old copy from now on.
	aside, err := os.ReadFile(report.Aside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.StatePath("web-1"), aside, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), "web-1", tester); !errors.Is(err, state.RolledBack) {
		t.Errorf("the state from before: %v", err)
	}
}

func TestABackupTakesThePlaceOfADamagedState(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"damaged": func(path string) error { return os.WriteFile(path, []byte("not a state"), 0o600) },
		"gone":    os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.told("web-1", said)
			file := f.backed("web-1")
			if err := spoil(f.StatePath("web-1")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Open(t.Context(), "web-1", tester); err == nil {
				t.Fatal("it opens")
			}
			report := f.restore(RestoreOptions{From: file, Provider: "other"})
			if report.RolledBack || (report.Aside == "") != (name == "gone") {
				t.Errorf("%+v", report)
			}
			f.wantTold("web-1", said)
			if c, err := f.readCard("web-1"); err != nil || len(c.Providers) != 1 || c.Providers[0] != "other" {
				t.Errorf("card %+v, %v", c, err)
			}
		})
	}
}

func TestRestoreAsReplaceMakesANewTPM(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	before, err := f.Describe(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	file := f.backed("web-1")
	report := f.restore(RestoreOptions{From: file, Name: "web-2", Mode: ModeReplace})
	if report.ID == before.ID || len(report.Warnings) == 0 {
		t.Errorf("%+v", report)
	}
	now, err := f.Describe(t.Context(), "web-2")
	if err != nil || now.Record.Secrets == before.Record.Secrets {
		t.Errorf("%+v, %v", now, err)
	}
	i, c := f.started("web-2")
	defer i.Close()
	if got, err := recall(c, len(said)); err == nil {
		t.Errorf("the new TPM remembers %q", got)
	}
	if _, err := f.Restore(t.Context(), tester, RestoreOptions{From: file, Mode: ModeReplace}); !errors.Is(err, ErrExists) {
		t.Errorf("over a TPM that is there: %v", err)
	}
	if _, err := f.Restore(t.Context(), tester, RestoreOptions{From: file, Mode: "other"}); err == nil {
		t.Error("an unknown mode passes")
	}
}

func TestACopyBesideItsOriginalIsSaid(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	before, err := f.Describe(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	report := f.restore(RestoreOptions{From: f.backed("web-1"), Name: "web-2"})
	if report.ID == before.ID || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "share all secrets") {
		t.Errorf("%+v", report)
	}
	f.wantTold("web-2", said)
	list, err := f.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if len(s.Findings) == 0 {
			t.Errorf("TPM %q: no finding", s.Name)
		}
	}
	f.create("db-1")
	if _, err := f.Restore(t.Context(), tester, RestoreOptions{From: f.backed("web-1"), Name: "db-1"}); !errors.Is(err, ErrExists) {
		t.Errorf("over another TPM: %v", err)
	}
}

func TestKeysAreTriedFirst(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	file := filepath.Join(t.TempDir(), "b")
	down := fmt.Errorf("dial: %w", keyprovider.ErrUnavailable)
	for what, o := range map[string]BackupOptions{
		"no protection":    {},
		"two":              {Recipients: []string{"age1x"}, Provider: "other"},
		"no recipient":     {Recipients: []string{"age1x"}},
		"not a provider":   {Provider: "nosuch"},
		"one that is down": {Provider: "other"},
	} {
		if what == "one that is down" {
			f.p.fail("other", down)
		}
		o.Name, o.To = "web-1", file
		if _, err := f.Backup(t.Context(), tester, o); err == nil {
			t.Errorf("%s: backed up", what)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Fatalf("%s: a file was made", what)
		}
	}
	f.p.fail("other", nil)
	f.backup(BackupOptions{Name: "web-1", To: file, Provider: "other"})
	if _, err := f.Backup(t.Context(), tester, BackupOptions{Name: "web-1", To: file, Provider: "other"}); !errors.Is(err, backup.ErrExists) {
		t.Errorf("over a file: %v", err)
	}
	f.delete("web-1")
	tries := map[string]struct {
		fail string
		o    RestoreOptions
		want error
	}{
		"the backup's provider is down":   {"other", RestoreOptions{}, keyprovider.ErrUnavailable},
		"the TPM's provider is down":      {"main", RestoreOptions{}, keyprovider.ErrUnavailable},
		"another provider for the backup": {"", RestoreOptions{Keys: KeysFor{Provider: "main"}}, backup.ErrKey},
		"no provider":                     {"", RestoreOptions{Provider: "nosuch"}, keyprovider.ErrNoProvider},
	}
	for what, tc := range tries {
		f.p.fail(tc.fail, down)
		tc.o.From = file
		if _, err := f.Restore(t.Context(), tester, tc.o); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
		f.p.fail(tc.fail, nil)
		if names, _ := f.Names(); len(names) != 0 {
			t.Fatalf("%s: left behind %v", what, names)
		}
	}
	f.restore(RestoreOptions{From: file})
	f.wantTold("web-1", said)
}

func TestAFolderWithoutTheStateOfTheTPMIsRefused(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disk.qcow2"), []byte("QFI"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), dir, KeysFor{}); !errors.Is(err, backup.ErrNoState) {
		t.Errorf("%v", err)
	}
	data, err := os.ReadFile(f.StatePath("web-1"))
	if err != nil {
		t.Fatal(err)
	}
	nvram := filepath.Join(dir, "web-1.nvram")
	if err := os.WriteFile(nvram, data, 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := f.Verify(t.Context(), dir, KeysFor{})
	if err != nil || len(reports) != 1 || reports[0].Kind != "nvram" || reports[0].TPM != "web-1" || !reports[0].Opened {
		t.Fatalf("%+v, %v", reports, err)
	}
	// The file itself is a backup too.
	f.delete("web-1")
	f.restore(RestoreOptions{From: nvram})
	f.wantTold("web-1", said)
	if err := os.WriteFile(nvram, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), nvram, KeysFor{}); !errors.Is(err, state.Truncated) {
		t.Errorf("half of it: %v", err)
	}
}

func TestATPMMovesToAnotherSite(t *testing.T) {
	from, to := newFixture(t), newFixture(t)
	from.told("web-1", said)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web-1.tpm")
	o := BackupOptions{Name: "web-1", To: file, Recipients: []string{id.Recipient().String()}, Export: true, Remove: true}
	if report := from.backup(o); !report.Removed || report.Kind != "export" {
		t.Errorf("%+v", report)
	}
	if names, _ := from.Names(); len(names) != 0 {
		t.Errorf("still at the first site: %v", names)
	}
	report := to.restore(RestoreOptions{From: file, Import: true, Keys: KeysFor{Identities: [][]byte{[]byte(id.String())}}})
	if report.RolledBack {
		t.Errorf("%+v", report)
	}
	to.wantTold("web-1", said)
	d, err := to.Describe(t.Context(), "web-1")
	if err != nil || d.Record.Lineage[len(d.Record.Lineage)-1].Event != EventImport {
		t.Errorf("%+v, %v", d, err)
	}
	from.create("db-1")
	o = BackupOptions{Name: "db-1", To: file + "2", Provider: "other", Export: true}
	if report := from.backup(o); report.Removed || len(report.Warnings) == 0 || !strings.Contains(report.Warnings[0], "two TPMs with the same secrets") {
		t.Errorf("%+v", report)
	}
	o.Export, o.Remove = false, true
	if _, err := from.Backup(t.Context(), tester, o); err == nil {
		t.Error("a backup removes its TPM")
	}
}

// errStop ends an operation where a process would end.
var errStop = errors.New("stopped")

func TestARestoreThatIsCutShortLeavesNothingOrAll(t *testing.T) {
	for _, over := range []bool{false, true} {
		steps := map[string]bool{}
		for n := 0; ; n++ {
			f := newFixture(t)
			f.told("web-1", said)
			file := f.backed("web-1")
			if over {
				if err := os.WriteFile(f.StatePath("web-1"), []byte("damaged"), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				f.delete("web-1")
			}
			at, left := "", n
			f.reached = func(step string) {
				if left == 0 {
					at = step
					panic(errStop)
				}
				left--
			}
			stopped := func() (stopped bool) {
				defer func() {
					if v := recover(); v != nil {
						stopped = v == any(errStop)
					}
				}()
				f.restore(RestoreOptions{From: file, Provider: "other"})
				return false
			}()
			if !stopped {
				break
			}
			steps[at] = true
			f.Root = nil // as another process finds it
			f.reopen()
			names, err := f.Names()
			if err != nil {
				t.Fatal(err)
			}
			_, openErr := f.Open(t.Context(), "web-1", tester)
			switch e := f.last("web-1"); {
			case openErr == nil && e.Outcome == OutcomeDone:
			case openErr != nil && e.Outcome == OutcomeFailed && (over || len(names) == 0):
			default:
				t.Errorf("over %v, cut at %q: %v; event %+v; TPMs %v", over, at, openErr, e, names)
			}
			f.Root = nil
			f.reopen()
			if openErr != nil {
				f.restore(RestoreOptions{From: file, Provider: "other"})
			}
			f.Root = nil
		}
		if len(steps) < 4 {
			t.Errorf("over %v: cut at %v only", over, steps)
		}
	}
}

func TestABackupIsNoStateOfAnotherTPM(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	// A file whose record names another TPM than its header is not taken.
	snap, err := func() (*taken, error) {
		s, _, err := f.peek(t.Context(), "web-1")
		return s, err
	}()
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.protection(t.Context(), nil, "other")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b")
	b := &backup.Bundle{Kind: backup.Backup, ID: state.ID{1}, Name: "web-1", Generation: 1, Made: f.cfg.Now(), Content: snap.snapshot.Content}
	if err := backup.Write(t.Context(), file, b, p, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), file, KeysFor{}); !errors.Is(err, ErrRecord) {
		t.Errorf("%v", err)
	}
	b.ID, b.Content.Permanent = snap.record.ID, []byte("no state")
	if err := backup.Write(t.Context(), file+"2", b, p, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(t.Context(), file+"2", KeysFor{}); err == nil || !strings.Contains(err.Error(), "does not start") {
		t.Errorf("%v", err)
	}
}

func TestRecoverGoesBackToAGenerationThatIsGood(t *testing.T) {
	f := newFixture(t)
	f.told("web-1", said)
	if err := f.Diagnose(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Recover(t.Context(), tester, "web-1", 0); err == nil || !strings.Contains(err.Error(), "is whole") {
		t.Errorf("a state that is whole: %v", err)
	}
	path := f.StatePath("web-1")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := state.Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	// The newest generation is lost; the TPM remembered before it.
	data := bytes.Clone(whole)
	size := (len(data) - 16<<10) / len(info.Slots)
	for n, s := range info.Slots {
		if s.Generation == info.Newest() {
			clear(data[8<<10+n*size:][:size])
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var fault *state.Fault
	if err := f.Diagnose(t.Context(), "web-1"); !errors.As(err, &fault) || fault.LastGood() != info.Newest()-1 {
		t.Fatalf("%v", err)
	}
	if _, err := f.Recover(t.Context(), tester, "web-1", 99); !errors.Is(err, state.Damaged) {
		t.Errorf("a generation that there is not: %v", err)
	}
	report, err := f.Recover(t.Context(), tester, "web-1", 0)
	if err != nil || report.Generation != info.Newest()-1 || report.Fault == "" {
		t.Fatalf("%+v, %v", report, err)
	}
	if aside, err := os.ReadFile(report.Aside); err != nil || !bytes.Equal(aside, data) {
		t.Errorf("the file as it was: %v", err)
	}
	if e := f.last("web-1"); e.Type != EventRecover || e.Outcome != OutcomeDone {
		t.Errorf("event %+v", e)
	}
	f.wantTold("web-1", said)
	// With its key gone nothing can be recovered, and the reason is the key.
	f.p.drop("main", 0)
	f.p.rotate("main")
	f.dropProvider("main")
	if _, err := f.Recover(t.Context(), tester, "web-1", 0); !errors.Is(err, state.WrongKey) {
		t.Errorf("without the key: %v", err)
	}
}

func TestASuspendedTPMIsRestoredWithOrWithoutThat(t *testing.T) {
	f := newFixture(t)
	f.create("web-1")
	i, c := f.started("web-1")
	remember(t, c, said)
	if err := i.volatile.Put([]byte("not of this program")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b")
	o := BackupOptions{Name: "web-1", To: file, Provider: "other"}
	// That is checked as well: a state that does not start is no backup.
	if _, err := f.Backup(t.Context(), tester, o); err == nil || !strings.Contains(err.Error(), "does not start") {
		t.Fatalf("%v", err)
	}
	volatile, err := i.volatile.tpm.Volatile()
	if err != nil {
		t.Fatal(err)
	}
	if err := i.volatile.Put(volatile); err != nil {
		t.Fatal(err)
	}
	if report := f.backup(o); !report.Suspended {
		t.Errorf("%+v", report)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.delete("web-1")
	report := f.restore(RestoreOptions{From: file, AllowRollback: true})
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "saved memory") {
		t.Errorf("%+v", report)
	}
	report = f.restore(RestoreOptions{From: file, AllowRollback: true, Cold: true})
	if len(report.Warnings) != 0 {
		t.Errorf("%+v", report)
	}
	f.wantTold("web-1", said)
}

// Where a TPM is restored on another host its generations go on above those of the backup: an
// older backup is one there, too, whatever the ledger of that host knew before.
func TestABackupOfAnotherHostIsOlderAfterANewerOne(t *testing.T) {
	f := newFixture(t)
	g := f.other()
	f.told("web-1", said)
	older := f.backed("web-1")
	i, c := f.started("web-1")
	if _, err := c.Run(extend(16)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Shutdown(0), i.Close()); err != nil {
		t.Fatal(err)
	}
	newer := f.backed("web-1")
	report := g.restore(RestoreOptions{From: newer})
	for _, file := range []string{older, newer} {
		var rollback *RollbackError
		if _, err := g.Restore(t.Context(), tester, RestoreOptions{From: file}); !errors.As(err, &rollback) || rollback.Known != report.Generation+1 {
			t.Errorf("%v after a restore of generation %d", err, report.Generation)
		}
	}
	// The same of one that takes the place of a state that is lost, with its ledger.
	if err := errors.Join(os.Remove(g.StatePath("web-1")), os.RemoveAll(filepath.Join(g.cfg.Dir, "anchors"))); err != nil {
		t.Fatal(err)
	}
	g.reopen()
	g.restore(RestoreOptions{From: newer})
	var rollback *RollbackError
	if _, err := g.Restore(t.Context(), tester, RestoreOptions{From: older}); !errors.As(err, &rollback) {
		t.Errorf("the older one after the newer one: %v", err)
	}
}
