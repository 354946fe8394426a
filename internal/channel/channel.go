// Package channel is how the agent in a guest and its host speak to each other over
// a serial port: one JSON object a line, with the mark of RFC 7464 before it.
//
// Both sides are hostile to each other, and the line between them may lose, repeat
// or mix up bytes. So every line is bounded before it is read, what is no message is
// dropped and counted, and reading goes on with the next line: [Conn.Next] always
// finds its way back. A message of this package has the right shape, and nothing in
// it is proven; who reads it checks what it says (package health does for the host).
// The channel authenticates nobody and hides nothing: whoever holds its other end can
// have anything quoted.
//
// Read [Message] and the types that are one, then [Conn].
//
// JSON Text Sequences: RFC 7464.
package channel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// Version is that of the protocol. A message of another is [ErrVersion].
const Version = 1

// The sizes of lines, in bytes.
const (
	// MaxRequest is the longest line that an agent reads.
	MaxRequest = 16 << 10
	// MaxEvidence is the longest line that a host reads: a boot log of 1 MiB and an
	// IMA list of 1 MiB, in base64.
	MaxEvidence = 3 << 20
)

// mark stands before each message (RFC 7464, 2.1). No JSON text has it inside, so
// what comes before it on a line is the rest of a message that was cut.
const mark = 0x1e

// A Conn is one end of the channel. One goroutine may read and others write.
type Conn struct {
	reader *bufio.Reader
	from   Side // whom it reads
	limit  int
	line   []byte

	mu     sync.Mutex // guards writer
	writer io.Writer
}

// NewAgent is the agent's end of the channel over rw.
func NewAgent(rw io.ReadWriter) *Conn { return newConn(rw, Host, MaxRequest) }

// NewHost is the host's end of the channel over rw.
func NewHost(rw io.ReadWriter) *Conn { return newConn(rw, Agent, MaxEvidence) }

func newConn(rw io.ReadWriter, from Side, limit int) *Conn {
	return &Conn{reader: bufio.NewReaderSize(rw, 4096), writer: rw, from: from, limit: limit}
}

// A Read is what [Conn.Next] found on one line.
type Read struct {
	// Message is nil when the line was none; Err then says why.
	Message Message
	Err     error
	// Size is that of the line in bytes.
	Size int
}

// Next reads the next line. Its error is that of the stream, after which nothing
// comes; a line that is no message is no error of the stream.
func (c *Conn) Next() (Read, error) {
	line, size, err := c.next()
	if err != nil {
		return Read{}, err
	}
	r := Read{Size: size}
	if line == nil {
		r.Err = ErrLong
		return r, nil
	}
	if i := bytes.LastIndexByte(line, mark); i >= 0 {
		line = line[i+1:]
	}
	r.Message, r.Err = Parse(line, c.from)
	return r, nil
}

// keep is how much of its buffer a connection holds on to between lines.
const keep = 64 << 10

// next reads up to a line's end; the line is nil when it is longer than the limit.
func (c *Conn) next() (line []byte, size int, err error) {
	if c.line = c.line[:0]; cap(c.line) > keep {
		c.line = nil
	}
	long := false
	for {
		part, err := c.reader.ReadSlice('\n')
		size += len(part)
		if long = long || size > c.limit; !long {
			c.line = append(c.line, part...)
		}
		switch {
		case err == nil && long:
			c.line = nil
			return nil, size, nil
		case err == nil:
			return c.line, size, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, size, err
		}
	}
}

// Write sends a message in one piece.
func (c *Conn) Write(m Message) error {
	line, err := Encode(m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.writer.Write(line)
	return err
}
