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
	if err != nil {
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
		conn, err := l.AcceptUnix()
		if err != nil {
			if d.ctx.Err() == nil {
				d.cancel(fmt.Errorf("admin socket: %w", err))
			}
			return
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
			if err := d.adminOne(conn); err != nil {
				d.root.cfg.Log.WarnContext(d.ctx, "request on the admin socket", slog.Any("error", err))
			}
		})
	}
}

// adminOne answers one client.
func (d *Daemon) adminOne(conn *net.UnixConn) error {
	conn.SetDeadline(d.root.cfg.Now().Add(adminTime)) //nolint:errcheck // a closed socket shows at the read
	line, err := bufio.NewReaderSize(io.LimitReader(conn, maxRequest), 4<<10).ReadBytes('\n')
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Time{}) //nolint:errcheck // as above
	var re reply
	result, err := d.request(conn, line)
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

// request authorises and carries out one request.
func (d *Daemon) request(conn *net.UnixConn, line []byte) (any, error) {
	uid, err := peerUID(conn)
	if err != nil {
		return nil, fmt.Errorf("who is asking: %w: %w", err, ErrDenied)
	}
	q, err := ParseRequest(line)
	if err != nil {
		return nil, err
	}
	actor := Actor(uid)
	if !d.mayAdminister(uid) {
		if d.denials.Allow() { // who is denied does not fill the trail
			d.root.report(d.ctx, Event{Type: EventType(q.Verb), TPM: q.Name, Actor: actor, Outcome: OutcomeDenied})
		}
		return nil, fmt.Errorf("%s: %w", actor, ErrDenied)
	}
	return d.handle(d.ctx, actor, q)
}

// Actor names a user of this machine in events.
func Actor(uid uint32) string { return fmt.Sprintf("uid %d", uid) }

func (d *Daemon) mayAdminister(uid uint32) bool {
	return uid == 0 || int64(uid) == int64(os.Geteuid()) || slices.Contains(d.cfg.Admins, uid)
}
