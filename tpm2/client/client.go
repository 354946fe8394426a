// Package client sends commands to a TPM from the caller's side: it lays them
// out, authorizes them, encrypts parameters and checks the TPM's answers.
//
// A response whose HMAC verifies comes from something that knows the session's
// secrets; without a salted or bound session, or without a session at all,
// anybody between here and the TPM may have written it. The package judges no
// key and no name: the caller says what a handle names.
//
// Start with [New] and [TPM.Run]. [Open] and [NewStream] reach a TPM.
//
// TPM 2.0 Library, Part 1, chapters 18 to 21, version 1.83.
package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A Transport carries commands, one at a time. The transports of go-tpm have the
// same method.
type Transport interface {
	Send(command []byte) (response []byte, err error)
}

// A TPM is reached through a transport. It is not safe for concurrent use.
type TPM struct {
	transport Transport
	random    io.Reader
}

// New returns the TPM behind t. Nonces and salts are read from random.
func New(t Transport, random io.Reader) *TPM { return &TPM{t, random} }

// An Entity is what a handle names, as its user knows it.
type Entity struct {
	Handle tpm2.Handle
	// Name is that of an object or an NV index. Nil means the handle itself, which
	// is the Name of everything else (Part 1, 16).
	Name []byte
	// Auth is the authValue, for commands that need it: as it is before the command,
	// also where that changes it.
	Auth []byte
}

func (e *Entity) name() []byte {
	if e.Name != nil {
		return e.Name
	}
	return binary.BigEndian.AppendUint32(nil, uint32(e.Handle))
}

// authValue drops trailing zeros, which the TPM drops too (Part 1, 19.6.4.3).
func (e *Entity) authValue() []byte { return trimZeros(e.Auth) }

// clone returns e as it is now; nil for nil.
func (e *Entity) clone() *Entity {
	if e == nil {
		return nil
	}
	return &Entity{Handle: e.Handle, Name: bytes.Clone(e.Name), Auth: bytes.Clone(e.Auth)}
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// A Command is one command to be run.
type Command struct {
	Code    tpm2.CC
	Handles []Entity // of the handle area, in order
	// Uses are the sessions: one for each handle that needs authorization, then
	// any more that audit or encrypt. Where they are too few, or one is zero, the
	// authValue of the entity goes as a password.
	Uses []Use
	// In are the parameters and Out those of the response; nil when there are none.
	In, Out wire.Layout
}

// A Use says how a session serves one command. The zero Use is a password.
type Use struct {
	Session    *Session
	Attributes tpm2.SessionAttributes
}

// The failures that a caller acts on. A refusal by the TPM is a [tpm2.RC].
var (
	// ErrResponse is a response that is not laid out as Part 3 says.
	ErrResponse = errors.New("response of the TPM is malformed")
	// ErrHMAC is a response that the session does not vouch for. Nothing of it was
	// used; whether the TPM ran the command is not known.
	ErrHMAC = errors.New("HMAC of the response is wrong")
	// ErrCommand is a command that cannot be sent as it is: handles or sessions
	// that do not fit its code.
	ErrCommand = errors.New("command is malformed")
)

// Run runs a command and fills c.Out, which means nothing after an error. It returns the handle of the response, if
// that has one. A refusal wraps its [tpm2.RC]. Byte slices in c.Out belong to the
// caller.
func (t *TPM) Run(c *Command) (tpm2.Handle, error) {
	info, ok := command.Lookup(c.Code)
	if !ok {
		return 0, fmt.Errorf("command %#x is not known: %w", uint32(c.Code), ErrCommand)
	}
	handle, err := t.run(info, c)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", info.Name, err)
	}
	return handle, nil
}

func (t *TPM) run(info *command.Info, c *Command) (tpm2.Handle, error) {
	x, err := t.prepare(info, c)
	if err != nil {
		return 0, err
	}
	request, err := x.request()
	if err != nil {
		return 0, err
	}
	response, err := t.transport.Send(request)
	if err != nil {
		return 0, err
	}
	return x.response(append([]byte(nil), response...))
}

// Startup sends TPM2_Startup. That the TPM is started already is no error.
func (t *TPM) Startup(how tpm2.StartupType) error {
	_, err := t.Run(&Command{Code: tpm2.CCStartup, In: &command.StartupIn{StartupType: how}})
	if errors.Is(err, tpm2.RCInitialize) {
		return nil
	}
	return err
}

// Shutdown sends TPM2_Shutdown.
func (t *TPM) Shutdown(how tpm2.StartupType) error {
	_, err := t.Run(&Command{Code: tpm2.CCShutdown, In: &command.ShutdownIn{ShutdownType: how}})
	return err
}

// Flush removes a loaded object or session from the TPM.
func (t *TPM) Flush(h tpm2.Handle) error {
	_, err := t.Run(&Command{Code: tpm2.CCFlushContext, In: &command.FlushContextIn{FlushHandle: h}})
	return err
}

// nonce returns n random bytes.
func (t *TPM) nonce(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(t.random, b); err != nil {
		return nil, fmt.Errorf("read random nonce: %w", err)
	}
	return b, nil
}
