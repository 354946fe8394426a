package move

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/assay-project/assay/internal/seal"
)

// partSize is how much one part of a sealed stream holds, in bytes.
const partSize = 1 << 20

// maxSealed bounds a sealed part: the text, and what an envelope adds.
const maxSealed = partSize + 1<<12

// ErrStream is a sealed stream that is cut off, altered, or of something else.
var ErrStream = errors.New("sealed stream is damaged")

// A Writer seals a stream in parts: each has its length, whether it is the last, and an
// envelope that opens in its place alone. Close writes the last part; without it no
// [Reader] reads the stream to its end. It is not safe for concurrent use.
type Writer struct {
	to      io.Writer
	random  io.Reader
	key     seal.Key
	context seal.Context
	part    int
	buf     []byte
	err     error
}

// NewWriter makes a writer for the context of one stream.
func NewWriter(to io.Writer, random io.Reader, key seal.Key, c seal.Context) *Writer {
	return &Writer{to: to, random: random, key: key, context: c, buf: make([]byte, 0, partSize)}
}

// Write takes more of the stream.
func (w *Writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 && w.err == nil {
		if len(w.buf) == partSize {
			w.err = w.flush(false)
			continue
		}
		fit := min(len(b), partSize-len(w.buf))
		w.buf = append(w.buf, b[:fit]...)
		b, n = b[fit:], n+fit
	}
	return n, w.err
}

// Close writes the end. It does not close what it writes to.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.flush(true)
	}
	clear(w.buf)
	err := w.err
	w.err = errors.Join(w.err, io.ErrClosedPipe)
	return err
}

func (w *Writer) flush(last bool) error {
	sealed, err := seal.Seal(w.random, w.key, partOf(w.context, w.part, last), w.buf)
	if err != nil {
		return err
	}
	w.part++
	clear(w.buf)
	w.buf = w.buf[:0]
	head := binary.BigEndian.AppendUint32(nil, uint32(len(sealed))) // at most maxSealed
	head = append(head, 0)
	if last {
		head[4] = 1
	}
	if _, err := w.to.Write(head); err != nil {
		return err
	}
	_, err = w.to.Write(sealed)
	return err
}

// partOf binds a part to its place.
func partOf(c seal.Context, number int, last bool) seal.Context {
	c.Purpose += ", part " + strconv.Itoa(number)
	if last {
		c.Purpose += ", the last"
	}
	return c
}

// A Reader reads what a [Writer] wrote, and nothing else: a stream that ends before its
// last part, or goes on after it, is an error. It is not safe for concurrent use.
type Reader struct {
	from    io.Reader
	key     seal.Key
	context seal.Context
	part    int
	text    []byte
	last    bool
	err     error
}

// NewReader makes a reader for the context of one stream.
func NewReader(from io.Reader, key seal.Key, c seal.Context) *Reader {
	return &Reader{from: from, key: key, context: c}
}

// Read gives more of the stream, which was proved to be of its place.
func (r *Reader) Read(b []byte) (int, error) {
	for len(r.text) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.text) == 0 {
		return 0, r.err
	}
	n := copy(b, r.text)
	clear(r.text[:n])
	r.text = r.text[n:]
	return n, nil
}

func (r *Reader) next() error {
	var head [5]byte
	n, err := io.ReadFull(r.from, head[:])
	switch {
	case r.last && n == 0 && errors.Is(err, io.EOF):
		return io.EOF
	case r.last:
		return fmt.Errorf("%w: it goes on after its end", ErrStream)
	case err != nil:
		return fmt.Errorf("%w: part %d: %w", ErrStream, r.part, short(err))
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxSealed || head[4] > 1 {
		return fmt.Errorf("%w: part %d is none", ErrStream, r.part)
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(r.from, sealed); err != nil {
		return fmt.Errorf("%w: part %d: %w", ErrStream, r.part, short(err))
	}
	e, err := seal.Parse(sealed)
	if err != nil {
		return fmt.Errorf("%w: part %d: %w", ErrStream, r.part, err)
	}
	r.last = head[4] == 1
	text, err := e.Open(r.key, partOf(r.context, r.part, r.last))
	if err != nil {
		return fmt.Errorf("%w: part %d: %w", ErrStream, r.part, err)
	}
	r.part++
	r.text = text.Expose()
	return nil
}

// short is the end of what should go on.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
