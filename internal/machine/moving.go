package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
)

// moveSocket is where a hypervisor's memory leaves and arrives, in the run folder.
const moveSocket = "move"

// within has the machine's loop do something, and waits for it. The loop takes nothing
// before it does it: what was taken is done, also when ctx ends meanwhile, and its outcome
// is what is returned. What was not taken will never be done.
func (s *supervisor) within(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	select {
	case s.todo <- func() { done <- do() }:
		return <-done
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finally has the machine's loop do something however late it is, unless the machine has
// ended.
func (s *supervisor) finally(do func()) {
	select {
	case s.todo <- do:
	case <-s.hypervisor.Done():
	}
}

// fail ends the machine.
func (s *supervisor) fail(err error) {
	s.finally(func() {
		s.failed = err
		s.hypervisor.Kill()
	})
}

// errEnded is a machine that ended in the middle of something.
var errEnded = errors.New("the machine has ended meanwhile")

// aside does what takes long beside the machine's loop, until the machine ends.
func (s *supervisor) aside(do func(context.Context)) { s.asideFor(memoryTime, do) }

func (s *supervisor) asideFor(most time.Duration, do func(context.Context)) {
	s.serving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), most)
		defer cancel()
		ctx, stop := s.whileItRuns(ctx)
		defer stop()
		do(ctx)
	})
}

// whileItRuns is ctx until the hypervisor ends.
func (s *supervisor) whileItRuns(ctx context.Context) (_ context.Context, stop func()) {
	ctx, end := context.WithCancelCause(ctx)
	s.serving.Go(func() {
		select {
		case <-s.hypervisor.Done():
			end(errEnded)
		case <-ctx.Done():
		}
	})
	return ctx, func() { end(nil) }
}

// errMoving is a second thing that needs the machine's memory at once.
var errMoving = errors.New("a snapshot is being made, or the machine is being moved")

// A capture is a snapshot of a machine that runs, while it is made.
type capture struct {
	*Snapshot
	disks []int
	held  bool // the disks have it
}

// takeSnapshot makes a snapshot of the machine, which stands still for it. Whatever fails,
// the machine goes on and nothing is left of the snapshot.
func (s *supervisor) takeSnapshot(ctx context.Context, actor, name string) (_ *Snapshot, err error) {
	c := new(capture)
	err = s.within(ctx, func() (err error) {
		if s.moving {
			return errMoving
		}
		c.Snapshot, c.disks, err = s.root.newSnapshot(s.home, s.definition, actor, name)
		s.moving = err == nil
		return err
	})
	if err != nil {
		return nil, err
	}
	shelved := false
	defer func() {
		if err != nil && !shelved { // one that is listed stays, though its event was not kept
			err = errors.Join(err, s.discard(context.WithoutCancel(ctx), c))
		}
		s.finally(func() { s.moving = false })
	}()
	if err := s.hold(ctx, c); err != nil {
		return nil, err
	}
	return c.Snapshot, s.within(ctx, func() error {
		n, err := s.root.shelve(s.home, c.Snapshot)
		if err != nil {
			return err
		}
		shelved = true
		return s.say([]integrity.Notice{n}, nil)
	})
}

// hold has the machine stand still and takes all of it.
func (s *supervisor) hold(ctx context.Context, c *capture) (err error) {
	if now, err := s.hypervisor.Status(ctx); err != nil || now != qemu.Running {
		return errors.Join(err, fmt.Errorf("the machine is %q: only one that runs can be caught", now))
	}
	if err := s.hypervisor.Pause(ctx); err != nil {
		return err
	}
	// After its memory has left, the machine takes its disks and its TPM back with this.
	defer func() { err = errors.Join(err, s.hypervisor.Continue(context.WithoutCancel(ctx))) }()
	if err := s.hypervisor.SnapshotDisks(ctx, c.disks, c.Tag); err != nil {
		return err
	}
	c.held = true
	err = s.within(ctx, func() error {
		s.measured()
		s.keepVariables()
		c.Boot, c.Memory = s.monitor.BootCounter(), true
		return s.home.write(c.in(variablesFile), s.variables.kept)
	})
	if err != nil {
		return err
	}
	if err := s.root.holdTPM(ctx, s.home, s.definition, c.Snapshot, c.By); err != nil {
		return err
	}
	return s.holdMemory(ctx, c)
}

