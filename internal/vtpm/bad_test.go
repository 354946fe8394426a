package vtpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2"
)

// What an operator meets when something is wrong with a TPM, and what he is told.
// In no case does anything change on the disk.
func TestBadStateIsNamedAndLeftAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*fixture)
		want  error
		says  string
	}{
		"wrong key": {func(f *fixture) { f.p.rotate("main"); f.p.drop("main", 1) }, state.WrongKey, "does not hold the key of this file"},
		"wrong provider": {func(f *fixture) {
			c, _ := f.readCard("web")
			c.Providers = []string{"other"}
			f.writeCard(c)
		}, state.WrongKey, "name the provider that wrapped it"},
		"provider down": {
			func(f *fixture) { f.p.fail("main", fmt.Errorf("%w: dial: refused", keyprovider.ErrUnavailable)) },
			state.ProviderDown, "nothing is lost",
		},
		"credential refused": {func(f *fixture) { f.p.fail("main", keyprovider.ErrRefused) }, state.ProviderRefuses, "renew its credential"},
		"provider answers garbage": {
			func(f *fixture) { f.p.fail("main", fmt.Errorf("%w: 3 bytes", keyprovider.ErrGarbage)) },
			state.BadProvider, "answers garbage",
		},
		"another TPM's file": {func(f *fixture) {
			text, _ := os.ReadFile(f.StatePath("db"))
			os.WriteFile(f.StatePath("web"), text, 0o600)
		}, state.Foreign, "of another TPM"},
		"an old copy": {func(f *fixture) {
			old, _ := os.ReadFile(f.StatePath("web"))
			f.Attach(context.Background(), tester, "web", *good())
			os.WriteFile(f.StatePath("web"), old, 0o600)
		}, state.RolledBack, "the file has generation 1, the ledger knows 2"},
		"half a file": {func(f *fixture) {
			text, _ := os.ReadFile(f.StatePath("web"))
			os.WriteFile(f.StatePath("web"), text[:len(text)/2], 0o600)
		}, state.Truncated, "restore a backup"},
		"no file":       {func(f *fixture) { os.Remove(f.StatePath("web")) }, state.Missing, "there is no such file"},
		"no card":       {func(f *fixture) { os.Remove(f.cardPath("web")) }, os.ErrNotExist, "tpm.json"},
		"half a card":   {func(f *fixture) { os.Truncate(f.cardPath("web"), 20) }, ErrRecord, "read card of TPM"},
		"a card's link": {func(f *fixture) { os.Remove(f.cardPath("web")); os.Symlink("/etc/passwd", f.cardPath("web")) }, syscall.ELOOP, "tpm.json"},
		"a newer card": {func(f *fixture) {
			text, _ := os.ReadFile(f.cardPath("web"))
			os.WriteFile(f.cardPath("web"), []byte(strings.Replace(string(text), `"version": 1`, `"version": 2`, 1)), 0o600)
		}, ErrRecord, "version 2, this program has 1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.cfg.Limits = Limits{StartTime: 50 * time.Millisecond}
			f.reopen()
			f.create("web", "db")
			tc.spoil(f)
			f.reopen() // a root that is open keeps the keys that it has
			before := snapshot(t, f.dir("web"))
			_, err := f.Open(context.Background(), "web", tester)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Open = %v, want %q and %q", err, tc.want, tc.says)
			}
			if after := snapshot(t, f.dir("web")); after != before {
				t.Errorf("the folder changed:\n%s\n%s", before, after)
			}
			if d, err := f.Describe(context.Background(), "web"); err != nil || d.Proved || d.Problem == "" {
				t.Errorf("Describe = %+v, %v", d, err)
			}
			if i, err := f.Open(context.Background(), "db", tester); name != "provider down" && name != "wrong key" && tc.want != state.ProviderRefuses && tc.want != state.BadProvider {
				if err != nil {
					t.Errorf("another TPM: %v", err)
				} else {
					i.Close()
				}
			}
		})
	}
}

// snapshot is the content of a folder.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		fmt.Fprintf(&b, "%s %v %x\n", e.Name(), err, text)
	}
	return b.String()
}

