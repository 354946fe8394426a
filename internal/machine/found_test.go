package machine

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// left is a machine whose supervisor was killed: its note is there, and nobody has the
// home.
func (h *host) left(n running) {
	h.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "vms", "web-1", runningFile), text, 0o600); err != nil {
		h.Fatal(err)
	}
}

// sleeper is a process that stands for a hypervisor.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck // it may have ended
		c.Wait()         //nolint:errcheck // killed
	})
	return c
}

func (h *host) state() *Status {
	h.Helper()
	s, err := h.root.Status(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	return s
}

func TestAHypervisorWithoutItsSupervisorIsFoundAndEnded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	c := sleeper(t)
	start, err := startOf(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	booted, err := hostBoot()
	if err != nil {
		t.Fatal(err)
	}
	h.left(running{c.Process.Pid, start, booted, time.Now()})
	if s := h.state(); s.State != StateUnsupervised || s.PID != c.Process.Pid || !strings.Contains(s.Problem, "--force") {
		t.Errorf("Status = %+v", s)
	}
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Run = %v", err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err == nil {
		t.Error("a machine whose hypervisor runs was deleted")
	}
	if err := h.root.Stop(t.Context(), "alice", "web-1", false); err == nil {
		t.Error("it was ended without --force")
	}
	go c.Wait() //nolint:errcheck // so that it does not stay as a zombie
	if err := h.root.Stop(t.Context(), "alice", "web-1", true); err != nil {
		t.Fatal(err)
	}
	if s := h.state(); s.State != StateLost {
		t.Errorf("Status = %+v", s)
	}
	h.run(boot(t, "good-uki"))
	if s := h.state(); s.State != StateStopped {
		t.Errorf("Status = %+v", s)
	}
}

// A number is used anew: what is not the very process is left alone.
func TestAnotherProcessOfThatNumberIsNotTheHypervisor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	c := sleeper(t)
	start, err := startOf(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	booted, err := hostBoot()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]running{
		"another start":             {c.Process.Pid, start + 1, booted, time.Now()},
		"another boot of the host":  {c.Process.Pid, start, "0badc0de", time.Now()},
		"a number that is not used": {1 << 30, start, booted, time.Now()},
	} {
		h.left(n)
		if s := h.state(); s.State != StateLost {
			t.Errorf("%s: Status = %+v", name, s)
		}
		if err := h.root.Stop(t.Context(), "alice", "web-1", true); err == nil {
			t.Errorf("%s: something was stopped", name)
		}
		if _, err := startOf(c.Process.Pid); err != nil {
			t.Fatalf("%s: another's process was ended", name)
		}
	}
}

func TestABadNoteIsDamage(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if err := os.WriteFile(filepath.Join(h.dir, "vms", "web-1", runningFile), []byte(`{"pid": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s := h.state(); s.State != StateDamaged {
		t.Errorf("Status = %+v", s)
	}
}

// A supervisor that was killed in the moment of the start leaves a machine of which nobody
// knows whether it runs: it is not started beside itself.
func TestAStartThatWasCutShortIsNotRepeatedBlindly(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	booted, err := hostBoot()
	if err != nil {
		t.Fatal(err)
	}
	h.left(running{0, 0, booted, time.Now()})
	if err := h.root.Run(t.Context(), "alice", "web-1", RunOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Run = %v", err)
	}
	if err := h.root.Stop(t.Context(), "alice", "web-1", true); err != nil {
		t.Fatal(err)
	}
	h.run(boot(t, "good-uki"))
}

// A hypervisor that may run keeps its machine, with its TPM, from being deleted: until an
// operator says that there is none, or the host went down since.
func TestAMachineThatMayRunIsNotDeleted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	host, err := hostBoot()
	if err != nil {
		t.Fatal(err)
	}
	h.left(running{Host: host})
	if err := h.root.Delete(t.Context(), "alice", "web-1"); !errors.Is(err, ErrBusy) {
		t.Errorf("Delete = %v, want %v", err, ErrBusy)
	}
	if _, err := h.root.cfg.TPMs.Owned(t.Context(), "web-1"); err != nil {
		t.Errorf("its TPM: %v", err)
	}
	if err := h.root.Stop(t.Context(), "alice", "web-1", true); err != nil {
		t.Fatal(err)
	}
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Errorf("Delete = %v after the operator's word", err)
	}
	h.create()
	h.left(running{Host: "another boot"})
	if err := h.root.Delete(t.Context(), "alice", "web-1"); err != nil {
		t.Errorf("Delete = %v after a restart of the host", err)
	}
}
