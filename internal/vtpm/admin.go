package vtpm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// The errors of the admin socket.
var (
	// ErrDenied is a request by a user who may not make it.
	ErrDenied = errors.New("this user may not administer the TPMs of this root")
	// ErrNoDaemon is a root that no daemon serves.
	ErrNoDaemon = errors.New("no daemon serves this root")
)

// adminTime is how long a client of the admin socket may take to send a request
// or to read the reply.
const adminTime = 10 * time.Second

// strangerTime is how long somebody who may not ask may take to be told so.
const strangerTime = 100 * time.Millisecond

// maxAdmins bounds the clients of the admin socket; more wait.
const maxAdmins = 16

// Call has the daemon that serves the root in dir carry out a request. The error
// is [ErrNoDaemon] when there is none. Result is JSON.
func Call(ctx context.Context, dir string, q *Request) (result json.RawMessage, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", AdminSocket(dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoDaemon
	}
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxReply))
	if err != nil && !json.Valid(answer) { // who is denied is answered unread, which ends as a reset
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	var re reply
	if err := json.Unmarshal(answer, &re); err != nil {
		return nil, fmt.Errorf("ask the daemon: its answer of %d bytes is no reply: %w", len(answer), err)
	}
	if re.Error != nil {
		return nil, re.Error.err()
	}
	return re.Result, nil
}

// admin serves the admin socket until the daemon stops.
func (d *Daemon) admin(l *net.UnixListener) {
	places := make(chan struct{}, maxAdmins)
	for {
		conn, err := frontend.Accept(d.ctx, l.AcceptUnix)
		if err != nil {
			if d.ctx.Err() == nil {
				d.cancel(fmt.Errorf("admin socket: %w", err))
			}
			return
		}
		uid, err := peerUID(conn)
		if err != nil || !d.mayAdminister(uid) {
			d.deny(conn, uid)
			continue
		}
		select {
		case places <- struct{}{}:
		case <-d.ctx.Done():
			conn.Close()
			return
		}
		d.all.Go(func() {
			defer func() { <-places }()
			defer conn.Close()
			if err := d.adminOne(conn, Actor(uid)); err != nil {
				d.root.cfg.Log.WarnContext(d.ctx, "request on the admin socket", slog.Any("error", err))
			}
		})
	}
}

// deny turns a user away, unread: he takes no place from those who may ask, and
// what he wrote is in no trail.
func (d *Daemon) deny(conn *net.UnixConn, uid uint32) {
	defer conn.Close()
	actor := Actor(uid)
	text, err := json.Marshal(reply{Error: problemOf(fmt.Errorf("%s: %w", actor, ErrDenied))})
	if err == nil {
		conn.SetDeadline(d.root.cfg.Now().Add(strangerTime)) //nolint:errcheck // a closed socket shows at the write
		_, err = conn.Write(text)                            // there is room in a new socket
	}
	if err != nil {
		d.root.cfg.Log.WarnContext(d.ctx, "refusal on the admin socket", slog.Any("error", err))
	}
	if d.denials.Allow() { // who is denied does not fill the trail
		d.all.Go(func() { d.root.report(d.ctx, Event{Type: EventStranger, Actor: actor, Outcome: OutcomeDenied}) })
	}
}

// adminOne answers one client.
func (d *Daemon) adminOne(conn *net.UnixConn, actor string) error {
	conn.SetDeadline(d.root.cfg.Now().Add(adminTime)) //nolint:errcheck // a closed socket shows at the read
	line, err := bufio.NewReaderSize(io.LimitReader(conn, maxRequest), 4<<10).ReadBytes('\n')
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Time{}) //nolint:errcheck // as above
	var re reply
	result, err := d.request(actor, line)
	if err == nil {
		re.Result, err = json.Marshal(result)
	}
	if err != nil {
		re = reply{Error: problemOf(err)}
	}
	text, err := json.Marshal(re)
	if err != nil {
		return err
	}
	conn.SetDeadline(d.root.cfg.Now().Add(adminTime)) //nolint:errcheck // as above
	_, err = conn.Write(text)
	return err
}

// request carries out a request of somebody who may ask.
func (d *Daemon) request(actor string, line []byte) (any, error) {
	q, err := ParseRequest(line)
	if err != nil {
		return nil, err
	}
	return d.handle(d.ctx, actor, q)
}

// Actor names a user of this machine in events.
func Actor(uid uint32) string { return fmt.Sprintf("uid %d", uid) }

func (d *Daemon) mayAdminister(uid uint32) bool {
	return uid == 0 || int64(uid) == int64(os.Geteuid()) || slices.Contains(d.cfg.Admins, uid)
}
