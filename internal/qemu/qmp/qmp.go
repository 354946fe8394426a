// Package qmp speaks to a running QEMU over its monitor: commands, their answers,
// and the events that QEMU sends by itself.
//
// QEMU is not trusted with this process: a guest may have taken it over. Every
// message is bounded, an answer belongs to the command whose number it has, and a
// client that meets anything else ends, with all commands that wait. Start with
// [Dial].
//
// QEMU Machine Protocol Specification, of QEMU 7.2 (docs/interop/qmp-spec).
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	// maxMessage bounds a message of QEMU's in bytes. The largest known answer,
	// query-qmp-schema, which nobody asks for here, has some 200 kB.
	maxMessage = 1 << 20
	// maxEvents bounds the events that wait to be read; more are dropped.
	maxEvents = 256
)

// ErrClosed is the end of the connection, on either side.
var ErrClosed = errors.New("monitor is closed")

// An Error is QEMU's refusal of a command.
type Error struct {
	Command string
	Class   string // GenericError, CommandNotFound, DeviceNotFound…
	Desc    string // for people
}

func (e *Error) Error() string { return fmt.Sprintf("QEMU refuses %s: %s", e.Command, e.Desc) }

// An Event is something that QEMU says by itself.
type Event struct {
	Name string // SHUTDOWN, RESET, STOP, GUEST_PANICKED…
	Data json.RawMessage
	Time time.Time
}

// A Client is one connection. It is safe for concurrent use.
type Client struct {
	conn   net.Conn
	events chan Event
	done   chan struct{} // closed when the reader has ended

	// writing has room for the one who writes. It is no mutex: who waits for it
	// gives up with its context, and the end of the client waits for nobody.
	writing chan struct{}

	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[string]chan message
	err     error // why the client ended
	dropped uint64
}

// message is anything that QEMU sends.
type message struct {
	QMP    *struct{}       `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID        string          `json:"id"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

// Dial connects to the monitor's socket and makes it ready for commands.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open QEMU's monitor: %w", err)
	}
	return New(ctx, conn)
}

// New makes a client of a connection, which it closes in the end, also when it
// returns an error.
func New(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{
		conn: conn, events: make(chan Event, maxEvents), done: make(chan struct{}),
		writing: make(chan struct{}, 1), waiting: map[string]chan message{},
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReaderSize(conn, 4096)
	var greeting message
	err := read(r, &greeting)
	if err == nil && greeting.QMP == nil {
		err = errors.New("no greeting")
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open QEMU's monitor: %w", err)
	}
	go c.run(r)
	if err := c.Do(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// read reads one message, which QEMU ends with a line's end.
func read(r *bufio.Reader, m *message) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxMessage {
			return fmt.Errorf("message exceeds %d bytes", maxMessage)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		break
	}
	if err := json.Unmarshal(line, m); err != nil {
		return fmt.Errorf("message of QEMU: %w", err)
	}
	return nil
}

// run hands out what QEMU sends, until the connection ends.
func (c *Client) run(r *bufio.Reader) {
	defer close(c.done)
	defer close(c.events)
	for {
		var m message
		if err := read(r, &m); err != nil {
			c.end(err)
			return
		}
		switch {
		case m.Event != "":
			c.tell(&m)
		case m.ID != "" && (m.Error != nil || m.Return != nil):
			if !c.answer(m) {
				c.end(fmt.Errorf("answer to command %q, which nobody gave", m.ID))
				return
			}
		default:
			c.end(errors.New("message of QEMU is neither answer nor event"))
			return
		}
	}
}

// tell queues an event. A reader who does not keep up loses the newest.
func (c *Client) tell(m *message) {
	e := Event{Name: m.Event, Data: m.Data, Time: time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)}
	select {
	case c.events <- e:
	default:
		c.mu.Lock()
		c.dropped++
		c.mu.Unlock()
	}
}

// answer gives a message to the command that waits for it.
func (c *Client) answer(m message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch, ok := c.waiting[m.ID]
	if ok {
		delete(c.waiting, m.ID)
		ch <- m // has room for one
	}
	return ok
}

// end closes the connection for the reason given, the first time.
func (c *Client) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = fmt.Errorf("%w: %w", ErrClosed, why)
	c.conn.Close()
	for id, ch := range c.waiting {
		delete(c.waiting, id)
		close(ch)
	}
}

// Close ends the connection. Commands that wait return [ErrClosed].
func (c *Client) Close() error {
	c.end(net.ErrClosed)
	<-c.done
	return nil
}

// Events gives what QEMU says by itself, in order; it is closed with the
// connection.
func (c *Client) Events() <-chan Event { return c.events }

// Dropped returns how many events were lost because nobody read them.
func (c *Client) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Do runs a command. arguments is marshalled, nil for none; the answer is
// unmarshalled into result unless that is nil. The error is an [*Error] when QEMU
// refuses, [ErrClosed] at the end of the connection, or that of ctx.
func (c *Client) Do(ctx context.Context, command string, arguments, result any) error {
	ch, err := c.send(ctx, command, arguments)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case m, ok := <-ch:
		return c.result(command, m, ok, result)
	case <-ctx.Done():
		// The entry stays: an answer that comes later is no stranger.
		return fmt.Errorf("%s: %w", command, ctx.Err())
	}
}

func (c *Client) result(command string, m message, ok bool, result any) error {
	switch {
	case !ok:
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("%s: %w", command, c.err)
	case m.Error != nil:
		return &Error{command, m.Error.Class, m.Error.Desc}
	case result == nil:
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("answer to %s: %w", command, err)
	}
	return nil
}

// send writes a command and returns where its answer comes.
func (c *Client) send(ctx context.Context, command string, arguments any) (chan message, error) {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	select {
	case c.writing <- struct{}{}:
		defer func() { <-c.writing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, ch, err := c.expect()
	if err != nil {
		return nil, err
	}
	request["id"] = id
	b, err := json.Marshal(request)
	if err == nil {
		err = c.write(ctx, append(b, '\n'))
	}
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
		return nil, err
	}
	return ch, nil
}

// expect makes a place for the answer to the next command.
func (c *Client) expect() (id string, ch chan message, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return "", nil, c.err
	}
	c.next++
	id, ch = strconv.FormatUint(c.next, 10), make(chan message, 1)
	c.waiting[id] = ch
	return id, ch, nil
}

// write writes a whole command or nothing, or ends the client: after half of one
// nothing that follows would be the protocol. The end of ctx ends the write, for a
// QEMU that does not read.
func (c *Client) write(ctx context.Context, b []byte) error {
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.conn.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // it is closed then
		close(set)
	})
	n, err := c.conn.Write(b)
	if !stop() {
		<-set
		c.conn.SetWriteDeadline(time.Time{}) //nolint:errcheck // it is closed then
	}
	if err == nil {
		return nil
	}
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end(err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
