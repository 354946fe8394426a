package vtpmcli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// asNobody calls f as a user who may do no more than modes allow.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// A file that one may write but not replace is written over.
func TestABlobThatMayNotTakeThePlaceOfAFile(t *testing.T) {
	for title, mode := range map[string]fs.FileMode{
		"a folder that may not be written": 0o555,
		"a folder that may not be read":    0o333,
	} {
		t.Run(title, func(t *testing.T) {
			dir := openFolder(t, mode)
			name, second := blobFile(t, dir, 0o666)
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			if err := asNobody(t, func() error { return writeBlob(name, []byte(blobAfter)) }); err != nil {
				t.Fatal(err)
			}
			expectBlobs(t, map[string]string{name: blobAfter, second: blobAfter})
			fresh := filepath.Join(dir, "new")
			err := asNobody(t, func() error { return writeBlob(fresh, []byte(blobAfter)) })
			if mode&0o002 != 0 {
				expectBlobs(t, map[string]string{fresh: blobAfter})
			} else if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("a new file: %v, want %v", err, fs.ErrPermission)
			}
		})
	}
}

// The group that may read a file stays: who cannot give it to a new one writes the old.
func TestABlobKeepsTheOwnerOfAFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a file of another user's")
	}
	dir := openFolder(t, 0o777)
	name, second := blobFile(t, dir, 0o666)
	const user, group = 1234, 4321
	if err := os.Chown(name, user, group); err != nil {
		t.Fatal(err)
	}
	if err := asNobody(t, func() error { return writeBlob(name, []byte(blobAfter)) }); err != nil {
		t.Fatal(err)
	}
	expectBlobs(t, map[string]string{name: blobAfter, second: blobAfter})
	if err := errors.Join(os.WriteFile(second, []byte(blobBefore), 0), writeBlob(name, []byte(blobAfter))); err != nil {
		t.Fatal(err)
	}
	expectBlobs(t, map[string]string{name: blobAfter, second: blobBefore})
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != user || s.Gid != group || info.Mode() != 0o666 {
		t.Errorf("the owner is %+v, the mode %v", info.Sys(), info.Mode())
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

// openFolder is a folder that every user reaches, with a mode for others. Its owner may
// remove it at the end of the test.
func openFolder(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, mode|0o700)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Error(err)
		}
	})
	return dir
}
