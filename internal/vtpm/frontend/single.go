package frontend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
)

// ServeControl serves m to one client of swtpm's control channel, and to the data
// channel that it passes, until that client goes, sends CMD_SHUTDOWN, or ctx ends.
// conn is closed on return, and commands under way have been answered.
func ServeControl(ctx context.Context, m *Machine, conn net.Conn, sw SWTPMConfig, cfg Config) error {
	cfg, err := cfg.check()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s := newServer(ctx, cfg)
	t := &swtpm{server: s, machine: m, cfg: sw, before: cfg.Before}
	p := &port{s, single{conn}, s.controlLink, func(l *link) error {
		err := t.control(l)
		if err != nil && !errors.Is(err, errStop) && !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
			cfg.Log.WarnContext(ctx, "control channel ended", slog.Any("error", err))
		}
		return errors.Join(err, errStop)
	}}
	l := p.dress(conn)
	p.add(l)
	p.all.Go(func() { p.one(l) })
	return s.wait()
}

// single is the listener of one connection that was accepted before.
type single struct{ conn net.Conn }

// Accept is never asked.
func (s single) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Addr is that of the socket.
func (s single) Addr() net.Addr { return s.conn.LocalAddr() }

// Close does nothing: the link closes its connection.
func (s single) Close() error { return nil }
