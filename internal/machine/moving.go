package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/seal"
)

// moveSocket is where a hypervisor's memory leaves and arrives, in the run folder.
const moveSocket = "move"

// memoryTime is how long the memory of a machine may take on its way.
const memoryTime = 30 * time.Minute

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
func (s *supervisor) aside(do func(context.Context)) {
	s.serving.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), memoryTime)
		defer cancel()
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		s.serving.Go(func() {
			select {
			case <-s.hypervisor.Done():
				stop(errEnded)
			case <-ctx.Done():
			}
		})
		do(ctx)
	})
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
		return s.tell([]integrity.Notice{n})
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
	return s.sendMemory(ctx, false, func(conn *net.UnixConn) error { return s.home.keepMemory(c.Snapshot, conn) })
}

// sendMemory has the hypervisor write its memory to a socket. asking is whether the other
// end says that it has all of it.
func (s *supervisor) sendMemory(ctx context.Context, asking bool, take func(*net.UnixConn) error) error {
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
	if err := s.hypervisor.Send(ctx, moveSocket, asking); err != nil {
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
		if disks, err = qemu.Kept(s.machine().Disks); err != nil {
			return err
		}
		return s.tell([]integrity.Notice{n})
	})
	if err != nil {
		return err
	}
	return s.discard(ctx, &capture{Snapshot: &gone, disks: disks, held: true})
}

// wentBack is the event of a machine that is what it was.
func (r *Root) wentBack(h *Home, s *Snapshot, g *goingBack) integrity.Notice {
	what := "disks and variables are those"
	if g.Memory {
		what = "memory, disks and variables are those"
	}
	n := integrity.Notice{
		Type: integrity.EventWentBack, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: s.Boot, Actor: g.Actor,
		Reasons: []evidence.Reason{reason(codeWentBack, fmt.Sprintf("%s of snapshot %q, made at %s by %s in boot %d", what, s.Name, s.Made.Format(time.RFC3339), s.By, s.Boot))},
	}
	if s.TPM > 0 {
		n.Reasons = append(n.Reasons, reason(codeTPMBack, fmt.Sprintf("the TPM was at generation %d of its state and is back at %d: what it counted and stored since is undone", g.Before, s.TPM)))
	}
	return n
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
