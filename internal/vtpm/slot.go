package vtpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// A slot is one TPM's place in a daemon: its socket, the hypervisor that is
// connected, and the instance while there is one.
type slot struct {
	d      *Daemon
	name   string
	l      *net.UnixListener
	ctx    context.Context // ends when the slot stops
	cancel context.CancelFunc
	served chan struct{} // closed when serve has returned
	turns  *rate.Limiter // of sessions, and of what they leave in the trail

	mu       sync.Mutex // guards what follows
	instance *Instance
	session  bool // a hypervisor is connected
}

func newSlot(d *Daemon, name string, l *net.UnixListener) *slot {
	s := &slot{d: d, name: name, l: l, served: make(chan struct{}), turns: d.root.cfg.Limits.newTurns()}
	s.ctx, s.cancel = context.WithCancel(d.ctx)
	return s
}

// serve takes one hypervisor after the other; the next waits until the one before
// has gone, as with swtpm.
func (s *slot) serve() {
	defer close(s.served)
	stop := context.AfterFunc(s.ctx, func() { s.l.Close() })
	defer stop()
	for {
		conn, err := frontend.Accept(s.ctx, s.l.AcceptUnix)
		if err != nil {
			if s.ctx.Err() == nil {
				s.log(slog.LevelError, "socket of a TPM", err)
			}
			return
		}
		if err := s.turns.Wait(s.ctx); err != nil { // each session leaves events in the trail
			conn.Close()
			return
		}
		if err := s.serveOne(conn); err != nil && s.ctx.Err() == nil {
			s.log(slog.LevelWarn, "session of a TPM", err)
		}
	}
}

func (s *slot) log(level slog.Level, what string, err error) {
	s.d.root.cfg.Log.Log(s.ctx, level, what, slog.String("tpm", s.name), slog.Any("error", err))
}

// hypervisor is the actor of what comes over a TPM's own socket.
const hypervisor = "hypervisor"

// serveOne runs the TPM for one hypervisor. A fault of ours ends this TPM only.
func (s *slot) serveOne(conn *net.UnixConn) (err error) {
	defer conn.Close()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v\n%s", frontend.ErrFault, v, debug.Stack())
		}
		if errors.Is(err, frontend.ErrFault) {
			what, _, _ := strings.Cut(err.Error(), "\n")
			s.d.root.report(s.ctx, Event{Type: EventFault, TPM: s.name, Actor: "service", Outcome: OutcomeFailed, Detail: detail(map[string]string{"error": what})})
		}
	}()
	m, err := s.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.unload()) }()
	defer context.AfterFunc(s.ctx, m.Cancel)() // a key that is being made does not hold up the end
	r := s.d.root
	sw := frontend.SWTPMConfig{FileKey: true, MigrationKey: true}
	return frontend.ServeControl(s.ctx, m, conn, sw, frontend.Config{Now: r.cfg.Now, Log: r.cfg.Log, Threads: s.d.threads})
}

// begin notes that a hypervisor has the TPM.
func (s *slot) begin() (*frontend.Machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepare(hypervisor); err != nil {
		return nil, err
	}
	s.session = true
	return s.instance.Machine(), nil
}

// prepare takes the TPM for this process, unless that was done. The caller has mu.
func (s *slot) prepare(actor string) (err error) {
	if s.instance != nil {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("TPM %q is stopped: %w", s.name, err)
	}
	i, err := s.d.root.Prepare(s.ctx, s.name, actor)
	if err != nil {
		return err
	}
	i.turns = s.turns
	s.instance = i
	return nil
}

// start opens the state before any hypervisor asks for it.
func (s *slot) start(actor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session {
		return nil
	}
	if err := s.prepare(actor); err != nil {
		return err
	}
	if err := s.instance.machine.Load(); err != nil {
		return errors.Join(err, s.drop())
	}
	return nil
}

// drop closes the instance. The caller has mu.
func (s *slot) drop() error {
	i := s.instance
	s.instance = nil
	if i == nil {
		return nil
	}
	return i.Close()
}

// unload closes the TPM at the end of a session.
func (s *slot) unload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = false
	return s.drop()
}

// giveUp closes a TPM that was started and has no hypervisor.
func (s *slot) giveUp() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session {
		return fmt.Errorf("TPM %q: a hypervisor has it: %w", s.name, ErrBusy)
	}
	return s.drop()
}

// stop ends the slot and waits.
func (s *slot) stop() error {
	s.cancel()
	<-s.served
	return s.unload()
}
