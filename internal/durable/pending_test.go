//go:build unix

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func mustBegin(t *testing.T, name, text string) *Pending {
	t.Helper()
	p, err := Begin(name, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPendingFileHasItsNameOnlyWhenCommitted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	p := mustBegin(t, name, "one")
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before Commit: %v", err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, name)
	if got, err := os.ReadFile(name); err != nil || string(got) != "one" {
		t.Errorf("after Commit: %q, %v", got, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if held, err := p.Stat(); err != nil {
		t.Error(err)
	} else if named, err := os.Stat(name); err != nil || !os.SameFile(held, named) {
		t.Errorf("the open file is not the one that has the name: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPendingFileThatIsAbortedLeavesNothing(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := mustBegin(t, name, "old").Commit(); err != nil {
		t.Fatal(err)
	}
	if err := mustBegin(t, name, "new").Abort(); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, name)
	if got, _ := os.ReadFile(name); string(got) != "old" {
		t.Errorf("content is %q", got)
	}
}

func TestCommitNewRefusesATakenName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := mustBegin(t, name, "first").CommitNew(); err != nil {
		t.Fatal(err)
	}
	second := mustBegin(t, name, "second")
	if err := second.CommitNew(); !errors.Is(err, ErrExists) {
		t.Errorf("second CommitNew = %v, want ErrExists", err)
	}
	if err := second.Abort(); err != nil {
		t.Error(err)
	}
	onlyFile(t, name)
	if got, _ := os.ReadFile(name); string(got) != "first" {
		t.Errorf("content is %q", got)
	}
}

func TestSweepOfRemovesWhatIsUnfinishedOfOneName(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	mustBegin(t, name, "crashed").Close()
	other := mustBegin(t, filepath.Join(dir, "g"), "at work")
	if err := SweepOf(name); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, other.Name())
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("Sweep leaves %v", entries)
	}
	if err := SweepOf(filepath.Join(dir, "missing", "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("SweepOf in no folder = %v", err)
	}
}

// A file that is written stays, whoever sweeps; what its writer left by a crash goes.
func TestSweepUnheldLeavesWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	held, err := BeginHeld(filepath.Join(dir, "a-b"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	free, err := Begin(filepath.Join(dir, "a-c"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep := func(yes bool) (asked []string) {
		if err := SweepUnheld(dir, func(name string, written time.Time) bool {
			if time.Since(written) > time.Hour {
				t.Errorf("%s was written at %s", name, written)
			}
			asked = append(asked, name)
			return yes
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(asked)
		return asked
	}
	there := func(p *Pending) bool { return named(p.File) }
	if got := sweep(false); !slices.Equal(got, []string{"a-b", "a-c"}) || !there(held) || !there(free) {
		t.Errorf("asked about %q", got)
	}
	if sweep(true); !there(held) || there(free) {
		t.Errorf("held: %v, free: %v", there(held), there(free))
	}
	if err := held.CommitNew(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(held.Close(), free.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a-b", "kept"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
