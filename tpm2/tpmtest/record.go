package tpmtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Transport carries commands, one at a time, as [TPM] and the transports of
// go-tpm do.
type Transport interface {
	Send(command []byte) (response []byte, err error)
}

// A Recorder passes commands on and writes the conversation: a line "> " with
// each command, a line "< " with its response, in hexadecimal.
type Recorder struct {
	transport Transport
	w         io.Writer
}

// NewRecorder returns a recorder of the conversation with t.
func NewRecorder(t Transport, w io.Writer) *Recorder { return &Recorder{t, w} }

// Send runs a command and records it.
func (r *Recorder) Send(command []byte) ([]byte, error) {
	response, err := r.transport.Send(command)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(r.w, "> %x\n< %x\n", command, response)
	return response, err
}

// ErrReplay is a conversation that goes another way than the recorded one.
var ErrReplay = errors.New("command is not the recorded one")

// A Replay answers as a recorded TPM did, as long as it is asked the same.
type Replay struct {
	exchanges [][2][]byte
	next      int
}

// maxLine is the longest line of a recording: a command of 8 KiB and its mark.
const maxLine = 2*8192 + 16

// NewReplay reads a recording. Empty lines and lines that begin with "#" mean nothing.
func NewReplay(r io.Reader) (*Replay, error) {
	p := &Replay{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	var command []byte
	for n := 1; lines.Scan(); n++ {
		mark, text, _ := strings.Cut(lines.Text(), " ")
		if mark == "" || strings.HasPrefix(mark, "#") {
			continue
		}
		b, err := hex.DecodeString(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case mark == ">" && command == nil && len(b) > 0:
			command = b
		case mark == "<" && command != nil:
			p.exchanges = append(p.exchanges, [2][]byte{command, b})
			command = nil
		default:
			return nil, fmt.Errorf("line %d: %q does not follow", n, mark)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if command != nil {
		return nil, fmt.Errorf("the last command has no response: %w", io.ErrUnexpectedEOF)
	}
	return p, nil
}

// Send gives the recorded response. The error wraps [ErrReplay] when the command
// is another one, or [io.EOF] after the last.
func (p *Replay) Send(command []byte) ([]byte, error) {
	if p.next == len(p.exchanges) {
		return nil, fmt.Errorf("command %d: %w", p.next+1, io.EOF)
	}
	x := p.exchanges[p.next]
	if !bytes.Equal(command, x[0]) {
		return nil, fmt.Errorf("command %d: got %x, want %x: %w", p.next+1, command, x[0], ErrReplay)
	}
	p.next++
	return bytes.Clone(x[1]), nil
}

// Rest returns how many recorded commands were not asked.
func (p *Replay) Rest() int { return len(p.exchanges) - p.next }

// Check plays the whole recording to another TPM and reports the first response
// that differs, wrapped in [ErrReplay]: one made with the same seed and clock
// answers alike.
func (p *Replay) Check(t Transport) error {
	for i, x := range p.exchanges {
		got, err := t.Send(x[0])
		if err != nil {
			return fmt.Errorf("command %d: %w", i+1, err)
		}
		if !bytes.Equal(got, x[1]) {
			return fmt.Errorf("response %d: got %x, want %x: %w", i+1, got, x[1], ErrReplay)
		}
	}
	return nil
}
