package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/assay-project/assay/tpm2"
)

// SWTPMConfig is what swtpm's command line chooses. Its zero value is safe.
type SWTPMConfig struct {
	// Control is where the control channel listens; nil for none.
	Control net.Listener
	// AllowSetLocality accepts TPM2_SetLocality, a command of the vTPM proxy of
	// Linux, on the data channel (swtpm: --locality allow-set-locality).
	AllowSetLocality bool
	// RejectLocality4 refuses that locality (swtpm: --locality reject-locality-4).
	RejectLocality4 bool
	// Terminate ends the server when the first client of the data channel goes
	// (swtpm: --terminate).
	Terminate bool
	// TerminateControl ends the server when a client of the control channel goes
	// (swtpm: --ctrl …,terminate).
	TerminateControl bool
	// Info answers CMD_GET_INFO for the flags of a request with JSON; nil when it
	// is not supported.
	Info func(flags uint64) []byte
	// FileKey and MigrationKey are what CMD_GET_CONFIG says: that state is encrypted
	// where it is kept, and where it passes through the control channel.
	FileKey, MigrationKey bool
}

// ServeSWTPM serves m as swtpm does until ctx ends or a client sends CMD_SHUTDOWN:
// TPM commands as they are, or behind the prefix of the simulator protocol, come
// to data, if it is not nil, and to the socket that a client passes over the control
// channel. The listeners are closed on return, and commands under way have been
// answered.
func ServeSWTPM(ctx context.Context, m *Machine, data net.Listener, sw SWTPMConfig, cfg Config) error {
	cfg, err := cfg.check()
	if err != nil {
		return err
	}
	if data == nil && sw.Control == nil {
		return errors.New("a TPM needs a channel")
	}
	s := newServer(ctx, cfg)
	t := &swtpm{server: s, machine: m, cfg: sw, before: cfg.Before}
	if data != nil {
		s.listen(data, s.link, t.data)
	}
	if sw.Control != nil {
		s.listen(sw.Control, s.controlLink, t.controlToTheEnd)
	}
	return s.wait()
}

// swtpm is what the connections to both channels share.
type swtpm struct {
	*server
	machine  *Machine
	cfg      SWTPMConfig
	before   before
	locality atomic.Uint32 // of commands without the prefix
	passed   atomic.Bool   // a data channel that a client passed is open
}

// The tags of TPM 2.0 commands (Part 2, 6.9), and that of a response to others.
const (
	tagNoSessions = 0x8001
	tagSessions   = 0x8002
	tagResponse12 = 0x00c4 // TPM_ST_RSP_COMMAND, with TPM_RC_BAD_TAG
)

// ccSetLocality is TPM2_CC_SET_LOCALITY of Linux' vtpm_proxy.h.
const ccSetLocality tpm2.CC = 0x20001000

// data serves a connection to the data channel.
func (s *swtpm) data(l *link) error {
	err := s.commands(l)
	if !s.cfg.Terminate {
		return err
	}
	return s.stopped()
}

// stopped is the wish that the server stops. State that could not be kept is told.
func (s *swtpm) stopped() error {
	if err := s.machine.Err(); err != nil {
		return fatalError{err}
	}
	return errStop
}

// controlToTheEnd serves a connection to the control channel.
func (s *swtpm) controlToTheEnd(l *link) error {
	err := s.control(l)
	if s.cfg.TerminateControl {
		return s.stopped()
	}
	return err
}

func (s *swtpm) commands(l *link) error {
	for {
		if err := l.begin(); err != nil {
			return err
		}
		if err := s.command(l); err != nil {
			return err
		}
		if err := s.machine.Err(); err != nil {
			return fatalError{err}
		}
	}
}

// command answers one command of the data channel.
func (s *swtpm) command(l *link) error {
	l.out = l.out[:0]
	head, err := l.peek(4)
	if err != nil {
		return err
	}
	tag := binary.BigEndian.Uint16(head)
	prefixed := tag != tagNoSessions && tag != tagSessions && binary.BigEndian.Uint32(head) == simSendCommand
	var request []byte
	var bad error // the stream cannot be cut after this command
	if prefixed {
		request, err = s.prefixed(l)
		l.out = append(l.out, 0, 0, 0, 0)
	} else {
		request, bad, err = raw(l)
	}
	if err != nil {
		return err
	}
	start := len(l.out)
	l.out = s.execute(l.out, request)
	if prefixed {
		binary.BigEndian.PutUint32(l.out, uint32(len(l.out)-start)) // bounded by the TPM's response buffer
		l.out = append(l.out, 0, 0, 0, 0)
	}
	if err := l.send(); err != nil {
		return err
	}
	return bad
}

// prefixed takes a command behind TPM_SEND_COMMAND, which also sets the locality.
func (s *swtpm) prefixed(l *link) ([]byte, error) {
	head, err := l.take(9)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[5:])
	if n > maxFrame {
		return nil, fmt.Errorf("command of %d bytes: %w", n, errFrame)
	}
	s.locality.Store(uint32(head[4]))
	return l.take(int(n))
}

// raw takes a command as long as its header says. With a length that cannot be,
// the header alone goes to the TPM, which refuses it, and the stream ends after.
func raw(l *link) (request []byte, bad, err error) {
	head, err := l.peek(requestSize)
	if err != nil {
		return nil, nil, err
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n < requestSize || n > maxFrame {
		request, err = l.take(requestSize)
		return request, fmt.Errorf("command of %d bytes: %w", n, errFrame), err
	}
	request, err = l.take(int(n))
	return request, nil, err
}

// execute appends the answer to a command to dst.
func (s *swtpm) execute(dst, request []byte) []byte {
	if commandCode(request) == ccSetLocality {
		return refuse(dst, s.setLocality(request))
	}
	start := len(dst)
	dst = s.before.execute(s.machine, dst, uint8(s.locality.Load()), request) // stored from a byte
	if len(dst) == start {
		// Clients tell a TPM 2.0 by the tag of this answer, before CMD_INIT.
		return refuse(dst, tpm2.RCFailure)
	}
	if binary.BigEndian.Uint16(dst[start:]) == tagResponse12 {
		// OVMF looks for a TPM 1.2 with one of its commands, and takes whatever
		// answers with this tag, as Part 3, 5.2 wants it, for one. swtpm answers so:
		return refuse(dst[:start], tpm2.RCValue)
	}
	return dst
}

// setLocality is TPM2_SetLocality: a header and the locality.
func (s *swtpm) setLocality(request []byte) tpm2.RC {
	switch {
	case len(request) <= requestSize:
		return tpm2.RCInsufficient
	case !s.cfg.AllowSetLocality:
		return tpm2.RCFailure
	case !s.localityExists(request[requestSize]):
		return tpm2.RCLocality
	}
	s.locality.Store(uint32(request[requestSize]))
	return tpm2.RCSuccess
}

func (s *swtpm) localityExists(l uint8) bool {
	return l < 4 || l == 4 && !s.cfg.RejectLocality4
}
