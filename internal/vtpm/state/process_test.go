//go:build unix

package state

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// The test binary is also the process that is killed: what it does is in these
// variables of its environment.
const (
	doEnv   = "STATE_TEST_DO"   // "save" until killed, or "hold" the lock until its input ends
	pathEnv = "STATE_TEST_PATH" // of the file
	dieEnv  = "STATE_TEST_DIE"  // step at which it kills itself; empty: somebody else does
)

func TestMain(m *testing.M) {
	if do := os.Getenv(doEnv); do != "" {
		if err := child(do, os.Getenv(pathEnv)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testKey is the key-encryption key that parent and child share.
func testKey() seal.Key {
	return seal.Key{ID: "test", Secret: seal.NewSecret(bytes.Repeat([]byte{7}, seal.KeySize))}
}

// sharedConfig is what parent and child open a file with.
func sharedConfig(path string) (Config, error) {
	p, err := keyprovider.NewLocal(rand.Reader, testKey())
	if err != nil {
		return Config{}, err
	}
	l, err := OpenLedger(filepath.Join(filepath.Dir(path), "anchors"))
	return Config{Provider: p, Random: rand.Reader, Anchor: l}, err
}

// child opens the file and saves one generation after the other, each told on
// standard output once it is acknowledged.
func child(do, path string) error {
	cfg, err := sharedConfig(path)
	if err != nil {
		return err
	}
	if at := os.Getenv(dieEnv); at != "" {
		n, err := strconv.Atoi(at)
		if err != nil {
			return err
		}
		cfg.disk = &deadly{left: n}
	}
	f, c, err := Open(context.Background(), path, cfg)
	if err != nil {
		return err
	}
	fmt.Println("open")
	if do == "hold" {
		_, err := os.Stdin.Read(make([]byte, 1))
		return errors.Join(err, f.Close())
	}
	for n := numberOf(c) + 1; ; n++ {
		if n%16 == 0 {
			if err := f.Rewrap(context.Background(), cfg.Provider, "test"); err != nil {
				return err
			}
		}
		if err := f.Save(context.Background(), content(n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// numberOf is the n of content(n).
func numberOf(c Content) int {
	_, after, _ := strings.Cut(string(c.Meta), `"n":`)
	n, err := strconv.Atoi(strings.TrimSuffix(after, "}"))
	if err != nil {
		return 0
	}
	return n
}

// deadly kills its process at a step, in the middle of a write.
type deadly struct {
	system
	left int
}

type deadlyHandle struct {
	handle
	d *deadly
}

type deadlyPending struct {
	deadlyHandle
	p pending
}

func (d *deadly) step() {
	d.left--
	if d.left == 0 {
		die()
	}
}

func die() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func (d *deadly) open(path string) (handle, error) {
	d.step()
	h, err := d.system.open(path)
	return deadlyHandle{h, d}, err
}

func (d *deadly) begin(path string) (pending, error) {
	d.step()
	p, err := d.system.begin(path)
	return deadlyPending{deadlyHandle{p, d}, p}, err
}

func (h deadlyHandle) WriteAt(b []byte, at int64) (int, error) {
	h.d.left--
	if h.d.left == 0 {
		cut := len(b) / 2 / blockSize * blockSize
		if n, err := h.handle.WriteAt(b[:cut], at); err != nil {
			return n, err
		}
		die()
	}
	return h.handle.WriteAt(b, at)
}

func (h deadlyHandle) sync() error {
	h.d.step()
	err := h.handle.sync()
	h.d.step()
	return err
}

func (p deadlyPending) commit() error {
	p.d.step()
	err := p.p.commit()
	p.d.step()
	return err
}

func (p deadlyPending) commitNew() error { return p.p.commitNew() }
func (p deadlyPending) abort() error     { return p.p.abort() }

// command prepares the child.
func command(do, path string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, doEnv+"="+do, pathEnv+"="+path)...)
	return cmd
}

// shared makes a file that the child can open.
func shared(t *testing.T) (string, Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web-1.nvram")
	cfg, err := sharedConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustCreate(t, path, cfg))
	return path, cfg
}

// wantAfter opens the file after a kill and wants the acknowledged generation or the
// next. It returns which.
func wantAfter(t *testing.T, path string, cfg Config, acknowledged int) int {
	t.Helper()
	got, _, err := tryOpen(path, cfg)
	if err != nil {
		t.Fatalf("after generation %d was acknowledged: %v", acknowledged, err)
	}
	n := numberOf(got)
	if n != acknowledged && n != acknowledged+1 || !same(got, content(n)) {
		t.Fatalf("opens as %d: %.40q; %d was acknowledged", n, got.Permanent, acknowledged)
	}
	return n
}

func TestAProcessThatKillsItselfAtEachSystemCallLosesNothing(t *testing.T) {
	path, cfg := shared(t)
	last := 1
	for at := 1; at <= 60; at++ {
		out, err := command("save", path, fmt.Sprintf("%s=%d", dieEnv, at)).Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("step %d: child ends with %v: %s", at, err, out)
		}
		acknowledged := last
		for line := range strings.Lines(string(out)) {
			if n, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				acknowledged = n
			}
		}
		last = wantAfter(t, path, cfg, acknowledged)
	}
	if last < 100 {
		t.Errorf("only %d generations were saved", last)
	}
}

func TestAProcessKilledAtAnyMomentLosesNothing(t *testing.T) {
	path, cfg := shared(t)
	last := 1
	for round := range 25 {
		cmd := command("save", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := last
		// The moment is by the number of lines read, and by what the scheduler does.
		s := bufio.NewScanner(out)
		for i := 0; i < 2+round*3 && s.Scan(); i++ {
			if n, err := strconv.Atoi(s.Text()); err == nil {
				acknowledged = n
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for s.Scan() {
			if n, err := strconv.Atoi(s.Text()); err == nil {
				acknowledged = n
			}
		}
		cmd.Wait()
		last = wantAfter(t, path, cfg, acknowledged)
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 2 {
			t.Fatalf("left behind: %v, %v", entries, err)
		}
	}
}

func TestTheLockNamesItsOwner(t *testing.T) {
	path, cfg := shared(t)
	cmd := command("hold", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	_, _, err = tryOpen(path, cfg)
	fault := wantFault(t, err, Locked)
	if want := fmt.Sprintf("process %d (", cmd.Process.Pid); !strings.HasPrefix(fault.Owner, want) || !strings.Contains(err.Error(), "in use by another process: "+want) {
		t.Errorf("owner %q, %v, want %q", fault.Owner, err, want)
	}
	if _, err := Recover(context.Background(), path, 1, cfg); !errors.Is(err, Locked) {
		t.Errorf("Recover = %v", err)
	}
	if _, err := Inspect(path); err != nil {
		t.Errorf("Inspect needs no lock: %v", err)
	}
	in.Close()
	cmd.Wait()
	if _, _, err := tryOpen(path, cfg); err != nil {
		t.Errorf("after the other process ended: %v", err)
	}
}

// A file that its owner replaces keeps its lock: there is no moment at which another
// could take it.
func TestTheLockGoesAlongWhenTheFileIsReplaced(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 2)
	f, _ := mustOpen(t, path, cfg)
	stop := make(chan struct{})
	done := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if g, _, err := Open(context.Background(), path, cfg); err == nil {
				g.Close()
				done <- errors.New("opened while another has the file")
				return
			} else if !errors.Is(err, Locked) {
				done <- err
				return
			}
		}
	}()
	for range 40 {
		if err := f.Rewrap(context.Background(), cfg.Provider, "again"); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustClose(t, f)
}

func TestLinesOfProcLocksAreRead(t *testing.T) {
	for line, want := range map[string]struct {
		pid   int
		inode uint64
		ok    bool
	}{
		"4: FLOCK  ADVISORY  WRITE 4711 fe:00:1311 0 EOF":    {4711, 1311, true},
		"4: -> FLOCK  ADVISORY  WRITE 4711 fe:00:1311 0 EOF": {}, // one that waits
		"4: FLOCK  ADVISORY  READ 4711 fe:00:1311 0 EOF":     {4711, 1311, false},
		"4: POSIX  ADVISORY  WRITE 4711 fe:00:1311 0 EOF":    {},
		"4: FLOCK  ADVISORY  WRITE -1 fe:00:1311 0 EOF":      {},
		"4: FLOCK  ADVISORY  WRITE 4711 fe:00:x 0 EOF":       {},
		"": {},
	} {
		pid, inode, ok := parseLock(line)
		if ok != want.ok || ok && (pid != want.pid || inode != want.inode) {
			t.Errorf("parseLock(%q) = %d, %d, %v", line, pid, inode, ok)
		}
	}
}

// mount makes a small file system, where the test may.
func mount(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	return dir
}

func TestAFullDiskIsSaidAndCostsNothing(t *testing.T) {
	dir := mount(t, "size=160k")
	cfg := config(t)
	path := filepath.Join(dir, "web-1.nvram")
	f := mustCreate(t, path, cfg)
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	// What fits in the slots needs no room.
	for i := 2; i < 8; i++ {
		mustSave(t, f, content(i))
	}
	large := content(8)
	large.Volatile = make([]byte, 30<<10)
	err := f.Save(context.Background(), large)
	wantFault(t, err, NoSpace)
	if !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	mustSave(t, f, content(9))
	mustClose(t, f)
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(9)) {
		t.Errorf("afterwards: %.40q, %v", got.Permanent, err)
	}
	_, err = Create(context.Background(), filepath.Join(dir, "web-2.nvram"), mustID(t), content(1), cfg)
	wantFault(t, err, NoSpace)
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAReadOnlyDiskIsSaid(t *testing.T) {
	dir := mount(t, "size=1m")
	cfg := config(t)
	path := filepath.Join(dir, "web-1.nvram")
	mustClose(t, mustCreate(t, path, cfg))
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	_, _, err := tryOpen(path, cfg)
	wantFault(t, err, ReadOnly)
	if !strings.Contains(err.Error(), "the disk is read-only") {
		t.Error(err)
	}
	_, err = Create(context.Background(), filepath.Join(dir, "web-2.nvram"), mustID(t), content(1), cfg)
	wantFault(t, err, ReadOnly)
}

func TestAFileThatIsNoneIsNamed(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 1)
	dir := filepath.Dir(path)
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink(path, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Kind{link: NotOurs, pipe: NotOurs, dir: NotOurs, filepath.Join(dir, "absent"): Missing} {
		_, _, err := tryOpen(name, cfg)
		wantFault(t, err, want)
		if _, err := Inspect(name); !errors.Is(err, want) {
			t.Errorf("Inspect(%s) = %v", filepath.Base(name), err)
		}
	}
	if _, _, err := tryOpen(filepath.Join(dir, "absent"), cfg); err == nil || !strings.Contains(err.Error(), "there is no such file") {
		t.Error(err)
	}
}

func TestAFileThatWasReleasedIsLeftToOthers(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 2)
	f, _ := mustOpen(t, path, cfg)
	if err := f.Release(); err != nil {
		t.Fatal(err)
	}
	wantFault(t, f.SavePermanent([]byte("late")), Released)
	wantFault(t, f.Rewrap(context.Background(), cfg.Provider, ""), Released)
	wantFault(t, f.Release(), Released)
	// The migration fails before the other side wrote: we go on.
	g, _ := mustOpen(t, path, cfg)
	wantFault(t, f.Reacquire(), Locked)
	mustClose(t, g)
	if err := f.Reacquire(); err != nil {
		t.Fatal(err)
	}
	mustSave(t, f, content(3))
	// It fails after the other side wrote: ours is an old copy in memory.
	for name, other := range map[string]func(*File){
		"saved":    func(g *File) { mustSave(t, g, content(4)) },
		"replaced": func(g *File) { g.Rewrap(context.Background(), cfg.Provider, "") },
	} {
		if err := f.Release(); err != nil {
			t.Fatal(err)
		}
		g, _ := mustOpen(t, path, cfg)
		other(g)
		mustClose(t, g)
		err := f.Reacquire()
		wantFault(t, err, Taken)
		if !strings.Contains(err.Error(), "open it again") {
			t.Errorf("%s: %v", name, err)
		}
		wantFault(t, f.SavePermanent([]byte("late")), Released)
		if h, _, err := Open(context.Background(), path, cfg); err != nil {
			t.Errorf("%s: Reacquire keeps the lock: %v", name, err)
		} else {
			mustClose(t, f)
			f = h
		}
	}
	mustClose(t, f)
	wantFault(t, f.SavePermanent([]byte("late")), Closed)
	wantFault(t, f.Reacquire(), Closed)
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Nothing is acknowledged that goes into a file without a name.
func TestAFileThatLosesItsNameTakesNoSaves(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 2)
	f, _ := mustOpen(t, path, cfg)
	away := path + ".away"
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	wantFault(t, f.Save(t.Context(), content(3)), Gone)
	mustWrite(t, path, mustRead(t, away))
	wantFault(t, f.SavePermanent([]byte("p")), Gone)
	wantFault(t, f.Rewrap(t.Context(), cfg.Provider, ""), Gone)
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	mustSave(t, f, content(4))
	mustClose(t, f)
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(4)) {
		t.Errorf("%v", err)
	}
}

func TestInUseNamesTheOwnerAndTakesNoLock(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 1)
	if owner, err := InUse(path); owner != "" || err != nil {
		t.Errorf("nobody has it: %q, %v", owner, err)
	}
	f, _ := mustOpen(t, path, cfg)
	if owner, err := InUse(path); !strings.HasPrefix(owner, fmt.Sprintf("process %d (", os.Getpid())) || err != nil {
		t.Errorf("we have it: %q, %v", owner, err)
	}
	mustClose(t, f)
	_, err := InUse(path + "x")
	wantFault(t, err, Missing)
}

// A clock that went back is said, and decides nothing.
func TestAClockThatWentBackIsSaid(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 2)
	cfg.Now = func() time.Time { return noon().AddDate(-1, 0, 0) }
	f, got := mustOpen(t, path, cfg)
	if n := f.Notices(); len(n) != 1 || n[0].Kind != ClockBack || !strings.Contains(n[0].Text, "generation 2 was saved at 2026-11-22 12:00:00, and the clock says 2025-11-22 12:00:00") {
		t.Errorf("notices %v", n)
	}
	if !same(got, content(2)) {
		t.Errorf("opens as %.40q", got.Permanent)
	}
	mustSave(t, f, content(3))
	mustClose(t, f)
	if got, notices, err := tryOpen(path, cfg); err != nil || len(notices) != 0 || !same(got, content(3)) {
		t.Errorf("the newest by number: %.40q, %v, %v", got.Permanent, notices, err)
	}
}

// A process that is being started holds copies of our files until it runs its
// program; a copied descriptor is the same thing.
func TestCloseGivesTheLockBackWhateverHoldsTheFile(t *testing.T) {
	cfg := config(t)
	path, _ := saved(t, cfg, 2)
	f, _ := mustOpen(t, path, cfg)
	if err := f.Rewrap(t.Context(), cfg.Provider, ""); err != nil {
		t.Fatal(err)
	}
	held, err := syscall.Dup(int(f.h.(osPending).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(held)
	mustClose(t, f)
	g, _ := mustOpen(t, path, cfg)
	mustClose(t, g)
}
