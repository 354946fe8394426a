package diskcopy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/qemu"
)

// copySocket is where disks leave and arrive, in the hypervisor's folder. Its name is short:
// a socket's path has at most 107 bytes.
const copySocket = "copy"

// The times of a copy. The disks themselves may take as long as they make progress.
const (
	pollEvery   = 100 * time.Millisecond
	stallTime   = 5 * time.Minute  // nothing at all is copied
	memoryTime  = 30 * time.Minute // for the memory, when the disks are there
	standTime   = 2 * time.Minute  // for the last of both, while the machine stands still
	cancelTime  = 10 * time.Second
	patientTime = time.Second // for the other end's own words about a fault that is seen here
)

// ErrStalled is a copy that does not go on.
var ErrStalled = fmt.Errorf("the disks are not copied: nothing has moved for %s", stallTime)

// A Source is the host that a machine leaves.
type Source struct {
	Hypervisor *qemu.Process
	Link       *move.Link
	Dir        string // of the hypervisor
	Memory     string // a socket to make in it
	Still      bool   // the machine is to stand still while its memory leaves
	Disks      []Disk
	// Progress is told now and then how far the copies are; nil for nobody.
	Progress func([]qemu.CopyState)
}

// Leave copies the machine's disks and then sends its memory. When it returns nil, the
// machine stands still, and the other host has all of both; the link is ready for messages.
// After an error the disks here are as they were, and the machine may stand still, for the
// caller to continue. No copy is left, unless the error says that the hypervisor does not
// answer: then the next Leave removes it. The link is of no use.
//
// The other host can keep the hypervisor from answering, and so the guest from running: it is
// given up when it takes long for one answer, and its connections to that host are closed.
func (s *Source) Leave(ctx context.Context) error {
	copies, err := listen(s.Dir, copySocket)
	if err != nil {
		return err
	}
	defer copies.Close()
	memory, err := listen(s.Dir, s.Memory)
	if err != nil {
		return err
	}
	defer memory.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &carriage{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if c.err = s.Link.Lead(ctx, s.lanes(copies, memory)); c.err != nil {
			stop(c.err)
		}
	}()
	err = s.disks(ctx)
	if err == nil {
		err = s.memory(ctx, c)
	}
	if err != nil {
		return s.abort(ctx, err, c)
	}
	return nil
}

// A carriage passes on what hypervisors say to each other. When that fails, all of the copy
// is stopped.
type carriage struct {
	stop context.CancelCauseFunc
	done chan struct{} // closed when it has ended
	err  error         // from then on
}

