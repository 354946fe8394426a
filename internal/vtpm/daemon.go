package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// DaemonConfig is what a [Daemon] is told. Its zero value is safe.
type DaemonConfig struct {
	// SocketDir is where each TPM has its control socket, NAME.ctrl; empty for the
	// folder run of the root.
	SocketDir string
	// SocketMode is that of control sockets; 0 means 0600. Who reaches a socket is
	// that TPM's hypervisor.
	SocketMode fs.FileMode
	// SocketGID is the group of control sockets; 0 leaves it.
	SocketGID int
	// Admins are the users who may administer, beside root and the daemon's own.
	Admins []uint32
	// Beats, if not nil, ask the daemon now and then whether it still does its work;
	// it calls Alive with the number of its TPMs. A daemon that hangs does not.
	Beats <-chan time.Time
	Alive func(tpms int)
}

// A Daemon runs the TPMs of a root: each has a control socket, and is open while
// its hypervisor is connected. What happens to one does not reach another.
type Daemon struct {
	root    *Root
	cfg     DaemonConfig
	ctx     context.Context // ends when the daemon stops
	cancel  context.CancelCauseFunc
	all     sync.WaitGroup
	threads *frontend.Threads
	denials *rate.Limiter

	mu    sync.Mutex // guards slots
	slots map[string]*slot
}

// gcPercent keeps the heap near what is in use: a thousand TPMs that wait have
// much to keep and make little garbage.
const gcPercent = 40

// maxThreads bounds the threads of the operating system that busy connections have.
const maxThreads = 32

// What refused requests leave in the audit trail is bounded.
const (
	denialsPerSecond = 1
	denialsBurst     = 10
)

// RunDaemon serves the TPMs of root until ctx ends; ready is called once all of
// them can be reached. Every TPM is shut down in good order on return.
func RunDaemon(ctx context.Context, root *Root, cfg DaemonConfig, ready func() error) error {
	if cfg.SocketDir == "" {
		cfg.SocketDir = filepath.Join(root.Dir(), "run")
	}
	if cfg.SocketMode == 0 {
		cfg.SocketMode = 0o600
	}
	d := &Daemon{
		root: root, cfg: cfg, threads: frontend.NewThreads(maxThreads),
		denials: rate.NewLimiter(denialsPerSecond, denialsBurst), slots: map[string]*slot{},
	}
	d.ctx, d.cancel = context.WithCancelCause(ctx)
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	}
	err := d.run(ready)
	d.cancel(nil)
	err = errors.Join(err, d.closeSlots())
	d.all.Wait()
	return err
}

func (d *Daemon) run(ready func() error) error {
	mode := fs.FileMode(0o600)
	if len(d.cfg.Admins) > 0 {
		mode = 0o666 // the kernel says who asks
		if err := openWay(AdminSocket(d.root.Dir()), d.root.Dir()); err != nil {
			return err
		}
	}
	admin, err := listenUnix(d.ctx, AdminSocket(d.root.Dir()), mode, 0)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := d.addAll(); err != nil {
		return err
	}
	d.all.Go(func() { d.admin(admin) })
	if err := ready(); err != nil {
		return err
	}
	d.live()
	if cause := context.Cause(d.ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// live answers beats until the daemon stops.
func (d *Daemon) live() {
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.cfg.Beats:
			d.cfg.Alive(d.count())
		}
	}
}

func (d *Daemon) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.slots)
}

// openWay lets other users go through the folders of root to the admin socket. What
// else is in them stays closed: each folder and file there has a mode of its own.
func openWay(socket, root string) error {
	for _, dir := range []string{root, filepath.Dir(socket)} {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o011); err != nil {
			return fmt.Errorf("let administrators reach the daemon: %w", err)
		}
	}
	return nil
}

// addAll opens the socket of each TPM.
func (d *Daemon) addAll() error {
	if err := os.MkdirAll(d.cfg.SocketDir, 0o711); err != nil {
		return err
	}
	names, err := d.root.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := d.add(name); err != nil {
			return err
		}
	}
	return nil
}

var errStopping = errors.New("the daemon stops")

// add opens the socket of one TPM, or finds it open.
func (d *Daemon) add(name string) (*slot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.slots[name]; s != nil {
		return s, nil
	}
	if err := d.ctx.Err(); err != nil || d.slots == nil {
		return nil, errors.Join(err, errStopping)
	}
	l, err := listenUnix(d.ctx, d.socket(name), d.cfg.SocketMode, d.cfg.SocketGID)
	if err != nil {
		return nil, err
	}
	s := newSlot(d, name, l)
	d.slots[name] = s
	d.all.Go(s.serve)
	return s, nil
}

