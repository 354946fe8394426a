package frontend

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// Limits of what a client may send.
const (
	// maxFrame is the longest command that is taken: twice the command buffer of
	// TPM 2.0 v1.85, so that what is only too long gets its TPM_RC_COMMAND_SIZE.
	maxFrame = 16 << 10
	// firstBuffer serves nearly all commands; a longer one makes it grow.
	firstBuffer = 2 << 10
	// frameTime is how long a frame that has begun may take to arrive.
	frameTime = 10 * time.Second
	// stopTime is how long an answer may still take to leave when the server stops.
	stopTime = 2 * time.Second
)

// The reasons to end a connection that are the client's own.
var (
	errFrame   = errors.New("frame is longer than any command")
	errUnknown = errors.New("unknown command of the protocol")
)

// A link is one client's connection, read frame by frame. The stream is cut by
// the lengths in it, never by what one read happens to return.
type link struct {
	stream
	now func() time.Time

	buf        []byte
	start, end int       // what was read and not yet used
	due        time.Time // by when the rest of the frame must be here; zero while that is not asked

	out []byte // the answer; reused
}

func newLink(conn net.Conn, now func() time.Time) *link {
	return linkOf(&connStream{conn: conn, now: now}, now)
}

func linkOf(s stream, now func() time.Time) *link {
	return &link{stream: s, now: now, buf: make([]byte, firstBuffer)}
}

// begin waits for the first byte of the next frame, for as long as it takes.
func (l *link) begin() error {
	l.due = time.Time{}
	return l.read(1)
}

// take returns the next n bytes of the frame, which are valid until the next call.
func (l *link) take(n int) ([]byte, error) {
	if err := l.fill(n); err != nil {
		return nil, err
	}
	b := l.buf[l.start : l.start+n]
	l.start += n
	return b, nil
}

// peek is take without using the bytes.
func (l *link) peek(n int) ([]byte, error) {
	if err := l.fill(n); err != nil {
		return nil, err
	}
	return l.buf[l.start : l.start+n], nil
}

func (l *link) u32() (uint32, error) {
	b, err := l.take(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// chunk returns some of the next n bytes, at least one.
func (l *link) chunk(n uint32) ([]byte, error) {
	if err := l.fill(1); err != nil {
		return nil, err
	}
	return l.take(int(min(uint64(n), uint64(l.end-l.start)))) // bounded by the buffer
}

// buffered returns what has been read beyond the frame.
func (l *link) buffered() []byte { return l.buf[l.start:l.end] }

// fill reads until n bytes of a frame that has begun are there.
func (l *link) fill(n int) error {
	if l.end-l.start < n && l.due.IsZero() {
		l.due = l.now().Add(frameTime)
	}
	return l.read(n)
}

// read reads until n bytes are there.
func (l *link) read(n int) error {
	if n > maxFrame {
		return errFrame
	}
	for l.end-l.start < n {
		l.room()
		got, err := l.Read(l.buf[l.end:], l.due)
		l.end += got
		if err != nil && l.end-l.start < n {
			return err
		}
	}
	return nil
}

// room makes room to read into. The buffer doubles when it is full of what has
// arrived, so that a length alone costs nothing.
func (l *link) room() {
	if l.start > 0 {
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
}

// renew gives the rest of a long frame as much time again.
func (l *link) renew() { l.due = time.Time{} }

// send writes l.out in one piece: clients that read once take what they get.
func (l *link) send() error {
	_, err := l.Write(l.out)
	return err
}
