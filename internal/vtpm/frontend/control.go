package frontend

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// The commands of swtpm's control channel (tpm_ioctl.h).
const (
	ctrlGetCapability    = 0x01
	ctrlInit             = 0x02
	ctrlShutdown         = 0x03
	ctrlGetEstablished   = 0x04
	ctrlSetLocality      = 0x05
	ctrlHashStart        = 0x06
	ctrlHashData         = 0x07
	ctrlHashEnd          = 0x08
	ctrlCancel           = 0x09
	ctrlStoreVolatile    = 0x0a
	ctrlResetEstablished = 0x0b
	ctrlGetStateBlob     = 0x0c
	ctrlSetStateBlob     = 0x0d
	ctrlStop             = 0x0e
	ctrlGetConfig        = 0x0f
	ctrlSetDataFD        = 0x10
	ctrlSetBufferSize    = 0x11
	ctrlGetInfo          = 0x12
	ctrlLockStorage      = 0x13
)

// The results that an answer begins with (TPM 1.2 return codes, as swtpm uses them).
const (
	resultSuccess      = 0
	resultBadParameter = 0x03
	resultFail         = 0x09
	resultBadOrdinal   = 0x0a
	resultBadLocality  = 0x3d
)

// Capability bits: what of the channel is served here.
const (
	capBase          = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<7 | 1<<10 | 1<<11 | 1<<12 | 1<<13 | 1<<15
	capStoreVolatile = 1 << 6
	capStateBlobs    = 1<<8 | 1<<9
	capGetInfo       = 1 << 14
	capLockStorage   = 1 << 16
)

// What CMD_GET_CONFIG tells.
const (
	configFileKey      = 1 << 0
	configMigrationKey = 1 << 1
)

// initDeleteVolatile is PTM_INIT_FLAG_DELETE_VOLATILE.
const initDeleteVolatile = 1

// infoPiece is how much one answer to CMD_GET_INFO holds.
const infoPiece = 3 * 1024

// control serves a connection to the control channel.
func (s *swtpm) control(l *link) error {
	for {
		if err := l.begin(); err != nil {
			return err
		}
		code, err := l.u32()
		if err != nil {
			return err
		}
		if err := s.controlOne(l, code); err != nil {
			return err
		}
		if code == ctrlShutdown {
			return s.stopped()
		}
		if controlLength(code) < 0 {
			return fmt.Errorf("control channel: %d: %w", code, errUnknown) // and where it ends is not known
		}
	}
}

// controlOne answers one command.
func (s *swtpm) controlOne(l *link, code uint32) error {
	l.out = append(l.out[:0], 0, 0, 0, 0)
	result, err := s.controlCommand(l, code)
	if err != nil {
		return err
	}
	l.dropFiles()
	if result != resultSuccess {
		l.out = l.out[:4]
	}
	binary.BigEndian.PutUint32(l.out, result)
	err = l.send()
	if cap(l.out) > maxFrame {
		l.out = nil // a blob of state went out
	}
	return err
}

// controlLength is the length of what follows a command's code, before any data
// that it announces; -1 for a command that is not served.
func controlLength(code uint32) int {
	switch code {
	case ctrlGetCapability, ctrlShutdown, ctrlGetEstablished, ctrlHashStart, ctrlHashEnd, ctrlCancel,
		ctrlStoreVolatile, ctrlStop, ctrlGetConfig, ctrlSetDataFD:
		return 0
	case ctrlSetLocality, ctrlResetEstablished:
		return 1
	case ctrlInit, ctrlSetBufferSize, ctrlLockStorage:
		return 4
	case ctrlGetStateBlob, ctrlSetStateBlob:
		return 12
	case ctrlGetInfo:
		return 16
	case ctrlHashData:
		return 0 // hashStream reads it
	}
	return -1
}

// controlCommand obeys one command. What it gives beside the result goes to l.out.
func (s *swtpm) controlCommand(l *link, code uint32) (result uint32, err error) {
	n := controlLength(code)
	if n < 0 {
		return resultBadOrdinal, nil
	}
	body, err := l.take(n)
	if err != nil {
		return 0, err
	}
	switch code {
	case ctrlGetCapability:
		l.out = binary.BigEndian.AppendUint32(l.out, s.capabilities())
		return resultSuccess, nil
	case ctrlSetBufferSize:
		return s.setBufferSize(l, binary.BigEndian.Uint32(body)), nil
	case ctrlGetConfig:
		l.out = binary.BigEndian.AppendUint32(l.out, s.config())
		return resultSuccess, nil
	case ctrlGetInfo:
		return s.info(l, binary.BigEndian.Uint64(body), binary.BigEndian.Uint32(body[8:])), nil
	case ctrlSetLocality:
		result = s.controlLocality(body[0])
		return result, skipPadding(l)
	case ctrlResetEstablished:
		result = s.resetEstablished(body[0])
		return result, skipPadding(l)
	case ctrlHashData:
		if !s.machine.Powered() {
			return resultBadOrdinal, drain(l)
		}
		return resultSuccess, hashStream(s.machine, l)
	case ctrlSetStateBlob:
		return s.setStateBlob(l, BlobKind(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body[8:]))
	case ctrlGetStateBlob:
		return s.getStateBlob(l, BlobKind(binary.BigEndian.Uint32(body[4:])), binary.BigEndian.Uint32(body[8:])), nil
	case ctrlSetDataFD:
		return s.setDataFD(l), nil
	case ctrlLockStorage:
		return s.lockStorage(binary.BigEndian.Uint32(body)), nil
	}
	return s.signal(l, code, body), nil
}

