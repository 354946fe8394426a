package vtpmcli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A blob that is saved takes the place of an older one at once: until then the older one is
// whole. What is no regular file is written to, a link to where it leads.
func TestASavedBlobIsNeverHalf(t *testing.T) {
	vars, dir := keyFileEnv(t), t.TempDir()
	k := startSWTPM(t, vars, t.TempDir(), "--flags", "not-need-init")
	primaryName(t, startedTPM(t, "unix", k.data), "")
	size := func(name string) int64 {
		t.Helper()
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%q has mode %v", name, info.Mode())
		}
		return info.Size()
	}
	const old = "an older blob"
	file, second, link := filepath.Join(dir, "p"), filepath.Join(dir, "second"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte(old), 0o600), os.Link(file, second)); err != nil {
		t.Fatal(err)
	}
	k.ioctl("--save", "permanent", file)
	if got, err := os.ReadFile(second); err != nil || string(got) != old {
		t.Errorf("what was there was written over: %d bytes, %v", len(got), err)
	}
	whole := size(file)
	if err := os.Symlink(second, link); err != nil {
		t.Fatal(err)
	}
	k.ioctl("--save", "permanent", link)
	if n := size(second); whole < 500 || n != whole {
		t.Errorf("%d bytes, %d through a link", whole, n)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	k.ioctl("--save", "permanent", fmt.Sprintf("/dev/fd/%d", w.Fd()))
	w.Close()
	if got, err := io.ReadAll(r); err != nil || int64(len(got)) != whole {
		t.Errorf("%d bytes through a pipe, %v, want %d", len(got), err, whole)
	}
	r.Close()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	k.stop()
}
