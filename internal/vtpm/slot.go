package vtpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
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

	mu       sync.Mutex // guards what follows
	instance *Instance
	session  bool // a hypervisor is connected
}

func newSlot(d *Daemon, name string, l *net.UnixListener) *slot {
	s := &slot{d: d, name: name, l: l, served: make(chan struct{})}
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
		conn, err := s.l.AcceptUnix()
		if err != nil {
			if s.ctx.Err() == nil {
				s.log(slog.LevelError, "socket of a TPM", err)
			}
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
			err = fmt.Errorf("a fault of this program: %v\n%s", v, debug.Stack())
			s.d.root.report(s.ctx, Event{Type: EventFault, TPM: s.name, Actor: "service", Outcome: OutcomeFailed, Detail: detail(map[string]string{"panic": fmt.Sprint(v)})})
		}
	}()
	if err := s.load(s.ctx, hypervisor); err != nil {
		return err
	}
	m, err := s.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.unload()) }()
	r := s.d.root
	return frontend.ServeControl(s.ctx, m, conn, frontend.SWTPMConfig{}, frontend.Config{Now: r.cfg.Now, Log: r.cfg.Log, Threads: s.d.threads})
}

// begin notes that a hypervisor has the TPM.
func (s *slot) begin() (*frontend.Machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance == nil {
		return nil, fmt.Errorf("TPM %q was stopped", s.name)
	}
	s.session = true
	return s.instance.Machine(), nil
}

// load opens the TPM unless it is open. A key provider that does not answer is
// tried again for a while; nothing is lost by that.
func (s *slot) load(ctx context.Context, actor string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance != nil {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("TPM %q is stopped: %w", s.name, err)
	}
	start := s.d.root.cfg.Now()
	i, err := s.open(ctx, actor)
	e := Event{Type: EventStart, TPM: s.name, Actor: actor, Outcome: OutcomeDone}
	if err != nil {
		e.Outcome, e.Detail = OutcomeFailed, detail(map[string]string{"error": err.Error()})
		s.d.root.report(ctx, e)
		return err
	}
	s.instance = i
	e.ID = i.card.ID.String()
	e.Detail = detail(map[string]int64{"microseconds": s.d.root.cfg.Now().Sub(start).Microseconds()})
	i.reports.Go(func() { s.d.root.report(context.WithoutCancel(ctx), e) })
	return nil
}

// The pauses between tries to reach a key provider.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// open opens the TPM, a few of all at a time.
func (s *slot) open(ctx context.Context, actor string) (*Instance, error) {
	limits := &s.d.root.cfg.Limits
	if !s.d.starts.enter(limits.StartTime) {
		return nil, fmt.Errorf("start TPM %q: too many others start: %w", s.name, ErrBusy)
	}
	defer s.d.starts.leave()
	ctx, cancel := context.WithTimeout(ctx, limits.StartTime)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		i, err := s.d.root.Open(ctx, s.name, actor)
		if err == nil || !errors.Is(err, keyprovider.ErrUnavailable) && !errors.Is(err, state.ProviderDown) {
			return i, err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w (tried for %v; nothing is lost, and the next start tries again)", err, limits.StartTime)
		}
	}
}

// unload closes the TPM at the end of a session.
func (s *slot) unload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = false
	i := s.instance
	s.instance = nil
	if i == nil {
		return nil
	}
	e := Event{Type: EventStop, TPM: s.name, ID: i.card.ID.String(), Actor: i.actor, Outcome: OutcomeDone}
	err := i.Close()
	if err != nil {
		e.Outcome, e.Detail = OutcomeFailed, detail(map[string]string{"error": err.Error()})
	}
	s.d.root.report(context.WithoutCancel(s.ctx), e)
	return err
}

// giveUp closes a TPM that was started and has no hypervisor.
func (s *slot) giveUp() error {
	s.mu.Lock()
	session := s.session
	s.mu.Unlock()
	if session {
		return fmt.Errorf("TPM %q: a hypervisor has it: %w", s.name, ErrBusy)
	}
	return s.unload()
}

// stop ends the slot and waits.
func (s *slot) stop() error {
	s.cancel()
	<-s.served
	return s.unload()
}
