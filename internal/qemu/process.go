package qemu

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/qemu/qmp"
)

// Config is what a [Process] is started with.
type Config struct {
	Program string // "" is qemu-system-x86_64 of the path
	Dir     string // the machine's working folder
	Machine Machine
	// Files are passed as /dev/fdset/1, /dev/fdset/2 and so on. The caller keeps them.
	Files []*os.File
	// Output gets what QEMU itself says; nil drops it.
	Output io.Writer
	// Event is called for each event of the monitor, one at a time; nil ignores them.
	Event func(qmp.Event)
	// Patience is how long each answer about a move may take; 0 is 20 seconds.
	Patience time.Duration
}

// An End is how a machine stopped.
type End struct {
	// Reason is QEMU's ShutdownCause: guest-shutdown, host-qmp-quit, host-signal,
	// guest-panic… It is empty when QEMU said none, as when it was killed.
	Reason string
	// Guest is set when the guest asked for it.
	Guest bool
	// Err is the failure of the program itself, nil after a proper end.
	Err error
}

// A Process is a running QEMU with its monitor.
type Process struct {
	cmd      *exec.Cmd
	monitor  *qmp.Client
	patience time.Duration
	exited   chan struct{} // closed when the program has ended
	done     chan struct{} // closed when all of the process has

	mu  sync.Mutex // guards end
	end End
}

// Start starts QEMU and opens its monitor. When ctx ends before that, or QEMU does
// not get so far, nothing of it is left. The sockets of the machine must listen.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	args, err := Arguments(cfg.Machine)
	if err != nil {
		return nil, err
	}
	readers, err := reopen(cfg.Files)
	defer closeAll(readers)
	if err != nil {
		return nil, err
	}
	if err := checkImages(cfg.Dir, cfg.Machine.Disks, readers); err != nil {
		return nil, err
	}
	for i := range 2 * len(cfg.Files) {
		args = append(args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", 3+i, 1+i%len(cfg.Files)))
	}
	program := cfg.Program
	if program == "" {
		program = "qemu-system-x86_64"
	}
	monitor, err := cfg.monitor()
	if err != nil {
		return nil, err
	}
	said := &tail{next: cfg.Output}
	p := &Process{cmd: exec.Command(program, args...), patience: cmp.Or(cfg.Patience, answerTime), exited: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = cfg.Dir, said, said, slices.Concat(cfg.Files, readers)
	// A process group of its own: what a terminal sends to this program is not for QEMU.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What QEMU may have started and left keeps its output open, not this process.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		err := p.cmd.Wait()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil // QEMU itself ended well
		}
		p.mu.Lock()
		p.end.Err = err
		p.mu.Unlock()
		close(p.exited)
	}()
	if err := p.open(ctx, monitor); err != nil {
		p.Kill()
		<-p.exited
		return nil, fmt.Errorf("start QEMU: %w%s", err, said)
	}
	go p.follow(cfg.Event)
	return p, nil
}

// monitor returns where the monitor's socket will be, and removes an old one. The
// path has to fit a socket as this process sees it, too.
func (cfg *Config) monitor() (string, error) {
	path := cfg.Machine.Monitor
	if !filepath.IsAbs(path) {
		path = filepath.Join(cfg.Dir, path)
	}
	if len(path) > maxSocket {
		return "", &FieldError{"monitor", fmt.Sprintf("path of %d bytes with its folder, at most %d fit a socket", len(path), maxSocket)}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("remove the monitor's old socket: %w", err)
	}
	return path, nil
}

// reopen opens each file again for reading: QEMU looks into a file before it opens
// it to write, and takes of a set the descriptor of that very mode.
func reopen(files []*os.File) (out []*os.File, err error) {
	for _, f := range files {
		r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return out, fmt.Errorf("open %s again: %w", f.Name(), err)
		}
		out = append(out, r)
	}
	return out, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// retry is the pause between tries to reach the monitor's socket, which QEMU makes.
const retry = 2 * time.Millisecond