// signal obeys the commands about power and measurement.
func (s *swtpm) signal(l *link, code uint32, body []byte) uint32 {
	switch code {
	case ctrlInit:
		return s.initResult(s.machine.Init(binary.BigEndian.Uint32(body)&initDeleteVolatile != 0))
	case ctrlShutdown, ctrlStop:
		return s.resultOf("stop the TPM", s.machine.Shutdown())
	case ctrlGetEstablished:
		established, powered := s.machine.Established()
		l.out = append(l.out, 0, 0, 0, 0)
		if established {
			l.out[4] = 1
		}
		return whilePowered(powered)
	case ctrlHashStart:
		return whilePowered(s.machine.HashStart())
	case ctrlHashEnd:
		return whilePowered(s.machine.HashEnd())
	case ctrlCancel:
		s.machine.Cancel()
		return resultSuccess
	case ctrlStoreVolatile:
		err := s.machine.StoreVolatile()
		if errors.Is(err, ErrNoVolatile) {
			return resultBadOrdinal
		}
		return s.resultOf("store volatile state", err)
	}
	return resultBadOrdinal
}

// initResult is the result of CMD_INIT: swtpm gives the code of the TPM itself, which
// is TPM_RC_FAILURE when its state does not open.
func (s *swtpm) initResult(err error) uint32 {
	if err == nil {
		return resultSuccess
	}
	s.warn("start the TPM", err)
	return uint32(tpm2.RCFailure)
}

// resultOf is the result of what may fail; the client is told no more, the log is.
func (s *swtpm) resultOf(what string, err error) uint32 {
	switch {
	case err == nil:
		return resultSuccess
	case errors.Is(err, ErrRunning):
		return resultBadOrdinal
	}
	s.warn(what, err)
	if errors.Is(err, ErrBlob) {
		return resultBadParameter
	}
	return resultFail
}

// whilePowered is the result of a command that needs a running TPM.
func whilePowered(powered bool) uint32 {
	if !powered {
		return resultBadOrdinal
	}
	return resultSuccess
}

func (s *swtpm) capabilities() uint32 {
	c := uint32(capBase)
	if s.machine.CanStoreVolatile() {
		c |= capStoreVolatile
	}
	if s.machine.CanMoveState() {
		c |= capStateBlobs
	}
	if s.cfg.Info != nil {
		c |= capGetInfo
	}
	if s.machine.CanLock() {
		c |= capLockStorage
	}
	return c
}

func (s *swtpm) config() (flags uint32) {
	if s.cfg.FileKey {
		flags |= configFileKey
	}
	if s.cfg.MigrationKey {
		flags |= configMigrationKey
	}
	return flags
}

// setBufferSize answers with the size in use, the least and the greatest. A
// running TPM is only asked (size 0).
func (s *swtpm) setBufferSize(l *link, size uint32) uint32 {
	if size > 0 && !s.machine.SetBufferSize(int(min(size, maxBuffer))) {
		return resultBadOrdinal
	}
	n, least, greatest := s.machine.BufferSize()
	for _, v := range []int{n, least, greatest} {
		l.out = binary.BigEndian.AppendUint32(l.out, uint32(v)) // at most maxBuffer
	}
	return resultSuccess
}

// info is CMD_GET_INFO: the whole length, the length of this piece, and the piece
// of the text from an offset, which ends with a zero.
func (s *swtpm) info(l *link, flags uint64, offset uint32) uint32 {
	if s.cfg.Info == nil {
		return resultBadOrdinal
	}
	text := append(s.cfg.Info(flags), 0)
	if uint64(offset)+1 >= uint64(len(text)) {
		return resultBadParameter
	}
	piece := text[offset:]
	piece = piece[:min(len(piece), infoPiece)]
	l.out = binary.BigEndian.AppendUint32(l.out, uint32(len(text)))  // a short text of ours
	l.out = binary.BigEndian.AppendUint32(l.out, uint32(len(piece))) // shorter still
	l.out = append(l.out, piece...)
	return resultSuccess
}

func (s *swtpm) controlLocality(locality uint8) uint32 {
	if !s.localityExists(locality) {
		return resultBadLocality
	}
	s.locality.Store(uint32(locality))
	return resultSuccess
}

func (s *swtpm) resetEstablished(locality uint8) uint32 {
	switch allowed, powered := s.machine.ResetEstablished(locality); {
	case !powered:
		return resultBadOrdinal
	case !allowed:
		return resultBadLocality
	}
	return resultSuccess
}

// skipPadding drops the three bytes of padding that some clients (QEMU before
// 9.2) send after a body of one byte, and others do not. A client waits for the
// answer before it sends its next command, so more bytes than one are the rest
// of the structure, unless they begin with a command: all codes are below 256, so
// padding of any content and the zero byte of a command after it never do.
func skipPadding(l *link) error {
	b := l.buffered()
	if len(b) < 3 || len(b) >= 4 && b[0]|b[1]|b[2] == 0 && b[3] != 0 {
		return nil
	}
	_, err := l.take(3)
	return err
}

// drain reads a length and as many bytes, to no end.
func drain(l *link) error {
	n, err := l.u32()
	for err == nil && n > 0 {
		var b []byte
		if b, err = l.chunk(n); err == nil {
			n -= uint32(len(b)) // chunk returns at most n
			l.renew()
		}
	}
	return err
}