func listen(dir, name string) (*net.UnixListener, error) {
	path := filepath.Join(dir, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// lanes are one for each disk, whichever, and the last for the memory.
func (s *Source) lanes(copies, memory *net.UnixListener) []move.Lane {
	accept := func(l *net.UnixListener) move.Lane {
		return func(ctx context.Context) (*net.UnixConn, error) {
			defer context.AfterFunc(ctx, func() { l.Close() })()
			return l.AcceptUnix()
		}
	}
	var out []move.Lane
	for range s.Disks {
		out = append(out, accept(copies))
	}
	return append(out, accept(memory))
}

// disks has the hypervisor copy the disks, and what the guest writes to them from now on.
func (s *Source) disks(ctx context.Context) error {
	if err := s.Hypervisor.CancelCopies(ctx, s.numbers()); err != nil { // of a try whose end it did not hear
		return err
	}
	for _, d := range s.Disks {
		if err := s.Hypervisor.Copy(ctx, d.Number, copySocket); err != nil {
			return err
		}
	}
	return s.ready(ctx)
}

// memory has the hypervisor send the memory, and between that and the devices, when the
// machine stands still, the last of the disks.
func (s *Source) memory(ctx context.Context, c *carriage) error {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	if err := s.Hypervisor.Send(ctx, s.Memory, qemu.Terms{Asking: true, Held: true, Still: s.Still}); err != nil {
		return err
	}
	if err := s.Hypervisor.Held(ctx); err != nil {
		return err
	}
	still, cancel := context.WithTimeout(ctx, standTime)
	defer cancel()
	if err := s.Hypervisor.EndCopies(still); err != nil {
		return err
	}
	if err := s.Hypervisor.LetGo(still); err != nil {
		return err
	}
	if err := s.Hypervisor.Moved(still); err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-still.Done():
		return context.Cause(still)
	}
}

func (s *Source) numbers() []int {
	var out []int
	for _, d := range s.Disks {
		out = append(out, d.Number)
	}
	return out
}

// ready waits until the copies have all that the disks had, as long as they get on.
func (s *Source) ready(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	stalled := time.NewTimer(stallTime)
	defer stalled.Stop()
	var before int64
	for {
		list, err := s.Hypervisor.Copies(ctx)
		if err != nil {
			return err
		}
		if s.Progress != nil {
			s.Progress(list)
		}
		var done int64
		ready := len(list) == len(s.Disks)
		for _, c := range list {
			done += c.Done
			ready = ready && c.Ready
		}
		if ready {
			return nil
		}
		if done != before {
			before = done
			stalled.Reset(stallTime)
		}
		select {
		case <-tick.C:
		case <-stalled.C:
			return ErrStalled
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// abort ends what there is of copies, and returns why. Where the other end has said why it
// goes no further, or says so soon, that is why. What the hypervisor may wait for is closed
// before anything is asked of it.
func (s *Source) abort(ctx context.Context, why error, c *carriage) error {
	if !errors.Is(why, qemu.ErrSilent) { // for the guest waits, too
		patient := time.NewTimer(patientTime)
		defer patient.Stop()
		select {
		case <-c.done:
		case <-ctx.Done(): // by the caller
		case <-patient.C:
		}
	}
	was := context.Cause(ctx)
	c.stop(why)
	s.Link.Interrupt()
	<-c.done
	var peer *move.PeerError
	switch {
	case errors.As(c.err, &peer):
		why = peer
	case was != nil:
		why = was
	}
	return errors.Join(why, afresh(ctx, s.Hypervisor.CancelMove), afresh(ctx, func(ctx context.Context) error {
		return s.Hypervisor.CancelCopies(ctx, s.numbers())
	}))
}

// afresh does something that has a time of its own, whatever ended before.
func afresh(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	return do(ctx)
}

// A Destination is the host that awaits a machine: its hypervisor was started on the disks of
// [Make], Incoming and Paused.
type Destination struct {
	Hypervisor *qemu.Process
	Link       *move.Link
	Dir        string // of the hypervisor
	Memory     string // a socket that it makes there
	Disks      []Disk
}

// Arrive takes disks and memory. When it returns nil all of both is here, and nobody can
// write to the disks any more but the machine.
func (d *Destination) Arrive(ctx context.Context) error {
	var numbers []int
	for _, disk := range d.Disks {
		numbers = append(numbers, disk.Number)
	}
	for _, name := range []string{copySocket, d.Memory} {
		if err := os.Remove(filepath.Join(d.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := d.Hypervisor.Export(ctx, copySocket, numbers); err != nil {
		return err
	}
	if err := d.Hypervisor.Receive(ctx, d.Memory, true); err != nil {
		return err
	}
	if err := d.Link.Follow(ctx, d.lanes()); err != nil {
		return err
	}
	if err := d.Hypervisor.Moved(ctx); err != nil {
		return err
	}
	return d.Hypervisor.EndExport(ctx)
}

func (d *Destination) lanes() []move.Lane {
	dial := func(name string) move.Lane {
		return func(ctx context.Context) (*net.UnixConn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.Dir, name))
			if err != nil {
				return nil, err
			}
			return conn.(*net.UnixConn), nil
		}
	}
	var out []move.Lane
	for range d.Disks {
		out = append(out, dial(copySocket))
	}
	return append(out, dial(d.Memory))
}
