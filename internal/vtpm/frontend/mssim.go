package frontend

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
)

// The commands of the simulator protocol (TpmTcpProtocol.h).
const (
	simPowerOn        = 1
	simPowerOff       = 2
	simPresenceOn     = 3
	simPresenceOff    = 4
	simHashStart      = 5
	simHashData       = 6
	simHashEnd        = 7
	simSendCommand    = 8
	simCancelOn       = 9
	simCancelOff      = 10
	simNVOn           = 11
	simNVOff          = 12
	simKeyCacheOn     = 13
	simKeyCacheOff    = 14
	simHandshake      = 15
	simAlternative    = 16
	simReset          = 17
	simRestart        = 18
	simSessionEnd     = 20
	simStop           = 21
	simResponseSizes  = 25
	simACTGetSignaled = 26
	simFailureMode    = 30
	simFirmwareHash   = 35
	simFirmwareSVN    = 36
)

// What TPM_REMOTE_HANDSHAKE answers: the version of the protocol, and that there
// is a platform port, that no resource manager is in between, and that physical
// presence can be asserted.
const (
	simVersion = 1
	simFlags   = 0x01 | 0x04 | 0x08
)

// ServeMSSIM serves m by the simulator protocol until ctx ends or a client sends
// TPM_STOP to the command port. Commands come to one listener, power and presence
// to the other. Both are closed on return, and commands under way have been
// answered. The machine is left as it is: clients of a simulator expect to find
// it without power and to switch it on.
func ServeMSSIM(ctx context.Context, m *Machine, commands, platform net.Listener, cfg Config) error {
	cfg, err := cfg.check()
	if err != nil {
		return err
	}
	s := newServer(ctx, cfg)
	sim := &simulator{machine: m, before: cfg.Before}
	s.listen(commands, s.link, sim.commandPort)
	s.listen(platform, s.link, sim.platformPort)
	return s.wait()
}

// A simulator is what the connections to both ports share.
type simulator struct {
	machine *Machine
	before  before
	largest struct {
		command, response atomic.Uint64 // size in the upper half, code in the lower
	}
}

// commandPort serves a connection to the command port.
func (s *simulator) commandPort(l *link) error {
	for {
		if err := l.begin(); err != nil {
			return err
		}
		code, err := l.u32()
		if err != nil {
			return err
		}
		l.out = l.out[:0]
		switch code {
		case simSendCommand:
			err = s.send(l)
		case simHandshake:
			err = handshake(l)
		case simHashStart:
			s.machine.HashStart()
		case simHashData:
			err = hashStream(s.machine, l)
		case simHashEnd:
			s.machine.HashEnd()
		case simAlternative:
			_, err = l.u32() // a result for tests of other transports; unused here as in the reference
		case simSessionEnd:
			return nil
		case simStop:
			return errStop
		default:
			err = fmt.Errorf("command port: %d: %w", code, errUnknown)
		}
		if err != nil {
			return err
		}
		if err := l.acknowledge(); err != nil {
			return err
		}
		if err := s.machine.Err(); err != nil {
			return fatalError{err}
		}
	}
}

// acknowledge ends an answer: a zero follows whatever a command gave.
func (l *link) acknowledge() error {
	l.out = append(l.out, 0, 0, 0, 0)
	return l.send()
}

// send is TPM_SEND_COMMAND: locality, length and a TPM command; the answer is a
// length and the response, which is empty without power.
func (s *simulator) send(l *link) error {
	head, err := l.take(5)
	if err != nil {
		return err
	}
	locality, n := head[0], binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return fmt.Errorf("command of %d bytes: %w", n, errFrame)
	}
	request, err := l.take(int(n))
	if err != nil {
		return err
	}
	l.out = s.before.execute(s.machine, append(l.out, 0, 0, 0, 0), locality, request)
	response := l.out[4:]
	binary.BigEndian.PutUint32(l.out, uint32(len(response))) // bounded by the TPM's response buffer
	note(&s.largest.command, request)
	note(&s.largest.response, response)
	return nil
}

