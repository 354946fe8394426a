package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// The kinds of frames of streams that share a link: the first byte is the number of the lane.
const (
	frameOpen = 'O' // a lane begins
	frameLane = 'L' // more of it
	frameShut = 'X' // its end in one direction
)

// MaxLanes is how many streams share a link at most.
const MaxLanes = 32

// A Lane opens the local end of a stream that shares a link with others.
type Lane func(context.Context) (*net.UnixConn, error)

// Lead carries streams as [Link.Carry] does, all at once: each from when its lane has opened
// the local end of it. It returns when all have been opened and have ended, or the link has.
func (l *Link) Lead(ctx context.Context, lanes []Lane) error { return l.share(ctx, lanes, true) }

// Follow is the other end of [Link.Lead]: a lane is opened when its other end is, once.
func (l *Link) Follow(ctx context.Context, lanes []Lane) error { return l.share(ctx, lanes, false) }

// traffic is one run of Lead or Follow.
type traffic struct {
	link  *Link
	lanes []*lane
	leads bool
	out   sync.WaitGroup

	mu  sync.Mutex // guards err
	err error      // why nothing can be said to the other end
}

type lane struct {
	open Lane
	shut bool // by the other end; the reader's
	deaf bool // nobody here takes more of it; the reader's

	mu     sync.Mutex // guards what follows
	conn   *net.UnixConn
	closed bool // no local end is wanted any more
}

func (l *Link) share(ctx context.Context, lanes []Lane, leads bool) error {
	if len(lanes) == 0 || len(lanes) > MaxLanes {
		return fmt.Errorf("%d streams are not 1 to %d", len(lanes), MaxLanes)
	}
	t := &traffic{link: l, leads: leads}
	for _, open := range lanes {
		t.lanes = append(t.lanes, &lane{open: open})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, t.close)()
	if leads {
		for number := range t.lanes {
			t.out.Go(func() { t.begin(ctx, number) })
		}
	}
	err := t.read(ctx)
	if err != nil {
		cancel()
		t.close()
	}
	t.wait(ctx)
	t.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(err, t.err)
}

// graceTime is how long the other end may take for what is being said to it when all is over.
const graceTime = time.Second

// wait waits until nothing more is said. An end that takes nothing holds nobody up once ctx has
// ended; it hears no more then.
func (t *traffic) wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		t.out.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	grace := time.NewTimer(graceTime)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		t.link.conn.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // it is closed then
		<-ended
	}
}

// close ends all local ends.
func (t *traffic) close() {
	for _, l := range t.lanes {
		l.mu.Lock()
		l.closed = true
		if l.conn != nil {
			l.conn.Close()
		}
		l.mu.Unlock()
	}
}

// set gives a lane its local end, unless it is too late for that.
func (l *lane) set(conn *net.UnixConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		conn.Close()
		return false
	}
	l.conn = conn
	return true
}

func (l *lane) local() *net.UnixConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// begin waits for a lane's local end, and passes on what comes from it.
func (t *traffic) begin(ctx context.Context, number int) {
	l := t.lanes[number]
	conn, err := l.open(ctx)
	if err != nil || !l.set(conn) {
		return // who opens it knows
	}
	if t.say(frameOpen, []byte{byte(number)}) {
		t.send(conn, number)
	}
}

// send passes on what comes from a local end, and that it has ended.
func (t *traffic) send(conn io.Reader, number int) {
	buf := make([]byte, 1+maxStream)
	buf[0] = byte(number)
	for {
		n, err := conn.Read(buf[1:])
		if n > 0 && !t.say(frameLane, buf[:1+n]) {
			return
		}
		if err != nil { // also a hypervisor that has died: its other side says so
			t.say(frameShut, buf[:1])
			return
		}
	}
}

// say writes a frame. Where that fails, nothing more is read either.
func (t *traffic) say(kind byte, b []byte) bool {
	err := t.link.write(kind, b)
	if err != nil {
		t.mu.Lock()
		t.err = err
		t.mu.Unlock()
		t.link.Interrupt()
	}
	return err == nil
}

// read takes frames until the other end has ended all lanes.
func (t *traffic) read(ctx context.Context) error {
	for left := len(t.lanes); left > 0; {
		kind, b, err := t.link.frame()
		switch {
		case err != nil:
			return err
		case kind == frameRefusal:
			return &PeerError{strings.ToValidUTF8(string(b), "?")}
		case len(b) == 0 || int(b[0]) >= len(t.lanes):
			return fmt.Errorf("%w: a frame of kind %q among %d streams", ErrLink, kind, len(t.lanes))
		}
		l := t.lanes[b[0]]
		conn := l.local()
		switch {
		case kind == frameOpen && !t.leads && conn == nil:
			if err := t.answer(ctx, l, int(b[0])); err != nil {
				return err
			}
		case kind == frameLane && conn != nil && !l.shut:
			if !l.deaf {
				_, err := conn.Write(b[1:])
				l.deaf = err != nil
			}
		case kind == frameShut && conn != nil && !l.shut:
			l.shut = true
			left--
		default:
			return fmt.Errorf("%w: a frame of kind %q in stream %d", ErrLink, kind, b[0])
		}
		if conn != nil && (l.deaf || l.shut) {
			conn.CloseWrite() //nolint:errcheck // it has ended then
		}
	}
	return nil
}

// answer opens a lane that the other end has opened.
func (t *traffic) answer(ctx context.Context, l *lane, number int) error {
	conn, err := l.open(ctx)
	if err != nil {
		return err
	}
	if l.set(conn) {
		t.out.Go(func() { t.send(conn, number) })
	}
	return nil
}
