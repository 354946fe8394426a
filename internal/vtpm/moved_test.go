package vtpm

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-project/assay/internal/vtpm/libtpms"
)

// swtpmFolder is a state folder as swtpm leaves it.
func swtpmFolder(t *testing.T, sample string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("libtpms", "testdata", sample))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{libtpms.PermanentFile: b, ".lock": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestATPMOfSwtpmRunsHere(t *testing.T) {
	f := newFixture(t)
	dir := swtpmFolder(t, "suspended.permall")
	o := MoveOptions{Dir: dir, Name: "web-1"}
	var losses *LossesError
	report, err := f.Move(t.Context(), tester, o)
	if !errors.As(err, &losses) || report == nil || report.Made {
		t.Fatalf("a suspended TPM is taken over without a question: %v, %v", report, err)
	}
	if ok, _ := f.has("web-1"); ok {
		t.Fatal("a refused TPM is there")
	}
	o.AcceptLosses = true
	if report, err = f.Move(t.Context(), tester, o); err != nil || !report.Made {
		t.Fatalf("%v, %v", report, err)
	}
	if e := f.last("web-1"); e.Type != EventImport || e.Outcome != OutcomeDone || e.Actor != tester || strings.Contains(string(e.Detail), "ownerpw") {
		t.Errorf("event is %+v", e)
	}
	i, _ := f.started("web-1")
	if r, ok := i.Record(); !ok || r.Profile != libtpms.Profile || len(r.Lineage) != 1 || r.Lineage[0].From != "swtpm: "+dir {
		t.Errorf("record is %+v", r)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

// Two running TPMs with one state would give away what neither may.
func TestARunningSwtpmIsNotTakenOver(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("locks by a process on itself do not show")
	}
	f := newFixture(t)
	dir := swtpmFolder(t, "suspended.permall")
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	// Of an open file, so that it is another's than this process's.
	const setOpenFileLock = 37 // F_OFD_SETLK
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(lock.Fd(), setOpenFileLock, &l); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Move(context.Background(), tester, MoveOptions{Dir: dir, Name: "web-1", AcceptLosses: true}); !errors.Is(err, libtpms.ErrRunning) {
		t.Errorf("%v, want ErrRunning", err)
	}
}

func TestWhatIsNoSwtpmIsNotTakenOver(t *testing.T) {
	f := newFixture(t)
	for name, prepare := range map[string]func(file string) error{
		"regular file": func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
		"more than":    func(file string) error { return os.Truncate(file, libtpms.MaxFile+1) },
		"cut or torn":  func(file string) error { return os.Truncate(file, 5000) },
		"header":       func(file string) error { return os.Truncate(file, 5) },
		"no such file": os.Remove,
	} {
		dir := swtpmFolder(t, "suspended.permall")
		if err := prepare(filepath.Join(dir, libtpms.PermanentFile)); err != nil {
			t.Fatal(err)
		}
		_, err := f.Move(t.Context(), tester, MoveOptions{Dir: dir, Name: "web-1", AcceptLosses: true})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q", err, name)
		}
	}
	if names, err := f.Names(); err != nil || len(names) != 0 {
		t.Errorf("TPMs %v, %v", names, err)
	}
}
