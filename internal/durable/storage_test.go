//go:build unix

package durable

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe is a file that cannot be made durable.
func TestAFileThatCannotBeMadeDurableIsNamed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Synced(w.Sync()); !errors.Is(err, ErrNoSync) || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Synced = %v, want ErrNoSync and EINVAL", err)
	}
	for _, err := range []error{nil, syscall.EIO, syscall.ENOSPC} {
		if got := Synced(err); !errors.Is(got, err) || errors.Is(got, ErrNoSync) {
			t.Errorf("Synced(%v) = %v", err, got)
		}
	}
	for _, err := range []error{syscall.ENOLCK, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if got := lacking(err, ErrNoLocks); !errors.Is(got, ErrNoLocks) {
			t.Errorf("a lock that ends with %v is %v", err, got)
		}
	}
}

// A lock that was not taken stands for a file system on which locks do nothing.
func TestALockThatKeepsNobodyOutIsNamed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := keepsOut(f); !errors.Is(err, ErrNoLocks) {
		t.Errorf("keepsOut = %v, want ErrNoLocks", err)
	}
	if locked, err := Flock(f); !locked || err != nil {
		t.Errorf("Flock = %v, %v", locked, err)
	}
	other, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if locked, err := Flock(other); locked || err != nil {
		t.Errorf("Flock of another's file = %v, %v", locked, err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if locked, err := Flock(f); !locked || err != nil {
		t.Errorf("Flock of a file without a name = %v, %v", locked, err)
	}
}
