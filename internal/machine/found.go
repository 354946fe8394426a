package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
)

// runningFile says that a hypervisor is about to be started for the machine, and then
// which one. It stays when the supervisor is killed.
const runningFile = "running.json"

// running is what is needed to find a hypervisor again, or to know that it is gone: a
// process number is used anew, a number with its start within one boot of the host is not.
type running struct {
	PID     int       `json:"pid"`   // 0 while it is about to be started
	Start   uint64    `json:"start"` // clock ticks after the host's boot (proc(5), stat)
	Host    string    `json:"hostBoot"`
	Started time.Time `json:"started"`
}

// finding is what became of a machine's last hypervisor.
type finding struct {
	running
	was   bool // one was started and not said to have ended
	alive bool
	// unknown is set when the supervisor ended in the moment of the start: it is not
	// known which hypervisor was started, or whether one was.
	unknown bool
}

// found looks for the hypervisor of a machine that no supervisor has.
func (r *Root) found(c *Card) (finding, error) { return r.foundBy(c.Name) }

// foundBy is found for a machine whose card may be damaged.
func (r *Root) foundBy(name string) (finding, error) {
	text, err := readFile(filepath.Join(r.dir(name), runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return finding{}, nil
	}
	if err != nil {
		return finding{}, err
	}
	f := finding{was: true}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f.running); err != nil {
		return finding{}, fmt.Errorf("%s: %w: %w", runningFile, err, ErrDamaged)
	}
	host, err := hostBoot()
	if err != nil {
		return finding{}, err
	}
	if f.PID == 0 {
		f.unknown = host == f.Host
		return f, nil
	}
	start, err := startOf(f.PID)
	f.alive = err == nil && host == f.Host && start == f.Start
	return f, nil
}

// problem says what became of a hypervisor whose end nobody saw.
func (f *finding) problem() string {
	if f.unknown {
		return "its supervisor ended while it started the hypervisor: one may run, without its TPM; look for a process whose arguments have the machine's id, and end it before the next start"
	}
	return "nobody saw its end: the host, or its supervisor, went down while it ran; its disks are as after a loss of power"
}

// intend says that a hypervisor is about to be started. What is called next is note
// with its number, or forget when it did not start.
func (h *Home) intend(now time.Time) error {
	host, err := hostBoot()
	if err != nil {
		return err
	}
	return h.writeRunning(running{Host: host, Started: now})
}

func (h *Home) writeRunning(n running) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(h.dir, runningFile), text, 0o600)
}

// note says which hypervisor runs.
func (h *Home) note(pid int, now time.Time) error {
	start, err := startOf(pid)
	if err != nil {
		return err
	}
	host, err := hostBoot()
	if err != nil {
		return err
	}
	return h.writeRunning(running{pid, start, host, now})
}

// forget says that no hypervisor runs.
func (h *Home) forget() error { return durable.Remove(filepath.Join(h.dir, runningFile)) }

// hostBoot is the identity of this boot of the host (proc(5), sys/kernel/random/boot_id).
func hostBoot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// startOf is when a process was started: field 22 of its stat (proc(5)); the name before
// may have spaces and parentheses. One that has ended and waits for its parent is gone.
func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const state, start = 0, 22 - 3
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

// end kills a hypervisor that was found again, and no other process: the handle is
// taken before its start is looked at once more.
func (f *finding) end() error {
	p, err := os.FindProcess(f.PID)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // it was only a handle
	if start, err := startOf(f.PID); err != nil || start != f.Start {
		return nil // it is gone
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
