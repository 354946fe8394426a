package vtpmcli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/assay-project/assay/internal/durable"
)

// The content of a file before a blob is saved over it, and of the blob, which is shorter.
const (
	blobBefore = "an older blob that is longer"
	blobAfter  = "a blob"
)

// blobFile makes a file with a second name, which tells whether it was written over.
func blobFile(t *testing.T, dir string, mode fs.FileMode) (name, second string) {
	t.Helper()
	name = filepath.Join(dir, "blob")
	second = name + "-second"
	if err := errors.Join(os.WriteFile(name, []byte(blobBefore), mode), os.Chmod(name, mode), os.Link(name, second)); err != nil {
		t.Fatal(err)
	}
	return name, second
}

func expectBlobs(t *testing.T, want map[string]string) {
	t.Helper()
	for name, text := range want {
		if got, err := os.ReadFile(name); err != nil || string(got) != text {
			t.Errorf("%q holds %q, %v, want %q", name, got, err, text)
		}
	}
}

func TestABlobKeepsWhoMayReadIt(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o666} {
		name, second := blobFile(t, t.TempDir(), mode)
		if err := writeBlob(name, []byte(blobAfter)); err != nil {
			t.Fatal(err)
		}
		expectBlobs(t, map[string]string{name: blobAfter, second: blobBefore})
		if info, err := os.Stat(name); err != nil || info.Mode() != mode {
			t.Errorf("mode %v, %v, want %v", info.Mode(), err, mode)
		}
	}
}

// What a link leads to is replaced, not the link, and not what somebody has open.
func TestABlobGoesToWhereALinkLeads(t *testing.T) {
	dir := t.TempDir()
	name, second := blobFile(t, dir, 0o640)
	below, link, none := filepath.Join(dir, "below"), filepath.Join(dir, "below", "link"), filepath.Join(dir, "none")
	err := errors.Join(os.Mkdir(below, 0o700), os.Symlink(filepath.Join("..", "again"), link), os.Symlink(name, filepath.Join(dir, "again")), os.Symlink("new", none))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{link, none} {
		if err := writeBlob(to, []byte(blobAfter)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(to); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%q is no link any more: %v, %v", to, info, err)
		}
	}
	expectBlobs(t, map[string]string{name: blobAfter, second: blobBefore, filepath.Join(dir, "new"): blobAfter})
	f, err := os.OpenFile(second, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	third := filepath.Join(dir, "third")
	descriptor := fmt.Sprintf("/dev/fd/%d", f.Fd())
	if err := os.Symlink(descriptor, third); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{descriptor, third} {
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if err := writeBlob(to, []byte(blobAfter)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(blobAfter))
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != blobAfter {
			t.Errorf("%q: who has the file open reads %q, %v", to, got, err)
		}
	}
}

// A save that was killed leaves a TPM's secrets in a file, until the next of that name.
func TestABlobSweepsWhatAKilledSaveLeft(t *testing.T) {
	dir := t.TempDir()
	name, second := blobFile(t, dir, 0o600)
	killed, err := durable.BeginHeld(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	held, err := durable.BeginHeld(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Abort()
	other, err := durable.BeginHeld(second, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(killed.Close(), other.Close(), writeBlob(name, []byte(blobAfter))); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, filepath.Join(dir, e.Name()))
	}
	want := []string{held.Name(), other.Name(), name, second}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}
