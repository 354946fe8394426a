package keyprovider

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/strictjson"
)

// maxProgramLine bounds a line between us and the program, in bytes.
const maxProgramLine = 64 << 10

// A programRequest and a programResponse are the lines to and from assay-pkcs11
// (docs/key-providers.md, "pkcs11").
type programRequest struct {
	ID        uint64 `json:"id"`
	Op        string `json:"op"`
	Module    string `json:"module,omitempty"`
	Token     string `json:"token,omitempty"`
	Serial    string `json:"serial,omitempty"`
	PIN       []byte `json:"pin,omitempty"`
	Object    string `json:"object,omitempty"`
	KeyID     []byte `json:"keyId,omitempty"`
	Mechanism string `json:"mechanism,omitempty"`
	IV        []byte `json:"iv,omitempty"`
	AAD       []byte `json:"aad,omitempty"`
	Data      []byte `json:"data,omitempty"`
}

type programResponse struct {
	ID    uint64 `json:"id"`
	Error string `json:"error"`
	Kind  string `json:"kind"`
	KeyID []byte `json:"keyId"`
	Data  []byte `json:"data"`
}

// An asker sends one request and returns the answer.
type asker func(context.Context, *programRequest) (programResponse, error)

// A program is a process that answers requests, one at a time. It is started when it
// is needed, and again after it failed us in any way: what it says then is not
// listened to.
type program struct {
	path string
	// greet is what a new process is told first.
	greet func(context.Context, asker) error
	turn  chan struct{} // one place: holding it guards what follows

	process *process // nil when none runs
	closed  bool
	// refused is a credential that the program did not take. It is not offered again
	// by this value: tokens lock themselves after a few.
	refused error
}

// A process is one run of the program.
type process struct {
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	lines *bufio.Reader
	next  uint64
}

func newProgram(path string, greet func(context.Context, asker) error) *program {
	return &program{path: path, greet: greet, turn: make(chan struct{}, 1)}
}

// ask sends a request. A process that had ended since it was last asked is replaced
// once.
func (p *program) ask(ctx context.Context, r *programRequest) (programResponse, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return programResponse{}, ctx.Err()
	}
	defer func() { <-p.turn }()
	old := p.process != nil
	a, err := p.askOnce(ctx, r)
	if old && p.process == nil && errors.Is(err, io.EOF) {
		a, err = p.askOnce(ctx, r)
	}
	return a, err
}

// askOnce starts the program if need be, and asks. The turn is held.
func (p *program) askOnce(ctx context.Context, r *programRequest) (programResponse, error) {
	switch {
	case p.closed:
		return programResponse{}, errClosed
	case p.refused != nil:
		return programResponse{}, fmt.Errorf("%w (not tried again, or the token might lock itself: mend the PIN and restart)", p.refused)
	case ctx.Err() != nil:
		return programResponse{}, ctx.Err()
	}
	if p.process == nil {
		if err := p.start(ctx); err != nil {
			return programResponse{}, err
		}
	}
	a, err := p.process.ask(ctx, r)
	if err != nil && !isAnswer(err) {
		p.stop(0)
	}
	return a, err
}

func (p *program) start(ctx context.Context) error {
	process, err := startProcess(p.path)
	if err != nil {
		return fmt.Errorf("%w: start %s: %w", ErrUnavailable, p.path, err)
	}
	p.process = process
	if err := p.greet(ctx, process.ask); err != nil {
		p.stop(0)
		if errors.Is(err, ErrRefused) && isAnswer(err) {
			p.refused = err
		}
		return err
	}
	return nil
}

func (p *program) stop(grace time.Duration) {
	if p.process != nil {
		p.process.end(grace)
		p.process = nil
	}
}

// close ends the program.
func (p *program) close() error {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.closed = true
	p.stop(2 * time.Second)
	return nil
}