func (d *Daemon) socket(name string) string { return filepath.Join(d.cfg.SocketDir, name+".ctrl") }

func (d *Daemon) slot(name string) *slot {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slots[name]
}

// remove ends a slot: its socket is gone and its TPM is shut down on return.
func (d *Daemon) remove(name string) error {
	d.mu.Lock()
	s := d.slots[name]
	delete(d.slots, name)
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.stop()
}

// closeSlots ends all slots, some at a time: a slow one holds up no others.
func (d *Daemon) closeSlots() error {
	d.mu.Lock()
	slots := d.slots
	d.slots = nil
	d.mu.Unlock()
	var (
		all    sync.WaitGroup
		places = newLane(d.root.cfg.Limits.Starts)
		mu     sync.Mutex
		errs   []error
	)
	for _, s := range slots {
		places <- struct{}{}
		all.Go(func() {
			defer places.leave()
			err := s.stop()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Started says what a daemon serves after a request to start or stop.
type Started struct {
	Name    string `json:"name"`
	Socket  string `json:"socket,omitempty"`
	Running bool   `json:"running"`
}

// handle carries out a request in the daemon.
func (d *Daemon) handle(ctx context.Context, actor string, q *Request) (any, error) {
	switch q.Verb {
	case VerbStart:
		return d.start(actor, q.Name)
	case VerbStop:
		if err := d.root.mustHave(q.Name); err != nil {
			return nil, err
		}
		return &Started{Name: q.Name}, d.remove(q.Name)
	case VerbReload:
		d.root.Reload(ctx, actor)
		return struct{}{}, nil
	case VerbClear, VerbDelete, VerbAttach, VerbDetach, VerbClone:
		if err := d.root.confirm(ctx, q); err != nil {
			return nil, err
		}
		return d.whileStopped(ctx, actor, q)
	case VerbCreate:
		result, err := d.root.Handle(ctx, actor, q)
		if err == nil {
			_, err = d.add(q.Name)
		}
		return result, err
	}
	return d.root.Handle(ctx, actor, q)
}

// start opens the socket of a TPM and its state, so that what is wrong is told
// here and not to the hypervisor.
func (d *Daemon) start(actor, name string) (*Started, error) {
	if err := d.root.mustHave(name); err != nil {
		return nil, err
	}
	s, err := d.add(name)
	if err != nil {
		return nil, err
	}
	if err := s.start(actor); err != nil {
		return nil, err
	}
	return &Started{name, d.socket(name), true}, nil
}

// whileStopped carries out what needs a TPM that does not run. One that was only
// started, and has no hypervisor, is given up for it.
func (d *Daemon) whileStopped(ctx context.Context, actor string, q *Request) (any, error) {
	if s := d.slot(q.Name); s != nil {
		if err := s.giveUp(); err != nil {
			return nil, err
		}
	}
	result, err := d.root.Handle(ctx, actor, q)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Verb == VerbClone:
		_, err = d.add(q.To)
	case q.Verb == VerbDelete || q.Delete:
		err = d.remove(q.Name)
	}
	return result, err
}

// listenUnix makes a socket with mode, group gid if it is not 0. A socket that
// nobody serves any more is replaced.
func listenUnix(ctx context.Context, path string, mode fs.FileMode, gid int) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %q: longer than %d bytes: give a shorter folder for sockets", path, maxSocketPath)
	}
	if c, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %q: somebody else does", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		// So is a connection to a file that is no socket, and was nobody's to remove.
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("listen on %q: it is no socket", path)
		}
		if err := syscall.Unlink(path); err != nil {
			return nil, fmt.Errorf("remove stale socket %q: %w", path, err)
		}
	}
	l, err := listenClosed(ctx, path)
	if err != nil {
		return nil, err
	}
	if gid != 0 {
		err = os.Chown(path, -1, gid)
	}
	err = errors.Join(err, os.Chmod(path, mode))
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listenClosed makes a socket that its owner alone may connect to. bind(2) takes the
// mode of the file from that of the socket, so that there is no moment of another.
func listenClosed(ctx context.Context, path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) { inner = syscall.Fchmod(int(fd), 0o600) }) // a descriptor
		return errors.Join(err, inner)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listen on %q: no unix socket", path), l.Close())
	}
	return u, nil
}

// maxSocketPath is what a sockaddr_un of Linux holds, less the ending zero.
const maxSocketPath = 107
