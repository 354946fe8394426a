package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// maxClients bounds the connections to one port; more wait to be accepted.
const maxClients = 64

// Config is what all servers take.
type Config struct {
	// Now is the clock for the deadlines of connections. Required.
	Now func() time.Time
	// Log is told of clients that break the protocol; nil for none.
	Log *slog.Logger
	// Alone says that the process has one TPM to serve, and two or more processors of Go's
	// scheduler that can be interrupted: a connection that was accepted may hold one of them
	// while its client is quick and the only one, and none needs one of the threads.
	Alone bool
	// Threads are what connections may read on otherwise; nil for none.
	Threads *Threads
	// Before, if not nil, is told of each command before it runs. What it returns, if
	// that is not nil, is called after.
	Before func(request []byte) (after func())
}

// A before is Config.Before.
type before func(request []byte) (after func())

// execute appends the response to a command to dst.
func (b before) execute(m *Machine, dst []byte, locality uint8, request []byte) []byte {
	if b != nil {
		if after := b(request); after != nil {
			defer after()
		}
	}
	return m.Execute(dst, locality, request)
}

func (c Config) check() (Config, error) {
	if c.Now == nil {
		return c, errors.New("a front end needs a clock")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// A handler serves one connection, to its end. An error is logged unless it is
// that the client went away.
type handler func(*link) error

// errStop is a handler's wish that the whole server stops.
var errStop = errors.New("a client asked the server to stop")

// ErrFault is a fault of this program, met while it served a client.
var ErrFault = errors.New("a fault of this program")

// A fatalError stops the whole server, which returns it.
type fatalError struct{ error }

// A server accepts connections on some ports until it is stopped.
type server struct {
	cfg    Config
	ctx    context.Context // ends when the server stops
	cancel context.CancelCauseFunc
	all    sync.WaitGroup

	warnings *rate.Limiter
	clients  atomic.Int32 // len(links)

	mu      sync.Mutex // guards what follows
	links   map[*link]struct{}
	dropped int // warnings since the last one
}

// A client that breaks the protocol again and again does not fill the log.
const (
	warningsPerSecond = 1
	warningsBurst     = 20
)

func newServer(ctx context.Context, cfg Config) *server {
	s := &server{cfg: cfg, warnings: rate.NewLimiter(warningsPerSecond, warningsBurst), links: map[*link]struct{}{}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// warnOf tells the log of a client, with how many warnings were dropped before.
func (s *server) warnOf(text string, about ...slog.Attr) {
	s.mu.Lock()
	dropped := s.dropped
	allowed := s.warnings.Allow()
	if allowed {
		s.dropped = 0
	} else {
		s.dropped++
	}
	s.mu.Unlock()
	if !allowed {
		return
	}
	if dropped > 0 {
		about = append(about, slog.Int("dropped", dropped))
	}
	s.cfg.Log.LogAttrs(s.ctx, slog.LevelWarn, text, about...)
}

// wait returns when the server was stopped and all connections have ended. A
// stop that was asked for, by the context or by a client, is no error.
func (s *server) wait() error {
	<-s.ctx.Done()
	s.mu.Lock()
	for l := range s.links {
		l.stop()
	}
	s.links = nil
	s.mu.Unlock()
	s.all.Wait()
	err := context.Cause(s.ctx)
	if errors.Is(err, errStop) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// A port is one listener of a server.
type port struct {
	*server
	net.Listener
	dress func(net.Conn) *link
	serve handler
}

// listen begins to accept connections. The listener is closed when the server stops.
func (s *server) listen(l net.Listener, dress func(net.Conn) *link, serve handler) *port {
	p := &port{s, l, dress, serve}
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	s.all.Go(func() {
		defer stop()
		defer l.Close()
		if err := p.accept(); err != nil {
			s.cancel(err)
		}
	})
	return p
}

// accept returns nil when the listener is closed.
func (p *port) accept() error {
	places := make(chan struct{}, maxClients)
	for {
		select {
		case places <- struct{}{}:
		case <-p.ctx.Done():
			return nil
		}
		conn, err := Accept(p.ctx, p.Accept)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		l := p.dress(conn)
		if !p.add(l) {
			l.Close()
			return nil
		}
		p.all.Go(func() {
			defer func() { <-places }()
			p.one(l)
		})
	}
}

// link is a connection that was accepted, whose socket nobody else has.
func (s *server) link(conn net.Conn) *link {
	if s.cfg.Alone {
		if t := newAloneStream(conn, &s.clients, s.cfg.Now); t != nil {
			return linkOf(t, s.cfg.Now)
		}
	}
	return s.threadLink(conn, s.cfg.Threads)
}

// passedLink is a connection that a client has passed, who may have its socket, too.
// Where there are no threads that it would be worth one it stays in the poller.
func (s *server) passedLink(conn net.Conn) *link {
	if s.cfg.Alone {
		return s.threadLink(conn, NewThreads(0))
	}
	return s.threadLink(conn, s.cfg.Threads)
}

func (s *server) threadLink(conn net.Conn, threads *Threads) *link {
	if threads != nil {
		if t := newThreadStream(conn, threads, s.cfg.Now); t != nil {
			return linkOf(t, s.cfg.Now)
		}
	}
	return newLink(conn, s.cfg.Now)
}

// controlLink is a connection to the control channel: files may come with it where
// the socket carries them, and nobody is in a hurry.
func (s *server) controlLink(conn net.Conn) *link {
	if u, ok := conn.(*net.UnixConn); ok {
		return linkOf(&passStream{connStream: connStream{conn: u, now: s.cfg.Now}, unix: u}, s.cfg.Now)
	}
	return newLink(conn, s.cfg.Now)
}

// add notes a connection; false when the server has stopped.
func (s *server) add(l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		return false
	}
	s.links[l] = struct{}{}
	s.clients.Add(1)
	return true
}

// safely serves a connection. A fault of ours stops this server, and with it one
// TPM, but not the others of the process.
func (p *port) safely(l *link) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fatalError{fmt.Errorf("%w: %v\n%s", ErrFault, v, debug.Stack())}
		}
	}()
	return p.serve(l)
}

// one serves a connection.
func (p *port) one(l *link) {
	err := p.safely(l)
	l.Close()
	p.clients.Add(-1)
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	var fatal fatalError
	switch {
	case errors.Is(err, errStop):
		p.cancel(errStop)
	case errors.As(err, &fatal):
		p.cancel(fatal.error)
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	case errors.Is(err, os.ErrDeadlineExceeded) && p.ctx.Err() != nil:
	default:
		p.warnOf("connection ended", slog.String("port", p.Addr().String()), slog.Any("error", err))
	}
}