func startProcess(path string) (*process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), in.Close())
	}
	cmd := exec.Command(path)
	cmd.Stdin, cmd.Stdout = childIn, childOut
	err = cmd.Start()
	childIn.Close()
	childOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	return &process{cmd: cmd, in: in, out: out, lines: bufio.NewReaderSize(out, maxProgramLine)}, nil
}

// end closes the pipes, at which a program that is well logs out and ends, and makes
// an end of it after a while if it does not.
func (p *process) end(grace time.Duration) {
	p.in.Close()
	kill := time.AfterFunc(grace, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
	p.out.Close()
}

// ask writes a line and reads one.
func (p *process) ask(ctx context.Context, r *programRequest) (programResponse, error) {
	p.next++
	r.ID = p.next
	line, err := json.Marshal(r)
	if err != nil {
		return programResponse{}, err
	}
	line = append(line, '\n')
	defer clear(line)
	deadline, _ := ctx.Deadline() // zero for none
	if err := errors.Join(p.in.SetDeadline(deadline), p.out.SetDeadline(deadline)); err != nil {
		return programResponse{}, err
	}
	stop := context.AfterFunc(ctx, func() {
		past := time.Unix(1, 0)
		_ = p.in.SetDeadline(past)
		_ = p.out.SetDeadline(past)
	})
	defer stop()
	if _, err := p.in.Write(line); err != nil {
		return programResponse{}, fmt.Errorf("the program has ended: %w", errors.Join(io.EOF, err))
	}
	answer, err := p.lines.ReadSlice('\n')
	defer clear(answer)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return programResponse{}, fmt.Errorf("%w: a line of more than %d bytes", ErrGarbage, maxProgramLine)
	case err != nil:
		return programResponse{}, fmt.Errorf("the program has ended, or does not answer: %w", err)
	}
	return parseAnswer(answer, r.ID)
}

// parseAnswer reads an answer to a request.
func parseAnswer(line []byte, id uint64) (programResponse, error) {
	a, err := readAnswer(line)
	if err != nil || a.ID != id {
		return programResponse{}, fmt.Errorf("%w: a line that answers nothing", ErrGarbage)
	}
	if a.Error == "" && a.Kind == "" {
		return a, nil
	}
	kind := ErrGarbage
	switch a.Kind {
	case "unavailable":
		kind = ErrUnavailable
	case "refused":
		kind = ErrRefused
	case "unknown-key":
		kind = ErrUnknownKey
	case "does-not-open":
		kind = seal.ErrOpen
	}
	return programResponse{}, &answerError{kind, a.Error[:min(len(a.Error), 300)]}
}

// An answerError is what the program says, as it should: the process is well.
type answerError struct {
	kind error
	said string
}

func (e *answerError) Error() string { return fmt.Sprintf("%v: %q", e.kind, e.said) }

func (e *answerError) Unwrap() error { return e.kind }

// isAnswer reports whether the program answered err. After "unavailable" a new process
// is better: the token may have gone and come back.
func isAnswer(err error) bool {
	var a *answerError
	return errors.As(err, &a) && !errors.Is(err, ErrUnavailable)
}

// answerRules bound a line of the program.
var answerRules = strictjson.Rules{Bytes: maxProgramLine, Depth: 1, Members: 8, Values: 16}

// readAnswer reads a line of the program, strictly: it has the token's library inside.
func readAnswer(line []byte) (a programResponse, err error) {
	err = strictjson.Object(line, answerRules, func(name string, v strictjson.Value) (err error) {
		switch name {
		case "id":
			var n int64
			n, err = v.Int()
			a.ID = uint64(n) //nolint:gosec // one below zero is no id of ours
		case "error":
			a.Error, err = v.Text()
		case "kind":
			a.Kind, err = v.Text()
		case "keyId":
			a.KeyID, err = v.Base64(256)
		case "data":
			a.Data, err = v.Base64(maxOutside)
		default:
			err = strictjson.Unknown()
		}
		return err
	})
	return a, err
}
