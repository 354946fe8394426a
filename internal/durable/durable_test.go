//go:build unix

package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWriteFileReplacesContentAndMode(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"one", "", "three, which is longer"} {
		if err := WriteFile(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != content {
			t.Errorf("after WriteFile(%q): %q, %v", content, got, err)
		}
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode is %v, %v, want -rw-r-----", info.Mode(), err)
	}
	onlyFile(t, name)
}

// CVE-2020-28407: swtpm_setup followed a symbolic link in place of its log file, and
// wrote as root where another user liked. No file here is written through a link.
func TestCVE2020x28407LinksAreNotFollowed(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(name string) error{
		"WriteFile":  func(name string) error { return WriteFile(name, []byte("mine"), 0o600) },
		"CreateFile": func(name string) error { return CreateFile(name, []byte("mine"), 0o600) },
	} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(other, link); err != nil {
			t.Fatal(err)
		}
		err := write(link)
		if got, _ := os.ReadFile(other); string(got) != "kept" {
			t.Errorf("%s through a link = %v, and the file behind it is now %q", name, err, got)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if err := os.Symlink(missing, filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if l, err := LockDir(dir); err == nil {
		_ = l.Close()
		t.Error("LockDir takes a link for its lock")
	}
	if _, err := os.Lstat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LockDir makes the file behind a link: %v", err)
	}
}

func TestCreateFileRefusesATakenName(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := CreateFile(name, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CreateFile(name, []byte("second"), 0o600); !errors.Is(err, ErrExists) {
		t.Errorf("second CreateFile = %v, want ErrExists", err)
	}
	if got, _ := os.ReadFile(name); string(got) != "first" {
		t.Errorf("content is %q after a refused CreateFile", got)
	}
	onlyFile(t, name)
}

func onlyFile(t *testing.T, name string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v, want one file", entries, err)
	}
}

func TestMissingFolderIsAnError(t *testing.T) {
	name := filepath.Join(t.TempDir(), "missing", "f")
	if err := WriteFile(name, nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile = %v", err)
	}
	if _, err := LockDir(filepath.Dir(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LockDir = %v", err)
	}
	if err := Sweep(filepath.Dir(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Sweep = %v", err)
	}
}

func TestSweepRemovesOnlyUnfinishedFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"kept", ".durable-1.tmp", ".durable-other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 || entries[0].Name() != ".durable-other" || entries[1].Name() != "kept" {
		t.Errorf("Sweep left %v", entries)
	}
}

func TestLockIsExclusiveUntilClosed(t *testing.T) {
	dir := t.TempDir()
	first, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("LockDir while held = %v, want ErrLocked", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after Close = %v", err)
	}
	again.Close()
}

// holdEnv makes the test binary hold the lock of a folder until its input ends.
const holdEnv = "DURABLE_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdEnv); dir != "" {
		if _, err := LockDir(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestLockEndsWithAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	n, _ := out.Read(said)
	if got := string(said[:n]); got != "held\n" {
		t.Fatalf("child says %q", got)
	}
	if _, err := LockDir(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("LockDir while the child lives = %v, want ErrLocked", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	l, err := LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after the child was killed = %v", err)
	}
	l.Close()
}

// errCut is what every operation of a stopped machine answers.
var errCut = errors.New("power cut")

// faulty is a file system in memory that loses power after some operations. It
// keeps apart what programs see and what a crash leaves: names become durable
// by syncDir, in any order before, and content by the sync inside temp.
type faulty struct {
	left    int                // operations until the power cut
	sync    bool               // whether temp syncs, as it must
	content map[string][]byte  // by inode
	synced  map[string]int     // bytes of each inode that are on the disk
	names   map[string]string  // name to inode, as seen
	onDisk  map[string]string  // name to inode, as durable
	pending []map[string]*name // changes since the last syncDir
	inodes  int
}

type name struct{ inode string }

func newFaulty(left int, old string) *faulty {
	f := &faulty{left: left, sync: true, content: map[string][]byte{}, synced: map[string]int{}, names: map[string]string{}, onDisk: map[string]string{}}
	if old != "" {
		f.content["old"], f.synced["old"] = []byte(old), len(old)
		f.names["d/f"], f.onDisk["d/f"] = "old", "old"
	}
	return f
}

func (f *faulty) step() error {
	if f.left == 0 {
		return errCut
	}
	f.left--
	return nil
}

func (f *faulty) temp(dir string, data []byte, _ fs.FileMode) (string, error) {
	if err := f.step(); err != nil {
		return "", err
	}
	f.inodes++
	inode, temp := fmt.Sprint("inode", f.inodes), fmt.Sprint(dir, "/temp", f.inodes)
	f.content[inode] = nil
	f.change(map[string]*name{temp: {inode}})
	for half := range 2 {
		if err := f.step(); err != nil {
			return "", err
		}
		f.content[inode] = data[:len(data)*(half+1)/2]
	}
	if err := f.step(); err != nil {
		return "", err
	}
	if f.sync {
		f.synced[inode] = len(data)
	}
	return temp, nil
}

func (f *faulty) change(c map[string]*name) {
	f.pending = append(f.pending, c)
	apply(f.names, c)
}

func apply(names map[string]string, c map[string]*name) {
	for n, to := range c {
		if to == nil {
			delete(names, n)
		} else {
			names[n] = to.inode
		}
	}
}

func (f *faulty) rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.change(map[string]*name{to: {f.names[from]}, from: nil})
	return nil
}

func (f *faulty) link(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	if _, taken := f.names[to]; taken {
		return fs.ErrExist
	}
	f.change(map[string]*name{to: {f.names[from]}})
	return nil
}

func (f *faulty) remove(n string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.change(map[string]*name{n: nil})
	return nil
}

func (f *faulty) syncDir(string) error {
	if err := f.step(); err != nil {
		return err
	}
	for _, c := range f.pending {
		apply(f.onDisk, c)
	}
	f.pending = nil
	return nil
}

// afterCrash calls see with the content of d/f ("" when absent) for each way in
// which the pending changes of names may have reached the disk.
func (f *faulty) afterCrash(see func(content string)) {
	for subset := range 1 << len(f.pending) {
		names := map[string]string{}
		maps.Copy(names, f.onDisk)
		for i, c := range f.pending {
			if subset&(1<<i) != 0 {
				apply(names, c)
			}
		}
		inode, ok := names["d/f"]
		if !ok {
			see("")
			continue
		}
		whole := f.content[inode]
		see(string(whole[:f.synced[inode]]) + strings.Repeat("\x00", len(whole)-f.synced[inode]))
	}
}

func TestAPowerCutLeavesOldOrNewWhole(t *testing.T) {
	for what, tc := range map[string]struct {
		old string
		op  func(layer, string, []byte, fs.FileMode) error
	}{
		"write over a file": {"old content", write},
		"write a new file":  {"", write},
		"create":            {"", create},
	} {
		t.Run(what, func(t *testing.T) {
			for cut := range 12 {
				f := newFaulty(cut, tc.old)
				err := tc.op(f, "d/f", []byte("new content"), 0o600)
				f.afterCrash(func(got string) {
					if got != "new content" && (err == nil || got != tc.old) {
						t.Errorf("cut after %d operations: %q on the disk, and the call said %v", cut, got, err)
					}
				})
				if err == nil && cut < 6 {
					t.Errorf("cut after %d operations: the call succeeded", cut)
				}
			}
		})
	}
}

func TestTheModelSeesAMissingSync(t *testing.T) {
	f := newFaulty(12, "old content")
	f.sync = false
	if err := write(f, "d/f", []byte("new content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.afterCrash(func(got string) {
		if !bytes.ContainsRune([]byte(got), 0) {
			t.Errorf("content %q is whole although it was never synced", got)
		}
	})
}

// A process that is being started holds copies of our files until it runs its
// program; a copied descriptor is the same thing.
func TestCloseGivesTheLockBackWhateverHoldsTheFile(t *testing.T) {
	dir := t.TempDir()
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(l.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(held)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after Close = %v", err)
	}
	again.Close()
}

func TestRemoveTakesAFileAwayAndOneThatIsGoneIsNoError(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(name); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lstat = %v", err)
		}
	}
	if err := Remove(filepath.Join(name, "missing", "f")); err == nil {
		t.Error("a folder that is missing was synced")
	}
}

// Who opened the lock of a folder that is then removed does not hold the folder that
// takes its place.
func TestALockWithoutItsNameHoldsNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	late, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if !named(late) {
		t.Error("a lock with its name holds nothing")
	}
	if err := errors.Join(RemoveDir(dir, dir+".gone"), l.Close()); err != nil {
		t.Fatal(err)
	}
	if named(late) {
		t.Error("a lock without its name holds")
	}
	for _, d := range []string{dir, dir + ".gone"} {
		if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if named(late) {
		t.Error("a lock of the folder before holds")
	}
}