// note keeps the size and the code of the longest message.
func note(largest *atomic.Uint64, message []byte) {
	if len(message) < requestSize {
		return
	}
	now := uint64(len(message))<<32 | uint64(binary.BigEndian.Uint32(message[6:]))
	for old := largest.Load(); now>>32 > old>>32; old = largest.Load() {
		if largest.CompareAndSwap(old, now) {
			return
		}
	}
}

// hashStream reads a length and as many bytes, which it adds to the measurement.
// Data of any length passes through in pieces.
func hashStream(m *Machine, l *link) error {
	n, err := l.u32()
	for err == nil && n > 0 {
		var b []byte
		if b, err = l.chunk(n); err == nil {
			m.HashData(b)
			n -= uint32(len(b)) // chunk returns at most n
			l.renew()
		}
	}
	return err
}

// handshake is TPM_REMOTE_HANDSHAKE.
func handshake(l *link) error {
	client, err := l.u32()
	if err != nil {
		return err
	}
	if client == 0 {
		return fmt.Errorf("handshake with version 0: %w", errUnknown)
	}
	l.out = binary.BigEndian.AppendUint32(l.out, simVersion)
	l.out = binary.BigEndian.AppendUint32(l.out, simFlags)
	return nil
}

// platformPort serves a connection to the platform port.
func (s *simulator) platformPort(l *link) error {
	for {
		if err := l.begin(); err != nil {
			return err
		}
		code, err := l.u32()
		if err != nil {
			return err
		}
		l.out = l.out[:0]
		if code == simSessionEnd || code == simStop {
			// As in the reference, only a stop on the command port ends the simulator:
			// its clients send both, this one first, and still need the other.
			return nil
		}
		if !s.signal(code) {
			if err := s.ask(l, code); err != nil {
				return err
			}
		}
		if err := l.acknowledge(); err != nil {
			return err
		}
	}
}

// signal obeys a command that takes and gives nothing; false when code is none.
func (s *simulator) signal(code uint32) bool {
	m := s.machine
	switch code {
	case simPowerOn:
		m.PowerOn()
	case simPowerOff:
		m.PowerOff()
	case simPresenceOn:
		m.SetPhysicalPresence(true)
	case simPresenceOff:
		m.SetPhysicalPresence(false)
	case simCancelOn:
		m.Cancel()
	case simCancelOff: // Cancel is no switch: it ends the command that runs, if any
	case simNVOn:
		m.SetMemory(true)
	case simNVOff:
		m.SetMemory(false)
	case simKeyCacheOn, simKeyCacheOff: // this TPM keeps no stock of keys
	case simReset:
		m.Reset()
	case simRestart:
		m.TimeStopped()
	case simFailureMode:
		m.FailSelfTest()
	default:
		return false
	}
	return true
}

// ask answers the commands that take or give something.
func (s *simulator) ask(l *link, code uint32) error {
	switch code {
	case simResponseSizes:
		l.out = s.sizes(l.out)
		return nil
	case simACTGetSignaled:
		// No profile has authenticated countdown timers, so none has signaled.
		l.out = append(l.out, 0, 0, 0, 0)
		_, err := l.u32()
		return err
	case simFirmwareHash, simFirmwareSVN:
		// No profile has firmware-limited objects, which these would change.
		_, err := l.u32()
		return err
	}
	l.out = append(l.out, 0, 0, 0, 1)
	if err := l.send(); err != nil {
		return err
	}
	return fmt.Errorf("platform port: %d: %w", code, errUnknown)
}

// sizes is TPM_GET_COMMAND_RESPONSE_SIZES: the longest command and response since
// it was last asked. The reference sends a structure of its own machine, whose
// numbers are little endian, with the codes as they came.
func (s *simulator) sizes(out []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, 16)
	for _, largest := range []*atomic.Uint64{&s.largest.command, &s.largest.response} {
		v := largest.Swap(0)
		out = binary.LittleEndian.AppendUint32(out, uint32(v>>32))
		out = binary.BigEndian.AppendUint32(out, uint32(v)) // the lower half
	}
	return out
}
