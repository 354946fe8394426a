package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/storetest"
)

// fill decides until the store refuses, and returns how many it took.
func fill(t *testing.T, s *store.Store, from int) (kept int) {
	t.Helper()
	for n := from; n < from+5000; n++ {
		err := s.Decide(t.Context(), storetest.Decision(n, storetest.Bundle(n, n)))
		if err == nil {
			kept++
			continue
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("decision %d on a full disk: %v, want ErrUnavailable", n, err)
		}
		return kept
	}
	t.Fatal("the disk does not become full")
	return 0
}

// survives fills a store twice, makes room after each time, and looks for what was
// acknowledged; room gives the store space.
func survives(t *testing.T, s *store.Store, room func()) {
	t.Helper()
	ctx := t.Context()
	kept := fill(t, s, 0)
	if kept == 0 {
		t.Fatal("nothing was stored before the disk was full: the test would show nothing")
	}
	look := func(n int) {
		t.Helper()
		d := storetest.Decision(n, storetest.Bundle(n, n))
		if got, err := s.Appraisal(ctx, d.Appraisal.ID); err != nil || got.Evidence != d.Appraisal.Evidence {
			t.Errorf("decision %d: %+v, %v", n, got, err)
		}
		if b, err := s.Evidence(ctx, d.Appraisal.Evidence); err != nil || string(b) != string(d.Bundle) {
			t.Errorf("evidence %d: %d bytes, %v", n, len(b), err)
		}
	}
	for n := range kept {
		look(n)
	}
	// The refused decision left nothing behind: its challenge is good, its id free.
	if got := len(storetest.Chain(t, s)); got != kept {
		t.Errorf("%d audit entries, want %d", got, kept)
	}
	if err := s.AddAttester(ctx, storetest.Attester(1), storetest.Entry("attester.add", "1")); err == nil {
		kept++ // a small write may still fit
	} else if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("AddAttester on a full disk: %v, want ErrUnavailable", err)
	}
	room()
	refused := kept
	if _, err := s.Attester(ctx, storetest.Attester(1).AKName); err == nil {
		refused--
	}
	if err := s.Decide(ctx, storetest.Decision(refused, storetest.Bundle(refused, refused))); err != nil {
		t.Fatalf("the refused decision, once there is room: %v", err)
	}
	look(refused)
	if got := len(storetest.Chain(t, s)); got != kept+1 {
		t.Errorf("%d audit entries after it, want %d", got, kept+1)
	}
}

func TestFullDatabaseRefusesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	lock, err := durable.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, FileName)
	write, err := connect(file, 1, readWrite())
	if err != nil {
		t.Fatal(err)
	}
	read, err := connect(file, 2, readOnly())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(t.Context(), store.Databases{Write: write, Read: read, Dialect: dialect(), Away: away, Release: lock.Close}, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pages := func(n string) {
		t.Helper()
		if _, err := write.ExecContext(t.Context(), "PRAGMA max_page_count = "+n); err != nil {
			t.Fatal(err)
		}
	}
	pages("200")
	survives(t, s, func() { pages("100000") })
}

// A file system without room, as the operating system tells it.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("assay-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH) //nolint:errcheck // the folder shows it
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	survives(t, s, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), dir, store.Config{}); err != nil {
		t.Fatalf("Open afterwards: %v", err)
	}
	storetest.Chain(t, s)
	s.Close()
}
