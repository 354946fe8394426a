package machine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
)

// kept are the files of web-1's home besides its sockets, with the digest of each.
func (h *host) kept() map[string]string {
	h.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(h.file(""), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.Name() == runFolder:
			return fs.SkipDir
		case e.Type().IsRegular():
			out[path] = fmt.Sprintf("%x", sha256.Sum256([]byte(h.get(path))))
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// unsupervised has a process stand for web-1's hypervisor, whose supervisor was killed. What
// is returned sees that it runs.
func (h *host) unsupervised(t *testing.T) (runs func()) {
	h.Helper()
	c := sleeper(t)
	start, err := startOf(c.Process.Pid)
	if err != nil {
		h.Fatal(err)
	}
	host, err := hostBoot()
	if err != nil {
		h.Fatal(err)
	}
	h.left(running{PID: c.Process.Pid, Start: start, Host: host})
	return func() {
		if pid := h.hypervisorOf(); pid != c.Process.Pid {
			h.Errorf("its hypervisor is process %d, was %d", pid, c.Process.Pid)
		}
	}
}

// A machine that is made while one of its name is awaited stays as it is, whether it runs or
// not, with its TPM and its disks; and so does one that is being made.
func TestAMachineThatIsMadeMeanwhileIsNotTouched(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]func(*testing.T, *host) (check func()){
		"off": func(t *testing.T, b *host) func() {
			b.create()
			own := b.root.DiskPath("web-1", "disk0.qcow2")
			if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
				t.Fatal(err)
			}
			b.put(own, "all that its guest wrote")
			return func() { b.run(boot(t, "good-uki")) }
		},
		"running": func(t *testing.T, b *host) func() {
			b.create()
			s := b.start(boot(t, "good-uki") + "await end\noff\n")
			b.awaitEvent(integrity.EventLateReport, 1)
			was := b.hypervisorOf()
			return func() {
				if pid := b.hypervisorOf(); pid != was {
					t.Errorf("its hypervisor is process %d, was %d", pid, was)
				}
				b.put(b.inRun("end"), "")
				if err := s.wait(); err != nil {
					t.Error(err)
				}
			}
		},
		"unsupervised": func(t *testing.T, b *host) func() {
			b.create()
			return b.unsupervised(t)
		},
		"being made": func(t *testing.T, b *host) func() {
			if err := os.MkdirAll(b.file(runFolder), 0o700); err != nil {
				t.Fatal(err)
			}
			lock, err := durable.LockDir(b.file(""))
			if err != nil {
				t.Fatal(err)
			}
			b.put(b.file(definitionFile), "more follows")
			b.left(running{Host: "another boot"})
			return func() {
				if err := lock.Close(); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.createWithDisks()
			s := a.start(boot(t, "good-uki") + "await go\noff\n")
			a.awaitEvent(integrity.EventLateReport, 1)
			there := b.awaits()
			check := made(t, b)
			before, tpms := b.kept(), b.tpms()
			err := a.gives(t.Context(), "carol", there.ticket)
			if err == nil || !strings.Contains(err.Error(), "runs on here") {
				t.Errorf("Migrate = %v", err)
			}
			if diff := cmp.Diff(before, b.kept()); diff != "" {
				t.Errorf("the home (-before +after):\n%s", diff)
			}
			if n := b.tpms(); n != tpms {
				t.Errorf("there are %d TPMs, %d before", n, tpms)
			}
			check()
			if err := there.over(); err == nil {
				t.Error("the other host says that the machine came")
			}
			a.put(a.inRun("go"), "")
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// One that is made between the offer and the home's making is found with the lock held, and
// one that is made of what is to be cleared stays.
func TestAMachineThatIsMadeAtTheLastMomentIsNotTouched(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	runs := h.unsupervised(t)
	before := h.kept()
	a := &arrival{root: h.root, actor: "dora", o: &ReceiveOptions{Name: "web-1", Provider: "main"}}
	if _, err := a.claim(); !errors.Is(err, ErrExists) {
		t.Errorf("claim = %v", err)
	}
	if err := a.clear(); err != nil {
		t.Errorf("clear = %v", err)
	}
	if diff := cmp.Diff(before, h.kept()); diff != "" || h.tpms() != 1 {
		t.Errorf("%d TPMs; the home (-before +after):\n%s", h.tpms(), diff)
	}
	runs()
	home, err := h.root.Open(context.Background(), "web-1") // the lock was given back
	if err != nil {
		t.Fatal(err)
	}
	h.close(home)
}
