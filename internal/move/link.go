package move

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// The kinds of frames: one byte, and the length of what follows in four.
const (
	frameMessage = 'M'
	frameRefusal = 'R' // a text: why the other end goes no further
	frameStream  = 'S' // more of a stream
	frameEnd     = 'E' // its end
)

// Limits of frames in bytes. A message holds the home of a machine.
const (
	maxMessage = 256 << 20
	maxRefusal = 4 << 10
	maxStream  = 256 << 10
)

// A PeerError is why the other end goes no further, in its words.
type PeerError struct{ Words string }

func (e *PeerError) Error() string { return "the other host says: " + e.Words }

// ErrLink is a connection that ended, or on which something else came than was agreed.
var ErrLink = errors.New("the connection to the other host is lost")

// A Link is a connection between two hosts: messages, and between two of them the stream of
// a machine's memory in both directions. It is for one goroutine at a time.
type Link struct {
	conn net.Conn
	mu   sync.Mutex // guards writing
}

// NewLink makes a link of a connection that is private and authenticated.
func NewLink(conn net.Conn) *Link { return &Link{conn: conn} }

// Close ends the link.
func (l *Link) Close() error { return l.conn.Close() }

// Interrupt ends what waits for the other end, now and later; what is said to it may still
// go out.
func (l *Link) Interrupt() {
	l.conn.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // it is closed then
}

func (l *Link) write(kind byte, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b))) // bounded by its callers
	if _, err := l.conn.Write(append(head, b...)); err != nil {
		return fmt.Errorf("%w: %w", ErrLink, err)
	}
	return nil
}

// Send sends a message.
func (l *Link) Send(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("a message of %d bytes is more than %d", len(text), maxMessage)
	}
	return l.write(frameMessage, text)
}

// Refuse says why this end goes no further.
func (l *Link) Refuse(why error) error {
	words := why.Error()
	return l.write(frameRefusal, []byte(words[:min(len(words), maxRefusal)]))
}

// frame reads one frame. Nothing is made room for before it has come.
func (l *Link) frame() (kind byte, b []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(l.conn, head[:]); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrLink, err)
	}
	most := map[byte]uint32{
		frameMessage: maxMessage, frameRefusal: maxRefusal, frameStream: maxStream,
		frameOpen: 1, frameLane: 1 + maxStream, frameShut: 1,
	}[head[0]]
	size := binary.BigEndian.Uint32(head[1:])
	if size > most {
		return 0, nil, fmt.Errorf("%w: a frame of kind %q has %d bytes", ErrLink, head[0], size)
	}
	var text bytes.Buffer
	if _, err := io.CopyN(&text, l.conn, int64(size)); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrLink, err)
	}
	return head[0], text.Bytes(), nil
}

// Receive reads a message. The error is a [*PeerError] when the other end goes no further.
func (l *Link) Receive(v any) error {
	kind, b, err := l.frame()
	switch {
	case err != nil:
		return err
	case kind == frameRefusal:
		return &PeerError{strings.ToValidUTF8(string(b), "?")}
	case kind != frameMessage:
		return fmt.Errorf("%w: a frame of kind %q in the place of a message", ErrLink, kind)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: a message: %w", ErrLink, err)
	}
	return nil
}

// Carry passes the stream of a hypervisor's socket to the other end and back, until both
// ends of it have ended. It leaves the link ready for messages, or returns an error.
func (l *Link) Carry(ctx context.Context, local *net.UnixConn) error {
	defer local.Close()
	defer context.AfterFunc(ctx, func() { local.Close() })()
	sent := make(chan error, 1)
	go func() { sent <- l.carryOut(local) }()
	err := l.carryIn(local)
	if err != nil {
		local.Close()
		return errors.Join(err, <-sent)
	}
	return <-sent
}

func (l *Link) carryOut(local io.Reader) error {
	buf := make([]byte, maxStream)
	for {
		n, err := local.Read(buf)
		if n > 0 {
			if err := l.write(frameStream, buf[:n]); err != nil {
				return err
			}
		}
		if err != nil { // also a hypervisor that has died: its other side says so
			return l.write(frameEnd, nil)
		}
	}
}

func (l *Link) carryIn(local *net.UnixConn) error {
	for {
		kind, b, err := l.frame()
		switch {
		case err != nil:
			return err
		case kind == frameEnd:
			local.CloseWrite() //nolint:errcheck // it has ended then
			return nil
		case kind == frameRefusal:
			return &PeerError{strings.ToValidUTF8(string(b), "?")}
		case kind != frameStream:
			return fmt.Errorf("%w: a frame of kind %q in a stream", ErrLink, kind)
		}
		if _, err := local.Write(b); err != nil {
			local.CloseWrite() //nolint:errcheck // it has ended then
			return l.drop()
		}
	}
}

// drop reads the rest of a stream that nobody takes any more.
func (l *Link) drop() error {
	for {
		kind, b, err := l.frame()
		switch {
		case err != nil:
			return err
		case kind == frameEnd:
			return nil
		case kind == frameRefusal:
			return &PeerError{strings.ToValidUTF8(string(b), "?")}
		}
	}
}
