package frontend

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"
)

// stateEncrypted is PTM_STATE_FLAG_ENCRYPTED: the blob is sealed. The flag of a
// request for a blob in the clear is not obeyed: what may leave in the clear is
// the machine's to say. That of a blob that comes is not asked: the blob says it.
const stateEncrypted = 2

// How a client's wish to wait for the lock of storage is bounded.
const (
	lockTry   = 10 * time.Millisecond // tpm_ioctl.h: retries are 10 ms apart
	lockTries = 300                   // as QEMU asks
)

// getStateBlob is CMD_GET_STATEBLOB: flags, whole length, the length of what
// follows, and the state from the offset on. QEMU takes it only as a whole.
func (s *swtpm) getStateBlob(l *link, kind BlobKind, offset uint32) uint32 {
	piece, total, err := s.machine.StateBlob(kind, offset)
	if err != nil {
		return s.resultOf("give state away", err)
	}
	flags := uint32(0)
	if total > 0 && s.machine.cfg.ExportBlob != nil {
		flags = stateEncrypted
	}
	for _, v := range []uint32{flags, total, uint32(len(piece))} { // at most MaxBlob
		l.out = binary.BigEndian.AppendUint32(l.out, v)
	}
	l.out = append(l.out, piece...)
	return resultSuccess
}

// setStateBlob is CMD_SET_STATEBLOB, whose blob follows its header, often in writes
// of their own. It counts when all of it is there. A blob that is refused is still
// read to its end, as the next command comes behind it.
func (s *swtpm) setStateBlob(l *link, kind BlobKind, length uint32) (uint32, error) {
	if length > MaxBlob {
		return 0, fmt.Errorf("blob of %d bytes: %w", length, errFrame)
	}
	var blob []byte
	for n := length; n > 0; {
		piece, err := l.chunk(n)
		if err != nil {
			return 0, err
		}
		blob = append(blob, piece...)
		n -= uint32(len(piece)) // chunk returns at most n
		l.renew()
	}
	defer clear(blob)
	return s.resultOf("take state over", s.machine.SetStateBlob(kind, blob)), nil
}

// setDataFD is CMD_SET_DATAFD: the socket that comes with it is the data channel.
// There is one such at a time.
func (s *swtpm) setDataFD(l *link) uint32 {
	fd, err := l.takeFile()
	if err != nil {
		s.warn("take the data channel", err)
		return resultBadParameter
	}
	conn, err := connOf(fd)
	if err != nil {
		s.warn("take the data channel", err)
		return resultBadParameter
	}
	if s.server == nil || !s.passed.CompareAndSwap(false, true) {
		conn.Close()
		return resultFail
	}
	p := &port{s.server, single{conn}, s.passedLink, s.data}
	data := p.dress(conn)
	if !p.add(data) {
		data.Close()
		return resultFail
	}
	s.all.Go(func() {
		defer s.passed.Store(false)
		p.one(data)
	})
	return resultSuccess
}

// lockStorage is CMD_LOCK_STORAGE.
func (s *swtpm) lockStorage(retries uint32) uint32 {
	if !s.machine.CanLock() {
		return resultBadOrdinal
	}
	tick := time.NewTicker(lockTry)
	defer tick.Stop()
	for n := min(retries, lockTries); ; n-- {
		err := s.machine.LockStorage()
		if err == nil || n == 0 || s.server == nil {
			return s.resultOf("lock storage", err)
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return s.resultOf("lock storage", err)
		}
	}
}

// warn tells the log why a client got an error.
func (s *swtpm) warn(what string, err error) {
	if s.server != nil {
		s.warnOf("control channel: could not "+what, slog.Any("error", err))
	}
}