func TestTheOwnerOfALockIsNamed(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, _ := f.started("web")
	defer i.Close()
	other, err := OpenRoot(context.Background(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	want := fmt.Sprintf("process %d", os.Getpid())
	if _, err := other.Open(context.Background(), "web", tester); !errors.Is(err, state.Locked) || !strings.Contains(err.Error(), want) {
		t.Errorf("Open = %v, want %q", err, want)
	}
}

// A clock that goes back takes nothing from a TPM: its own time goes forward only,
// and the trail keeps its order.
func TestAClockThatGoesBack(t *testing.T) {
	f := newFixture(t)
	var now atomic.Int64
	base := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // without a monotonic part
	now.Store(int64(time.Hour))
	f.cfg.Now = func() time.Time { return base.Add(time.Duration(now.Load())) }
	f.reopen()
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "kept")
	now.Store(int64(-100 * time.Hour))
	if got, err := recall(c, 4); got != "kept" {
		t.Errorf("recall = %q, %v", got, err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 4); got != "kept" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	if _, err := f.Trail().Check(context.Background(), nil, func(uint64) {}); err != nil {
		t.Error(err)
	}
}

// tmpfs mounts a file system of its own; the test is skipped where that is not allowed.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func onTmpfs(t *testing.T, dir string) *fixture {
	f := newFixture(t)
	f.cfg.Dir = filepath.Join(dir, "root")
	f.reopen()
	return f
}

// fill takes all room that is left.
func fill(t *testing.T, dir string) {
	t.Helper()
	w, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

// On a full disk nothing new is made, nothing that is there is lost, and a TPM
// whose slots are on the disk already goes on.
func TestAFullDisk(t *testing.T) {
	dir := tmpfs(t, "size=1m")
	f := onTmpfs(t, dir)
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "before")
	fill(t, dir)
	if _, err := f.Create(context.Background(), tester, CreateOptions{Name: "db"}); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Create = %v", err)
	}
	if ok, _ := f.has("db"); ok {
		t.Error("half a TPM is left")
	}
	if err := defineCounter(c); err != nil && !errors.Is(err, tpm2.RCFailure) {
		t.Errorf("a write: %v", err)
	}
	i.Close()
	os.Remove(filepath.Join(dir, "fill"))
	f.reopen()
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 6); got != "before" {
		t.Errorf("recall = %q, %v", got, err)
	}
}

// A disk that becomes read-only ends a TPM's writes with TPM_RC_FAILURE, and the
// reason is an event.
func TestAReadOnlyDisk(t *testing.T) {
	dir := tmpfs(t, "size=4m")
	f := onTmpfs(t, dir)
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "before")
	i.Close()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("remount: %v", err)
	}
	if _, err := f.Open(context.Background(), "web", tester); !errors.Is(err, state.ReadOnly) && !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Open = %v", err)
	}
	if _, err := OpenRoot(context.Background(), f.cfg); !errors.Is(err, syscall.EROFS) {
		t.Errorf("OpenRoot = %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 6); got != "before" {
		t.Errorf("recall = %q, %v", got, err)
	}
}

// A state that cannot be kept: the answer is TPM_RC_FAILURE, the reason an event,
// and the next start has what was acknowledged.
func TestAFailureToSave(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, c := f.started("web")
	remember(t, c, "before")
	if err := i.file.Release(); err != nil { // nothing can be saved from here on
		t.Fatal(err)
	}
	if err := defineCounter(c); !errors.Is(err, tpm2.RCFailure) {
		t.Errorf("a write = %v, want %v", err, tpm2.RCFailure)
	}
	if _, err := recall(c, 6); !errors.Is(err, tpm2.RCFailure) {
		t.Errorf("a read afterwards = %v, want %v", err, tpm2.RCFailure)
	}
	i.reports.Wait()
	if e := findEvent(f, EventSaveFailed); e.Outcome != OutcomeFailed || !strings.Contains(string(e.Detail), "the lock was given away") {
		t.Errorf("event %+v", e)
	}
	i.Close()
	i, c = f.started("web")
	defer i.Close()
	if got, err := recall(c, 6); got != "before" {
		t.Errorf("recall = %q, %v", got, err)
	}
	if _, err := count(c); err == nil {
		t.Error("what was not acknowledged is there")
	}
}