// open connects to the monitor.
func (p *Process) open(ctx context.Context, path string) error {
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for {
		c, err := qmp.Dial(ctx, path)
		if err == nil {
			p.monitor = c
			return nil
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "dial" {
			return err // it answered, and not as a monitor
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// monitorless is how long QEMU may run on when its monitor has ended, which it
// closes after its disks.
const monitorless = 3 * time.Second

// follow passes events on, and waits for the end of the program. A QEMU without a
// monitor, which nobody can stop any more, is killed.
func (p *Process) follow(event func(qmp.Event)) {
	defer close(p.done)
	for e := range p.monitor.Events() {
		if e.Name == "SHUTDOWN" {
			p.shutdown(e.Data)
		}
		if event != nil {
			event(e)
		}
	}
	t := time.NewTimer(monitorless)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		p.Kill()
		<-p.exited
	}
	p.monitor.Close() //nolint:errcheck // it has ended
}

func (p *Process) shutdown(data json.RawMessage) {
	var s struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(data, &s) != nil {
		return // not said
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end.Guest, p.end.Reason = s.Guest, s.Reason
}

// Done is closed when QEMU has ended and its last event was told.
func (p *Process) Done() <-chan struct{} { return p.done }

// End returns how the machine stopped, once Done is closed.
func (p *Process) End() End {
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Monitor returns the monitor, for commands that have no method here.
func (p *Process) Monitor() *qmp.Client { return p.monitor }

// PowerDown presses the power button: the guest may end, or not.
func (p *Process) PowerDown(ctx context.Context) error {
	return p.monitor.Do(ctx, "system_powerdown", nil, nil)
}

// Reset presses the reset button.
func (p *Process) Reset(ctx context.Context) error {
	return p.monitor.Do(ctx, "system_reset", nil, nil)
}

// Pause stops the processors, and Continue lets them run again.
func (p *Process) Pause(ctx context.Context) error { return p.monitor.Do(ctx, "stop", nil, nil) }

// Continue lets the processors run.
func (p *Process) Continue(ctx context.Context) error { return p.monitor.Do(ctx, "cont", nil, nil) }

// Running is the RunState of a machine whose processors run.
const Running = "running"

// Status returns QEMU's RunState: running, paused, internal-error…
func (p *Process) Status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := p.monitor.Do(ctx, "query-status", nil, &s)
	return s.Status, err
}

// Quit makes QEMU end as if the power were cut; what its disks had acknowledged is
// written. When ctx ends before QEMU does, it is killed.
func (p *Process) Quit(ctx context.Context) error {
	err := p.monitor.Do(ctx, "quit", nil, nil)
	if errors.Is(err, qmp.ErrClosed) {
		err = nil // it may end before it answers
	}
	select {
	case <-p.done:
		return err
	case <-ctx.Done():
		p.Kill()
		<-p.done
		return errors.Join(err, fmt.Errorf("QEMU did not end and was killed: %w", ctx.Err()))
	}
}

// Stop asks the guest to end, and after grace ends QEMU.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if err := p.PowerDown(ctx); err != nil && !errors.Is(err, qmp.ErrClosed) {
		return errors.Join(err, p.Quit(ctx))
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return p.Quit(ctx)
}

// Kill ends QEMU at once, and what it may have started.
func (p *Process) Kill() {
	select {
	case <-p.exited: // its number may be another's
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it has ended then
	}
}

// maxTail bounds what is kept of QEMU's own words for an error, in bytes.
const maxTail = 2048

// tail keeps the end of what a program says.
type tail struct {
	next io.Writer

	mu   sync.Mutex // guards text
	text []byte
}

// Write never fails: nobody's disk may stop QEMU.
func (t *tail) Write(b []byte) (int, error) {
	if t.next != nil {
		t.next.Write(b) //nolint:errcheck // see above
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if extra := len(t.text) - maxTail; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(b), nil
}

// String is ready to be appended to an error.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return ""
	}
	return fmt.Sprintf(": %q", t.text)
}