// holdMemory seals the memory into the home, as it comes out of the hypervisor.
func (s *supervisor) holdMemory(ctx context.Context, c *capture) error {
	return s.sendMemory(ctx, qemu.Terms{}, func(conn *net.UnixConn) error { return s.home.keepMemory(c.Snapshot, conn) })
}

// sendMemory has the hypervisor write its memory to a socket.
func (s *supervisor) sendMemory(ctx context.Context, terms qemu.Terms, take func(*net.UnixConn) error) error {
	path := filepath.Join(s.home.RunDir(), moveSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	if err := s.hypervisor.Send(ctx, moveSocket, terms); err != nil {
		return err
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := take(conn); err != nil {
		return errors.Join(err, s.hypervisor.CancelMove(ctx))
	}
	return s.hypervisor.Moved(ctx)
}

// discard removes what there is of a snapshot that failed. What stays, as when the machine
// has ended, is swept before its next start.
func (s *supervisor) discard(ctx context.Context, c *capture) error {
	if c.held {
		if err := s.hypervisor.DropSnapshot(ctx, c.disks, c.Tag); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(s.home.dir, c.in("")))
}

// dropSnapshot deletes a snapshot of the machine while it runs.
func (s *supervisor) dropSnapshot(ctx context.Context, actor, name string) error {
	var gone Snapshot
	var disks []int
	err := s.within(ctx, func() error {
		if s.moving {
			return errMoving
		}
		n, dropped, err := s.root.unshelve(s.home, actor, name)
		if err != nil {
			return err
		}
		gone = dropped
		disks, err = qemu.Kept(s.machine().Disks)
		return errors.Join(err, s.say([]integrity.Notice{n}, nil))
	})
	if err != nil {
		return err
	}
	return s.discard(ctx, &capture{Snapshot: &gone, disks: disks, held: true})
}

// memoryContext binds the memory of a snapshot to it.
func (h *Home) memoryContext(s *Snapshot) seal.Context { return h.context(s.in(memoryFile)) }

// memoryOf opens the memory of a snapshot.
func (h *Home) memoryOf(s *Snapshot) (io.Reader, io.Closer, error) {
	f, err := os.Open(filepath.Join(h.dir, s.in(memoryFile)))
	if err != nil {
		return nil, nil, err
	}
	return move.NewReader(f, h.key, h.memoryContext(s)), f, nil
}

// keepMemory writes the memory of a snapshot, as it comes from a hypervisor, and makes it
// durable.
func (h *Home) keepMemory(s *Snapshot, from io.Reader) (err error) {
	p, err := durable.Begin(filepath.Join(h.dir, s.in(memoryFile)), 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	w := move.NewWriter(p, h.random, h.key, h.memoryContext(s))
	_, err = io.Copy(w, from)
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, os.Remove(p.Name()))
	}
	return p.Commit()
}

// resume is the last part of a way back: the machine that waits gets its memory, and goes
// on. From when that is kept, a crash leaves it as after a loss of power there.
func (s *supervisor) resume(ctx context.Context) error {
	on, err := s.home.shelf()
	if err != nil {
		return err
	}
	saved := on.tagged(s.going.Tag)
	memory, file, err := s.home.memoryOf(saved)
	if err != nil {
		return err
	}
	defer file.Close()
	take := func(conn *net.UnixConn) error {
		_, err := io.Copy(conn, memory)
		return errors.Join(err, conn.CloseWrite())
	}
	if err := s.feed(ctx, false, take); err != nil {
		return fmt.Errorf("the memory of snapshot %q does not come back (assay vm snapshot restore --without-memory leaves it): %w", saved.Name, err)
	}
	err = s.within(ctx, func() error {
		s.measured()
		on, err := s.home.shelf() // other snapshots were made or deleted meanwhile
		if err != nil {
			return err
		}
		on.Going = nil
		return errors.Join(s.tell([]integrity.Notice{s.root.wentBack(s.home, saved, s.going)}), s.home.setShelf(on))
	})
	if err != nil {
		return err
	}
	return s.goOn(ctx)
}

// NextBoot is the number of the boot that a machine which is off is in after its start: the
// next, or that of the snapshot whose memory it goes on with.
func (r *Root) NextBoot(ctx context.Context, name string) (boot uint64, err error) {
	if _, err := r.Card(name); err != nil {
		return 0, err
	}
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	on, err := h.shelf()
	if err != nil {
		return 0, err
	}
	if on.Going != nil && on.Going.Memory {
		return on.tagged(on.Going.Tag).Boot, nil
	}
	history, err := h.History()
	if err != nil {
		return 0, err
	}
	return history.BootCounter + 1, nil
}

// feed has a hypervisor that waits take the memory of its machine over a socket. asking is
// whether it says to the other end that it has all.
func (s *supervisor) feed(ctx context.Context, asking bool, take func(*net.UnixConn) error) error {
	path := filepath.Join(s.home.RunDir(), moveSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := s.hypervisor.Receive(ctx, moveSocket, asking); err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := take(conn.(*net.UnixConn)); err != nil {
		return err
	}
	return s.hypervisor.Moved(ctx)
}

// arrive has a machine that waits go on, and says when it is ready.
func (s *supervisor) arrive(ready func() error) {
	s.aside(func(ctx context.Context) {
		err := s.resume(ctx)
		s.finally(func() {
			if err == nil && ready != nil {
				err = ready()
			}
			if err != nil {
				s.failed = err
				s.hypervisor.Kill()
			}
		})
	})
}

// Findings are what a host keeps of its machines beside their homes, and what goes with them
// all the same.
type Findings interface {
	// Pack gives all that there is of a machine, with what was said of it last.
	Pack(ctx context.Context, machine string) ([]byte, error)
	// Check refuses what Unpack would.
	Check(machine string, parcel []byte) error
	// Unpack takes what came with a machine. What was taken before stays as it is since, and
	// what ended in its stay here has ended.
	Unpack(ctx context.Context, machine string, parcel []byte, since Stay) error
	// Depart ends what there is of a machine that is another host's now.
	Depart(ctx context.Context, machine string) error
}

// A Stay is what happened to a machine since it came from another host.
type Stay struct {
	Began  time.Time // zero when it is not known
	Events []integrity.Notice
}

// parcelFile has the findings that came with a machine until they are in the host's book.
const parcelFile = "findings.sealed"

// The times that the book of findings is waited for: while the machine stands still, and
// after it.
const (
	packTime   = 10 * time.Second
	unpackTime = 2 * time.Second
)

// pack gives the findings of a machine that stands still; nil where the host keeps none.
func (r *Root) pack(ctx context.Context, name string) ([]byte, error) {
	if r.cfg.Findings == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, packTime)
	defer cancel()
	text, err := r.cfg.Findings.Pack(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("the machine's findings: %w", err)
	}
	return text, nil
}

// shelveFindings keeps what came until the machine is this host's.
func (r *Root) shelveFindings(h *Home, parcel []byte) error {
	if parcel == nil {
		return nil
	}
	if r.cfg.Findings != nil {
		if err := r.cfg.Findings.Check(h.Name(), parcel); err != nil {
			return fmt.Errorf("the machine's findings: %w", err)
		}
	}
	return h.shelve(parcel, r.cfg.Now())
}

// unpackInto puts the findings that came with a machine into the host's book. They stay in
// the home until they are there.
func (r *Root) unpackInto(ctx context.Context, h *Home) error {
	text, err := h.open(parcelFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer text.Destroy()
	if _, err := os.Lstat(filepath.Join(h.dir, cardFile)); err != nil {
		return nil //nolint:nilerr // the machine is not this host's yet
	}
	if r.cfg.Findings != nil {
		ctx, cancel := context.WithTimeout(ctx, unpackTime)
		defer cancel()
		parcel, since := h.unshelve(text.Expose())
		if err := r.cfg.Findings.Unpack(ctx, h.Name(), parcel, since); err != nil {
			return err
		}
	}
	return durable.Remove(filepath.Join(h.dir, parcelFile))
}

// unpack is that for a machine that was opened; it is done again until it succeeds.
func (r *Root) unpack(ctx context.Context, h *Home) {
	if err := r.unpackInto(ctx, h); err != nil {
		r.cfg.Log.Error("the findings that came with a machine are not in the book yet", slog.String("machine", h.Name()), slog.Any("error", err))
	}
}

// packed reports whether findings that came with the machine are not in the book yet.
func (h *Home) packed() bool {
	_, err := os.Lstat(filepath.Join(h.dir, parcelFile))
	return err == nil
}

// departed ends the findings of a machine that another host has said to have. It is gone, so
// that a fault is only said.
func (r *Root) departed(ctx context.Context, name string) {
	if r.cfg.Findings == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, packTime)
	defer cancel()
	if err := r.cfg.Findings.Depart(ctx, name); err != nil {
		r.cfg.Log.Error("the findings of a machine that went to another host are still in the book here", slog.String("machine", name), slog.Any("error", err))
	}
}
