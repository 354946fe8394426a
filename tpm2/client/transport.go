package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTransport is a transport whose bytes are not those of a TPM.
var ErrTransport = errors.New("what came is no response of a TPM")

// A Device is a TPM that the operating system has as a file.
type Device struct {
	file io.ReadWriteCloser
	buf  [maxResponse]byte
}

// Open opens a device file, on Linux /dev/tpmrm0. Close closes it.
func Open(name string) (*Device, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// Go opens devices that can be polled without waiting, and Linux' driver answers
	// a read that comes before the TPM is done with nothing. Fd takes that back.
	f.Fd()
	return &Device{file: f}, nil
}

// Send writes a command in one piece and reads the response in one piece, as
// the driver wants it. The response is valid until the next call.
func (d *Device) Send(command []byte) ([]byte, error) {
	if _, err := d.file.Write(command); err != nil {
		return nil, err
	}
	n, err := d.file.Read(d.buf[:])
	if err != nil {
		return nil, err
	}
	return d.buf[:n], nil
}

// Close closes the file.
func (d *Device) Close() error { return d.file.Close() }

// A Stream is a TPM behind a connection that carries commands and responses as
// they are, as swtpm's data channel does.
type Stream struct{ conn io.ReadWriter }

// NewStream returns the TPM behind conn. Deadlines are conn's own.
func NewStream(conn io.ReadWriter) *Stream { return &Stream{conn} }

// Send writes a command and reads the response that its header announces.
func (s *Stream) Send(command []byte) ([]byte, error) {
	if _, err := s.conn.Write(command); err != nil {
		return nil, err
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(s.conn, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n < headerSize || n > maxResponse {
		return nil, fmt.Errorf("response of %d bytes: %w", n, ErrTransport)
	}
	response := append(head, make([]byte, n-headerSize)...)
	_, err := io.ReadFull(s.conn, response[headerSize:])
	return response, err
}

// A Simulator is a TPM behind the command port of the simulator protocol.
type Simulator struct {
	conn     io.ReadWriter
	locality uint8
}

// NewSimulator returns the TPM behind conn, whose commands come from a locality.
// Its power is the business of the platform port.
func NewSimulator(conn io.ReadWriter, locality uint8) *Simulator { return &Simulator{conn, locality} }

// simSendCommand is TPM_SEND_COMMAND of the protocol (TpmTcpProtocol.h).
const simSendCommand = 8

// Send sends TPM_SEND_COMMAND. A simulator without power answers nothing, which
// is an error here.
func (s *Simulator) Send(command []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(nil, simSendCommand)
	b = append(b, s.locality)
	b = binary.BigEndian.AppendUint32(b, uint32(len(command))) // bounded by the limits of what was encoded
	if _, err := s.conn.Write(append(b, command...)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxResponse {
		return nil, fmt.Errorf("response of %d bytes: %w", n, ErrTransport)
	}
	response := make([]byte, n+4) // with the zero that ends it
	if _, err := io.ReadFull(s.conn, response); err != nil {
		return nil, err
	}
	if n < headerSize || binary.BigEndian.Uint32(response[n:]) != 0 {
		return nil, fmt.Errorf("response of %d bytes, or no end of it: %w", n, ErrTransport)
	}
	return response[:n], nil
}

// An Executor is a TPM in this process, such as [engine.TPM].
//
// [engine.TPM]: https://pkg.go.dev/github.com/assay-project/assay/tpm2/engine#TPM
type Executor interface {
	Execute(locality uint8, request []byte) (response []byte)
}

// InProcess is the transport to a TPM in this process, from one locality.
func InProcess(t Executor, locality uint8) Transport { return inProcess{t, locality} }

type inProcess struct {
	tpm      Executor
	locality uint8
}

func (p inProcess) Send(command []byte) ([]byte, error) {
	return p.tpm.Execute(p.locality, command), nil
}
